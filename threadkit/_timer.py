"""One thread and one heap for any number of things that are due later.

The callbacks are threadkit's own: quick, and never user code. The thread is made with the first entry and ends when the
last is gone, so that what waits for nothing costs nothing. Where entries come back after they were due, as those of
recurring tasks do, a timer may keep its thread instead, until it is closed.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from threadkit import _fork
from threadkit._agenda import Agenda, Call, Entry
from threadkit._clock import Clock
from threadkit._waiting import Condition


class Timer:
    """Calls functions at given moments of a clock.

    Args:
        clock: the clock whose ``monotonic()`` the moments are of.
        name: the name of the thread.
        lingers: keep the thread, parked, while there is no entry; ``close()`` ends it.
    """

    __slots__ = (
        "__weakref__",
        "_agenda",
        "_clock",
        "_closed",
        "_condition",
        "_is_served",
        "_lingers",
        "_name",
        "_thread",
    )

    def __init__(self, clock: Clock, name: str, *, lingers: bool = False) -> None:
        self._clock = clock
        self._name = name
        self._lingers = lingers
        # Guards all below; notified when the head of the heap changes, and by close(). No callback runs under it.
        self._condition = Condition(clock)
        self._closed = False
        self._agenda = Agenda()
        self._is_served = False  # there is a thread, or somebody is making one
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        with self._condition:
            return len(self._agenda)

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
            entry = self._agenda.add(due, callback, argument)
            if self._is_served:
                if self._agenda.is_head(entry):
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
                self._agenda.cancel(entry)
                self._condition.notify_all()
            raise
        return entry

    def cancel(self, entry: Entry) -> bool:
        """Take an entry back; return False where it is being called, was called or was cancelled before."""
        with self._condition:
            was_head = self._agenda.is_head(entry)
            cancelled = self._agenda.cancel(entry)
            if cancelled and was_head:
                self._condition.notify_all()
            return cancelled

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
                due = self._agenda.next_due()
                now = self._clock.monotonic()
                if due <= now:
                    return self._agenda.pop_due(now)
                if due == math.inf and (self._closed or not self._lingers):
                    self._thread = None
                    self._is_served = False
                    self._condition.notify_all()
                    return []
                self._condition.wait_until(partial(self._has_changed, due), None if due == math.inf else due)

    def _has_changed(self, due: float) -> bool:
        return self._closed or self._agenda.next_due() != due

    def _drop_all(self) -> None:
        """Take every entry out. The lock MUST be held."""
        self._agenda.clear()
        self._condition.notify_all()


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
