"""The work queue: handlers, submits, order, bounds, keys, steering, figures."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import math
import threading
import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest
from helpers import Background, Gate

from threadkit import (
    DuplicateName,
    Full,
    JobCancelled,
    JobContext,
    JobState,
    Lifecycle,
    Retry,
    UnknownHandler,
    WorkQueue,
    WouldBlock,
    current_job,
    events,
)
from threadkit.testing import VirtualClock


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def queue(clock):
    made = WorkQueue(workers=1, clock=clock)
    made.seen = []
    made.handler("work")(made.seen.append)
    yield made
    made.stop()
    assert made.join(5)


def figures(queue):
    stats = queue.stats()
    return {str(state): getattr(stats, state) for state in JobState if getattr(stats, state)}


class Busy:
    """A queue with one worker that is kept busy, so that what is submitted waits."""

    def __init__(self, **options):
        self.gate, begun = Gate(), Gate()
        self.seen = []
        self.queue = WorkQueue(workers=1, **options)
        self.queue.start()

        @self.queue.handler
        def occupy(payload):
            begun.open()
            self.gate.pass_through()

        @self.queue.handler
        def work(payload):
            self.seen.append((payload, threading.current_thread().name))

        self.queue.submit(occupy)
        begun.pass_through()

    def __enter__(self):
        return self.queue

    def __exit__(self, *_):
        self.gate.open()
        self.queue.stop()
        assert self.queue.join(5)


# -- handlers ---------------------------------------------------------------------------------------------------------


def test_a_handler_stays_the_function_it_is(queue):
    """The decorator returns the function unchanged, bare, with a name and with options."""

    def function(payload):
        return payload

    assert queue.handler(function) is function
    assert queue.handler("named")(function) is function
    assert queue.handler(name="again", retry=Retry(2), timeout=5, concurrency=2)(function) is function
    assert queue.submit("named").name == "named"
    assert queue.submit(function).name == "function"


def test_handlers_are_known_once(queue):
    """A second handler of one name is refused, and the first stays."""
    with pytest.raises(DuplicateName, match="'work'"):
        queue.handler("work")(print)
    queue.start()
    queue.submit("work", 1).result(5)
    assert queue.seen == [1]


@pytest.mark.parametrize(
    ("decorate", "named"),
    [
        (lambda queue: queue.handler("x")(None), "handler"),
        (lambda queue: queue.handler(7), "name"),
        (lambda queue: queue.handler(""), "name"),
        (lambda queue: queue.handler(lambda: None), "payload"),
        (lambda queue: queue.handler(lambda payload, ctx, more: None), "payload"),
        (lambda queue: queue.handler(retry=3)(print), "retry"),
        (lambda queue: queue.handler(timeout=-1)(print), "timeout"),
        (lambda queue: queue.handler(concurrency=0)(print), "concurrency"),
        (lambda queue: queue.handler(rate="fast")(print), "rate"),
        (lambda queue: queue.handler(serial_by="user")(print), "serial_by"),
        (lambda queue: queue.declare(None), "name"),
    ],
)
def test_bad_handlers_are_refused(queue, decorate, named):
    """A handler or a rule that makes no sense is refused by an error that names it, and leaves nothing behind."""
    with pytest.raises((TypeError, ValueError), match=named):
        decorate(queue)
    assert [handler.name for handler in queue._handlers.all()] == ["work"]


def test_jobs_are_submitted_by_name_or_function(queue):
    """A job is for the handler of a name, or for the function itself; what nobody knows is refused."""

    class Unhashable:
        __hash__ = None

        def __call__(self, payload):
            return payload

    thing = Unhashable()
    queue.handler("thing")(thing)
    assert queue.submit("thing").name == "thing"
    with pytest.raises(UnknownHandler, match="'works'; known are 'work', 'thing'"):
        queue.submit("works")
    with pytest.raises(UnknownHandler, match="'len'"):
        queue.submit(len)
    with pytest.raises(UnknownHandler):
        queue.submit(thing)
    with pytest.raises(TypeError, match="name_or_handler"):
        queue.submit(7)
    assert queue.stats().submitted == 1


def test_async_handlers(queue, clock):
    """An async handler runs on an event loop of its worker, one loop for all its jobs."""
    loops = set()

    @queue.handler
    async def double(payload):
        loops.add(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return 2 * payload

    queue.start()
    assert [job.result(5) for job in queue.submit_many(double, [1, 2, 3])] == [2, 4, 6]
    assert len(loops) == 1


def test_a_declared_name_waits_for_its_handler(queue, clock):
    """Jobs of a name that is only declared wait, without a worker, until the handler comes; in order."""
    queue.start()
    queue.declare("late")
    queue.declare("late")
    jobs = queue.submit_many("late", [1, 2])
    delayed = queue.submit("late", 3, delay=1)
    unlucky = queue.submit("late", 4)
    clock.advance(2)
    assert figures(queue) == {"pending": 4}
    assert unlucky.cancel()
    assert queue.submit("work", 0).result(5) is None
    queue.handler("late")(queue.seen.append)
    queue.declare("late")
    assert queue.drain(5)
    assert queue.seen == [0, 1, 2, 3]
    assert (jobs[0].state, delayed.state, unlucky.state) == ("completed", "completed", "cancelled")


# -- order and time ---------------------------------------------------------------------------------------------------


def test_jobs_may_come_before_the_start(queue, clock):
    """What is submitted before start() is done after it; delays and expiries count from the submit."""
    queue.submit("work", 1)
    queue.submit("work", 2, delay=10)
    late = queue.submit("work", 3, delay=20, expires=15)
    gone = queue.submit("work", 4, delay=20)
    gone.cancel()
    clock.advance(5)
    assert figures(queue) == {"pending": 1, "scheduled": 2, "cancelled": 1}
    queue.start()
    clock.advance(4)
    assert queue.seen == [1]
    clock.advance(1)
    assert queue.seen == [1, 2]
    clock.advance(30)
    assert late.state is JobState.EXPIRED


def test_positions_follow_the_priorities(queue):
    """Of what waits, the highest priority stands first, and what has one priority stands in order."""
    jobs = [queue.submit("work", n, priority=p) for n, p in enumerate([0, -1, 5, 0, 5])]
    assert [queue.position(job.id) for job in jobs] == [2, 4, 0, 3, 1]


def test_priorities_are_obeyed(queue):
    """Jobs are done in the order of their priorities, and in the order of their coming within one."""
    for n, priority in enumerate([0, -1, 5, 0, 5]):
        queue.submit("work", n, priority=priority)
    queue.start()
    assert queue.drain(5)
    assert queue.seen == [2, 4, 0, 3, 1]


def test_position(queue, clock):
    """Only a pending job has a position: none when it is delayed, unknown or done."""
    first, second = queue.submit_many("work", [1, 2])
    delayed = queue.submit("work", delay=5)
    assert [queue.position(job.id) for job in (first, second, delayed)] == [0, 1, None]
    assert queue.position("nobody") is None
    queue.start()
    clock.settle()
    assert queue.position(first.id) is None


@pytest.mark.parametrize(
    "wait", [{"delay": 60}, {"delay": timedelta(minutes=1)}, {"at": datetime(2026, 1, 1, 0, 1, tzinfo=UTC)}]
)
def test_a_delayed_job_runs_when_it_is_due(queue, clock, wait):
    """A job with a delay, or a time of its own, runs at that time, not before and not later."""
    queue.start()
    job = queue.submit("work", 1, **wait)
    assert job.state is JobState.SCHEDULED
    clock.advance(59.9)
    assert queue.seen == []
    clock.advance(0.1)
    assert job.state is JobState.COMPLETED


def test_what_is_due_is_not_delayed(queue):
    """A delay of zero, or a time that has passed, is no delay."""
    assert queue.submit("work", delay=0.0).state is JobState.PENDING
    assert queue.submit("work", at=datetime(2020, 1, 1, tzinfo=UTC)).state is JobState.PENDING


def test_a_job_expires(queue, clock):
    """A job that nobody has begun in time expires, delayed or not; one that began does not."""
    queue.pause()
    queue.start()
    waiting, delayed = queue.submit("work", 1, expires=10), queue.submit("work", 2, delay=20, expires=10)
    lasting = queue.submit("work", 3, expires=math.inf)
    clock.advance(10)
    for job in (waiting, delayed):
        with pytest.raises(JobCancelled, match="has expired"):
            job.result()
        assert job.state is JobState.EXPIRED
    assert lasting.state is JobState.PENDING
    queue.resume()
    fresh = queue.submit("work", 4, expires=10)
    clock.advance(100)
    assert (fresh.state, queue.seen) == ("completed", [3, 4])
    assert figures(queue) == {"completed": 2, "expired": 2}


def test_a_late_timer_lets_nothing_run_that_has_expired(queue, clock):
    """A worker that is quicker than the timer sees by itself that a job has expired."""
    job = queue.submit("work", 1, expires=10)
    clock.advance(10)
    assert queue._begin_next() is None
    assert job.state is JobState.EXPIRED


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"delay": -1}, "delay"),
        ({"delay": math.nan}, "delay"),
        ({"delay": math.inf}, "delay"),
        ({"delay": False}, "delay"),
        ({"delay": None}, "delay"),
        ({"delay": "5"}, "delay"),
        ({"at": datetime(2026, 1, 1)}, "at"),  # noqa: DTZ001 - that is the point
        ({"at": 5}, "at"),
        ({"at": datetime(2026, 1, 1, tzinfo=UTC), "delay": 1}, "delay and at"),
        ({"priority": 1.5}, "priority"),
        ({"priority": True}, "priority"),
        ({"priority": None}, "priority"),
        ({"key": ""}, "key"),
        ({"key": 7}, "key"),
        ({"on_conflict": "explode"}, "on_conflict"),
        ({"retry": 3}, "retry"),
        ({"expires": -1}, "expires"),
        ({"timeout": "1"}, "timeout"),
        ({"timeout": math.nan}, "timeout"),
    ],
)
def test_bad_submits_are_refused(queue, options, named):
    """An option that makes no sense is refused by an error that names it, and nothing is submitted; awaited or not."""
    with pytest.raises((TypeError, ValueError), match=named):
        queue.submit("work", **options)
    with pytest.raises((TypeError, ValueError), match=named):
        asyncio.run(queue.asubmit("work", **options))
    assert queue.stats().submitted == 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"name": ""}, "name"),
        ({"workers": -1}, "workers"),
        ({"workers": 1.5}, "workers"),
        ({"workers": True}, "workers"),
        ({"maxsize": 0}, "maxsize"),
        ({"maxsize": 1.5}, "maxsize"),
        ({"on_full": "explode"}, "on_full"),
        ({"executor": print}, "executor"),
        ({"retry": 3}, "retry"),
        ({"keep": -1}, "keep"),
        ({"keep": None}, "keep"),
        ({"on_stop": "now"}, "on_stop"),
    ],
)
def test_bad_queues_are_refused(options, named):
    """A queue that makes no sense is refused by an error that names the parameter."""
    with pytest.raises((TypeError, ValueError), match=named):
        WorkQueue(**options)


# -- bounds -----------------------------------------------------------------------------------------------------------


def test_a_full_queue_refuses():
    """With "reject", a submit to a full queue raises Full; jobs that run do not count, delayed ones do."""
    with Busy(maxsize=2, on_full="reject") as queue:
        queue.submit("work", 1)
        queue.submit("work", 2, delay=100).cancel()
        queue.submit("work", 3, delay=100)
        with pytest.raises(Full, match="2 are waiting"):
            queue.submit("work", 4)
        with pytest.raises(Full):
            asyncio.run(queue.asubmit("work", 4))
        assert queue.stats().submitted == 4


def test_a_full_queue_drops_the_oldest():
    """With "drop_oldest", the pending job that has waited longest makes room; where none pends, none can."""
    busy = Busy(maxsize=2, on_full="drop_oldest")
    with busy as queue:
        old, middle = queue.submit("work", 1, expires=1000), queue.submit("work", 2, priority=1)
        new = queue.submit("work", 3)
        with pytest.raises(JobCancelled, match="was dropped"):
            old.result(5)
        other = asyncio.run(queue.asubmit("work", 4))
        assert [job.state for job in (old, middle, new, other)] == ["cancelled", "cancelled", "pending", "pending"]
        new.cancel()
        other.cancel()
        for _ in range(2):
            queue.submit("work", 5, delay=1000)
        with pytest.raises(Full):
            queue.submit("work", 6)
        assert figures(queue) == {"running": 1, "scheduled": 2, "cancelled": 4}
    assert busy.seen == []


def test_a_full_queue_lets_the_caller_run():
    """With "caller_runs", the submitting thread does the job itself; what cannot run at once is refused."""
    busy = Busy(maxsize=1, on_full="caller_runs")
    with busy as queue:
        queue.handler("limited", concurrency=1)(print)
        queue.declare("later")
        queue.submit("work", 1)
        job = queue.submit("work", 2)
        assert (job.state, busy.seen) == ("completed", [(2, "MainThread")])
        assert job.result(0) is None
        for name, options in [("work", {"delay": 5}), ("limited", {}), ("later", {})]:
            with pytest.raises(Full):
                queue.submit(name, **options)
        with pytest.raises(Full):
            asyncio.run(_submit(queue))
        nested = []
        queue.handler("nested")(lambda payload: nested.append(queue.submit("work", 3).state))
        assert queue.submit("nested").result(0) is None
        assert nested == ["completed"]


def test_a_caller_that_runs_may_fail():
    """A job that fails in the caller's thread fails as any other, and is tried again by the workers."""
    with Busy(maxsize=1, on_full="caller_runs", retry=Retry(1)) as queue:
        queue.handler("fail")(lambda payload: payload[0])
        queue.submit("work", 1)
        job = queue.submit("fail", [])
        assert isinstance(job.exception(0).__cause__, IndexError)


def test_a_caller_that_is_interrupted(monkeypatch):
    """An interrupt that strikes the caller between two steps of the queue leaves no job running."""
    with Busy(maxsize=1, on_full="caller_runs") as queue:
        waiting = queue.submit("work", 1)
        settle = queue._settle

        def strike(*_):
            monkeypatch.setattr(queue, "_settle", settle)
            raise KeyboardInterrupt

        monkeypatch.setattr(queue, "_settle", strike)
        with pytest.raises(KeyboardInterrupt):
            queue.submit("work", 2)
        (failed,) = queue.dead_letters()
        assert isinstance(failed.exception(0).__cause__, KeyboardInterrupt)
        assert figures(queue) == {"running": 1, "pending": 1, "failed": 1}
        assert waiting.state is JobState.PENDING


async def _submit(queue, payload=None):
    return queue.submit("work", payload)


def test_a_full_queue_blocks():
    """With "block", a submit waits until there is room, in a thread or on an event loop."""
    busy = Busy(maxsize=1)
    with busy as queue:
        queue.submit("work", 1)
        one = Background(lambda: queue.submit("work", 2))
        other = Background(lambda: asyncio.run(queue.asubmit("work", 3)))
        with pytest.raises(WouldBlock, match="asubmit"):
            asyncio.run(_submit(queue))
        busy.gate.open()
        assert {one.result().result(5), other.result().result(5)} == {None}
    assert sorted(payload for payload, _ in busy.seen) == [1, 2, 3]


@pytest.mark.parametrize("wait", ["submit", "asubmit", "drain"])
def test_a_job_must_not_wait_for_its_own_queue(wait):
    """A job that would wait for its own queue is told so instead of hanging; another queue's it may wait for."""
    with WorkQueue(workers=1, maxsize=1, retry=Retry(1)) as queue, WorkQueue(workers=1) as other:
        queue.handler("work")(print)
        other.handler("work")(lambda payload: None)

        @queue.handler
        def selfish(payload):
            other.submit("work")
            assert other.drain(5)
            if wait == "drain":
                queue.drain()
            queue.submit("work")
            queue.submit("work") if wait == "submit" else asyncio.run(queue.asubmit("work"))

        cause = queue.submit(selfish).exception(5).__cause__
        assert isinstance(cause, WouldBlock)
        assert wait in str(cause)


def test_a_retry_is_never_refused(clock):
    """A job that is to be tried again waits even where the queue is full; as many more are refused meanwhile."""
    queue = WorkQueue(workers=1, clock=clock, maxsize=1, on_full="reject", retry=Retry(2, lambda state: 10))
    with queue:

        @queue.handler
        def fail(payload):
            raise ValueError

        job = queue.submit(fail)
        clock.settle()
        assert job.state is JobState.RETRYING
        with pytest.raises(Full):
            queue.submit(fail)
        clock.advance(10)
        assert job.state is JobState.FAILED
        queue.submit(fail)


# -- keys -------------------------------------------------------------------------------------------------------------


def test_one_unfinished_job_for_each_key(queue, clock):
    """While a job with a key is unfinished, a second submit returns it, is refused, or replaces it, as it says."""
    queue.start()
    job = queue.submit("work", 1, key="k", delay=10)
    assert queue.submit("work", 2, key="k") is job
    assert asyncio.run(queue.asubmit("work", 2, key="k")) is job
    with pytest.raises(DuplicateName, match="'k'"):
        queue.submit("work", 3, key="k", on_conflict="reject")
    new = queue.submit("work", 4, key="k", delay=10, on_conflict="replace")
    with pytest.raises(JobCancelled, match="was replaced"):
        job.result(0)
    clock.advance(10)
    assert queue.seen == [4]
    again = queue.submit("work", 5, key="k", on_conflict="reject")
    assert again is not new
    assert queue.stats().submitted == 3


def test_a_running_job_is_replaced_by_its_token(clock):
    """A replaced job that runs is told by its token, and ends as cancelled; the new one has the key."""
    begun = Gate()
    with WorkQueue(workers=2) as queue:

        @queue.handler
        def work(payload, ctx: JobContext):
            begun.open()
            return payload or ctx.token.wait(5)

        old = queue.submit(work, key="k")
        begun.pass_through()
        new = queue.submit(work, 2, key="k", on_conflict="replace")
        assert new.result(5) == 2
        with pytest.raises(JobCancelled, match="was replaced"):
            old.result(5)


@pytest.mark.parametrize("on_full", ["reject", "caller_runs"])
def test_a_key_that_is_taken_this_very_moment(on_full, monkeypatch):
    """Of two submits with one key that meet, one gets the other's job, and gives its room back."""
    with Busy(maxsize=1, on_full=on_full) as queue:
        first = queue.submit("work", 1, key="k")
        monkeypatch.setattr(queue._store, "holder", lambda key: None)
        if on_full == "reject":
            queue._permits.resize(1)
        assert queue.submit("work", 2, key="k") is first
        assert queue.stats().submitted == 2
        if on_full == "caller_runs":
            new = queue.submit("work", 3, key="k", on_conflict="replace")
            assert (first.state, new.state) == ("cancelled", "completed")


# -- steering and looking ---------------------------------------------------------------------------------------------


def test_cancel(clock):
    """What waits is cancelled at once; what runs is told, and ends as cancelled whatever its handler returns."""
    begun, told = Gate(), []
    with WorkQueue(workers=1) as queue:

        @queue.handler
        def obedient(payload, ctx: JobContext):
            begun.open()
            told.append(ctx.token.wait(5))
            told.append(ctx.token.reason)
            return "a result that nobody gets"

        running, waiting = queue.submit_many(obedient, [1, 2])
        delayed = queue.submit(obedient, delay=1000)
        begun.pass_through()
        assert waiting.cancel()
        assert waiting.state is JobState.CANCELLED
        assert delayed.cancel()
        assert running.cancel()
        assert running.cancel()
        with pytest.raises(JobCancelled, match="was cancelled"):
            running.result(5)
        assert (running.state, told, running.value) == (JobState.CANCELLED, [True, "was cancelled"], None)
        assert waiting.cancel()
        assert not queue.cancel("nobody")
        assert queue.drain(5)
        done = queue.submit(obedient)
        done.cancel()
        assert len(queue._timer) == 0


def test_a_finished_job_cannot_be_cancelled(queue):
    """A job that has its result keeps it."""
    queue.start()
    job = queue.submit("work")
    job.result(5)
    assert not job.cancel()
    assert job.state is JobState.COMPLETED


def test_pause_and_resume(queue, clock):
    """A paused queue takes jobs in and begins none; a resumed one does them all."""
    queue.start()
    queue.pause()
    assert queue.stats().paused
    queue.submit_many("work", [1, 2])
    clock.settle()
    assert figures(queue) == {"pending": 2}
    queue.resume()
    assert queue.drain(5)
    assert queue.seen == [1, 2]


def test_resize(clock):
    """The number of workers can be changed before the start and while they work; those that are too many end."""
    gate, all_at_work = Gate(), threading.Barrier(5)

    def work(payload):
        if payload is not None:
            all_at_work.wait(5)
        gate.pass_through()

    queue = WorkQueue(workers=0, clock=clock)
    queue.handler(work)
    queue.resize(2)
    with queue:
        clock.settle()
        assert queue.stats().workers == 2
        jobs = queue.submit_many("work", range(4))
        queue.resize(4)
        all_at_work.wait(5)
        queue.resize(1)
        gate.open()
        for job in jobs:
            job.result(5)
        clock.settle()
        assert queue.stats().workers == 1
        queue.resize(0)
        clock.settle()
        assert queue.stats().workers == 0
        stuck = queue.submit("work")
        clock.settle()
        assert stuck.state is JobState.PENDING
        queue.resize(1)
        stuck.result(5)
    for wrong in (-1, True, None, 1.5):
        with pytest.raises((TypeError, ValueError), match="workers"):
            queue.resize(wrong)


def test_drain(queue, clock):
    """drain() waits until nothing is left, scheduled jobs included unless it is told otherwise."""
    assert queue.drain()
    queue.start()
    queue.submit("work", 1)
    queue.submit("work", 2, delay=100)
    assert queue.drain(5, delayed=False)
    assert not queue.drain(0)
    waiting = Background(queue.drain)
    clock.wait_for_sleepers(1)
    clock.advance(100)
    assert waiting.result()
    assert queue.seen == [1, 2]
    with pytest.raises(ValueError, match="timeout"):
        queue.drain(-1)


def test_looking_at_jobs(queue, clock):
    """Jobs can be had by id and by state, in the order of their coming."""
    jobs = queue.submit_many("work", [1, 2])
    delayed = queue.submit("work", delay=100)
    assert queue.get(jobs[0].id) is jobs[0]
    assert queue.get("nobody") is None
    assert queue.jobs() == [*jobs, delayed]
    assert queue.jobs("scheduled") == queue.jobs(JobState.SCHEDULED) == [delayed]
    with pytest.raises(ValueError, match="lost"):
        queue.jobs("lost")


def test_old_jobs_are_forgotten(clock):
    """A queue remembers as many finished jobs as it is told to keep, and counts all of them."""
    with WorkQueue(workers=1, keep=2) as queue:
        queue.handler("work")(lambda payload: payload)
        jobs = queue.submit_many("work", range(5))
        assert jobs[-1].result(5) == 4
        assert queue.jobs() == jobs[-2:]
        assert jobs[0].result(0) == 0
        assert queue.stats().completed == 5


def test_figures(queue, clock):
    """The figures are one frozen record, and a dict for those who want one."""
    queue.submit_many("work", [1, 2, 3])
    stats = queue.stats()
    assert stats.as_dict() == {
        "submitted": 3,
        "scheduled": 0,
        "pending": 3,
        "running": 0,
        "retrying": 0,
        "completed": 0,
        "failed": 0,
        "cancelled": 0,
        "expired": 0,
        "discarded": 0,
        "retries": 0,
        "interrupted": 0,
        "attempts": 0,
        "waited": 0.0,
        "worked": 0.0,
        "unfinished_work": 0.0,
        "longest_running": 0.0,
        "workers": 0,
        "abandoned": 0,
        "paused": False,
        "depth": 3,
        "adds": 3,
        "latency": 0.0,
        "work_duration": 0.0,
    }
    with pytest.raises(AttributeError):
        stats.submitted = 4
    assert queue.work_left() == 3


def test_figures_add_up_at_every_moment():
    """Whatever submitters, workers, cancels and retries do meanwhile, the figures add up whenever one looks."""
    with WorkQueue(workers=3, retry=Retry(2, lambda state: 0.0), on_stop="finish") as queue:

        @queue.handler
        def work(payload):
            if payload % 5 == 0:
                raise ValueError

        def produce():
            for n in range(300):
                job = queue.submit(work, n)
                if n % 3 == 0:
                    job.cancel()

        producers = [Background(produce) for _ in range(2)]
        looks = 0
        while any(producer.thread.is_alive() for producer in producers) or not queue.drain(0):
            stats = queue.stats()
            states = [getattr(stats, state) for state in JobState]
            assert sum(states) == stats.submitted
            assert min(states) >= 0
            looks += 1
        for producer in producers:
            producer.result()
        assert queue.stats().submitted == 600
        assert looks


def test_events_tell_the_story(queue, clock):
    """What happens to a job is told as events, in order."""
    told = []
    queue.observe(lambda event: told.append(type(event).__name__))
    queue.start()
    queue.submit("work", 1).result(5)
    queue.submit("work", 2, delay=5).cancel()
    clock.settle()
    assert [name for name in told if name.startswith("Job")] == [
        "JobSubmitted",
        "JobStarted",
        "JobCompleted",
        "JobSubmitted",
        "JobEnded",
    ]
    completed = events.JobCompleted(component="jobs", job_id="1", handler="work", attempt=1, seconds=0.5)
    assert "completed in 0.5 s" in str(completed)


# -- executors, lifecycles, memory ------------------------------------------------------------------------------------


async def triple(payload):
    await asyncio.sleep(0)
    return 3 * payload


def test_handlers_may_run_on_an_executor():
    """With an executor, handlers run there, plain and async, as many at once as there are workers."""
    with cf.ThreadPoolExecutor(4, "engine") as engine, WorkQueue(workers=2, executor=engine, retry=Retry(1)) as queue:
        lock, running, most = threading.Lock(), set(), []

        @queue.handler
        def where(payload):
            me = threading.current_thread().name
            with lock:
                running.add(me)
                most.append(len(running))
            with lock:
                running.discard(me)
            return me

        @queue.handler
        def fail(payload, ctx: JobContext):
            raise KeyboardInterrupt(ctx.attempt)

        queue.handler(triple)
        assert {job.result(5).partition("_")[0] for job in queue.submit_many(where, range(20))} == {"engine"}
        assert max(most) <= 2
        assert queue.submit(triple, 2).result(5) == 6
        assert isinstance(queue.submit(fail).exception(5).__cause__, KeyboardInterrupt)
        assert engine._max_workers == 4


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_handler_on_a_pool_of_threads_knows_its_job(kind):
    """On a pool of threads a handler can ask for its job, and is kept from waiting for its own full queue."""
    may_submit = Gate()
    with cf.ThreadPoolExecutor(1) as engine, WorkQueue(workers=1, maxsize=1, executor=engine) as queue:

        def plain(payload):
            if payload == "first":
                may_submit.pass_through()
                with pytest.raises(WouldBlock):
                    queue.submit("work")
                with pytest.raises(WouldBlock):
                    queue.drain()
            return current_job().job_id

        async def coroutine(payload):
            return plain(payload)

        queue.handler("work")(plain if kind == "plain" else coroutine)
        first = queue.submit("work", "first")
        second = queue.submit("work")
        may_submit.open()
        assert (first.result(5), second.result(5)) == (first.id, second.id)


def test_an_executor_that_may_be_elsewhere_is_given_no_context():
    """An executor of which nobody says where it runs is given the handler itself, which can be pickled if that can."""
    given = []

    class Elsewhere(cf.Executor):
        def submit(self, fn, /, *args, **kwargs):
            given.append((fn, args))
            future = cf.Future()
            future.set_result(fn(*args))
            return future

    queue = WorkQueue(workers=0, executor=Elsewhere())
    queue.handler("work")(str)
    job = queue.submit("work", 1)
    queue.run_next()
    assert (job.result(0), given) == ("1", [(str, (1,))])
    queue.stop()


def test_a_queue_may_be_adopted_with_its_jobs():
    """A queue that was filled before it joined a lifecycle keeps its jobs, and their delays."""
    clock = VirtualClock()
    clock.advance(1000)
    queue = WorkQueue(workers=1, maxsize=3, on_full="reject")
    seen = []
    queue.handler("work", concurrency=1)(seen.append)
    job = queue.submit("work", 1)
    queue.submit("work", 2, delay=50)
    late = queue.submit("work", 3, delay=80, expires=60)
    with Lifecycle(clock=clock) as lc:
        lc.add(queue)
        clock.advance(1)
        assert (job.state, seen) == ("completed", [1])
        clock.advance(60)
        assert (seen, late.state) == ([1, 2], "expired")
        queue.submit("work", 4)


def test_a_queue_that_was_adopted_is_as_full_as_before():
    """Jobs that wait take room in the queue after it joined a lifecycle too."""
    queue = WorkQueue(workers=0, maxsize=2, on_full="reject")
    queue.declare("work")
    queue.submit("work")
    queue.submit("work", delay=5)
    with Lifecycle() as lc:
        lc.add(queue)
        with pytest.raises(Full):
            queue.submit("work")


def test_idle_workers_keep_nothing_alive(clock):
    """A worker that waits holds no reference to the job that it did last."""
    import weakref

    with WorkQueue(workers=1, clock=clock, keep=0) as queue:
        queue.handler("work")(lambda payload: None)
        job = queue.submit("work")
        job.result(5)
        clock.settle()
        watch = weakref.ref(job)
        del job
        assert watch() is None


@pytest.mark.slow
def test_a_delayed_job_is_small():
    """A delayed job takes no more than a kilobyte."""
    with WorkQueue(workers=1, maxsize=math.inf) as queue:
        queue.declare("work")
        queue.submit("work", delay=1000)
        count = 20_000
        tracemalloc.start()
        try:
            for _ in range(count):
                queue.submit("work", delay=1000)
            used = tracemalloc.get_traced_memory()[0] / count
        finally:
            tracemalloc.stop()
        assert used <= 1024
        assert queue.stats().scheduled == count + 1
