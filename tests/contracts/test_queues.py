"""What a queue promises whatever its store is: the record of a job, retries, what is kept, and what can be asked."""

from __future__ import annotations

import asyncio

import pytest
from helpers import PATIENCE

from threadkit import JobContext, Retry, WorkQueue, backoff, stores
from threadkit.testing import VirtualClock


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture(params=["memory", "file"])
def new_queue(request, clock, tmp_path):
    """Return a function that makes queues, and opens the same file each time where that is the store."""
    made = []

    def new(**options) -> WorkQueue:
        for queue in made:
            end(queue)
        store = stores.MemoryStore() if request.param == "memory" else stores.SQLiteStore(tmp_path / "jobs.db")
        options = {"workers": 1, "clock": clock, "retry": Retry(3, backoff.constant(10)), **options}
        made.append(WorkQueue(store=store, **options))
        return made[-1]

    new.is_durable = request.param == "file"
    yield new
    for queue in made:
        end(queue)


@pytest.fixture
def queue(new_queue):
    with new_queue() as made:
        yield made


def end(queue) -> None:
    queue.stop()
    assert queue.join(PATIENCE)
    queue.close()


def raising(queue, *outcomes):
    """Register a handler that raises, or returns, these one after the other."""
    script = iter(outcomes)

    @queue.handler
    def work(payload):
        outcome = next(script)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return work


# -- the record -------------------------------------------------------------------------------------------------------


def test_a_job_carries_headers(queue):
    """What is submitted as headers is seen by the handler and by whoever looks at the job."""

    @queue.handler
    def work(payload, ctx: JobContext):
        return ctx.headers["trace"]

    sent = {"trace": "7f", "tenant": "a\ud800b"}
    job = queue.submit(work, headers=sent)
    sent["trace"] = "changed"
    assert job.result(PATIENCE) == "7f"
    assert queue.get(job.id).headers == {"trace": "7f", "tenant": "a\ud800b"}
    assert queue.submit(work).headers == {}


def test_headers_wait_with_their_job(new_queue):
    """Headers outlive the process, if the job does."""
    queue = new_queue(workers=0)
    queue.declare("work")

    async def submit():
        return await queue.asubmit("work", headers={"tenant": "a"})

    queue.start()
    job = asyncio.run(submit())
    queue = new_queue() if new_queue.is_durable else queue
    found = queue.get(job.id)
    assert found.headers == {"tenant": "a"}
    with pytest.raises(TypeError):
        found.headers["tenant"] = "b"


@pytest.mark.parametrize("headers", [["a"], {"a": 1}, {1: "a"}])
def test_headers_are_text(queue, headers):
    """Headers that are no flat dict of strings are refused, and no job is made."""
    queue.declare("work")
    with pytest.raises(TypeError, match="headers must be a dict of strings"):
        queue.submit("work", headers=headers)
    assert queue.stats().submitted == 0


def test_all_that_happened_is_in_the_record(new_queue, clock):
    """A finished job shows what was submitted, every error with its traceback, times, progress, meta and result."""
    queue = new_queue()

    @queue.handler
    def work(payload, ctx):
        ctx.meta["tries"] = ctx.meta.get("tries", 0) + 1
        ctx.set_progress(ctx.attempt / 3, f"try {ctx.attempt}")
        if ctx.attempt < 3:
            raise OSError(f"no disk {ctx.attempt}")
        return {"done": payload}

    job = queue.submit(work, [1, 2], priority=3, key="k", headers={"a": "b"})
    began = clock.now()
    queue.start()
    clock.settle()
    clock.advance(30)
    for queue_now in (queue, new_queue()) if new_queue.is_durable else (queue,):
        job = queue_now.get(job.id)
        assert (job.name, job.payload, job.key, job.priority, job.headers) == ("work", [1, 2], "k", 3, {"a": "b"})
        assert (job.state, job.attempts, job.max_attempts) == ("completed", 3, 3)
        assert [(error.attempt, str(error)) for error in job.errors] == [
            (1, "attempt 1: OSError: no disk 1"),
            (2, "attempt 2: OSError: no disk 2"),
        ]
        assert all("in work" in error.traceback and "raise OSError" in error.traceback for error in job.errors)
        assert [round((error.at - began).total_seconds()) for error in job.errors] == [0, 10]
        assert job.created_at == began
        assert [round((each - began).total_seconds()) for each in (job.started_at, job.finished_at)] == [20, 20]
        assert (job.progress, job.progress.message, job.meta) == (1.0, "try 3", {"tries": 3})
        assert job.result(0) == {"done": [1, 2]}


def test_errors_of_a_job_are_bounded(new_queue, clock):
    """A job that is tried for ever keeps its last 100 errors."""
    queue = new_queue(retry=Retry(float("inf"), backoff.constant(1)))
    job = queue.submit(raising(queue, *(OSError(number) for number in range(120)), None))
    queue.start()
    clock.settle()
    clock.advance(150)
    assert job.state == "completed"
    assert [error.attempt for error in job.errors] == list(range(21, 121))
