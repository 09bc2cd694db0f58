"""The operating system's signals, borrowed for a while: the first asks, the second forces.

Python runs a handler in the main thread, between two steps of its program. A signal that strikes just before that
thread goes to sleep in a lock is not seen until something else wakes it, which may be never; and on Windows a thread
that waits for a lock sees no signal at all. So a *listener*, a thread that is parked in a socket, hears of each signal
by the interpreter's wake-up descriptor and calls ``on_signal``, whatever the main thread does.

Neither the listener nor the handler takes a lock, and neither logs. The second signal raises ``Forced`` in the main
thread, so it gets out of any wait there. Where that has slept through the first, Python runs the handler once for both.
The listener hears each, so it sees that the second was not understood, and *nudges* the main thread by a signal of its
own, which counts as none.

Only the main thread can give signals back. Where another one has ended what they were taken for, that is done as soon
as the main thread comes by: when it installs or restores anything, or at the latest when a signal strikes, which is
then passed on to whom it belonged before.

A forked child inherits handlers and descriptor, and would tell the parent's listener of its own signals. So it gives
everything back at once.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Self

from threadkit import _fork
from threadkit._clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    import socket

_STOPPING = ("SIGINT", "SIGTERM", "SIGBREAK")  # the last one is Windows' Ctrl-Break


class Forced(SystemExit):
    """A second signal has come: give up waiting. It ends the process with 128 + n where nobody catches it."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.signum = signum

    @classmethod
    def behind(cls, error: BaseException) -> Self | None:
        """Return what an error came of, if that was a second signal.

        One that strikes while the standard library gives a lock back (``Condition.wait()``) comes out as the error of
        that lock.
        """
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, cls):
            cause = cause.__context__
        return cause


class SignalTrap:
    """Takes the stopping signals from ``install()`` to ``restore()``.

    A signal that this process was told to ignore (as a shell tells its background jobs about SIGINT) stays ignored.

    Args:
        on_signal: called with the number and the name of a signal, in the handler or in the listener: it MUST be
            lock-free, and bear being called twice.
    """

    def __init__(self, on_signal: Callable[[int, str], None]) -> None:
        self._on_signal = on_signal
        self._previous: dict[int, object] = {}
        self._noted: list[int] = []  # the first element is the signal that asked; append is atomic
        self._handled = 0  # signals that the handler has run for; written by the main thread alone, as the next
        self._forced = 0  # how many of them, after the first, have raised Forced
        self._heard = 0  # signals that the listener has heard of; written by the listener alone
        self._nudges: list[int] = []  # signals of the listener's that are on their way; append and pop are atomic
        self._is_released = False  # written by whoever restores; from then on the signals are others' affair
        self._main_thread = 0  # its identity, once the trap has been installed there
        self._listener: threading.Thread | None = None
        self._ends: tuple[socket.socket, socket.socket] | None = None

    @property
    def signum(self) -> int | None:
        """The number of the first signal, if one has come."""
        return self._noted[0] if self._noted else None

    @staticmethod
    def is_possible() -> bool:
        """Return True in the main thread, the only one where Python lets handlers be set."""
        return threading.current_thread() is threading.main_thread()

    def install(self) -> None:
        """Take the signals; a second call does nothing.

        Raises:
            RuntimeError: this is not the main thread.
        """
        if not self.is_possible():
            raise RuntimeError("signals can be handled from the main thread only; start there, or leave signals=False")
        for trap in [*_installed]:
            if trap._is_released:
                trap.restore()
        if self._previous:
            return
        self._is_released = False
        self._main_thread = threading.get_ident()
        for name in _STOPPING:
            signum = getattr(signal, name, None)
            if signum is not None and signal.getsignal(signum) not in {signal.SIG_IGN, None}:
                self._previous[signum] = signal.signal(signum, self._handle)
        self._listen()
        _installed[self] = None

    def restore(self) -> None:
        """Give back what was taken, where nobody else has taken it since. Another thread has the main thread do it."""
        self._is_released = True
        if not self.is_possible():
            return
        _installed.pop(self, None)
        self._hang_up()
        self._give_back()

    def __enter__(self) -> Self:
        self.install()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.restore()

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        is_nudge = _take(self._nudges)
        if self._is_released:
            if not is_nudge:
                self._pass_on(signum, frame)
            return
        self._handled += not is_nudge
        self._note(signum)
        repeats = max(self._handled, self._heard) - 1
        if repeats > self._forced:
            self._forced = repeats
            raise Forced(signum)

    def _pass_on(self, signum: int, frame: FrameType | None) -> None:
        """Give the signals back at last, and this one to whom it belonged."""
        previous = self._previous.get(signum)
        self.restore()
        if callable(previous):
            previous(signum, frame)
        elif signal.getsignal(signum) == previous:  # the system's own way, which ends the process
            signal.raise_signal(signum)

    def _note(self, signum: int) -> None:
        if self._is_released:
            return
        self._noted.append(signum)
        self._on_signal(signum, signal.Signals(signum).name)

    def _listen(self) -> None:
        import socket

        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        previous = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        if previous != -1:  # the host, an event loop say, listens already, and wakes the main thread itself
            signal.set_wakeup_fd(previous)
            ours.close()
            theirs.close()
            return
        self._ends = (ours, theirs)
        self._listener = SYSTEM_CLOCK.spawn(lambda: self._hear(ours), "threadkit-signals")

    def _hear(self, ours: socket.socket) -> None:
        echoes = 0  # of nudges, which are heard as well
        while heard := ours.recv(1):  # nothing: hung up
            signum = heard[0]
            if signum not in self._previous:
                continue  # other signals that have a handler are told here too
            if echoes:
                echoes -= 1
                continue
            self._heard += 1
            self._note(signum)
            if self._heard - 1 > self._forced and not self._is_released and sys.platform != "win32":
                echoes += 1
                self._nudges.append(signum)
                signal.pthread_kill(self._main_thread, signum)

    def _hang_up(self) -> None:
        if self._ends is None or self._listener is None:
            return
        import socket

        ours, theirs = self._ends
        self._ends = None
        _unplug(theirs)
        theirs.shutdown(socket.SHUT_RDWR)  # which ends its recv(); close() would not where a forked child has a copy
        self._listener.join()
        theirs.close()
        ours.close()

    def _give_back(self) -> None:
        while self._previous:
            signum, handler = self._previous.popitem()
            if signal.getsignal(signum) == self._handle:
                signal.signal(signum, handler)  # type: ignore[arg-type]  # what signal.signal() itself returned

    def _leave_to_parent(self) -> None:
        """In a forked child, which has no listener, close the copies of what is the parent's."""
        if self._ends is not None:
            ours, theirs = self._ends
            self._ends = None
            _unplug(theirs)
            theirs.close()
            ours.close()
        self._give_back()


def _take(nudges: list[int]) -> bool:
    try:
        nudges.pop()
    except IndexError:
        return False
    return True


def _unplug(end: socket.socket) -> None:
    """Take the wake-up descriptor back, unless somebody has taken it over since."""
    current = signal.set_wakeup_fd(-1)
    if current != end.fileno():
        signal.set_wakeup_fd(current)


def _forget_parent() -> None:
    while _installed:
        trap, _ = _installed.popitem()
        trap._leave_to_parent()


_installed: dict[SignalTrap, None] = {}  # changed by the main thread alone
_fork.after_fork(_forget_parent)
