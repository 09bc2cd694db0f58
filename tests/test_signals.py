"""``SignalTrap``: borrowing the process's signals. Other processes send them in ``integration/``."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from types import FrameType

import pytest
from helpers import Background

from threadkit import _signals
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
    assert calls[0] == (signal.SIGTERM, "SIGTERM")
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
    """Outside the main thread installing is refused plainly, and restoring changes no handler by itself."""
    with pytest.raises(RuntimeError, match="from the main thread only"):
        Background(trap.install).result()
    with trap:
        Background(trap.restore).result()
        assert signal.getsignal(signal.SIGTERM) == trap._handle


NEVER = threading.Event()
"""Never set: a wait for it is one that signals interrupt."""


def test_a_second_signal_that_python_takes_for_the_first_forces(trap: SignalTrap) -> None:
    """Where the handler has run once for two signals, the listener, which hears both, has the main thread forced."""
    with trap, pytest.raises(Forced):
        trap._handled = -1  # as if the main thread had slept through the first
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        for _ in range(500):  # each may miss a signal that strikes just before it begins
            NEVER.wait(0.01)


def test_one_forced_for_each_repeated_signal(trap: SignalTrap) -> None:
    """Each signal after the first forces once, however handler and listener share them."""
    forced = 0
    with trap:
        for number in range(20):
            try:
                signal.raise_signal(signal.SIGTERM)
                while trap._heard <= number or trap._nudges:
                    NEVER.wait(0.01)
            except Forced:
                forced += 1
    assert forced == 19


def test_what_another_thread_restores_is_given_back_by_the_next_signal(calls: list[tuple[int, str]]) -> None:
    """A trap that another thread has let go passes the next signal on to its former handler, and is gone."""
    mine: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda signum, frame: mine.append(signum))
    try:
        former = signal.getsignal(signal.SIGTERM)
        trap = SignalTrap(lambda *what: calls.append(what))
        trap.install()
        Background(trap.restore).result()
        signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is former
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert mine == [signal.SIGTERM] * 2
    assert calls == []
    assert trap not in _signals._installed
    assert signal.set_wakeup_fd(-1) == -1


def test_what_another_thread_restores_is_given_back_by_the_next_trap(trap: SignalTrap) -> None:
    """A trap that another thread has let go is cleared away before the next one looks at what it replaces."""
    before = signal.getsignal(signal.SIGTERM)
    left = SignalTrap(print)
    left.install()
    Background(left.restore).result()
    with trap:
        assert left not in _signals._installed
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_nudge_that_comes_too_late_is_nobodys(trap: SignalTrap) -> None:
    """A nudge that is under way when the trap is let go is not passed on: nobody has sent that signal."""
    mine: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda signum, frame: mine.append(signum))
    try:
        trap.install()
        Background(trap.restore).result()
        trap._nudges.append(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert mine == []
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert mine == [signal.SIGTERM]


def test_what_belonged_to_the_system_is_raised_anew(trap: SignalTrap, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal that nobody had a handler for is left to the system once our handler is gone."""
    raised: list[int] = []
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        trap.install()
        Background(trap.restore).result()
        with monkeypatch.context() as patch:
            patch.setattr(signal, "raise_signal", raised.append)
            trap._handle(signal.SIGTERM, None)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
    assert raised == [signal.SIGTERM]


def test_a_released_trap_that_somebody_calls_keeps_out_of_it(trap: SignalTrap) -> None:
    """Who has taken our handler for the former one, and calls it, gets what was there before that, and no circle."""
    mine: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda signum, frame: mine.append(signum))
    try:
        trap.install()
        ours = signal.getsignal(signal.SIGTERM)

        def chained(signum: int, frame: FrameType | None) -> None:
            ours(signum, frame)

        signal.signal(signal.SIGTERM, chained)
        Background(trap.restore).result()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert mine == [signal.SIGTERM]


def test_other_signals_are_none_of_its_business(trap: SignalTrap, calls: list[tuple[int, str]]) -> None:
    """A signal of the user's own, with a handler of its own, is left to that."""
    mine: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda signum, frame: mine.append(signum))
    try:
        with trap:
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert mine == [signal.SIGUSR1]
    assert calls == []


def test_a_host_that_listens_itself_is_left_alone(trap: SignalTrap, calls: list[tuple[int, str]]) -> None:
    """Where the wake-up descriptor is taken, as in an event loop, it stays so, and the handler does the work."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        signal.set_wakeup_fd(theirs.fileno())
        try:
            with trap:
                signal.raise_signal(signal.SIGTERM)
                assert ours.recv(1) == bytes([signal.SIGTERM])
        finally:
            assert signal.set_wakeup_fd(-1) == theirs.fileno()
    assert calls == [(signal.SIGTERM, "SIGTERM")]


def test_a_descriptor_that_was_taken_over_is_left_alone(trap: SignalTrap) -> None:
    """Who takes the wake-up descriptor over while the trap is set keeps it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        with trap:
            signal.set_wakeup_fd(theirs.fileno())
        assert signal.set_wakeup_fd(-1) == theirs.fileno()


def test_a_forked_child_leaves_the_parent_its_listener() -> None:
    """What runs in a forked child takes the wake-up descriptor back, closes the copies, and can be run twice.

    ``integration/test_signals_fork.py`` forks; what runs in the child before the measuring of coverage is up is shown
    here.
    """
    trap = SignalTrap(print)
    ours, theirs = trap._ends = socket.socketpair()
    theirs.setblocking(False)
    signal.set_wakeup_fd(theirs.fileno())
    for _ in range(2):
        _signals._installed[trap] = None
        _signals._forget_parent()
    assert signal.set_wakeup_fd(-1) == -1
    assert (ours.fileno(), theirs.fileno()) == (-1, -1)
    assert not _signals._installed
