"""``Meters``: how long jobs waited and ran, measured by each worker for itself, so that no two share a lock.

Only its worker writes into a ``Meter``; others read single values, each of which is old or new but never torn. What is
read may therefore be a moment old, and is exact once nothing runs.
"""

from __future__ import annotations

import threading
from typing import Any


class Meter:
    """What one worker has measured.

    Args:
        meters: what it belongs to, until it is closed.
    """

    __slots__ = ("_meters", "attempts", "since", "waited", "worked")

    def __init__(self, meters: Meters | None = None) -> None:
        self._meters = meters
        self.attempts = 0  # that have ended
        self.waited = 0.0
        self.worked = 0.0
        self.since: float | None = None  # the moment at which the attempt began that is being made

    def add(self, waited: float, worked: float) -> None:
        """An attempt has ended. Called for every job, so it reads no clock."""
        self.attempts += 1
        self.waited += waited
        self.worked += worked
        self.since = None

    def close(self) -> None:
        """Its worker has ended."""
        if self._meters is not None:
            self._meters.retire(self)


class Meters:
    """All of a queue."""

    def __init__(self) -> None:
        # Guards both, and is taken where a worker begins and ends, and to look. Reentrant for finalizers.
        self._lock = threading.RLock()
        self._meters: dict[Meter, None] = {}
        self._past = Meter()  # what those have measured whose workers have ended

    def new(self) -> Meter:
        """Return one for a worker that begins."""
        meter = Meter(self)
        with self._lock:
            self._meters[meter] = None
        return meter

    def add(self, waited: float, worked: float) -> None:
        """An attempt has been given up; its worker still measures how long it goes on, but will not count it."""
        with self._lock:
            self._past.add(waited, worked)

    def retire(self, meter: Meter) -> None:
        """Keep what a meter has measured, and forget it."""
        with self._lock:
            if self._meters.pop(meter, meter) is None:
                past = self._past
                past.attempts += meter.attempts
                past.waited += meter.waited
                past.worked += meter.worked

    def snapshot(self, now: float) -> dict[str, Any]:
        """Return the sums, as ``QueueStats`` names them.

        Args:
            now: the present moment.
        """
        with self._lock:
            meters = [self._past, *self._meters]
            running = [now - since for meter in meters if (since := meter.since) is not None]
            return {
                "attempts": sum(meter.attempts for meter in meters),
                "waited": sum(meter.waited for meter in meters),
                "worked": sum(meter.worked for meter in meters),
                "unfinished_work": sum(running),
                "longest_running": max(running, default=0.0),
            }
