"""``Room``: the bound of a store whose jobs may come and go by other processes."""

from __future__ import annotations

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

    __slots__ = ("_coming", "_maxsize", "_waiting")

    def __init__(self, clock: Clock, maxsize: float, waiting: int) -> None:
        super().__init__(clock, 0)
        self._maxsize = maxsize
        self._waiting = waiting  # guarded by _lock, with the one below
        self._coming = 0  # permits that were taken for jobs that are not in the store yet

    def update(self, waiting: int | None, arrived: int) -> None:
        """Hear from the store how many wait now, and how many of those that were on their way have arrived."""
        with self._lock:
            if waiting is not None:
                self._waiting = waiting
            self._coming = max(0, self._coming - arrived)  # an interrupt after a commit may have it told twice
        if self._is_any_left():
            self._bell.ring()

    @override
    def taken(self) -> int:
        """Return how many wait or are on their way."""
        return self._waiting + self._coming

    @override
    def take_now(self) -> bool:
        """Take one if there is one."""
        with self._lock:
            if not self._is_any_left():
                return False
            self._coming += 1
            return True

    @override
    def take_anyway(self) -> None:
        """Take one for a job that is on its way, even where there is none."""
        with self._lock:
            self._coming += 1

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
        self._bell.ring_all()

    @override
    def _is_any_left(self) -> bool:
        return self._waiting + self._coming < self._maxsize
