"""``Tally``: a count for hot paths, kept without a lock."""

from __future__ import annotations

import itertools
import threading


class Tally:
    """A number that goes up by one.

    ``up()`` takes no lock, so a finalizer or a signal handler may count too: ``next()`` on ``itertools.count`` is one
    atomic step. Such a counter cannot be looked at without counting, so looks are counted as well, and taken off.
    """

    __slots__ = ("_lock", "_looks", "up")

    def __init__(self) -> None:
        self.up = itertools.count().__next__
        self._lock = threading.Lock()  # guards _looks
        self._looks = 0

    def value(self) -> int:
        """Return the number."""
        with self._lock:
            value = self.up() - self._looks
            self._looks += 1
            return value
