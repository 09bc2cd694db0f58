"""``Pace``: how long to wait before the next attempt, attempt after attempt."""

from __future__ import annotations

from threadkit._clock import Clock
from threadkit.backoff import Retry, RetryState


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
