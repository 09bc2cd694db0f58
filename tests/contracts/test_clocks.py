"""What every clock does, the machine's and the one that tests turn."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from helpers import PATIENCE, Gate

from threadkit import Clock, SystemClock
from threadkit._clock import deadline_after, open_gate
from threadkit.testing import VirtualClock

LONG = 3600.0


@pytest.fixture(params=[SystemClock, VirtualClock])
def clock(request: pytest.FixtureRequest) -> Clock:
    made: Clock = request.param()
    return made


def outcome_of(clock: Clock, call: Callable[[], object]) -> object:
    """Make a call on a thread of the clock, and return what it returned."""
    results: list[object] = []
    thread = clock.spawn(lambda: results.append(call()), "test-clock")
    thread.join(PATIENCE)
    return results[0]


def test_monotonic_does_not_go_back(clock: Clock) -> None:
    """Of two looks at ``monotonic()`` the second is not earlier."""
    assert clock.monotonic() <= clock.monotonic()


def test_now_is_aware_and_in_utc(clock: Clock) -> None:
    """The wall clock's time has a zone, and it is UTC."""
    assert clock.now().utcoffset() == timedelta(0)


def test_open_gate_is_passed_at_once(clock: Clock) -> None:
    """At an open gate nobody waits, with and without a limit."""
    for deadline in (None, clock.monotonic() + LONG):
        gate = clock.gate()
        open_gate(gate)
        assert clock.park(gate, deadline) is True
        assert gate.locked()  # who passes closes it: the next one would wait


def test_deadline_in_the_past(clock: Clock) -> None:
    """Where the time is over already a closed gate is not waited at, and an open one still counts."""
    gate = clock.gate()
    assert clock.park(gate, clock.monotonic()) is False
    assert clock.park(gate, clock.monotonic() - LONG) is False
    open_gate(gate)
    assert clock.park(gate, clock.monotonic() - LONG) is True


def test_gate_that_nobody_opens(clock: Clock) -> None:
    """Whoever is parked at a gate that stays closed goes on when the time is over, and is told that it was."""
    passed: list[bool] = []
    thread = clock.spawn(lambda: passed.append(clock.park(clock.gate(), clock.monotonic() + 0.01)), "test-parked")
    if isinstance(clock, VirtualClock):
        clock.wait_for_sleepers(1)
        clock.advance(0.01)
    thread.join(PATIENCE)
    assert passed == [False]


@pytest.mark.parametrize("limit", [None, LONG])
def test_gate_that_is_opened_later(clock: Clock, limit: float | None) -> None:
    """Whoever is parked goes on when another thread opens the gate."""
    gate, waits = clock.gate(), Gate()

    def wait() -> None:
        waits.open()
        passed.append(clock.park(gate, deadline_after(clock, limit)))

    passed: list[bool] = []
    thread = clock.spawn(wait, "test-parked")
    waits.pass_through()
    open_gate(gate)
    thread.join(PATIENCE)
    assert passed == [True]


def test_gate_may_be_opened_twice(clock: Clock) -> None:
    """Opening a gate that is open changes nothing."""
    gate = clock.gate()
    open_gate(gate)
    open_gate(gate)
    assert clock.park(gate, None) is True
    assert clock.park(gate, clock.monotonic()) is False


def test_threads_are_daemons_with_a_name(clock: Clock) -> None:
    """A thread of the clock is a daemon, has the name that it was given, and runs its target."""
    thread = outcome_of(clock, threading.current_thread)
    assert isinstance(thread, threading.Thread)
    assert thread.daemon
    assert thread.name == "test-clock"


def test_threads_begin_with_a_fresh_context(clock: Clock) -> None:
    """A thread of the clock does not see the context variables of whoever started it."""
    variable = contextvars.ContextVar("variable", default="fresh")
    variable.set("of the starter")
    assert outcome_of(clock, variable.get) == "fresh"


def test_no_thread_to_be_had(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system gives no thread the error gets out, and the clock goes on as before."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as poor, pytest.raises(RuntimeError, match="can't start"):
        poor.setattr(threading.Thread, "start", refuse)
        clock.spawn(lambda: None, "test-clock")
    assert outcome_of(clock, lambda: "works") == "works"


def test_repr(clock: Clock) -> None:
    """A clock shows its class."""
    assert type(clock).__name__ in repr(clock)
