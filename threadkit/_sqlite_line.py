"""``Line``: whose jobs this process may claim out of a job file, and whether it is worth it to look for one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from threadkit._records import PENDING, JobRecord

_MOST_HELD = 256  # jobs of one handler with limits that are in hand at once


class Wanted(NamedTuple):
    """Whose jobs may be claimed at a moment."""

    free: tuple[str, ...]
    limited: tuple[str, ...]
    news: object  # the last there was


class Line:
    """What this process knows of the jobs in a file that wait.

    To look is worth it unless somebody has found nothing since the last news. Each news is an object of its own, and
    who looks takes the last one along: so what was found before it came does not count, whoever is the last to write.
    Each attribute is written as a whole, by any thread, and without a lock.

    Args:
        mine: returns the jobs that run here, or are in hand here.
    """

    def __init__(self, mine: Callable[[], Iterable[JobRecord]]) -> None:
        self._mine = mine
        self._handlers: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
        self._is_cut = False  # who looked last had to pass a handler over, since so many of its jobs are in hand
        self._news = object()
        self._seen: object = None  # the news after which nothing was found

    @property
    def is_filled(self) -> bool:
        """Whether there may be a job for this process."""
        return self._seen is not self._news

    def serve(self, free: frozenset[str], limited: frozenset[str]) -> None:
        """Hear which handlers can be called."""
        self._handlers = tuple(sorted(free)), tuple(sorted(limited))
        self.fill()

    def is_served(self, name: str) -> bool:
        """Return whether a handler can be called, and has no limits."""
        return name in self._handlers[0]

    def wanted(self) -> Wanted:
        """Return whose jobs may be claimed now."""
        news = self._news  # first: what comes after it makes another look worth it
        free, limited = self._handlers
        if not limited:
            return Wanted(free, (), news)
        held = Counter(record.name for record in self._mine() if record.state is PENDING)
        some = tuple(name for name in limited if held[name] < _MOST_HELD)
        self._is_cut = some != limited
        return Wanted(free, some, news)

    def fill(self) -> None:
        """Hear that there may be a job."""
        self._news = object()

    def let_go(self) -> bool:
        """Hear that a job that was in hand is not any more; return whether those that were passed over should look."""
        self.fill()
        return self._is_cut

    def found_nothing(self, news: object) -> None:
        """Hear that somebody looked who knew of this news, and there was no job."""
        self._seen = news
