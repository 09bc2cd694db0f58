"""What a run says about the next one, and how many may go on at once. All of it on a clock that stands still."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from helpers import Manual

from threadkit import IntervalTask, Run, backoff, triggers
from threadkit.events import Event, RunSkipped
from threadkit.testing import VirtualClock

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


class Script:
    """A function that notes when it is called, and returns what its script says, then None."""

    def __init__(self, clock: VirtualClock, *answers: object, takes: float = 0.0) -> None:
        self.clock = clock
        self.answers = list(answers)
        self.takes = takes
        self.began: list[float] = []

    def __call__(self, run: Run) -> object:
        self.began.append(self.clock.monotonic())
        if self.takes:
            run.token.sleep(self.takes)
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer


# --- again_in ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [15, 15.0, timedelta(seconds=15), "15s"])
def test_a_run_says_when_it_wants_to_be_run_next(clock: VirtualClock, delay: Any) -> None:
    """The run that was asked for takes the place of the next, and the interval is counted from it."""
    func = Script(clock, IntervalTask.again_in(delay))
    with IntervalTask(func, 60, clock=clock) as task:
        clock.advance(60)
        assert task.next_run_at == EPOCH + timedelta(seconds=75)
        clock.advance(140)
        assert func.began == [60, 75, 135, 195]
        assert (task.skipped, task.missed, task.interval) == (0, 0, 60)


def test_it_counts_from_the_end_of_the_run(clock: VirtualClock) -> None:
    """The time that a run takes is not taken off what it asks for, and what is due meanwhile is skipped as ever."""
    func = Script(clock, IntervalTask.again_in(30), takes=80)
    with IntervalTask(func, 60, clock=clock) as task:
        clock.advance(320)
        assert func.began == [60, 170, 290]
        assert task.skipped == 2


def test_later_than_the_schedule_says(clock: VirtualClock) -> None:
    """What is due before the time that a run asks for is left out, and is neither skipped nor missed."""
    func = Script(clock, IntervalTask.again_in("10m"))
    with IntervalTask(func, "1m", clock=clock) as task:
        clock.advance("13m")
        assert func.began == [60, 660, 720, 780]
        assert (task.skipped, task.missed) == (0, 0)


def test_at_once(clock: VirtualClock) -> None:
    """A run that asks for no delay is run again at once, as often as it asks."""
    func = Script(clock, *[IntervalTask.again_in(0)] * 3)
    with IntervalTask(func, 60, clock=clock):
        clock.advance(120)
        assert func.began == [60] * 4 + [120]


def test_with_a_fixed_delay(clock: VirtualClock) -> None:
    """With a fixed delay, too, a run may ask for another time than the usual."""
    func = Script(clock, IntervalTask.again_in(5), takes=10)
    with IntervalTask(func, 60, fixed="delay", clock=clock):
        clock.advance(200)
        assert func.began == [60, 75, 145]


@pytest.mark.parametrize("fixed", ["rate", "delay"])
def test_a_trigger_has_its_say_after_it(clock: VirtualClock, fixed: Any) -> None:
    """After the run that was asked for, a calendar goes on as it is."""
    func = Script(clock, IntervalTask.again_in("90m"))
    with IntervalTask(func, triggers.every("1h", aligned=True), fixed=fixed, clock=clock):
        clock.advance("4h")
        assert func.began == [3600, 9000, 10800, 14400]


@pytest.mark.parametrize("every", [triggers.after("10m"), triggers.at(EPOCH + timedelta(minutes=10))], ids=str)
def test_a_single_run_that_asks_for_more(clock: VirtualClock, every: triggers.Trigger) -> None:
    """What is due once goes on for as long as it asks to."""
    func = Script(clock, IntervalTask.again_in(30), IntervalTask.again_in(30))
    with IntervalTask(func, every, clock=clock) as task:
        clock.advance("11m")
        assert func.began == [600, 630, 660]
        assert task.join(1)


def test_an_interval_that_is_set_afterwards_counts(clock: VirtualClock) -> None:
    """Who sets the interval has the last word, even over what a run has asked for."""
    func = Script(clock, IntervalTask.again_in("1h"))
    with IntervalTask(func, 60, clock=clock) as task:
        clock.advance(65)
        task.interval = 10
        clock.advance(20)
        assert func.began == [60, 75, 85]


def test_an_interval_that_is_set_when_it_is_due_already(clock: VirtualClock) -> None:
    """A run that is asked for and due is not put off by a new interval."""
    func = Script(clock, IntervalTask.again_in(0))
    executor = Manual()
    with IntervalTask(func, 60, executor=executor, overlap="queue", clock=clock) as task:
        clock.advance(60)
        executor.run()
        task.interval = 10
        clock.settle()
        executor.run()
        assert func.began == [60, 60]


def test_while_paused(clock: VirtualClock) -> None:
    """What a run asks for while the task is paused counts after resume()."""
    func = Script(clock, IntervalTask.again_in(50), takes=20)
    with IntervalTask(func, 60, clock=clock) as task:
        clock.advance(70)
        task.pause()
        clock.advance(20)
        task.resume()
        clock.advance(50)
        assert func.began == [60, 130]


@pytest.mark.parametrize("ending", [{"max_runs": 1}, {}], ids=str)
def test_a_task_that_has_ended_is_not_run_again(clock: VirtualClock, ending: dict[str, int]) -> None:
    """Neither max_runs nor a stop is overruled by what a run asks for."""
    func = Script(clock, *[IntervalTask.again_in(1)] * 5, takes=10)
    with IntervalTask(func, 60, clock=clock, **ending) as task:
        clock.advance(65)
        if not ending:
            task.stop()
        clock.advance(100)
        assert func.began == [60]


def test_a_setback_is_over_when_a_run_asks_for_more(clock: VirtualClock) -> None:
    """What a run asks for follows a success, so no backoff is in its way."""
    func = Script(clock, ValueError("no"), IntervalTask.again_in(1))
    with IntervalTask(func, 10, backoff=backoff.constant(25), clock=clock):
        clock.advance(50)
        assert func.began == [10, 35, 36, 46]


def test_a_bare_number_means_nothing(clock: VirtualClock) -> None:
    """A function that happens to return a number is not taken at its word."""
    func = Script(clock, 5, 5)
    with IntervalTask(func, 60, clock=clock):
        clock.advance(120)
        assert func.began == [60, 120]


def test_it_comes_back_from_another_process(clock: VirtualClock) -> None:
    """What again_in() and DONE return survives the way to another process and back."""
    for answer in (IntervalTask.again_in(5), IntervalTask.DONE):
        assert pickle.loads(pickle.dumps(answer)) == answer


@pytest.mark.parametrize(
    ("delay", "error", "words"),
    [
        (-1, ValueError, "delay must not be negative or nan, but is -1"),
        (float("nan"), ValueError, "delay must not be negative or nan, but is nan"),
        (float("inf"), ValueError, "delay must be finite, but is inf"),
        (True, TypeError, "delay must be a number of seconds or a timedelta, not True"),
        (None, TypeError, "delay must be a number of seconds or a timedelta, not None"),
        ("soon", ValueError, "delay must be a duration such as '5m'"),
    ],
)
def test_delays_that_are_refused(delay: Any, error: type[Exception], words: str) -> None:
    """A delay that is none is refused where it is given."""
    with pytest.raises(error, match=words):
        IntervalTask.again_in(delay)


# --- parallel up to n ----------------------------------------------------------------------------------------------


def test_parallel_up_to_a_number(clock: VirtualClock) -> None:
    """As many runs as may go on at once do; what is due beyond that is skipped, counted and told."""
    func = Script(clock, takes=100)
    task = IntervalTask(func, 40, overlap="parallel", max_parallel=2, clock=clock)
    told: list[Event] = []
    task.observe(lambda event: told.append(event) if isinstance(event, RunSkipped) else None)
    with task:
        clock.advance(250)
        assert func.began == [40, 80, 160, 200]
        assert task.skipped == 2
        assert task.stats().running == 2
    assert [event.scheduled_at for event in told] == [EPOCH + timedelta(seconds=120), EPOCH + timedelta(seconds=240)]


def test_run_now_where_all_places_are_taken(clock: VirtualClock) -> None:
    """A run that was asked for waits for a place, and is the first to get one."""
    func = Script(clock, takes=100)
    with IntervalTask(func, 40, overlap="parallel", max_parallel=2, clock=clock) as task:
        clock.advance(90)
        task.run_now()
        task.run_now()
        clock.advance(60)
        assert func.began == [40, 80, 140]
        assert task.skipped == 1  # the one that was due at 120


def test_run_now_on_an_executor_where_all_places_are_taken(clock: VirtualClock) -> None:
    """A place that becomes free on an executor goes to the run that waits for it."""
    executor = Manual()
    task = IntervalTask(lambda: None, 40, overlap="parallel", max_parallel=1, executor=executor, clock=clock)
    with task:
        clock.advance(50)
        task.run_now()
        clock.settle()
        assert len(executor.calls) == 1
        executor.run()
        clock.settle()
        assert len(executor.calls) == 1
        executor.run()
        assert task.runs == 2


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"max_parallel": 2}, ValueError, "max_parallel must not be 2 where overlap is 'skip', not 'parallel'"),
        ({"max_parallel": 0, "overlap": "parallel"}, ValueError, "max_parallel must be at least 1, but is 0"),
        ({"max_parallel": 1.5, "overlap": "parallel"}, TypeError, "max_parallel must be a whole number, not 1.5"),
    ],
)
def test_numbers_that_are_refused(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    """A number of places that is none, or that means nothing, is refused where it is given."""
    with pytest.raises(error, match=words):
        IntervalTask(lambda: None, 60, **arguments)
