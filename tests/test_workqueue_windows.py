"""What happens in the narrow windows between two steps of the work queue: each is forced, not hoped for."""

from __future__ import annotations

import asyncio
import math
import threading
from collections import deque

import pytest
from helpers import HOST, Background, Gate, Parked, bounds

from threadkit import JobContext, JobState, Lifecycle, Retry, Snooze, WorkQueue, events
from threadkit import _job as job_module
from threadkit._clock import SYSTEM_CLOCK
from threadkit._crew import Crew
from threadkit._jobtimes import Calendar
from threadkit._records import JobRecord
from threadkit._timer import Timer
from threadkit.health import Status
from threadkit.stores import MemoryStore
from threadkit.testing import VirtualClock


@pytest.fixture
def queue():
    """A queue that is never started: the test itself takes the worker's steps."""
    made = WorkQueue(workers=0)
    made.handler("work")(lambda payload: payload)
    yield made
    made.stop()


def finish(queue, job):
    queue._run(job, queue._new_caller())
    job_module._current.set(None)


def test_a_job_that_ends_between_two_looks_of_a_cancel(queue, monkeypatch):
    """A cancel that finds a job running, and then finished, says that it came too late."""
    job = queue.submit("work", 1)
    queue._begin_next()
    condemn = queue._store.condemn

    def meanwhile(record, *rest):
        if record.state is JobState.RUNNING:
            finish(queue, record)
        return condemn(record, *rest)

    monkeypatch.setattr(queue._store, "condemn", meanwhile)
    assert not job.cancel()
    assert job.result(0) == 1


def test_a_job_that_goes_on_between_two_looks_of_a_cancel(queue, monkeypatch):
    """A cancel that finds a job running, and then waiting for its next attempt, cancels it there."""
    queue._retry = Retry(5)
    queue.handler("fail")(lambda payload: 1 / 0)
    job = queue.submit("fail")
    queue._begin_next()
    condemn = queue._store.condemn

    def meanwhile(record, *rest):
        if record.state is JobState.RUNNING:
            finish(queue, record)
        return condemn(record, *rest)

    monkeypatch.setattr(queue._store, "condemn", meanwhile)
    assert job.cancel()
    assert job.state is JobState.CANCELLED


def test_a_job_that_comes_due_between_two_looks_of_a_cancel(queue, monkeypatch):
    """A cancel that finds a job scheduled, and then pending, cancels it there."""
    job = queue.submit("work", delay=100)
    move = queue._store.move

    def meanwhile(record, before, after, *rest):
        if before is JobState.SCHEDULED and after is JobState.CANCELLED:
            queue._promote(record)
        return move(record, before, after, *rest)

    monkeypatch.setattr(queue._store, "move", meanwhile)
    assert job.cancel()
    assert (job.state, queue._store.has_ready()) == (JobState.CANCELLED, False)


def test_a_job_that_is_cancelled_in_a_workers_hand(queue, monkeypatch):
    """A worker that has taken a job out of the line, but comes too late to begin it, takes the next one."""
    first, second = queue.submit_many("work", [1, 2])
    claim = queue._store.claim

    def meanwhile():
        record = claim()
        if record is first:
            first.cancel()
        return record

    monkeypatch.setattr(queue._store, "claim", meanwhile)
    assert queue._begin_next() is second
    assert first.state is JobState.CANCELLED


def test_a_job_that_expires_as_it_begins(queue):
    """An expiry that comes when the job has begun changes nothing."""
    job = queue.submit("work", expires=100)
    queue._begin_next()
    queue._expire(job)
    assert job.state is JobState.RUNNING
    finish(queue, job)
    queue._expire(job)
    assert job.state is JobState.COMPLETED


def test_a_job_that_is_cancelled_as_it_is_dropped():
    """Where the job that is to make room is cancelled this very moment, there is room, and the submit goes on."""
    queue = WorkQueue(workers=0, maxsize=1, on_full="drop_oldest")
    queue.declare("work")
    job = queue.submit("work", 1)
    claim_oldest = queue._store.claim_oldest

    def meanwhile():
        record = claim_oldest()
        job.cancel()
        return record

    queue._store.claim_oldest = meanwhile
    assert queue.submit("work", 2).state is JobState.PENDING
    assert job.exception(0).why == "was cancelled"
    assert queue.stats().submitted == 2
    queue.stop()


def test_a_handler_that_comes_as_a_job_is_put_aside(queue):
    """A job that is put aside in the very moment in which its handler comes is not forgotten there."""
    queue.declare("late")
    job = queue.submit("late", 7)
    record = queue._store.claim()
    handler = record.handler
    queue.handler("late")(lambda payload: payload)
    queue._shelve(record, handler)
    assert queue._begin_next() is job


def test_two_who_clear_a_shelf(queue):
    """Of two who take jobs from a shelf, one may find the last one gone."""

    class Vanishing(deque):
        def popleft(self):
            raise IndexError

    handler = queue._handlers.declare("late")
    handler.shelf = Vanishing([JobRecord("x", 1, "late", None, 0.0)])
    queue._clear_shelf(handler)
    assert not queue._store.has_ready()


def test_two_who_claim_the_last_job():
    """Of two who claim the last job in the line one gets it, and the other finds none; whichever way they claim."""

    class Vanishing(deque):
        def popleft(self):
            raise IndexError

        def remove(self, item):
            self.clear()
            raise ValueError

    store = MemoryStore()
    store.open(bounds(1), HOST)
    record = JobRecord("x", 1, "late", None, 0.0)
    line = Vanishing([record])
    store._lines, store._line_of = (line,), {0: line}
    assert store.claim() is None
    assert store.claim_oldest() is None


def test_two_who_make_one_line():
    """Of two who put the first job of a priority into the line one makes its deque, and both use it."""
    store = MemoryStore()
    store.open(bounds(1), HOST)
    line = store._make_line(5)
    assert store._make_line(5) is line
    assert store._lines == (line,)


def test_two_who_forget_the_last_job():
    """Of two who forget the oldest finished job one finds none."""
    store = MemoryStore()
    store.open(bounds(0), HOST)
    store._forget_oldest(store._shelves[0])
    assert store.records() == []


def test_an_old_job_that_is_revived_meanwhile():
    """Of one who forgets an old job and one who revives it one succeeds."""
    store = MemoryStore()
    store.open(bounds(1), HOST)

    class Taken(deque):
        def remove(self, item):
            self.clear()
            raise ValueError

    record = store._table["x"] = JobRecord("x", 1, "work", None, 0.0)
    shelf = store._shelves[0]
    shelf.jobs = Taken([record])
    assert store._forget_old(shelf, 10.0) == math.inf
    assert store.get("x") is record


def test_two_who_make_the_notes(queue, monkeypatch):
    """Of two who ask for a job's notes first, both get the same."""
    job = queue.submit("work")
    other = {}

    class Late:
        def __enter__(self):
            job.notes = other

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(job_module, "_making", Late())
    assert job.meta is other


def test_an_observer_may_cancel_what_is_submitted():
    """A job that is cancelled by an observer of its submit is not run, not by the caller either."""
    queue = WorkQueue(workers=0, maxsize=1, on_full="caller_runs")
    queue.handler("work")(print)

    def veto(event):
        if isinstance(event, events.JobSubmitted):
            queue.cancel(event.job_id)

    first = queue.submit("work")
    queue.observe(veto)
    assert queue.submit("work").state is JobState.CANCELLED
    first.cancel()
    delayed = queue.submit("work", delay=100)
    assert (delayed.state, queue.work_left()) == (JobState.CANCELLED, 0)
    assert queue.submit("work").state is JobState.CANCELLED
    assert queue._begin_next() is None
    queue.stop()


def test_a_rescue_may_come_too_late(queue):
    """An interrupt that strikes when a job has settled leaves it as it is."""
    job = queue.submit("work", 1)
    queue._begin_next()
    finish(queue, job)
    queue._rescue(job, SystemExit())
    assert job.state is JobState.COMPLETED


def test_what_was_cancelled_is_not_interrupted():
    """A running job that was cancelled before its queue's time was over stays cancelled."""
    gate, begun = Gate(), Gate()
    queue = WorkQueue(workers=1)

    @queue.handler
    def stubborn(payload):
        begun.open()
        gate.pass_through()

    queue.start()
    job = queue.submit(stubborn)
    begun.pass_through()
    job.cancel()
    queue.stop()
    queue.close()
    assert queue.stats().interrupted == 0
    assert "left waiting" in str(job.exception(0))
    gate.open()
    assert queue.join(5)
    assert job.state is JobState.CANCELLED
    assert "was cancelled" in str(job.exception(0))


def test_an_async_submit_finds_room_at_once(queue):
    """An awaited submit to a queue with room does not wait."""
    assert asyncio.run(queue.asubmit("work", 5)).payload == 5


def test_an_async_submit_waits_for_room():
    """An awaited submit to a full queue goes on when a job makes room."""

    async def submit() -> object:
        queue = WorkQueue(workers=0, maxsize=1)
        queue.declare("work")
        first = queue.submit("work", 1)
        second = asyncio.create_task(queue.asubmit("work", 2))
        for _ in range(5):  # turns of the loop
            await asyncio.sleep(0)
        assert not second.done()
        assert first.cancel()
        return (await second).payload

    assert asyncio.run(submit()) == 2


def test_finished_jobs_take_no_room_after_an_adoption(queue):
    """Jobs that had finished when their queue joined a lifecycle take no room in it."""
    queue._maxsize = 1
    queue._on_full = "reject"
    queue.submit("work").cancel()
    with Lifecycle() as lc:
        lc.add(queue)
        assert queue.submit("work").state is JobState.PENDING


def test_a_drain_sleeps_on_while_another_job_runs():
    """Who waits for the last job is woken by the last but one, and goes on waiting."""
    clock = VirtualClock()
    with WorkQueue(workers=2, clock=clock) as queue:

        @queue.handler
        def work(payload, ctx: JobContext):
            ctx.token.sleep(payload)

        queue.submit_many(work, [1, 2])
        draining = Background(lambda: queue.drain(100))
        clock.wait_for_sleepers(3)
        clock.advance(1)
        clock.wait_for_sleepers(2)
        assert draining.thread.is_alive()
        clock.advance(1)
        assert draining.result()


def test_a_drain_that_does_not_wait_for_delayed_jobs_ends_with_a_snooze():
    """A drain that leaves scheduled jobs aside ends when the last job that runs has put itself off."""
    clock = VirtualClock()
    queue = WorkQueue(workers=0, clock=clock)

    @queue.handler
    def put_off(payload):
        raise Snooze(3600)

    queue.submit(put_off)
    job = queue._begin_next()
    draining = Parked(clock, lambda: queue.drain(delayed=False))
    assert draining.waits
    finish(queue, job)
    assert draining.result()
    queue.stop()


def test_a_drain_ends_when_what_has_been_cancelled_leaves_the_line():
    """A drain ends although the last job ended while a cancelled one, which a worker had in hand, was in the line."""
    clock = VirtualClock()
    queue = WorkQueue(workers=0, clock=clock)
    queue.handler("work", concurrency=1)(lambda payload: payload)
    last, cancelled = queue.submit_many("work", [1, 2])
    queue._begin_next()
    limits = queue._handlers.find("work").limits
    admit = limits.admit

    def meanwhile(record):
        assert cancelled.cancel()
        return admit(record)

    limits.admit = meanwhile
    assert queue._begin_next() is None
    limits.admit = admit
    draining = Parked(clock, queue.drain)
    assert draining.waits
    finish(queue, last)
    assert queue._begin_next() is None
    assert draining.result()
    queue.stop()


def test_a_drain_ends_when_a_cancelled_job_is_dropped():
    """A drain ends although the last thing in the line was a cancelled job, and a submit that makes room found it."""
    clock = VirtualClock()
    queue = WorkQueue(workers=0, clock=clock)
    queue.handler("work")(lambda payload: payload)
    last, cancelled = queue.submit_many("work", [1, 2])
    queue._begin_next()
    cancelled.cancel()
    queue._store.push(cancelled)  # whoever had it in hand was about to put it into the line
    draining = Parked(clock, queue.drain)
    finish(queue, last)
    assert draining.waits
    queue._drop(queue._store.claim_oldest())
    assert draining.result()
    queue.stop()


def test_a_queue_is_degraded_while_its_store_cannot_do_its_work():
    """Health says why from the moment that the store tells of its trouble until it tells that this has gone."""
    told = []
    with WorkQueue(workers=0, store=MemoryStore()) as queue:
        queue.observe(told.append)
        queue._on_trouble(OSError("no disk"))
        health = queue.health()
        assert (health.status, health.detail) == (
            Status.DEGRADED,
            "the store cannot do its work, and tries again: no disk",
        )
        queue._on_trouble(None)
        assert queue.health().status is Status.READY
    assert [type(event) for event in told[:2]] == [events.StoreFailed, events.StoreRecovered]


def test_a_crew_that_shrinks_and_grows_again():
    """A worker that asks whether it is one too many when that has passed stays."""
    crew = Crew(VirtualClock(), "crew", lambda is_surplus: None, lambda: None)
    crew._threads = {0: threading.current_thread()}
    crew.shrinks = True
    assert crew._is_surplus(0)
    assert not crew.shrinks
    assert not crew._is_surplus(0)


def test_a_worker_that_is_hit_again_and_again_rests(caplog):
    """A worker that is hit by one error after the other goes on once a second."""
    clock, blows, ended = VirtualClock(), [], Gate()

    def work(is_surplus):
        blows.append(clock.monotonic())
        if len(blows) < 6:
            raise SystemExit

    crew = Crew(clock, "crew", work, ended.open)
    crew.resize(1)
    clock.advance(10)
    ended.pass_through()
    assert blows == [0.0, 0.0, 1.0, 2.0, 3.0, 4.0]
    assert caplog.text.count("worker crew_0 was hit") == 5


def test_a_store_that_has_nothing_to_do_in_time():
    """Where no job is forgotten by its age there is no alarm, and to ask for one does nothing."""
    timer = Timer(SYSTEM_CLOCK, "timer")
    calendar = Calendar(timer, lambda record: None, lambda record: None)
    calendar.look_within(1.0)
    calendar.open()
    assert len(timer) == 0


def test_a_number_that_is_given_again_is_its_new_threads():
    """A thread that was one too many, and ends late, takes nobody out of the crew who has its number by now."""
    leaves, gate, seen = Gate(), Gate(), []

    def work(is_surplus):
        seen.append(threading.current_thread())
        began.open()
        if len(seen) == 1:
            gate.pass_through()
            assert is_surplus()
            leaves.open()
            late.pass_through()
        else:
            late.pass_through()
            over.pass_through()

    late, over, began = Gate(), Gate(), Gate()
    crew = Crew(SYSTEM_CLOCK, "crew", work, lambda: None)
    crew.resize(1)
    began.pass_through()
    (first,) = crew.threads()
    crew.resize(0)
    gate.open()
    leaves.pass_through()
    began = Gate()
    crew.resize(1)
    began.pass_through()
    late.open()
    first.join(5)
    assert not first.is_alive()
    assert (len(crew), crew.is_empty()) == (1, False)
    over.open()
    for thread in seen:
        thread.join(5)
    assert crew.is_empty()


def test_a_worker_that_ends_with_work_in_the_line_wakes_another():
    """Where a worker is one too many, and has been rung for a job, another one does it."""
    running, gate = Gate(), Gate()
    with WorkQueue(workers=2) as queue:

        @queue.handler
        def work(payload):
            running.open()
            gate.pass_through()
            return payload

        jobs = [queue.submit(work, 1)]
        running.pass_through()
        queue.resize(1)
        jobs += queue.submit_many(work, [2, 3])
        gate.open()
        assert [job.result(5) for job in jobs] == [1, 2, 3]


def test_two_rescue_what_is_adrift(queue):
    """Of two workers who look for a job that another was hit with one finds it gone."""
    job = queue.submit("work")
    assert queue._begin_next() is job
    queue._adrift.append((job, SystemExit()))

    class Gone(deque):
        def popleft(self):
            taken = super().popleft()
            queue._rescue(*taken)
            return super().popleft()

    queue._adrift = Gone(queue._adrift)
    queue._rescue_all()
    assert (job.state, len(job.errors)) == (JobState.FAILED, 1)
