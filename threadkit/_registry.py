"""Starts components in order and stops them in order. It knows the protocol ``Component`` and nothing else.

Order of start: from the highest phase to the lowest, in a phase as registered; what is required starts before what
requires it, whatever their phases. Order of stop: in *stages*. A stage is what may be told to stop at the same time: a
phase, or, where ``requires`` reaches into it, a part of one. All components of a stage are told first and joined then.
A stage may use the time that remains, less a tenth of the whole for each later one; so stops never add up, and one
stuck component leaves time for the others.

Locks: ``_condition`` guards the table and the flags of its entries. Components are called with no lock held.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from threadkit import _arguments
from threadkit._clock import Clock, deadline_after
from threadkit._component import BaseComponent, Component, Phase
from threadkit._errors import DependencyCycle, DuplicateName, StartTimeout, UnknownComponent
from threadkit._observe import logger
from threadkit._order import start_order, stop_stages
from threadkit._report import ComponentReport, Outcome
from threadkit._stop import StopToken
from threadkit._waiting import Condition

_PROTOCOL = ("start", "stop", "join")


class Entry:
    """One registered component, and how far it has come."""

    __slots__ = (
        "check",
        "closed",
        "component",
        "failure",
        "name",
        "number",
        "phase",
        "requires",
        "starting",
        "token",
        "told_at",
        "up",
    )

    def __init__(
        self,
        component: Component,
        phase: int,
        requires: tuple[str, ...],
        check: Callable[[], object] | None,
        number: int,
        token: StopToken,
    ) -> None:
        self.component = component
        self.name = component.name
        self.phase = phase
        self.requires = requires
        self.check = check
        self.number = number  # the order of registration
        self.token = token  # the parent of the component's own token
        self.failure: BaseException | None = None  # written by the component's failed() call; the last one counts
        self.starting = False  # guarded by the registry's condition, as the two below
        self.up = False
        self.told_at: float | None = None
        self.closed = False  # written by the one that stops it


class Registry:
    """The components of one lifecycle.

    Args:
        clock: where time comes from, for all of them.
        on_failure: called with the entry and the error when a component dies.
    """

    def __init__(self, clock: Clock, on_failure: Callable[[Entry, BaseException], None]) -> None:
        self._clock = clock
        self._on_failure = on_failure
        self._condition = Condition(clock)
        self._entries: dict[str, Entry] = {}
        self._members: set[int] = set()  # the ids of the registered components, which their entries keep alive
        self._numbers: dict[str, int] = {}  # where free_name() begins to look, lest it look at all
        self._count = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        """Go through the entries as of now, in the order of their start."""
        with self._condition:
            return iter(start_order(self._entries.values()))

    def of_parent(self) -> list[Entry]:
        """Return the entries in the order of registration: in a forked child, where the lock may be held for ever."""
        return sorted(self._entries.values(), key=lambda entry: entry.number)

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
    ) -> Entry:
        """Register a component; nothing is started.

        Args:
            component: it must have ``name``, ``start``, ``stop`` and ``join``.
            phase: when it stops; None takes its own ``phase``, or the default of its kind.
            requires: names or components that must be up before it and go down after it.
            check: called by ``health()``; it raises, or returns False, where something is wrong.
            must_exist: the others are up already: refuse ``requires`` that are not registered, and count the component
                as coming up from this moment on, so that no stop overlooks it. ``bring_up()`` MUST follow.

        Raises:
            TypeError: it is no component.
            DuplicateName: the name, or the component itself, is registered already.
            DependencyCycle: ``requires`` goes round in a circle.
            UnknownComponent: ``must_exist``, and a required one does not.
        """
        _check_shape(component)
        names = tuple(_name_of(required) for required in requires)
        own: int = getattr(component, "phase", getattr(component, "default_phase", Phase.BACKGROUND))
        place = _arguments.count(own if phase is None else phase, "phase", minimum=-sys.maxsize)
        if check is not None:
            _arguments.function(check, "check")
        with self._condition:
            if component.name in self._entries or id(component) in self._members:
                raise DuplicateName("component", component.name)
            for name in names:
                if must_exist and name not in self._entries:
                    raise UnknownComponent(name, self._entries)
            token = StopToken(component.name, clock=self._clock)
            entry = Entry(component, place, names, check, self._count, token)
            entry.starting = must_exist
            self._entries[entry.name] = entry
            try:
                if names:  # only something that requires can close a circle
                    start_order(self._entries.values())
            except DependencyCycle:
                del self._entries[entry.name]
                raise
            self._members.add(id(component))
            self._count += 1
        if isinstance(component, BaseComponent):
            component.adopt(self._clock, token)
        with contextlib.suppress(AttributeError):  # a class with __slots__ need not have a place for it
            component.failed = lambda error: self._take_failure(entry, error)  # type: ignore[attr-defined]
        return entry

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
            self._condition.notify_all()
            if self._entries.get(entry.name) is not entry:
                return False
            del self._entries[entry.name]
            self._members.discard(id(entry.component))
            return True

    def dependents(self, entry: Entry) -> list[str]:
        """Return the names of those that require this one."""
        with self._condition:
            return [other.name for other in self._entries.values() if entry.name in other.requires]

    def start(self, entry: Entry, timeout: float | None) -> None:
        """Start one component and wait until it is up.

        threadkit's own bound their start themselves. What a user's class does in ``start()`` is unknown, so that runs
        in a thread of its own, and is given up after ``timeout`` seconds.

        Raises:
            StartTimeout: it was not up in time.
            BaseException: whatever its ``start()`` raised.
        """
        with self._condition:
            if entry.up or entry.starting:
                return
            entry.starting = True
        self.bring_up(entry, timeout)

    def bring_up(self, entry: Entry, timeout: float | None) -> None:
        """Do what ``start()`` does, for an entry that counts as coming up already."""
        try:
            if isinstance(entry.component, BaseComponent):
                entry.component.start()
            else:
                self._start_foreign(entry, timeout)
        finally:
            with self._condition:
                entry.starting = False
                entry.up = True  # or half up: it must be told to stop in either case
                self._condition.notify_all()

    def _start_foreign(self, entry: Entry, timeout: float | None) -> None:
        outcome: list[BaseException | None] = []

        def run() -> None:
            error: BaseException | None = None
            try:
                entry.component.start()
            except BaseException as raised:  # handed to the caller of start()
                error = raised
            with self._condition:
                outcome.append(error)
                self._condition.notify_all()

        self._clock.spawn(run, f"threadkit-start-{entry.name}")
        deadline = deadline_after(self._clock, timeout)
        with self._condition:
            if not self._condition.wait_until(lambda: bool(outcome), deadline):
                raise StartTimeout(entry.name, timeout or 0.0)
        if outcome[0] is not None:
            raise outcome[0]

    def stages(self) -> list[list[Entry]]:
        """Return what is up, or coming up, in the order in which it must be told to stop."""
        with self._condition:
            return stop_stages([entry for entry in start_order(self._entries.values()) if _is_live(entry)])

    def stop(self, stages: list[list[Entry]], reason: str | None, deadline: float) -> Iterator[ComponentReport]:
        """Stop stage after stage; everything is told and joined before the deadline, or reported as stuck.

        Yields a report for each component once that has been joined, or given up.
        """
        whole = deadline - self._clock.monotonic()
        for number, stage in enumerate(stages):
            later = len(stages) - number - 1
            remaining = deadline - self._clock.monotonic()
            share = min(whole / 10, remaining / (later + 1))
            stage_deadline = deadline - share * later
            for entry in sorted(stage, key=self._must_be_waited_for):
                self._await_start(entry, stage_deadline)
                self._tell(entry, reason, deadline)
            for entry in stage:
                yield self._gather(entry, stage_deadline)

    @staticmethod
    def _must_be_waited_for(entry: Entry) -> bool:
        """Tell whether a component must have come up before it can be told to stop. threadkit's own need not."""
        return entry.starting and not isinstance(entry.component, BaseComponent)

    def _await_start(self, entry: Entry, deadline: float) -> None:
        if self._must_be_waited_for(entry):
            with self._condition:
                self._condition.wait_until(lambda: not entry.starting, deadline)

    def dismiss(self, reason: str | None, deadline: float) -> None:
        """Tell those of threadkit's own that never came up, since somebody may wait for what a queue has taken in."""
        for entry in self:
            if entry.told_at is None and isinstance(entry.component, BaseComponent):
                self._tell(entry, reason, deadline)

    def give_up(self, joined: set[str]) -> list[ComponentReport]:
        """Report everything that is up, but for ``joined``, as it is now: a second signal leaves no time for more."""
        rest = [entry for stage in self.stages() for entry in stage if entry.name not in joined]
        now = self._clock.monotonic()
        for entry in rest:
            self._tell(entry, "forced", now)
        return [self._gather(entry, now) for entry in rest]

    def _tell(self, entry: Entry, reason: str | None, deadline: float) -> None:
        with self._condition:
            if entry.told_at is not None:
                return
            entry.told_at = self._clock.monotonic()
        entry.token.set(reason, deadline=deadline)
        try:
            entry.component.stop(reason)
        except Exception as error:  # a stop that raises must not keep the others from being told
            entry.failure = entry.failure or error
            logger.exception("the stop() of component %r failed", entry.name)

    def _gather(self, entry: Entry, deadline: float) -> ComponentReport:
        """Join one component that has been told, and close it."""
        own = getattr(entry.component, "stop_timeout", None)
        told_at = entry.told_at if entry.told_at is not None else self._clock.monotonic()
        until = deadline if own is None else min(deadline, told_at + own)
        error: BaseException | None = None
        with self._condition:  # a component that is coming up is given the time to come down
            self._condition.wait_until(lambda: not entry.starting, until)
        try:
            joined = entry.component.join(max(0.0, until - self._clock.monotonic()))
        except Exception as raised:  # nothing more can be waited for
            error, joined = raised, True
            logger.exception("the join() of component %r failed", entry.name)
        seconds = self._clock.monotonic() - told_at
        stacks = {} if joined else _stacks(entry.component)
        work_left: int = getattr(entry.component, "work_left", int)()
        if not entry.closed:  # a stop that was interrupted comes by a second time
            entry.closed = True
            try:
                getattr(entry.component, "close", _nothing)()
            except Exception as raised:
                error = error or raised
                logger.exception("the close() of component %r failed", entry.name)
        error = error or entry.failure or getattr(entry.component, "failure", None)
        outcome: Outcome = "stuck" if not joined else "failed" if error is not None else "stopped"
        return ComponentReport(entry.name, entry.phase, outcome, seconds, work_left, stacks, error)

    def _take_failure(self, entry: Entry, error: BaseException) -> None:
        entry.failure = error
        self._on_failure(entry, error)


def _is_live(entry: Entry) -> bool:
    if entry.up or entry.starting:
        return True
    # An executor begins with its first call, whether or not the lifecycle has started it.
    return isinstance(entry.component, BaseComponent) and entry.component.has_begun()


def _check_shape(component: Component) -> None:
    for name in _PROTOCOL:
        if not callable(getattr(component, name, None)):
            raise TypeError(f"component must have a method {name}(), but {component!r} has none")
    if not isinstance(getattr(component, "name", None), str):
        raise TypeError(f"component must have a name of type str, but {component!r} has none")
    _arguments.text(component.name, "name")


def _name_of(required: str | Component) -> str:
    if isinstance(required, str):
        return required
    name = getattr(required, "name", None)
    if not isinstance(name, str):
        raise TypeError(f"requires takes names and components, not {required!r}")
    return name


def _nothing() -> None:
    """Stand in for a close() that a component does not have."""


def _stacks(component: Component) -> dict[str, str]:
    threads: list[threading.Thread] = getattr(component, "threads", list)()
    frames: dict[int, Any] = dict(sys._current_frames())
    return {
        thread.name: "".join(traceback.format_stack(frames[thread.ident]))
        for thread in threads
        if thread.ident in frames
    }
