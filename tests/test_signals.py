"""``SignalTrap``: borrowing the process's signals. Real signals are sent in ``integration/test_lifecycle_process.py``."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from helpers import Background

from threadkit._signals import Forced, SignalTrap


@pytest.fixture
def calls() -> list[tuple[int, str]]:
    return []


@pytest.fixture
def trap(calls: list[tuple[int, str]]) -> Iterator[SignalTrap]:
    trap = SignalTrap(lambda *what: calls.append(what))
    yield trap
    trap.restore()


def test_first_asks_second_forces(trap: SignalTrap, calls: list[tuple[int, str]]) -> None:
    """The first signal calls back with number and name, the second one raises Forced with the exit code."""
    with trap:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Forced) as forced:
            signal.raise_signal(signal.SIGINT)
    assert calls == [(signal.SIGTERM, "SIGTERM")]
    assert trap.signum == signal.SIGTERM
    assert forced.value.code == 130


def test_handlers_are_given_back(trap: SignalTrap) -> None:
    """The handlers that were there before are there afterwards; installing twice is installing once."""
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    with trap:
        trap.install()
        assert signal.getsignal(signal.SIGINT) != before[signal.SIGINT]
    assert {signum: signal.getsignal(signum) for signum in before} == before


def test_a_later_handler_is_left_alone(trap: SignalTrap) -> None:
    """A handler that somebody else has set meanwhile is not replaced by restore()."""
    before = signal.getsignal(signal.SIGTERM)
    with trap:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_is_ignored_stays_ignored(trap: SignalTrap) -> None:
    """A signal that the process was told to ignore is not taken."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with trap:
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) == trap._handle
    finally:
        signal.signal(signal.SIGINT, before)


def test_only_the_main_thread_can(trap: SignalTrap) -> None:
    """Outside the main thread installing is refused plainly, and restoring does nothing."""
    with pytest.raises(RuntimeError, match="from the main thread only"):
        Background(trap.install).result()
    with trap:
        Background(trap.restore).result()
        assert signal.getsignal(signal.SIGTERM) == trap._handle
