"""``Doorbell``: how another process wakes this one, at once and without polling.

Each process that has a job file open has a named pipe beside it, and a thread that reads from it. Who has news for the
others writes a byte into their pipes. A pipe that is full is one that has rung already. What is missed, since a file
system knows no pipes or a process is being killed, is found by the slow look that every process takes anyway.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable

from threadkit._clock import SYSTEM_CLOCK


class Doorbell:
    """A bell that other processes ring.

    Args:
        path: where its pipe is made; what another process of that name may have left there is removed.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._is_closed = False
        self._is_served = False
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        os.mkfifo(path, 0o600)
        self._inside = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        # With an end of our own, reading waits while nobody else has the pipe open.
        self._outside = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        os.set_blocking(self._inside, True)

    def listen(self, name: str, answer: Callable[[], None]) -> None:
        """Have ``answer()`` called in a thread of its own whenever the bell has been rung.

        The thread is of the system's clock: what it waits for is outside, where no virtual clock has a say.

        Raises:
            RuntimeError: the system or the interpreter gives no thread.
        """

        def serve() -> None:
            while os.read(self._inside, 4096) and not self._is_closed:
                answer()
            self._dispose()

        SYSTEM_CLOCK.spawn(serve, name)
        self._is_served = True

    def close(self) -> None:
        """Take the bell away."""
        self._is_closed = True
        with contextlib.suppress(OSError):
            os.unlink(self.path)
        if not self._is_served:
            self._dispose()
        else:
            with contextlib.suppress(BlockingIOError):  # it is full: the thread wakes anyway
                os.write(self._outside, b"!")

    def _dispose(self) -> None:
        os.close(self._inside)
        os.close(self._outside)


def ring(path: str) -> None:
    """Ring the bell of another process, if somebody is there to hear it."""
    with contextlib.suppress(OSError):  # nobody is, or it has rung so often that its pipe is full
        pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if stat.S_ISFIFO(os.fstat(pipe).st_mode):
                os.write(pipe, b"!")
        finally:
            os.close(pipe)
