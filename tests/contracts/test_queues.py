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
