"""``Lane``: where an executor's calls wait and run. Here on our own threads; ``_engine.py`` has the other kind."""

from __future__ import annotations

import contextvars
import functools
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor
from typing import Any

import attrs

from threadkit._calling import is_ctrl_c
from threadkit._clock import Clock
from threadkit._future import Call
from threadkit._override import override
from threadkit._permits import Permits
from threadkit._pool import ThreadPool
from threadkit._stop import StopToken
from threadkit._tally import Tally
from threadkit._timed_call import TimedCall
from threadkit._unread import Unread
from threadkit.events import CallRejected, ErrorUnread, Event


def processors() -> int:
    """Return how many processors this process may use; before Python 3.13, how many there are."""
    return getattr(os, "process_cpu_count", os.cpu_count)() or 1


@attrs.frozen
class Terms:
    """What is agreed for a call, beyond its arguments; see ``BoundedExecutor.options()``."""

    timeout: float | None = None
    idempotent: bool = False
    token: StopToken | None = None


@attrs.frozen
class ExecutorStats:
    """What an executor has done and is doing: submitted = completed + failed + cancelled + pending + running.

    Attributes:
        submitted: calls that were taken.
        completed: those that returned.
        failed: those that raised, or had no time left. One that runs on counts as running until it ends.
        cancelled: those that were cancelled before they ran.
        rejected: calls that were not taken, since the executor was full. They are not among those submitted.
        dropped: calls that were cancelled in favour of newer ones. They are among those cancelled.
        pending: calls that no worker is free for.
        running: calls that a worker has, or is about to take.
        workers: how many calls can run at once.
        rebuilds: how often the engine was replaced.

    Example:
        >>> from threadkit import BoundedExecutor
        >>> with BoundedExecutor(2) as executor:
        ...     futures = [executor.submit(abs, -number) for number in range(3)]
        >>> stats = executor.stats()
        >>> stats.submitted, stats.completed, stats.running
        (3, 3, 0)
    """

    submitted: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    rejected: int = 0
    dropped: int = 0
    pending: int = 0
    running: int = 0
    workers: int = 0
    rebuilds: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return the figures by name."""
        return attrs.asdict(self)


class Lane:
    """What lanes have in common: the bound, and the counts of what became of calls.

    Args:
        clock: where callers wait.
        name: the executor's.
        workers: how many calls may run at once.
        max_pending: how many more may wait.
        context: whether calls run in a copy of their submitter's context.
        emit: told of what happens to calls.
    """

    def __init__(
        self,
        clock: Clock,
        name: str,
        workers: int,
        max_pending: float,
        *,
        context: bool,
        emit: Callable[[Event], object],
    ) -> None:
        self.clock = clock
        self.name = name
        self.workers = workers
        self.context = context
        self._max_pending = max_pending
        self._emit = emit
        # A call takes a permit when it is submitted and gives it back when it ends.
        self.permits = Permits(clock, self._bound(workers))
        self.completed = Tally()
        self.failed = Tally()
        self.cancelled = Tally()
        self.dropped = Tally()

    def _bound(self, workers: int) -> float:
        # A call that a worker is free for does not wait, even if the worker has not woken up yet; so there is a permit
        # for each worker and for each that may wait.
        return max(1, workers + self._max_pending)

    def ended(self, _call: Call[Any], /, *, failed: bool) -> None:
        """A call that was run has returned or raised."""
        (self.failed if failed else self.completed).up()
        self.permits.give()

    def withdrawn(self, _call: Call[Any], /, *, failed: bool) -> None:
        """A call will not be run."""
        (self.failed if failed else self.cancelled).up()
        self.permits.give()

    def _drop(self, call: Call[Any]) -> bool:
        """Cancel a call in favour of a newer one; return whether it was this that cancelled it."""
        if not call.drop():
            return False
        self.dropped.up()
        self._emit(CallRejected(component=self.name, policy="drop_oldest", limit=self._max_pending))
        return True

    def refused(self, _call: Call[Any], /) -> None:
        """A call has a permit and could not be handed on."""
        self.permits.give()

    def unread(self, name: str, error: BaseException) -> Unread:
        """Return what speaks up where nobody asks for the error of a call; it does not hold the lane."""
        return Unread(error, functools.partial(_tell_unread, self._emit, self.name, name))

    def stats(self, rejected: int) -> ExecutorStats:
        """Return the figures."""
        taken = self.permits.taken()
        running = min(taken, self.workers)
        completed, failed, cancelled = self.completed.value(), self.failed.value(), self.cancelled.value()
        return ExecutorStats(
            submitted=completed + failed + cancelled + taken,
            completed=completed,
            failed=failed,
            cancelled=cancelled,
            rejected=rejected,
            dropped=self.dropped.value(),
            pending=taken - running,
            running=running,
            workers=self.workers,
            rebuilds=self.rebuilds(),
        )

    def rebuilds(self) -> int:
        """Return how often the engine was replaced."""
        return 0

    def run_here(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call[Any]:
        """Run a call that has no permit in this thread, and return its future.

        Raises:
            KeyboardInterrupt: the program's Ctrl-C came while it ran. Everything else is in the future.
        """
        here = _Here(self)
        call: Call[Any] = Call(self.clock, here, (fn, args, kwargs, self.captured()))
        try:
            call()
            if here.ctrl_c is not None:
                raise here.ctrl_c
            return call
        finally:
            del call, here  # error -> traceback -> frame -> this frame -> call -> error would be a cycle

    def captured(self) -> contextvars.Context | None:
        """Return a copy of the present context, where calls run in one."""
        return contextvars.copy_context() if self.context else None


class _Here:
    """The lane of a call that its submitter runs itself: it is counted, and has no permit to give back."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self.ctrl_c: BaseException | None = None

    def ended(self, _call: Call[Any], /, *, failed: bool) -> None:
        (self._lane.failed if failed else self._lane.completed).up()

    def withdrawn(self, _call: Call[Any], /, *, failed: bool) -> None:
        raise NotImplementedError  # pragma: no cover - it is run before anybody else has it

    def unread(self, name: str, error: BaseException) -> Unread | None:
        if is_ctrl_c(error):
            self.ctrl_c = error  # it is raised, and so not overlooked
            return None
        return self._lane.unread(name, error)


def _tell_unread(emit: Callable[[Event], object], name: str, function: str, error: BaseException) -> None:
    emit(ErrorUnread(component=name, function=function, error=error))


class PoolLane(Lane):
    """Calls that run on our own threads.

    Args:
        clock: where threads come from, and callers wait.
        name: the executor's.
        prefix: what the threads are called.
        workers: how many threads there may be.
        max_pending: how many calls may wait.
        context: whether calls run in a copy of their submitter's context.
        emit: told of what happens to calls.
        initializer: called first in each thread; where it raises, the executor is broken for good.
        on_end: called by the last thread, with what broke it, if anything did.
    """

    def __init__(
        self,
        clock: Clock,
        name: str,
        prefix: str,
        workers: int,
        max_pending: float,
        *,
        context: bool,
        emit: Callable[[Event], object],
        initializer: Callable[[], object] | None,
        on_end: Callable[[BrokenExecutor | None], object],
    ) -> None:
        super().__init__(clock, name, workers, max_pending, context=context, emit=emit)
        self.broken: BrokenExecutor | None = None
        self._pool: ThreadPool[Call[Any]] = ThreadPool(
            clock, prefix, workers, initializer=initializer, on_broken=self._break, on_end=lambda: on_end(self.broken)
        )
        # These are the pool's own.
        self.start = self._pool.start
        self.close = self._pool.close
        self.put = self._pool.put
        self.join = self._pool.join
        self.threads = self._pool.threads

    def new_call(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], terms: Terms
    ) -> Call[Any]:
        """Make a call, for ``put()``. Our own threads do not break, so it is never run twice."""
        return (Call if terms.timeout is None else TimedCall)(self.clock, self, (fn, args, kwargs, self.captured()))

    @override
    def withdrawn(self, call: Call[Any], /, *, failed: bool) -> None:
        self._pool.withdraw(call)
        super().withdrawn(call, failed=failed)

    @override
    def refused(self, call: Call[Any], /) -> None:
        self._pool.withdraw(call)  # an interrupt may have come when it was in the line
        super().refused(call)

    def drop_oldest(self) -> bool:
        """Cancel the call that has waited longest, unless somebody else does; return False where none waits."""
        try:
            oldest = self._pool.first()
        except IndexError:
            return False
        if not self._drop(oldest):
            self._pool.withdraw(oldest)  # somebody else is just cancelling it, perhaps this very thread
        return True

    def cancel_waiting(self) -> None:
        """Cancel every call that waits."""
        for call in self._pool.waiting():
            call.cancel()

    def is_worker(self) -> bool:
        """Tell whether this thread is one of ours."""
        return threading.current_thread() in self._pool.threads()

    def resize(self, workers: int) -> None:
        """Change how many threads there may be."""
        self.permits.resize(self._pool.resize(workers))
        self.workers = self._pool.max_workers

    def prepare(self) -> None:
        """Do nothing: there is no engine to make."""

    def dispose(self, error: BaseException) -> None:
        """Give up what was made before ``start()`` failed."""

    def _break(self, error: BaseException) -> None:
        broken = BrokenExecutor("the initializer of a worker failed, so that no call can be run any more")
        broken.__cause__ = error
        self.broken = broken
        self._pool.close()  # first: what is put later is refused, and what was put before is seen by the next line
        for call in self._pool.waiting():
            call.fail(broken)
        self.permits.wake_all()
