"""``WorkQueue``: jobs by the name of their handler, done by threads of its own, with nothing lost from sight."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from concurrent.futures import Executor
from datetime import datetime, timedelta
from types import TracebackType
from typing import Literal, cast

from threadkit import _arguments
from threadkit._calling import is_on_event_loop
from threadkit._clock import Clock, deadline_after
from threadkit._coroutines import Loop, checked
from threadkit._dispatcher import Dispatcher
from threadkit._errors import DuplicateName, WouldBlock
from threadkit._handlers import retry_of
from threadkit._intake import OnFull
from threadkit._job import Job
from threadkit._keep import Keep, bounds_of
from threadkit._memory import MemoryStore
from threadkit._override import override
from threadkit._reception import Reception
from threadkit._records import FAILED, FINISHED, PENDING, SCHEDULED, UNFINISHED, JobFilter, JobState, QueueStats
from threadkit._roster import Roster
from threadkit._storing import JobStore
from threadkit.backoff import Retry
from threadkit.health import Health, Status

KeepRules = int | Keep | Mapping[str, int | Keep] | Mapping[JobState, int | Keep]
_RETRY = Retry()


class WorkQueue(Dispatcher, Reception, Roster):
    """A job queue inside the process: handlers by name, retries, delays, priorities, limits, dead letters.

    Jobs are kept in memory, or in a file by a ``stores.SQLiteStore``. Nothing is lost from sight: each job has a
    record, and at every moment the jobs submitted are the sum over the nine states of ``JobState``.

    Stopping: a stopped queue takes nothing new. With ``on_stop="drain"`` it does what is ready and what runs, with
    ``"finish"`` only what runs; jobs that wait for their time are left, and ``work_left()`` counts them. What still
    runs when its time is over is interrupted: no attempt is spent. Nobody is left waiting: ``result()`` of whatever is
    left raises ``JobCancelled``.

    Args:
        name: its name, and that of its threads.
        workers: how many threads run jobs. 0 is for a queue that only takes jobs in, until ``resize()``.
        maxsize: how many jobs may wait (scheduled, pending or retrying); those that run do not count. ``inf`` is no
            limit. Retries are never refused, so for a while there may be more.
        on_full: what ``submit()`` does when as many wait: ``"block"`` until one does not; ``"reject"`` by ``Full``;
            ``"drop_oldest"`` cancels the pending job that has waited longest; ``"caller_runs"`` has the submitting
            thread run the new job at once. Where nothing pends that could be dropped, or where the new job is delayed
            or its handler has limits and so cannot run at once, those two raise ``Full``.
        store: where jobs are kept; None is a ``stores.MemoryStore()``.
        executor: a ``concurrent.futures.Executor`` on which handlers run, as many at once as there are workers. None
            is the workers themselves. With processes, handlers, payloads and results must be picklable, and there is no
            context to ask for. A class of your own whose calls run on threads of this process says so by an attribute
            ``in_process``; then, as on a ``ThreadPoolExecutor``, ``current_job()`` is known there.
        loop: an ``EventLoopThread`` on which async handlers run, as many at once as there are workers. None is a loop
            of each worker's own. There as here a cancelled job is told by its token; the end of the loop cancels.
        retry: how often, and how soon, a job whose handler raises is tried again.
        grace: seconds for which a handler may go on after its time-out. Then its job is booked as timed out, and tried
            again as its retry says; its thread is abandoned and replaced: it goes on, but nobody waits for it, and
            what it comes to is dropped. ``inf`` waits for ever. See ``handler()``.
        most_abandoned: how many abandoned threads are replaced. Where there are more, no job is begun until one of them
            ends, and ``health()`` says so.
        keep: how many finished jobs are remembered; older ones are forgotten, but still counted. A ``Keep`` says for
            how long as well, and a dict says it by state: ``{"completed": 1_000, "failed": Keep(5_000, age=86_400)}``.
            The states that it does not name have 10,000 in common.
        on_stop: what a stop finishes: ``"drain"`` or ``"finish"``; see above. None is ``"drain"`` for jobs in memory,
            ``"finish"`` for a durable store.
        clock: where time comes from; None inherits the lifecycle's.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: an argument is out of range.
        StoreError: the store is another queue's.

    Example:
        >>> with WorkQueue(workers=2) as queue:
        ...     @queue.handler
        ...     def greet(name):
        ...         return f"hello {name}"
        ...     job = queue.submit("greet", "Ada")
        ...     print(job.result(timeout=5))
        hello Ada
        >>> queue.stats().completed
        1
    """

    def __init__(
        self,
        name: str = "jobs",
        *,
        workers: int = 4,
        maxsize: float = 10_000,
        on_full: OnFull = "block",
        store: JobStore | None = None,
        executor: Executor | None = None,
        loop: Loop | None = None,
        retry: Retry = _RETRY,
        grace: float | timedelta = 10.0,
        most_abandoned: float = 8,
        keep: KeepRules = 10_000,
        on_stop: Literal["drain", "finish"] | None = None,
        clock: Clock | None = None,
    ) -> None:
        store = store if store is not None else MemoryStore()
        if executor is not None and not isinstance(executor, Executor):
            raise TypeError(f"executor must be a concurrent.futures.Executor, not {executor!r}")
        self._on_full: OnFull = _arguments.choice(on_full, "on_full", ("block", "reject", "drop_oldest", "caller_runs"))
        if on_stop is None:
            on_stop = "finish" if store.durable else "drain"
        super().__init__(
            name,
            workers=_arguments.count(workers, "workers", minimum=0),
            maxsize=_arguments.limit(maxsize, "maxsize"),
            store=store,
            executor=executor,
            loop=checked(loop),
            retry=retry_of(retry),
            grace=_arguments.seconds(grace, "grace", infinite=True),
            most_abandoned=_arguments.limit(most_abandoned, "most_abandoned", minimum=0),
            keep=bounds_of(cast("Mapping[JobState, int | Keep]", keep), FINISHED),
            on_stop=_arguments.choice(on_stop, "on_stop", ("drain", "finish")),
            clock=clock,
        )

    # -- looking at jobs ----------------------------------------------------------------------------------------------

    def get(self, job_id: str) -> Job | None:
        """Return a job by its id; None where there was none, or it has been forgotten."""
        self._refuse_forked()
        return cast("Job | None", self._store.get(job_id))

    def jobs(
        self,
        state: JobState | str | None = None,
        *,
        name: str | None = None,
        key: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> list[Job]:
        """Return the jobs that are remembered, in the order of their coming. What is None here does not matter.

        Args:
            state: only those in this state.
            name: only those of this handler.
            key: only those with this key, the finished ones too.
            since: only those submitted at this point in time or later; it is aware.
            until: only those submitted before.
            limit: at most so many, the first.

        Raises:
            TypeError: an argument is of the wrong kind.
            ValueError: there is no such state; or an argument is out of range.

        Example:
            >>> queue = WorkQueue(workers=0)
            >>> queue.declare("mail")
            >>> jobs = queue.submit_many("mail", ["ada", "grace", "edsger"])
            >>> [job.payload for job in queue.jobs("pending", name="mail", limit=2)]
            ['ada', 'grace']
        """
        self._refuse_forked()
        wanted = JobFilter(
            None if state is None else JobState(state),
            None if name is None else _arguments.text(name, "name"),
            None if key is None else _arguments.text(key, "key"),
            None if since is None else _arguments.instant(since, "since").timestamp(),
            None if until is None else _arguments.instant(until, "until").timestamp(),
        )
        most = None if limit is None else _arguments.count(limit, "limit", minimum=0)
        return cast("list[Job]", self._store.records(wanted, most))

    def dead_letters(self) -> list[Job]:
        """Return the jobs whose last attempt failed."""
        return self.jobs(FAILED)

    def position(self, job_id: str) -> int | None:
        """Return how many pending jobs come before this one: 0 is next. None where it is not pending.

        A limit of its handler may hold a job back longer, and one whose handler is only declared comes last. Linear in
        the number of jobs that are remembered.
        """
        job = self.get(job_id)
        if job is None or job.state is not PENDING:
            return None
        return self._store.position(job)

    def stats(self) -> QueueStats:
        """Return the figures, as of one moment: ``submitted`` is the sum over the nine states."""
        self._refuse_forked()
        counts = self._store.counts()
        return QueueStats(
            submitted=sum(counts.values()),
            **{str(state): count for state, count in counts.items()},
            **self._counters.snapshot(),
            **self._meters.snapshot(self._clock.monotonic()),
            workers=len(self._crew),
            abandoned=self._crew.abandoned(),
            paused=self._paused,
        )

    @override
    def health(self) -> Health:
        """Return how well the queue is: degraded while its store fails, and as long as there are abandoned threads."""
        health, abandoned = super().health(), self._crew.abandoned()
        if health.status is not Status.READY or not abandoned:
            return health
        begins = ", and no job is begun until one of them ends" if self._crew.is_short else ""
        return Health(Status.DEGRADED, f"{abandoned} abandoned thread(s) go on after their time-out{begins}")

    @override
    def work_left(self) -> int:
        """Return how many jobs have not finished."""
        counts = self._store.counts()
        return sum(counts[state] for state in UNFINISHED)

    @override
    def threads(self) -> list[threading.Thread]:
        """Return the threads that run jobs, and that of the clerk."""
        return [*self._crew.threads(), *self._clerk.threads()]

    # -- steering -----------------------------------------------------------------------------------------------------

    def cancel(self, job_id: str) -> bool:
        """Cancel a job.

        One that waits is CANCELLED at once. One that runs has its token set, and is CANCELLED as soon as its handler
        returns or raises, whatever that is.

        Returns:
            True where the job is, or will be, CANCELLED by this or an earlier call; False where it is unknown, or has
            come to another end.
        """
        job = self.get(job_id)
        return job is not None and self._cancel(job, "was cancelled")

    def replay(self, job_id: str) -> Job | None:
        """Have a dead letter tried again, as often as a new job. Its errors are kept.

        Returns:
            the job; None where no dead letter has this id.

        Raises:
            Closed: the queue has been stopped.
            DuplicateName: another unfinished job has its key by now.
        """
        self._refuse_forked()
        self._refuse_closed()
        job = self.get(job_id)
        return job if job is not None and self._revive(job) else None

    def replay_all(
        self, *, name: str | None = None, since: datetime | None = None, until: datetime | None = None
    ) -> list[Job]:
        """Have dead letters tried again: all, or those that ``jobs()`` would return for the same arguments.

        Returns:
            the jobs that are tried again. One whose key another unfinished job has by now stays a dead letter.

        Raises:
            Closed: the queue has been stopped.
            TypeError: an argument is of the wrong kind.
            ValueError: an argument is out of range.
        """
        replayed: list[Job] = []
        for letter in self.jobs(FAILED, name=name, since=since, until=until):
            with contextlib.suppress(DuplicateName):
                replayed += filter(None, [self.replay(letter.id)])
        return replayed

    def delete(self, job_id: str) -> bool:
        """Forget a finished job, a dead letter say, at once; it stays counted.

        Returns:
            False where it has not finished, or is unknown.
        """
        job = self.get(job_id)
        return job is not None and job.state in FINISHED and self._store.forget(job)

    def pause(self) -> None:
        """Begin no more jobs until ``resume()``. What runs goes on; new jobs are taken in.

        It is what other systems call *quiet*: the first half of a stop, from which there is a way back. To end what
        submits jobs, and to have the queue do those that are there, is ``Lifecycle.quiet()``.
        """
        self._refuse_forked()
        self._paused = True

    def resume(self) -> None:
        """Begin jobs again."""
        self._refuse_forked()
        self._paused = False
        self._bell.ring_all()

    def resize(self, workers: int) -> None:
        """Change the number of worker threads. Those that are too many end after their present job.

        Args:
            workers: how many.

        Raises:
            Closed: the queue has been stopped.
            TypeError: it is no whole number.
            ValueError: it is negative.
        """
        self._refuse_forked()
        self._resize(_arguments.count(workers, "workers", minimum=0))

    def run_next(self) -> Job | None:
        """Run the next job that may run, in this very thread: for tests, and for queues without workers.

        Returns:
            the job, after one attempt; None where none may run now.

        Raises:
            Closed: the queue has been stopped.
            WouldBlock: called on an event loop's thread.
        """
        self._refuse_forked()
        self._refuse_closed()
        if is_on_event_loop():
            raise WouldBlock("run_next()", "an event loop's thread", "await asyncio.to_thread(queue.run_next)")
        try:
            job = self._begin_next()
            if job is not None:
                self._run_in_this_thread(job)
        finally:
            self._store.unclaim()
        return job

    def run_due(self) -> list[Job]:
        """Run all jobs that may run now, and those that become so meanwhile, one after the other; see ``run_next()``.

        What is delayed, or waits for its next attempt, waits until its time has come.

        Returns:
            the jobs, one for each attempt.

        Raises:
            Closed, WouldBlock: as ``run_next()``.
        """
        return list(iter(self.run_next, None))

    def drain(self, timeout: float | timedelta | None = None, *, delayed: bool = True) -> bool:
        """Wait until nothing is left: no job is scheduled, pending, running or retrying.

        Args:
            timeout: how long at most, in seconds; None and ``inf`` are for ever.
            delayed: False does not wait for scheduled jobs.

        Returns:
            True when nothing is left; False when the time was over first, or the queue ended and left something.

        Raises:
            WouldBlock: called by a job of this queue, which would wait for itself.
            TypeError: ``timeout`` is no duration.
            ValueError: ``timeout`` is negative or ``nan``.
        """
        self._refuse_forked()
        deadline = deadline_after(self._clock, _arguments.timeout(timeout))
        self._refuse_own_job("drain()")
        unfinished = UNFINISHED if delayed else UNFINISHED - {SCHEDULED}

        def is_empty() -> bool:
            counts = self._store.counts()
            # A file counts a job as finished a moment before its handle here shows it.
            is_shown = self._shared is None or not any(map(self._shared.runs_here, self._store.in_hand()))
            return is_shown and not any(counts[state] for state in unfinished)

        while not self._drains.wait(self._clock, is_empty, deadline):
            if self._is_abandoned or (deadline is not None and self._clock.monotonic() >= deadline):
                return is_empty()
        return True

    @override
    def begin_exit(self) -> None:
        """The interpreter exits: finish what runs, and begin nothing more."""
        self._finishes_only = True
        super().begin_exit()

    @override
    def finish_exit(self, deadline: float) -> list[str]:
        """Wait for the end until a deadline of the system's clock, and interrupt what goes on then."""
        stuck = super().finish_exit(deadline)
        self.close()
        return stuck

    @override
    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(exc_type, exc, traceback)
        self.close()
