"""``ThreadGroup``: managed threads that are restarted together. How is decided in ``_supervisor.py``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, ClassVar, NamedTuple, TypedDict, TypeVar, Unpack, overload

from threadkit import _arguments
from threadkit import backoff as _backoff
from threadkit._body import Alone, Body, Part
from threadkit._clock import Clock, deadline_after
from threadkit._component import ComponentState, Phase
from threadkit._errors import Closed, DuplicateName, UnknownComponent
from threadkit._exit import EXIT_TIMEOUT
from threadkit._member import Inbox, Member, Stage
from threadkit._override import override
from threadkit._restarts import RestartRules
from threadkit._supervised import Supervised
from threadkit._supervisor import Strategy, Supervisor
from threadkit._thread import ChildOptions, ManagedThread
from threadkit.backoff import Backoff
from threadkit.events import describe
from threadkit.health import Health, Status, worst

F = TypeVar("F", bound=Callable[..., object])
T = TypeVar("T", bound="ManagedThread | ThreadGroup")


class GroupOptions(TypedDict, total=False):
    """The keywords of ``ThreadGroup``."""

    max_restarts: int | None
    within: float | timedelta
    backoff: Backoff
    stop_timeout: float | timedelta | None


class _Place(NamedTuple):
    """A child, and what the supervisor knows of it."""

    child: ManagedThread | ThreadGroup
    member: Member


class ThreadGroup(Supervised):
    """Managed threads, and groups of them, that are restarted as one of three strategies wants.

    Each child has a restart policy of its own. Where that wants a child restarted which has ended, the strategy says
    who is restarted with it, and the group how often and how soon. When its budget is spent the group ends its children
    and fails: that stops the lifecycle. A group inside a group is then restarted whole by the outer one, as a thread
    that has failed is, with a fresh budget. A child that ends for good leaves the others alone: it raised and is never
    restarted, returned ``ManagedThread.DONE``, or returned where its policy takes that for a good end. It stays listed
    until it is removed.

    To be restarted with another, a child must heed its token. One that does not delays the restart of its group, but
    not a stop.

    Args:
        name: unique within a lifecycle or a group.
        strategy: who is restarted with a child: ``"one_for_one"`` nobody; ``"one_for_all"`` all the others; or
            ``"rest_for_one"`` those that were added after it. Their calls are ended, and when all have ended they are
            called again in the order in which they were added, each when the one before it is ready.
        max_restarts: how many restarts there may be ``within`` so many seconds; one more, and the group fails. None is
            unlimited.
        within: the window of ``max_restarts``, in seconds.
        backoff: how long to wait before each restart. It begins anew after ``within`` seconds without one.
        stop_timeout: how long a lifecycle waits for the end of the group, in seconds, within its own deadline; None is
            as long as that allows.
        clock: where time comes from; None inherits the lifecycle's. The children inherit it.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: an argument is out of range.

    Example:
        >>> with ThreadGroup("feed", "rest_for_one") as group:
        ...     @group.thread
        ...     def read(running):
        ...         running.wait()
        ...     @group.thread("parse", restart="always")
        ...     def parse(running):
        ...         running.wait()
        ...     print([child.name for child in group], group["parse"].state.value)
        ['read', 'parse'] running
    """

    kind: ClassVar[str] = "group"
    default_phase: ClassVar[int] = Phase.INTAKE

    def __init__(
        self,
        name: str = "group",
        strategy: Strategy = "one_for_one",
        *,
        max_restarts: int | None = 5,
        within: float | timedelta = 60.0,
        backoff: Backoff = _backoff.exponential(1, cap=30),  # noqa: B008 - a frozen value, made once, is what is wanted
        stop_timeout: float | timedelta | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._strategy: Strategy = _arguments.choice(
            strategy, "strategy", ("one_for_one", "one_for_all", "rest_for_one")
        )
        self._rules = RestartRules.of(max_restarts, within, backoff)
        self.stop_timeout: float | None = _arguments.timeout(stop_timeout, "stop_timeout")
        # In the order in which they were added. Guarded by _condition, which is held to change it; a look at it is one
        # copy, which is atomic.
        self._places: dict[str, _Place] = {}
        self._parent: ThreadGroup | None = None
        super().__init__(name, clock)

    @override
    def _make_body(self) -> Body:
        self._inbox = Inbox(self._clock)
        self._places = {name: self._enlist(place.child, is_late=False) for name, place in self._places.items()}
        self._supervisor = Supervisor(
            self.name,
            self._strategy,
            self._rules,
            self._clock,
            self._token,
            self._inbox,
            self._members,
            self._emit,
            self._announce,
        )
        part = Part(
            self.kind,
            self._supervisor.supervise,
            wants_token=True,
            restart="on_failure",
            waits_for_ready=True,
            farewell=self._supervisor.see_off,
        )
        return Body(part, self.name, self._clock, self._token, self._membership or Alone(self._rules), self)

    # --- children ----------------------------------------------------------------------------------------------------

    @overload
    def thread(self, target: F, /) -> F: ...
    @overload
    def thread(self, name: str | None = None, /, **options: Unpack[ChildOptions]) -> Callable[[F], F]: ...
    def thread(self, name: str | F | None = None, /, **options: Unpack[ChildOptions]) -> F | Callable[[F], F]:
        """Make the decorated function the body of a child; the function stays as it is.

        Use it bare, or with a name and those keywords of ``ManagedThread`` that are a child's own affair. ``restart``
        is ``"on_failure"`` here, unless given: what need not be restarted need not be in a group. Without a name it
        takes the function's; if that is taken, a number is appended.

        Raises:
            DuplicateName: the name that was given is taken.
            Closed: the group has been stopped, or has failed.

        Example:
            >>> group = ThreadGroup("feed")
            >>> @group.thread("read", heartbeat=10)
            ... def read(running):
            ...     running.wait()
            >>> group["read"].restarts
            0
        """
        if callable(name):
            self._add_thread(name, None, options)
            return name

        def decorate(target: F) -> F:
            self._add_thread(target, name, options)
            return target

        return decorate

    def group(
        self, name: str = "group", strategy: Strategy = "one_for_one", **options: Unpack[GroupOptions]
    ) -> ThreadGroup:
        """Make a group inside this one. It is restarted whole when it fails.

        Raises:
            DuplicateName: the name is taken.
            Closed: the group has been stopped, or has failed.
        """
        return self.add(ThreadGroup(name, strategy, **options))

    def add(self, child: T) -> T:
        """Add a child, which is returned; it is started at once if the group runs.

        Args:
            child: a ``ManagedThread`` or a ``ThreadGroup`` that has not been started. A thread's own ``max_restarts``,
                ``within`` and ``backoff`` are not used here.

        Raises:
            TypeError: it is neither.
            ValueError: it has been started or stopped, belongs to somebody else, or is, or holds, this group.
            DuplicateName: its name is taken.
            Closed: the group has been stopped, or has failed.
            BaseException: the group runs, and this is what the child's ``start()`` raised; it is not in the group then.
        """
        if not isinstance(child, ManagedThread | ThreadGroup):
            raise TypeError(f"child must be a ManagedThread or a ThreadGroup, not {child!r}")
        self._refuse_forked()
        if any(child is group for group in self._lineage()):
            raise ValueError(f"child must not be the group itself, or one that holds it, but is {child!r}")
        with self._condition:
            if self._state.has_ended or self._token.is_set():
                raise Closed(self.kind, self.name)
            if child.name in self._places:
                raise DuplicateName("child", child.name)
            if child.state is not ComponentState.NEW or child._host_token is not None:
                raise ValueError(f"child must be new and nobody else's, but is {child!r}")
            place = self._enlist(child, is_late=self._state is not ComponentState.NEW)
            self._places[child.name] = place
        child.stop_all = self._ask_all_to_stop
        child._observers.join(self._observers)
        if isinstance(child, ThreadGroup):
            child._parent = self
        if place.member.is_late:
            try:
                child.start()
            except BaseException:
                self._forget(child)
                place.member.on_gone()  # the supervisor may be waiting for it
                raise
        return child

    def remove(self, name: str, *, timeout: float | timedelta | None = None) -> bool:
        """Stop a child alone, and forget it.

        Args:
            name: its name.
            timeout: seconds to wait for its end; None takes the child's ``stop_timeout``, and where it has none waits
                as long as it takes.

        Returns:
            True when it has ended; False where it has not, and stays listed. That is so, too, where one of its own
            threads asks.

        Raises:
            UnknownComponent: there is none of this name.
            TypeError: ``timeout`` is no duration.
            ValueError: ``timeout`` is negative or ``nan``.
        """
        child = self[name]
        given = _arguments.timeout(timeout)
        child.stop("removed")
        if not child.join(child.stop_timeout if timeout is None else given):
            return False
        self._forget(child)
        return True

    def __getitem__(self, name: str) -> ManagedThread | ThreadGroup:
        self._refuse_forked()
        place = self._places.get(name)
        if place is None:
            raise UnknownComponent(name, list(self._places))
        return place.child

    def __contains__(self, name: object) -> bool:
        self._refuse_forked()
        return name in self._places

    def __iter__(self) -> Iterator[ManagedThread | ThreadGroup]:
        self._refuse_forked()
        return iter([place.child for place in list(self._places.values())])

    def __len__(self) -> int:
        self._refuse_forked()
        return len(self._places)

    # --- how it fares ------------------------------------------------------------------------------------------------

    @property
    def restarts(self) -> int:
        """How often children have been restarted; those that were only restarted with another are not counted."""
        self._refuse_forked()
        return self._supervisor.restarts

    @override
    def health(self) -> Health:
        """Return how well the group is, with its ``parts``: its worst child speaks for it.

        A child that has ended well does not count. One that has failed for good degrades the group, which goes on.
        """
        own = super().health()
        parts = {child.name: child.health() for child in self}
        if own.status is not Status.READY:
            return Health(own.status, own.detail, parts)
        whole = worst({child.name: parts[child.name] for child in self if child._state is not ComponentState.STOPPED})
        return Health(min(whole.status, Status.DEGRADED), whole.detail, parts)

    @override
    def stats(self) -> dict[str, Any]:
        """Return ``state``, ``strategy``, ``restarts``, and the figures of the ``children`` by name."""
        return {
            "state": self.state.value,
            "strategy": self._strategy,
            "restarts": self.restarts,
            "children": {child.name: child.stats() for child in self},
        }

    @override
    def threads(self) -> list[threading.Thread]:
        return super().threads() + [thread for child in self for thread in child.threads()]

    @override
    def work_left(self) -> int:
        return sum(child.work_left() for child in self)

    # --- beginning and end -------------------------------------------------------------------------------------------

    @override
    def _launch(self) -> None:
        failure = self._start_children()
        if failure is not None:
            self._refuse(failure)
            self._token.set(f"could not start: {describe(failure)}")
        deadline = deadline_after(self._clock, EXIT_TIMEOUT)
        try:
            self._body.launch()  # after a failure too: somebody has to see off those that have begun
        except RuntimeError:  # no thread is to be had
            self._token.set("could not start")
            for child in self:
                child.join(EXIT_TIMEOUT)
            raise
        if failure is not None:
            with self._condition:
                self._condition.wait_until(self._is_over, deadline)
            raise failure

    def _start_children(self) -> BaseException | None:
        """Start them one after another; return what kept one from starting, and with it all that follow."""
        failure: BaseException | None = None
        for member in self._members():
            if member.is_late:
                continue
            try:
                if failure is None:
                    member.child.start()
            except BaseException as error:
                if not (isinstance(error, Closed) and member.child._token.is_set()):  # it was stopped before it began
                    failure = error
            if not member.child.threads():
                member.stage = Stage.GONE  # it has ended, or will never begin
        return failure

    def _announce(self, error: BaseException, is_hopeless: bool) -> None:
        """Tell whoever answers for the group that it fails; its children are still to be ended."""
        if self._membership is None:
            self._fail(error)
            self._token.set(f"group {self.name!r} failed: {describe(error)}")
        elif is_hopeless:
            self._membership.on_hopeless(error)
        else:
            self._membership.on_failing(error)

    def _members(self) -> list[Member]:
        return [place.member for place in list(self._places.values())]

    def _lineage(self) -> Iterator[ThreadGroup]:
        group: ThreadGroup | None = self
        while group is not None:
            yield group
            group = group._parent

    def _enlist(self, child: ManagedThread | ThreadGroup, *, is_late: bool) -> _Place:
        """Make it a child in the life that begins, or goes on, now."""
        member = Member(child, self._inbox, is_late=is_late)
        child.enlist(member, self._clock, self._token)
        return _Place(child, member)

    def _forget(self, child: ManagedThread | ThreadGroup) -> None:
        with self._condition:
            place = self._places.get(child.name)
            if place is not None and place.child is child:  # else somebody else was quicker
                del self._places[child.name]

    def _add_thread(self, target: Callable[..., object], name: str | None, options: ChildOptions) -> None:
        if strangers := sorted(options.keys() - ChildOptions.__annotations__.keys()):
            raise TypeError(f"{', '.join(strangers)} must be given to group {self.name!r}, not to its children")
        settings: ChildOptions = {"restart": "on_failure", **options}
        if name is not None:
            self.add(ManagedThread(target, name=name, **settings))
            return
        wish = free = _arguments.name_of(target, "thread")
        number = 1
        while free in self._places:
            number += 1
            free = f"{wish}-{number}"
        try:
            self.add(ManagedThread(target, name=free, **settings))
        except DuplicateName:  # another thread was quicker
            self._add_thread(target, None, options)
