"""``Room``: the bound of a store whose jobs may come and go by other processes."""

from __future__ import annotations

import contextlib
from collections import deque

from threadkit._clock import Clock
from threadkit._override import override
from threadkit._permits import Permits


class Room(Permits):
    """As many jobs may wait as there is room for, by the store's own count and by what is on its way into it.

    Args:
        clock: where threads wait.
        maxsize: how many may wait; ``inf`` is no limit.
        waiting: how many wait now.
    """

    __slots__ = ("_coming", "_maxsize", "_told", "_waiting")

    def __init__(self, clock: Clock, maxsize: float, waiting: int) -> None:
        super().__init__(clock, 0)
        self._maxsize = maxsize
        self._waiting = waiting  # guarded by _lock, with the one below
        self._coming = 0  # permits that were taken for jobs that are not in the store yet
        self._told: deque[tuple[int | None, int]] = deque()  # what the store has told, and nobody has noted so far

    def update(self, waiting: int | None, arrived: int) -> None:
        """Hear from the store how many wait now, and how many of those that were on their way have arrived.

        It never waits. Whoever holds the lock may have been struck by a finalizer, and wait for the store's leader,
        which is who calls this.
        """
        self._told.append((waiting, arrived))
        self._catch_up()

    def _catch_up(self) -> None:
        """Have what the store has told noted. Whoever gives the lock up calls it, for what came meanwhile."""
        while self._told and self._lock.acquire(blocking=False):
            try:
                self._note()
            finally:
                self._lock.release()
            if self._is_any_left():
                self._bell.ring()

    def _note(self) -> None:
        """Note what the store has told. The lock MUST be held."""
        with contextlib.suppress(IndexError):  # until there is no more
            while True:
                waiting, arrived = self._told.popleft()
                self._waiting = self._waiting if waiting is None else waiting
                # Not below 0, where an interrupt after a commit has had it told twice.
                self._coming = max(0, self._coming - arrived)

    @override
    def taken(self) -> int:
        """Return how many wait or are on their way."""
        return self._waiting + self._coming

    @override
    def take_now(self) -> bool:
        """Take one if there is one."""
        with self._lock:
            self._note()
            is_one_left = self._is_any_left()
            self._coming += is_one_left
        self._catch_up()
        return is_one_left

    @override
    def take_anyway(self) -> None:
        """Take one for a job that is on its way, even where there is none."""
        with self._lock:
            self._coming += 1
        self._catch_up()

    @override
    def owe(self) -> None:
        """Do nothing: the store has counted the job."""

    @override
    def give(self) -> None:
        """Wake one who waits for room; the store has counted the job."""
        if self._is_any_left():
            self._bell.ring()

    @override
    def resize(self, change: float) -> None:
        """Allow more, or fewer."""
        with self._lock:
            self._maxsize += change
        self._catch_up()
        self._bell.ring_all()

    @override
    def _is_any_left(self) -> bool:
        return self._waiting + self._coming < self._maxsize
