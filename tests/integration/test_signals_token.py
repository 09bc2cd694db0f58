"""Tokens that are set by a signal handler, thousands of times a second, while threads wait on them.

``threading.Event.set()`` deadlocks here on some versions: the handler strikes while the interrupted thread holds the
event's lock.
"""

from __future__ import annotations

import itertools
import signal
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from helpers import PATIENCE, Background

from threadkit import StopToken
from threadkit._clock import SYSTEM_CLOCK
from threadkit._waiting import Channel

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no interval timers here"),
]

RATE = 3000.0
"""Signals a second."""

Storm = Callable[[Callable[[], object]], None]


@pytest.fixture
def storm() -> Iterator[Storm]:
    """Return ``storm(handler)``: from then on the handler interrupts the main thread 3,000 times a second."""

    def begin(handler: Callable[[], object]) -> None:
        signal.signal(signal.SIGALRM, lambda *_: handler())
        signal.setitimer(signal.ITIMER_REAL, 1 / RATE, 1 / RATE)

    before = signal.getsignal(signal.SIGALRM)
    switch_interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield begin
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    sys.setswitchinterval(switch_interval)


def set_first(tokens: list[StopToken]) -> None:
    tokens[0].set()


def test_set_in_the_thread_that_waits(storm: Storm) -> None:
    """A handler that sets the very token that it interrupted a wait on ends the wait, time after time."""
    token = StopToken()
    storm(lambda: token.set("signal"))
    for _ in range(1500):
        token = StopToken()
        assert token.wait(PATIENCE) is True
        assert token.reason == "signal"


def test_set_while_others_wait(storm: Storm) -> None:
    """A handler that sets tokens while other threads wait on them and on their children wakes every one of them."""
    current = [StopToken()]
    rounds = 300
    barrier = threading.Barrier(4)
    woken: list[bool] = []

    def wait_each_round(of_child: bool) -> None:
        for _ in range(rounds):
            barrier.wait(PATIENCE)
            token = current[0].child() if of_child else current[0]
            woken.append(token.wait(PATIENCE))
            barrier.wait(PATIENCE)

    waiters = [Background(lambda of_child=of_child: wait_each_round(of_child)) for of_child in (False, True, True)]
    storm(lambda: set_first(current))
    for _ in range(rounds):
        current[0] = StopToken()
        barrier.wait(PATIENCE)
        assert current[0].wait(PATIENCE) is True
        barrier.wait(PATIENCE)
    for waiter in waiters:
        waiter.result()
    assert woken == [True] * 3 * rounds


def test_hooks_are_called_once(storm: Storm) -> None:
    """Hooks that are hung and removed while a handler sets the token are each called or removed, never both."""
    current = [StopToken()]
    storm(lambda: set_first(current))
    numbers = range(3000)
    calls: list[int] = []
    removed: list[int] = []
    for number in numbers:
        hook = current[0].on_stop(lambda number=number: calls.append(number))
        if number % 2 and hook.remove():
            removed.append(number)
        if number % 5 == 0:
            current[0].set()
            current[0] = StopToken()
    current[0].set()
    deadline = SYSTEM_CLOCK.monotonic() + PATIENCE
    while len(calls) + len(removed) < len(numbers) and SYSTEM_CLOCK.monotonic() < deadline:
        StopToken().wait(0.01)
    assert sorted(calls + removed) == list(numbers)


def test_channel_is_filled_by_a_handler(storm: Storm) -> None:
    """Items that a handler puts while it interrupts puts and gets of the same channel all arrive, once."""
    channel: Channel[int] = Channel(SYSTEM_CLOCK)
    numbers = itertools.count()  # a handler may interrupt itself
    storm(lambda: channel.put(next(numbers)))
    got = [channel.get(SYSTEM_CLOCK.monotonic() + PATIENCE) for _ in range(2000)]
    signal.setitimer(signal.ITIMER_REAL, 0)
    rest = [channel.get(deadline=0.0) for _ in range(len(channel))]
    assert sorted(got + rest) == list(range(next(numbers)))
