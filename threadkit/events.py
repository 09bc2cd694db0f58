"""What happened, as frozen records in the past tense: what ``observe()`` hands out.

Each event is a sentence by ``str()`` and a flat dict by ``as_dict()``. ``level`` is what threadkit logs it at (logger
``threadkit``); what is a failure is logged at WARNING or above, so that it is seen where nobody configured logging.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any, ClassVar, TypeVar, dataclass_transform

import attrs


def _now() -> datetime:
    return datetime.now(UTC)


E = TypeVar("E")


@dataclass_transform(kw_only_default=True, frozen_default=True, eq_default=False, field_specifiers=(attrs.field,))
def _event(cls: type[E]) -> type[E]:
    # attrs compiles the methods of each class when it is imported, which is most of what this module adds to "import
    # threadkit". So only __init__ is made (events need no equality, and one __repr__ does for all), and events with the
    # same fields share one undecorated shape.
    return attrs.frozen(kw_only=True, eq=False, repr=False)(cls)


@_event
class Event:
    """The base of all events.

    Attributes:
        component: the name of the component that it happened to.
        at: when, in UTC.

    Example:
        >>> print(RunFailed(component="report", error=OSError("no disk"), number=3))
        task 'report': run 3 failed: OSError: no disk
    """

    component: str
    at: datetime = attrs.field(factory=_now)

    level: ClassVar[int] = logging.DEBUG
    sentence: ClassVar[str] = "{component!r}: something happened"

    def as_dict(self) -> dict[str, Any]:
        """Return the event's name and its fields, flat; errors become text, times ISO 8601."""
        shape = attrs.fields(type(self))  # type: ignore[arg-type]  # mypy does not see that _event makes attrs classes
        fields = {field.name: _plain(getattr(self, field.name)) for field in shape}
        return {"event": type(self).__name__, **fields}

    def __str__(self) -> str:
        return self.sentence.format_map(_Sentence(self))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self}>"


class _Sentence(dict[str, Any]):
    """Looks the names of a sentence up among an event's fields."""

    def __init__(self, event: Event) -> None:
        self._event = event

    def __missing__(self, name: str) -> Any:
        value = getattr(self._event, name)
        return describe(value) if isinstance(value, BaseException) else value


def describe(error: BaseException) -> str:
    """Return an error as one line: its class and its message, if it can tell that."""
    try:
        text = str(error)
    except Exception:  # an error of the user's class is user code as well
        text = "(its message cannot be read)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _plain(value: object) -> object:
    if isinstance(value, BaseException):
        return describe(value)
    return value.isoformat() if isinstance(value, datetime) else value


class Started(Event):
    """A component is up."""

    __slots__ = ()
    sentence = "{component!r} started"


@_event
class Stopped(Event):
    """A component has ended, with all its threads."""

    reason: str | None = None
    sentence = "{component!r} stopped ({reason})"


@_event
class Failed(Event):
    """A component died of an error and will not come back by itself."""

    error: BaseException
    level = logging.ERROR
    sentence = "{component!r} failed: {error}"


@_event
class Restarted(Event):
    """A managed thread died and its body will be called again after a delay."""

    error: BaseException | None
    restarts: int
    delay: float
    level = logging.WARNING
    sentence = "thread {component!r} ended ({error}); restart {restarts} in {delay:.3g} s"


@_event
class RunFailed(Event):
    """A run of an interval task raised; the schedule goes on."""

    error: BaseException
    number: int
    level = logging.ERROR
    sentence = "task {component!r}: run {number} failed: {error}"


@_event
class RunSkipped(Event):
    """A run was due while another one was going on, and the overlap policy left it out."""

    scheduled_at: datetime
    level = logging.INFO
    sentence = "task {component!r}: the run due at {scheduled_at} was skipped, since another was going on"


@_event
class RunMissed(Event):
    """Runs were due while nothing could run, and were folded into one, or left out by the misfire policy."""

    scheduled_at: datetime
    count: int
    level = logging.WARNING
    sentence = "task {component!r}: {count} run(s) from {scheduled_at} on were missed"


@_event
class PoolSaturated(Event):
    """All threads of a pool are busy and work waits for one."""

    threads: int
    level = logging.WARNING
    sentence = "{component!r}: all {threads} threads are busy"


@_event
class JobEvent(Event):
    """The base of what happens to jobs: the job's id, the name of its handler, and the number of the attempt.

    It is told just after the state that it tells of can be seen, so whoever waited for a job may be ahead of its
    events.
    """

    job_id: str
    handler: str
    attempt: int = 0


class JobSubmitted(JobEvent):
    """A queue has taken a job."""

    __slots__ = ()
    sentence = "queue {component!r}: job {job_id} ({handler}) submitted"


class JobStarted(JobEvent):
    """A worker has begun an attempt."""

    __slots__ = ()
    sentence = "queue {component!r}: job {job_id} ({handler}) started, attempt {attempt}"


class JobInterrupted(JobEvent):
    """The queue's time was over while a job ran. No attempt is spent, and it is not recorded as failed."""

    __slots__ = ()
    level = logging.WARNING
    sentence = "queue {component!r}: job {job_id} ({handler}) was interrupted by the end of the queue"


@_event
class JobCompleted(JobEvent):
    """A job has its result, after ``seconds`` of work."""

    seconds: float
    sentence = "queue {component!r}: job {job_id} ({handler}) completed in {seconds:.3g} s"


@_event
class JobRetried(JobEvent):
    """An attempt failed, or asked for another; the next one follows after ``delay`` seconds."""

    error: BaseException
    delay: float
    level = logging.WARNING
    sentence = "queue {component!r}: job {job_id} ({handler}) attempt {attempt} failed: {error}; again in {delay:.3g} s"


@_event
class JobDied(JobEvent):
    """The last attempt failed: the job is a dead letter."""

    error: BaseException
    level = logging.ERROR
    sentence = "queue {component!r}: job {job_id} ({handler}) failed for good after {attempt} attempt(s): {error}"


@_event
class JobEnded(JobEvent):
    """A job ended without a result and without a failure: cancelled, expired or discarded."""

    state: str
    reason: str = ""
    level = logging.INFO
    sentence = "queue {component!r}: job {job_id} ({handler}) {state} {reason}"


@_event
class StoreFailed(Event):
    """A queue's store cannot do its work; it goes on trying, and nothing is lost meanwhile."""

    error: BaseException
    level = logging.ERROR
    sentence = "queue {component!r} waits for its store: {error}"


class StoreRecovered(Event):
    """A queue's store can do its work again."""

    __slots__ = ()
    level = logging.WARNING
    sentence = "queue {component!r}: its store works again"


@_event
class CallRejected(Event):
    """An executor refused or dropped a call, since it was full."""

    policy: str
    limit: float
    level = logging.WARNING
    sentence = "executor {component!r} is full ({limit} calls wait): {policy}"


@_event
class ExecutorRebuilt(Event):
    """An executor's engine was broken and was replaced by a new one."""

    error: BaseException
    rebuilds: int
    level = logging.WARNING
    sentence = "executor {component!r} broke ({error}) and was rebuilt, number {rebuilds}"


@_event
class HandlerFailed(Event):
    """A subscriber or an action on a bus raised; nobody else was harmed."""

    channel: str
    handler: str
    error: BaseException
    level = logging.ERROR
    sentence = "bus {component!r}: {handler} failed on {channel!r}: {error}"


@_event
class MessageDropped(Event):
    """A subscriber's mailbox was full, and its policy left a message out."""

    channel: str
    handler: str
    level = logging.WARNING
    sentence = "bus {component!r}: a message on {channel!r} was dropped, since {handler} is too slow"


@_event
class MessageUnheard(Event):
    """Nobody listens on the channel that a message was published on."""

    channel: str
    sentence = "bus {component!r}: nobody listens on {channel!r}"


@_event
class StopRequested(Event):
    """A lifecycle was asked to stop."""

    reason: str | None
    level = logging.INFO
    sentence = "{component!r} is asked to stop ({reason})"


@_event
class ComponentStuck(Event):
    """A component did not stop in time; its threads go on."""

    seconds: float
    level = logging.ERROR
    sentence = "{component!r} did not stop within {seconds:.3g} s"


@_event
class ShutdownFinished(Event):
    """A lifecycle has stopped what it could."""

    seconds: float
    ok: bool
    level = logging.INFO
    sentence = "{component!r} is down after {seconds:.3g} s (all well: {ok})"
