"""``Dispatcher``: how the jobs of a queue run, and how the queue begins and ends.

The thread that moved a job to RUNNING owns it until it has settled it. A cancel, or the end of the queue, may condemn
it meanwhile: its handler is then told by its token, and what the handler returns or raises does not matter any more.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Literal, cast

from threadkit import _arguments
from threadkit._clock import Clock
from threadkit._component import ComponentState
from threadkit._coroutines import Loop
from threadkit._crew import Crew
from threadkit._handlers import Caller, Handler
from threadkit._job import Job, _current, context_of
from threadkit._keep import Bound
from threadkit._meter import Meters
from threadkit._observe import Counters
from threadkit._override import override
from threadkit._overtime import Attempt, Overtime
from threadkit._records import (
    CANCELLED,
    COMPLETED,
    DISCARDED,
    FAILED,
    FINISHED,
    PENDING,
    RETRYING,
    RUNNING,
    SCHEDULED,
    UNFINISHED,
    JobRecord,
    JobState,
    let_go,
)
from threadkit._retrying import delay_after, note_failure
from threadkit._storing import JobStore
from threadkit._verdicts import Discard, Snooze, Stopping
from threadkit._waitlist import Waitlist
from threadkit.backoff import Retry
from threadkit.events import JobInterrupted, JobRetried, JobStarted

_INTERRUPTED = "was interrupted by the end of its queue"
_LEFT = "was left waiting when its queue ended"


class Dispatcher(Waitlist):
    """The part of ``WorkQueue`` that runs jobs."""

    def __init__(
        self,
        name: str,
        *,
        workers: int,
        maxsize: float,
        store: JobStore,
        executor: Executor | None,
        loop: Loop | None,
        retry: Retry,
        keep: tuple[Bound[JobState], ...],
        on_stop: Literal["drain", "finish"],
        grace: float,
        most_abandoned: float,
        clock: Clock | None,
    ) -> None:
        self._workers = workers
        self._grace = grace
        self._most_abandoned = most_abandoned
        self._executor = executor
        self._loop = loop
        self._retry = retry
        self._finishes_only = on_stop == "finish"
        self._paused = False  # written by pause() and resume(); workers look at it before each job
        super().__init__(name, maxsize=maxsize, store=store, keep=keep, clock=clock)

    @override
    def _reset(self) -> None:
        super()._reset()
        self._counters = Counters("retries", "interrupted")
        self._meters = Meters()
        self._is_abandoned = False  # written once: what waits now will not be done
        self._crew = Crew(self._clock, self.name, self._work, self._conclude, self._bell.ring_all, self._most_abandoned)
        self._overtime = Overtime(
            self._clock, self._timer, self.name, self._grace, self._crew, self._book, self._emit, self._clerk.do
        )
        self._ending = threading.Lock()  # whoever ends the queue takes it, and never gives it back

    def _work(self, is_surplus: Callable[[], bool]) -> None:
        """Run jobs until there is nothing more to do for this thread."""
        caller = self._new_caller(threading.current_thread())
        try:
            self._rescue_all()
            has_waited = False
            while not (caller.is_abandoned or (self._crew.shrinks and is_surplus())):
                job = self._begin_next()
                if job is not None:
                    if has_waited and self._store.has_ready():
                        self._bell.ring()  # the ring for that may have been spent on this thread
                    has_waited = False
                    try:
                        self._run(job, caller)
                    except BaseException as error:
                        self._adrift.append((job, error))
                        raise
                    del job
                elif self._closing:
                    return
                else:
                    _current.set(None)  # a thread that waits keeps nothing alive
                    self._store.unclaim()  # nor a job from others
                    self._bell.wait(self._is_called)
                    has_waited = True
        finally:
            self._store.unclaim()
            if self._store.has_ready():
                self._bell.ring()  # this thread may have had a ring, or a job, that is another's now
            caller.close()

    def _new_caller(self, worker: threading.Thread | None = None) -> Caller:
        start = None if self._loop is None else self._loop.submit
        return Caller(self._clock, self._executor, start, self._meters.new(), worker)

    def _is_called(self) -> bool:
        return self._closing or self._crew.shrinks or (self._may_begin() and self._store.has_ready())

    def _begin_next(self) -> Job | None:
        """Take the next job that may run, and make it a running one."""
        while self._may_begin():
            record = self._store.claim()
            if record is None:
                break
            handler = record.handler
            if handler.func is None:
                self._shelve(record, handler)
                continue
            if handler.limits is not None and not self._admit(record, handler, handler.limits):
                continue
            if record.expires_at is not None and record.expires_at <= self._clock.monotonic():
                self._expire(record)  # the timer is late; that it is not pending any more will be seen below
            if self._store.move(record, PENDING, RUNNING):
                return record  # type: ignore[return-value]  # a queue's records are jobs; cast() is a call
            self._hand_over(record)
        self._drains.wake_all()  # the line was left to this thread; see _wake_drains()
        return None

    @override
    def _may_begin(self) -> bool:
        return not (self._paused or self._crew.is_short or (self._closing and self._finishes_only))

    def _run(self, job: Job, caller: Caller) -> None:
        """Make one attempt of a job that has just become a running one."""
        self._permits.give()
        if job.entries:
            self._times.forget(job)
        job.expires_at = None  # it has begun in time
        job._context = None
        job.attempts += 1
        job.begun = self._clock.monotonic()
        job.started = self._stamps.at(job.begun)
        meter, started = caller.meter, job.started
        meter.since = job.begun
        waited = started - job.created if job.due is None else job.begun - job.due
        handler: Handler = job.handler
        _current.set(job)
        if self._observers.is_heard():
            self._emit(JobStarted(component=self.name, job_id=job.id, handler=job.name, attempt=job.attempts))
        attempt = None
        deadline = None if job.timeout is None and handler.timeout is None else self._deadline_of(job)
        if deadline is not None and caller.worker is not None:
            attempt = self._overtime.begin(job, caller.worker, deadline, waited)
        value: Any = None
        failure: BaseException | None = None
        try:
            arguments = (job.payload, context_of(job)) if handler.wants_context else (job.payload,)
            value = caller.call(handler, arguments)
        except BaseException as error:  # the border of user code: whatever it is, it is an outcome
            # Without this very frame, which would keep itself alive by its own traceback.
            failure = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
        if attempt is not None and not self._overtime.end(attempt):
            caller.is_abandoned = True  # the job is booked, and may even run again: from here on it is not ours
            return
        job.value = value
        if deadline is not None and not isinstance(failure, Discard):
            failure = self._overtime.lateness(job, failure, deadline) or failure
        if failure is None and (self._shared is None or self._is_kept(job)):
            self._settle(job, COMPLETED, None)
        elif failure is not None:
            job.value = None
            self._judge(job, failure)
        meter.add(waited, (job.finished or self._stamps.now()) - started)

    def _is_kept(self, job: Job) -> bool:
        """Look whether the result can be kept; where it cannot the job has failed, and would again."""
        try:
            self._store.check(job)
        except Exception as error:  # the border of user code: a codec
            failure = TypeError(f"the result cannot be kept: {error}")
            failure.__cause__ = error
            job.value = None
            note_failure(job, failure, self._clock)
            self._settle(job, FAILED, failure)
            return False
        return True

    @override
    def _rescue(self, job: Job, error: BaseException) -> None:
        """Bring a job to its end that something else than its handler broke: an interrupt between two steps of ours."""
        if job.state is RUNNING:
            if not job.errors or job.errors[-1].error is not error:
                note_failure(job, error, self._clock)
            self._settle(job, FAILED, error)

    def _book(self, attempt: Attempt, late: TimeoutError) -> None:
        """An attempt has been given up, and its worker will not say how it ended."""
        self._meters.add(attempt.waited, self._clock.monotonic() - attempt.job.begun)
        self._judge(attempt.job, late)

    def _judge(self, job: Job, failure: BaseException) -> None:
        """Decide what follows from what an attempt raised."""
        if isinstance(failure, Discard):
            self._settle(job, DISCARDED, None, f"was {failure}")
            return
        if isinstance(failure, Stopping) and self._token.is_set():
            self._interrupt(job)
        if job.fate is not None:  # where it goes is decided, whatever it raised
            self._settle(job, FAILED, failure)
            return
        try:
            if isinstance(failure, Snooze):
                job.delay = _arguments.seconds(failure.delay, "delay")
                job.attempts -= 1  # a snooze spends none
                self._settle(job, SCHEDULED, failure)
                return
            delay = delay_after(job, failure, self._retry_of(job), self._clock)
        except Exception as error:  # a backoff, or a delay, of the user's that makes no sense
            error.__context__ = failure
            failure, delay = error, None
        let_go(failure)
        note_failure(job, failure, self._clock)
        if delay is None:
            self._settle(job, FAILED, failure)
        else:
            job.delay = delay
            self._settle(job, RETRYING, failure)

    def _settle(self, job: Job, after: JobState, failure: BaseException | None, why: str = "") -> None:
        """Move a job on after an attempt, and do what belongs to that step."""
        if after is RETRYING or after is SCHEDULED:
            job.due = self._clock.monotonic() + job.delay
        after = self._store.settle(job, after, self._stamps.now(), why)
        if job.passed:
            self._hand_over(job)
        if after in FINISHED:
            self._tell_ended(job, failure)
        elif after is not PENDING:  # that is where an interrupted one goes, and stays
            self._schedule_next(job, after, failure)
        else:
            self._wake(job)

    def _schedule_next(self, job: Job, after: JobState, failure: BaseException | None) -> None:
        self._counters.add("retries")
        self._permits.owe()
        with contextlib.suppress(RuntimeError):  # no thread is to be had: the process is ending, and the job is left
            self._times.note(job)
        if job.state is CANCELLED:  # this very moment, before there was a call to forget
            self._times.forget(job)
        self._wake_drains()  # some do not wait for scheduled jobs
        assert failure is not None  # noqa: S101 - for the type checkers
        name, attempt = self.name, job.attempts + (after is SCHEDULED)
        self._emit(
            JobRetried(component=name, job_id=job.id, handler=job.name, attempt=attempt, error=failure, delay=job.delay)
        )

    def _retry_of(self, record: JobRecord) -> Retry:
        retry: Retry = record.retry or record.handler.retry or self._retry
        return retry

    def _deadline_of(self, record: JobRecord) -> float | None:
        timeout: float | None = record.timeout if record.timeout is not None else record.handler.timeout
        return None if timeout is None else record.begun + timeout

    def _cancel(self, record: JobRecord, why: str) -> bool:
        """Cancel a job that waits, or condemn one that runs; return whether it ends as cancelled."""
        while not self._withdraw(record, CANCELLED, why):
            if self._store.condemn(record, CANCELLED, why):
                self._tell_condemned(record)
                return True
            if record.fate is not None or record.state in FINISHED:
                return CANCELLED in {record.fate, record.state}
        return True

    def _revive(self, job: Job) -> bool:
        """Make a dead letter a pending job again."""
        if not self._store.revive(job):
            return False
        self._permits.owe()
        self._offer(job)
        return True

    def _interrupt(self, job: Job) -> None:
        """Take a running job away from its handler, since the time of the queue is over. No attempt is spent."""
        attempt = job.attempts
        if self._overtime.interrupt(job) and self._store.condemn(job, PENDING, _INTERRUPTED):
            job._lost = _INTERRUPTED
            self._counters.add("interrupted")
            self._wake(job)
            self._emit(JobInterrupted(component=self.name, job_id=job.id, handler=job.name, attempt=attempt))

    @override
    def _launch(self) -> None:
        self._times.open()
        try:
            if self._shared is not None:
                self._shared.listen()
            self._crew.resize(self._workers)
        except BaseException:
            self.stop("it could not start")
            raise
        self._token.on_stop(self._on_stopped)

    def _resize(self, workers: int) -> None:
        """Change the number of workers; before the start, of those there will be."""
        self._refuse_closed()
        self._workers = workers
        if self._state is not ComponentState.NEW:
            self._crew.resize(workers)
            self._bell.ring_all()  # who is too many sees it

    @override
    def _on_stop_asked(self) -> None:
        self._closing = True
        self._bell.ring_all()
        self._permits.wake_all()
        if self._state is ComponentState.NEW:
            self._abandon()

    def _on_stopped(self) -> None:
        """On the stopper thread: what needs a lock, and what no worker does where there is none."""
        self._on_stop_asked()
        if self._crew.is_empty():
            self._conclude()

    def _conclude(self) -> None:
        """The last worker has gone. If that is because of a stop, this is the end."""
        if self._closing:
            self._timer.close()
            self._timer.join(None)
            if self._clerk.close():
                self._conclude_all()

    @override
    def _conclude_all(self) -> None:
        """All threads have ended, but for this: the last worker, the clerk or, where there were none, the stopper.

        More than one of them may get here. A second _end() would let join() return while the first still tells
        everybody.
        """
        if self._ending.acquire(blocking=False):
            self._abandon()
            self._store.close()
            self._end()

    def _abandon(self) -> None:
        """Let nobody wait for what will not be done. Lock-free."""
        self._is_abandoned = True
        for record in self._store.in_hand():
            self._leave(record)
        self._drains.wake_all()

    def _leave(self, record: JobRecord) -> None:
        """Let nobody wait for this job."""
        job = cast("Job", record)
        if record.state in UNFINISHED and not job._lost:
            job._lost = _LEFT
            self._wake(job)

    def close(self) -> None:
        """Interrupt what still runs: the time of the queue is over. A lifecycle calls it; so does ``with``.

        No attempt is spent on what is interrupted, and it is not recorded as failed or cancelled. Whoever waits for
        it, or for a job that was left waiting, is told by a ``JobCancelled``.
        """
        if self._closing:
            self._finishes_only = True
            for record in self._store.in_hand():
                if record.state is RUNNING and (self._shared is None or self._shared.runs_here(record)):
                    self._interrupt(cast("Job", record))
            self._abandon()
            self._store.close()
