"""``Crew``: so many threads that do the same work, kept at that number whatever happens to them."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import math
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
        on_return: called by an abandoned thread that has ended at last.
        most_abandoned: how many abandoned threads are replaced.
    """

    def __init__(
        self,
        clock: Clock,
        name: str,
        work: Callable[[Callable[[], bool]], None],
        on_empty: Callable[[], None],
        on_return: Callable[[], object] = bool,
        most_abandoned: float = math.inf,
    ) -> None:
        self._clock = clock
        self._name = name
        self._work = work
        self._on_empty = on_empty
        self._on_return = on_return
        self._most_abandoned = most_abandoned
        self.shrinks = False  # whether there are more threads than are wanted; workers look at it before they ask
        self._lock = threading.Lock()  # guards all this; threads are made under it, one after the other
        self._wanted = 0
        self._threads: dict[int, threading.Thread | None] = {}  # by number; None until the thread has begun
        self._abandoned: dict[threading.Thread, int] = {}  # those that go on, and are not counted; their numbers
        self.is_short = False  # whether some of them are not replaced, as they are too many

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
            self._adjust()

    def abandon(self, thread: threading.Thread) -> None:
        """Count a thread no more that goes on with something else than its work, and have another in its place.

        Raises:
            RuntimeError: the system or the interpreter gives no more threads; ``refill()`` tries again.
        """
        with self._lock:
            number = next(number for number, each in self._threads.items() if each is thread)
            del self._threads[number]
            self._abandoned[thread] = number
            self._adjust()

    def refill(self) -> None:
        """Have as many threads as there should be.

        Raises:
            RuntimeError: the system or the interpreter gives no more threads.
        """
        with self._lock:
            self._adjust()

    def is_empty(self) -> bool:
        """Return whether there is no thread, not even an abandoned one."""
        with self._lock:
            return not (self._threads or self._abandoned)

    def abandoned(self) -> int:
        """Return how many abandoned threads go on."""
        return len(self._abandoned)

    def threads(self) -> list[threading.Thread]:
        """Return the threads that are alive, the abandoned ones too."""
        threads = [*self._threads.copy().values(), *self._abandoned.copy()]
        return [thread for thread in threads if thread is not None]

    def _adjust(self) -> None:
        """Make the threads that are missing, and have those end that are too many. The lock MUST be held."""
        missing = max(0, len(self._abandoned) - self._most_abandoned)
        self.is_short = missing > 0
        size = max(0, self._wanted - int(missing))
        self.shrinks = len(self._threads) > size
        taken = {*self._threads, *self._abandoned.values()}  # so that no two threads have one name
        free = (number for number in itertools.count() if number not in taken)
        while len(self._threads) < size:
            number = next(free)
            self._threads[number] = None
            try:
                self._clock.spawn(functools.partial(self._run, number), f"{self._name}_{number}")
            except RuntimeError:  # not Ctrl-C, which strikes while the new thread is awaited: that one lives
                del self._threads[number]
                raise

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
        me, was_abandoned = threading.current_thread(), False
        with self._lock:
            if me in self._abandoned:
                del self._abandoned[me]
                was_abandoned = True
                with contextlib.suppress(RuntimeError):  # no thread is to be had: the next who asks may have more luck
                    self._adjust()
            elif self._threads.get(number) is me:  # else it was one too many, and the number may be another's by now
                del self._threads[number]
            is_empty = not (self._threads or self._abandoned)
        if was_abandoned:
            self._on_return()
        if is_empty:
            self._on_empty()

    def _is_surplus(self, number: int) -> bool:
        """Tell a thread whether it is one too many; if so it has left."""
        with self._lock:
            if self.shrinks:
                del self._threads[number]
                self._adjust()
                return True
            return False
