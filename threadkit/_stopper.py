"""The stopper: one parked daemon thread for the whole process, which runs ``on_stop`` callbacks.

It exists before it is needed, because a token may be set where no thread can be made: in a signal handler, in a
finalizer, at interpreter exit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from threadkit import _fork
from threadkit._clock import SYSTEM_CLOCK
from threadkit._waiting import Bell, Channel


class _Stopper:
    """A leader and its followers.

    Before the leader runs a callback, which may hang, it sees to it that another thread waits for the next. So a
    callback that hangs costs a thread and delays nobody. At interpreter exit no thread can be made; then the leader
    runs one callback after the other.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _started; nothing is called under it but the making of the thread
        self._started = False
        self._inbox: Channel[Callable[[], None]] = Channel(SYSTEM_CLOCK)
        self._spares = Bell(SYSTEM_CLOCK)

    def ensure_started(self) -> None:
        """Make the thread, unless it was made before or cannot be made any more."""
        if self._started:
            return
        with self._lock:
            if not self._started:  # another thread may have been here since
                self._started = self._spawn()

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
            handed_over = self._spares.ring() or self._spawn()
            callback()
            del callback  # an idle thread must keep nothing alive
            if handed_over:
                if self._spares.idle():
                    return  # one spare is enough; two at once, after a race, do no harm
                self._spares.wait(lambda: False)


def ensure_stopper() -> None:
    """Make the stopper thread exist; called by every ``start()`` and ``on_stop()``."""
    _stopper.ensure_started()


def run_soon(callback: Callable[[], None]) -> None:
    """Have ``callback()`` run on the stopper thread; it must not raise. Lock-free."""
    _stopper.run_soon(callback)


def _forget_parent() -> None:
    # In a forked child the parent's stopper thread does not exist, and its lock may be held for ever.
    global _stopper
    _stopper = _Stopper()


_stopper = _Stopper()
_fork.after_fork(_forget_parent)
