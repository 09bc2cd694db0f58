"""What a failed attempt leaves in the record of its job, and when the next one is made."""

from __future__ import annotations

from threadkit import _arguments
from threadkit._clock import Clock
from threadkit._records import JobError, JobRecord
from threadkit._verdicts import RetryLater
from threadkit.backoff import Retry, RetryState

_ERRORS_KEPT = 100  # a job that is tried for ever must not grow for ever


def note_failure(record: JobRecord, failure: BaseException, clock: Clock) -> None:
    """Keep what the last attempt of a job raised."""
    record.errors = (*record.errors, JobError(record.attempts, clock.now(), failure))[-_ERRORS_KEPT:]


def delay_after(record: JobRecord, failure: BaseException, retry: Retry, clock: Clock) -> float | None:
    """Return the seconds until a job is tried again after what its last attempt raised; None: it is not.

    Raises:
        Exception: whatever a backoff, or a stop condition, of the user's raises.
    """
    if record.first_begun is None:
        record.first_begun = record.begun
    since = clock.monotonic() - record.first_begun
    state = RetryState(record.attempts, failure, since, record.delay, now=clock.now)
    if not isinstance(failure, RetryLater):
        return retry.next_delay(state)
    delay = _arguments.seconds(failure.delay, "delay")
    policy = retry.policy_for(failure) or retry
    return None if policy.is_enough(state, delay) else delay
