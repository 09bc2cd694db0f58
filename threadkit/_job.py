"""``Job``, what a submit returns; and ``JobContext``, what a handler may ask for."""

from __future__ import annotations

import contextlib
import contextvars
import math
import threading
from collections.abc import Generator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, cast

from threadkit import _arguments
from threadkit._clock import Clock, Gate, deadline_after
from threadkit._errors import CallTimeout, JobCancelled, JobFailed
from threadkit._records import COMPLETED, FAILED, FINISHED, JobRecord, Progress
from threadkit._stop import StopToken
from threadkit._waiting import Waiters
from threadkit.backoff import Retry

# Guards the making of what several threads may ask a job for at once: its context, its notes. Reentrant for finalizers.
_making = threading.RLock()
_current: contextvars.ContextVar[Job | None] = contextvars.ContextVar("threadkit_job", default=None)


class Owner(Protocol):
    """What a job needs of its queue."""

    _clock: Clock
    _token: StopToken
    _audience: dict[Job, Waiters]

    def cancel(self, job_id: str) -> bool: ...
    def _has_ended(self, job: Job) -> bool: ...
    def _retry_of(self, job: JobRecord) -> Retry: ...
    def _deadline_of(self, job: JobRecord) -> float | None: ...


class Job(JobRecord):
    """A job of a ``WorkQueue``: what is known about it, and its result.

    What it shows is read-only. Make one by ``queue.submit()``.

    Attributes:
        id: unique, and sortable within its queue.
        name: the name of its handler.
        payload: what the handler is given.
        headers: what was submitted with it beside the payload: a read-only mapping of text.
        state: a ``JobState``.
        attempts: how many attempts have begun that count; one that the queue's end interrupted does not.
        errors: one ``JobError`` for each attempt that failed, in order; the last 100 of them.
        progress: what its handler said last: a number from 0 to 1 with a ``message``.

    Example:
        >>> from threadkit import WorkQueue
        >>> with WorkQueue(workers=1) as queue:
        ...     @queue.handler
        ...     def double(payload):
        ...         return 2 * payload
        ...     job = queue.submit(double, 21)
        ...     print(job.result(timeout=5), job.state, job.attempts)
        42 completed 1
    """

    __slots__ = ("_context", "_lost", "_queue")

    def __init__(self, queue: Owner, job_id: str, number: int, name: str, payload: Any, created: float) -> None:
        JobRecord.__init__(self, job_id, number, name, payload, created)
        self._queue = queue
        self._context: JobContext | None = None
        self._lost = ""  # why nobody will bring it to an end, written once, when its queue has ended

    @property
    def created_at(self) -> datetime:
        """When it was submitted, in UTC."""
        return datetime.fromtimestamp(self.created, UTC)

    @property
    def started_at(self) -> datetime | None:
        """When its last attempt began, in UTC; None before the first."""
        return None if self.started is None else datetime.fromtimestamp(self.started, UTC)

    @property
    def finished_at(self) -> datetime | None:
        """When it finished, in UTC; None before."""
        return None if self.finished is None else datetime.fromtimestamp(self.finished, UTC)

    @property
    def max_attempts(self) -> float:
        """How many attempts it may have; ``inf`` is no limit. With several policies, by the one that allows most."""
        most = 0.0
        policy: Retry | None = self._queue._retry_of(self)
        while policy is not None:
            most, policy = max(most, policy.max_attempts), policy.otherwise
        return most

    @property
    def meta(self) -> dict[str, Any]:
        """A dict for your own notes."""
        if self.notes is not None:
            return self.notes
        with _making:
            return self.make_notes()

    def done(self) -> bool:
        """Return True where there is nothing to wait for: it has finished, or its queue has ended without it."""
        return self.state in FINISHED or bool(self._lost) or self._queue._has_ended(self)

    def wait(self, timeout: float | timedelta | None = None) -> bool:
        """Wait until it is done.

        Args:
            timeout: how long at most, in seconds; None and ``inf`` are for ever.

        Returns:
            ``done()``.

        Raises:
            TypeError: ``timeout`` is no duration.
            ValueError: ``timeout`` is negative or ``nan``.
        """
        return self._wait(_arguments.timeout(timeout))

    def result(self, timeout: float | timedelta | None = None) -> Any:
        """Wait for the result, and return it.

        Args:
            timeout: how long at most, in seconds; None and ``inf`` are for ever.

        Raises:
            CallTimeout: the time was over first; the job goes on.
            JobFailed: it is a dead letter; what its last attempt raised is the ``__cause__``.
            JobCancelled: it has no result and will have none: it was cancelled, replaced, dropped or discarded, has
                expired, or was left or interrupted by the end of its queue.
            TypeError: ``timeout`` is no duration.
            ValueError: ``timeout`` is negative or ``nan``.
        """
        error = self.exception(timeout)
        if error is not None:
            raise error
        return self.value

    def exception(self, timeout: float | timedelta | None = None) -> JobFailed | JobCancelled | None:
        """Wait until it is done, and return what ``result()`` would raise, or None where there is a result.

        Args:
            timeout: how long at most, in seconds; None and ``inf`` are for ever.

        Raises:
            CallTimeout: the time was over first; the job goes on.
            TypeError: ``timeout`` is no duration.
            ValueError: ``timeout`` is negative or ``nan``.
        """
        seconds = _arguments.timeout(timeout)
        if not self._wait(seconds):
            raise CallTimeout(f"job {self.id} ({self.name!r})", seconds or 0.0)
        state = self.state
        if state is COMPLETED:
            return None
        if state is FAILED:
            failure = JobFailed(self.id, self.name, f"failed after {self.attempts} attempt(s)")
            failure.__cause__ = self.errors[-1].error
            return failure
        return JobCancelled(self.id, self.name, (self.why if state in FINISHED else "") or self._lost or str(state))

    def cancel(self) -> bool:
        """Cancel it; see ``WorkQueue.cancel()``."""
        return self._queue.cancel(self.id)

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the result on an event loop, without a thread; what ``result()`` returns and raises."""
        return self._await().__await__()

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.name!r} {self.state}>"

    def _wait(self, seconds: float | None) -> bool:
        if self.done():
            return True
        clock = self._queue._clock
        return self._waiters().wait(clock, self.done, deadline_after(clock, seconds))

    async def _await(self) -> Any:
        if self.done():  # else nobody would take its waiters out again
            return self.result(0)
        import asyncio

        gate = cast("Gate", _LoopGate(asyncio.get_running_loop()))  # waiters do nothing with a gate but open it
        waiters = self._waiters()
        waiters.enter(gate)
        try:
            if not self.done():
                await gate.opened  # type: ignore[attr-defined]  # it is a _LoopGate
        finally:
            waiters.leave(gate)
        return self.result(0)

    def _waiters(self) -> Waiters:
        # Who ends the job makes it done first and takes its waiters out then; so whoever comes too late for that
        # sees that it is done. dict.setdefault and dict.pop are atomic, and jobs compare by identity.
        return self._queue._audience.setdefault(self, Waiters())


class _LoopGate:
    """A gate at which a coroutine waits; anybody may open it from any thread."""

    def __init__(self, loop: Any) -> None:
        self.opened = loop.create_future()
        self._loop = loop

    def release(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits any more
            self._loop.call_soon_threadsafe(self._open)

    def _open(self) -> None:
        if not self.opened.done():
            self.opened.set_result(None)


class JobContext:
    """What a handler may know about the attempt that it makes. It gets one if it has a second parameter.

    Attributes:
        job_id: the job's id.
        headers: what was submitted with the job beside its payload.
        attempt: the number of the attempt; the first is 1.
        token: set when the job is cancelled, its time-out is over or its queue stops.
        deadline: when its time-out is over, in seconds of the clock's ``monotonic()``; None without a time-out.

    Example:
        >>> from threadkit import JobContext, WorkQueue
        >>> with WorkQueue(workers=1) as queue:
        ...     @queue.handler
        ...     def count(payload: int, ctx: JobContext) -> int:
        ...         for done in range(payload):
        ...             ctx.token.raise_if_set()
        ...             ctx.set_progress(done / payload, f"{done} of {payload}")
        ...         return ctx.attempt
        ...     job = queue.submit(count, 4)
        ...     print(job.result(timeout=5), job.progress, job.progress.message)
        1 0.75 3 of 4
    """

    __slots__ = ("_job", "attempt", "deadline", "headers", "job_id", "token")

    def __init__(self, job: Job, deadline: float | None) -> None:
        self._job = job
        self.job_id: str = job.id
        self.headers: Mapping[str, str] = job.headers
        self.attempt: int = job.attempts
        self.deadline: float | None = deadline
        queue = job._queue
        timeout = None if deadline is None else max(0.0, deadline - queue._clock.monotonic())
        self.token: StopToken = queue._token.child(job.id, timeout)

    @property
    def is_stopping(self) -> bool:
        """True once the attempt should come to its end: the queue stops, the job is cancelled, or its time is over."""
        return self.token.is_set()

    @property
    def meta(self) -> dict[str, Any]:
        """The job's own notes, which outlast the attempt: what ``job.meta`` shows."""
        return self._job.meta

    def set_progress(self, fraction: float, message: str = "") -> None:
        """Say how far the job is; what ``job.progress`` shows.

        Args:
            fraction: from 0 to 1.
            message: a few words.

        Raises:
            TypeError: ``fraction`` is no number.
            ValueError: ``fraction`` is ``nan`` or not from 0 to 1.
        """
        if isinstance(fraction, bool) or not isinstance(fraction, (int, float)):
            raise TypeError(f"fraction must be a number, not {fraction!r}")
        if math.isnan(fraction) or not 0 <= fraction <= 1:
            raise ValueError(f"fraction must be from 0 to 1, but is {fraction!r}")
        if self._job._context is self:  # else the attempt was given up, and this is none of its business
            self._job.progress = Progress(fraction, message)


def current_job() -> JobContext | None:
    """Return the context of the job that this thread or coroutine is running; None elsewhere.

    Example:
        >>> current_job() is None
        True
    """
    job = _current.get()
    return None if job is None else context_of(job)


def context_of(job: Job) -> JobContext:
    """Return the context of the attempt that a job makes; it is made when it is first asked for."""
    with _making:
        context = job._context
        if context is None:
            context = JobContext(job, job._queue._deadline_of(job))
            context = job._context = job._context or context
    if job.fate is not None:  # condemned before there was a token to set
        context.token.set(job.why)
    return context


def running_job() -> Job | None:
    """Return the job that this thread or coroutine is running; None elsewhere."""
    return _current.get()
