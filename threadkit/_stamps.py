"""``Stamps``: the time of day, many times a second."""

from __future__ import annotations

import math

from threadkit._clock import Clock

_GOOD_FOR = 1.0  # seconds; so long may a step of the wall clock go unseen


class Stamps:
    """Tells POSIX time by ``monotonic()``, which costs a fifth of ``now()``, and compares the two once a second.

    Args:
        clock: where time comes from.
    """

    __slots__ = ("_clock", "_offset", "_until")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset = 0.0
        self._until = -math.inf

    def at(self, moment: float) -> float:
        """Return the POSIX time of a moment of ``monotonic()`` that has just been read."""
        if moment >= self._until:
            # Several threads may come here at once; each writes what is right.
            self._offset = self._clock.now().timestamp() - self._clock.monotonic()
            self._until = moment + _GOOD_FOR
        return moment + self._offset

    def now(self) -> float:
        """Return the present POSIX time."""
        moment = self._clock.monotonic()
        return moment + self._offset if moment < self._until else self.at(moment)
