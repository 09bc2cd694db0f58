"""``Ending``: components of the user's that hang where they are told to stop, joined or closed."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from helpers import PATIENCE, Background, Parked, start_next

from threadkit import ComponentReport, StartTimeout, StopToken, SystemClock
from threadkit._ending import GRACE, LEAST_GRACE
from threadkit._entry import Entry
from threadkit._registry import Registry
from threadkit.testing import VirtualClock


class Part:
    """A component that may hang in one of its methods until it is let go, on a clock."""

    def __init__(self, name: str, log: list[str], clock: VirtualClock, *, hangs_in: str = "") -> None:
        self.name = name
        self.log = log
        self.clock = clock
        self.hangs_in = hangs_in
        self.ends = True
        self.end = StopToken(clock=clock)

    def start(self) -> None:
        self.do("start")

    def stop(self, reason: str | None = None) -> None:
        self.do("stop")

    def join(self, timeout: float | None = None) -> bool:
        self.do("join")
        return self.ends

    def close(self) -> None:
        self.do("close")

    def work_left(self) -> int:
        self.do("work_left")
        return 3

    def do(self, method: str) -> None:
        if method != "work_left":
            self.log.append(f"{method} {self.name}")
        if method == self.hangs_in:
            self.end.wait()


class Scene:
    """A registry with components, all of one phase, on a clock that stands still."""

    def __init__(self, **hang_in: str) -> None:
        self.clock = VirtualClock()
        self.log: list[str] = []
        self.failures: list[BaseException] = []
        self.registry = Registry(self.clock, lambda entry, error: self.failures.append(error))
        self.parts = [Part(name, self.log, self.clock, hangs_in=where) for name, where in hang_in.items()]
        self.entries = [self.add(part) for part in self.parts]

    def add(self, part: Part, **options: object) -> Entry:
        defaults: dict[str, object] = {"phase": None, "requires": (), "check": None, "must_exist": False}
        return self.registry.add(part, **(defaults | options))

    def start(self) -> None:
        for _ in self.registry:
            start_next(self.registry)
        self.log.clear()

    def stop(self, *, until: float = 10.0, final: bool = True) -> dict[str, ComponentReport]:
        """Stop all, moving the clock from one moment to the next at which something is due."""
        stopping = self.stopping(until=until, final=final)
        self.clock.advance(100)
        return stopping.result()

    def stopping(self, *, until: float = 10.0, final: bool = True) -> Parked[dict[str, ComponentReport]]:
        def stop() -> dict[str, ComponentReport]:
            reports = self.registry.stop(self.registry.stages(), "bye", until, final=final)
            return {report.name: report for report in reports}

        return Parked(self.clock, stop)

    def let_go(self) -> None:
        for part in self.parts:
            part.end.set()
        self.clock.settle()


def outcomes(reports: dict[str, ComponentReport]) -> dict[str, str]:
    return {name: report.outcome for name, report in reports.items()}


def test_who_hangs_in_stop_delays_nobody() -> None:
    """A stop() that hangs is given up at the limit; the others are told and joined as if it were not there."""
    scene = Scene(first="", hanging="stop", last="")
    scene.start()
    reports = scene.stop()
    assert outcomes(reports) == {"last": "stopped", "hanging": "stuck", "first": "stopped"}
    assert scene.log[:3] == ["stop last", "stop hanging", "stop first"]
    assert "join hanging" not in scene.log
    stuck = reports["hanging"]
    assert (stuck.limit, stuck.work_left) == ("deadline", 3)
    assert stuck.seconds == pytest.approx(10.0, abs=2 * GRACE)
    assert 'self.do("stop")' in stuck.stacks["threadkit-calls-hanging"]
    scene.let_go()


@pytest.mark.parametrize("method", ["stop", "join", "close", "work_left"])
def test_who_hangs_is_stuck_and_shown_where_it_is(method: str) -> None:
    """Whichever method hangs, its component is stuck, with the stack of the call; it is closed all the same, once."""
    scene = Scene(hanging=method, other="")
    scene.start()
    reports = scene.stop()
    assert outcomes(reports) == {"other": "stopped", "hanging": "stuck"}
    assert f'self.do("{method}")' in "".join(reports["hanging"].stacks.values())
    assert scene.log.count("close hanging") == (0 if method == "work_left" else 1)
    assert scene.clock.monotonic() == 100
    scene.let_go()
    assert scene.log.count("close hanging") == 1


def test_a_call_that_returns_within_its_limit_is_waited_for() -> None:
    """A stop() that takes its time, and ends in time, has stopped; the others were told without waiting for it."""
    scene = Scene(first="", slow="stop")
    scene.start()
    stopping = scene.stopping()
    scene.clock.advance(5)
    assert scene.log == ["stop slow", "stop first"]
    scene.let_go()
    assert outcomes(stopping.result()) == {"slow": "stopped", "first": "stopped"}
    assert scene.log == ["stop slow", "stop first", "join slow", "close slow", "join first", "close first"]


def test_those_that_hang_do_not_add_up() -> None:
    """However many hang, and wherever, the stop is over a moment after the deadline."""
    methods = ["stop", "join", "close", "work_left"]
    scene = Scene(**{f"hanging {number}": methods[number % 4] for number in range(40)})
    scene.start()
    stopping = scene.stopping()
    scene.clock.advance(10 + 2 * GRACE + 80 * LEAST_GRACE)
    reports = stopping.result()
    assert set(outcomes(reports).values()) == {"stuck"}
    assert len(reports) == 40
    scene.let_go()


def test_those_that_hang_leave_the_others_a_moment() -> None:
    """Where many hang until the limit is over, who ends at once has still stopped."""
    scene = Scene(good="", **{f"hanging {number}": "stop" for number in range(20)})
    scene.start()
    reports = scene.stop(until=0.0)
    assert reports["good"].outcome == "stopped"
    assert len(outcomes(reports)) == 21
    scene.let_go()


def test_a_join_that_comes_to_its_end_at_the_limit_is_heard() -> None:
    """A join() that gives up exactly at the limit, as it should, is no call that hangs: its own answer counts."""
    scene = Scene(deaf="")
    (part,) = scene.parts
    part.join = lambda timeout=None: part.end.wait(timeout)
    scene.start()
    report = scene.stop()["deaf"]
    assert (report.outcome, report.seconds, report.stacks) == ("stuck", 10.0, {})


def test_what_hangs_shows_its_own_threads_too() -> None:
    """A join() that ignores its time-out is shown with the threads that it waits for."""
    scene = Scene(hanging="join")
    (part,) = scene.parts
    thread = scene.clock.spawn(lambda: part.end.wait() and None, "worker")
    part.threads = lambda: [thread]
    scene.start()
    assert scene.stop()["hanging"].stacks.keys() == {"threadkit-calls-hanging", "worker"}
    scene.let_go()


def test_a_start_that_still_hangs_is_told() -> None:
    """Where start() was given up and has not returned yet, the component is stuck, whatever its join() says."""
    scene = Scene(hanging="start")
    starting = Parked(scene.clock, lambda: start_next(scene.registry, 1.0))
    scene.clock.advance(1)
    with pytest.raises(StartTimeout):
        starting.result()
    report = scene.stop()["hanging"]
    assert report.outcome == "stuck"
    assert 'self.do("start")' in report.stacks["threadkit-calls-hanging"]
    assert scene.log == ["start hanging", "stop hanging", "close hanging"]
    scene.let_go()


def test_what_a_start_raises_too_late_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A start() that raises after it was given up is logged, since nobody else hears of it."""
    scene = Scene(late="start")
    (part,) = scene.parts
    part.start = lambda: part.do("start") or {}[0]
    starting = Parked(scene.clock, lambda: start_next(scene.registry, 1.0))
    scene.clock.advance(1)
    with pytest.raises(StartTimeout):
        starting.result()
    scene.let_go()
    assert "the start() of component 'late' failed when its time was over" in caplog.text
    assert outcomes(scene.stop()) == {"late": "stopped"}


def test_what_a_stop_raises_late_is_logged_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    """A stop() that raises after the others were told has failed, as one that raises at once."""
    scene = Scene(late="stop")
    (part,) = scene.parts
    part.stop = lambda reason: part.do("stop") or {}[0]
    scene.start()
    stopping = scene.stopping()
    scene.clock.advance(5)
    scene.let_go()
    report = stopping.result()["late"]
    assert (report.outcome, type(report.error)) == ("failed", KeyError)
    assert "the stop() of component 'late' failed" in caplog.text


def test_what_an_end_raises_first_is_the_failure() -> None:
    """Of what stop(), join() and close() raise the first is the component's failure, and the others are its notes."""
    scene = Scene(bad="")
    (part,) = scene.parts
    for method in ("stop", "join", "close"):
        setattr(part, method, lambda *_, method=method: {}[method])
    scene.start()
    error = scene.stop()["bad"].error
    assert repr(error) == "KeyError('stop')"
    assert error.__notes__ == [
        "the join() of component 'bad' failed, too: KeyError: 'join'",
        "the close() of component 'bad' failed, too: KeyError: 'close'",
    ]


def test_one_error_that_is_raised_twice_is_told_once() -> None:
    """A component that raises one and the same error in stop() and close() has that as its failure, without a note."""
    scene = Scene(bad="")
    (part,) = scene.parts
    broken = OSError("broken")

    def fail(*_: object) -> None:
        raise broken

    part.stop = part.close = fail
    scene.start()
    assert scene.stop()["bad"].error is broken
    assert not hasattr(broken, "__notes__")


def test_what_a_join_raises_in_a_quiet_is_in_the_report() -> None:
    """What a join() raises in a stop that is not final is still the component's failure in the one that follows."""
    scene = Scene(bad="")
    (part,) = scene.parts
    part.join = lambda timeout: {}["join"]
    scene.start()
    scene.stop(final=False)
    part.join = lambda timeout: True
    report = scene.stop(until=200)["bad"]
    assert (report.outcome, repr(report.error)) == ("failed", "KeyError('join')")


def test_a_stop_that_is_not_final_leaves_it_to_a_later_one() -> None:
    """Where quiet() gives a join() up, nothing is closed; the stop that follows goes on with it, in the same thread."""
    scene = Scene(hanging="join")
    scene.start()
    assert outcomes(scene.stop(final=False)) == {"hanging": "stuck"}
    assert scene.log == ["stop hanging", "join hanging"]
    scene.parts[0].hangs_in = ""
    scene.let_go()
    assert outcomes(scene.stop(until=200)) == {"hanging": "stopped"}
    assert scene.log.count("close hanging") == 1


def test_a_second_signal_gives_up_at_once() -> None:
    """What hangs is given up by a forced stop after a moment; who ends at once has stopped."""
    scene = Scene(hanging="stop", other="")
    scene.start()
    forcing = Parked(scene.clock, lambda: scene.registry.give_up(set()))
    scene.clock.advance(2 * GRACE)
    assert [(report.name, report.outcome) for report in forcing.result()] == [
        ("other", "stopped"),
        ("hanging", "stuck"),
    ]
    scene.let_go()


class Interrupted(SystemClock):
    """A clock whose next wait with a limit, by one thread, is struck by Ctrl-C."""

    victim: threading.Thread | None = None

    def park(self, gate: object, deadline: float | None) -> bool:
        if threading.current_thread() is self.victim:
            self.victim = None
            raise KeyboardInterrupt
        return super().park(gate, deadline)


def test_who_is_being_told_when_an_interrupt_strikes_is_not_told_a_second_time_meanwhile() -> None:
    """A stop() that goes on when Ctrl-C ends the wait for it is waited for by the next stop, and not called again."""
    clock = Interrupted()
    log: list[str] = []
    parts = Registry(clock, lambda entry, error: None)
    part = Part("slow", log, VirtualClock(), hangs_in="stop")
    part.end = StopToken(clock=clock)
    entry = parts.add(part, phase=None, requires=(), check=None, must_exist=False)
    start_next(parts, PATIENCE)

    def stop() -> list[ComponentReport]:
        return list(parts.stop(parts.stages(), None, clock.monotonic() + PATIENCE))

    clock.victim = threading.current_thread()
    with pytest.raises(KeyboardInterrupt):
        stop()
    assert entry.told_at is None
    stopping = Background(stop)
    part.end.set()
    assert [report.outcome for report in stopping.result()] == ["stopped"]
    assert log.count("stop slow") == 1


class Poor(VirtualClock):
    """A virtual clock that at some moment gives no more threads, as the interpreter does at its exit."""

    is_poor = False

    def spawn(self, target: Callable[[], None], name: str) -> threading.Thread:
        if self.is_poor and name.startswith("threadkit-calls"):
            raise RuntimeError("can't start new thread")
        return super().spawn(target, name)


def poor_scene(hangs_in: str) -> tuple[Scene, Poor]:
    scene = Scene()
    scene.clock = clock = Poor()
    scene.registry = Registry(clock, lambda entry, error: None)
    scene.parts = [Part("part", scene.log, clock, hangs_in=hangs_in)]
    scene.entries = [scene.add(scene.parts[0])]
    return scene, clock


@pytest.mark.parametrize("method", ["stop", "join", "close"])
def test_where_no_thread_can_be_made_the_one_there_is_will_do(method: str) -> None:
    """At interpreter exit a component is ended by the thread that started it, and given up where that hangs."""
    scene, clock = poor_scene(method)
    scene.start()
    clock.is_poor = True
    report = scene.stop()["part"]
    assert (report.outcome, report.limit) == ("stuck", "deadline")
    assert f'self.do("{method}")' in report.stacks["threadkit-calls-part"]
    scene.let_go()


def test_who_hangs_in_start_is_not_told_where_no_thread_can_be_made(caplog: pytest.LogCaptureFixture) -> None:
    """A stop() that nobody can call, since the only thread hangs in start(), is logged, and the component is stuck."""
    scene, clock = poor_scene("start")
    starting = Parked(clock, lambda: start_next(scene.registry, 1.0))
    clock.advance(1)
    with pytest.raises(StartTimeout):
        starting.result()
    clock.is_poor = True
    report = scene.stop()["part"]
    assert (report.outcome, str(report.error)) == ("stuck", "can't start new thread")
    assert "the stop() of component 'part' failed" in caplog.text
    scene.let_go()
