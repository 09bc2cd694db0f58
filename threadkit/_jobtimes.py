"""When waiting jobs are called: ``Calendar`` has a timer entry for each, ``Alarm`` has one for all that a store does.

Nothing is called before ``open()``: a queue takes jobs in before its start, and until then has no thread.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable
from typing import Any, Protocol

from threadkit._agenda import Entry
from threadkit._clock import Clock
from threadkit._records import UNFINISHED, JobRecord
from threadkit._timer import Timer


class Times(Protocol):
    """What a queue needs to know of either."""

    def note(self, record: JobRecord) -> None:
        """Have a job called when it is due, and when it expires.

        Raises:
            RuntimeError: no thread is to be had for the timer.
        """
        ...

    def forget(self, record: JobRecord) -> None:
        """Do not call a job any more."""
        ...

    def open(self) -> None:
        """Begin: the queue starts.

        Raises:
            RuntimeError: no thread is to be had for the timer.
        """
        ...

    def look_within(self, seconds: float) -> None:
        """Look within so many seconds whether anything is due."""
        ...

    def moved(self, clock: Clock, timer: Timer, shift: float) -> Times:
        """Return the same on another clock and its timer, ahead by so much; before ``open()``."""
        ...


class Calendar:
    """The times of jobs in memory.

    Args:
        timer: what calls.
        promote: called with a job when it is due.
        expire: called with a job when it is too late for it.
        alarm: what rings for the store; None where that has nothing to do in time.
    """

    def __init__(
        self,
        timer: Timer,
        promote: Callable[[JobRecord], None],
        expire: Callable[[JobRecord], None],
        alarm: Alarm | None = None,
    ) -> None:
        self._timer = timer
        self._alarm = alarm
        self._promote = promote
        self._expire = expire
        self._early: list[tuple[float, Callable[[Any], None], JobRecord]] | None = []
        self._lock = threading.RLock()  # guards _early: what waits for open()

    def note(self, record: JobRecord) -> None:
        """Have a job called when it is due, and when it expires; see ``Times``."""
        if record.expires_at is not None:
            self._at(record.expires_at, self._expire, record)
        if record.due is not None:
            self._at(record.due, self._promote, record)

    def forget(self, record: JobRecord) -> None:
        """Do not call a job any more."""
        entries, record.entries = record.entries, ()
        for entry in entries:
            self._timer.cancel(entry)

    def open(self) -> None:
        """Begin, with the jobs that wait already; see ``Times``."""
        with self._lock:
            early, self._early = self._early or [], None
        for due, callback, record in early:
            if record.state in UNFINISHED:
                self._at(due, callback, record)
        if self._alarm is not None:
            self._alarm.open()

    def look_within(self, seconds: float) -> None:
        """Have the store look within so many seconds."""
        if self._alarm is not None:
            self._alarm.look_within(seconds)

    def moved(self, clock: Clock, timer: Timer, shift: float) -> Calendar:
        """Return the same on another clock and its timer, ahead by so much."""
        alarm = None if self._alarm is None else self._alarm.moved(clock, timer, shift)
        twin = Calendar(timer, self._promote, self._expire, alarm)
        twin._early = [(due + shift, callback, record) for due, callback, record in self._early or ()]
        return twin

    def _at(self, due: float, callback: Callable[[Any], None], record: JobRecord) -> None:
        with self._lock:
            if self._early is not None:
                self._early.append((due, callback, record))
                return
        record.entries += (self._timer.at(due, callback, record),)


class Alarm:
    """The times of jobs whose store keeps them: one entry, for the first of them.

    Args:
        clock: where time comes from.
        timer: what rings.
        tend: does what is due, and returns the moment at which to ring again.
    """

    def __init__(self, clock: Clock, timer: Timer, tend: Callable[[], float]) -> None:
        self._clock = clock
        self._timer = timer
        self._tend = tend
        # Guards the two below. Nothing is called under it: a finalizer may strike inside the timer, and want it.
        self._lock = threading.RLock()
        self._is_open = False
        self._entry: Entry | None = None

    def note(self, record: JobRecord) -> None:
        """Ring for a job as well; see ``Times``."""
        for moment in (record.expires_at, record.due):
            if moment is not None:
                self._set(moment)

    def forget(self, record: JobRecord) -> None:
        """Do nothing: to ring once for nothing does no harm."""

    def open(self) -> None:
        """Begin, by looking at once; see ``Times``."""
        with self._lock:
            self._is_open = True
        self._set(self._clock.monotonic())

    def look_within(self, seconds: float) -> None:
        """Ring within so many seconds."""
        self._set(self._clock.monotonic() + seconds)

    def moved(self, clock: Clock, timer: Timer, shift: float) -> Alarm:  # noqa: ARG002 - the store's times are its own
        """Return the same on another clock and its timer."""
        return Alarm(clock, timer, self._tend)

    def _set(self, moment: float) -> None:
        """Ring at a moment, unless it rings before that."""
        with self._lock:
            if not self._is_open or (self._entry is not None and self._entry[0] <= moment):
                return
        spare: Entry | None = (entry := self._timer.at(moment, self._ring))
        with self._lock:
            # It may have rung by now, and then has no callback any more.
            if entry[2] is not None and (self._entry is None or moment < self._entry[0]):
                spare, self._entry = self._entry, entry
        self._drop(spare)

    def _ring(self, _: object) -> None:
        with self._lock:
            entry, self._entry = self._entry, None
        self._drop(entry)  # where it is another one than this, which an interrupt kept from being noted
        moment = self._tend()
        if moment < math.inf:
            with contextlib.suppress(RuntimeError):  # no thread is to be had: the process is ending
                self._set(moment)

    def _drop(self, entry: Entry | None) -> None:
        if entry is not None:
            self._timer.cancel(entry)
