"""What a job shows, how one waits for it, and what its handler is told."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from datetime import UTC, datetime, timedelta

import pytest
from helpers import Background, Gate

from threadkit import (
    CallTimeout,
    Discard,
    JobCancelled,
    JobContext,
    JobFailed,
    JobState,
    Retry,
    WorkQueue,
    current_job,
)
from threadkit.backoff import constant
from threadkit.testing import VirtualClock

ONCE = Retry(1)


@pytest.fixture
def queue():
    with WorkQueue(workers=2, retry=ONCE) as made:
        yield made


@pytest.fixture
def gate():
    return Gate()


def test_a_job_tells_its_whole_story():
    """A job shows what it is, when it was submitted, began and finished, and how often it was tried."""
    clock = VirtualClock()
    start = clock.now()
    with WorkQueue(workers=1, clock=clock) as queue:
        queue.handler("work")(lambda payload: payload + 1)
        job = queue.submit("work", 1, delay=60, retry=Retry(7))
        assert (job.name, job.payload, job.state, job.attempts, job.max_attempts) == ("work", 1, "scheduled", 0, 7)
        assert (job.created_at, job.started_at, job.finished_at) == (start, None, None)
        clock.advance(61)
        assert (job.state, job.attempts, job.errors, job.result()) == (JobState.COMPLETED, 1, (), 2)
        assert job.started_at == job.finished_at == start + timedelta(seconds=60)
        assert job.created_at.tzinfo is UTC
        assert repr(job) == f"<Job {job.id} 'work' completed>"
        assert job.done()
        assert job.wait()
        assert job.exception() is None


def test_ids_are_unique_and_sort():
    """Ids of one queue sort as the jobs came; those of another queue begin differently."""
    one, other = WorkQueue(workers=0), WorkQueue(workers=0)
    for queue in (one, other):
        queue.declare("work")
    ids = [one.submit("work").id for _ in range(200)]
    assert ids == sorted(set(ids))
    assert other.submit("work").id.partition("-")[0] != ids[0].partition("-")[0]
    one.stop()
    other.stop()


def test_notes_stay_with_the_job(queue):
    """A job has a dict for the user's own notes."""
    queue.declare("never")
    job = queue.submit("never")
    job.meta["ticket"] = 7
    assert queue.get(job.id).meta == {"ticket": 7}


def test_a_failure_is_raised_with_its_cause(queue):
    """The result of a dead letter is JobFailed, and what the handler raised is its cause."""

    @queue.handler
    def fail(payload):
        raise ValueError(payload)

    job = queue.submit(fail, "no")
    with pytest.raises(JobFailed, match=r"failed after 1 attempt\(s\)") as caught:
        job.result(5)
    assert isinstance(caught.value.__cause__, ValueError)
    assert isinstance(job.exception(), JobFailed)
    assert [str(error) for error in job.errors] == ["attempt 1: ValueError: no"]
    assert "in fail" in job.errors[0].traceback


def test_a_failed_job_keeps_no_local_variables(queue):
    """What is kept of an error does not keep alive what the handler had in its hands, nor threadkit's own frames."""

    @queue.handler
    def fail(payload):
        big = object()
        raise ValueError(repr(big))

    job = queue.submit(fail)
    job.wait(5)
    frames = []
    link = job.errors[0].error.__traceback__
    while link is not None:
        frames.append(link.tb_frame)
        link = link.tb_next
    assert [frame.f_code.co_name for frame in frames] == ["call", "fail"]
    assert frames[-1].f_locals == {}


@pytest.mark.parametrize(
    ("error", "why"),
    [(Discard("nobody cares"), "was discarded: nobody cares"), (Discard(), "was discarded")],
)
def test_a_discarded_job_has_no_result(queue, error, why):
    """A job that its handler gave up is DISCARDED, and says why."""

    @queue.handler
    def discard(payload):
        raise error

    job = queue.submit(discard)
    with pytest.raises(JobCancelled, match=why):
        job.result(5)
    assert job.state is JobState.DISCARDED
    assert job.errors == ()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
def test_nothing_that_a_handler_raises_harms_its_worker(error):
    """What would end a thread or a program elsewhere is a failure of the job here, and the worker goes on."""
    with WorkQueue(workers=1) as queue:

        @queue.handler
        def fatal(payload):
            raise error

        queue.handler("fine")(lambda payload: threading.get_ident())
        before = queue.submit("fine").result(5)
        job = queue.submit(fatal)
        assert isinstance(job.exception(5).__cause__, error)
        assert job.attempts == 1
        assert queue.submit("fine").result(5) == before


def test_waiting_has_an_end(queue, gate):
    """A wait that takes too long says so, and the job goes on."""

    @queue.handler
    def slow(payload):
        gate.pass_through()
        return "at last"

    job = queue.submit(slow)
    assert not job.wait(0.001)
    assert not job.done()
    with pytest.raises(CallTimeout, match=job.id):
        job.result(timeout=0)
    with pytest.raises(CallTimeout):
        job.exception(timeout=timedelta(0))
    gate.open()
    assert job.result(timeout=5) == "at last"


@pytest.mark.parametrize("timeout", [-1, float("nan"), True, "1"])
def test_bad_timeouts_are_refused(queue, timeout):
    """A time-out that is none is refused by an error that names it."""
    queue.declare("never")
    job = queue.submit("never")
    for wait in (job.result, job.wait, job.exception):
        with pytest.raises((TypeError, ValueError), match="timeout"):
            wait(timeout)


def test_many_wait_for_one_job(queue, gate):
    """Everybody who waits for a job gets its result."""

    @queue.handler
    def slow(payload):
        gate.pass_through()
        return payload

    job = queue.submit(slow, 42)
    waiting = [Background(lambda: job.result(5)) for _ in range(4)]
    gate.open()
    assert [each.result() for each in waiting] == [42] * 4
    assert queue._audience == {}


def test_a_job_can_be_awaited(queue, gate):
    """Awaiting a job gives its result, or raises what result() raises, and keeps no thread busy."""

    @queue.handler
    def slow(payload):
        gate.pass_through()
        return payload

    @queue.handler
    def fail(payload):
        raise ValueError(payload)

    async def main():
        jobs = [queue.submit(slow, n) for n in range(3)]
        before = threading.active_count()
        tasks = [asyncio.ensure_future(_await(job)) for job in jobs]
        await asyncio.sleep(0)
        assert threading.active_count() == before
        gate.open()
        assert await asyncio.wait_for(asyncio.gather(*tasks), 5) == [0, 1, 2]
        assert await jobs[0] == 0
        with pytest.raises(JobFailed):
            await queue.submit(fail)

    async def _await(job):
        return await job

    asyncio.run(main())


def test_an_await_can_be_given_up(queue, gate):
    """Who stops awaiting a job leaves nothing behind, also where the event loop is closed before the job ends."""

    @queue.handler
    def slow(payload):
        gate.pass_through()
        return payload

    job = queue.submit(slow, 1)

    async def impatient():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(_wait(), 0.001)

    async def _wait():
        return await job

    asyncio.run(impatient())
    loop = asyncio.new_event_loop()
    iterator = job.__await__()
    asyncio._set_running_loop(loop)
    try:
        iterator.send(None)
    finally:
        asyncio._set_running_loop(None)
    loop.close()
    gate.open()
    assert job.result(5) == 1
    iterator.close()


def test_a_woken_await_may_have_been_cancelled_already(queue, gate):
    """A job that ends in the moment in which its awaiting task is cancelled does no harm."""

    @queue.handler
    def slow(payload):
        gate.pass_through()

    async def main():
        job = queue.submit(slow)
        task = asyncio.ensure_future(_wait(job))
        await asyncio.sleep(0)
        gate.open()
        job.wait(5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)

    async def _wait(job):
        return await job

    asyncio.run(main())


def test_a_handler_may_ask_for_its_context():
    """A context says which attempt of which job this is and until when it has time; others get none."""
    clock = VirtualClock()
    seen = []
    with WorkQueue(workers=1, clock=clock, retry=Retry(2, constant(1))) as queue:

        @queue.handler(timeout=30)
        def curious(payload, ctx):
            seen.append((ctx.job_id, ctx.attempt, ctx.deadline, ctx.token(), ctx.is_stopping))
            if ctx.attempt == 1:
                raise ValueError

        @queue.handler
        def incurious(payload, extra=None):
            return extra

        @queue.handler
        def annotated(payload, ctx: JobContext | None = None):
            return ctx.deadline

        job = queue.submit(curious)
        clock.advance(5)
        assert seen == [(job.id, 1, 30.0, True, False), (job.id, 2, 31.0, True, False)]
        for name in ("incurious", "annotated"):
            quick = queue.submit(name)
            clock.settle()
            assert quick.result(0) is None


def test_progress_is_seen_from_outside(queue):
    """What a handler says about its progress is what the job shows."""
    told, gate = Gate(), Gate()

    @queue.handler
    def work(payload, ctx: JobContext):
        ctx.set_progress(0.25, "a quarter")
        told.open()
        gate.pass_through()
        ctx.set_progress(1)

    job = queue.submit(work)
    assert (job.progress, job.progress.message) in {(0, ""), (0.25, "a quarter")}
    told.pass_through()
    assert (job.progress, job.progress.message) == (0.25, "a quarter")
    gate.open()
    job.result(5)
    assert (job.progress, job.progress.message) == (1, "")


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan"), True, None, "0.5"])
def test_bad_progress_is_refused(queue, fraction):
    """Progress that is no number from 0 to 1 is refused by an error that names it."""

    @queue.handler
    def work(payload, ctx: JobContext):
        ctx.set_progress(fraction)

    cause = queue.submit(work).exception(5).__cause__
    assert isinstance(cause, TypeError | ValueError)
    assert "fraction" in str(cause)


def test_the_current_job(queue):
    """A handler, and what it awaits or gives its context to, knows the current job; elsewhere there is none."""
    assert current_job() is None

    @queue.handler
    def work(payload):
        inherited = contextvars.copy_context()
        other = Background(lambda: inherited.run(current_job))
        return current_job().job_id, other.result() is current_job()

    @queue.handler
    async def work_async(payload):
        await asyncio.sleep(0)
        return current_job().job_id, current_job().attempt

    job = queue.submit(work)
    assert job.result(5) == (job.id, True)
    for _ in range(3):
        job = queue.submit(work_async)
        assert job.result(5) == (job.id, 1)
    assert current_job() is None


def test_a_cancel_reaches_a_token_that_is_made_later(queue):
    """A job that is cancelled before its handler asks for the context finds the token set."""
    begun, gate = Gate(), Gate()

    @queue.handler
    def work(payload):
        begun.open()
        gate.pass_through()
        token = current_job().token
        return token.is_set(), token.reason

    job = queue.submit(work)
    begun.pass_through()
    assert job.cancel()
    gate.open()
    with pytest.raises(JobCancelled, match="was cancelled"):
        job.result(5)


def test_time_stamps_are_aware(queue):
    """Every time stamp is an aware datetime in UTC and close to the present."""
    queue.handler("work")(lambda payload: None)
    before = datetime.now(UTC)
    job = queue.submit("work")
    job.result(5)
    stamps = [job.created_at, job.started_at, job.finished_at]
    assert stamps == sorted(stamps)
    assert all(abs(stamp - before) < timedelta(seconds=60) for stamp in stamps)
