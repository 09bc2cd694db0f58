"""How a queue ends: what it still does, what it leaves, and that nobody is left waiting."""

from __future__ import annotations

import asyncio
import threading

import pytest
from helpers import Background, Gate

from threadkit import (
    Closed,
    ComponentState,
    ForkedError,
    JobCancelled,
    JobContext,
    JobState,
    Lifecycle,
    Retry,
    WorkQueue,
    backoff,
    events,
)
from threadkit import _fork as fork
from threadkit.stores import MemoryStore
from threadkit.testing import VirtualClock


class Occupied:
    """A queue whose one worker is at work until ``gate`` opens."""

    def __init__(self, **options):
        self.gate, begun = Gate(), Gate()
        self.done = []
        self.queue = queue = WorkQueue(workers=1, **options)
        queue.start()

        @queue.handler
        def occupy(payload):
            begun.open()
            self.gate.pass_through()
            return "in time"

        @queue.handler
        def work(payload):
            self.done.append(payload)

        self.job = queue.submit(occupy)
        begun.pass_through()


@pytest.fixture(params=["ready", "delayed"])
def options(request):
    return {} if request.param == "ready" else {"delay": 1000}


def test_a_drain_does_what_is_ready():
    """With "drain", a stopped queue does what runs and what is ready, and leaves what waits for its time."""
    occupied = Occupied()
    queue = occupied.queue
    ready, delayed = queue.submit("work", 1), queue.submit("work", 2, delay=1000)
    queue.stop("enough")
    assert queue.state is ComponentState.STOPPING
    assert not queue.join(0)
    occupied.gate.open()
    assert queue.join(5)
    assert (occupied.job.result(0), ready.state, occupied.done) == ("in time", "completed", [1])
    assert (delayed.state, delayed.done(), queue.work_left()) == (JobState.SCHEDULED, True, 1)
    with pytest.raises(JobCancelled, match="was left waiting"):
        delayed.result()
    assert delayed.cancel()
    assert queue.stats().scheduled == 0


def test_a_finish_does_only_what_runs():
    """With "finish", a stopped queue does only what runs already."""
    occupied = Occupied(on_stop="finish")
    queue = occupied.queue
    ready = queue.submit("work", 1)
    waiting = Background(ready.exception)
    queue.stop()
    occupied.gate.open()
    assert queue.join(5)
    assert (occupied.job.result(0), ready.state, occupied.done) == ("in time", JobState.PENDING, [])
    assert "was left waiting" in str(waiting.result())
    assert queue.work_left() == 1


def test_the_store_decides_what_a_stop_finishes():
    """Where jobs outlive the process a stop finishes only what runs, unless the user says otherwise."""

    class Durable(MemoryStore):
        durable = True

    assert WorkQueue(store=Durable())._finishes_only
    assert not WorkQueue(store=Durable(), on_stop="drain")._finishes_only
    assert not WorkQueue()._finishes_only


def test_a_paused_queue_stops_paused():
    """A paused queue begins nothing more when it stops."""
    queue = WorkQueue(workers=1)
    queue.handler("work")(print)
    queue.start()
    queue.pause()
    job = queue.submit("work")
    queue.stop()
    assert queue.join(5)
    assert (job.state, queue.work_left()) == (JobState.PENDING, 1)


def test_a_stopped_queue_takes_nothing():
    """After a stop every submit is refused, and the queue is not resized; before the start too."""
    started, fresh = WorkQueue(workers=1), WorkQueue(workers=1)
    started.start()
    for queue in (started, fresh):
        queue.handler("work")(print)
        queue.stop()
        for call in (
            lambda queue=queue: queue.submit("work"),
            lambda queue=queue: queue.submit_many("work", [1]),
            lambda queue=queue: asyncio.run(queue.asubmit("work")),
            lambda queue=queue: queue.resize(2),
        ):
            with pytest.raises(Closed, match="queue 'jobs' is closed"):
                call()
        assert queue.join(5)
        assert queue.stats().submitted == 0
    with pytest.raises(Closed):
        fresh.start()


def test_a_stop_before_the_start_leaves_nobody_waiting():
    """Who waits for a job, or for all jobs, of a queue that is stopped before it started is told."""
    queue = WorkQueue(workers=1)
    queue.declare("work")
    job = queue.submit("work")
    waiting, draining = Background(job.exception), Background(queue.drain)
    queue.stop()
    assert "was left waiting" in str(waiting.result())
    assert draining.result() is False


@pytest.mark.parametrize("wait", ["thread", "loop"])
def test_a_stop_wakes_who_waits_for_room(wait):
    """A submit that waits for room when the queue stops is refused, and leaves nothing behind."""
    clock = VirtualClock()
    queue = WorkQueue(workers=0, maxsize=1, clock=clock)
    queue.declare("work")
    queue.submit("work")
    queue.start()
    entered = Gate()

    async def submit():
        entered.open()
        await queue.asubmit("work")

    def block():
        entered.open()
        queue.submit("work")

    waiting = Background(block if wait == "thread" else lambda: asyncio.run(submit()))
    entered.pass_through()
    queue.stop()
    with pytest.raises(Closed):
        waiting.result()
    assert queue.join(5)
    assert queue.stats().submitted == 1


def test_a_queue_without_workers_ends():
    """A queue that has no worker ends too, and so does one that has lost all of them, drained or not."""
    queue = WorkQueue(workers=0)
    queue.declare("work")
    queue.start()
    job = queue.submit("work", delay=1000)
    draining = Background(queue.drain)
    queue.stop()
    assert queue.join(5)
    assert queue.state is ComponentState.STOPPED
    assert job.done()
    assert draining.result() is False


def test_a_retry_that_waits_does_not_hold_a_stop_up():
    """A job that waits for its next attempt is left by a stop, at once."""
    clock = VirtualClock()
    with WorkQueue(workers=1, clock=clock, retry=Retry(5, backoff.constant(100))) as queue:

        @queue.handler
        def fail(payload):
            raise ValueError

        job = queue.submit(fail)
        clock.settle()
    assert (job.state, job.attempts, queue.work_left()) == (JobState.RETRYING, 1, 1)
    assert len(queue._timer) == 0
    with pytest.raises(JobCancelled, match="left waiting"):
        job.result(0)


def test_what_comes_due_during_the_stop_is_left():
    """A job whose time comes while the queue drains is left as it is."""
    clock = VirtualClock()
    queue = WorkQueue(workers=1, clock=clock)
    begun = Gate()

    @queue.handler
    def slow(payload, ctx: JobContext):
        begun.open()
        ctx.token.wait()
        clock.park(gate, clock.monotonic() + 50)

    gate = threading.Lock()
    gate.acquire()
    queue.handler("work")(print)
    queue.start()
    queue.submit(slow)
    delayed = queue.submit("work", delay=10)
    begun.pass_through()
    queue.stop()
    clock.advance(20)
    assert delayed.state is JobState.SCHEDULED
    clock.advance(40)
    assert queue.join(5)
    assert delayed.state is JobState.SCHEDULED


def test_a_running_job_is_told():
    """The token of a running job is set when its queue is told to stop."""
    begun = Gate()
    queue = WorkQueue(workers=1)

    @queue.handler
    def patient(payload, ctx: JobContext):
        begun.open()
        return ctx.token.wait(5), ctx.token.reason, ctx.is_stopping

    with queue:
        job = queue.submit(patient)
        begun.pass_through()
        queue.stop("closing time")
        assert job.result(5) == (True, "closing time", True)


def test_a_job_that_unwinds_for_a_stop_is_interrupted():
    """A handler that leaves by raise_if_set() because its queue stops has spent no attempt, and its job is left."""
    begun, told = Gate(), []
    queue = WorkQueue(workers=1)
    queue.observe(told.append)

    @queue.handler
    def polite(payload, ctx: JobContext):
        begun.open()
        ctx.token.wait(5)
        ctx.token.raise_if_set()

    with queue:
        job = queue.submit(polite)
        begun.pass_through()
    assert (job.state, job.attempts, job.errors, queue.work_left()) == (JobState.PENDING, 0, (), 1)
    with pytest.raises(JobCancelled, match="was interrupted"):
        job.result(0)
    (interrupted,) = [event for event in told if isinstance(event, events.JobInterrupted)]
    assert (interrupted.job_id, interrupted.attempt) == (job.id, 1)
    assert queue.stats().interrupted == 1


def test_what_runs_too_long_is_interrupted():
    """At the end of its time a lifecycle interrupts what runs: no attempt is spent, and nobody is left waiting."""
    gate, begun, told = Gate(), Gate(), []
    with Lifecycle(stop_timeout=0.05) as lc:
        queue = lc.queue(workers=1)
        queue.observe(told.append)

        @queue.handler
        def stubborn(payload):
            begun.open()
            gate.pass_through()
            return "a result that nobody gets"

        job, ready = queue.submit_many(stubborn, [1, 2])
        waiting = Background(job.exception)
        begun.pass_through()
    assert "was interrupted by the end of its queue" in str(waiting.result())
    assert (job.state, job.attempts, job.done()) == (JobState.RUNNING, 0, True)
    assert "was left waiting" in str(ready.exception(0))
    assert not job.cancel()
    assert lc.report.components[0].work_left == 2
    gate.open()
    assert queue.join(5)
    assert (job.state, ready.state, job.value) == (JobState.PENDING, JobState.PENDING, None)
    assert queue.state is ComponentState.STOPPED
    assert [type(event) for event in told].count(events.JobInterrupted) == 1
    assert queue.stats().as_dict()["pending"] == 2


def test_closing_what_has_not_stopped_does_nothing():
    """close() before a stop changes nothing, and after a good end neither."""
    with WorkQueue(workers=1) as queue:
        queue.handler("work")(lambda payload: payload)
        queue.close()
        assert queue.submit("work", 1).result(5) == 1
    queue.close()
    assert queue.work_left() == 0


def test_submits_of_a_running_job_are_refused_during_the_stop():
    """A job that submits another while its queue stops is refused, as everybody is."""
    begun, gate = Gate(), Gate()
    queue = WorkQueue(workers=1, retry=Retry(1))

    @queue.handler
    def work(payload):
        begun.open()
        gate.pass_through()
        queue.submit(work)

    with queue:
        job = queue.submit(work)
        begun.pass_through()
        queue.stop()
        gate.open()
        assert isinstance(job.exception(5).__cause__, Closed)


def test_a_submit_that_meets_a_stop_is_undone(options, monkeypatch):
    """A submit that is overtaken by a stop is refused, and its job was never there."""
    queue = WorkQueue(workers=0)
    queue.declare("work")
    add = queue._store.add

    def meanwhile(record, **rest):
        queue._closing = True
        return add(record, **rest)

    monkeypatch.setattr(queue._store, "add", meanwhile)
    with pytest.raises(Closed):
        queue.submit("work", key="k", **options)
    assert (queue.stats().submitted, queue.jobs(), queue._store.holder("k")) == (0, [], None)


def test_a_submit_that_a_worker_was_quicker_for_stands(monkeypatch):
    """A submit that is overtaken by a stop, but whose job runs already, stands."""
    queue = WorkQueue(workers=0)
    queue.handler("work")(print)
    push = queue._store.push

    def meanwhile(record, **rest):
        push(record, **rest)
        queue._begin_next()
        queue._closing = True

    monkeypatch.setattr(queue._store, "push", meanwhile)
    assert queue.submit("work").state is JobState.RUNNING


def test_a_submit_without_a_thread_to_be_had_is_undone(monkeypatch):
    """Without a thread to be had for the timer, a delayed submit is refused and undone; a retry is left."""
    clock = VirtualClock()
    queue = WorkQueue(workers=1, clock=clock, maxsize=1, on_full="reject", retry=Retry(2))

    @queue.handler
    def fail(payload):
        raise ValueError

    @queue.handler(rate=(1, 100))
    def rare(payload):
        pass

    with queue:

        def refuse(*_):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(queue._timer, "_clock", type("Clock", (), {"spawn": refuse})())
        with pytest.raises(RuntimeError, match="new thread"):
            queue.submit(fail, delay=5)
        assert queue.stats().submitted == 0
        job = queue.submit(fail)
        clock.settle()
        assert job.state is JobState.RETRYING
        job.cancel()
        queue.submit(rare)
        clock.settle()
        held = queue.submit(rare)
        clock.settle()
        assert held.state is JobState.PENDING


def test_a_start_that_fails_leaves_no_thread():
    """Where the system gives too few threads, start() says so, the threads there are end, and the queue has failed."""

    class Scarce(VirtualClock):
        left = 1

        def spawn(self, target, name):
            if not self.left:
                raise RuntimeError("can't start new thread")
            self.left -= 1
            return super().spawn(target, name)

    queue = WorkQueue(workers=3, clock=Scarce())
    queue.declare("work")
    job = queue.submit("work")
    with pytest.raises(RuntimeError, match="new thread"):
        queue.start()
    assert queue.join(5)
    assert queue.state is ComponentState.FAILED
    assert "left waiting" in str(job.exception(5))
    with pytest.raises(Closed):
        queue.submit("work")


def test_a_worker_that_is_hit_goes_on(monkeypatch, caplog):
    """An error that hits a worker in the middle of threadkit's own steps costs at most that job."""
    clock = VirtualClock()
    queue = WorkQueue(workers=1, clock=clock)
    queue.handler("work")(lambda payload: payload)
    settle = queue._settle
    blows = [SystemExit(1), SystemExit(2), SystemExit(3)]

    def strike(job, *rest):
        if job.payload == "hit" and blows:
            raise blows.pop(0)
        settle(job, *rest)

    monkeypatch.setattr(queue, "_settle", strike)
    with queue:
        clock.settle()
        before = set(queue.threads())
        job = queue.submit("work", "hit")
        clock.advance(10)
        assert blows == []  # the second and the third one hit the rescue itself
        assert (job.state, len(job.errors)) == (JobState.FAILED, 1)
        assert isinstance(job.exception(0).__cause__, SystemExit)
        assert queue.submit("work", 1).result(5) == 1
        assert set(queue.threads()) == before
    assert "worker jobs_0 was hit by an error and goes on" in caplog.text


def test_a_child_process_begins_anew(monkeypatch):
    """In a forked child a queue refuses everything until it is started there, and is empty then."""
    queue = WorkQueue(workers=1)
    queue.handler("work")(lambda payload: payload)
    job = queue.submit("work", delay=1000)
    monkeypatch.setattr(fork, "_generation", fork.generation() + 1)
    for call in (
        lambda: queue.submit("work"),
        lambda: queue.get(job.id),
        queue.stats,
        queue.jobs,
        queue.drain,
        queue.pause,
        queue.resume,
        lambda: queue.resize(1),
        lambda: queue.replay("x"),
    ):
        with pytest.raises(ForkedError):
            call()
    with queue:
        assert "belongs to the parent process" in str(job.exception(0))
        assert queue.jobs() == []
        assert queue.submit("work", 1).result(5) == 1
        with pytest.raises(ValueError, match="handler"):
            queue.handler("work")(print)


def test_the_exit_of_the_interpreter_begins_nothing():
    """At the end of the interpreter a queue does what runs, begins nothing more, and leaves nobody waiting."""
    occupied = Occupied()
    queue = occupied.queue
    ready = queue.submit("work")
    queue.begin_exit()
    assert queue.finish_exit(0.0) == ["queue 'jobs'"]
    assert "was interrupted" in str(occupied.job.exception(0))
    occupied.gate.open()
    assert queue.join(5)
    assert ready.state is JobState.PENDING
    assert occupied.done == []
