"""What a full queue does with one more job, wherever the jobs are kept and wherever the submit comes from."""

from __future__ import annotations

import asyncio

import pytest
from helpers import Background, Gate

from threadkit import Closed, Full, JobState, Lifecycle, Retry, WorkQueue, WouldBlock, stores


@pytest.fixture(params=["memory", "file"])
def new_queue(request, tmp_path):
    def make(**options) -> WorkQueue:
        store = None if request.param == "memory" else stores.SQLiteStore(tmp_path / "jobs.db", "process")
        return WorkQueue(store=store, **options)

    return make


class Busy:
    """A queue with room for one job, which has one, and a worker that is occupied until ``gate`` opens."""

    def __init__(self, new_queue, on_full: str) -> None:
        self.gate, begun = Gate(), Gate()
        self.queue = queue = new_queue(workers=1, maxsize=1, on_full=on_full, retry=Retry(1))

        @queue.handler
        def occupy(payload):
            begun.open()
            self.gate.pass_through()

        queue.handler("work")(lambda payload: payload)
        queue.start()
        queue.submit(occupy)
        begun.pass_through()
        self.first = queue.submit("work", 1)

    def end(self) -> None:
        self.gate.open()
        assert self.queue.drain(5)
        self.queue.stop()
        assert self.queue.join(5)


def submit_on_loop(queue: WorkQueue):
    async def submit():
        return queue.submit("work", 2)

    return asyncio.run(submit())


def asubmit(queue: WorkQueue):
    return asyncio.run(queue.asubmit("work", 2))


@pytest.mark.parametrize(
    ("on_full", "error"), [("block", WouldBlock), ("reject", Full), ("caller_runs", Full), ("drop_oldest", None)]
)
def test_a_submit_never_blocks_an_event_loop(new_queue, on_full, error):
    """On an event loop a submit to a full queue raises, or drops, as the policy says; it neither waits nor runs."""
    busy = Busy(new_queue, on_full)
    if error is None:
        assert submit_on_loop(busy.queue).payload == 2
        assert busy.first.state is JobState.CANCELLED
    else:
        with pytest.raises(error):
            submit_on_loop(busy.queue)
    busy.end()


@pytest.mark.parametrize(
    ("on_full", "error"), [("block", None), ("reject", Full), ("caller_runs", None), ("drop_oldest", None)]
)
def test_an_awaited_submit_waits_refuses_or_drops(new_queue, on_full, error):
    """An awaited submit to a full queue waits where a plain one would block or run; else it does the same."""
    busy = Busy(new_queue, on_full)
    waiting = Background(lambda: asubmit(busy.queue))
    if error is not None:
        with pytest.raises(error):
            waiting.result()
    elif on_full == "drop_oldest":
        waiting.result()
        assert busy.first.state is JobState.CANCELLED
    busy.gate.open()
    if error is None:
        assert waiting.result().result(5) == 2
    busy.end()


@pytest.mark.parametrize("on_full", ["block", "reject", "caller_runs", "drop_oldest"])
@pytest.mark.parametrize("submit", ["submit", "asubmit"])
def test_a_job_that_submits_to_its_own_full_queue_does_not_hang(new_queue, on_full, submit):
    """A job whose own queue is full is told, runs the new job itself, or drops another; nothing waits for itself."""
    with new_queue(workers=1, maxsize=1, on_full=on_full, retry=Retry(1)) as queue:
        queue.handler("work")(lambda payload: payload)

        @queue.handler
        def selfish(payload):
            queue.submit("work", 1)
            made = queue.submit("work", 2) if submit == "submit" else asubmit(queue)
            return str(made.state)

        job = queue.submit(selfish)
        error = job.exception(5)
        if on_full == "reject":
            assert isinstance(error.__cause__, Full)
        elif on_full == "drop_oldest":
            assert job.result(0) == "pending"
        elif (on_full, submit) == ("caller_runs", "submit"):
            assert job.result(0) == "completed"
        else:
            assert isinstance(error.__cause__, WouldBlock)
        assert queue.drain(5)


def test_a_submit_that_waits_is_refused_by_a_stop(new_queue):
    """Who waits for room when the queue is stopped is refused, in a thread and on an event loop."""
    busy = Busy(new_queue, "block")
    waiting = [Background(lambda: busy.queue.submit("work", 2)), Background(lambda: asubmit(busy.queue))]
    busy.queue.stop()
    for each in waiting:
        with pytest.raises(Closed):
            each.result()
    busy.gate.open()
    assert busy.queue.join(5)


@pytest.mark.parametrize("where", ["threads", "executor", "loop"])
def test_what_runs_at_the_deadline_is_interrupted(new_queue, where):
    """At the end of its time what runs is interrupted, wherever it runs: no attempt spent, and ours until it ends."""
    gate, begun = Gate(), Gate()
    with Lifecycle(stop_timeout=0.05) as lc, Lifecycle("engines") as engines:
        executor = engines.executor(max_workers=1) if where == "executor" else None
        loop = engines.loop() if where == "loop" else None
        queue = lc.add(new_queue(workers=1, executor=executor, loop=loop))

        if where == "loop":

            @queue.handler("work", timeout=1000)
            async def work(payload):
                begun.open()
                await asyncio.to_thread(gate.pass_through)

        else:

            @queue.handler("work", timeout=1000)
            def work_plain(payload):
                begun.open()
                gate.pass_through()

        job = queue.submit("work")
        begun.pass_through()
        lc.stop()
        lc.shutdown()
        assert (job.state, job.attempts, job.errors) == (JobState.RUNNING, 0, ())
        assert "was interrupted" in str(job.exception(0))
        gate.open()
        assert queue.join(5)
    assert (job.state, job.attempts, job.errors) == (JobState.PENDING, 0, ())
    assert queue.stats().interrupted == 1
