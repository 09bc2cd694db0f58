"""``Waitlist``: where the jobs of a queue wait, and how they end.

Who may do what to a job is decided by the store: its state changes by ``move()`` and ``settle()``, which grant each
step to one of all that want it. Whoever was granted a step owns the job until the next, and does what belongs to it.

Where a waiting job is: with the timer (SCHEDULED, RETRYING); in the store's line, held by a limit of its handler, or
on the shelf of a handler that is only declared (PENDING). Whoever withdraws it takes it out there; whoever finds a job
there that has moved on meanwhile drops it.

Two orders keep a job from being left behind at a stop: ``submit`` puts it into the line and looks at ``_closing`` then;
a worker looks at ``_closing`` and finds the line empty then, before it leaves.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, ClassVar, cast

from threadkit import _fork
from threadkit._clerk import Clerk
from threadkit._clock import Clock
from threadkit._component import BaseComponent, Phase
from threadkit._errors import Closed, StoreError, WouldBlock
from threadkit._handlers import Handler, Handlers
from threadkit._job import Job, running_job
from threadkit._jobtimes import Alarm, Calendar, Times
from threadkit._keep import Bound
from threadkit._limits import Concurrency, Limit, Limits, Rate, Ticket
from threadkit._observe import logger
from threadkit._override import override
from threadkit._quotas import By, PerKey
from threadkit._records import (
    CANCELLED,
    COMPLETED,
    EXPIRED,
    FAILED,
    FINISHED,
    PENDING,
    RETRYING,
    RUNNING,
    SCHEDULED,
    UNKNOWN,
    JobRecord,
    JobState,
)
from threadkit._stamps import Stamps
from threadkit._storing import DurableStore, Host, JobStore
from threadkit._timer import Timer
from threadkit._waiting import Bell, Waiters
from threadkit.events import Event, JobCompleted, JobDied, JobEnded, StoreFailed, StoreRecovered
from threadkit.health import Health, Status

Quota = PerKey[int] | int | PerKey[tuple[int, float]] | tuple[int, float]
Emit = Callable[[Event], object]


class Waitlist(BaseComponent):
    """The part of ``WorkQueue`` that knows where each waiting job is."""

    kind: ClassVar[str] = "queue"
    default_phase: ClassVar[int] = Phase.WORK

    def __init__(
        self, name: str, *, maxsize: float, store: JobStore, keep: tuple[Bound[JobState], ...], clock: Clock | None
    ) -> None:
        self._maxsize = maxsize
        self._store = store
        # What keeps the times of jobs itself, and may be shared with other processes.
        self._shared = cast("DurableStore", store) if store.durable else None
        self._keep = keep
        self._handlers = Handlers()
        self._is_open = False
        super().__init__(name, clock)

    @override
    def health(self) -> Health:
        """Return how well the queue is: degraded while its store cannot do its work."""
        health, trouble = super().health(), self._trouble
        if health.status is not Status.READY or trouble is None:
            return health
        return Health(Status.DEGRADED, f"the store cannot do its work, and tries again: {trouble}")

    @override
    def _reset(self) -> None:
        forked = self._is_open and self._generation != _fork.generation()
        before = self._clock.monotonic() if self._is_open else 0.0
        super()._reset()
        self._timer = Timer(self._clock, f"{self.name}-timer", lingers=True)
        self._clerk = Clerk(self._clock, f"{self.name}-clerk", self._emit, self._conclude_all)
        if forked:
            for record in self._store.in_hand():
                cast("Job", record)._lost = "belongs to the parent process"
            self._handlers = self._handlers.copy()
        if forked or not self._is_open:
            self._trouble: Exception | None = None  # why the store cannot do its work at present
            self._store.open(self._keep, self._new_host())
            self._is_open = True
            self._times: Times = self._new_times()
            self._audience: dict[Job, Waiters] = {}  # who waits for a job; see Job._waiters()
        else:  # it was adopted before its start, and has a new clock
            shift = self._clock.monotonic() - before
            self._times = self._times.moved(self._clock, self._timer, shift)
            for record in self._store.in_hand():
                if record.expires_at is not None:
                    record.expires_at += shift
        self._closing = False  # written once, by stop()
        self._drains = Waiters()  # who waits for the last job
        self._adrift: deque[tuple[Job, BaseException]] = deque()  # jobs that run nowhere: their workers were hit
        self._bell = Bell(self._clock)  # where workers wait for jobs
        self._permits = self._store.room(self._clock, self._maxsize)  # one for each job that waits
        self._stamps = Stamps(self._clock)
        for handler in self._handlers.all():
            self._set_limits(handler)
        self._serve()

    def _refuse_closed(self) -> None:
        if self._closing:
            raise Closed(self.kind, self.name)

    def _refuse_own_job(self, call: str) -> None:
        job = running_job()
        if job is not None and cast("object", job._queue) is self:
            raise WouldBlock(call, "a job of its own queue", "another queue or thread")

    # -- what the store tells -----------------------------------------------------------------------------------------

    def _new_host(self) -> Host:
        return Host(
            clock=lambda: self._clock,
            restore=self._restore,
            may_begin=self._may_begin,
            idle=lambda: self._bell.idle(),  # noqa: PLW0108 - there are new ones when the queue is adopted
            tend_within=lambda seconds: self._times.look_within(seconds),  # noqa: PLW0108
            news=self._on_news,
            trouble=self._on_trouble,
            line_up=self._line_up,
        )

    def _new_times(self) -> Times:
        alarm = Alarm(self._clock, self._timer, self._tend)
        if self._shared is not None:
            return alarm
        forgets = any(bound.keep.age is not None for bound in self._keep)
        return Calendar(self._timer, self._promote, self._expire, alarm if forgets else None)

    @abstractmethod
    def _may_begin(self) -> bool:
        """Return whether a worker may begin a job."""

    def _serve(self) -> None:
        """Tell the store which handlers there are."""
        able = [handler for handler in self._handlers.all() if handler.func is not None]
        self._store.serve(
            frozenset(handler.name for handler in able if handler.limits is None),
            frozenset(handler.name for handler in able if handler.limits is not None),
        )

    def _line_up(self, name: str) -> Ticket | None:
        limits = self._handlers.meet(name).limits
        return None if limits is None else limits.line_up()

    def _restore(self, job_id: str, number: int, name: str, payload: Any, created: float) -> JobRecord:
        """Make a job that comes out of the store."""
        job = Job(self, job_id, number, name, payload, created)  # type: ignore[arg-type]  # the parts together are one
        job.handler = self._handlers.meet(name)
        return job

    def _on_news(self) -> None:
        """Look at what another process has changed: it may concern whoever waits here."""
        try:
            for record in cast("DurableStore", self._shared).condemned():
                self._tell_condemned(record)
            for job in self._audience.copy():
                if self._has_ended(job):
                    self._wake(job)
        except StoreError as error:  # the next look will tell
            logger.warning("queue %r could not hear of other processes: %s", self.name, error)
        self._permits.wake_all()
        self._drains.wake_all()
        self._bell.ring()

    def _tell_condemned(self, record: JobRecord) -> None:
        """Tell the handler of a running job, if it runs here, that where this goes is decided."""
        context = cast("Job", record)._context  # if it is made this very moment, its maker sees the fate
        if context is not None:
            context.token.set(record.why)

    def _on_trouble(self, error: Exception | None) -> None:
        self._trouble = error
        name = self.name
        self._clerk.tell(StoreRecovered(component=name) if error is None else StoreFailed(component=name, error=error))

    def _tend(self) -> float:
        """Have the store do what is due. The alarm's callback."""
        ended, moment = self._store.tend()
        for record in ended:
            failure = record.errors[-1].error if record.state is FAILED else None
            self._see_off(record, failure, self._clerk.tell)
        if self._shared is not None:
            self._on_news()
        return moment

    def _has_ended(self, job: Job) -> bool:
        """Look at a job that has not ended as far as this process knows."""
        shared = self._shared
        if shared is None or self._generation != _fork.generation() or shared.runs_here(job):
            return False
        shared.refresh(job)
        return job.state in FINISHED or bool(job._lost)

    # -- where jobs wait ----------------------------------------------------------------------------------------------

    def _offer(self, record: JobRecord, *, front: bool = False) -> None:
        """Let a pending job be run as soon as may be."""
        self._store.push(record, front=front)
        self._bell.ring()

    def _shelve(self, record: JobRecord, handler: Handler) -> None:
        """Put a job aside until there is a function for it."""
        self._hand_over(record)
        handler.shelf.append(record)
        if handler.func is not None:  # it has come this very moment
            self._clear_shelf(handler)

    def _clear_shelf(self, handler: Handler) -> None:
        """Offer the jobs that waited for this function."""
        while handler.shelf:
            try:
                record = handler.shelf.popleft()
            except IndexError:  # somebody else has just taken the last one
                return
            self._offer(record)

    def _admit(self, record: JobRecord, handler: Handler, limits: Limits) -> bool:
        """Let a job pass the limits of its handler; False: it is held."""
        try:
            if record.keys is UNKNOWN:  # it came before the function did, or out of a file
                record.keys = handler.keys_of(record.payload)
        except Exception:  # the border of user code
            logger.exception("the keys of job %s are unknown to %r, and it runs without", record.id, handler.name)
            record.keys = (None,) * len(handler.axes)
        return limits.admit(record)

    def _promote(self, record: JobRecord) -> None:
        """The time of a job has come. The timer's callback."""
        if not self._closing and (
            self._store.move(record, SCHEDULED, PENDING) or self._store.move(record, RETRYING, PENDING)
        ):
            self._offer(record)

    def _expire(self, record: JobRecord) -> None:
        """It is too late for a job, if it still waits for its first attempt. The timer's callback."""
        if record.expires_at is not None:
            self._withdraw(record, EXPIRED, "has expired: nobody began it in time", self._clerk.tell)

    def _drop(self, record: JobRecord) -> None:
        """End a job that was taken out of the line, since there is no room for it."""
        if self._store.move(record, PENDING, CANCELLED, self._stamps.now(), "was dropped: full"):
            self._times.forget(record)
            self._permits.give()
            self._tell_ended(record)
        self._hand_over(record)
        self._wake_drains()

    def _withdraw(self, record: JobRecord, after: JobState, why: str, emit: Emit | None = None) -> bool:
        """End a job that waits; return False where it runs or has finished."""
        while True:
            before = record.state
            if before is RUNNING or before in FINISHED:
                return False
            if self._store.move(record, before, after, self._stamps.now(), why):
                self._see_off(record, None, emit)
                return True

    def _see_off(self, record: JobRecord, failure: BaseException | None = None, emit: Emit | None = None) -> None:
        """Take a job that has come to its end out of where it waited, and tell of it."""
        self._times.forget(record)
        limits = record.handler.limits
        if self._store.pull(record) or (limits is not None and limits.discard(record)):
            self._hand_over(record)
        else:  # or a worker has it in hand, and will see
            with contextlib.suppress(ValueError):
                record.handler.shelf.remove(record)
        self._permits.give()
        self._tell_ended(record, failure, emit)

    def _set_limits(self, handler: Handler) -> None:
        """Make the limits of a handler: one at a time first, then those of each key, then those of all its jobs."""
        axes: list[By] = []

        def axis(limit: Quota) -> int | None:
            if not isinstance(limit, PerKey):
                return None
            axes.append(limit.by)
            return len(axes) - 1

        def made(limit: Quota) -> Limit:
            value = limit.limit if isinstance(limit, PerKey) else limit
            if isinstance(value, int):
                return Concurrency(value, axis(limit))
            return Rate(self._clock, *value, self._wake_rate, self._release_rated, axis(limit))

        serial = [] if handler.serial_by is None else [PerKey(1, handler.serial_by)]
        wanted: list[Quota] = [*serial, *handler.concurrency, *handler.rate]
        wanted.sort(key=lambda limit: not isinstance(limit, PerKey))  # which leaves the rest in order
        limits = tuple(made(limit) for limit in wanted)
        handler.axes = tuple(axes)
        handler.limits = Limits(limits, self._release_passed, in_order=bool(serial)) if limits else None

    def _wake_rate(self, due: float, callback: Callable[[Any], None], key: Hashable) -> None:
        with contextlib.suppress(RuntimeError):  # no thread is to be had: the process is ending
            self._timer.at(due, callback, key)

    def _release_rated(self, record: JobRecord) -> None:
        record.passed += 1
        self._offer(record, front=True)

    def _release_passed(self, record: JobRecord) -> None:
        self._offer(record, front=True)

    def _hand_over(self, record: JobRecord) -> None:
        """Let others have the places that a job took in its handler's limits, and its place on the way there."""
        ticket, record.ticket = record.ticket, None
        if ticket is not None:
            ticket.arrive(None)
        if record.passed:
            for successor in record.handler.limits.release(record):
                self._offer(successor, front=True)

    @abstractmethod
    def _rescue(self, job: Job, error: BaseException) -> None:
        """Bring a job to its end that something else than its handler broke."""

    def _rescue_all(self) -> None:
        """Rescue what this worker, or another one, was hit with."""
        while self._adrift:
            try:
                job, error = self._adrift.popleft()
            except IndexError:  # somebody else has just taken the last one
                return
            try:
                self._rescue(job, error)
            except BaseException:
                self._adrift.appendleft((job, error))  # the crew calls again, at most once a second
                raise

    # -- how jobs end -------------------------------------------------------------------------------------------------

    def _tell_ended(self, record: JobRecord, failure: BaseException | None = None, emit: Emit | None = None) -> None:
        """A job has finished: tell who waits for it, and who listens, in this thread if nothing else is said."""
        self._wake(record)
        state = record.state
        if state is COMPLETED and not self._observers.is_heard():
            return
        emit = emit or self._emit
        job_id, name, attempt = record.id, record.name, record.attempts
        if state is COMPLETED:
            seconds = self._clock.monotonic() - record.begun
            emit(JobCompleted(component=self.name, job_id=job_id, handler=name, attempt=attempt, seconds=seconds))
        elif failure is not None and state is FAILED:
            emit(JobDied(component=self.name, job_id=job_id, handler=name, attempt=attempt, error=failure))
        else:
            emit(
                JobEnded(
                    component=self.name,
                    job_id=job_id,
                    handler=name,
                    attempt=attempt,
                    state=str(state),
                    reason=record.why,
                )
            )

    @abstractmethod
    def _conclude_all(self) -> None:
        """All threads of the queue have ended, but for this."""

    def _wake(self, record: JobRecord) -> None:
        """Wake who waits for this job, and who waits for the last one."""
        if self._audience:
            waiters = self._audience.pop(cast("Job", record), None)
            if waiters is not None:
                waiters.wake_all()
        if self._drains._gates:
            self._wake_drains()

    def _wake_drains(self) -> None:
        """Wake who waits for the last job, unless something is in the line: whoever takes that out sees to it."""
        if not self._store.has_ready():
            self._drains.wake_all()
