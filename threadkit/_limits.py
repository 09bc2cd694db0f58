"""What may keep a job from running although a worker is free: concurrency, serial order, rate.

A job that may not run now is *held* by the limit that stopped it. It keeps no worker and stands in nobody's way. When a
place comes free it is *handed over* to the best of those that are held, so that nobody can come in between.

A job passes its handler's limits one after the other; ``record.passed`` counts them. Who holds a job, or has it in
hand, is its owner and the only one to write that.
"""

from __future__ import annotations

import heapq
import re
import threading
from collections.abc import Callable
from typing import Any, Protocol, cast

from threadkit import _arguments
from threadkit._clock import Clock
from threadkit._records import JobRecord

_Held = list[tuple[int, int, JobRecord]]  # a heap: the highest priority first, then by turn


class Limit(Protocol):
    """One thing that may stop a job."""

    def enter(self, record: JobRecord) -> bool:
        """Let the job pass, or hold it."""
        ...

    def leave(self, record: JobRecord) -> JobRecord | None:
        """Take the place back of a job that passed, and return one that was held and has it now."""
        ...

    def discard(self, record: JobRecord) -> bool:
        """Forget a job; return False where it is not held here."""
        ...


class Concurrency:
    """At most so many at once.

    Args:
        limit: how many.
    """

    def __init__(self, limit: int) -> None:
        self._lock = threading.Lock()  # guards the two below
        self._free = limit
        self._held: _Held = []

    def enter(self, record: JobRecord) -> bool:
        """Let the job pass, or hold it."""
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            _hold(self._held, record)
            return False

    def leave(self, record: JobRecord) -> JobRecord | None:  # noqa: ARG002 - one place is as good as another
        """Give the place to the next one."""
        with self._lock:
            successor = _best(self._held)
            self._free += successor is None
            return successor

    def discard(self, record: JobRecord) -> bool:
        """Forget a job."""
        with self._lock:
            return _drop(self._held, record)


class Serial:
    """One at a time for each value of ``record.serial``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the one below
        self._busy: dict[Any, _Held] = {}

    def enter(self, record: JobRecord) -> bool:
        """Let the job pass, or hold it."""
        with self._lock:
            held = self._busy.get(record.serial)
            if held is None:
                self._busy[record.serial] = []
                return True
            _hold(held, record)
            return False

    def leave(self, record: JobRecord) -> JobRecord | None:
        """Give the place to the next one of the same value."""
        with self._lock:
            successor = _best(self._busy[record.serial])
            if successor is None:
                del self._busy[record.serial]
            return successor

    def discard(self, record: JobRecord) -> bool:
        """Forget a job."""
        with self._lock:
            held = self._busy.get(record.serial)
            return held is not None and _drop(held, record)


class Rate:
    """A bucket of tokens: it holds ``count``, is full at first and gets a new one every ``seconds / count``.

    Args:
        clock: where time comes from.
        count: how many may begin at once.
        seconds: how long it takes to fill the empty bucket.
        wake: ``wake(due, callback)`` has ``callback(None)`` called at a moment of the clock.
        release: called with a job that was held and may pass now.
    """

    def __init__(
        self,
        clock: Clock,
        count: int,
        seconds: float,
        wake: Callable[[float, Callable[[object], None]], None],
        release: Callable[[JobRecord], None],
    ) -> None:
        self._clock = clock
        self._count = count
        self._every = seconds / count
        self._wake = wake
        self._release = release
        self._lock = threading.Lock()  # guards the three below
        # The moment at which the bucket would be full again. Moments add up where amounts would be rounded away.
        self._full_at = clock.monotonic()
        self._held: _Held = []
        self._waking = False

    def enter(self, record: JobRecord) -> bool:
        """Let the job pass, or hold it."""
        with self._lock:
            if not self._held and self._take():
                return True
            _hold(self._held, record)
            due = self._due()
        self._sleep(due)
        return False

    def leave(self, record: JobRecord) -> None:
        """Do nothing: a token that was used is gone."""

    def discard(self, record: JobRecord) -> bool:
        """Forget a job."""
        with self._lock:
            return _drop(self._held, record)

    def _take(self) -> bool:
        now = self._clock.monotonic()
        full_at = max(self._full_at, now) + self._every
        if full_at > now + self._every * self._count * (1 + 1e-9):  # floats: a tick that is due is due
            return False
        self._full_at = full_at
        return True

    def _due(self) -> float | None:
        """Return when to look again, if nobody has been told. The lock MUST be held."""
        if self._waking or not self._held:
            return None
        self._waking = True
        return self._full_at - self._every * (self._count - 1)

    def _sleep(self, due: float | None) -> None:
        if due is not None:
            self._wake(due, self._tick)

    def _tick(self, _: object) -> None:
        released: list[JobRecord] = []
        with self._lock:
            self._waking = False
            while self._held and self._take():
                released.append(heapq.heappop(self._held)[2])
            due = self._due()
        for record in released:
            self._release(record)
        self._sleep(due)


class Limits:
    """All limits of one handler, in the order in which a job passes them.

    Args:
        limits: at least one.
    """

    def __init__(self, limits: tuple[Limit, ...]) -> None:
        self._limits = limits

    def admit(self, record: JobRecord) -> bool:
        """Let the job pass what it has not passed yet; False: it is held, and belongs to somebody else from now on."""
        while record.passed < len(self._limits):
            if not self._limits[record.passed].enter(record):
                return False
            record.passed += 1
        return True

    def release(self, record: JobRecord) -> list[JobRecord]:
        """Take back all places of a job; return the jobs that have them now and should go on."""
        passed, record.passed = record.passed, 0
        successors: list[JobRecord] = []
        for limit in self._limits[:passed]:
            successor = limit.leave(record)
            if successor is not None:
                successor.passed += 1
                successors.append(successor)
        return successors

    def discard(self, record: JobRecord) -> bool:
        """Forget a job that is held; return False where it is not."""
        return any(limit.discard(record) for limit in self._limits)


def parse_rate(rate: object) -> tuple[int, float]:
    """Return a rate as a count and seconds: ``"10/s"``, ``"100/m"``, ``"5/h"`` or ``(10, 2.5)``.

    Raises:
        TypeError: it is neither text nor a pair of numbers.
        ValueError: it makes no sense.
    """
    if isinstance(rate, str):
        match = re.fullmatch(r"\s*(\d+)\s*/\s*([smhd])\s*", rate)
        if match is None:
            raise ValueError(f'rate must look like "10/s", "100/m", "5/h" or "1/d", not {rate!r}')
        rate = (int(match[1]), {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]])
    if not isinstance(rate, tuple) or len(cast("tuple[object, ...]", rate)) != 2:  # noqa: PLR2004 - a pair
        raise TypeError(f'rate must be text such as "10/s", or a pair (count, seconds), not {rate!r}')
    count, seconds = cast("tuple[int, float]", rate)  # which is what these two look at
    return _arguments.count(count, "rate"), _arguments.seconds(seconds, "rate", above_zero=True)


def _hold(held: _Held, record: JobRecord) -> None:
    heapq.heappush(held, (-record.priority, record.turn, record))


def _best(held: _Held) -> JobRecord | None:
    """Take the best out. It may have been cancelled this very moment; the worker that gets it will see."""
    return heapq.heappop(held)[2] if held else None


def _drop(held: _Held, record: JobRecord) -> bool:
    for index, (_, _, other) in enumerate(held):
        if other is record:
            del held[index]
            heapq.heapify(held)
            return True
    return False
