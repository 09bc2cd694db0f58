"""What a queue promises whatever its store is: the record of a job, retries, what is kept, and what can be asked."""

from __future__ import annotations

import asyncio
import math
import threading
from datetime import timedelta

import pytest
from helpers import PATIENCE, Background

from threadkit import (
    CallTimeout,
    Closed,
    JobCancelled,
    JobContext,
    JobState,
    Keep,
    Lifecycle,
    Retry,
    RetryLater,
    WorkQueue,
    WouldBlock,
    as_completed,
    backoff,
    current_job,
    events,
    stores,
)
from threadkit._keep import bounds_of
from threadkit._meter import Meter, Meters
from threadkit._waiting import Waiters
from threadkit.testing import VirtualClock, assert_enqueued, run_inline


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
        path = tmp_path / "jobs.db"
        store = stores.MemoryStore() if request.param == "memory" else stores.SQLiteStore(path, "process")
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


# -- what is remembered -----------------------------------------------------------------------------------------------


def finish(queue, how: str, count: int = 1) -> list[str]:
    """Have so many jobs end, and return their ids."""
    jobs = []
    for _ in range(count):
        job = queue.submit("work", how, delay=3600 if how == "cancelled" else 0)
        if how == "cancelled":
            assert job.cancel()
        jobs.append(job)
        queue._clock.settle()
        assert job.state == how
    return [job.id for job in jobs]


def worker_of(queue):
    """Have a queue do jobs that end as their payload says, once it is started."""

    @queue.handler(retry=Retry(1))
    def work(how):
        if how == "failed":
            raise OSError("no disk")

    return queue


def worker(queue):
    """Do the same, and start it."""
    worker_of(queue).start()
    return queue


def remembered(queue) -> list[str]:
    return [job.id for job in queue.jobs()]


def test_finished_jobs_are_forgotten_by_age(new_queue, clock):
    """A job is forgotten so long after its end, to the second, although nothing else happens; and it stays counted."""
    queue = worker(new_queue(keep=Keep(age=3600)))
    first = finish(queue, "completed", 2)
    clock.advance(1000)
    second = finish(queue, "failed")
    clock.advance(2590)
    assert remembered(queue) == first + second
    clock.advance(20)
    assert remembered(queue) == second
    clock.advance(1000)
    assert remembered(queue) == []
    third = finish(queue, "completed")
    clock.advance(3590)
    assert remembered(queue) == third
    clock.advance(20)
    assert remembered(queue) == []
    assert (queue.stats().submitted, queue.stats().completed, queue.stats().failed) == (4, 3, 1)


def test_each_state_is_kept_by_its_own_rule(new_queue, clock):
    """What is said for a state holds for that alone; the others are bounded together."""
    queue = worker(new_queue(keep={"completed": 2, JobState.FAILED: Keep(3, age=100)}))
    completed, failed, cancelled = (finish(queue, how, 4) for how in ("completed", "failed", "cancelled"))
    assert remembered(queue) == [*completed[2:], *failed[1:], *cancelled]
    clock.advance(110)
    assert remembered(queue) == [*completed[2:], *cancelled]


def test_rules_by_age_hold_for_what_was_left(new_queue, clock):
    """Jobs that were too old before the start are forgotten at the start, many at once."""
    queue = new_queue(keep=Keep(age=60), workers=0)
    queue.declare("work")
    for job in queue.submit_many("work", range(600)):
        job.cancel()
    clock.advance(100)
    queue = new_queue(keep=Keep(age=60)) if new_queue.is_durable else queue
    queue.start()
    clock.settle()
    assert remembered(queue) == []
    assert queue.stats().cancelled == 600


def test_a_dead_letter_that_is_replayed_is_not_forgotten(new_queue, clock):
    """The age of a job counts from its last end."""
    queue = worker(new_queue(keep={"failed": Keep(age=100)}))
    letter, other = finish(queue, "failed", 2)
    clock.advance(90)
    queue.replay(letter)
    clock.advance(20)
    assert remembered(queue) == [letter]
    assert queue.get(other) is None
    clock.advance(90)
    assert remembered(queue) == []


def test_a_queue_that_is_adopted_keeps_its_rules(new_queue, clock):
    """What ended before a lifecycle gave the queue its clock is forgotten on that clock."""
    queue = new_queue(keep=Keep(age=60), workers=0, clock=None)
    queue.declare("work")
    assert queue.submit("work").cancel()
    other = VirtualClock()
    other.set_wall(queue.jobs()[0].finished_at)
    with Lifecycle(clock=other) as lc:
        lc.add(queue)
        assert len(queue.jobs()) == 1
        other.advance(70)
        assert queue.jobs() == []


def test_times_are_those_of_the_clock_that_a_queue_is_given(new_queue):
    """A queue that a lifecycle gives a clock far from the system's waits, and forgets, by that clock alone."""
    other = VirtualClock()  # of a year that is over
    lc = Lifecycle(clock=other)
    queue = lc.add(worker_of(new_queue(keep=Keep(age=3600), clock=None)))
    later = queue.submit("work", "failed", delay=60)
    with lc:
        other.advance(50)
        assert later.state == "scheduled"
        other.advance(20)
        assert queue.dead_letters() == [later]
        other.advance(3600)
        assert queue.dead_letters() == []


@pytest.mark.parametrize(
    ("keep", "error"),
    [
        (-1, ValueError),
        (1.5, TypeError),
        ({"pending": 3}, ValueError),
        ({"failed": -3}, ValueError),
        ({"failed": "3"}, TypeError),
    ],
)
def test_rules_that_make_no_sense_are_refused(keep, error):
    """A count that is negative or no number, or a state that is no end, is refused."""
    with pytest.raises(error, match="keep"):
        WorkQueue(keep=keep)


def test_every_state_can_have_its_rule():
    """Where each state has a rule there are no others."""
    finished = [state for state in JobState if state.is_finished]
    bounds = bounds_of(dict.fromkeys(finished, 1), finished)
    assert [bound.states for bound in bounds] == [(state,) for state in finished]


# -- retries ----------------------------------------------------------------------------------------------------------


def test_a_server_that_says_when_is_asked_again_then(queue, clock):
    """A date in the header Retry-After is counted on the queue's clock."""
    later = clock.now() + timedelta(minutes=5)
    busy = OSError("busy")
    busy.headers = {"Retry-After": f"{later:%a, %d %b %Y %H:%M:%S} GMT"}
    job = queue.submit(raising(queue, busy, "done"))
    clock.settle()
    clock.advance(299)
    assert job.state == "retrying"
    clock.advance(2)
    assert (job.state, job.attempts) == ("completed", 2)


def test_each_error_is_tried_again_in_its_way(queue, clock):
    """Which policy holds is seen anew for each attempt; all attempts count together."""
    retry = Retry(3, backoff.constant(100), on=ConnectionError, otherwise=Retry(5, backoff.constant(1), on=OSError))
    work = raising(queue, OSError(), ConnectionError(), OSError(), ConnectionError(), "never")
    queue._handlers.find(work).retry = retry
    job = queue.submit(work)
    assert job.max_attempts == 5
    clock.settle()
    clock.advance(1)
    assert job.attempts == 2
    clock.advance(99)
    assert job.attempts == 2
    clock.advance(2)
    assert (job.state, len(job.errors)) == ("failed", 4)


def test_a_stop_condition_ends_what_asks_to_be_tried_again(queue, clock):
    """A stop condition is asked also where a handler raises RetryLater, and sees the delay that it wants."""
    seen = []

    def stop(state) -> bool:
        seen.append((state.attempt_number, state.seconds_since_start, state.upcoming_sleep))
        return state.seconds_since_start + state.upcoming_sleep >= 60

    work = raising(queue, RetryLater(20), RetryLater(30), RetryLater(40), "never")
    queue._handlers.find(work).retry = Retry(stop)
    job = queue.submit(work)
    clock.settle()
    clock.advance(100)
    assert (job.state, job.attempts, job.max_attempts) == ("failed", 3, float("inf"))
    assert [(number, round(since), delay) for number, since, delay in seen] == [(1, 0, 20), (2, 20, 30), (3, 50, 40)]


def test_a_limit_of_time_ends_what_asks_to_be_tried_again(queue, clock):
    """No attempt begins later than the time-out of the policy allows, also where a handler raises RetryLater."""
    work = raising(queue, *[RetryLater(10) for _ in range(9)])
    queue._handlers.find(work).retry = Retry(math.inf, timeout=25)
    job = queue.submit(work)
    clock.settle()
    clock.advance(100)
    assert (job.state, job.attempts) == ("failed", 3)


# -- looking at jobs --------------------------------------------------------------------------------------------------


def test_jobs_are_found_by_what_they_are(new_queue, clock):
    """Jobs are listed by state, handler, key and time of their submit, in their order, as many as wanted."""
    queue = worker(new_queue())
    queue.declare("other")
    noon = clock.now()
    first = queue.submit("work", "failed", key="k")
    clock.settle()
    clock.advance(60)
    second = queue.submit("work", "completed", key="k")
    clock.settle()
    clock.advance(60)
    third, fourth = queue.submit("other"), queue.submit("other", delay=60)

    def found(*args, **wanted) -> list[str]:
        return [job.id for job in queue.jobs(*args, **wanted)]

    assert found() == [first.id, second.id, third.id, fourth.id]
    assert found("failed") == [first.id]
    assert found(JobState.SCHEDULED) == [fourth.id]
    assert found("running") == []
    assert found(name="work") == [first.id, second.id]
    assert found(key="k", limit=1) == [first.id]
    assert found(since=noon + timedelta(seconds=60)) == [second.id, third.id, fourth.id]
    assert found(until=noon + timedelta(seconds=60)) == [first.id]
    assert found("pending", name="other", since=noon, until=noon + timedelta(hours=1), limit=5) == [third.id]
    assert found(name="nobody") == found(key="nothing") == found(limit=0) == []


@pytest.mark.parametrize("wanted", [{"name": ""}, {"key": 3}, {"since": "now"}, {"limit": -1}, {"state": "lost"}])
def test_what_cannot_be_asked_for_is_refused(queue, wanted):
    """A filter that makes no sense is refused."""
    with pytest.raises((TypeError, ValueError)):
        queue.jobs(**wanted)


# -- dead letters -----------------------------------------------------------------------------------------------------


def test_dead_letters_are_replayed_together(new_queue, clock):
    """All dead letters, or those of one handler or time, are tried again; one whose key is taken is left."""
    queue = new_queue(retry=Retry(1), workers=1)
    script = iter([OSError(), OSError(), OSError()])

    def work(payload):
        if (error := next(script, None)) is not None:
            raise error

    for name in ("work", "other"):
        queue.handler(name)(work)
    queue.start()
    letters = [queue.submit("work", key="k"), queue.submit("work"), queue.submit("other")]
    clock.settle()
    assert queue.dead_letters() == letters
    queue.pause()
    holder = queue.submit("work", key="k")
    assert queue.replay_all(name="work") == [letters[1]]
    assert queue.replay_all(until=letters[0].created_at) == []
    assert queue.dead_letters() == [letters[0], letters[2]]
    assert queue.replay_all() == [letters[2]]
    queue.resume()
    clock.settle()
    assert [job.state for job in (*letters, holder)] == ["failed", "completed", "completed", "completed"]


def test_a_finished_job_is_deleted(new_queue, clock):
    """What has finished can be forgotten at once, and stays counted; what has not is left alone."""
    queue = worker(new_queue())
    (letter,) = finish(queue, "failed")
    waiting = queue.submit("work", "completed", delay=60)
    assert queue.delete(letter)
    assert not queue.delete(letter)
    assert not queue.delete(waiting.id)
    assert queue.get(letter) is None
    assert queue.dead_letters() == []
    assert (queue.stats().submitted, queue.stats().failed) == (2, 1)
    clock.advance(61)
    assert waiting.state == "completed"
    assert not queue._store.forget(queue.submit("work", delay=1))


# -- waiting ----------------------------------------------------------------------------------------------------------


def test_jobs_come_as_they_are_done(new_queue, clock):
    """as_completed() yields each job once, in the order in which they end, however that is."""
    queue = worker(new_queue())
    done = queue.submit("work", "completed")
    clock.settle()
    slow, fails, quick = (
        queue.submit("work", how, delay=delay) for how, delay in (("a", 30), ("failed", 20), ("b", 10))
    )
    arrivals = Background(lambda: [job.id for job in as_completed([slow, done, fails, quick, quick])])
    clock.wait_for_sleepers(1)
    clock.advance(40)
    assert arrivals.result() == [done.id, quick.id, fails.id, slow.id]
    assert list(as_completed([])) == []
    assert [job.id for job in as_completed(iter([fails, done]))] == [fails.id, done.id]
    assert not queue._audience


def test_jobs_that_are_not_done_in_time(new_queue, clock):
    """as_completed() raises CallTimeout when the time for all of them is over, and leaves nothing behind."""
    queue = worker(new_queue())
    done, late = queue.submit("work"), queue.submit("work", delay=100)
    clock.settle()
    seen = []

    def wait():
        seen.extend(as_completed([done, late], timeout=timedelta(seconds=50)))

    waiting = Background(wait)
    clock.wait_for_sleepers(2)
    clock.advance(60)
    with pytest.raises(CallTimeout, match="1 of 2 jobs gave no reply within 50 s"):
        waiting.result()
    assert seen == [done]
    assert not any(waiters._gates for waiters in queue._audience.values())
    with pytest.raises(ValueError, match="timeout"):
        as_completed([done], timeout=-1)


def test_a_job_that_is_done_as_it_is_looked_at_comes_once(queue, clock, monkeypatch):
    """A job that ends between two looks of as_completed() is yielded once."""
    queue.declare("later")
    job, other = queue.submit("later"), queue.submit("later")
    enter = Waiters.enter

    def late(waiters, gate):
        enter(waiters, gate)
        job.cancel()

    monkeypatch.setattr(Waiters, "enter", late)
    arrivals = as_completed([job, other], timeout=0)
    assert next(arrivals) is job
    with pytest.raises(CallTimeout):
        next(arrivals)


def test_who_awaits_a_job_that_is_done_as_it_is_looked_at(queue, monkeypatch):
    """A job that ends while somebody begins to await it is not waited for."""
    queue.declare("later")
    job = queue.submit("later")
    enter = Waiters.enter

    def late(waiters, gate):
        job.cancel()
        enter(waiters, gate)

    monkeypatch.setattr(Waiters, "enter", late)

    async def ask():
        return await job

    with pytest.raises(JobCancelled):
        asyncio.run(ask())


def test_who_awaits_what_is_done_leaves_nothing_behind(queue, clock):
    """To await a job that is done is no waiting."""
    work = raising(queue, 42)
    job = queue.submit(work)
    clock.settle()

    async def ask():
        return await job

    assert asyncio.run(ask()) == 42
    assert not queue._audience


# -- hooks ------------------------------------------------------------------------------------------------------------


def test_hooks_are_called_around_attempts(queue, clock):
    """Hooks are called before and after each attempt, on its error and on the dead letter, in the job's own thread."""
    seen = []
    threads = set()

    def note(event):
        seen.append((type(event).__name__, event.attempt, current_job().headers["tenant"]))
        threads.add(threading.current_thread().name)

    ends = (events.JobCompleted, events.JobDied, events.JobRetried)
    assert queue.on(events.JobStarted)(queue.on(*ends)(note)) is note
    work = raising(queue, OSError("a"), "done", OSError("b"), OSError("c"), OSError("d"))
    for _ in range(2):
        queue.submit(work, headers={"tenant": "t"})
        clock.settle()
        clock.advance(30)
    assert seen == [
        ("JobStarted", 1, "t"),
        ("JobRetried", 1, "t"),
        ("JobStarted", 2, "t"),
        ("JobCompleted", 2, "t"),
        ("JobStarted", 1, "t"),
        ("JobRetried", 1, "t"),
        ("JobStarted", 2, "t"),
        ("JobRetried", 2, "t"),
        ("JobStarted", 3, "t"),
        ("JobDied", 3, "t"),
    ]
    assert len(threads) == 1


def test_a_hook_that_fails_harms_nobody(queue, clock):
    """What a hook raises, even SystemExit, is logged and told, and the job goes on; so do the other hooks."""
    told = []

    @queue.on(events.JobStarted)
    def before(event):
        raise SystemExit("no")

    @queue.on(events.HookFailed)
    def when_hooks_fail(event):
        told.append((event.hook, repr(event.error)))
        raise ValueError("once more")

    job = queue.submit(raising(queue, "done"))
    clock.settle()
    assert job.result(0) == "done"
    assert told == [("before", "SystemExit('no')")]
    assert len(queue.threads()) == 1


@pytest.mark.parametrize("kinds", [(), ("died",), (int,)])
def test_hooks_are_for_events(queue, kinds):
    """A hook is for events, and can be called."""
    with pytest.raises(TypeError, match="classes of threadkit"):
        queue.on(*kinds)
    with pytest.raises(TypeError, match="hook must be callable"):
        queue.on(events.JobDied)(3)


# -- testing modes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_started", [False, True])
def test_jobs_run_by_hand(new_queue, clock, is_started):
    """run_next() makes one attempt in the caller's thread, run_due() all that may be made by now."""
    queue = new_queue(workers=0)
    threads = []

    @queue.handler
    def work(payload, ctx):
        threads.append(threading.get_ident())
        if payload == "parent":
            queue.submit(work, "child")
        if payload == "fails" and ctx.attempt == 1:
            raise OSError
        return payload

    if is_started:
        queue.start()
    assert queue.run_next() is None
    low, high = queue.submit(work, "low"), queue.submit(work, "parent", priority=1)
    assert queue.run_next() is high
    assert (high.state, low.state) == ("completed", "pending")
    fails, later = queue.submit(work, "fails"), queue.submit(work, "later", delay=60)
    assert [job.payload for job in queue.run_due()] == ["low", "child", "fails"]
    assert (fails.state, later.state) == ("retrying", "scheduled")
    assert set(threads) == {threading.get_ident()}
    assert current_job() is None
    queue.start()
    clock.advance(60)
    assert queue.run_due() == [fails, later]
    queue.pause()
    queue.submit(work)
    assert queue.run_due() == []


def test_by_hand_only_where_it_can_be(new_queue):
    """An event loop is not blocked, a queue that was stopped runs nothing, and whatever is raised is the job's."""
    queue = new_queue(workers=0)
    job = queue.submit(raising(queue, KeyboardInterrupt()))

    async def run():
        queue.run_next()

    with pytest.raises(WouldBlock, match="run_next"):
        asyncio.run(run())
    assert queue.run_next() is job
    assert job.state == "failed"
    queue.stop()
    with pytest.raises(Closed):
        queue.run_due()


def test_jobs_run_inside_their_submit(new_queue, clock):
    """Within run_inline() a job has run when its submit returns, also one that a handler submits; not beyond it."""
    queue = new_queue(workers=0)

    @queue.handler
    def count_down(number):
        return [number, *(queue.submit(count_down, number - 1).result(0) if number else ())]

    @queue.handler
    async def ask(payload):
        await asyncio.sleep(0)
        return payload

    async def submit():
        return (await queue.asubmit(ask, 1)).result(0)

    with run_inline(queue):
        assert queue.submit(count_down, 3).result(0) == [3, 2, 1, 0]
        assert [job.result(0) for job in queue.submit_many(ask, [1, 2])] == [1, 2]
        assert asyncio.run(submit()) == 1
        later = queue.submit(count_down, 0, delay=60)
        assert later.state == "scheduled"
    waiting = queue.submit(ask)
    assert waiting.state == "pending"


def test_what_was_submitted_is_asserted(queue, clock):
    """assert_enqueued() finds jobs that wait, by name, payload, key and number, or tells what there is."""
    queue.declare("mail")
    queue.declare("other")
    ada = queue.submit("mail", "ada", key="k")
    grace = queue.submit("mail", "grace", delay=60)
    assert assert_enqueued(queue, "mail", "ada", key="k") == [ada]
    assert assert_enqueued(queue, "mail", count=2) == [grace, ada]
    assert assert_enqueued(queue, "other", count=0) == []
    with pytest.raises(
        AssertionError, match="no 'mail' with 'edsger' and key 'k' waits in queue 'jobs', but 'mail' with"
    ):
        assert_enqueued(queue, "mail", "edsger", key="k")
    with pytest.raises(AssertionError, match="1 instead of 0 'mail' with 'ada' waits"):
        assert_enqueued(queue, "mail", "ada", count=0)
    ada.cancel()
    grace.cancel()
    with pytest.raises(AssertionError, match="no 'mail' waits in queue 'jobs', but nothing"):
        assert_enqueued(queue, "mail")


# -- figures ----------------------------------------------------------------------------------------------------------


def test_time_is_measured(new_queue, clock):
    """The figures tell how long jobs waited and worked, also of workers that have ended, and what still runs."""
    queue = new_queue(workers=1)

    @queue.handler
    def work(seconds):
        clock.park(clock.gate(), clock.monotonic() + seconds)

    assert (queue.stats().latency, queue.stats().work_duration) == (0.0, 0.0)
    first, second = queue.submit(work, 10), queue.submit(work, 30)
    third = queue.submit(work, 20, delay=35)
    assert (queue.stats().depth, queue.stats().adds) == (2, 3)
    queue.start()
    clock.settle()
    clock.advance(15)  # the second has run for 5
    stats = queue.stats()
    assert (stats.attempts, round(stats.waited), round(stats.worked)) == (1, 0, 10)
    assert (round(stats.unfinished_work), round(stats.longest_running)) == (5, 5)
    queue.resize(2)
    clock.settle()
    clock.advance(22)  # the third runs since 2, on a worker of its own
    stats = queue.stats()
    assert (round(stats.unfinished_work), round(stats.longest_running)) == (29, 27)
    clock.advance(30)
    queue.resize(1)
    clock.settle()
    stats = queue.stats()
    assert (stats.attempts, round(stats.waited), round(stats.worked)) == (3, 10, 60)
    assert (round(stats.latency, 2), round(stats.work_duration)) == (3.33, 20)
    assert (stats.unfinished_work, stats.longest_running, stats.depth) == (0, 0, 0)
    assert all(job.done() for job in (first, second, third))
    assert stats.as_dict()["worked"] == stats.worked


def test_a_meter_is_closed_once():
    """What a worker has measured is kept once, however often its meter is closed; one without a queue is nobody's."""
    meters = Meters()
    meter = meters.new()
    meter.since = 1.0
    assert meters.snapshot(9.0)["longest_running"] == 8.0
    meter.add(0.5, 2.0)
    meter.close()
    meter.close()
    assert meters.snapshot(9.0)["worked"] == 2.0
    Meter().close()
