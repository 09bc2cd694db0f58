"""``VirtualClock``: time that passes when told to, and threads that really block on it."""

from __future__ import annotations

import math
import threading
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from helpers import PATIENCE, Background, Gate

from threadkit import StopToken
from threadkit._clock import open_gate
from threadkit.testing import VirtualClock, _virtual_clock

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the clock give up at once on threads that are not parked."""
    monkeypatch.setattr(_virtual_clock, "_PATIENCE", 0.01)


def sleeper(clock: VirtualClock, period: float, times: list[float], token: StopToken) -> threading.Thread:
    """Start a thread that notes the time after each period."""

    def run() -> None:
        while token.sleep(period):
            times.append(clock.monotonic())

    return clock.spawn(run, f"sleeper-{period}")


def test_stands_still() -> None:
    """Without advance() no time passes, by either measure."""
    clock = VirtualClock()
    assert (clock.monotonic(), clock.now()) == (0.0, NEW_YEAR)
    assert (clock.monotonic(), clock.now()) == (0.0, NEW_YEAR)


def test_advance_moves_both() -> None:
    """advance() moves the monotonic and the wall clock, by seconds or a timedelta."""
    clock = VirtualClock()
    clock.advance(1.5)
    clock.advance(timedelta(minutes=1))
    assert clock.monotonic() == 61.5
    assert clock.now() == NEW_YEAR + timedelta(seconds=61.5)


def test_start_is_the_wall_clocks() -> None:
    """The wall clock may begin anywhere, in any zone; without a zone it is refused."""
    east = timezone(timedelta(hours=2))
    assert VirtualClock(datetime(2030, 5, 1, 12, tzinfo=east)).now().isoformat() == "2030-05-01T10:00:00+00:00"
    with pytest.raises(ValueError, match="start must have a time zone"):
        VirtualClock(datetime(2030, 5, 1))  # noqa: DTZ001 - that is the point


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, timedelta(seconds=-1)])
def test_time_goes_forward(seconds: Any) -> None:
    """A negative, endless or nan amount of time is refused."""
    with pytest.raises(ValueError, match="seconds"):
        VirtualClock().advance(seconds)


def test_steps_from_due_time_to_due_time() -> None:
    """Each sleeper wakes at its own moments, and sees the time that it asked for."""
    clock, token = VirtualClock(), StopToken()
    token = StopToken(clock=clock)
    fast: list[float] = []
    slow: list[float] = []
    threads = [sleeper(clock, 10, fast, token), sleeper(clock, 25, slow, token)]
    clock.advance(60)
    assert fast == [10, 20, 30, 40, 50, 60]
    assert slow == [25, 50]
    token.set()
    for thread in threads:
        thread.join(PATIENCE)


def test_day_of_minutes() -> None:
    """A day passes in a moment, and a minutely sleeper wakes 1,440 times."""
    clock = VirtualClock()
    token, times = StopToken(clock=clock), []
    thread = sleeper(clock, 60, times, token)
    clock.advance(timedelta(days=1))
    assert len(times) == 1440
    token.set()
    thread.join(PATIENCE)


def test_wall_clock_does_not_drift() -> None:
    """Many small steps do not add up to a difference between the two measures."""
    clock = VirtualClock()
    for _ in range(3000):
        clock.advance(1 / 3)
    assert abs((clock.now() - NEW_YEAR).total_seconds() - clock.monotonic()) < 1e-5


def test_waits_until_what_it_woke_is_parked_again() -> None:
    """advance() returns only when a thread that it woke, and whom that one woke, are parked again."""
    clock = VirtualClock()
    first, second, steps = StopToken(clock=clock), StopToken(clock=clock), []

    def wake_the_other() -> None:
        first.wait(5)
        second.set()
        steps.append("first")
        first.wait()

    def be_woken() -> None:
        second.wait()
        steps.append("second")
        first.wait()

    threads = [clock.spawn(wake_the_other, "one"), clock.spawn(be_woken, "two")]
    clock.advance(5)
    assert sorted(steps) == ["first", "second"]
    first.set()
    for thread in threads:
        thread.join(PATIENCE)


def test_settle_lets_no_time_pass() -> None:
    """settle() waits until what was started is parked, and the time stays."""
    clock = VirtualClock()
    token, begun = StopToken(clock=clock), []

    def run() -> None:
        begun.append(clock.monotonic())
        token.wait()

    thread = clock.spawn(run, "one")
    clock.settle()
    assert begun == [0.0]
    token.set()
    thread.join(PATIENCE)


def test_thread_that_is_not_parked_is_named(impatient: None) -> None:
    """Where a driven thread waits for something real, advance() gives up and says which one, and where."""
    clock, begun, may_end = VirtualClock(), Gate(), Gate()

    def wait_for_something_real() -> None:
        begun.open()
        may_end.pass_through()

    thread = clock.spawn(wait_for_something_real, "stubborn")
    begun.pass_through()
    with pytest.raises(RuntimeError, match=r"(?s)thread 'stubborn' is still running.*in wait_for_something_real"):
        clock.advance(1)
    may_end.open()
    thread.join(PATIENCE)


def test_thread_that_has_not_begun_is_named(impatient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driven thread that has not begun to run is named as well."""
    clock = VirtualClock()
    thread = threading.Thread(name="slow-starter")
    clock._driven.add(thread)
    with pytest.raises(RuntimeError, match=r"(?s)'slow-starter' is still running.*not begun"):
        clock.settle()


def test_advance_from_a_driven_thread() -> None:
    """A thread that the clock drives cannot turn it: it would wait for itself."""
    clock = VirtualClock()
    errors: list[BaseException] = []

    def turn() -> None:
        try:
            clock.advance(1)
        except RuntimeError as error:
            errors.append(error)

    clock.spawn(turn, "one").join(PATIENCE)
    assert "must not be called from a thread that the clock itself drives" in str(errors[0])


def test_threads_of_others_are_woken_too() -> None:
    """A thread that the clock has not started is woken at its deadline as well."""
    clock = VirtualClock()
    token = StopToken(clock=clock)
    waiter = Background(lambda: token.wait(5))
    clock.wait_for_sleepers(1)
    clock.advance(5)
    assert waiter.result() is False


def test_wait_for_sleepers_counts_timed_waits(impatient: None) -> None:
    """wait_for_sleepers() counts those who wait with a limit, and gives up where there are fewer."""
    clock = VirtualClock()
    token = StopToken(clock=clock)
    thread = clock.spawn(lambda: token.wait() or None, "one")
    clock.wait_for_sleepers(0)
    with pytest.raises(RuntimeError, match=r"0 thread\(s\) sleep on the virtual clock after 0.01 s, not 1"):
        clock.wait_for_sleepers(1)
    token.set()
    thread.join(PATIENCE)


def test_gate_that_is_opened_as_its_time_is_over() -> None:
    """A gate that somebody opens in the moment in which the clock wants to open it does no harm."""
    clock = VirtualClock()
    gate = clock.gate()

    class JustOpened:
        """It looks closed to the clock, and has been opened by the time the clock opens it."""

        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
            return gate.acquire(blocking)

        def release(self) -> None:
            gate.release()

        def locked(self) -> bool:
            was_locked = gate.locked()
            if clock._monotonic == 5.0:
                open_gate(gate)
            return was_locked

    waiter = Background(lambda: clock.park(JustOpened(), 5.0))
    clock.wait_for_sleepers(1)
    clock.advance(5)
    waiter.result()
    assert clock.monotonic() == 5.0


def test_whoever_is_let_through_a_gate_is_not_parked() -> None:
    """A gate says that it was opened even where its thread has taken it already, and was not let run since."""
    gate = VirtualClock().gate()
    open_gate(gate)
    assert gate.acquire()
    assert not gate.locked()


def test_set_wall() -> None:
    """The wall clock may be set forward and back; the monotonic one is not touched, and both go on from there."""
    clock = VirtualClock()
    clock.advance(10)
    for moment in (NEW_YEAR + timedelta(days=1), NEW_YEAR - timedelta(days=1)):
        clock.set_wall(moment)
        assert clock.now() == moment
    clock.advance(5)
    assert clock.now() == NEW_YEAR - timedelta(days=1) + timedelta(seconds=5)
    assert clock.monotonic() == 15.0
    with pytest.raises(ValueError, match="moment must have a time zone"):
        clock.set_wall(datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point


def test_suspend() -> None:
    """While the machine sleeps the wall clock goes on and the monotonic one does not."""
    clock = VirtualClock()
    clock.suspend(3600)
    assert clock.now() == NEW_YEAR + timedelta(hours=1)
    assert clock.monotonic() == 0.0
    for wrong in (-1, math.nan):
        with pytest.raises(ValueError, match="seconds"):
            clock.suspend(wrong)


def test_repr() -> None:
    """A virtual clock shows both of its times."""
    assert repr(VirtualClock()) == "<VirtualClock 0 s, 2026-01-01T00:00:00+00:00>"


def test_a_wait_of_the_test_itself_on_a_clock_that_stands_still_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread of the test's own that waits for a time that nobody moves the clock to is told so, and does not hang."""
    monkeypatch.setattr(_virtual_clock, "_PATIENCE", 0.05)
    clock = VirtualClock()
    with pytest.raises(RuntimeError, match=r"waits until 10 s on a virtual clock that has stood at 0 s for 0\.05 real"):
        StopToken(clock=clock).wait(10)


def test_a_wait_of_the_test_itself_goes_on_while_the_clock_moves() -> None:
    """A thread of the test's own is patient as long as the clock moves between two looks."""
    clock = VirtualClock()

    class Slow:
        """A gate that opens at the second try; the clock has moved by then."""

        tries = 0

        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
            self.tries += 1
            clock.advance(1)
            return self.tries == 2

        def release(self) -> None: ...

        def locked(self) -> bool:
            return self.tries < 2

    gate = Slow()
    clock._acquire_impatiently(gate, 10.0)
    assert gate.tries == 2


@pytest.mark.parametrize("amount", [90, 90.0, timedelta(seconds=90), "90s", "1m30s"])
def test_amounts_of_time(amount: Any) -> None:
    """Time is told to a clock as it is to everything else: in seconds, as a timedelta or as text."""
    clock = VirtualClock()
    clock.advance(amount)
    assert clock.monotonic() == 90
    clock.suspend(amount)
    assert clock.now() == NEW_YEAR + timedelta(seconds=180)
    with pytest.raises(ValueError, match="must be a duration such as '5m'"):
        clock.advance("soon")
