"""The limits inside the one deadline of a stop: each phase's, and each component's."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from helpers import Parked

from threadkit import Lifecycle, ManagedThread, Phase, ShutdownReport, StopToken, WorkQueue
from threadkit.testing import VirtualClock


class Deaf:
    """A component that ends when it is let go, and never by itself."""

    def __init__(self, name: str, clock: VirtualClock) -> None:
        self.name = name
        self._end = StopToken(clock=clock)
        self.let_go = self._end.set

    def start(self) -> None:
        """Begin."""

    def stop(self, reason: str | None = None) -> None:
        """Hear nothing."""

    def join(self, timeout: float | None = None) -> bool:
        return self._end.wait(timeout)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def stop(lc: Lifecycle, clock: VirtualClock) -> ShutdownReport:
    """Shut down on the clock, which stops at each moment where something is due."""
    stopping = Parked(clock, lc.shutdown)
    clock.advance(20)
    return stopping.result()


def outcomes(report: ShutdownReport) -> list[tuple[str, float, str | None]]:
    return [(part.name, part.seconds, part.limit) for part in report.components]


def test_a_phase_is_given_up_after_its_own_limit(clock: VirtualClock) -> None:
    """A stuck phase costs its own limit, and the report says that it was that."""
    lc = Lifecycle(stop_timeout=10, phase_timeouts={Phase.WORK: 2}, clock=clock)
    lc.add(Deaf("work", clock), phase=Phase.WORK)
    lc.add(Deaf("engine", clock), phase=Phase.ENGINES)
    lc.start()
    report = stop(lc, clock)
    assert outcomes(report) == [("work", 2.0, "phase_timeouts"), ("engine", 8.0, "deadline")]
    assert str(report).splitlines()[1:] == [
        "  work: stuck after 2.00 s (phase_timeouts)",
        "  engine: stuck after 8.00 s",
    ]
    assert report.as_dict()["components"][0]["limit"] == "phase_timeouts"


def test_a_component_is_given_up_after_its_own_limit(clock: VirtualClock) -> None:
    """Of those that are told together each is waited for as long as itself says, in whatever order they were added."""
    lc = Lifecycle(stop_timeout=10, phase_timeouts={Phase.WORK: 4}, clock=clock)
    lc.add(Deaf("brief", clock), phase=Phase.WORK, stop_timeout=timedelta(seconds=1))
    lc.add(Deaf("usual", clock), phase=Phase.WORK)
    lc.add(Deaf("patient", clock), phase=Phase.WORK, stop_timeout=60)
    lc.add(Deaf("middle", clock), phase=Phase.WORK, stop_timeout=2)
    lc.start()
    assert outcomes(stop(lc, clock)) == [
        ("brief", 1.0, "stop_timeout"),
        ("middle", 2.0, "stop_timeout"),
        ("patient", 4.0, "phase_timeouts"),
        ("usual", 4.0, "phase_timeouts"),
    ]


def test_limits_never_lengthen(clock: VirtualClock) -> None:
    """A limit that is longer than the deadline allows changes nothing."""
    lc = Lifecycle(stop_timeout=3, phase_timeouts={Phase.WORK: 60, 7: math.inf}, clock=clock)
    lc.add(Deaf("work", clock), phase=Phase.WORK, stop_timeout=math.inf)
    lc.start()
    assert outcomes(stop(lc, clock)) == [("work", 3.0, "deadline")]


def test_who_ends_in_time_is_not_touched(clock: VirtualClock) -> None:
    """A component that ends within its limit is stopped well, and no limit is named."""
    with Lifecycle(phase_timeouts={Phase.INTAKE: 1}, clock=clock) as lc:
        lc.thread("body", stop_timeout=1)(lambda running: running.wait())
    assert [(part.outcome, part.limit) for part in lc.report.components] == [("stopped", None)]
    assert lc.report.ok


def test_what_a_later_phase_requires_is_under_the_limit_of_that_one(clock: VirtualClock) -> None:
    """What stops with a later phase, since that requires it, has that phase's time and not its own phase's."""
    lc = Lifecycle(stop_timeout=10, phase_timeouts={Phase.INTAKE: 1, Phase.WORK: 4}, clock=clock)
    lc.add(Deaf("source", clock), phase=Phase.INTAKE)
    work = lc.add(Deaf("work", clock), phase=Phase.WORK, requires=["source"])
    lc.start()
    work.let_go()
    assert outcomes(stop(lc, clock)) == [("work", 0.0, None), ("source", 4.0, "phase_timeouts")]


def test_the_tokens_know_their_own_limit(clock: VirtualClock) -> None:
    """What a body sees as its remaining time ends with its own limit, its phase's, or what later phases leave it."""
    seen: dict[str, float | None] = {}

    def body(name: str) -> Callable[[StopToken], None]:
        def run(running: StopToken) -> None:
            running.wait()
            seen[name] = running.remaining()

        return run

    lc = Lifecycle(stop_timeout=10, phase_timeouts={Phase.WORK: 4}, clock=clock)
    lc.thread("plain")(body("plain"))
    lc.thread("brief", stop_timeout=2)(body("brief"))
    lc.thread("work", phase=Phase.WORK)(body("work"))
    lc.add(ManagedThread(body("own"), name="own", stop_timeout=3), stop_timeout=5)
    lc.add(ManagedThread(body("added"), name="added", stop_timeout=5), stop_timeout=3)
    with lc:
        pass
    assert seen == {"plain": 9.0, "brief": 2.0, "work": 4.0, "own": 3.0, "added": 3.0}


def test_a_component_with_a_clock_of_its_own_counts_down_by_the_lifecycles(clock: VirtualClock) -> None:
    """The deadline is of the lifecycle's clock, and so is what remains, whatever the component goes by."""
    own = VirtualClock()
    own.advance(5000)
    seen: list[float | None] = []

    def body(running: StopToken) -> None:
        running.wait()
        seen.append(running.remaining())

    with Lifecycle(stop_timeout=10, clock=clock) as lc:
        lc.thread("body", clock=own)(body)
    assert seen == [10.0]


def test_removing_keeps_to_the_limits(clock: VirtualClock) -> None:
    """A component that is removed is waited for no longer than its own limit or its phase's."""
    lc = Lifecycle(phase_timeouts={Phase.WORK: 3}, clock=clock)
    first = lc.add(Deaf("first", clock), stop_timeout=1)
    second = lc.add(Deaf("second", clock), phase=Phase.WORK)
    lc.start()
    for name, seconds in (("first", 1), ("second", 3)):
        removing = Parked(clock, lambda name=name: lc.remove(name))
        clock.advance(seconds)
        assert removing.result() is False
    first.let_go()
    second.let_go()
    assert lc.shutdown().ok


def test_every_maker_takes_a_limit(clock: VirtualClock) -> None:
    """Each decorator and maker takes stop_timeout; a thread has it for its own."""
    lc = Lifecycle(clock=clock)
    lc.thread("thread", stop_timeout=1)(lambda running: running.wait())
    lc.every(60, name="task", stop_timeout=2)(int)
    assert isinstance(lc.queue(stop_timeout=3), WorkQueue)
    lc.executor(stop_timeout=4)
    lc.bus(stop_timeout=5)
    lc.loop(stop_timeout=6)
    limits = {entry.name: entry.stop_timeout for entry in lc._registry}
    assert limits == {"thread": None, "task": 2.0, "jobs": 3.0, "executor": 4.0, "bus": 5.0, "loop": 6.0}
    assert lc.get("thread", ManagedThread).stop_timeout == 1.0


@pytest.mark.parametrize("value", [-1, math.nan, True, "5"])
@pytest.mark.parametrize("option", ["stop_timeout", "check_timeout", "check_every"])
def test_bad_limits_of_a_component_are_refused(option: str, value: Any, clock: VirtualClock) -> None:
    """A bad limit is refused by an error that names it, and the component is not added."""
    lc = Lifecycle(clock=clock)
    with pytest.raises((TypeError, ValueError), match=f"^{option} must"):
        lc.add(Deaf("part", clock), **{option: value})
    assert len(lc) == 0


@pytest.mark.parametrize(
    "options",
    [
        {"phase_timeouts": {Phase.WORK: -1}},
        {"check_timeout": 0},
        {"check_timeout": math.inf},
        {"check_timeout": None},
        {"check_every": -1},
        {"check_every": math.inf},
    ],
)
def test_bad_limits_of_a_lifecycle_are_refused(options: dict[str, Any]) -> None:
    """A bad limit of the whole is refused by an error that names it."""
    with pytest.raises((TypeError, ValueError), match=next(iter(options))):
        Lifecycle(**options)
