"""An interval task and its scheduler among several threads, in every order that chance finds."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from threadkit import IntervalTask, StopToken, SystemClock
from threadkit._due import Due, Rhythm, Tick
from threadkit._recurrence import Recurrence
from threadkit._run import ActiveRun, Overlap, Run, Settings
from threadkit._scheduler import Scheduler, Tempo

pytestmark = pytest.mark.races

Explore = Callable[..., None]


class Standing(SystemClock):
    """A clock that stands where it was put."""

    moment = 0.0

    def monotonic(self) -> float:
        return self.moment

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.moment, UTC)


class Table:
    """A scheduler that writes down what it is asked for, and does it when it is told to."""

    def __init__(self, clock: Standing) -> None:
        self.clock = clock
        self.entries: list[tuple[float, Callable[[], object]]] = []
        self.calls: list[Callable[[], object]] = []

    def schedule(self, due: float, call: Callable[[], object], tempo: object) -> tuple[float, Callable[[], object]]:
        self.entries.append((due, call))
        return self.entries[-1]

    def cancel(self, entry: tuple[float, Callable[[], object]]) -> None:
        self.take(entry)

    def run(self, call: Callable[[], object]) -> None:
        self.calls.append(call)

    def take(self, entry: tuple[float, Callable[[], object]]) -> bool:
        try:
            self.entries.remove(entry)
        except ValueError:  # somebody else was quicker
            return False
        return True

    def work(self) -> None:
        """Do what is due, until nothing is. One thread at a time calls this."""
        while self.calls or any(due <= self.clock.moment for due, _ in self.entries):
            self.calls += [entry[1] for entry in [*self.entries] if entry[0] <= self.clock.moment and self.take(entry)]
            for call in [self.calls.pop(0) for _ in [*self.calls]]:
                call()


class Scene:
    """A recurrence that is due every ten seconds, at the time of its first run."""

    def __init__(self, overlap: Overlap = "skip", max_runs: int | None = None, max_parallel: float = math.inf) -> None:
        self.clock = Standing()
        self.table = Table(self.clock)
        self.began: list[float] = []
        self.finished: list[BaseException | None] = []
        self.most = 0  # how many runs went on at once
        self.first: Callable[[], object] = bool
        self.answers: list[object] = []  # what the runs return, in order; then None
        self.events: list[object] = []
        rhythm = Rhythm(10.0, 0.0, float, after_the_end=False)
        settings = Settings(
            "task", self.func, overlap == "cancel", rhythm, overlap, max_parallel, "run", max_runs, None, None, float
        )
        self.token = StopToken(clock=self.clock)
        self.recurrence = Recurrence(
            settings, self.clock, self.token, self.events.append, self.finished.append, paused=False
        )
        begin = self.recurrence._begin

        def begin_and_count(due: Due) -> ActiveRun:  # under the recurrence's lock
            run = begin(due)
            self.most = max(self.most, len(self.recurrence._active))
            return run

        self.recurrence._begin = begin_and_count  # type: ignore[method-assign]
        self.recurrence.start(self.table, run_immediately=False)  # type: ignore[arg-type]  # a duck
        self.clock.moment = 10.0

    def func(self, *_: Run) -> object:
        self.began.append(self.clock.moment)
        return self.answers.pop(0) if self.answers else None

    def look(self) -> None:
        self.recurrence._look()

    def stop(self) -> None:
        self.token.set()
        self.recurrence.wind_down()

    def is_armed_well(self) -> bool:
        """Tell whether the scheduler is going to look once, at the right time; vain looks do no harm."""
        due = self.recurrence.due
        return due is not None and sum(moment == due.wake_at(self.clock) for moment, _ in self.table.entries) == 1


def test_two_looks_at_one_due_time(explore: Explore) -> None:
    """However many threads look, one due time is one run."""
    explore(
        Scene,
        Scene.look,
        Scene.look,
        invariant=lambda scene: scene.began == [10] and scene.recurrence.figures.runs == 1 and scene.is_armed_well(),
    )


def test_interval_change_against_firing(explore: Explore) -> None:
    """A new interval that meets a run that is due neither loses the run nor the interval."""

    def change(scene: Scene) -> None:
        scene.recurrence.set_interval(15.0)

    def invariant(scene: Scene) -> bool:
        due = scene.recurrence.due
        # Whoever was first: the run was due at 10 and has begun, or the change has put it off to 15.
        right = (scene.began, due.at) in [([10], 25.0), ([], 15.0)] if isinstance(due, Tick) else False
        return right and scene.is_armed_well()

    explore(Scene, Scene.look, change, invariant=invariant)


def test_pause_and_resume_against_firing(explore: Explore) -> None:
    """A pause that meets a run that is due lets it begin or leaves it out, and the task goes on after it."""

    def pause(scene: Scene) -> None:
        scene.recurrence.pause()
        scene.recurrence.resume()

    explore(
        Scene,
        Scene.look,
        pause,
        invariant=lambda scene: len(scene.began) <= 1 and scene.is_armed_well() and scene.recurrence.due.at == 20,
    )


def test_stop_against_firing(explore: Explore) -> None:
    """A stop that meets a run that is due has the task end once, after the run if there is one."""

    def invariant(scene: Scene) -> bool:
        return (
            scene.finished == [None]
            and len(scene.began) == scene.recurrence.figures.runs <= 1
            and not scene.table.entries
            and not scene.recurrence.run_now()
        )

    explore(Scene, Scene.look, Scene.stop, invariant=invariant)


def test_the_last_run_against_stop(explore: Explore) -> None:
    """A task that ends by itself while it is stopped tells its end once."""
    explore(
        lambda: Scene(max_runs=1),
        Scene.look,
        Scene.stop,
        invariant=lambda scene: scene.finished == [None] and not scene.table.entries,
    )


def test_run_now_against_a_run(explore: Explore) -> None:
    """A run that was asked for while another one begins or ends is made; at most, it has that one skipped."""

    def ask(scene: Scene) -> None:
        assert scene.recurrence.run_now()
        scene.table.work()

    def invariant(scene: Scene) -> bool:
        scene.table.work()
        return len(scene.began) + scene.recurrence.figures.skipped == 2 and scene.recurrence.work_left() == 0

    explore(Scene, Scene.look, ask, invariant=invariant)


def test_run_now_against_stop(explore: Explore) -> None:
    """A run that is asked for while the task stops is refused, dropped or made, and the task ends once."""

    def ask(scene: Scene) -> None:
        scene.recurrence.run_now()
        scene.table.work()

    def invariant(scene: Scene) -> bool:
        scene.table.work()
        return scene.finished == [None] and scene.recurrence.work_left() == 0

    explore(Scene, ask, Scene.stop, invariant=invariant)


def test_a_queued_run_against_the_end_of_the_present(explore: Explore) -> None:
    """A run that is due while another one ends begins at once, or is queued and begins after it."""

    def second(scene: Scene) -> None:
        scene.recurrence.run_now()
        scene.table.work()

    def invariant(scene: Scene) -> bool:
        scene.table.work()
        return len(scene.began) == 2 and scene.recurrence.figures.skipped == 0 and scene.recurrence.work_left() == 0

    explore(lambda: Scene("queue"), Scene.look, second, invariant=invariant)


@pytest.mark.parametrize(
    ("overlap", "most"), [("skip", 1), ("queue", 1), ("cancel", 1), ("parallel", 1), ("parallel", 2)]
)
def test_overlap_policies_against_the_end_of_a_run(explore: Explore, overlap: Overlap, most: int) -> None:
    """What is due while a run goes on or ends is run, held or skipped, and never more runs go on than may."""

    def setup() -> Scene:
        scene = Scene(overlap, max_parallel=most)
        admitted: list[Any] = []
        perform, scene.recurrence._perform = scene.recurrence._perform, admitted.append  # type: ignore[method-assign]
        scene.look()
        scene.first = lambda: perform(*admitted)
        del scene.recurrence._perform
        scene.clock.moment = 20.0
        return scene

    def invariant(scene: Scene) -> bool:
        scene.table.work()
        figures = scene.recurrence.figures
        return (
            len(scene.began) == figures.runs
            and figures.runs + figures.skipped == 2
            and scene.most <= most
            and scene.recurrence.work_left() == 0
            and scene.recurrence.due.at == 30
            and scene.is_armed_well()
        )

    explore(setup, lambda scene: scene.first(), Scene.look, invariant=invariant)


def test_what_a_run_asks_for_against_a_new_interval(explore: Explore) -> None:
    """A run that asks for a time while the interval is set has one of the two, and the scheduler knows of it."""

    def setup() -> Scene:
        scene = Scene()
        scene.answers.append(IntervalTask.again_in(100))
        return scene

    def change(scene: Scene) -> None:
        scene.recurrence.set_interval(15.0)

    def invariant(scene: Scene) -> bool:
        # The run was put off to 15 by the change; or had begun, and then who spoke last was heard.
        return scene.recurrence.due.at in {15.0, 25.0, 110.0} and scene.is_armed_well()

    explore(setup, Scene.look, change, invariant=invariant)


def test_what_a_run_asks_for_against_stop(explore: Explore) -> None:
    """A run that asks for another while its task is stopped gets none, and the task ends once."""

    def setup() -> Scene:
        scene = Scene()
        scene.answers.append(IntervalTask.again_in(0))
        return scene

    def invariant(scene: Scene) -> bool:
        return scene.finished == [None] and scene.recurrence.due is None and not scene.table.entries

    explore(setup, Scene.look, Scene.stop, invariant=invariant)


class Line:
    """A scheduler whose pool is a list of calls to be made."""

    def __init__(self) -> None:
        self.scheduler = Scheduler(Standing())
        self.done: list[str] = []
        self.summoned: list[Callable[[], object]] = []
        self.scheduler._pool = self  # type: ignore[assignment]  # a duck

    def put(self, call: Callable[[], object]) -> None:
        self.summoned.append(call)

    def come(self) -> None:
        while self.summoned:
            try:
                call = self.summoned.pop()
            except IndexError:
                return
            call()

    def release(self) -> None:
        self.done.append("woken")

    def add(self, name: str) -> Callable[[], Any]:
        return lambda: self.done.append(name)


def test_nothing_is_left_lying_in_the_line(explore: Explore) -> None:
    """Whoever adds to the line while a thread is leaving it has somebody come."""

    def setup() -> Line:
        line = Line()
        line.scheduler.run(line.add("a"))
        return line

    def add(line: Line) -> None:
        line.scheduler.run(line.add("b"))

    def invariant(line: Line) -> bool:
        line.come()
        return sorted(line.done) == ["a", "b"] and not line.scheduler._line

    explore(setup, add, Line.come, invariant=invariant)


def test_one_server_attends(explore: Explore) -> None:
    """Of two servers that find the line empty one attends to what is due; all of it is done, and nobody stays."""

    def setup() -> Line:
        line = Line()
        line.scheduler._is_watched = True
        line.scheduler.run(line.add("a"))
        line.summoned *= 2
        for name in "bcd":
            line.scheduler.schedule(0.0, line.add(name), Tempo())
        return line

    def come(line: Line) -> None:
        with contextlib.suppress(RuntimeError):  # both were summoned at once here, and the flag is given back twice
            line.summoned.pop()()

    def invariant(line: Line) -> bool:
        line.come()
        return sorted(line.done) == ["a", "b", "c", "d"] and line.scheduler._attendant is None

    explore(setup, come, come, invariant=invariant)


def test_the_watch_against_an_attendant_that_gets_stuck(explore: Explore) -> None:
    """However the watch meets an attendant that takes a batch and never comes back, it has others come to the rest."""

    def setup() -> Line:
        line = Line()
        line.scheduler._is_watched = True
        for name in ("stuck", "beside it"):
            line.scheduler.schedule(0.0, line.add(name), Tempo())
        return line

    def attend(line: Line) -> None:
        if line.scheduler._attend():
            line.scheduler._line.popleft()  # and never returns from it

    def watch(line: Line) -> None:
        if line.scheduler._sleep():
            line.done.append("stepped in")

    explore(
        setup,
        attend,
        watch,
        invariant=lambda line: line.done == ["stepped in"] and line.scheduler._attendant is None,
    )


def test_who_leaves_against_who_adds(explore: Explore) -> None:
    """Whoever leaves the rest to the watch, or adds to it, has it wake up in time."""

    def setup() -> Line:
        line = Line()
        scheduler = line.scheduler
        scheduler._is_watched = True
        scheduler._agenda.add(10.0, bool)
        scheduler._alarm = 10.01
        scheduler._condition._gates.append(line)  # type: ignore[arg-type]  # where the watch sleeps; a duck of a gate
        return line

    def leave(line: Line) -> None:
        line.scheduler._attendant = threading.current_thread()
        line.scheduler._leave()

    def add(line: Line) -> None:
        line.scheduler.schedule(5.0, bool)

    explore(setup, leave, add, invariant=lambda line: line.done == ["woken"] and line.scheduler._attendant is None)
