"""``Registry``: the order of starts and stops, on one deadline."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from helpers import Background, Gate, Parked, start_next

from threadkit import (
    Closed,
    DependencyCycle,
    DuplicateName,
    Phase,
    StartTimeout,
    StopToken,
    SystemClock,
    UnknownComponent,
)
from threadkit._entry import Entry
from threadkit._registry import Registry
from threadkit.testing import VirtualClock


class Part:
    """A user's own component: no base class, just the protocol."""

    def __init__(self, name: str, log: list[str], *, phase: int | None = None) -> None:
        self.name = name
        self.log = log
        self.ended = True
        if phase is not None:
            self.phase = phase

    def start(self) -> None:
        self.log.append(f"start {self.name}")

    def stop(self, reason: str | None = None) -> None:
        self.log.append(f"stop {self.name}")

    def join(self, timeout: float | None = None) -> bool:
        self.log.append(f"join {self.name}")
        return self.ended


class Slow(Part):
    """A component that takes its time to stop, on a clock; ``inf`` is stuck."""

    def __init__(self, name: str, log: list[str], clock: VirtualClock, seconds: float, **options: int) -> None:
        super().__init__(name, log, **options)
        self._done = StopToken(clock=clock)
        self._clock = clock
        self._seconds = seconds
        self._ends = float("inf")

    def stop(self, reason: str | None = None) -> None:
        super().stop(reason)
        self._ends = self._clock.monotonic() + self._seconds

    def join(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        left = self._ends - self._clock.monotonic()
        self._done.wait(min(timeout, left))
        return left <= timeout


def no_failure(entry: Entry, error: BaseException) -> None:
    raise AssertionError((entry.name, error))


def registry(clock: VirtualClock | SystemClock | None = None) -> Registry:
    return Registry(clock or SystemClock(), no_failure)


def add(target: Registry, part: Part, **options: object) -> Entry:
    defaults: dict[str, object] = {"phase": None, "requires": (), "check": None, "must_exist": False}
    return target.add(part, **(defaults | options))


def start_all(target: Registry) -> None:
    while any(not entry.up for entry in target):
        start_next(target, 5.0)


def stop_all(target: Registry) -> list[tuple[str, str]]:
    reports = target.stop(target.stages(), None, SystemClock().monotonic() + 5)
    return [(report.name, report.outcome) for report in reports]


def names(target: Registry) -> list[str]:
    return [entry.name for entry in target]


def stages(target: Registry) -> list[list[str]]:
    return [[entry.name for entry in stage] for stage in target.stages()]


def test_high_phases_start_first_and_stop_last() -> None:
    """Start goes from the highest phase to the lowest, in a phase as registered; stop goes the other way."""
    log: list[str] = []
    parts = registry()
    add(parts, Part("reader", log), phase=Phase.INTAKE)
    add(parts, Part("pool", log), phase=Phase.ENGINES)
    add(parts, Part("jobs", log, phase=Phase.WORK))
    add(parts, Part("metrics", log))
    add(parts, Part("pool-2", log), phase=Phase.ENGINES)
    start_all(parts)
    assert log == ["start metrics", "start pool", "start pool-2", "start jobs", "start reader"]
    assert stages(parts) == [["reader"], ["jobs"], ["pool-2", "pool"], ["metrics"]]
    stop_all(parts)


def test_what_is_required_starts_first_whatever_its_phase() -> None:
    """Requirements reach over phases: what is required starts before, and stops after, what requires it."""
    parts = registry()
    add(parts, Part("late", []), phase=Phase.INTAKE)
    add(parts, Part("early", []), phase=Phase.BACKGROUND, requires=["late"])
    add(parts, Part("other", []), phase=Phase.INTAKE)
    assert names(parts) == ["late", "early", "other"]
    start_all(parts)
    assert stages(parts) == [["other"], ["early"], ["late"]]
    stop_all(parts)


def test_requires_makes_stages_inside_a_phase() -> None:
    """In one phase, what is required is told in a later stage than its dependents; what is not connected goes first."""
    parts = registry()
    add(parts, Part("db", []))
    add(parts, Part("cache", []), requires=["db"])
    add(parts, Part("web", []), requires=["cache", "db"])
    add(parts, Part("lone", []))
    start_all(parts)
    assert stages(parts) == [["lone", "web"], ["cache"], ["db"]]
    stop_all(parts)


def test_requires_may_be_a_component() -> None:
    """A component can be required by itself instead of its name, and before it is registered."""
    parts = registry()
    database = Part("db", [])
    add(parts, Part("web", []), requires=[database])
    with pytest.raises(UnknownComponent, match="no component is called 'db'; known are 'web'"):
        parts.check_requires()
    add(parts, database)
    parts.check_requires()
    assert names(parts) == ["db", "web"]


def test_cycle_is_spelled_out_and_leaves_nothing_behind() -> None:
    """A circle of requirements is refused with its arrows, and the component that closed it is not registered."""
    parts = registry()
    add(parts, Part("a", []), requires=["b"])
    add(parts, Part("b", []), requires=["c"])
    with pytest.raises(DependencyCycle, match="'a' -> 'b' -> 'c' -> 'a'"):
        add(parts, Part("c", []), requires=["a"])
    assert names(parts) == ["b", "a"]
    with pytest.raises(DependencyCycle, match="'self' -> 'self'"):
        add(parts, Part("self", []), requires=["self"])


def test_duplicates_are_refused() -> None:
    """A name, and an object, can be registered once."""
    parts = registry()
    part = Part("one", [])
    add(parts, part)
    with pytest.raises(DuplicateName, match="a component called 'one' exists already"):
        add(parts, Part("one", []))
    part.name = "two"
    with pytest.raises(DuplicateName):
        add(parts, part)
    assert len(parts) == 1


def test_unknown_names_are_refused_where_they_must_exist() -> None:
    """In a running lifecycle what is required has to be there."""
    parts = registry()
    with pytest.raises(UnknownComponent, match="'ghost'"):
        add(parts, Part("web", []), requires=["ghost"], must_exist=True)
    assert len(parts) == 0
    with pytest.raises(UnknownComponent):
        parts.find("web")


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (None, r"component must have a method start\(\), but None has none"),
        (threading.Thread(), r"component must have a method stop\(\)"),
        (type("Nameless", (Part,), {"__init__": lambda self: None})(), "component must have a name of type str"),
    ],
)
def test_what_is_no_component_is_refused(thing: Part, message: str) -> None:
    """What lacks one of the four names is refused, naming it."""
    with pytest.raises(TypeError, match=message):
        add(registry(), thing)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"phase": "work"}, "phase must be a whole number, not 'work'"),
        ({"phase": True}, "phase must be a whole number, not True"),
        ({"check": 1}, "check must be callable, not 1"),
        ({"requires": [3]}, "requires takes names and components, not 3"),
    ],
)
def test_bad_placements_are_refused(options: dict[str, object], message: str) -> None:
    """A bad phase, check or requirement is refused, and nothing is registered."""
    parts = registry()
    with pytest.raises(TypeError, match=message):
        add(parts, Part("one", []), **options)
    assert len(parts) == 0


def test_a_phase_may_be_any_int() -> None:
    """There is room between, before and after the named phases."""
    parts = registry()
    for phase in (-5, 150, 10_000):
        add(parts, Part(f"at {phase}", []), phase=phase)
    assert names(parts) == ["at 10000", "at 150", "at -5"]


def test_all_of_a_stage_are_told_before_one_is_joined() -> None:
    """Stops do not add up: a stage is told as a whole, and joined then."""
    log: list[str] = []
    parts = registry()
    for name in "ab":
        add(parts, Part(name, log))
    add(parts, Part("c", log), phase=10)
    start_all(parts)
    log.clear()
    reports = list(parts.stop(parts.stages(), "bye", SystemClock().monotonic() + 5))
    assert log == ["stop c", "join c", "stop b", "stop a", "join b", "join a"]
    assert [(report.name, report.outcome) for report in reports] == [(n, "stopped") for n in "cba"]


def test_a_hundred_slow_stops_take_as_long_as_one() -> None:
    """A hundred components that take 0.2 s each to stop are stopped in 0.2 s."""
    clock = VirtualClock()
    parts = registry(clock)
    for number in range(100):
        add(parts, Slow(f"slow {number}", [], clock, 0.2))
    for entry in parts:
        entry.up = True
    stopping = Background(lambda: list(parts.stop(parts.stages(), None, 10.0)))
    clock.wait_for_sleepers(1)
    clock.advance(0.2)
    assert {report.outcome for report in stopping.result()} == {"stopped"}


def test_a_stuck_stage_leaves_a_tenth_for_each_later_one() -> None:
    """A stuck component is given up so early that each later stage still has a tenth of the whole."""
    clock = VirtualClock()
    log: list[str] = []
    parts = registry(clock)
    add(parts, Slow("stuck", log, clock, float("inf"), phase=1))
    add(parts, Slow("second", log, clock, 0.9, phase=2))
    add(parts, Slow("third", log, clock, 0.9, phase=3))
    for entry in parts:
        entry.up = True
    stopping = Background(lambda: list(parts.stop(parts.stages(), None, 10.0)))
    for _ in range(3):
        clock.wait_for_sleepers(1)
        clock.advance(8.0 if "stop second" not in log else 0.9)
    reports = stopping.result()
    assert [(report.name, report.outcome, report.seconds) for report in reports] == [
        ("stuck", "stuck", 8.0),
        ("second", "stopped", pytest.approx(0.9)),
        ("third", "stopped", pytest.approx(0.9)),
    ]


def test_own_stop_timeout_gives_up_earlier() -> None:
    """A component with a stop_timeout of its own is not waited for any longer."""
    clock = VirtualClock()
    parts = registry(clock)
    part = Slow("brief", [], clock, float("inf"))
    part.stop_timeout = 2.0
    add(parts, part).up = True
    stopping = Background(lambda: list(parts.stop(parts.stages(), None, 10.0)))
    clock.wait_for_sleepers(1)
    clock.advance(2.0)
    assert [report.outcome for report in stopping.result()] == ["stuck"]


def broken(text: str) -> Callable[..., bool]:
    def method(*args: object) -> bool:
        raise OSError(text)

    return method


@pytest.mark.parametrize("method", ["stop", "join", "close"])
def test_what_raises_while_it_stops_has_failed_and_harms_nobody(method: str, caplog: pytest.LogCaptureFixture) -> None:
    """A stop(), join() or close() that raises is reported and logged, and the others are stopped all the same."""
    log: list[str] = []
    parts = registry()
    bad = Part("bad", log)
    setattr(bad, method, broken(method))
    add(parts, bad)
    add(parts, Part("good", log))
    start_all(parts)
    reports = {report.name: report for report in parts.stop(parts.stages(), None, SystemClock().monotonic() + 5)}
    assert reports["good"].outcome == "stopped"
    assert (reports["bad"].outcome, str(reports["bad"].error)) == ("failed", method)
    assert f"the {method}() of component 'bad' failed" in caplog.text


def test_close_is_called_once_also_for_the_stuck() -> None:
    """close() is called after a join that succeeded, and after one that did not."""
    parts = registry()
    for name in ("ended", "stuck"):
        part = Part(name, log := [])
        part.ended = name == "ended"
        part.close = lambda log=log: log.append("close")
        add(parts, part)
    start_all(parts)
    outcomes = [report.outcome for report in parts.stop(parts.stages(), None, SystemClock().monotonic() + 0.01)]
    assert sorted(outcomes) == ["stopped", "stuck"]
    assert [entry.component.log.count("close") for entry in parts] == [1, 1]


def test_work_left_is_reported() -> None:
    """What a component says of its unfinished work goes into the report."""
    parts = registry()
    part = Part("jobs", [])
    part.work_left = lambda: 7
    add(parts, part)
    start_all(parts)
    (report,) = parts.stop(parts.stages(), None, SystemClock().monotonic() + 5)
    assert (report.work_left, str(report)) == (7, f"jobs: stopped after {report.seconds:.2f} s, 7 left undone")


def test_stuck_threads_are_shown_where_they_are() -> None:
    """The report of a stuck component shows the stack of each of its threads."""
    gate = Gate()

    def stuck_in_here() -> None:
        gate.pass_through()

    thread = threading.Thread(target=stuck_in_here, name="stuck-thread", daemon=True)
    thread.start()
    parts = registry()
    part = Part("stuck", [])
    part.ended = False
    part.threads = lambda: [thread]
    add(parts, part)
    start_all(parts)
    (report,) = parts.stop(parts.stages(), None, SystemClock().monotonic())
    gate.open()
    thread.join(5)
    assert "in stuck_in_here" in report.stacks["stuck-thread"]


def test_foreign_start_that_hangs_is_given_up() -> None:
    """The start() of a user's class is waited for until the time-out; it is told to stop all the same."""
    clock = VirtualClock()
    gate = Gate()
    log: list[str] = []
    part = Part("slow", log)
    part.start = gate.pass_through
    parts = registry(clock)
    add(parts, part)
    starting = Background(lambda: start_next(parts, 3.0))
    clock.wait_for_sleepers(1)
    with clock._changed:  # not advance(): the thread that runs start() is stuck, which is what is tested
        clock._move_to(3.0)
        clock._parked[starting.thread].timed_out = True
        clock._parked[starting.thread].gate.release()
    with pytest.raises(StartTimeout, match="'slow' was not ready within 3 s"):
        starting.result()
    assert stages(parts) == [["slow"]]
    gate.open()
    clock.settle()
    assert [report.outcome for report in parts.stop(parts.stages(), None, 10.0)] == ["stopped"]


def test_foreign_start_that_raises_raises() -> None:
    """What the start() of a user's class raises comes out, whatever it is."""
    part = Part("bad", [])
    part.start = broken("no such port")
    parts = registry()
    add(parts, part)
    with pytest.raises(OSError, match="no such port"):
        start_next(parts, 5.0)
    assert stop_all(parts) == [("bad", "stopped")]


def test_starting_twice_is_one_start() -> None:
    """What is up is not started again."""
    log: list[str] = []
    parts = registry()
    add(parts, Part("one", log))
    start_next(parts, 5.0)
    assert parts.next_to_start() is None
    assert log == ["start one"]
    stop_all(parts)


def test_failed_is_handed_to_components_that_have_room_for_it() -> None:
    """A component can tell the registry that it died; one without a place for the callback is left alone."""
    failures: list[tuple[str, str]] = []
    parts = Registry(SystemClock(), lambda entry, error: failures.append((entry.name, str(error))))

    class Narrow:
        __slots__ = ("name",)
        start = stop = join = broken("never called")

    narrow = Narrow()
    narrow.name = "narrow"
    add(parts, narrow)
    part = Part("wide", [])
    entry = add(parts, part, phase=500)
    part.failed(OSError("gone"))
    assert failures == [("wide", "gone")]
    assert str(entry.failure) == "gone"
    start_next(parts, 5)
    (report,) = parts.stop(parts.stages(), None, SystemClock().monotonic() + 5)
    assert report.outcome == "failed"


def test_a_stop_is_told_once() -> None:
    """A component that was told already, as by a forced shutdown, is not told again."""
    log: list[str] = []
    parts = registry()
    add(parts, Part("one", log))
    start_all(parts)
    deadline = SystemClock().monotonic() + 5
    list(parts.stop(parts.stages(), None, deadline))
    assert [report.name for report in parts.give_up(set())] == ["one"]
    assert parts.give_up({"one"}) == []
    assert log.count("stop one") == 1


def test_forgetting_and_free_names() -> None:
    """A forgotten name is free again, a taken one gets a number, and what is required cannot be removed."""
    parts = registry()
    entry = add(parts, Part("a", []))
    add(parts, Part("b", []), requires=["a"])
    with pytest.raises(ValueError, match="component 'a' is required by 'b': remove them first"):
        parts.begin_removal(entry)
    assert parts.free_name("a") == "a-2"
    assert parts.discard(entry)
    assert not parts.discard(entry)
    assert parts.free_name("a") == "a"


def test_a_name_that_was_taken_over_is_left_to_its_new_owner() -> None:
    """Forgetting an entry twice does not forget another one that has its name by now."""
    parts = registry()
    first = add(parts, Part("a", []))
    assert parts.discard(first)
    second = add(parts, Part("a", []))
    assert not parts.discard(first)
    assert parts.find("a") is second


def test_what_leaves_is_not_started_and_cannot_be_required() -> None:
    """From the moment at which its removal begins a component is not started, and what requires it is refused."""
    parts = registry()
    leaving = add(parts, Part("leaving", []))
    add(parts, Part("other", log := []))
    parts.begin_removal(leaving)
    with pytest.raises(ValueError, match="component 'late' cannot require 'leaving', which is being removed"):
        add(parts, Part("late", []), requires=["leaving"])
    start_next(parts)
    assert parts.next_to_start() is None
    assert (log, leaving.up) == (["start other"], False)
    stop_all(parts)


class Scene:
    """A registry where a component comes up that requires another one, which is coming up, too."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.log: list[str] = []
        self.stop = StopToken(clock=self.clock)
        self.parts = registry(self.clock)
        self.database = add(self.parts, Part("db", self.log), must_exist=True, starts=True)
        self.user = add(self.parts, Part("user", self.log), requires=["db"], must_exist=True, starts=True)
        self.starting = Parked(self.clock, lambda: self.parts.bring_up(self.user, 3.0, self.stop))
        assert self.starting.waits


def test_a_late_component_waits_for_what_it_requires() -> None:
    """Where two threads add components, and one requires the other, it starts when that is up."""
    scene = Scene()
    scene.parts.bring_up(scene.database, 3.0, scene.stop)
    scene.starting.result()
    assert scene.log == ["start db", "start user"]
    assert [part.name for part in scene.parts.stop(scene.parts.stages(), None, 10.0)] == ["user", "db"]


def test_a_late_component_does_not_start_without_what_it_requires() -> None:
    """Where what is required could not start, and is forgotten, what requires it does not start either."""
    scene = Scene()
    scene.parts.discard(scene.database)
    with pytest.raises(UnknownComponent, match="'db'"):
        scene.starting.result()
    assert (scene.log, stages(scene.parts)) == ([], [])
    add(registry(), scene.user.component, must_exist=True, starts=True)  # nobody else answers for it


def test_a_stop_ends_the_wait_for_what_is_required() -> None:
    """A component that waits for what it requires when a stop comes is not started."""
    scene = Scene()
    scene.stop.set("enough")
    with pytest.raises(Closed, match="component 'user' is closed"):
        scene.starting.result()
    assert (scene.log, stages(scene.parts)) == ([], [["db"]])


def test_the_wait_for_what_is_required_has_an_end() -> None:
    """A component whose requirement is not up in time is not up in time either."""
    scene = Scene()
    scene.clock.advance(3)
    with pytest.raises(StartTimeout, match="'user' was not ready within 3 s"):
        scene.starting.result()
    assert scene.log == []
