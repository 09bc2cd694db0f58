"""``Leader``: of all processes that share a file, one runs the components of its leader, and another takes over.

Everything happens on the leader's own thread: it tries to get the lease, starts the components, looks whether the lease
is still its own, stops the components and gives the lease back. So these never overlap.

The lease is given back when the last thread of the last component has ended, and not before: two processes at the same
work is what a leader is there to prevent. Where a component is stuck, the lease goes with the process.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, ClassVar

from threadkit import _arguments
from threadkit._checkup import Checkup
from threadkit._clock import SYSTEM_CLOCK, Clock, deadline_after, is_at_exit
from threadkit._component import BaseComponent, Phase
from threadkit._composite import Composite
from threadkit._entry import Entry
from threadkit._errors import Closed
from threadkit._exit import EXIT_TIMEOUT
from threadkit._lease import Lease, LeaseError
from threadkit._makers import Placement
from threadkit._override import override
from threadkit._registry import Registry
from threadkit._waiting import Waiters
from threadkit.events import BecameLeader, ComponentStuck, LeadReleased, LostLead, describe
from threadkit.health import Health, Status

_CHECK_SECONDS = 1.0  # after which the answer of a check is late, and for which one is good, as in a lifecycle


class LeaderOptions(Placement, total=False):
    """The keywords of ``Leader`` and of ``Lifecycle.add()``."""

    retry: float | timedelta
    start_timeout: float | timedelta
    stop_timeout: float | timedelta | None
    clock: Clock | None


class Leader(BaseComponent, Composite):
    """Runs components in one process at a time, of all that name the same file.

    It takes components as a lifecycle does: ``@leader.every("1h")``, ``@leader.thread``, ``leader.queue()``,
    ``leader.add()``. They start, in order, when this process gets the lease, and stop, in order, before it gives the
    lease back. When it dies, by SIGKILL too, the system takes the lease back and another process gets it within
    ``retry`` seconds. It is a record lock on the file; on a network file system it is worth what that makes of it.

    A leader leads once. What goes wrong ends it as failed, so that its lifecycle stops too, and another process takes
    over: a component that cannot start or dies; a lease that cannot be had; and one that was lost.

    **Losing the lease.** Whoever deletes or replaces the file gives everybody a second lock to take. The leader looks
    every ``retry`` seconds, and takes the new one itself. If another process was quicker, there are two leaders until
    this one has looked and its components have stopped. The same goes for code in this process that opens and closes
    the file by itself, for then the system takes the lock back.

    Args:
        path: the file, in a folder that exists; it is made if need be and stays. It shows the pid and host of who
            leads. It must be no symbolic link, and hold nothing else.
        name: unique within a lifecycle.
        retry: seconds between two attempts to get the lease, and two looks whether it is still there.
        start_timeout: seconds that each component of a class of yours has to come up. threadkit's own come up at once,
            but for a thread with ``ready=True``, which has a ``start_timeout`` of its own.
        stop_timeout: seconds that all components have together to stop, within the lifecycle's own deadline; None is as
            long as that allows, and 10 outside of a lifecycle.
        clock: where time comes from, also for every component that was given none; None inherits the lifecycle's.

    Raises:
        LeaseError: this system has no record locks.
        TypeError: an argument is of the wrong kind.
        ValueError: an argument is out of range.

    Example:
        >>> import tempfile
        >>> ticks = []
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     leader = Leader(f"{folder}/app.lock")
        ...     @leader.every("1h", run_immediately=True)
        ...     def report():
        ...         ticks.append(leader.is_leader)
        ...         leader.stop("enough")
        ...     with leader:
        ...         leader.join(timeout=5)
        ...     ticks, leader.is_leader
        True
        ([True], False)
    """

    kind: ClassVar[str] = "leader"
    default_phase: ClassVar[int] = Phase.INTAKE

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        name: str = "leader",
        retry: float | timedelta = 0.25,
        start_timeout: float | timedelta = 10.0,
        stop_timeout: float | timedelta | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.path: str = Lease(path).path
        self._retry = _arguments.seconds(retry, "retry", above_zero=True)
        self._start_timeout = _arguments.timeout(start_timeout, "start_timeout")
        self.stop_timeout: float | None = _arguments.timeout(stop_timeout, "stop_timeout")
        self._stop_timeout = EXIT_TIMEOUT if self.stop_timeout is None else self.stop_timeout
        self._registry = Registry(clock or SYSTEM_CLOCK, self._take_failure, self._ask_all_to_stop)
        super().__init__(name, clock)

    @override
    def _reset(self) -> None:
        super()._reset()
        self._lease = Lease(self.path)
        self._registry.begin_anew(self._clock)
        self._checkup = Checkup(self._clock, _CHECK_SECONDS, _CHECK_SECONDS, self._emit)
        self._thread: threading.Thread | None = None
        self._milestones = Waiters()  # woken when it leads, has ended, or is told to stop
        # All three are written by the leader's thread alone, and under the condition where add() must not miss it.
        self._is_leader = False
        self._is_starting = False
        self._shutting_down = False
        self._failures: list[BaseException] = []

    @property
    def is_leader(self) -> bool:
        """True from the moment at which this process gets the lease until it gives it back, or sees that it is lost."""
        self._refuse_forked()
        return self._is_leader

    def wait(self, timeout: float | timedelta | None = None) -> bool:
        """Wait until this process leads; its components start right then.

        Args:
            timeout: how long at most, in seconds; None and ``inf`` are for ever.

        Returns:
            True when it leads; False when the time was over first, or the leader was stopped or has failed.

        Raises:
            TypeError: ``timeout`` is no duration.
            ValueError: ``timeout`` is negative or ``nan``.
        """
        self._refuse_forked()
        deadline = deadline_after(self._clock, _arguments.timeout(timeout))
        self._milestones.wait(
            self._clock, lambda: self._is_leader or self._token.is_set() or self._state.has_ended, deadline
        )
        return self._is_leader

    @override
    def health(self) -> Health:
        """Return how well the leader is: ready while it is on standby; while it leads, as well as its worst part."""
        health = super().health()
        if health.status is not Status.READY:
            return health
        return Composite.health(self) if self._is_leader else Health(Status.READY, "on standby")

    @override
    def stats(self) -> dict[str, Any]:
        """Return ``is_leader``, ``holder`` (who leads, as last seen: pid and host) and ``components``."""
        return {
            "is_leader": self._is_leader,
            "holder": self._lease.holder,
            "components": Composite.stats(self),
        }

    @override
    def threads(self) -> list[threading.Thread]:
        """Return the leader's own thread and those of its components."""
        own = [] if self._thread is None or self._over else [self._thread]
        return own + self._threads_of(self._registry)

    @override
    def work_left(self) -> int:
        """Return how many pieces of work its components have not finished."""
        return sum(self._answers("work_left", self._registry, int).values())

    @override
    def _launch(self) -> None:
        self._registry.check_requires()
        self._lease.acquire()  # here, so that start() raises where it cannot be had at all
        try:
            self._thread = self._clock.spawn(self._run, self.name)
        except BaseException:
            self._lease.release()
            raise

    @override
    def _on_stop_asked(self) -> None:
        self._milestones.wake_all()

    @override
    def _take_failure(self, entry: Entry, error: BaseException) -> None:
        super()._take_failure(entry, error)
        self._fail(error)

    @override
    def _is_up(self) -> bool:
        return self._is_leader

    @override
    def _is_coming_up(self) -> bool:
        return self._is_starting

    @override
    def _come_up(self) -> None:
        self._is_starting = False

    @override
    def _refuse_closed(self) -> None:
        self._refuse_forked()
        if self._shutting_down or self._state.has_ended:
            raise Closed(self.kind, self.name)

    # --- the leader's thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._thread = threading.current_thread()  # which _launch() may not have written yet; the value is the same
        try:
            if self._await_lease():
                self._lead()
        except BaseException as error:  # a component could not start, or the lease could not be had or was lost
            self.stop(describe(error))
            self._fail(error)
        self._step_down()
        self._end()
        self._milestones.wake_all()

    def _await_lease(self) -> bool:
        while not self._token.is_set():
            if self._lease.acquire():
                return True
            self._token.wait(self._retry)
        return False

    def _lead(self) -> None:
        with self._condition:
            self._is_leader = self._is_starting = True
        self._milestones.wake_all()
        self._emit(BecameLeader(component=self.name, path=self.path))
        self._registry.check_requires()  # of what was added since start()
        while (entry := self._next_to_start()) is not None:
            try:
                self._registry.bring_up(entry, self._start_timeout, self._token)
            except BaseException as error:
                if is_at_exit(error):  # no thread is made any more: the stop is on its way
                    break
                error.add_note(f"while component {entry.name!r} of leader {self.name!r} was starting")
                raise
        while not self._token.wait(self._retry):
            if not self._lease.confirm():
                self._is_leader = False
                self._emit(LostLead(component=self.name, path=self.path))
                raise LeaseError(self.path, "it was lost, since somebody has deleted, replaced or closed the file")

    def _step_down(self) -> None:
        """Stop the components, and give the lease back once nothing of theirs runs any more."""
        with self._condition:
            self._shutting_down = True
        reason = self._token.reason
        deadline = self._clock.monotonic() + self._time_to_stop()
        stages = self._registry.stages()
        entries = {entry.name: entry for stage in stages for entry in stage}
        stuck: list[Entry] = []
        for part in self._registry.stop(stages, reason, deadline):
            if part.outcome == "stuck":
                stuck.append(entries[part.name])
                self._emit(ComponentStuck(component=part.name, seconds=part.seconds))
        self._registry.dismiss(reason, deadline)
        self._await_end(stuck)
        self._lease.release()
        if self._is_leader:
            self._is_leader = False
            self._emit(LeadReleased(component=self.name, path=self.path))

    def _time_to_stop(self) -> float:
        remaining = self._token.remaining()
        if remaining is None:
            return self._stop_timeout
        return remaining if self.stop_timeout is None else min(remaining, self.stop_timeout)

    def _await_end(self, stuck: Iterable[Entry]) -> None:
        """Wait as long as it takes. A join() of the user's may give up at once, so there is a pause before the next."""
        for entry in stuck:
            if entry.attendant is not None:
                entry.attendant.wait(None)
            while not entry.component.join():
                self._clock.park(self._clock.gate(), self._clock.monotonic() + self._retry)
