"""The door by which time comes in. What all clocks have in common is in ``contracts/test_clocks.py``."""

from __future__ import annotations

import math

import pytest

from threadkit import SystemClock, _clock
from threadkit._clock import deadline_after, open_gate
from threadkit.testing import VirtualClock


class Gate:
    """A gate that opens at the n-th look, and notes how long each look would have waited."""

    def __init__(self, opens_at: int) -> None:
        self.looks: list[float] = []
        self.opens_at = opens_at

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        self.looks.append(timeout)
        return len(self.looks) >= self.opens_at

    def release(self) -> None: ...

    def locked(self) -> bool:
        return True


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Stand in for the machine's clock: each look takes the next moment, the last one stays."""
    moments = [0.0]
    monkeypatch.setattr(_clock.time, "monotonic", lambda: moments.pop(0) if len(moments) > 1 else moments[0])
    return moments


def test_long_waits_are_made_of_several(now: list[float]) -> None:
    """A wait of ten hours is made of waits of one hour, since threading.TIMEOUT_MAX may be less than it."""
    now[:] = [0.0, 3600.0, 7200.0]
    gate = Gate(opens_at=3)
    assert SystemClock().park(gate, 36000.0) is True
    assert gate.looks == [3600.0, 3600.0, 3600.0]


def test_wait_ends_at_its_deadline(now: list[float]) -> None:
    """When the deadline has come the gate is looked at once more, without waiting."""
    now[:] = [0.0, 2.0, 5.0]
    gate = Gate(opens_at=9)
    assert SystemClock().park(gate, 5.0) is False
    assert gate.looks == [5.0, 3.0, -1]


def test_gate_that_opens_at_the_last_moment(now: list[float]) -> None:
    """A gate that was opened just before the deadline counts as opened."""
    now[:] = [0.0, 5.0]
    assert SystemClock().park(Gate(opens_at=2), 5.0) is True


def test_closed_gate_is_closed() -> None:
    """A new gate is closed until somebody opens it."""
    gate = SystemClock().gate()
    assert gate.locked()
    open_gate(gate)
    assert not gate.locked()


def test_deadline_after() -> None:
    """A deadline lies ahead by the time-out; None and inf have none."""
    clock = VirtualClock()
    clock.advance(10)
    assert deadline_after(clock, 5) == 15.0
    assert deadline_after(clock, 0) == 10.0
    assert deadline_after(clock, None) is None
    assert deadline_after(clock, math.inf) is None
