"""``Clerk``: one thread for what a timer comes upon and must not do itself, since others are due.

That is user code, such as hooks and backoffs, and whatever may wait for a disk. What blocks the clerk keeps others from
being told, and nobody from running.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from threadkit._clock import Clock
from threadkit._pool import ThreadPool
from threadkit.events import Event


class Clerk:
    """Does what it is given, one after the other, in a thread that is there as long as there is something to do.

    Args:
        clock: where the thread comes from.
        name: the thread is called ``name_0``.
        emit: tells of an event.
        on_end: called by the thread before it ends, after ``close()``.
    """

    def __init__(self, clock: Clock, name: str, emit: Callable[[Event], object], on_end: Callable[[], object]) -> None:
        self._clock = clock
        self._emit = emit
        self._pool: ThreadPool[Callable[[], object]] = ThreadPool(clock, name, 1, idle_timeout=0.0, on_end=on_end)
        self.threads: Callable[[], list[threading.Thread]] = self._pool.threads

    def do(self, errand: Callable[[], object]) -> None:
        """Have something done."""
        try:
            self._pool.put(errand)
        except RuntimeError:  # no thread is to be had: better here than never
            errand()

    def tell(self, event: Event) -> None:
        """Have an event told."""
        self.do(partial(self._emit, event))

    def close(self) -> bool:
        """Take nothing more, and end the thread after what it was given; return whether there is none any more."""
        self._pool.close()
        return self._pool.join(self._clock.monotonic())
