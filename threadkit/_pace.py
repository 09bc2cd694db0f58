"""``Pace``: how long to wait before the next attempt, attempt after attempt."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from threadkit._calling import is_on_event_loop
from threadkit._clock import Clock, is_at_exit
from threadkit.backoff import Retry, RetryState

T = TypeVar("T")


class Pace:
    """Counts failed attempts at one thing, from the first on.

    Args:
        clock: what the time is measured with.
        retry: how often, and how soon.
    """

    __slots__ = ("_attempts", "_clock", "_delay", "_retry", "_started")

    def __init__(self, clock: Clock, retry: Retry) -> None:
        self._clock = clock
        self._retry = retry
        self._started = clock.monotonic()
        self._attempts = 0
        self._delay = 0.0

    def after(self, error: BaseException) -> float | None:
        """Return how long to wait after an attempt that failed so; None where it was the last."""
        self._attempts += 1
        elapsed = self._clock.monotonic() - self._started
        delay = self._retry.next_delay(RetryState(self._attempts, error, elapsed, self._delay, now=self._clock.now))
        if delay is not None:
            self._delay = delay
        return delay


def once_there_is_a_thread(step: Callable[[], T], pace: Pace, wait: Callable[[float], bool]) -> T:
    """Do what needs a new thread, and again where the system gives none.

    Args:
        step: what to do.
        pace: how often, and how soon.
        wait: waits so many seconds; returns True where there is no use in going on.

    Raises:
        RuntimeError: there was no thread to the last; or there will be none, or this thread must not wait for one.
    """
    while True:
        try:
            return step()
        except RuntimeError as error:
            delay = pace.after(error)
            if delay is None or is_at_exit(error) or is_on_event_loop() or wait(delay):
                raise
