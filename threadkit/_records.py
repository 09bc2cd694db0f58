"""What is known about a job: its state, its errors, its record; and the figures of a queue."""

from __future__ import annotations

import enum
import traceback
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

import attrs

from threadkit._errors import ThreadkitError
from threadkit._override import override
from threadkit.events import describe


class JobState(enum.StrEnum):
    """Where a job is in its life. It is a string, so ``job.state == "failed"`` works.

    ::

        SCHEDULED --> PENDING --> RUNNING --> COMPLETED, FAILED, CANCELLED or DISCARDED
                         ^           |
                         `-RETRYING--'           what waits may also end CANCELLED or EXPIRED

    Example:
        >>> JobState.FAILED.is_finished, JobState.RETRYING.is_finished
        (True, False)
    """

    SCHEDULED = "scheduled"
    """It waits for its time."""
    PENDING = "pending"
    """It could run, and waits for a worker."""
    RUNNING = "running"
    """Its handler has been called."""
    RETRYING = "retrying"
    """An attempt failed, and the next one waits for its time."""
    COMPLETED = "completed"
    """It has a result."""
    FAILED = "failed"
    """Its last attempt failed: it is a dead letter."""
    CANCELLED = "cancelled"
    """It was cancelled, replaced or dropped."""
    EXPIRED = "expired"
    """Nobody began it in time."""
    DISCARDED = "discarded"
    """Its handler gave it up."""

    column: int  # its place in the ledger's counts; written below

    @property
    def is_finished(self) -> bool:
        """True for the five states from which a job does not go on by itself."""
        return self in FINISHED


# To look a member up in its class costs several times a call, and a job is moved three times.
SCHEDULED, PENDING, RUNNING, RETRYING = JobState.SCHEDULED, JobState.PENDING, JobState.RUNNING, JobState.RETRYING
COMPLETED, FAILED, CANCELLED = JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED
EXPIRED, DISCARDED = JobState.EXPIRED, JobState.DISCARDED
for _column, _state in enumerate(JobState):
    _state.column = _column
FINISHED = frozenset({COMPLETED, FAILED, CANCELLED, EXPIRED, DISCARDED})
UNFINISHED = frozenset(JobState) - FINISHED


class RecordedError(ThreadkitError, RuntimeError):
    """What an attempt raised in another process, or before a restart: its text, for the exception itself is gone.

    Args:
        text: the class and the message of the exception.
        traceback: its traceback.

    Example:
        >>> print(RecordedError("OSError: no disk", ""))
        OSError: no disk
    """

    def __init__(self, text: str, traceback: str) -> None:
        super().__init__(text, traceback)
        self.text = text
        self.traceback = traceback

    @override
    def __str__(self) -> str:
        return self.text


@attrs.frozen
class JobError:
    """What one attempt of a job raised.

    Attributes:
        attempt: the number of the attempt; the first is 1.
        at: when, in UTC.
        error: the exception. The local variables of its frames have been let go. Where the attempt was made by
            another process, or before a restart, it is a ``RecordedError``.

    Example:
        >>> from datetime import UTC, datetime
        >>> print(JobError(2, datetime(2026, 1, 1, tzinfo=UTC), OSError("no disk")))
        attempt 2: OSError: no disk
    """

    attempt: int
    at: datetime
    error: BaseException

    @property
    def traceback(self) -> str:
        """The traceback as text."""
        if isinstance(self.error, RecordedError):
            return self.error.traceback
        return "".join(traceback.format_exception(self.error))

    def as_dict(self) -> dict[str, Any]:
        """Return plain values: the error and its traceback as text, the time in ISO 8601."""
        return {
            "attempt": self.attempt,
            "at": self.at.isoformat(),
            "error": self._text(),
            "traceback": self.traceback,
        }

    def __str__(self) -> str:
        return f"attempt {self.attempt}: {self._text()}"

    def _text(self) -> str:
        return self.error.text if isinstance(self.error, RecordedError) else describe(self.error)


def let_go(error: BaseException) -> None:
    """Let the local variables of an error's frames go, for its traceback is kept as long as the job."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__


class Progress(float):
    """How far a job says it is: a number from 0 to 1 that carries a message."""

    __slots__ = ("message",)

    def __new__(cls, fraction: float = 0.0, message: str = "") -> Progress:  # noqa: PYI034 - nobody derives from it
        """Make one."""
        progress = super().__new__(cls, fraction)
        progress.message = message
        return progress

    message: str


NO_PROGRESS = Progress()
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
UNKNOWN = object()


class JobRecord:
    """Everything that is known about a job. A store keeps these; the queue's ``Job`` is one that can be waited for.

    ``state`` and ``fate`` change by the store's ``move()``, ``condemn()`` and ``settle()`` only. The rest is written by
    whoever owns the job at that moment: who submits it, then the worker that runs it.
    """

    # Slots, and one __init__ by hand: a queue makes some 100,000 of these a second.
    __slots__ = (
        "__weakref__",
        "attempts",
        "begun",
        "created",
        "delay",
        "due",
        "entries",
        "errors",
        "expires_at",
        "fate",
        "finished",
        "first_begun",
        "handler",
        "headers",
        "id",
        "key",
        "keys",
        "name",
        "notes",
        "number",
        "passed",
        "payload",
        "priority",
        "progress",
        "retry",
        "row",
        "spread",
        "started",
        "state",
        "ticket",
        "timeout",
        "turn",
        "value",
        "why",
    )

    def __init__(self, job_id: str, number: int, name: str, payload: Any, created: float) -> None:
        self.id: str = job_id
        self.number: int = number  # unique in its queue
        self.spread: int = number  # what a ledger spreads jobs by, evenly; those of one key have the same
        self.name: str = name  # of the handler
        self.payload: Any = payload
        self.priority: int = 0
        self.key: str | None = None
        self.headers: Mapping[str, str] = NO_HEADERS
        self.handler: Any = None  # what its queue runs it with
        self.retry: Any = None  # a Retry; None: the handler's or the queue's
        self.timeout: float | None = None
        self.keys: Any = UNKNOWN  # what its handler's limits sort it by, a value for each that does
        self.ticket: Any = None  # its place among those that were just claimed, where they come to the limits in order
        self.state: JobState = PENDING
        self.fate: JobState | None = None  # where it will go when it stops running, whatever its handler does
        self.turn: int = 0  # its place in the line, among those of its priority
        self.passed: int = 0  # how many of its handler's limits let it pass
        self.entries: tuple[list[Any], ...] = ()  # what a timer holds for it
        self.attempts: int = 0
        self.errors: tuple[JobError, ...] = ()
        self.progress: Progress = NO_PROGRESS
        self.notes: dict[str, Any] | None = None  # made when they are first asked for
        # Moments of POSIX time. The second is that of the last attempt.
        self.created: float = created
        self.started: float | None = None
        self.finished: float | None = None
        # Moments of the clock's monotonic(), and the last delay, in seconds.
        self.due: float | None = None  # when it may run, if it waits for that
        self.expires_at: float | None = None
        self.first_begun: float | None = None
        self.begun: float = 0.0
        self.delay: float = 0.0
        self.value: Any = None  # what the handler returned
        self.why: str = ""  # why it has no result
        self.row: Any = None  # what its store notes on it

    def renew(self) -> None:
        """Forget how often and how soon it was tried: it begins again."""
        self.attempts, self.delay, self.first_begun = 0, 0.0, None

    def make_notes(self) -> dict[str, Any]:
        """Return the notes, making them first if need be. One thread at a time MUST call it."""
        if self.notes is None:
            self.notes = {}
        return self.notes


@attrs.frozen
class JobFilter:
    """Which jobs are asked for; None is any. The times are POSIX time, of the submit; the second is excluded."""

    state: JobState | None = None
    name: str | None = None
    key: str | None = None
    since: float | None = None
    until: float | None = None

    def takes(self, record: JobRecord) -> bool:
        """Return whether a job is one of them."""
        return (
            (self.state is None or record.state is self.state)
            and (self.name is None or record.name == self.name)
            and (self.key is None or record.key == self.key)
            and (self.since is None or record.created >= self.since)
            and (self.until is None or record.created < self.until)
        )


ANY_JOB = JobFilter()


@attrs.frozen
class QueueStats:
    """The figures of a queue, as of one moment: ``submitted`` is the sum over the nine states.

    Attributes:
        submitted: the jobs that were taken in.
        scheduled: they wait for their time.
        pending: they could run.
        running: their handlers have been called.
        retrying: they wait for their next attempt.
        completed: they have a result.
        failed: they are dead letters.
        cancelled: they were cancelled, replaced or dropped.
        expired: nobody began them in time.
        discarded: their handlers gave them up.
        retries: how often an attempt was followed by a delay and another one.
        interrupted: how often the end of the queue cut an attempt short.
        attempts: the attempts that this process has made, those that were given up too. These five are measured, not
            counted with the jobs: while something runs they may be a moment old.
        waited: the seconds that jobs could have run before these attempts began, in all.
        worked: the seconds that these attempts took, in all.
        unfinished_work: the seconds for which those have run that have not ended, in all.
        longest_running: the seconds of the longest of them. If it only grows, a handler hangs.
        workers: the threads there are.
        abandoned: more threads, which go on with attempts that were booked as timed out.
        paused: whether no job is begun at present.

    Example:
        >>> from threadkit import WorkQueue
        >>> queue = WorkQueue(workers=0)
        >>> queue.declare("later")
        >>> job = queue.submit("later")
        >>> queue.stats().submitted, queue.stats().pending
        (1, 1)
    """

    submitted: int
    scheduled: int
    pending: int
    running: int
    retrying: int
    completed: int
    failed: int
    cancelled: int
    expired: int
    discarded: int
    retries: int
    interrupted: int
    attempts: int
    waited: float
    worked: float
    unfinished_work: float
    longest_running: float
    workers: int
    abandoned: int
    paused: bool

    @property
    def depth(self) -> int:
        """The jobs that could run: ``pending``, as other work queues call it."""
        return self.pending

    @property
    def adds(self) -> int:
        """How often a job was put into the line, or will be when its time has come: at first, and for each retry."""
        return self.submitted + self.retries

    @property
    def latency(self) -> float:
        """The mean seconds that a job could have run before it was begun."""
        return self.waited / self.attempts if self.attempts else 0.0

    @property
    def work_duration(self) -> float:
        """The mean seconds that an attempt takes."""
        return self.worked / self.attempts if self.attempts else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the figures by name, those that follow from others too."""
        derived = {name: getattr(self, name) for name in ("depth", "adds", "latency", "work_duration")}
        return attrs.asdict(self) | derived
