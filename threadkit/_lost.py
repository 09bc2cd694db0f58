"""``LostWatch``: notices the calls that an engine has been at for too long."""

from __future__ import annotations

import functools
import logging
import math
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from threadkit._agenda import Entry
from threadkit._clock import Clock
from threadkit._timer import Timer

_logger = logging.getLogger("threadkit")


class LostWatch:
    """Watches over the calls of one engine.

    An engine says when it has ended a call, and not reliably when it has begun one. But it begins them in their order:
    the first of those that it has, as many as it has workers, are the ones that it is at. Their time runs, and that of
    the next begins when one of these has ended. So a call is never taken for lost because it waits in a long line.

    Args:
        clock: what the time is measured with.
        timer: where it runs.
        lost_after: seconds that a call may take.
        workers: how many calls the engine is at, at once; ``inf`` where it does not say, and all of them count.
    """

    def __init__(self, clock: Clock, timer: Timer, lost_after: float, workers: float) -> None:
        self._clock = clock
        self._timer = timer
        self._lost_after = lost_after
        # Guards the three below. Nothing is called under it. Reentrant for finalizers.
        self._lock = threading.RLock()
        self._workers = workers
        self._waiting: dict[Future[Any], Callable[[], object]] = {}  # in the order of submit()
        self._begun: set[Future[Any]] = set()

    def add(self, future: Future[Any], lose: Callable[[], object]) -> None:
        """Have ``lose()`` called, in the timer's thread, unless a call that the engine was just given ends in time."""
        with self._lock:
            self._waiting[future] = lose
        self._begin()
        future.add_done_callback(self._leave)

    def retire(self) -> None:
        """The engine is given no more calls, and may never come to those that wait: let the time of all of them run."""
        with self._lock:
            self._workers = math.inf
        self._begin()

    def _begin(self) -> None:
        """Let the time of those run that the engine has come to."""
        begun: list[tuple[Future[Any], Callable[[], object]]] = []
        with self._lock:
            while self._waiting and len(self._begun) < self._workers:
                future = next(iter(self._waiting))
                begun.append((future, self._waiting.pop(future)))
                self._begun.add(future)
        due = self._clock.monotonic() + self._lost_after
        for future, lose in begun:
            try:
                entry = self._timer.at(due, functools.partial(self._expire, future, lose))
            except RuntimeError:  # the engine has the call already, so it must not look like one that was refused
                _logger.exception("no thread to be had for lost_after: a call is not watched over")
            else:
                future.add_done_callback(functools.partial(self._cancel, entry))

    def _expire(self, future: Future[Any], lose: Callable[[], object], _: object) -> None:
        lose()
        self._leave(future)  # whoever is next may be begun by another worker, or never

    def _cancel(self, entry: Entry, _: object) -> None:
        self._timer.cancel(entry)

    def _leave(self, future: Future[Any]) -> None:
        with self._lock:
            self._waiting.pop(future, None)
            self._begun.discard(future)
        self._begin()
