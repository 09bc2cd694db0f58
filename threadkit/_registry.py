"""Starts components in order and stops them in order. It knows the protocol ``Component`` and nothing else.

Order of start: from the highest phase to the lowest, in a phase as registered; what is required starts before what
requires it, whatever their phases. Order of stop: in *stages*. A stage is what may be told to stop at the same time: a
phase, or, where ``requires`` reaches into it, a part of one. All components of a stage are told first and joined then.
How long it may take is told by ``_budget.py``; stops never add up, and one stuck component leaves time for the others.

Locks: ``_condition`` guards the table and the flags of its entries. Components are called with no lock held,
those of the user's own by an attendant each.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta

from threadkit import _arguments
from threadkit._attendant import Attendant
from threadkit._budget import Budget, Limit
from threadkit._clock import Clock, deadline_after
from threadkit._component import BaseComponent, Component, Phase
from threadkit._ending import Ending
from threadkit._entry import Entry, check_shape, claim, name_of, release, runs_elsewhere, start
from threadkit._errors import Closed, DuplicateName, StartTimeout, UnknownComponent
from threadkit._order import start_order, stop_stages
from threadkit._report import ComponentReport
from threadkit._stop import StopToken
from threadkit._waiting import Condition


class Registry:
    """The components of one lifecycle.

    Args:
        clock: where time comes from, for all of them.
        on_failure: called with the entry and the error when a component dies.
        on_stop_all: called with a reason when a component wants everything to stop.
        phase_timeouts: seconds that phases may take to stop.
    """

    def __init__(
        self,
        clock: Clock,
        on_failure: Callable[[Entry, BaseException], None],
        on_stop_all: Callable[[str], None] | None = None,
        phase_timeouts: Mapping[int, float] | None = None,
    ) -> None:
        self._clock = clock
        self._phase_timeouts = phase_timeouts or {}
        self._on_failure = on_failure
        self._on_stop_all = on_stop_all
        self._condition = Condition(clock)
        self._entries: dict[str, Entry] = {}
        self._members: set[int] = set()  # the ids of the registered components, which their entries keep alive
        self._numbers: dict[str, int] = {}  # where free_name() begins to look, lest it look at all
        self._count = 0
        self._line: list[Entry] | None = None  # what is still to be started, the next one last; None where not known

    def snapshot(self) -> list[Entry]:
        """Return the entries as of now, in the order of their registration. No lock is taken: copying a dict is atomic.

        So it can be called in a forked child, where another thread of the parent may have held the lock at the fork.
        """
        return list(self._entries.copy().values())

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        """Go through the entries as of now, in the order of their start."""
        with self._condition:
            return iter(start_order(self._entries.values()))

    def find(self, name: str) -> Entry:
        """Return an entry by name.

        Raises:
            UnknownComponent: there is none.
        """
        with self._condition:
            try:
                return self._entries[name]
            except KeyError:
                raise UnknownComponent(name, self._entries) from None

    def free_name(self, wish: str) -> str:
        """Return ``wish``, or that with the next number that is free."""
        with self._condition:
            if wish not in self._entries:
                return wish
            number = self._numbers.get(wish, 2)
            while f"{wish}-{number}" in self._entries:
                number += 1
            self._numbers[wish] = number
            return f"{wish}-{number}"

    def add(
        self,
        component: Component,
        *,
        phase: int | None,
        requires: Iterable[str | Component],
        check: Callable[[], object] | None,
        must_exist: bool,
        starts: bool = False,
        stop_timeout: float | timedelta | None = None,
        check_timeout: float | timedelta | None = None,
        check_every: float | timedelta | None = None,
    ) -> Entry:
        """Register a component; nothing is started. Its keywords are those of ``Lifecycle.add()``, and two more.

        ``must_exist`` refuses ``requires`` that are not registered, since the others have been started. ``starts``
        counts the component as coming up from this moment on, so that no stop overlooks it; ``bring_up()`` MUST follow.

        Raises:
            TypeError: it is no component, or an argument is of the wrong kind.
            ValueError: an argument is out of range; it runs in another registry; or what it requires is being removed.
            DuplicateName: the name, or the component itself, is registered already.
            DependencyCycle: ``requires`` goes round in a circle.
            UnknownComponent: ``must_exist``, and a required one does not.
        """
        check_shape(component)
        names = tuple(name_of(required) for required in requires)
        own: int = getattr(component, "phase", getattr(component, "default_phase", Phase.BACKGROUND))
        place = _arguments.count(own if phase is None else phase, "phase", minimum=-sys.maxsize)
        if check is not None:
            _arguments.function(check, "check")
        with self._condition:
            if component.name in self._entries or id(component) in self._members:
                raise DuplicateName("component", component.name)
            for name in names:
                required = self._entries.get(name)
                if required is not None and required.leaving:
                    raise ValueError(f"component {component.name!r} cannot require {name!r}, which is being removed")
                if must_exist and required is None:
                    raise UnknownComponent(name, self._entries)
            entry = Entry(
                component.name,
                component,
                place,
                names,
                self._count,
                StopToken(component.name, clock=self._clock),
                check,
                _arguments.timeout(check_timeout, "check_timeout"),
                None if check_every is None else _arguments.seconds(check_every, "check_every"),
                _arguments.timeout(stop_timeout, "stop_timeout"),
                starting=starts,
            )
            self._entries[entry.name] = entry
            try:
                if names:  # only something that requires can close a circle
                    start_order(self._entries.values())
                claim(entry)
                if not starts:  # several may have it until one starts it
                    release(entry)
            except ValueError:  # a DependencyCycle, too
                del self._entries[entry.name]
                raise
            self._members.add(id(component))
            self._count += 1
            self._line = None
        try:
            self._adopt(entry)
        except BaseException:  # a property of the user's, say
            self.discard(entry)
            raise
        return entry

    def begin_anew(self, clock: Clock) -> None:
        """Forget what was done with them, for another life of theirs: on another clock, or in a forked child."""
        self._clock = clock
        self._condition = Condition(self._clock)  # another thread of the parent may have held the old one
        self._line = None
        for name, old in self._entries.items():
            self._entries[name] = Entry(
                name,
                old.component,
                old.phase,
                old.requires,
                old.number,
                StopToken(name, clock=self._clock),
                old.check,
                old.check_timeout,
                old.check_every,
                old.stop_timeout,
            )
            self._adopt(self._entries[name])

    def check_requires(self) -> None:
        """Refuse requirements that nobody meets; called before anything starts.

        Raises:
            UnknownComponent: a required component is not registered.
        """
        with self._condition:
            for entry in self._entries.values():
                for name in entry.requires:
                    if name not in self._entries:
                        raise UnknownComponent(name, self._entries)

    def discard(self, entry: Entry) -> bool:
        """Forget an entry; return False where somebody else did."""
        with self._condition:
            entry.starting = False  # nobody need wait for it to come up
            if entry.attendant is not None:
                entry.attendant.dismiss()
            self._condition.notify_all()
            if self._entries.get(entry.name) is not entry:
                return False
            release(entry)
            del self._entries[entry.name]
            self._members.discard(id(entry.component))
            return True

    def begin_removal(self, entry: Entry) -> None:
        """Count an entry as leaving from now on: it is started no more, and nothing that requires it can come.

        Raises:
            ValueError: others require it.
        """
        with self._condition:
            dependents = [other.name for other in self._entries.values() if entry.name in other.requires]
            if dependents:
                names = ", ".join(map(repr, dependents))
                raise ValueError(f"component {entry.name!r} is required by {names}: remove them first")
            entry.leaving = True

    def next_to_start(self) -> Entry | None:
        """Return what is to be started next, and count it as coming up from now on; None where everything is up.

        Whoever asks again and again goes through all in their order, those included that are added meanwhile.
        ``bring_up()`` MUST follow.

        Raises:
            ValueError: it runs in another registry.
        """
        with self._condition:
            if self._line is None:
                self._line = start_order(self._entries.values())[::-1]
            while self._line:
                entry = self._line.pop()
                if not (entry.up or entry.starting or entry.leaving) and self._entries.get(entry.name) is entry:
                    claim(entry)
                    entry.starting = True
                    return entry
            return None

    def bring_up(self, entry: Entry, timeout: float | None, stop: StopToken) -> None:
        """Start a component that counts as coming up, and wait until it is up.

        It is told of a stop that comes meanwhile: nobody waits for a body that waits for its token.

        Args:
            entry: what ``next_to_start()`` has returned, or ``add()`` where it ``starts``.
            timeout: seconds; None and ``inf`` are for ever.
            stop: the token that says that a stop of the whole has been asked for.

        Raises:
            UnknownComponent: what it requires could not start; nor was this one.
            Closed: a stop came while it waited for what it requires; it was not started.
            StartTimeout: it was not up in time.
            BaseException: whatever its ``start()`` raised.
        """
        has_begun = False
        try:
            with stop.on_stop(functools.partial(self._recall, entry, stop)):
                self._await_required(entry, timeout)
                has_begun = True
                start(entry, self._clock, timeout)
        except Closed:
            if not (has_begun and entry.token.is_set()):  # else it was told to stop before it was up
                raise
        finally:
            with self._condition:
                # Or half up: it must be told to stop in either case. In this order, lest an interrupt between the two
                # leave a component that runs and counts as neither.
                entry.up = has_begun
                entry.starting = False
                if not has_begun:
                    release(entry)
                self._condition.notify_all()

    def _await_required(self, entry: Entry, timeout: float | None) -> None:
        """Wait until what this one requires is up: another thread may be adding that."""
        if not entry.requires:
            return
        deadline = deadline_after(self._clock, timeout)
        with self._condition:
            if not self._condition.wait_until(lambda: entry.token.is_set() or not self._must_wait(entry), deadline):
                raise StartTimeout(entry.name, timeout or 0.0)
            if self._must_wait(entry):
                raise Closed("component", entry.name)
            for name in entry.requires:
                if name not in self._entries:
                    raise UnknownComponent(name, self._entries)

    def _must_wait(self, entry: Entry) -> bool:
        return any(name in self._entries and self._entries[name].starting for name in entry.requires)

    def _recall(self, entry: Entry, stop: StopToken) -> None:
        """Have a component that is coming up give that up. It is told properly when its turn to stop has come."""
        remaining = stop.remaining()
        deadline = None if remaining is None else self._clock.monotonic() + remaining
        entry.token.set(stop.reason, deadline=deadline)
        with self._condition:  # it may be waiting for what it requires
            self._condition.notify_all()

    def stages(self, last: int | None = None) -> list[list[Entry]]:
        """Return what is up, or coming up, in the order in which it must be told to stop.

        Args:
            last: leave out what stops in a later phase than this one; None leaves out nothing.
        """
        with self._condition:
            stages = stop_stages([entry for entry in start_order(self._entries.values()) if _is_live(entry)])
        # The first stage of each phase has a component of that phase, so the later phases begin at the first that does.
        return [*itertools.takewhile(lambda stage: last is None or _phase_of(stage) <= last, stages)]

    def stop(
        self, stages: list[list[Entry]], reason: str | None, deadline: float, *, final: bool = True
    ) -> Iterator[ComponentReport]:
        """Stop stage after stage; everything is told and joined before the deadline, or reported as stuck.

        Yields a report for each component once that has been joined, or given up. What is stuck is closed too, unless
        the stop is not ``final``: then a later one goes on with it.
        """
        ending = Ending(self._clock, self._condition)
        budget = Budget(self._clock.monotonic(), deadline, len(stages), self._phase_timeouts)
        for stage in stages:
            limit = budget.begin_stage(self._clock.monotonic(), _phase_of(stage))
            for entry in sorted(stage, key=_must_be_waited_for):
                self._await_start(entry, limit.at)
                ending.tell(entry, reason, limit.at)
            # Who has least time comes first, so that nobody is given more because others are waited for.
            for entry in sorted(stage, key=functools.partial(ending.limit_of, limit)):
                yield ending.gather(entry, ending.limit_of(limit, entry), final=final)

    def _await_start(self, entry: Entry, deadline: float) -> None:
        if _must_be_waited_for(entry):
            with self._condition:
                self._condition.wait_until(lambda: not entry.starting, deadline)

    def dismiss(self, reason: str | None, deadline: float) -> None:
        """Tell those of threadkit's own that never came up, since somebody may wait for what a queue has taken in."""
        ending = Ending(self._clock, self._condition)
        for entry in self:
            if entry.told_at is None and isinstance(entry.component, BaseComponent) and not runs_elsewhere(entry):
                ending.tell(entry, reason, deadline)

    def give_up(self, joined: set[str]) -> list[ComponentReport]:
        """Report everything that is up, but for ``joined``, as it is now: a second signal leaves no time for more."""
        rest = [entry for stage in self.stages() for entry in stage if entry.name not in joined]
        ending = Ending(self._clock, self._condition)
        now = self._clock.monotonic()
        for entry in rest:
            ending.tell(entry, "forced", now)
        return [ending.gather(entry, Limit(now, "deadline")) for entry in rest]

    def _adopt(self, entry: Entry) -> None:
        """Answer for a component from now on."""
        if isinstance(entry.component, BaseComponent):
            entry.component.adopt(self._clock, entry.token)
        else:
            entry.attendant = Attendant(self._clock, f"threadkit-calls-{entry.name}")
        with contextlib.suppress(AttributeError):  # a class with __slots__ need not have a place for it
            entry.component.failed = lambda error: self._take_failure(entry, error)  # type: ignore[attr-defined]
        if not callable(
            getattr(type(entry.component), "stop_all", None)
        ):  # a method of the user's own is not overwritten
            with contextlib.suppress(AttributeError):
                entry.component.stop_all = self._on_stop_all  # type: ignore[attr-defined]

    def _take_failure(self, entry: Entry, error: BaseException) -> None:
        with self._condition:
            entry.failure = error
        self._on_failure(entry, error)


def _must_be_waited_for(entry: Entry) -> bool:
    """Tell whether a component must have come up before it can be told to stop. threadkit's own need not."""
    return entry.starting and not isinstance(entry.component, BaseComponent)


def _phase_of(stage: list[Entry]) -> int:
    return max(entry.phase for entry in stage)


def _is_live(entry: Entry) -> bool:
    if entry.up or entry.starting:
        return True
    # An executor begins with its first call, whether or not the lifecycle has started it.
    return isinstance(entry.component, BaseComponent) and entry.component.has_begun() and not runs_elsewhere(entry)
