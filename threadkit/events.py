"""What happened, as frozen records in the past tense: what ``observe()`` hands out.

Each event is a sentence by ``str()`` and a flat dict by ``as_dict()``. ``level`` is what threadkit logs it at (logger
``threadkit``); what is a failure is logged at WARNING or above, so that it is seen where nobody configured logging.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any, ClassVar

from threadkit._frozen import NOW, Sentence, frozen, plain
from threadkit._frozen import describe as describe  # noqa: PLC0414 - it is part of this module, too


@frozen
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
    at: datetime = NOW

    level: ClassVar[int] = logging.DEBUG
    sentence: ClassVar[str] = "{component!r}: something happened"

    def as_dict(self) -> dict[str, Any]:
        """Return the event's name and its fields, flat; errors become text, times ISO 8601."""
        return {"event": type(self).__name__, **{name: plain(value) for name, value in vars(self).items()}}

    def __str__(self) -> str:
        return self.sentence.format_map(Sentence(self))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self}>"


class Started(Event):
    """A component is up."""

    sentence = "{component!r} started"


@frozen
class Stopped(Event):
    """A component has ended, with all its threads."""

    reason: str | None = None
    sentence = "{component!r} stopped ({reason})"


@frozen
class Failed(Event):
    """A component died of an error and will not come back by itself."""

    error: BaseException
    level = logging.ERROR
    sentence = "{component!r} failed: {error}"


@frozen
class Restarted(Event):
    """A managed thread, or a group inside a group, ended and will be called again after a delay."""

    error: BaseException | None
    restarts: int
    delay: float
    level = logging.WARNING
    sentence = "{component!r} ended ({error}); restart {restarts} in {delay:.3g} s"


@frozen
class GroupRestarted(Event):
    """A thread of a group ended, and for its sake others are ended and will be called again with it, after a delay."""

    culprit: str
    others: str
    delay: float
    level = logging.WARNING
    sentence = "group {component!r}: {culprit!r} ended, and {others} with it; again in {delay:.3g} s"


@frozen
class Wedged(Event):
    """A managed thread is alive, but gave no sign of life for longer than its heartbeat allows."""

    seconds: float
    stack: str
    level = logging.WARNING
    sentence = "thread {component!r} is wedged: silent for {seconds:.3g} s. It is here:\n{stack}"


@frozen
class Recovered(Event):
    """A managed thread that was wedged gave a sign of life again, after so many seconds in all."""

    seconds: float
    level = logging.WARNING
    sentence = "thread {component!r} is well again after {seconds:.3g} s of silence"


@frozen
class RunFailed(Event):
    """A run of an interval task raised; the schedule goes on."""

    error: BaseException
    number: int
    level = logging.ERROR
    sentence = "task {component!r}: run {number} failed: {error}"


@frozen
class RunSkipped(Event):
    """A run was left out by the overlap policy, or waited for its turn and was dropped by a backoff or a pause."""

    scheduled_at: datetime
    level = logging.INFO
    sentence = "task {component!r}: the run due at {scheduled_at} was skipped"


@frozen
class RunMissed(Event):
    """Runs were due while nothing could run, or in a pause, and were folded into one, or left out; see ``missed``."""

    scheduled_at: datetime
    count: int
    level = logging.WARNING
    sentence = "task {component!r}: {count} run(s) from {scheduled_at} on were missed"


@frozen
class PoolSaturated(Event):
    """All threads of a pool are busy and work waits for one."""

    threads: int
    level = logging.WARNING
    sentence = "{component!r}: all {threads} threads are busy"


@frozen
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

    sentence = "queue {component!r}: job {job_id} ({handler}) submitted"


class JobStarted(JobEvent):
    """A worker has begun an attempt."""

    sentence = "queue {component!r}: job {job_id} ({handler}) started, attempt {attempt}"


@frozen
class JobAbandoned(JobEvent):
    """An attempt went on long after its time-out, has been booked as timed out, and its thread is left to itself."""

    seconds: float
    stack: str
    level = logging.ERROR
    sentence = "queue {component!r}: job {job_id} ({handler}) goes on after {seconds:.3g} s, abandoned here:\n{stack}"


class JobInterrupted(JobEvent):
    """The queue's time was over while a job ran. No attempt is spent, and it is not recorded as failed."""

    level = logging.WARNING
    sentence = "queue {component!r}: job {job_id} ({handler}) was interrupted by the end of the queue"


@frozen
class JobCompleted(JobEvent):
    """A job has its result, after ``seconds`` of work."""

    seconds: float
    sentence = "queue {component!r}: job {job_id} ({handler}) completed in {seconds:.3g} s"


@frozen
class JobRetried(JobEvent):
    """An attempt failed, or asked for another; the next one follows after ``delay`` seconds."""

    error: BaseException
    delay: float
    level = logging.WARNING
    sentence = "queue {component!r}: job {job_id} ({handler}) attempt {attempt} failed: {error}; again in {delay:.3g} s"


@frozen
class JobDied(JobEvent):
    """The last attempt failed: the job is a dead letter."""

    error: BaseException
    level = logging.ERROR
    sentence = "queue {component!r}: job {job_id} ({handler}) failed for good after {attempt} attempt(s): {error}"


@frozen
class JobEnded(JobEvent):
    """A job ended without a result and without a failure: cancelled, expired or discarded."""

    state: str
    reason: str = ""
    level = logging.INFO
    sentence = "queue {component!r}: job {job_id} ({handler}) {state} {reason}"


@frozen
class HookFailed(Event):
    """A hook of a queue raised; neither the job nor its worker was harmed."""

    hook: str
    error: BaseException
    level = logging.ERROR
    sentence = "queue {component!r}: hook {hook} failed: {error}"


@frozen
class StoreFailed(Event):
    """A queue's store cannot do its work; it goes on trying, and nothing is lost meanwhile."""

    error: BaseException
    level = logging.ERROR
    sentence = "queue {component!r} waits for its store: {error}"


class StoreRecovered(Event):
    """A queue's store can do its work again."""

    level = logging.WARNING
    sentence = "queue {component!r}: its store works again"


@frozen
class CallRejected(Event):
    """An executor refused or dropped a call, since it was full."""

    policy: str
    limit: float
    level = logging.WARNING
    sentence = "executor {component!r} is full ({limit} calls wait): {policy}"


@frozen
class ExecutorRebuilt(Event):
    """An executor's engine was broken and was replaced by a new one."""

    error: BaseException
    rebuilds: int
    level = logging.WARNING
    sentence = "executor {component!r} broke ({error}) and was rebuilt, number {rebuilds}"


@frozen
class CallQuarantined(Event):
    """A call was running when its executor's engine broke, more than once. It has failed, and is not made again."""

    function: str
    error: BaseException
    level = logging.ERROR
    sentence = "executor {component!r}: {error}"


@frozen
class ErrorUnread(Event):
    """A call on an executor raised, and its future was dropped without anybody having asked for its outcome."""

    function: str
    error: BaseException
    level = logging.ERROR
    sentence = "executor {component!r}: nobody asked what {function} raised: {error}"


@frozen
class HandlerFailed(Event):
    """A subscriber or an action on a bus raised; nobody else was harmed."""

    channel: str
    handler: str
    error: BaseException
    level = logging.ERROR
    sentence = "bus {component!r}: {handler} failed on {channel!r}: {error}"


@frozen
class MessageDropped(Event):
    """A message was left out for one subscriber: its mailbox was full, or the executor did not take or lost it."""

    channel: str
    handler: str
    level = logging.WARNING
    sentence = "bus {component!r}: a message on {channel!r} was dropped and did not reach {handler}"


@frozen
class MessageUnheard(Event):
    """A message reached nobody. The payload is for observers; the log and ``as_dict()`` leave it out."""

    channel: str
    payload: Any = None
    sentence = "bus {component!r}: nobody listens on {channel!r}"

    def as_dict(self) -> dict[str, Any]:
        """Return the event's name and its fields but for the payload, flat."""
        fields = super().as_dict()
        del fields["payload"]
        return fields


@frozen
class LeaderEvent(Event):
    """The base of what happens to a lead: the path of the file that it goes with."""

    path: str


class BecameLeader(LeaderEvent):
    """This process has got the lease, and the leader's components start."""

    level = logging.INFO
    sentence = "{component!r} leads ({path})"


class LeadReleased(LeaderEvent):
    """The leader's components have ended, and this process has given the lease back."""

    level = logging.INFO
    sentence = "{component!r} leads no more ({path})"


class LostLead(LeaderEvent):
    """Another process may have the lease; the leader's components are stopped."""

    level = logging.ERROR
    sentence = "{component!r} has lost the lead: somebody else may have it ({path})"


@frozen
class HealthChanged(Event):
    """What a component's check says is another thing than when it was last asked."""

    status: str
    health: str
    level = logging.WARNING
    sentence = "the health of {component!r} is now {health}"


class QuietRequested(Event):
    """A lifecycle was asked to stop its intake, and to go on otherwise."""

    level = logging.INFO
    sentence = "{component!r} is asked to stop its intake"


@frozen
class StopRequested(Event):
    """A lifecycle was asked to stop."""

    reason: str | None
    level = logging.INFO
    sentence = "{component!r} is asked to stop ({reason})"


@frozen
class ComponentStuck(Event):
    """A component did not stop in time; its threads go on."""

    seconds: float
    level = logging.ERROR
    sentence = "{component!r} did not stop within {seconds:.3g} s"


@frozen
class ShutdownFinished(Event):
    """A lifecycle has stopped what it could."""

    seconds: float
    ok: bool
    level = logging.INFO
    sentence = "{component!r} is down after {seconds:.3g} s (all well: {ok})"
