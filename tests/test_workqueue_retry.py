"""What follows an attempt that failed: retries, verdicts, time-outs, dead letters."""

from __future__ import annotations

from datetime import timedelta

import pytest
from helpers import Gate

from threadkit import (
    Closed,
    Discard,
    DuplicateName,
    JobContext,
    JobFailed,
    JobState,
    Retry,
    RetryLater,
    Snooze,
    Stopping,
    WorkQueue,
    backoff,
    events,
)
from threadkit.testing import VirtualClock


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def queue(clock):
    with WorkQueue(workers=2, clock=clock, retry=Retry(3, backoff.constant(10))) as made:
        made.calls = []
        yield made


def raising(queue, *errors):
    """Register a handler that raises these one after the other, and returns the number of the call then."""

    @queue.handler
    def work(payload):
        queue.calls.append(queue._clock.monotonic())
        if len(queue.calls) <= len(errors):
            raise errors[len(queue.calls) - 1]
        return len(queue.calls)

    return work


def test_a_failed_job_is_tried_again(queue, clock):
    """A job whose handler raises is tried again after the backoff's delay; every error is kept."""
    job = queue.submit(raising(queue, ValueError("one"), OSError("two")))
    clock.settle()
    assert (job.state, job.attempts, job.max_attempts) == (JobState.RETRYING, 1, 3)
    clock.advance(9)
    assert queue.calls == [0]
    clock.advance(11)
    assert (job.result(0), queue.calls, job.attempts) == (3, [0, 10, 20], 3)
    assert [str(error) for error in job.errors] == ["attempt 1: ValueError: one", "attempt 2: OSError: two"]
    assert [error.at.second for error in job.errors] == [0, 10]
    assert queue.stats().retries == 2


def test_the_last_attempt_makes_a_dead_letter(queue, clock):
    """A job whose last attempt fails is a dead letter, and says so."""
    job = queue.submit(raising(queue, *[ValueError(n) for n in range(9)]))
    clock.advance(100)
    assert (job.state, len(queue.calls)) == (JobState.FAILED, 3)
    assert queue.dead_letters() == [job]
    with pytest.raises(JobFailed, match=r"3 attempt") as caught:
        job.result()
    assert str(caught.value.__cause__) == "2"


@pytest.mark.parametrize("place", ["submit", "handler", "queue"])
def test_the_nearest_retry_counts(clock, place):
    """The policy of the submit comes before the handler's, and that before the queue's."""
    policies = dict.fromkeys(["submit", "handler", "queue"], Retry(5, backoff.constant(1)))
    order = ["submit", "handler", "queue"]
    for other in order[: order.index(place)]:
        policies[other] = None
    policies[place] = Retry(2, backoff.constant(1))
    with WorkQueue(workers=1, clock=clock, retry=policies["queue"]) as queue:

        @queue.handler(retry=policies["handler"])
        def fail(payload):
            raise ValueError

        job = queue.submit(fail, retry=policies["submit"])
        assert job.max_attempts == 2
        clock.advance(100)
        assert job.attempts == 2


def test_only_what_is_worth_it_is_tried_again(queue, clock):
    """An error that the policy does not name is final."""
    job = queue.submit(raising(queue, OSError(), ValueError()), retry=Retry(9, backoff.constant(1), on=OSError))
    clock.advance(100)
    assert (job.state, job.attempts) == (JobState.FAILED, 2)


def test_a_backoff_knows_the_past(queue, clock):
    """A backoff is told the number of the attempt, the time since the first began, and the last delay."""
    states = []

    def curious(state):
        states.append((state.attempt_number, state.seconds_since_start, state.previous_delay))
        return 5 * state.attempt_number

    queue.submit(raising(queue, *[ValueError(n) for n in range(9)]), retry=Retry(4, curious))
    clock.advance(100)
    assert states == [(1, 0.0, 0.0), (2, 5.0, 5.0), (3, 15.0, 10.0)]


def test_a_retry_has_a_limit_of_time(queue, clock):
    """No attempt begins later than the policy's time-out allows."""
    job = queue.submit(
        raising(queue, *[ValueError(n) for n in range(9)]), retry=Retry(9, backoff.constant(10), timeout=25)
    )
    clock.advance(100)
    assert (job.state, queue.calls) == (JobState.FAILED, [0, 10, 20])


def test_an_error_may_say_when(queue, clock):
    """An error with a retry_after of its own decides the delay."""
    error = OSError("busy")
    error.retry_after = 42
    queue.submit(raising(queue, error))
    clock.advance(100)
    assert queue.calls == [0, 42]


@pytest.mark.parametrize("bad", [lambda state: -1, lambda state: 1 / 0])
def test_a_backoff_that_fails_is_the_end_of_the_job(queue, clock, bad):
    """A backoff that raises, or says nonsense, makes a dead letter of the job, and both errors are kept."""
    job = queue.submit(raising(queue, ValueError("first")), retry=Retry(9, bad))
    clock.advance(100)
    assert job.state is JobState.FAILED
    cause = job.exception(0).__cause__
    assert str(cause.__context__) == "first" or "first" in job.errors[-1].traceback


def test_retry_later(queue, clock):
    """A handler may ask for another attempt after a delay of its own; it counts as one."""
    job = queue.submit(raising(queue, RetryLater(timedelta(minutes=1)), RetryLater(5), RetryLater(5)))
    clock.advance(1000)
    assert (job.state, queue.calls, len(job.errors)) == (JobState.FAILED, [0, 60, 65], 3)


def test_snooze(queue, clock):
    """A handler may put its job off; that spends no attempt and is no error."""
    job = queue.submit(raising(queue, *[Snooze(5)] * 4))
    clock.settle()
    assert (job.state, job.attempts) == (JobState.SCHEDULED, 0)
    clock.advance(20)
    assert (job.state, job.attempts, job.errors, job.result()) == (JobState.COMPLETED, 1, (), 5)


@pytest.mark.parametrize("verdict", [Snooze(-1), Snooze("soon"), RetryLater(-1), RetryLater(None)])
def test_a_verdict_that_makes_no_sense(queue, clock, verdict):
    """A delay that makes no sense is the error of the attempt, and makes a dead letter."""
    job = queue.submit(raising(queue, verdict))
    clock.advance(100)
    assert job.state is JobState.FAILED
    assert "delay" in str(job.exception(0).__cause__)


def test_discard(queue, clock):
    """A handler may give its job up: it is no dead letter, and is not tried again."""
    job = queue.submit(raising(queue, Discard("the user is gone")))
    clock.advance(100)
    assert (job.state, queue.calls, queue.dead_letters()) == (JobState.DISCARDED, [0], [])


def test_stopping_without_a_stop_is_a_failure(queue, clock):
    """A handler that says it stops although nobody asked for that has failed."""
    job = queue.submit(raising(queue, Stopping("just so")), retry=Retry(1))
    clock.settle()
    assert job.state is JobState.FAILED


def test_a_cancel_wins_over_a_retry(queue, clock):
    """A job that is cancelled while its attempt fails is not tried again; so is one that waits for its next attempt."""
    begun, gate = Gate(), Gate()

    @queue.handler
    def fail(payload):
        begun.open()
        gate.pass_through()
        raise ValueError

    job = queue.submit(fail)
    begun.pass_through()
    assert job.cancel()
    gate.open()
    job.wait(5)
    assert job.state is JobState.CANCELLED
    other = queue.submit(fail)
    clock.settle()
    assert other.state is JobState.RETRYING
    assert other.cancel()
    clock.advance(100)
    assert (other.state, other.attempts, len(queue._timer)) == (JobState.CANCELLED, 1, 0)


def test_a_cancel_at_the_moment_of_the_retry(queue, clock, monkeypatch):
    """A job that is cancelled between its failure and the call for its next attempt leaves no call behind."""
    note = queue._times.note

    def meanwhile(record):
        record.cancel()
        note(record)

    monkeypatch.setattr(queue._times, "note", meanwhile)
    job = queue.submit(raising(queue, ValueError()))
    job.wait(5)
    clock.settle()
    assert (job.state, len(queue._timer)) == (JobState.CANCELLED, 0)


def test_an_attempt_has_its_time(queue, clock):
    """An attempt that ends after its time-out has failed, whether it raised or returned; its token is set in time."""
    seen = []

    @queue.handler(timeout=5)
    def slow(payload, ctx: JobContext):
        seen.append(ctx.token.wait(100))
        seen.append(clock.monotonic())
        if payload:
            raise ValueError("late")
        return "late"

    job = queue.submit(slow, retry=Retry(1))
    clock.advance(5)
    cause = job.exception(0).__cause__
    assert isinstance(cause, TimeoutError)
    assert str(cause) == "attempt 1 took longer than 5 s"
    assert (job.state, job.value, seen) == (JobState.FAILED, None, [True, 5.0])
    other = queue.submit(slow, 1, retry=Retry(1), timeout=2)
    clock.advance(2)
    assert str(other.exception(0).__cause__.__cause__) == "late"
    quick = queue.submit(raising(queue), timeout=5)
    clock.settle()
    assert quick.result(0) == 1


def test_a_late_discard_is_a_discard(queue, clock):
    """A handler that gives its job up is believed, also after its time."""

    @queue.handler(timeout=5)
    def slow(payload, ctx: JobContext):
        ctx.token.wait()
        raise Discard

    job = queue.submit(slow)
    clock.advance(5)
    assert job.state is JobState.DISCARDED


def test_a_dead_letter_can_be_replayed(queue, clock):
    """A replayed dead letter is tried as often as a new job, and keeps its errors; nothing else can be replayed."""
    work = raising(queue, *[ValueError(n) for n in range(4)])
    job = queue.submit(work)
    clock.advance(100)
    assert queue.replay(job.id) is job
    assert queue.replay(job.id) is None
    clock.advance(100)
    assert (job.result(0), job.attempts, len(job.errors)) == (5, 2, 4)
    assert queue.replay(job.id) is None
    assert queue.replay("nobody") is None
    assert queue.stats().failed == 0


def test_a_replay_respects_keys_and_stops(queue, clock):
    """A dead letter whose key is another job's cannot be replayed, and none can once the queue has stopped."""
    work = raising(queue, ValueError())
    job = queue.submit(work, key="k", retry=Retry(1))
    clock.settle()
    queue.submit(work, key="k", delay=1000)
    with pytest.raises(DuplicateName):
        queue.replay(job.id)
    queue.stop()
    with pytest.raises(Closed):
        queue.replay(job.id)


def test_errors_are_kept_within_reason(queue, clock):
    """Of a job that is tried for ever the last hundred errors are kept."""

    @queue.handler(retry=Retry(float("inf"), backoff.constant(1)))
    def fail(payload):
        raise ValueError

    job = queue.submit(fail)
    clock.advance(149)
    assert (job.attempts, len(job.errors), job.errors[-1].attempt) == (150, 100, 150)
    job.cancel()


def test_failures_are_events(queue, clock, caplog):
    """Each failed attempt and each dead letter is an event, and a record in the log."""
    told = []
    queue.observe(told.append)
    job = queue.submit(raising(queue, ValueError("one"), Discard("enough")))
    other = queue.submit("work", retry=Retry(1))
    clock.advance(100)
    retried = next(event for event in told if isinstance(event, events.JobRetried))
    assert (retried.job_id, retried.attempt, retried.delay) == (job.id, 1, 10.0)
    assert f"job {job.id} (work) attempt 1 failed: ValueError: one; again in 10 s" in str(retried)
    assert {str(job.state), str(other.state)} <= {"discarded", "completed", "failed"}
    assert "attempt 1 failed: ValueError: one" in caplog.text


def test_a_chain_of_errors_may_be_a_ring(queue, clock):
    """An error that is its own context does not keep a worker busy for ever."""
    one, other = ValueError("one"), ValueError("other")
    one.__context__, other.__context__ = other, one
    job = queue.submit(raising(queue, one), retry=Retry(1))
    clock.settle()
    assert job.state is JobState.FAILED
