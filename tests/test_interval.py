"""Interval tasks: when they run, what they tell, and how they end. All of it on a clock that stands still."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from helpers import PATIENCE, Background, Gate
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import override

from threadkit import Closed, ComponentState, IntervalTask, Lifecycle, Run, Stopping, StopToken, backoff, triggers
from threadkit._scheduler import MAX_THREADS, Scheduler
from threadkit.events import Event, Failed, RunFailed, RunMissed, RunSkipped, Started, Stopped
from threadkit.health import Status
from threadkit.testing import InlineExecutor, VirtualClock
from threadkit.triggers import Trigger

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


class Recorder:
    """A function for a task: it notes when it was called, and may take its time about it."""

    def __init__(self, clock: VirtualClock, takes: float = 0.0) -> None:
        self.clock = clock
        self.takes = takes
        self.began: list[float] = []
        self.ended: list[float] = []
        self.runs: list[Run] = []

    def __call__(self, run: Run) -> None:
        self.began.append(self.clock.monotonic())
        self.runs.append(run)
        if self.takes:
            run.token.sleep(self.takes)
        self.ended.append(self.clock.monotonic())


def watch(task: IntervalTask, *kinds: type[Event]) -> list[Event]:
    """Return a list that the task's events of these kinds are going to be in."""
    seen: list[Event] = []
    task.observe(lambda event: seen.append(event) if isinstance(event, kinds) else None)
    return seen


def told(events: list[Event]) -> list[tuple[type[Event], float]]:
    """Return the kinds of the skips and misses, and the seconds after which the runs were due."""
    return [
        (type(event), (event.scheduled_at - EPOCH).total_seconds())
        for event in events
        if isinstance(event, (RunMissed, RunSkipped))
    ]


def jump(clock: VirtualClock, seconds: float) -> None:
    """Let the process stand still for a while, as under SIGSTOP: clocks go on, nobody wakes up before the end."""
    with clock._changed:
        clock._move_to(clock._monotonic + seconds)
    clock.advance(0)


# --- when ----------------------------------------------------------------------------------------------------------


def test_a_day_of_minutes(clock: VirtualClock) -> None:
    """A minutely task runs 1,440 times a day, each time exactly at its time."""
    seen: list[tuple[float, datetime]] = []
    with IntervalTask(lambda: seen.append((clock.monotonic(), clock.now())), "1m", clock=clock) as task:
        clock.advance(86400)
        assert task.runs == 1440
        assert task.missed == task.skipped == task.failures == 0
    assert seen == [(60.0 * n, EPOCH + timedelta(minutes=n)) for n in range(1, 1441)]


def test_what_a_run_knows(clock: VirtualClock) -> None:
    """A function that asks for its run learns when it was due and began, its number, and gets a token."""
    func = Recorder(clock)
    with IntervalTask(func, 10, clock=clock):
        clock.advance(20)
        first, second = func.runs
        assert (first.number, second.number) == (1, 2)
        assert first.scheduled_at == first.started_at == EPOCH + timedelta(seconds=10)
        assert first.lateness == 0
        assert first.token()
        assert first.token is not second.token


@pytest.mark.parametrize("every", [60, timedelta(minutes=1), "1m", triggers.every("1m"), lambda: "1m"])
def test_kinds_of_interval(clock: VirtualClock, every: Any) -> None:
    """Seconds, a timedelta, text, a plain trigger and a function all have the same effect."""
    func = Recorder(clock)
    with IntervalTask(func, every, clock=clock) as task:
        assert task.interval == 60
        clock.advance(180)
    assert func.began == [60, 120, 180]


def test_a_rate_counts_from_due_time_to_due_time(clock: VirtualClock) -> None:
    """At a fixed rate it does not matter how long a run takes."""
    func = Recorder(clock, takes=20)
    with IntervalTask(func, 60, clock=clock):
        clock.advance(200)
    assert func.began == [60, 120, 180]


def test_a_delay_counts_from_the_end(clock: VirtualClock) -> None:
    """With a fixed delay the next run is due an interval after the end of the one before."""
    func = Recorder(clock, takes=20)
    with IntervalTask(func, 60, fixed="delay", clock=clock) as task:
        clock.advance(70)
        assert task.next_run_at is None
        clock.advance(20)
        assert task.next_run_at == EPOCH + timedelta(seconds=140)
        clock.advance(150)
    assert func.began == [60, 140, 220]


@pytest.mark.parametrize(("fixed", "began"), [("rate", [0, 60, 120]), ("delay", [0, 65, 130])])
def test_run_immediately(clock: VirtualClock, fixed: Any, began: list[float]) -> None:
    """With run_immediately the first run begins with the task, and the others follow as they would."""
    func = Recorder(clock, takes=5)
    with IntervalTask(func, 60, run_immediately=True, fixed=fixed, clock=clock):
        clock.advance(135)
    assert func.began == began


def test_a_calendar(clock: VirtualClock) -> None:
    """A calendar trigger is due by the wall clock, and scheduled_at is its very moment."""
    func = Recorder(clock)
    clock.set_wall(EPOCH + timedelta(hours=2, seconds=7))
    with IntervalTask(func, triggers.daily("02:30"), clock=clock) as task:
        assert task.next_run_at == EPOCH + timedelta(hours=2, minutes=30)
        assert task.interval is None
        clock.advance(2 * 86400)
    assert [run.scheduled_at for run in func.runs] == [EPOCH + timedelta(days=n, hours=2, minutes=30) for n in (0, 1)]
    assert [run.lateness for run in func.runs] == [0, 0]


def test_a_calendar_with_a_delay(clock: VirtualClock) -> None:
    """With a fixed delay a calendar is asked at the end of each run, so that none is skipped."""
    func = Recorder(clock, takes=90)
    with IntervalTask(func, triggers.every("1m", aligned=True), fixed="delay", clock=clock) as task:
        clock.advance(400)
        assert task.skipped == task.missed == 0
    assert func.began == [60, 180, 300]


def test_jitter_adds_up_to_so_much_and_moves_no_grid(clock: VirtualClock) -> None:
    """Jitter delays each run by its share, and the next is counted from the grid."""
    draws = iter([0.5, 0.1, 0.9, 0.0, 0.0])
    func = Recorder(clock)
    with IntervalTask(func, 60, jitter=10, random=lambda: next(draws), clock=clock):
        clock.advance(200)
    assert func.began == [65, 121, 189]
    assert [run.lateness for run in func.runs] == [0, 0, 0]


def test_an_interval_that_is_asked_for(clock: VirtualClock) -> None:
    """A function as interval is asked at the start and after each run."""
    answers = iter([10, "20s", timedelta(seconds=30), 30, 30])
    func = Recorder(clock)
    with IntervalTask(func, lambda: next(answers), clock=clock) as task:
        clock.advance(100)
        assert task.interval == 30
    assert func.began == [10, 30, 60, 90]


def test_an_interval_that_cannot_be_had(clock: VirtualClock) -> None:
    """Where the function fails the run counts as failed, and the interval stays; at the start its error is raised."""
    answers = iter([10, 0, 10, 10])
    task = IntervalTask(lambda: None, lambda: next(answers), clock=clock)
    with task:
        clock.advance(20)
        assert (task.runs, task.failures) == (2, 1)
        assert str(task.last_error) == "every() must be at least a microsecond, but is 0"
    with pytest.raises(ZeroDivisionError):
        IntervalTask(lambda: None, lambda: 1 / 0, clock=clock).start()


def test_a_run_that_fails_and_an_interval_that_cannot_be_had(
    clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Where a run and the function for its interval both fail the run's error counts, and has a note of the other."""
    answers = iter([10])

    def fail() -> None:
        raise ValueError("the run's own")

    with IntervalTask(fail, lambda: 1 / next(answers, 0), clock=clock) as task:
        clock.advance(0.1)
        assert (task.failures, task.interval) == (1, 0.1)
    assert isinstance(task.last_error, ValueError)
    assert task.last_error.__notes__ == ["Then every() failed: ZeroDivisionError: division by zero"]
    assert "the run's own" in caplog.text


@settings(max_examples=25, deadline=None)
@given(
    interval=st.integers(1, 50),
    takes=st.lists(st.integers(0, 120), min_size=40, max_size=40),
    policy=st.sampled_from(["skip", "queue"]),
)
def test_against_an_oracle(interval: int, takes: list[int], policy: Any) -> None:
    """Runs of any length begin when a simple simulation of the policy says, and every due time is accounted for."""
    clock = VirtualClock()
    lengths = iter(takes)
    began: list[float] = []

    def func(run: Run) -> None:
        began.append(clock.monotonic())
        run.token.sleep(next(lengths))

    # The oracle: walk the due times; a run that ends at a due time has ended before it.
    total, expected, free_at, waits, skipped = 600, list[float](), 0.0, False, 0
    lengths_too = iter(takes)
    for due in range(interval, total + 1, interval):
        while waits and free_at < due:  # a queued run begins when the one before ends
            expected.append(free_at)
            free_at, waits = free_at + next(lengths_too), False
        if len(expected) >= 39 or free_at == due:
            return  # what comes first at the very same moment is nobody's promise
        if free_at < due:
            expected.append(due)
            free_at = due + next(lengths_too)
        elif policy == "queue" and not waits:
            waits = True
        else:
            skipped += 1
    with IntervalTask(func, interval, overlap=policy, clock=clock) as task:
        clock.advance(total)
        assert [moment for moment in began if moment <= total][: len(expected)] == expected
        assert task.skipped == skipped
        assert task.missed == 0


# --- overlap -------------------------------------------------------------------------------------------------------


def test_overlap_skip(clock: VirtualClock) -> None:
    """By default a run that is due while another is going on is left out, counted and told."""
    func = Recorder(clock, takes=90)
    task = IntervalTask(func, 60, clock=clock)
    told = watch(task, RunSkipped)
    with task:
        clock.advance(310)
        assert task.skipped == 2
    assert func.began == [60, 180, 300]
    assert [event.as_dict()["scheduled_at"] for event in told] == [
        "2026-01-01T00:02:00+00:00",
        "2026-01-01T00:04:00+00:00",
    ]


def test_overlap_queue(clock: VirtualClock) -> None:
    """With a queue one run waits for the end of the present one, and a second is skipped."""
    func = Recorder(clock, takes=100)
    with IntervalTask(func, 40, overlap="queue", clock=clock) as task:
        clock.advance(150)
        assert func.began == [40, 140]
        assert task.skipped == 1
        assert func.runs[1].scheduled_at == EPOCH + timedelta(seconds=80)
        assert func.runs[1].lateness == 60
        assert task.work_left() == 1
        clock.advance(20)
        assert task.work_left() == 2


def test_overlap_parallel(clock: VirtualClock) -> None:
    """In parallel a run begins at its time, whatever else is going on."""
    func = Recorder(clock, takes=100)
    with IntervalTask(func, 40, overlap="parallel", clock=clock) as task:
        clock.advance(130)
        assert func.began == [40, 80, 120]
        assert task.stats().running == 3
        assert len({thread for thread in task.threads() if "task" in thread.name}) == 3


def test_overlap_cancel(clock: VirtualClock) -> None:
    """To cancel is to set the token of the present run, and to begin the next when it has ended."""
    began, reasons = list[float](), list[str | None]()

    def func(run: Run) -> None:
        began.append(clock.monotonic())
        run.token.wait()
        reasons.append(run.token.reason)
        task._token.sleep(5)  # it takes a while to clean up
        run.token.raise_if_set()

    task = IntervalTask(func, 60, overlap="cancel", clock=clock)
    with task:
        clock.advance(190)
        assert began == [60, 125, 185]
        assert reasons == ["the next run is due"] * 2
        assert (task.runs, task.failures, task.skipped) == (2, 0, 0)


def test_cancel_while_the_cancelled_one_lingers(clock: VirtualClock) -> None:
    """A run that does not heed its token makes one run wait, and the others are skipped."""
    began: list[float] = []

    def func(run: Run) -> None:
        began.append(clock.monotonic())
        task._token.sleep(150)

    task = IntervalTask(func, 60, overlap="cancel", clock=clock)
    with task:
        clock.advance(220)
        assert began == [60, 210]
        assert task.skipped == 1


# --- late and missed -----------------------------------------------------------------------------------------------


def test_missed_runs_are_folded_into_one(clock: VirtualClock) -> None:
    """After a standstill one run begins at once, the others are counted as missed and told, and the grid goes on."""
    func = Recorder(clock)
    task = IntervalTask(func, 60, clock=clock)
    told = watch(task, RunMissed)
    with task:
        jump(clock, 250)
        clock.advance(60)
        assert (task.runs, task.missed) == (2, 3)
    assert func.began == [250, 300]
    assert func.runs[0].lateness == 190
    assert func.runs[0].scheduled_at == EPOCH + timedelta(seconds=60)
    assert [str(event) for event in told] == ["task 'task': 3 run(s) from 2026-01-01 00:01:00+00:00 on were missed"]


def test_misfire_skip_leaves_out_what_was_missed(clock: VirtualClock) -> None:
    """With misfire='skip' nothing is run after a standstill until the next due time."""
    func = Recorder(clock)
    task = IntervalTask(func, 60, misfire="skip", clock=clock)
    told = watch(task, RunMissed)
    with task:
        jump(clock, 250)
        assert func.began == []
        clock.advance(60)
        assert (task.runs, task.missed) == (1, 4)
    assert func.began == [300]
    assert [event.as_dict()["count"] for event in told] == [4]


def test_misfire_skip_forgives_a_minute(clock: VirtualClock) -> None:
    """A run that is a minute late, with no other due, is not missed; one that is later is."""
    func = Recorder(clock)
    with IntervalTask(func, 3600, misfire="skip", clock=clock) as task:
        jump(clock, 3660)
        assert task.runs == 1
        jump(clock, 3601)
        assert (task.runs, task.missed) == (1, 1)


def test_misfire_skip_with_a_delay(clock: VirtualClock) -> None:
    """With a fixed delay a run that was left out is followed by another an interval later."""
    func = Recorder(clock)
    with IntervalTask(func, 60, fixed="delay", misfire="skip", clock=clock) as task:
        jump(clock, 200)
        assert (func.began, task.missed) == ([], 1)
        clock.advance(60)
    assert func.began == [260]


def test_a_suspended_machine(clock: VirtualClock) -> None:
    """After a suspend a calendar task runs once, within a minute, and then at its times again."""
    func = Recorder(clock)
    with IntervalTask(func, triggers.every("1h", aligned=True), clock=clock) as task:
        clock.advance(1800)
        clock.suspend(8 * 3600)
        clock.advance(60)
        assert (task.runs, task.missed) == (1, 7)
        assert func.runs[0].scheduled_at == EPOCH + timedelta(hours=1)
        clock.advance(3600)
    assert func.runs[1].scheduled_at == EPOCH + timedelta(hours=9)


@pytest.mark.parametrize(
    ("every", "missed"),
    [
        (triggers.every(1, aligned=True), 7199),
        (triggers.every(1, start=EPOCH), 7199),
        (triggers.every(1, aligned=True, end=EPOCH + timedelta(seconds=5000)), 4999),
        (triggers.every(1, aligned=True).except_on(EPOCH.date() - timedelta(1)), 1000),
    ],
)
def test_how_many_are_counted(clock: VirtualClock, every: Trigger, missed: int) -> None:
    """Of even steps all that were missed are counted, and of what has to be asked for one by one a thousand."""
    func = Recorder(clock)
    task = IntervalTask(func, every, clock=clock)
    task.start()
    jump(clock, 7200.5)
    assert (task.runs, task.missed) == (1, missed)
    assert func.runs[0].scheduled_at == EPOCH + timedelta(seconds=1)
    task.stop()
    assert task.join(1)


def test_a_suspended_machine_and_an_interval(clock: VirtualClock) -> None:
    """A suspend, in which the monotonic clock stands still, means nothing to an interval."""
    func = Recorder(clock)
    with IntervalTask(func, 3600, clock=clock):
        clock.suspend(8 * 3600)
        clock.advance(3600)
    assert func.began == [3600]


def test_the_last_appointment_missed_and_left_out(clock: VirtualClock) -> None:
    """A single moment that is missed, and left out by the policy, ends the task without a run."""
    func = Recorder(clock)
    task = IntervalTask(func, triggers.at(EPOCH - timedelta(hours=1)), misfire="skip", clock=clock)
    task.start()
    clock.settle()
    assert task.join(1)
    assert (func.began, task.missed, task.state) == ([], 1, ComponentState.STOPPED)


def test_a_clock_that_is_set_back_a_little(clock: VirtualClock) -> None:
    """A daily run that has been is not repeated when the clock is set back by half an hour."""
    func = Recorder(clock)
    with IntervalTask(func, triggers.daily("02:30"), clock=clock) as task:
        clock.advance(2 * 3600 + 2400)
        assert task.runs == 1
        clock.set_wall(clock.now() - timedelta(minutes=30))
        clock.advance(3600)
        assert task.runs == 1
        assert task.next_run_at == EPOCH + timedelta(days=1, hours=2, minutes=30)


def test_a_clock_that_was_wrong(clock: VirtualClock) -> None:
    """When a clock that was a year ahead is set right, the task follows it within a minute."""
    func = Recorder(clock)
    with IntervalTask(func, triggers.every("1h", aligned=True), clock=clock) as task:
        clock.advance(60)
        clock.set_wall(EPOCH - timedelta(days=365))
        clock.advance(61)
        assert task.next_run_at == EPOCH - timedelta(days=365) + timedelta(hours=1)
        clock.advance(3600)
    assert [run.scheduled_at for run in func.runs] == [EPOCH - timedelta(days=365) + timedelta(hours=1)]


def test_a_clock_set_right_after_the_end_of_a_trigger(clock: VirtualClock) -> None:
    """A trigger that has nothing more to say by the right time ends the task."""

    class OnlyAhead(Trigger):
        """Something is due in an hour, unless it is last year."""

        @override
        def next_after(self, moment: datetime) -> datetime | None:
            return moment + timedelta(hours=1) if moment >= EPOCH else None

    task = IntervalTask(lambda: None, OnlyAhead(), clock=clock)
    task.start()
    clock.set_wall(EPOCH - timedelta(days=365))
    clock.advance(60)
    assert task.join(1)
    assert (task.runs, task.state) == (0, ComponentState.STOPPED)


def test_a_busy_pool_makes_runs_late(clock: VirtualClock) -> None:
    """While all threads are busy a task's runs are late, and folded into one."""
    scheduler, token, func = Scheduler(clock), StopToken(clock=clock), Recorder(clock)
    task = IntervalTask(func, 60, clock=clock)
    task.bind(scheduler)
    with task:
        for _ in range(MAX_THREADS):
            scheduler.run(token.wait)
        clock.advance(150)
        assert func.began == []
        token.set()
        clock.settle()
        assert (func.began, task.missed) == ([150], 1)
    scheduler.stop()


class Meddling(Trigger):
    """A trigger that does something to the task while it is asked."""

    def __init__(self, meddle: Callable[[], object]) -> None:
        self.meddle = meddle
        self.asked = 0

    @override
    def next_after(self, moment: datetime) -> datetime | None:
        self.asked += 1
        if self.asked == 2:
            self.meddle()
        return moment + timedelta(hours=2)


def test_a_plan_that_is_changed_while_the_trigger_thinks(clock: VirtualClock) -> None:
    """What the trigger said counts for nothing where the task was paused or ended while it thought."""
    func = Recorder(clock)
    task = IntervalTask(func, Meddling(lambda: task.pause() or None), clock=clock)
    with task:
        clock.advance(7200)
        assert func.began == []
        task.resume()
        clock.advance(7200)
    assert func.began == [14400]
    other = IntervalTask(func, Meddling(lambda: other._recurrence.wind_down() or None), clock=clock)
    other.start()
    clock.set_wall(EPOCH - timedelta(days=1))
    clock.advance(60)
    assert other.join(1)
    other._recurrence._look()
    assert func.began == [14400]


def test_a_stop_while_the_trigger_thinks(clock: VirtualClock) -> None:
    """No run begins once stop() has returned, be the task on its way to one."""
    func = Recorder(clock)
    task = IntervalTask(func, Meddling(lambda: task._token.set() or None), clock=clock)
    task.start()
    clock.advance(7200)
    assert task.join(1)
    assert func.began == []


# --- changing things while it runs ---------------------------------------------------------------------------------


def test_a_new_interval_while_waiting(clock: VirtualClock) -> None:
    """A new interval counts from the due time before, and makes the run due now where that has passed."""
    func = Recorder(clock)
    with IntervalTask(func, 60, clock=clock) as task:
        clock.advance(30)
        task.interval = 45
        clock.advance(20)
        assert func.began == [45]
        clock.advance(30)
        task.interval = timedelta(seconds=10)
        clock.advance(15)
        assert func.began == [45, 80, 90]
        task.interval = 10
        task.interval = "100s"
        clock.advance(100)
    assert func.began == [45, 80, 90, 190]


def test_a_new_interval_from_inside(clock: VirtualClock) -> None:
    """A run may change the interval: the next run is due so long after this one was."""

    def func() -> None:
        began.append(clock.monotonic())
        assert task.interval is not None
        task.interval *= 2

    began: list[float] = []
    task = IntervalTask(func, 10, clock=clock)
    with task:
        clock.advance(150)
    assert began == [10, 30, 70, 150]


def test_a_new_interval_with_a_delay(clock: VirtualClock) -> None:
    """With a fixed delay a new interval that is set in a run counts from the end of it."""

    def func(run: Run) -> None:
        began.append(clock.monotonic())
        task.interval = 30
        run.token.sleep(5)

    began: list[float] = []
    task = IntervalTask(func, 10, fixed="delay", clock=clock)
    with task:
        clock.advance(90)
    assert began == [10, 45, 80]


def test_an_interval_that_cannot_be_set(clock: VirtualClock) -> None:
    """A task that follows a calendar has no interval to set, and what is no interval is refused."""
    task = IntervalTask(lambda: None, triggers.daily("02:30"), clock=clock)
    with pytest.raises(ValueError, match="interval must not be set to 5, for task '<lambda>' follows a trigger"):
        task.interval = 5
    task = IntervalTask(lambda: None, 60, clock=clock)
    with pytest.raises(ValueError, match="interval must be at least a microsecond, but is 0"):
        task.interval = 0
    with pytest.raises(TypeError, match="interval"):
        task.interval = True
    task.interval = 5
    assert task.interval == 5


def test_pause_and_resume(clock: VirtualClock) -> None:
    """A paused task runs nothing, and goes on at its next time; what was due meanwhile is missed, and told of once."""
    func = Recorder(clock)
    with IntervalTask(func, 60, clock=clock) as task:
        events = watch(task, RunMissed, RunSkipped)
        clock.advance(60)
        task.pause()
        assert task.next_run_at is None
        clock.advance(150)
        task.resume()
        task.resume()
        assert task.next_run_at == EPOCH + timedelta(seconds=240)
        clock.advance(60)
        assert (task.missed, task.skipped) == (2, 0)
    assert func.began == [60, 240]
    assert told(events) == [(RunMissed, 120)]
    assert isinstance(events[0], RunMissed)
    assert events[0].count == 2


def test_a_short_pause_costs_nothing(clock: VirtualClock) -> None:
    """A pause that ends before the next due time changes nothing."""
    func = Recorder(clock)
    with IntervalTask(func, 60, clock=clock) as task:
        task.pause()
        clock.advance(30)
        task.resume()
        clock.advance(30)
        assert task.missed == 0
    assert func.began == [60]


def test_a_pause_in_a_run(clock: VirtualClock) -> None:
    """A run goes on while the task is paused, a queued one is skipped, and nothing else begins."""
    func = Recorder(clock, takes=70)
    with IntervalTask(func, 60, overlap="queue", clock=clock) as task:
        events = watch(task, RunMissed, RunSkipped)
        clock.advance(125)
        task.pause()
        clock.advance(100)
        assert (func.began, func.ended) == ([60], [130])
        task.resume()
        clock.advance(20)
        assert (task.skipped, task.missed) == (1, 1)
    assert func.began == [60, 240]
    assert told(events) == [(RunSkipped, 120), (RunMissed, 180)]


def test_a_pause_drops_what_run_now_has_asked_for(clock: VirtualClock) -> None:
    """A pause before the start has the run skipped that run_now() asked for, and it is not made up for."""
    func = Recorder(clock)
    task = IntervalTask(func, 60, clock=clock)
    events = watch(task, RunSkipped)
    task.run_now()
    task.pause()
    with task:
        task.resume()
        clock.advance(60)
        assert task.skipped == 1
    assert func.began == [60]
    assert told(events) == [(RunSkipped, 0)]


def test_a_pause_drops_the_last_run_before_it_could_begin(clock: VirtualClock) -> None:
    """A task whose last run is dropped by a pause has ended, for nothing is to come."""
    held, func = StopToken(clock=clock), Recorder(clock)
    scheduler = Scheduler(clock)
    for _ in range(MAX_THREADS):
        scheduler.run(held.wait)
    clock.settle()
    task = IntervalTask(func, triggers.every(60, end=EPOCH), run_immediately=True, clock=clock)
    task.bind(scheduler)
    task.start()
    task.pause()
    assert task.join(1)
    assert (task.state, task.skipped) == (ComponentState.STOPPED, 1)
    held.set()
    clock.settle()
    assert func.began == []
    scheduler.stop()


def test_a_pause_in_a_backoff(clock: VirtualClock) -> None:
    """What a backoff leaves out is not missed in a pause as well; a run that was due after it is, once."""

    def fail() -> None:
        raise ValueError("oops")

    task = IntervalTask(fail, 10, backoff=backoff.constant(35), clock=clock)
    with task:
        clock.advance(12)
        task.pause()
        clock.advance(20)
        task.resume()
        assert task.missed == 0
        assert task.next_run_at == EPOCH + timedelta(seconds=45)
        clock.advance(13)
        assert task.runs == 2
        task.pause()
        clock.advance(60)
        task.resume()
        assert (task.runs, task.missed) == (2, 1)


@pytest.mark.parametrize("when", [65, 75, 80])
def test_a_pause_with_a_delay(clock: VirtualClock, when: float) -> None:
    """With a fixed delay a pause that begins in a run, or after it, leaves the task with a next time."""
    func = Recorder(clock, takes=10)
    with IntervalTask(func, 60, fixed="delay", clock=clock) as task:
        clock.advance(when)
        task.pause()
        clock.advance(100 - when)
        task.resume()
        clock.advance(95)
        assert task.missed == 0
    assert func.began == [60, 130]


def test_a_pause_before_the_first_run(clock: VirtualClock) -> None:
    """A task that was paused before its immediate run could begin has its first run after resume()."""
    held, func = StopToken(clock=clock), Recorder(clock)
    scheduler = Scheduler(clock)
    for _ in range(MAX_THREADS):
        scheduler.run(held.wait)
    clock.settle()
    task = IntervalTask(func, 60, fixed="delay", run_immediately=True, clock=clock)
    task.bind(scheduler)
    with task:
        task.pause()
        held.set()
        clock.advance(30)
        task.resume()
        clock.advance(60)
    assert func.began == [90]
    scheduler.stop()


def test_a_pause_before_the_start(clock: VirtualClock) -> None:
    """A task may be started paused; an immediate run is left out then."""
    func = Recorder(clock)
    task = IntervalTask(func, 60, run_immediately=True, clock=clock)
    task.pause()
    with task:
        clock.advance(100)
        assert func.began == []
        task.resume()
        clock.advance(60)
    assert func.began == [120]


def test_the_only_run_is_due_in_a_pause(clock: VirtualClock) -> None:
    """What is due once, and in a pause, is run late."""
    func = Recorder(clock)
    task = IntervalTask(func, triggers.after(60), clock=clock)
    with task:
        task.pause()
        clock.advance(100)
        assert task.state is ComponentState.RUNNING
        task.resume()
        clock.settle()
    assert func.began == [100]
    assert func.runs[0].lateness == 40


def test_resume_while_somebody_else_changes_the_plan(clock: VirtualClock) -> None:
    """resume() starts over when the plan was changed while it asked for chance."""
    changes: list[Callable[[], None]] = []

    def random() -> float:
        while changes:
            changes.pop()()
        return 0.0

    def change() -> None:
        task.interval = 50

    func = Recorder(clock)
    task = IntervalTask(func, 60, jitter=1, random=random, clock=clock)
    with task:
        task.pause()
        clock.advance(100)
        changes.append(change)
        task.resume()
        clock.settle()
        assert task.interval == 50
        clock.advance(50)
    assert func.began == [150]


def test_run_now(clock: VirtualClock) -> None:
    """run_now() runs once at once, and the schedule stays as it is."""
    func = Recorder(clock)
    with IntervalTask(func, 60, clock=clock) as task:
        clock.advance(25)
        task.run_now()
        clock.advance(100)
        assert func.runs[0].scheduled_at == EPOCH + timedelta(seconds=25)
    assert func.began == [25, 60, 120]


def test_run_now_with_a_delay(clock: VirtualClock) -> None:
    """run_now() leaves the time alone that a fixed delay has set."""
    func = Recorder(clock, takes=5)
    with IntervalTask(func, 60, fixed="delay", clock=clock) as task:
        clock.advance(25)
        task.run_now()
        clock.advance(100)
    assert func.began == [25, 60, 125]


def test_a_delay_counts_from_the_last_end(clock: VirtualClock) -> None:
    """With a fixed delay the next run is due an interval after the last of those that went on in parallel."""
    func = Recorder(clock, takes=50)
    with IntervalTask(func, 60, fixed="delay", overlap="parallel", clock=clock) as task:
        clock.advance(70)
        task.run_now()
        clock.advance(115)
    assert func.began == [60, 70, 180]


@pytest.mark.parametrize("overlap", ["skip", "queue"])
def test_run_now_in_a_run(clock: VirtualClock, overlap: Any) -> None:
    """Asked for in a run, the extra run begins when that has ended, and only one, however often it was asked for."""
    func = Recorder(clock, takes=10)
    with IntervalTask(func, 60, overlap=overlap, clock=clock) as task:
        clock.advance(65)
        task.run_now()
        task.run_now()
        clock.advance(30)
    assert func.began == [60, 70]


def test_run_now_in_parallel(clock: VirtualClock) -> None:
    """Where runs may go on in parallel the extra run does not wait."""
    func = Recorder(clock, takes=10)
    with IntervalTask(func, 60, overlap="parallel", clock=clock) as task:
        clock.advance(65)
        task.run_now()
        clock.advance(30)
    assert func.began == [60, 65]


def test_run_now_while_paused(clock: VirtualClock) -> None:
    """run_now() runs a paused task, which stays paused."""
    func = Recorder(clock)
    with IntervalTask(func, 60, clock=clock) as task:
        task.pause()
        clock.advance(30)
        task.run_now()
        clock.advance(100)
    assert func.began == [30]


def test_run_now_before_the_start(clock: VirtualClock) -> None:
    """Asked for before the start, the extra run begins with it."""
    func = Recorder(clock)
    task = IntervalTask(func, 60, clock=clock)
    task.run_now()
    with task:
        clock.advance(60)
    assert func.began == [0, 60]


@pytest.mark.parametrize("fixed", ["rate", "delay"])
def test_run_now_while_starting(clock: VirtualClock, fixed: Any) -> None:
    """Asked for while the task starts, the extra run begins with it."""
    asked: list[bool] = []

    def every() -> float:
        if not asked:
            asked.append(True)
            task.run_now()
            assert task.state is ComponentState.STARTING
        return 60

    func = Recorder(clock)
    task = IntervalTask(func, every, fixed=fixed, clock=clock)
    with task:
        clock.advance(60)
    assert func.began == [0, 60]


def test_run_now_before_the_start_of_a_paused_task(clock: VirtualClock) -> None:
    """Asked for before a start in a pause, the extra run begins with that, and the task stays paused."""
    func = Recorder(clock)
    task = IntervalTask(func, 60, clock=clock)
    task.pause()
    task.run_now()
    clock.advance(10)
    with task:
        clock.advance(100)
        assert task.next_run_at is None
    assert func.began == [10]
    assert func.runs[0].lateness == 0


def test_run_now_before_a_lifecycle_takes_the_task(clock: VirtualClock) -> None:
    """Asked for before the task belongs to a lifecycle, the extra run begins when that starts."""
    func = Recorder(clock)
    task = IntervalTask(func, 60)
    task.run_now()
    with Lifecycle(clock=clock) as lifecycle:
        lifecycle.add(task)
        clock.advance(60)
    assert func.began == [0, 60]


def test_run_now_after_the_end(clock: VirtualClock) -> None:
    """A task that has been stopped, or has ended, refuses to run."""
    task = IntervalTask(lambda: None, 60, clock=clock)
    task.stop()
    with pytest.raises(Closed, match="task '<lambda>' is closed"):
        task.run_now()
    task = IntervalTask(lambda: IntervalTask.DONE, 60, clock=clock)
    task.start()
    clock.advance(60)
    assert task.join(1)
    with pytest.raises(Closed):
        task.run_now()


# --- failures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [ValueError("bad"), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError(), Stopping()],
)
def test_a_failing_run(clock: VirtualClock, error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a run raises is counted, kept, told and logged, and the schedule goes on."""

    def func() -> None:
        if task.runs == 0:
            raise error

    task = IntervalTask(func, 60, name="report", clock=clock)
    told = watch(task, RunFailed)
    with task:
        clock.advance(60)
        assert task.health().status is Status.DEGRADED
        assert task.health().detail.startswith("the last 1 run(s) failed: ")
        clock.advance(60)
        assert task.health().status is Status.READY
        assert (task.runs, task.failures, task.last_error) == (2, 1, error)
    assert [(event.error, event.number) for event in told if isinstance(event, RunFailed)] == [(error, 1)]
    assert "task 'report': run 1 failed" in caplog.text


def test_a_run_that_unwinds_by_its_token_has_not_failed(clock: VirtualClock) -> None:
    """A run that raises Stopping once its token is set ends as it should."""

    def func(run: Run) -> None:
        run.token.wait()
        run.token.raise_if_set()

    with IntervalTask(func, 60, clock=clock) as task:
        clock.advance(60)
        task.stop()
        assert task.join(1)
        assert (task.runs, task.failures) == (1, 0)


def failing(*outcomes: bool) -> Iterator[bool]:
    yield from outcomes
    while True:
        yield True


def test_backoff(clock: VirtualClock) -> None:
    """After failed runs a longer and longer time passes, and after a good one the grid counts again."""
    fails = failing(True, True, True, False, True, False)
    began: list[float] = []

    def func() -> None:
        began.append(clock.monotonic())
        if next(fails):
            raise OSError("no network")

    wait = backoff.exponential(20, factor=2, jitter=None)
    with IntervalTask(func, 10, backoff=wait, clock=clock) as task:
        clock.advance(10)
        assert task.next_run_at == EPOCH + timedelta(seconds=30)
        clock.advance(200)
        assert task.missed == task.skipped == 0
    # Fails at 10, 30, 70; is well at 150; fails at 160, is well at 180; fails at 190.
    assert began == [10, 30, 70, 150, 160, 180, 190, 210]


def test_a_backoff_that_is_shorter_than_the_interval(clock: VirtualClock) -> None:
    """A backoff that has passed when the next run is due changes nothing."""
    func = Recorder(clock)

    def fail(run: Run) -> None:
        func(run)
        raise ValueError("bad")

    with IntervalTask(fail, 60, backoff=backoff.constant(5), clock=clock):
        clock.advance(180)
    assert func.began == [60, 120, 180]
    assert [run.lateness for run in func.runs] == [0, 0, 0]


def test_what_is_scheduled_by_a_backoff(clock: VirtualClock) -> None:
    """A run that a backoff has put off is not late, and was due at the end of that."""
    runs: list[Run] = []

    def fail(run: Run) -> None:
        runs.append(run)
        raise ValueError("bad")

    with IntervalTask(fail, triggers.every(60, aligned=True), backoff=backoff.constant(70), clock=clock):
        clock.advance(140)
    assert [run.scheduled_at for run in runs] == [EPOCH + timedelta(seconds=60), EPOCH + timedelta(seconds=130)]
    assert [run.lateness for run in runs] == [0, 0]


def test_a_backoff_drops_a_queued_run(clock: VirtualClock) -> None:
    """A run that waited for one that failed is skipped, and the backoff says when the next one is due."""
    began: list[float] = []

    def fail(run: Run) -> None:
        began.append(clock.monotonic())
        run.token.sleep(15)
        raise ValueError("bad")

    task = IntervalTask(fail, 10, overlap="queue", backoff=backoff.constant(100), clock=clock)
    told = watch(task, RunSkipped)
    with task:
        clock.advance(26)
        assert (began, task.skipped, len(told)) == ([10], 1, 1)
        clock.advance(100)
    assert began == [10, 125]


def test_a_backoff_that_raises(clock: VirtualClock) -> None:
    """A backoff that raises ends the task as failed, and whoever answers for the task is told."""

    def fail() -> None:
        raise ValueError("bad")

    blamed: list[BaseException] = []
    task = IntervalTask(fail, 10, backoff=lambda state: -1.0, clock=clock)
    task.failed = blamed.append
    told = watch(task, Failed)
    task.start()
    clock.advance(10)
    assert task.join(1)
    assert task.state is ComponentState.FAILED
    assert str(task.failure) == "backoff must not be negative or nan, but is -1.0"
    assert blamed == [task.failure]
    assert len(told) == 1
    assert (task.runs, task.failures) == (1, 1)


class Breaking(Trigger):
    """A trigger that works once."""

    def __init__(self) -> None:
        self.asked = 0

    @override
    def next_after(self, moment: datetime) -> datetime | None:
        self.asked += 1
        if self.asked > 1:
            raise OSError("the calendar is offline")
        return moment + timedelta(seconds=10)


@pytest.mark.parametrize("fixed", ["rate", "delay"])
def test_a_trigger_that_raises(clock: VirtualClock, fixed: Any) -> None:
    """A trigger that raises ends the task as failed; in start() its error is raised."""
    task = IntervalTask(lambda: None, Breaking(), fixed=fixed, clock=clock)
    task.start()
    clock.advance(10)
    assert task.join(1)
    assert task.state is ComponentState.FAILED
    assert isinstance(task.failure, OSError)
    worn = Breaking()
    worn.asked = 1
    task = IntervalTask(lambda: None, worn, clock=clock)
    with pytest.raises(OSError, match="offline"):
        task.start()
    assert task.state is ComponentState.FAILED
    assert task.next_run_at is None


def test_a_trigger_that_raises_in_a_run(clock: VirtualClock) -> None:
    """The failure of a trigger is told when the run that is going on has ended."""

    class Later(Breaking):
        @override
        def next_after(self, moment: datetime) -> datetime | None:
            self.asked = 0 if moment < EPOCH + timedelta(seconds=20) else 1
            return super().next_after(moment)

    func = Recorder(clock, takes=100)
    task = IntervalTask(func, Later(), clock=clock)
    task.start()
    clock.advance(50)
    assert task.state is ComponentState.RUNNING
    assert task.next_run_at is None
    clock.advance(100)
    assert task.join(1)
    assert task.state is ComponentState.FAILED
    assert func.began == [10]


# --- the end -------------------------------------------------------------------------------------------------------


def test_max_runs(clock: VirtualClock) -> None:
    """After max_runs the task has ended by itself, with all its threads."""
    func = Recorder(clock, takes=5)
    task = IntervalTask(func, 60, max_runs=2, overlap="parallel", clock=clock)
    told = watch(task, Started, Stopped)
    task.start()
    clock.advance(120)
    assert task.next_run_at is None
    assert task.state is ComponentState.RUNNING
    clock.advance(500)
    assert task.join(1)
    assert (func.began, task.state, task.threads()) == ([60, 120], ComponentState.STOPPED, [])
    assert [type(event) for event in told] == [Started, Stopped]


def test_done(clock: VirtualClock) -> None:
    """A run that returns DONE is the last one; what was queued is let go."""
    began: list[float] = []

    def func(run: Run) -> object:
        began.append(clock.monotonic())
        run.token.sleep(70)
        return IntervalTask.DONE if run.number == 2 else None

    task = IntervalTask(func, 60, overlap="queue", clock=clock)
    task.start()
    clock.advance(1000)
    assert task.join(1)
    assert began == [60, 130]
    assert task.state is ComponentState.STOPPED


@pytest.mark.parametrize(
    "trigger",
    [
        triggers.after(60),
        triggers.at(EPOCH + timedelta(seconds=60)),
        triggers.every(60, end=EPOCH + timedelta(seconds=90)),
    ],
)
def test_a_trigger_that_ends(clock: VirtualClock, trigger: Trigger) -> None:
    """A task ends with its trigger, after the last run."""
    func = Recorder(clock, takes=5)
    task = IntervalTask(func, trigger, clock=clock)
    task.start()
    assert task.next_run_at == EPOCH + timedelta(seconds=60)
    clock.advance(62)
    assert task.state is ComponentState.RUNNING
    clock.advance(10)
    assert task.join(1)
    assert (func.began, task.state) == ([60], ComponentState.STOPPED)


def test_a_trigger_that_has_ended(clock: VirtualClock) -> None:
    """A trigger that has nothing to say at the start ends the task at once."""
    task = IntervalTask(lambda: None, triggers.every(60, start=EPOCH - timedelta(days=2), end=EPOCH), clock=clock)
    clock.advance(1)
    task.start()
    assert task.join(1)
    assert (task.state, task.runs) == (ComponentState.STOPPED, 0)


@pytest.mark.parametrize(
    "every",
    [
        triggers.after(0),
        triggers.at(EPOCH - timedelta(days=1)),
        triggers.daily("12:00", start=EPOCH - timedelta(days=1), end=EPOCH),
    ],
)
def test_a_single_run_that_is_due_already(clock: VirtualClock, every: Trigger) -> None:
    """What is due once, and already, is run at once."""
    func = Recorder(clock)
    task = IntervalTask(func, every, max_runs=1, clock=clock)
    task.start()
    clock.settle()
    assert task.join(1)
    assert func.began == [0]


@pytest.mark.parametrize(
    ("every", "began", "missed"),
    [
        (triggers.at(EPOCH - timedelta(5)) | triggers.at(EPOCH - timedelta(9)), [0], 1),
        (triggers.at(EPOCH - timedelta(5)) | triggers.at(EPOCH - timedelta(5)), [0], 0),
        (triggers.at(EPOCH - timedelta(5)) | triggers.at(EPOCH + timedelta(seconds=7)), [0, 7], 0),
        (triggers.at(EPOCH - timedelta(5)) | triggers.daily("00:00", end=EPOCH + timedelta(1)), [0, 86400], 0),
        (triggers.at(EPOCH - timedelta(5)) | triggers.after(3), [0, 3], 0),
        (triggers.at(EPOCH - timedelta(5)).except_on((EPOCH - timedelta(5)).date()) | triggers.after(3), [3], 0),
    ],
)
def test_single_moments_of_which_some_are_past(
    clock: VirtualClock, every: Trigger, began: list[float], missed: int
) -> None:
    """Moments that have passed when the task starts make one run at once, and what is still to come keeps its time."""
    func = Recorder(clock)
    task = IntervalTask(func, every, clock=clock)
    events = watch(task, RunMissed)
    task.start()
    clock.advance("2d")
    assert task.join(1)
    assert (func.began, task.missed, len(events)) == (began, missed, missed)
    assert not missed or func.runs[0].scheduled_at == EPOCH - timedelta(9)


def test_a_moment_that_passes_while_one_is_late(clock: VirtualClock) -> None:
    """What becomes due between the start and a late first run is folded into that, and counted."""
    held, func = StopToken(clock=clock), Recorder(clock)
    scheduler = Scheduler(clock)
    for _ in range(MAX_THREADS):
        scheduler.run(held.wait)
    clock.settle()
    past, soon = EPOCH - timedelta(1), EPOCH + timedelta(seconds=10)
    task = IntervalTask(func, triggers.at(past) | triggers.at(soon), clock=clock)
    task.bind(scheduler)
    task.start()
    clock.advance(20)
    held.set()
    clock.settle()
    assert task.join(1)
    assert (func.began, task.missed) == ([20], 1)
    scheduler.stop()


def test_the_last_run_overlaps(clock: VirtualClock) -> None:
    """A task whose last run was queued ends after it; where it was skipped, after the one before."""
    func = Recorder(clock, takes=15)
    task = IntervalTask(func, triggers.every(10, end=EPOCH + timedelta(seconds=25)), overlap="queue", clock=clock)
    task.start()
    clock.advance(100)
    assert task.join(1)
    assert func.began == [10, 25]
    func = Recorder(clock, takes=15)
    end = clock.now() + timedelta(seconds=25)
    task = IntervalTask(func, triggers.every(10, end=end), clock=clock)
    task.start()
    clock.advance(100)
    assert task.join(1)
    assert func.began == [110]


def test_stop_while_waiting(clock: VirtualClock) -> None:
    """A task that waits for its next run stops at once, with all its threads."""
    func = Recorder(clock)
    task = IntervalTask(func, 60, clock=clock)
    told = watch(task, Stopped)
    task.start()
    clock.advance(90)
    task.cancel("enough")
    assert task.join(1)
    assert (task.state, task.threads(), task.next_run_at) == (ComponentState.STOPPED, [], None)
    clock.advance(1000)
    assert func.began == [60]
    assert str(told[0]) == "'task' stopped (enough)"


def test_stop_in_a_run(clock: VirtualClock) -> None:
    """A run sees the stop by its token, nothing begins after it, and join() waits for the end of it."""
    ended = Gate()

    def func(run: Run) -> None:
        run.token.wait()
        lasts.wait()
        ended.open()

    lasts = StopToken(clock=clock)
    task = IntervalTask(func, 60, overlap="queue", clock=clock)
    task.start()
    clock.advance(125)
    task.stop("closing time")
    assert not task.join(0)
    assert task.state is ComponentState.STOPPING
    assert task.work_left() >= 1
    lasts.set()
    assert task.join(1)
    assert ended.is_open()
    assert (task.runs, task.state) == (1, ComponentState.STOPPED)


def test_stop_and_join_from_inside(clock: VirtualClock) -> None:
    """A run may stop its task; to join it from there says at once that it has not ended."""
    answers: list[bool] = []

    def func() -> None:
        task.stop()
        answers.append(task.join())

    task = IntervalTask(func, 60, clock=clock)
    task.start()
    clock.advance(60)
    assert task.join(1)
    assert answers == [False]
    assert task.runs == 1


def test_stop_of_one_of_many(clock: VirtualClock) -> None:
    """Tasks that share a scheduler end one by one, and leave it to the others."""
    scheduler = Scheduler(clock)
    one, other = Recorder(clock), Recorder(clock)
    tasks = [IntervalTask(one, 10, clock=clock), IntervalTask(other, 10, clock=clock)]
    for task in tasks:
        task.bind(scheduler)
        task.start()
    clock.advance(10)
    tasks[0].stop()
    assert tasks[0].join(1)
    clock.advance(10)
    assert (len(one.began), len(other.began)) == (1, 2)
    names = [thread.name for thread in scheduler.threads()]
    assert names.count("threadkit-scheduler") == 1
    tasks[1].stop()
    assert tasks[1].join(1)
    assert tasks[1].threads() == []
    scheduler.stop()
    assert scheduler.join(clock.monotonic() + 1)


def test_start_after_the_stop_has_come(clock: VirtualClock) -> None:
    """A stop that comes while the task starts leaves nothing behind."""

    def every() -> float:
        task.stop()
        return 60

    task = IntervalTask(lambda: None, every, run_immediately=True, clock=clock)
    task.start()
    assert task.join(1)
    assert (task.state, task.runs) == (ComponentState.STOPPED, 0)


def test_the_token_of_a_host_forgets_the_task(clock: VirtualClock) -> None:
    """A task that has ended leaves no hook at the token that it descends from."""
    host = StopToken("host", clock=clock)
    task = IntervalTask(lambda: None, triggers.after(1), clock=clock)
    task.adopt(clock, host)
    task.start()
    assert host._hooks
    clock.advance(1)
    assert task.join(1)
    assert not host._hooks


# --- elsewhere -----------------------------------------------------------------------------------------------------


class Manual(Executor):
    """An executor whose calls begin and end when the test says so."""

    def __init__(self) -> None:
        self.futures: list[Future[Any]] = []

    @override
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.futures.append(Future())
        return self.futures[-1]


def test_on_an_executor(clock: VirtualClock) -> None:
    """A task with an executor hands its function over, and counts the outcome when it is there."""
    executor = Manual()
    with IntervalTask(lambda: None, 60, executor=executor, clock=clock) as task:
        clock.advance(130)
        assert len(executor.futures) == 1
        assert (task.runs, task.skipped, task.stats().running, task.work_left()) == (0, 1, 1, 1)
        executor.futures[0].set_running_or_notify_cancel()
        executor.futures[0].set_result(None)
        assert (task.runs, task.last_duration) == (1, 70)
        clock.advance(60)
        executor.futures[1].set_exception(ValueError("bad"))
        assert (task.runs, task.failures, str(task.last_error)) == (2, 1, "bad")


def test_a_queued_run_on_an_executor(clock: VirtualClock) -> None:
    """The end of a run on an executor lets the queued one begin."""
    executor = Manual()
    with IntervalTask(lambda: None, 60, overlap="queue", executor=executor, clock=clock) as task:
        clock.advance(130)
        executor.futures[0].set_result(None)
        clock.settle()
        assert len(executor.futures) == 2
        executor.futures[1].set_result(IntervalTask.DONE)
        assert task.join(1)
        assert task.runs == 2


def test_an_executor_that_refuses(clock: VirtualClock) -> None:
    """What an executor raises instead of taking a run is the failure of that run, and a queued one is tried."""
    executor = InlineExecutor()
    executor.shutdown()
    with IntervalTask(lambda run: None, 60, executor=executor, clock=clock) as task:
        clock.advance(120)
        assert (task.runs, task.failures) == (2, 2)
        assert isinstance(task.last_error, Closed)


def test_a_run_that_knows_on_an_executor(clock: VirtualClock) -> None:
    """An executor in the same process can be given a function that asks for its run."""
    func = Recorder(clock)
    with IntervalTask(func, 60, executor=InlineExecutor(), clock=clock):
        clock.advance(60)
    assert [(run.number, run.lateness) for run in func.runs] == [(1, 0)]


def test_stop_takes_back_what_an_executor_has_not_begun(clock: VirtualClock) -> None:
    """A run that waits in an executor is cancelled by the stop, and counts as nothing."""
    executor = Manual()
    task = IntervalTask(lambda: None, 60, executor=executor, clock=clock)
    task.start()
    clock.advance(60)
    task.stop()
    assert task.join(1)
    assert executor.futures[0].cancelled()
    assert (task.runs, task.failures, task.state) == (0, 0, ComponentState.STOPPED)


def test_stop_waits_for_what_an_executor_has_begun(clock: VirtualClock) -> None:
    """join() waits for a run on an executor that cannot be cancelled any more."""
    executor = Manual()
    task = IntervalTask(lambda: None, 60, executor=executor, clock=clock)
    task.start()
    clock.advance(60)
    executor.futures[0].set_running_or_notify_cancel()
    task.stop()
    assert not task.join(0)
    executor.futures[0].set_result(None)
    assert task.join(1)
    assert task.runs == 1


def test_stop_while_an_executor_takes_a_run(clock: VirtualClock) -> None:
    """A stop that comes while the executor makes up its mind takes the run back, too."""

    class Slow(Manual):
        @override
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            task._token._retire()  # the stopper is not to come later
            task.stop()
            task._recurrence.wind_down()
            return super().submit(fn, *args, **kwargs)

    executor = Slow()
    task = IntervalTask(lambda: None, 60, executor=executor, clock=clock)
    task.start()
    clock.advance(60)
    assert task.join(1)
    assert executor.futures[0].cancelled()
    assert task.runs == 0


def test_a_run_that_somebody_else_has_cancelled(clock: VirtualClock) -> None:
    """A run that was cancelled behind the task's back has failed."""
    executor = Manual()
    with IntervalTask(lambda: None, 60, executor=executor, clock=clock) as task:
        clock.advance(60)
        executor.futures[0].cancel()
        assert (task.runs, task.failures) == (1, 1)
        assert isinstance(task.last_error, CancelledError)


def test_a_thread_pool_of_the_standard_library() -> None:
    """A task runs on a ThreadPoolExecutor, in real time."""
    gate, names = Gate(), list[str]()

    def func() -> None:
        names.append(threading.current_thread().name)
        gate.open()

    with ThreadPoolExecutor(1, "theirs") as executor, IntervalTask(func, 3600, executor=executor) as task:
        task.run_now()
        gate.pass_through()
    assert names == ["theirs_0"]


# --- figures -------------------------------------------------------------------------------------------------------


def test_figures(clock: VirtualClock) -> None:
    """The figures tell what has happened, one by one and all together."""
    func = Recorder(clock, takes=5)
    task = IntervalTask(func, 60, name="report", clock=clock)
    assert (task.runs, task.last_run_at, task.last_duration, task.last_error) == (0, None, None, None)
    assert task.next_run_at is None
    with task:
        clock.advance(62)
        assert task.stats().running == 1
        clock.advance(10)
        assert task.stats().as_dict() == {
            "runs": 1,
            "failures": 0,
            "skipped": 0,
            "missed": 0,
            "running": 0,
            "next_run_at": "2026-01-01T00:02:00+00:00",
            "last_run_at": "2026-01-01T00:01:00+00:00",
            "last_duration": 5.0,
        }
        assert task.last_run_at == EPOCH + timedelta(seconds=60)
        assert task.last_duration == 5


def test_an_idle_task_costs_nothing(clock: VirtualClock) -> None:
    """A hundred tasks that are due in a day cost one parked thread, which does not wake up before."""

    class Counting(VirtualClock):
        parks = 0

        @override
        def park(self, gate: Any, deadline: float | None) -> bool:
            self.parks += 1
            return super().park(gate, deadline)

    clock = Counting()
    scheduler = Scheduler(clock)
    tasks = [IntervalTask(lambda: None, "1d", name=str(number), clock=clock) for number in range(100)]
    for task in tasks:
        task.bind(scheduler)
        task.start()
    clock.settle()
    before = clock.parks
    clock.advance(86000)
    assert clock.parks == before
    assert len(scheduler.threads()) == 1
    for task in tasks:
        task.stop()
    assert all(task.join(PATIENCE) for task in tasks)
    scheduler.stop()


def test_names() -> None:
    """A task goes by its function's name, unless it is given one."""

    def report() -> None: ...

    assert IntervalTask(report, 60).name == "report"
    assert IntervalTask(report, 60, name="mine").name == "mine"


def good() -> None: ...


async def coroutine() -> None: ...


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"func": None}, TypeError, "func must be callable, not None"),
        ({"func": coroutine}, TypeError, "func must be a plain function"),
        ({"func": lambda run, other: None}, TypeError, "func must take one parameter, the run, or none"),
        ({"every": None}, TypeError, "every"),
        ({"every": True}, TypeError, "every"),
        ({"every": 0}, ValueError, "every must be at least a microsecond, but is 0"),
        ({"every": -1}, ValueError, "every"),
        ({"every": float("nan")}, ValueError, "every"),
        ({"every": "often"}, ValueError, "every must be a duration"),
        ({"name": ""}, ValueError, "name must not be empty"),
        ({"fixed": "rat"}, ValueError, "fixed must be one of 'rate', 'delay', not 'rat'"),
        ({"jitter": -1}, ValueError, "jitter"),
        ({"jitter": "1s"}, TypeError, "jitter"),
        ({"overlap": "stack"}, ValueError, "overlap must be one of 'skip', 'queue', 'parallel', 'cancel', not 'stack'"),
        ({"overlap": "cancel"}, ValueError, "overlap must not be 'cancel' where func takes no run"),
        ({"misfire": "drop"}, ValueError, "misfire must be one of 'run', 'skip', not 'drop'"),
        ({"max_runs": 0}, ValueError, "max_runs must be at least 1, but is 0"),
        ({"max_runs": 1.5}, TypeError, "max_runs"),
        ({"backoff": 5}, TypeError, "backoff must be callable, not 5"),
        ({"executor": 5}, TypeError, "executor must be a concurrent.futures.Executor, not 5"),
        ({"random": 0.5}, TypeError, "random must be callable, not 0.5"),
    ],
)
def test_what_is_refused(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    """A bad argument is refused where it is given, by an error that names it."""
    with pytest.raises(error) as caught:
        IntervalTask(**({"func": good, "every": 60} | arguments))
    assert words in str(caught.value)


def test_join_refuses_what_is_no_duration(clock: VirtualClock) -> None:
    """join() refuses a timeout that is none, whether the task runs or not."""
    with pytest.raises(ValueError, match="timeout"):
        IntervalTask(good, 60, clock=clock).join(-1)


def test_many_threads_at_the_controls() -> None:
    """Threads that pause, resume, change and run one task in real time leave it in order."""
    count = 20

    def meddle() -> None:
        for number in range(count):
            task.pause()
            task.run_now()
            task.interval = 1000 + number
            task.resume()

    with IntervalTask(good, 1000) as task:
        for meddler in [Background(meddle) for _ in range(3)]:
            meddler.result()
        assert task.next_run_at is not None
    assert task.failures == 0
