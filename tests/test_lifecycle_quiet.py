"""``Lifecycle.quiet()``: the intake stops, the rest goes on."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from helpers import Background, Gate, Parked

from threadkit import ComponentState, IntervalTask, Lifecycle, ManagedThread, Phase, StopToken, WouldBlock
from threadkit.health import Status
from threadkit.testing import VirtualClock


class Part:
    """A user's own component."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log
        self.ended = True

    def start(self) -> None:
        self.log.append(f"start {self.name}")

    def stop(self, reason: str | None = None) -> None:
        self.log.append(f"stop {self.name}: {reason}")

    def join(self, timeout: float | None = None) -> bool:
        return self.ended

    def close(self) -> None:
        self.log.append(f"close {self.name}")


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def wait_for_stop(running: StopToken) -> None:
    running.wait()


def states(lc: Lifecycle) -> dict[str, str]:
    return {component.name: component.state.value for component in lc}  # type: ignore[attr-defined]  # all are ours


def test_the_intake_stops_and_the_rest_goes_on(log: list[str]) -> None:
    """Threads and tasks end, a queue goes on and takes jobs, and a later stop goes on from there."""
    lc = Lifecycle("app")
    lc.observe(lambda event: log.append(str(event)) if event.component == "app" else None)
    jobs = lc.queue(workers=1)
    jobs.handler("double")(lambda payload: 2 * payload)
    lc.thread("reader")(wait_for_stop)
    lc.every(60, name="tick")(int)
    lc.callback(log.append, "closed")
    with lc:
        assert lc.quiet() is True
        assert states(lc) == {"jobs": "running", "reader": "stopped", "tick": "stopped"}
        assert lc.state is ComponentState.RUNNING
        assert not lc.token.is_set()
        assert jobs.submit("double", 21).result(timeout=5) == 42
    assert log == [
        "'app' started",
        "'app' is asked to stop its intake",
        "'app' is asked to stop (leaving the with block)",
        "closed",
        f"'app' is down after {lc.report.seconds:.3g} s (all well: True)",
    ]
    assert sorted(part.name for part in lc.report.components) == ["jobs", "reader", "tick"]


def test_health_says_that_nothing_more_should_come() -> None:
    """A quiet lifecycle is alive and not ready, unless something of it has failed."""
    with Lifecycle() as lc:
        failing = lc.add(Part("part", []), phase=Phase.WORK)
        lc.quiet()
        health = lc.health()
        assert (str(health), health.is_ready, health.is_live) == ("stopping: quiet", False, True)
        assert health.parts["part"].status is Status.READY
        failing.health = lambda: Status.FAILED
        assert lc.health().status is Status.FAILED


def test_it_keeps_the_order(log: list[str]) -> None:
    """Lower phases come first, and what is required by another intake ends after that."""
    with Lifecycle() as lc:
        lc.add(Part("source", log), phase=Phase.INTAKE)
        lc.add(Part("reader", log), phase=Phase.INTAKE, requires=["source"])
        lc.add(Part("first", log), phase=7)
        lc.add(Part("work", log), phase=Phase.INTAKE + 1)
        log.clear()
        assert lc.quiet()
        assert [line for line in log if line.startswith("stop")] == [
            "stop first: quiet",
            "stop reader: quiet",
            "stop source: quiet",
        ]
    assert [line for line in log if line.startswith("stop")][3:] == ["stop work: leaving the with block"]


def test_what_a_later_phase_requires_goes_on(log: list[str]) -> None:
    """An intake that something of a later phase requires stays up until that has ended."""
    with Lifecycle() as lc:
        lc.add(Part("feed", log), phase=Phase.INTAKE)
        lc.add(Part("parser", log), phase=Phase.WORK, requires=["feed"])
        lc.add(Part("lone", log), phase=Phase.INTAKE)
        log.clear()
        assert lc.quiet()
        assert log == ["stop lone: quiet", "close lone"]
    assert log[2:] == [
        "stop parser: leaving the with block",
        "close parser",
        "stop feed: leaving the with block",
        "close feed",
    ]


def test_twice_is_once_and_what_came_since(log: list[str]) -> None:
    """A second call tells nobody twice; what was added since the first runs until then, and is stopped by it."""
    with Lifecycle() as lc:
        lc.add(Part("old", log), phase=Phase.INTAKE)
        assert lc.quiet()
        assert lc.quiet()
        lc.add(Part("new", log), phase=Phase.INTAKE)
        assert log == ["start old", "stop old: quiet", "close old", "start new"]
        assert lc.quiet()
        assert log[4:] == ["stop new: quiet", "close new"]
        assert lc.remove("old")
        assert len(lc) == 1


def test_before_the_start_and_after_the_end_there_is_nothing_to_stop(log: list[str]) -> None:
    """Before its start, after which it runs as if nothing had been, and after its end a lifecycle has no intake."""
    lc = Lifecycle()
    lc.add(Part("intake", log), phase=Phase.INTAKE)
    assert lc.quiet() is True
    with lc:
        assert log == ["start intake"]
        assert lc.health().is_ready
    assert lc.quiet() is True
    assert log == ["start intake", "stop intake: leaving the with block", "close intake"]


def test_while_it_starts_it_is_waited_for(log: list[str]) -> None:
    """A quiet() that comes while components start waits until they are up, but not for longer than it may."""
    inside, door = Gate(), Gate()
    lc = Lifecycle()
    part = lc.add(Part("slow", log), phase=Phase.INTAKE)

    def start() -> None:
        inside.open()
        door.pass_through()

    part.start = start
    starting = Background(lc.start)
    inside.pass_through()
    assert lc.quiet(timeout=0) is False
    quieting = Background(lc.quiet)
    door.open()
    starting.result()
    assert quieting.result() is True
    assert log == ["stop slow: quiet", "close slow"]
    assert lc.shutdown().ok


def test_what_does_not_end_in_time_has_until_the_stop(log: list[str], clock: VirtualClock) -> None:
    """An intake that is late is told and not given up: it is closed when it has ended, or by the stop."""
    end = StopToken(clock=clock)
    with Lifecycle(clock=clock, stop_timeout=10) as lc:
        part = lc.add(Part("late", log), phase=Phase.INTAKE)
        part.join = lambda timeout=None: end.wait(timeout)
        quieting = Parked(clock, lambda: lc.quiet(2))
        clock.advance(2)
        assert quieting.result() is False
        assert log == ["start late", "stop late: quiet"]
        usual = Parked(clock, lc.quiet)
        clock.advance(9)
        assert usual.waits
        end.set()
        assert usual.result() is True
        clock.advance(100)
    (report,) = lc.report.components
    assert log == ["start late", "stop late: quiet", "close late"]
    assert (report.outcome, report.seconds) == ("stopped", 11.0)


def test_the_stop_goes_on_with_what_is_late(log: list[str], clock: VirtualClock) -> None:
    """What has not ended when the stop comes is waited for by that, and reported with all the time that it took."""
    end = StopToken(clock=clock)
    lc = Lifecycle(clock=clock, stop_timeout=10)
    part = lc.add(Part("late", log), phase=Phase.INTAKE)
    part.join = lambda timeout=None: end.wait(timeout)
    lc.start()
    quieting = Parked(clock, lambda: lc.quiet(2))
    clock.advance(2)
    assert quieting.result() is False
    stopping = Parked(clock, lc.shutdown)
    clock.advance(10)
    (report,) = stopping.result().components
    assert (report.outcome, report.seconds, report.limit) == ("stuck", 12.0, "deadline")
    assert log == ["start late", "stop late: quiet", "close late"]
    end.set()


def test_a_stop_that_comes_meanwhile_goes_on_beside_it() -> None:
    """A shutdown and a quiet() at the same time tell and close everybody once, and both come to their end."""
    for first in ("quiet", "shutdown"):
        log: list[str] = []
        inside, door = Gate(), Gate()
        lc = Lifecycle()
        part = lc.add(Part("intake", log), phase=Phase.INTAKE)

        def join(timeout: float | None = None, inside: Gate = inside, door: Gate = door) -> bool:
            inside.open()
            door.pass_through()
            return True

        part.join = join
        lc.add(Part("work", log), phase=Phase.WORK)
        lc.start()
        one = Background(lc.quiet if first == "quiet" else lc.shutdown)
        inside.pass_through()
        other = Background(lc.shutdown if first == "quiet" else lc.quiet)
        door.open()
        results: list[Any] = [one.result(), other.result()]
        if first == "shutdown":
            results.reverse()
        assert results[0] is True
        assert results[1].ok
        assert sorted(log[2:])[:2] == ["close intake", "close work"]
        assert len(log) == 6


def test_a_thread_of_the_intake_is_refused_and_any_other_is_not(log: list[str]) -> None:
    """Who would wait for itself is told so; a page that is served in the background may call it."""
    seen: list[object] = []

    def body(lc: Lifecycle) -> None:
        try:
            seen.append(lc.quiet())
        except WouldBlock as error:
            seen.append(str(error))

    with Lifecycle("app") as lc:
        intake = lc.add(ManagedThread(lambda: body(lc), name="intake"))
        assert intake.join(5)
        task = lc.add(IntervalTask(lambda: body(lc), 60, name="task", run_immediately=True, max_runs=1))
        assert task.join(5)
        page = lc.add(ManagedThread(lambda: body(lc), name="page"), phase=Phase.BACKGROUND)
        assert page.join(5)
    refusal = "quiet() would block a thread of the intake of lifecycle 'app', which has to go on; use stop() there"
    assert seen == [refusal, refusal, True]


def test_a_call_that_was_put_off_is_in_the_report(clock: VirtualClock) -> None:
    """A call that quiet() overtakes is never made, and stays for the report; one that comes later is made."""
    calls: list[str] = []
    with Lifecycle(clock=clock) as lc:
        lc.call_later(100, calls.append, "never")
        assert lc.quiet()
        assert len(lc) == 1
        lc.call_later(10, calls.append, "made")
        clock.advance(200)
        assert calls == ["made"]
        assert len(lc) == 1
    assert [part.name for part in lc.report.components] == ["append"]


def test_it_is_quiet_in_an_event_loop_too() -> None:
    """aquiet() does the same, and the loop goes on meanwhile."""
    door = Gate()

    async def main() -> list[object]:
        seen: list[object] = []
        async with Lifecycle() as lc:
            part = lc.add(Part("intake", []), phase=Phase.INTAKE)
            part.join = lambda timeout=None: door.pass_through() or True
            quieting = asyncio.create_task(lc.aquiet(5))
            await asyncio.sleep(0)
            seen.append(quieting.done())
            door.open()
            seen.append(await quieting)
        return seen

    assert asyncio.run(main()) == [False, True]


@pytest.mark.parametrize("timeout", [-1, math.nan, True, "5"])
def test_a_bad_timeout_is_refused(timeout: Any) -> None:
    """A bad time-out is refused before anything is told, also before the start."""
    with pytest.raises((TypeError, ValueError), match="timeout must"):
        Lifecycle().quiet(timeout)
