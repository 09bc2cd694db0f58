"""``Agenda``: what is due when, as a heap. It knows no clock, no threads and no lock; its owner does."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from typing import Any

# What the heap holds: due time, a number that keeps equal times in order, callback (None: cancelled), its argument.
# A list, because lists compare in C and one field changes; and a heterogeneous list has no better type.
Entry = list[Any]
Call = tuple[Callable[..., object], Any]

_DEAD_BEFORE_SWEEP = 512


class Agenda:
    """Entries in the order of their times. The owner's lock MUST be held for all of it.

    A cancelled entry stays where it is until its turn comes, or until too many have gathered. A finalizer that strikes
    in the middle of a method may use the agenda under the owner's reentrant lock: so the heap stays the same list.
    """

    __slots__ = ("_dead", "_heap", "_numbers")

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._heap: list[Entry] = []
        self._dead = 0

    def __len__(self) -> int:
        return len(self._heap) - self._dead

    def add(self, due: float, callback: Callable[..., object], argument: object = None) -> Entry:
        """Write an entry down, and return it for ``cancel()``."""
        entry: Entry = [due, next(self._numbers), callback, argument]
        heapq.heappush(self._heap, entry)
        return entry

    def is_head(self, entry: Entry) -> bool:
        """Tell whether this entry, be it cancelled, comes first."""
        return bool(self._heap) and self._heap[0] is entry

    def next_due(self) -> float:
        """Return the time of the first entry; ``inf`` where there is none."""
        heap = self._heap
        while heap and heap[0][2] is None:
            heapq.heappop(heap)
            self._dead -= 1
        return heap[0][0] if heap else math.inf

    def cancel(self, entry: Entry) -> bool:
        """Take an entry back; return False where it has been taken out, or was cancelled before."""
        if entry[2] is None:
            return False
        entry[2] = entry[3] = None
        self._dead += 1
        if self._dead > _DEAD_BEFORE_SWEEP and self._dead * 2 > len(self._heap):
            self._heap[:] = [live for live in self._heap if live[2] is not None]
            heapq.heapify(self._heap)
            self._dead = 0
        return True

    def pop_due(self, now: float) -> list[Call]:
        """Take everything out that is due, in order."""
        batch: list[Call] = []
        heap = self._heap
        while heap and heap[0][0] <= now:
            entry = heapq.heappop(heap)
            if entry[2] is None:
                self._dead -= 1
            else:
                batch.append((entry[2], entry[3]))
                entry[2] = entry[3] = None
        return batch

    def clear(self) -> None:
        """Cancel everything."""
        for entry in self._heap:
            entry[2] = entry[3] = None
        self._heap.clear()
        self._dead = 0
