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
import threading
from collections.abc import Callable, Hashable
from typing import Any, ClassVar, cast

from threadkit import _fork
from threadkit._clock import Clock
from threadkit._component import BaseComponent, Phase
from threadkit._errors import Closed, WouldBlock
from threadkit._handlers import Handler, Handlers
from threadkit._job import Job, running_job
from threadkit._limits import Concurrency, Limit, Limits, Rate, Serial
from threadkit._observe import logger
from threadkit._override import override
from threadkit._permits import Permits
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
from threadkit._timer import Timer
from threadkit._waiting import Bell, Waiters
from threadkit.events import JobCompleted, JobDied, JobEnded
from threadkit.stores import JobStore


class Waitlist(BaseComponent):
    """The part of ``WorkQueue`` that knows where each waiting job is."""

    kind: ClassVar[str] = "queue"
    default_phase: ClassVar[int] = Phase.WORK

    def __init__(self, name: str, *, maxsize: float, store: JobStore, keep: int, clock: Clock | None) -> None:
        self._maxsize = maxsize
        self._store = store
        self._keep = keep
        self._handlers = Handlers()
        self._is_open = False
        super().__init__(name, clock)

    @override
    def _reset(self) -> None:
        forked = self._is_open and self._generation != _fork.generation()
        before = self._clock.monotonic() if self._is_open else 0.0
        super()._reset()
        if forked:
            for record in self._store.records():
                cast("Job", record)._lost = "belongs to the parent process"
            self._handlers = self._handlers.copy()
        if forked or not self._is_open:
            self._store.open(self._keep)
            self._is_open = True
            self._early: list[tuple[float, Callable[[Any], None], JobRecord]] | None = []
            self._early_lock = threading.RLock()  # guards _early: what waits for start(), when there is a timer
            self._audience: dict[Job, Waiters] = {}  # who waits for a job; see Job._waiters()
        else:  # it was adopted before its start, and has a new clock
            shift = self._clock.monotonic() - before
            self._early = [(due + shift, callback, record) for due, callback, record in self._early or ()]
            for record in self._store.records():
                if record.expires_at is not None:
                    record.expires_at += shift
        self._closing = False  # written once, by stop()
        self._drains = Waiters()  # who waits for the last job
        self._bell = Bell(self._clock)  # where workers wait for jobs
        self._permits = Permits(self._clock, self._maxsize)  # one for each job that waits
        self._stamps = Stamps(self._clock)
        self._timer = Timer(self._clock, f"{self.name}-timer", lingers=True)
        for record in self._store.records():
            if record.state not in FINISHED:
                self._owe_permit()
        for handler in self._handlers.all():
            self._set_limits(handler)

    def _refuse_closed(self) -> None:
        if self._closing:
            raise Closed(self.kind, self.name)

    def _refuse_own_job(self, call: str) -> None:
        job = running_job()
        if job is not None and cast("object", job._queue) is self:
            raise WouldBlock(call, "a job of its own queue", "another queue or thread")

    # -- where jobs wait ----------------------------------------------------------------------------------------------

    def _offer(self, record: JobRecord, *, front: bool = False) -> None:
        """Let a pending job be run as soon as may be."""
        self._store.push(record, front=front)
        self._bell.ring()

    def _shelve(self, record: JobRecord, handler: Handler) -> None:
        """Put a job aside until there is a function for it."""
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
        if record.serial is UNKNOWN:  # it came before the function did
            try:
                record.serial = serial_of(record.payload, handler)
            except Exception:  # the border of user code
                logger.exception("serial_by of %r failed on job %s, which runs without", handler.name, record.id)
                record.serial = None
        return limits.admit(record)

    def _call_at(self, due: float, callback: Callable[[Any], None], record: JobRecord) -> None:
        """Have ``callback(record)`` called at a moment of the clock, but not before ``start()``."""
        with self._early_lock:
            if self._early is not None:
                self._early.append((due, callback, record))
                return
        record.entries += (self._timer.at(due, callback, record),)

    def _forget_calls(self, record: JobRecord) -> None:
        entries, record.entries = record.entries, ()
        for entry in entries:
            self._timer.cancel(entry)

    def _promote(self, record: JobRecord) -> None:
        """The time of a job has come. The timer's callback."""
        if not self._closing and (
            self._store.move(record, SCHEDULED, PENDING) or self._store.move(record, RETRYING, PENDING)
        ):
            self._offer(record)

    def _expire(self, record: JobRecord) -> None:
        """It is too late for a job, if it still waits for its first attempt. The timer's callback."""
        if record.expires_at is not None:
            self._withdraw(record, EXPIRED, "has expired: nobody began it in time")

    def _drop(self, record: JobRecord) -> None:
        """End a job that was taken out of the line, since there is no room for it."""
        if self._store.move(record, PENDING, CANCELLED, self._stamps.now(), "was dropped: full"):
            self._forget_calls(record)
            self._permits.give()
            self._tell_ended(record)
        self._hand_over(record)

    def _withdraw(self, record: JobRecord, after: JobState, why: str) -> bool:
        """End a job that waits; return False where it runs or has finished."""
        while True:
            before = record.state
            if before is RUNNING or before in FINISHED:
                return False
            if self._store.move(record, before, after, self._stamps.now(), why):
                break
        self._forget_calls(record)
        limits = record.handler.limits
        if self._store.pull(record) or (limits is not None and limits.discard(record)):
            self._hand_over(record)
        else:  # or a worker has it in hand, and will see
            with contextlib.suppress(ValueError):
                record.handler.shelf.remove(record)
        self._permits.give()
        self._tell_ended(record)
        return True

    def _set_limits(self, handler: Handler) -> None:
        limits: list[Limit] = []
        if handler.serial_by is not None:
            limits.append(Serial())
        if handler.concurrency is not None:
            limits.append(Concurrency(handler.concurrency))
        if handler.rate is not None:
            limits.append(Rate(self._clock, *handler.rate, wake=self._wake_rate, release=self._release_rated))
        handler.limits = Limits(tuple(limits)) if limits else None

    def _wake_rate(self, due: float, callback: Callable[[object], None]) -> None:
        with contextlib.suppress(RuntimeError):  # no thread is to be had: the process is ending
            self._timer.at(due, callback)

    def _release_rated(self, record: JobRecord) -> None:
        record.passed += 1
        self._offer(record, front=True)

    def _hand_over(self, record: JobRecord) -> None:
        """Let others have the places that a job took in its handler's limits."""
        if record.passed:
            for successor in record.handler.limits.release(record):
                self._offer(successor, front=True)

    def _owe_permit(self) -> None:
        """Count one more job that waits, even where there is no room for it."""
        if not self._permits.take_now():
            self._permits.resize(-1)  # the next one that is given back is withheld

    # -- how jobs end -------------------------------------------------------------------------------------------------

    def _tell_ended(self, record: JobRecord, failure: BaseException | None = None) -> None:
        """A job has finished: tell who waits for it, and who listens."""
        self._wake(record)
        state = record.state
        if state is COMPLETED and not self._observers.is_heard():
            return
        job_id, name, attempt = record.id, record.name, record.attempts
        if state is COMPLETED:
            seconds = self._clock.monotonic() - record.begun
            self._emit(JobCompleted(component=self.name, job_id=job_id, handler=name, attempt=attempt, seconds=seconds))
        elif failure is not None and state is FAILED:
            self._emit(JobDied(component=self.name, job_id=job_id, handler=name, attempt=attempt, error=failure))
        else:
            self._emit(
                JobEnded(
                    component=self.name,
                    job_id=job_id,
                    handler=name,
                    attempt=attempt,
                    state=str(state),
                    reason=record.why,
                )
            )

    def _wake(self, record: JobRecord) -> None:
        """Wake who waits for this job, and who waits for the last one."""
        if self._audience:
            waiters = self._audience.pop(cast("Job", record), None)
            if waiters is not None:
                waiters.wake_all()
        if self._drains._gates and not self._store.has_ready():
            self._drains.wake_all()


def serial_of(payload: Any, handler: Handler) -> Hashable:
    """Return what a handler's ``serial_by`` says of a payload.

    Raises:
        TypeError: it says something that cannot be hashed; or it raises that itself, as it may anything.
    """
    if handler.serial_by is None:
        return None
    serial = handler.serial_by(payload)
    hash(serial)
    return serial
