"""``Crew``: so many threads that do the same work, kept at that number whatever happens to them."""

from __future__ import annotations

import functools
import itertools
import logging
import threading
from collections.abc import Callable

from threadkit._clock import Clock

_LONG = 1.0  # seconds after which a worker that was hit by an error is well again

_logger = logging.getLogger("threadkit")


class Crew:
    """Threads that come and go with the number that is wanted.

    Args:
        clock: where threads come from.
        name: its threads are called ``name_0``, ``name_1`` and so on.
        work: ``work(is_surplus)``, called in each thread; it returns when it is to end, which it is when
            ``is_surplus()`` has said so. What it raises is logged, and it is called again: the crew stays as large.
        on_empty: called by a thread that leaves none behind it.
    """

    def __init__(
        self, clock: Clock, name: str, work: Callable[[Callable[[], bool]], None], on_empty: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._name = name
        self._work = work
        self._on_empty = on_empty
        self.shrinks = False  # whether there are more threads than are wanted; workers look at it before they ask
        self._lock = threading.Lock()  # guards all this; threads are made under it, one after the other
        self._wanted = 0
        self._threads: dict[int, threading.Thread | None] = {}  # by number; None until the thread has begun

    def __len__(self) -> int:
        """Return how many threads there are."""
        return len(self._threads)

    def resize(self, size: int) -> None:
        """Change the number of threads. Those that are too many end when they ask; see ``is_surplus()``.

        Raises:
            RuntimeError: the system or the interpreter gives no more threads; there are as many as it gave.
        """
        with self._lock:
            self._wanted = size
            self.shrinks = len(self._threads) > size
            free = (number for number in itertools.count() if number not in self._threads)
            while len(self._threads) < size:
                number = next(free)
                self._threads[number] = None
                try:
                    self._clock.spawn(functools.partial(self._run, number), f"{self._name}_{number}")
                except RuntimeError:  # not Ctrl-C, which strikes while the new thread is awaited: that one lives
                    del self._threads[number]
                    raise

    def threads(self) -> list[threading.Thread]:
        """Return the threads that are alive."""
        return [thread for thread in self._threads.copy().values() if thread is not None]

    def _run(self, number: int) -> None:
        with self._lock:
            self._threads[number] = threading.current_thread()
        is_surplus = functools.partial(self._is_surplus, number)
        blows = 0
        while True:
            began = self._clock.monotonic()
            try:
                self._work(is_surplus)
                break
            except BaseException:
                _logger.exception("worker %s_%d was hit by an error and goes on", self._name, number)
            blows = 0 if self._clock.monotonic() - began > _LONG else blows + 1
            if blows > 1:  # one is an accident; two are likely to be followed by more, which must not fill the log
                self._clock.park(self._clock.gate(), self._clock.monotonic() + _LONG)
        with self._lock:
            self._threads.pop(number, None)
            is_empty = not self._threads
        if is_empty:
            self._on_empty()

    def _is_surplus(self, number: int) -> bool:
        """Tell a thread whether it is one too many; if so it has left."""
        with self._lock:
            if self.shrinks:
                del self._threads[number]
                self.shrinks = len(self._threads) > self._wanted
                return True
            return False
