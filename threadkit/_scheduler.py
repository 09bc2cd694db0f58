"""``Scheduler``: one thread that knows what is due when, and a few that do it.

All interval tasks of a lifecycle share one. The thread of the heap runs no task, it only puts what is due into a line;
so a slow task delays nobody, and any number of idle tasks cost one parked thread.

At most one thread is *summoned* to the line at a time. Once it has come and taken something, it summons the next if
more is left, and then works through the line itself. While it blocks, the next one takes over; while it does not, that
one waits for the interpreter, and a thousand short tasks are done by one or two threads instead of thirty-two. Nothing
is left lying: who adds to the line then looks whether somebody is to come; who comes says so, then looks at the line.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from threadkit._clock import Clock
from threadkit._observe import Observers, logger
from threadkit._pool import ThreadPool
from threadkit._timer import Entry, Timer
from threadkit.events import Event, PoolSaturated

MAX_THREADS = 32
"""How many runs there may be at once, of all tasks of a scheduler that have no executor of their own."""

_IDLE_TIMEOUT = 30.0
_RETRY_DELAY = 1.0

Call = Callable[[], object]


class Scheduler:
    """Calls functions at given moments, on a pool of up to 32 threads; idle threads end.

    Args:
        clock: the clock whose ``monotonic()`` the moments are of.
        name: what its events go by.
        emit: called with an event when all threads are busy; None logs it.
    """

    __slots__ = ("_clock", "_emit", "_line", "_name", "_pool", "_stopped", "_summoned", "_timer")

    def __init__(self, clock: Clock, name: str = "scheduler", emit: Callable[[Event], object] | None = None) -> None:
        self._clock = clock
        self._name = name
        self._emit = emit or Observers().emit
        self._stopped = False  # written once, by stop()
        self._line: deque[Call] = deque()  # append and popleft are atomic
        self._summoned = (
            threading.Lock()
        )  # a flag that can be tested and set in one step: locked while somebody is to come
        self._timer = Timer(clock, "threadkit-scheduler", lingers=True)
        self._pool: ThreadPool[Callable[[], object]] = ThreadPool(
            clock, "threadkit-task", MAX_THREADS, idle_timeout=_IDLE_TIMEOUT, on_saturated=self._tell_saturation
        )

    def schedule(self, due: float, call: Call) -> Entry:
        """Have ``call()`` run on the pool when the clock's ``monotonic()`` reaches ``due``.

        Returns:
            the entry, for ``cancel()``.

        Raises:
            RuntimeError: the system or the interpreter gives no thread.
        """
        return self._timer.at(due, self.run, call)

    def cancel(self, entry: Entry) -> bool:
        """Take an entry back; return False where it has been handed to the pool, or was cancelled before."""
        return self._timer.cancel(entry)

    def run(self, call: Call) -> None:
        """Have ``call()`` run on the pool as soon as a thread is free. After ``stop()`` it may be dropped."""
        self._line.append(call)
        self._summon()

    def stop(self) -> None:
        """Forget what is due; the threads end after what has been handed to them. Returns at once."""
        self._stopped = True
        self._timer.close()
        self._pool.close()

    def join(self, deadline: float | None) -> bool:
        """Wait until all threads have ended; return False where the deadline came first."""
        return self._timer.join(deadline) and self._pool.join(deadline)

    def threads(self) -> list[threading.Thread]:
        """Return the threads that are alive."""
        timer = self._timer.thread()
        return self._pool.threads() if timer is None else [timer, *self._pool.threads()]

    def _summon(self, _: object = None) -> None:
        """Have a thread come to the line, unless one is to come already."""
        if not self._summoned.acquire(blocking=False):
            return
        try:
            self._pool.put(self._serve)
        except RuntimeError as error:
            self._summoned.release()
            if not self._stopped:
                # No thread is to be had. A task that is not looked after once would never be due again, so:
                logger.warning("%s: %s; trying again in %g s", self._name, error, _RETRY_DELAY)
                self._timer.at(self._clock.monotonic() + _RETRY_DELAY, self._summon)

    def _serve(self) -> None:
        self._summoned.release()
        is_first = True
        while True:
            try:
                call = self._line.popleft()
            except IndexError:  # it is done, by this thread or by others
                return
            if is_first and self._line:
                self._summon()
            is_first = False
            call()

    def _tell_saturation(self) -> None:
        self._emit(PoolSaturated(component=self._name, threads=MAX_THREADS))
