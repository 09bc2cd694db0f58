"""The operating system's signals, borrowed for a while: the first asks, the second forces.

The handler does what a handler may: it stores a number and sets a token, which takes no lock. It logs nothing. The
second signal raises ``Forced`` in the main thread, which is where Python runs handlers, so it gets out of any wait
there.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

_STOPPING = ("SIGINT", "SIGTERM", "SIGBREAK")  # the last one is Windows' Ctrl-Break


class Forced(SystemExit):
    """A second signal has come: give up waiting. It ends the process with 128 + n where nobody catches it."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.signum = signum


class SignalTrap:
    """Takes the stopping signals from ``install()`` to ``restore()``.

    A signal that this process was told to ignore (as a shell tells its background jobs about SIGINT) stays ignored.

    Args:
        on_signal: called with the number and the name of the first signal, in the handler: it MUST be lock-free.
    """

    def __init__(self, on_signal: Callable[[int, str], None]) -> None:
        self._on_signal = on_signal
        self._previous: dict[int, object] = {}
        self.signum: int | None = None

    @staticmethod
    def is_possible() -> bool:
        """Return True in the main thread, the only one where Python lets handlers be set."""
        return threading.current_thread() is threading.main_thread()

    def install(self) -> None:
        """Take the signals; a second call does nothing.

        Raises:
            RuntimeError: this is not the main thread.
        """
        if self._previous:
            return
        if not self.is_possible():
            raise RuntimeError("signals can be handled from the main thread only; start there, or leave signals=False")
        for name in _STOPPING:
            signum = getattr(signal, name, None)
            if signum is not None and signal.getsignal(signum) not in {signal.SIG_IGN, None}:
                self._previous[signum] = signal.signal(signum, self._handle)

    def restore(self) -> None:
        """Give back what was taken, where nobody else has taken it since. Outside the main thread it does nothing."""
        if not self.is_possible():
            return
        while self._previous:
            signum, handler = self._previous.popitem()
            if signal.getsignal(signum) == self._handle:
                signal.signal(signum, handler)  # type: ignore[arg-type]  # what signal.signal() itself returned

    def __enter__(self) -> Self:
        self.install()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.restore()

    def _handle(self, signum: int, _frame: FrameType | None) -> None:
        if self.signum is not None:
            raise Forced(signum)
        self.signum = signum
        self._on_signal(signum, signal.Signals(signum).name)
