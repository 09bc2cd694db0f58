"""The stoppers: a few parked daemon threads for the whole process, which run ``on_stop`` callbacks.

They exist before they are needed, because a token may be set where no thread can be made: in a signal handler, in a
finalizer, at interpreter exit. threadkit's own callbacks have a stopper of their own, so that tasks and queues hear of
a stop however many of the users' callbacks hang.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from threadkit import _fork
from threadkit._clock import SYSTEM_CLOCK
from threadkit._waiting import Channel


class _Stopper:
    """Threads that wait for callbacks.

    Whoever is about to run a callback, which may hang, sees to it that another thread waits for the next. So a callback
    that hangs costs a thread and delays nobody. At interpreter exit no thread can be made; then as many may hang as
    there are spares, and the last thread runs one callback after the other.

    Args:
        threads: how many wait where there is nothing to do.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._lock = threading.Lock()  # guards _started; nothing is called under it but the making of the threads
        self._started = False
        self._inbox: Channel[Callable[[], None]] = Channel(SYSTEM_CLOCK)

    def ensure_started(self) -> None:
        """Make the threads, unless they were made before or cannot be made any more."""
        if self._started:
            return
        with self._lock:
            if not self._started:  # another thread may have been here since
                spawned = [self._spawn() for _ in range(self._threads)]
                self._started = any(spawned)

    def run_soon(self, callback: Callable[[], None]) -> None:
        """Have a callback run. Lock-free: callable from a signal handler or a finalizer."""
        self._inbox.put(callback)

    def _spawn(self) -> bool:
        try:
            SYSTEM_CLOCK.spawn(self._serve, "threadkit-stopper")
        except RuntimeError:  # no more threads: late in the interpreter's life, or the system's limit
            return False
        return True

    def _serve(self) -> None:
        while True:
            callback = self._inbox.get()
            if not self._inbox.idle():
                self._spawn()
            callback()
            del callback  # an idle thread must keep nothing alive
            if self._inbox.idle() >= self._threads:
                return  # enough are waiting; one more, after a race, does no harm


def ensure_stopper() -> None:
    """Make the stoppers' threads exist; called by every ``start()`` and ``on_stop()``."""
    _stopper.ensure_started()
    _own.ensure_started()


def run_soon(callback: Callable[[], None]) -> None:
    """Have ``callback()`` of a user's run on a stopper thread; it must not raise. Lock-free."""
    _stopper.run_soon(callback)


def run_own_soon(callback: Callable[[], None]) -> None:
    """Have ``callback()`` of threadkit's own run on another one, where no user's can be before it. Lock-free."""
    _own.run_soon(callback)


def _forget_parent() -> None:
    # In a forked child the parent's stopper threads do not exist, and their locks may be held for ever.
    global _stopper, _own
    _stopper, _own = _Stopper(threads=2), _Stopper(threads=1)


_stopper, _own = _Stopper(threads=2), _Stopper(threads=1)
_fork.after_fork(_forget_parent)
