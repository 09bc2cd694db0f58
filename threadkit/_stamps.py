"""``Stamps``: the time of day, many times a second."""

from __future__ import annotations

import math
from collections.abc import Callable

from threadkit._clock import Clock

EARLY = 2e-6  # seconds; POSIX time has no finer grain as a float, and who comes in time must not come too early
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


class Almanac:
    """Turns moments of a clock into POSIX time and back, for what must outlive the process.

    Delays are of the clock's ``monotonic()``, so a wall clock that is set back holds nothing up. One that has moved on,
    as after the machine slept, is followed when ``adjust()`` is called.

    Args:
        clock: returns the clock.
    """

    __slots__ = ("_clock", "_known")

    def __init__(self, clock: Callable[[], Clock]) -> None:
        self._clock = clock
        self._known: tuple[Clock | None, float] = None, -math.inf  # a clock, and how far its POSIX time is ahead
        self.adjust()

    def adjust(self) -> None:
        """Look at the wall clock."""
        clock = self._clock()
        offset = clock.now().timestamp() - clock.monotonic()
        known, before = self._known
        self._known = clock, max(offset, before) if clock is known else offset

    def now(self) -> float:
        """Return the POSIX time."""
        return self.posix(self._clock().monotonic())

    def posix(self, moment: float) -> float:
        """Return the POSIX time of a moment."""
        return moment + self._offset()

    def moment(self, posix: float) -> float:
        """Return the moment of a POSIX time."""
        return posix - self._offset()

    def _offset(self) -> float:
        if self._clock() is not self._known[0]:  # the queue was adopted by a lifecycle with a clock of its own
            self.adjust()
        return self._known[1]
