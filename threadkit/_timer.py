"""One thread and one heap for any number of things that are due later.

The callbacks are threadkit's own: quick, and never user code. The thread is made with the first entry and ends when the
last is gone, so that what waits for nothing costs nothing. Where entries come back after they were due, as those of
recurring tasks do, a timer may keep its thread instead, until it is closed.
"""

from __future__ import annotations

import contextlib
import functools
import heapq
import itertools
import threading
import weakref
from collections.abc import Callable
from typing import Any

from threadkit import _fork
from threadkit._clock import Clock
from threadkit._waiting import Condition

# What the heap holds: due time, a number that keeps equal times in order, callback (None: cancelled), its argument.
# A list, because lists compare in C and one field changes; and a heterogeneous list has no better type.
Entry = list[Any]
Call = tuple[Callable[[Any], None], object]

_DEAD_BEFORE_SWEEP = 512


class Timer:
    """Calls functions at given moments of a clock.

    Args:
        clock: the clock whose ``monotonic()`` the moments are of.
        name: the name of the thread.
        lingers: keep the thread, parked, while there is no entry; ``close()`` ends it.
    """

    __slots__ = (
        "__weakref__",
        "_clock",
        "_closed",
        "_condition",
        "_dead",
        "_heap",
        "_is_served",
        "_lingers",
        "_name",
        "_numbers",
        "_thread",
    )

    def __init__(self, clock: Clock, name: str, *, lingers: bool = False) -> None:
        self._clock = clock
        self._name = name
        self._lingers = lingers
        self._numbers = itertools.count()
        # Guards all below; notified when the head of the heap changes, and by close(). No callback runs under it.
        self._condition = Condition(clock)
        self._closed = False
        self._heap: list[Entry] = []
        self._dead = 0
        self._is_served = False  # there is a thread, or somebody is making one
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        with self._condition:
            return len(self._heap) - self._dead

    def at(self, due: float, callback: Callable[[Any], None], argument: object = None) -> Entry:
        """Have ``callback(argument)`` called when the clock's ``monotonic()`` reaches ``due``; never after ``close()``.

        Returns:
            the entry, for ``cancel()``.

        Raises:
            RuntimeError: the system or the interpreter gives no thread; the entry is not left behind.
        """
        with self._condition:
            if self._closed:
                return [due, 0, None, None]
            entry: Entry = [due, next(self._numbers), callback, argument]
            heapq.heappush(self._heap, entry)
            if self._is_served:
                if self._heap[0] is entry:
                    self._condition.notify_all()
                return entry
            self._is_served = True
        # Not under the lock: who starts a thread waits for its first steps, and a finalizer that strikes there may want
        # the lock.
        try:
            self._clock.spawn(self._run, self._name)
        except RuntimeError:
            with self._condition:
                self._is_served = False
                with contextlib.suppress(ValueError):  # it was cancelled, and swept away
                    self._heap.remove(entry)
                    heapq.heapify(self._heap)
                self._condition.notify_all()
            raise
        return entry

    def cancel(self, entry: Entry) -> bool:
        """Take an entry back; return False where it is being called, was called or was cancelled before."""
        with self._condition:
            if entry[2] is None:
                return False
            entry[2] = entry[3] = None
            self._dead += 1
            if self._heap[0] is entry:
                self._condition.notify_all()
            elif self._dead > _DEAD_BEFORE_SWEEP and self._dead * 2 > len(self._heap):
                self._heap = [live for live in self._heap if live[2] is not None]
                heapq.heapify(self._heap)
                self._dead = 0
            return True

    def clear(self) -> None:
        """Cancel everything."""
        with self._condition:
            self._drop_all()

    def close(self) -> None:
        """Cancel everything, for good: the thread ends, and what is added later is never called."""
        with self._condition:
            self._closed = True
            self._drop_all()

    def join(self, deadline: float | None) -> bool:
        """Wait until the thread has ended; True at once where there is none, or where this is it."""
        with self._condition:
            if self._thread is threading.current_thread():
                return True
            return self._condition.wait_until(lambda: not self._is_served, deadline)

    def thread(self) -> threading.Thread | None:
        """Return the thread, if there is one at this moment."""
        return self._thread

    def _run(self) -> None:
        self._thread = threading.current_thread()
        while batch := self._next_batch():
            _call_all(batch)
            del batch  # an idle timer must keep nothing alive

    def _next_batch(self) -> list[Call]:
        """Wait for what is due next; an empty answer ends the thread."""
        with self._condition:
            while True:
                while self._heap and self._heap[0][2] is None:
                    heapq.heappop(self._heap)
                    self._dead -= 1
                if not self._heap and self._lingers and not self._closed:
                    self._condition.wait_until(lambda: bool(self._heap) or self._closed, None)
                    continue
                if not self._heap:
                    self._thread = None
                    self._is_served = False
                    self._condition.notify_all()
                    return []
                head = self._heap[0]
                now = self._clock.monotonic()
                if head[0] <= now:
                    return self._pop_due(now)
                self._condition.wait_until(functools.partial(self._has_changed, head), head[0])

    def _has_changed(self, head: Entry) -> bool:
        return not self._heap or self._heap[0] is not head or head[2] is None

    def _drop_all(self) -> None:
        """Take every entry out. The lock MUST be held."""
        for entry in self._heap:
            entry[2] = entry[3] = None
        self._heap.clear()
        self._dead = 0
        self._condition.notify_all()

    def _pop_due(self, now: float) -> list[Call]:
        """Take everything out that is due. The lock MUST be held."""
        batch: list[Call] = []
        while self._heap and self._heap[0][0] <= now:
            entry = heapq.heappop(self._heap)
            if entry[2] is None:
                self._dead -= 1
            else:
                batch.append((entry[2], entry[3]))
                entry[2] = entry[3] = None
        return batch


def shared_timer(clock: Clock) -> Timer:
    """Return the timer that all share who now and then look after something on this clock.

    It lives as long as somebody keeps it. None of its users may close it.
    """
    with _shared_lock:
        timer = _shared.get(id(clock))  # nobody else can have this id: the timer keeps its clock
        if timer is None:
            timer = _shared[id(clock)] = Timer(clock, "threadkit-watch")
        return timer


def _call_all(batch: list[Call]) -> None:
    for callback, argument in batch:
        callback(argument)


def _forget_parent() -> None:
    # In a forked child the timers' threads do not exist, and the lock may be held for ever.
    global _shared, _shared_lock
    _shared = weakref.WeakValueDictionary()
    _shared_lock = threading.RLock()


_shared: weakref.WeakValueDictionary[int, Timer] = weakref.WeakValueDictionary()  # by the id of the clock
_shared_lock = threading.RLock()  # guards _shared; reentrant for finalizers that start a thread
_fork.after_fork(_forget_parent)
