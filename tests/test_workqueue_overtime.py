"""Attempts that go on after their time-out: given up, counted, told of, and their threads replaced."""

from __future__ import annotations

import threading

import pytest
from helpers import PATIENCE, Blocker, Gate

from threadkit import JobState, Retry, WorkQueue, backoff, events, stores
from threadkit._clock import open_gate
from threadkit.health import Status
from threadkit.testing import VirtualClock


@pytest.fixture(params=["memory", "file"])
def new_store(request, tmp_path):
    return (
        (lambda: None) if request.param == "memory" else (lambda: stores.SQLiteStore(tmp_path / "jobs.db", "process"))
    )


class Stuck:
    """A queue on a virtual clock whose handler ``stuck`` does not look at its token; ``free()`` lets one out."""

    def __init__(self, store, **options) -> None:
        self.clock = clock = options.pop("clock", None) or VirtualClock()
        self.told: list[events.Event] = []
        self.gates = gates = []
        self.contexts = []
        options = {"workers": 1, "grace": 5, "retry": Retry(1), **options}
        self.queue = queue = WorkQueue(store=store, clock=clock, **options)
        queue.observe(self.told.append)

        @queue.handler(timeout=10)
        def stuck(payload, ctx):
            gate = clock.gate()
            gates.append(gate)
            self.contexts.append(ctx)
            clock.park(gate, None)
            ctx.set_progress(1)
            return f"late {payload}"

        queue.handler("quick")(lambda payload: payload)
        queue.start()

    def submit(self, payload="x"):
        job = self.queue.submit("stuck", payload)
        self.clock.settle()
        return job

    def free(self) -> None:
        open_gate(self.gates.pop(0))
        self.clock.settle()

    def events_of(self, kind):
        return [event for event in self.told if type(event) is kind]

    def end(self) -> None:
        while self.gates:
            self.free()
        self.queue.stop()
        assert self.queue.join(PATIENCE)


def test_an_attempt_is_given_up_after_the_grace(new_store):
    """A job that goes on after its time-out and the grace has failed, and another worker does the next."""
    stuck = Stuck(new_store())
    job = stuck.submit()
    stuck.clock.advance(14)
    assert (str(job.state), job.done(), stuck.contexts[0].is_stopping) == ("running", False, True)
    stuck.clock.advance(1)
    assert job.state is JobState.FAILED
    assert "took longer than 10 s, and its thread goes on" in str(job.errors[0].error)
    assert isinstance(job.exception(0).__cause__, TimeoutError)
    assert stuck.queue.submit("quick", 1).result(PATIENCE) == 1
    stats = stuck.queue.stats()
    assert (stats.workers, stats.abandoned, stats.failed, stats.running) == (1, 1, 1, 0)
    (told,) = stuck.events_of(events.JobAbandoned)
    assert (told.job_id, told.attempt, told.seconds) == (job.id, 1, 15)
    assert "clock.park(gate, None)" in told.stack
    health = stuck.queue.health()
    assert (health.status, health.detail) == (
        Status.DEGRADED,
        "1 abandoned thread(s) go on after their time-out",
    )
    stuck.free()
    stats = stuck.queue.stats()
    assert (stats.workers, stats.abandoned, stats.completed, stats.failed) == (1, 0, 1, 1)
    assert (job.state, job.value, job.progress, len(job.errors)) == (JobState.FAILED, None, 0, 1)
    assert stuck.queue.health().status is Status.READY
    assert len(stuck.events_of(events.JobDied)) == 1
    stuck.end()


def test_an_attempt_that_was_given_up_is_counted_once(new_store):
    """An attempt that was given up counts at that moment, with the time it took until then, and not again."""
    stuck = Stuck(new_store())
    stuck.submit()
    stuck.clock.advance(15)
    stats = stuck.queue.stats()
    assert (stats.attempts, stats.worked, stats.waited, stats.longest_running) == (1, 15, 0, 15)
    stuck.clock.advance(5)
    assert stuck.queue.stats().longest_running == 20
    stuck.free()
    stats = stuck.queue.stats()
    assert (stats.attempts, stats.worked, stats.longest_running) == (1, 15, 0)
    stuck.end()


def test_one_that_ends_within_the_grace_is_not_abandoned(new_store):
    """A job that ends after its time-out, but within the grace, has failed once, and its thread goes on working."""
    stuck = Stuck(new_store())
    job = stuck.submit()
    before = stuck.queue.threads()
    stuck.clock.advance(12)
    stuck.free()
    assert job.state is JobState.FAILED
    stuck.clock.advance(100)
    assert (stuck.queue.threads(), stuck.queue.stats().abandoned) == (before, 0)
    assert stuck.events_of(events.JobAbandoned) == []
    stuck.end()


def test_a_job_that_was_given_up_is_tried_again(new_store):
    """The next attempt runs beside the abandoned one, whose late result and progress change nothing."""
    stuck = Stuck(new_store(), retry=Retry(2, backoff.constant(1)))
    job = stuck.submit()
    stuck.clock.advance(15)
    assert job.state is JobState.RETRYING
    stuck.clock.advance(1)
    assert (job.state, job.attempts, len(stuck.gates)) == (JobState.RUNNING, 2, 2)
    stuck.free()
    assert (job.state, job.progress, job.value) == (JobState.RUNNING, 0, None)
    stuck.free()
    assert (job.result(0), job.progress, job.attempts) == ("late x", 1, 2)
    assert stuck.queue.stats().completed == 1
    stuck.end()


def test_a_cancelled_job_that_is_given_up_is_cancelled(new_store):
    """A running job that was cancelled, and never looks at its token, is cancelled when its time is over."""
    stuck = Stuck(new_store())
    job = stuck.submit()
    assert job.cancel()
    stuck.clock.advance(15)
    assert (job.state, job.errors) == (JobState.CANCELLED, ())
    stuck.end()
    assert job.state is JobState.CANCELLED


def test_no_more_threads_than_allowed_are_replaced(new_store):
    """Where too many threads are abandoned no job is begun until one of them ends, and health() says so."""
    stuck = Stuck(new_store(), workers=2, most_abandoned=1)
    first, second = stuck.submit(1), stuck.submit(2)
    stuck.clock.advance(15)
    waiting = stuck.queue.submit("quick", 3)
    stuck.clock.settle()
    assert (str(first.state), str(second.state), str(waiting.state)) == ("failed", "failed", "pending")
    stats = stuck.queue.stats()
    assert (stats.workers, stats.abandoned) == (1, 2)
    assert stuck.queue.health().detail.endswith("no job is begun until one of them ends")
    stuck.free()
    assert waiting.result(0) == 3
    assert (stuck.queue.stats().workers, stuck.queue.stats().abandoned) == (2, 1)
    stuck.end()


def test_without_end_there_is_no_abandoning(new_store):
    """With an endless grace an attempt keeps its worker as long as it takes."""
    stuck = Stuck(new_store(), grace=float("inf"))
    job = stuck.submit()
    stuck.clock.advance(100_000)
    assert job.state is JobState.RUNNING
    stuck.end()
    assert job.state is JobState.FAILED


def test_a_stop_waits_for_abandoned_threads(new_store):
    """A queue has ended when its abandoned threads have, and until then it names them."""
    stuck = Stuck(new_store())
    stuck.submit()
    (thread,) = stuck.queue.threads()
    stuck.clock.advance(15)
    stuck.queue.stop()
    stuck.clock.settle()
    assert stuck.queue.threads() == [thread]
    stuck.queue.close()
    assert not stuck.queue.join(0)
    stuck.free()
    assert stuck.queue.join(PATIENCE)
    assert stuck.queue.stats().failed == 1


def test_what_the_end_has_interrupted_is_not_given_up(new_store):
    """A job that the end of the queue interrupted stays this process's until its thread ends; no attempt is spent."""
    stuck = Stuck(new_store())
    job = stuck.submit()
    stuck.queue.stop()
    stuck.queue.close()
    stuck.clock.advance(100)
    assert (job.state, job.attempts, stuck.queue.stats().abandoned) == (JobState.RUNNING, 0, 0)
    stuck.end()
    assert (job.state, job.errors) == (JobState.PENDING, ())


def test_what_is_interrupted_before_it_is_looked_after_is_not_given_up(new_store):
    """An attempt whose job has been interrupted before the timer knew of it is not given up."""
    stuck = Stuck(new_store())
    job = stuck.submit()
    attempt = stuck.queue._overtime._going_on.pop(job)
    stuck.queue.stop()
    stuck.queue.close()
    stuck.queue._overtime._going_on[job] = attempt
    stuck.clock.advance(100)
    assert (job.state, job.attempts) == (JobState.RUNNING, 0)
    stuck.end()
    assert job.state is JobState.PENDING


def test_one_decides():
    """Of the worker, the timer and the end of the queue, the first decides what becomes of an attempt."""
    stuck = Stuck(None)
    job = stuck.submit()
    attempt = stuck.queue._overtime._going_on[job]
    assert attempt.decide("worker") == "worker"
    stuck.queue._overtime._look(attempt)
    assert job.state is JobState.RUNNING
    other = WorkQueue(workers=0)
    assert other._overtime.interrupt(job)
    attempt._decided["by"] = "timer"
    assert not stuck.queue._overtime.interrupt(job)
    attempt._decided["by"] = "worker"
    overtime = stuck.queue._overtime
    later = overtime.begin(job, attempt.thread, float("inf"), 0.0)
    overtime._forget(attempt)
    assert overtime._going_on == {job: later}
    stuck.end()


def test_a_hook_that_blocks_keeps_nothing_from_its_time(new_store):
    """While a hook that is told of an expiry blocks, jobs whose time has come are run; a stop waits for the hook."""
    clock, told = VirtualClock(), []
    queue = WorkQueue(store=new_store(), workers=1, clock=clock, on_stop="finish")
    queue.handler("work")(lambda payload: payload)
    queue.declare("nobody")

    @queue.on(events.JobEnded)
    def block(event):
        told.append((event.job_id, threading.current_thread().name))
        clock.park(gate, None)

    gate = clock.gate()
    queue.start()
    expired = queue.submit("nobody", expires=1)
    due = queue.submit("work", 1, delay=2)
    clock.advance(1)
    assert (expired.state, told) == (JobState.EXPIRED, [(expired.id, "jobs-clerk_0")])
    clock.advance(1)
    assert due.result(PATIENCE) == 1
    queue.stop()
    clock.settle()
    assert not queue.join(0)
    open_gate(gate)
    assert queue.join(PATIENCE)


def test_a_backoff_that_blocks_keeps_nothing_from_its_time(new_store):
    """While the backoff of a job that was given up blocks, jobs whose time has come are run."""
    clock = VirtualClock()
    gate = clock.gate()

    def block(state):
        clock.park(gate, None)
        return 0.0

    stuck = Stuck(new_store(), clock=clock, retry=Retry(2, block))
    job = stuck.submit()
    due = stuck.queue.submit("quick", 1, delay=20)
    stuck.clock.advance(20)
    assert (job.state, due.result(PATIENCE)) == (JobState.RUNNING, 1)
    open_gate(gate)
    clock.settle()
    assert job.attempts == 2
    stuck.end()


def test_what_is_told_where_no_thread_is_to_be_had(monkeypatch):
    """Where the system gives the clerk no thread, what it would have told is told by whoever has come upon it."""
    clock, told = VirtualClock(), []
    queue = WorkQueue(workers=0, clock=clock)
    queue.declare("nobody")
    queue.observe(lambda event: told.append(threading.current_thread().name))
    queue.start()
    queue.submit("nobody", expires=1)
    told.clear()

    def refuse(target, name):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(clock, "spawn", refuse)
    clock.advance(1)
    assert told == ["jobs-timer"]
    monkeypatch.undo()
    queue.stop()
    assert queue.join(PATIENCE)


def test_no_thread_for_a_replacement(monkeypatch):
    """Where the system gives no thread in place of an abandoned one it is asked again, each second."""
    stuck = Stuck(None)
    job = stuck.submit()
    refusals, spawn = [1, 2, 3, 4], stuck.clock.spawn  # the second is the clerk's

    def refuse(target, name):
        if refusals:
            refusals.pop()
            raise RuntimeError("can't start new thread")
        return spawn(target, name)

    monkeypatch.setattr(stuck.clock, "spawn", refuse)
    stuck.clock.advance(15)
    assert (str(job.state), stuck.queue.stats().workers) == ("failed", 0)
    next_job = stuck.queue.submit("quick", 1)
    stuck.clock.advance(2)
    assert (refusals, str(next_job.state)) == ([], "pending")
    stuck.clock.advance(1)
    assert next_job.result(0) == 1
    stuck.end()


def test_a_job_of_its_caller_is_not_given_up():
    """A job that the submitting thread runs keeps it as long as it takes: that thread is not the queue's."""
    clock, threads = VirtualClock(), []
    with WorkQueue(workers=1, maxsize=1, on_full="caller_runs", grace=0, clock=clock) as queue:

        @queue.handler(timeout=1)
        def work(payload):
            threads.append(threading.current_thread())
            assert queue._overtime._going_on == {}

        queue.pause()
        queue.submit(work)
        job = queue.submit(work)
        assert threads == [threading.current_thread()]
        assert job.state is JobState.COMPLETED
        queue.resume()
        queue.handler("real")(lambda payload: payload)


def test_an_abandoned_call_on_an_executor():
    """With an executor the worker that waits for a call is abandoned as one that makes it, and another one waits."""
    from concurrent.futures import ThreadPoolExecutor

    clock, blocker, freed = VirtualClock(), Blocker(), Gate()
    with ThreadPoolExecutor(2) as executor:
        queue = WorkQueue(workers=1, executor=executor, retry=Retry(1), grace=0, clock=clock)
        queue.handler("stuck", timeout=1)(lambda payload: blocker())
        queue.handler("quick")(lambda payload: freed.open() or payload)
        queue.start()
        job = queue.submit("stuck")
        blocker.wait_until_called()
        clock.advance(1)
        assert job.state is JobState.FAILED
        assert queue.submit("quick", 1).result(PATIENCE) == 1
        blocker.let_go()
        queue.stop()
        assert queue.join(PATIENCE)
    assert queue.stats().abandoned == 0
