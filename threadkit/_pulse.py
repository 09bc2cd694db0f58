"""Signs of life of a body, and what notices when they fail to come.

A sign of life is a beat, which is one float store, or a wait on the token, for as long as it lasts. The watch costs
nothing while nothing happens: it is one entry in a timer that all watches of a clock share, due when the last beat that
was seen is as old as the limit. When that moment comes it looks: beats that have come since move the entry; a body that
rests in a wait has it taken away, and arms it anew when it wakes up. So there is no polling, and no work for each beat.

Two rules lose nothing, and need no lock. Whoever wakes from a rest leaves it first and looks then whether the watch is
armed; the watch disarms itself first and looks then whether the body rests. Whoever reports a silence does so first,
then says that there is an alarm, and then looks whether a beat has come meanwhile; who beats looks for the alarm
afterwards. Where both see the other, one of them takes the flag.
"""

from __future__ import annotations

import logging
import threading
from typing import Any, Literal, Protocol

from threadkit._agenda import Entry
from threadkit._clock import Clock
from threadkit._errors import ThreadkitError
from threadkit._override import override
from threadkit._timer import shared_timer

_logger = logging.getLogger("threadkit")

OnWedged = Literal["log", "dump", "replace", "stop"]


class Unresponsive(ThreadkitError, TimeoutError):
    """A managed thread gave no sign of life for longer than its ``heartbeat`` allows.

    Args:
        name: the thread's name.
        limit: its ``heartbeat``, in seconds.

    Example:
        >>> print(Unresponsive("feed", 10.0))
        thread 'feed' gave no sign of life for 10 s; let it wait on its token or call token.beat() more often
    """

    def __init__(self, name: str, limit: float) -> None:
        super().__init__()
        self.args: tuple[Any, ...] = (name, limit)  # two arguments would make OSError take them for errno and strerror
        self.name = name
        self.limit = limit

    @override
    def __str__(self) -> str:
        return (
            f"thread {self.name!r} gave no sign of life for {self.limit:g} s; "
            "let it wait on its token or call token.beat() more often"
        )


class Pulse:
    """The signs of life of one call of a body."""

    __slots__ = ("_clock", "_resting", "last_beat")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._resting: set[int] = set()  # the threads that wait on the token; adding and discarding an int are atomic
        self.last_beat: float = clock.monotonic()  # one float store, atomic; whoever comes last is right

    def begin(self) -> None:
        """The call begins."""
        self.last_beat = self._clock.monotonic()

    def end(self) -> None:
        """The call is over, or given up."""

    def beat(self) -> None:
        """Give a sign of life."""
        self.last_beat = self._clock.monotonic()

    def rest(self) -> None:
        """This thread begins to wait on the token."""
        self._resting.add(threading.get_ident())

    def wake(self) -> None:
        """It has stopped waiting."""
        self._resting.discard(threading.get_ident())
        self.beat()

    def silence(self) -> float:
        """Return for how many seconds there has been no sign of life."""
        return 0.0 if self._resting else self._clock.monotonic() - self.last_beat


class Patient(Protocol):
    """What a watch watches over."""

    name: str

    def is_stopping(self) -> bool:
        """Return True where it has been told to stop: whoever did that waits for it, and reports."""
        ...

    def on_silence(self, watch: Watch, seconds: float) -> None:
        """It is silent. Called on a thread of its own, named after the patient, which it may keep."""
        ...

    def on_recovery(self, seconds: float) -> None:
        """It has given a sign of life again."""
        ...


class Watch(Pulse):
    """A pulse that is watched: it tells its patient when no sign of life has come for ``limit`` seconds."""

    __slots__ = ("_alarm", "_armed", "_entry", "_limit", "_over", "_patient", "_timer")

    def __init__(self, clock: Clock, limit: float, patient: Patient) -> None:
        super().__init__(clock)
        self._limit = limit
        self._patient = patient
        self._timer = shared_timer(clock)
        self._armed = threading.Lock()  # a flag that is tested and set in one step: locked while there is an entry
        self._entry: Entry | None = None
        self._alarm: list[float] = []  # the last beat before the silence that was reported; who pops it has recovered
        self._over = False  # written once

    @override
    def begin(self) -> None:
        super().begin()
        self._arm()

    @override
    def end(self) -> None:
        self._over = True
        entry = self._entry
        if entry is not None:
            self._timer.cancel(entry)

    @override
    def beat(self) -> None:
        super().beat()
        if self._alarm:
            self._recover()

    @override
    def rest(self) -> None:
        super().rest()
        if self._alarm:
            self._recover()

    @override
    def wake(self) -> None:
        super().wake()
        if not self._armed.locked():
            self._arm()

    def _arm(self) -> None:
        if self._over or self._patient.is_stopping() or not self._armed.acquire(blocking=False):
            return
        try:
            entry = self._entry = self._timer.at(self.last_beat + self._limit, self._look)
        except RuntimeError as error:  # no thread is to be had; whoever wakes next tries again
            self._armed.release()
            _logger.warning("nobody watches over thread %r: %s", self._patient.name, error)
            return
        if self._over:  # end() may have found no entry
            self._timer.cancel(entry)

    def _look(self, _: object) -> None:
        """See whether the silence is as long as the limit; called by the timer."""
        self._armed.release()
        if self._over or self._resting:
            return
        last_beat = self.last_beat
        if self._clock.monotonic() < last_beat + self._limit:
            self._arm()
            return
        # Observers are told, and these are user code: not on the thread of the timer, which everybody shares.
        try:
            self._clock.spawn(lambda: self._report(last_beat), self._patient.name)
        except RuntimeError as error:
            _logger.warning("thread %r is wedged, and nothing is done about it: %s", self._patient.name, error)
            self._alarm.append(last_beat)

    def _report(self, last_beat: float) -> None:
        self._patient.on_silence(self, self._clock.monotonic() - last_beat)
        if self._over:
            return
        self._alarm.append(last_beat)
        if self.last_beat != last_beat or self._resting:
            self._recover()

    def _recover(self) -> None:
        try:
            since = self._alarm.pop()
        except IndexError:  # another thread was quicker
            return
        self._patient.on_recovery(self._clock.monotonic() - since)
        self._arm()
