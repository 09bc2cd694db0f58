"""Time comes in by this door: nothing else in the package reads a clock, waits with a limit or starts a thread.

A component takes a clock. ``SystemClock`` is the real one; ``threadkit.testing.VirtualClock`` drives the same blocking
threads through hours in milliseconds. Threads are started here too, because a virtual clock must know whom to wait for.

A *gate* is a lock that is made closed (held). Whoever waits parks at the gate; whoever has news opens it. Any thread
may open a gate, a signal handler too: releasing a lock takes no other lock.
"""

from __future__ import annotations

import contextvars
import math
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

# The longest single wait. Longer ones are made of several: threading.TIMEOUT_MAX is 49 days on Windows.
_LONGEST_WAIT = 3600.0


class Gate(Protocol):
    """The part of ``threading.Lock`` that a gate is made of.

    Example:
        >>> gate: Gate = threading.Lock()
        >>> gate.acquire()    # closed
        True
        >>> gate.release()    # open
    """

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...
    def release(self) -> None: ...
    def locked(self) -> bool: ...


class Clock(Protocol):
    """What a component needs of time. A duck of this shape is a clock.

    Example:
        >>> clock: Clock = SystemClock()
        >>> gate = clock.gate()
        >>> clock.park(gate, clock.monotonic() + 0.001)    # nobody opens it in time
        False
    """

    def monotonic(self) -> float:
        """Return seconds since some fixed moment; they never go back."""
        ...

    def now(self) -> datetime:
        """Return the wall clock's time, aware and in UTC; it may be set forward or back."""
        ...

    def gate(self) -> Gate:
        """Return a new gate that nobody has opened yet."""
        ...

    def park(self, gate: Gate, deadline: float | None) -> bool:
        """Wait until ``gate`` opens or ``monotonic()`` reaches ``deadline``.

        Args:
            gate: a gate of this clock that only this thread waits at.
            deadline: absolute, in seconds of ``monotonic()``; None is no limit.

        Returns:
            True when the gate was opened, False when the time was over first.
        """
        ...

    def spawn(self, target: Callable[[], None], name: str) -> threading.Thread:
        """Start a daemon thread that runs ``target`` in a fresh context, and return it.

        Raises:
            RuntimeError: the system or the interpreter gives no more threads.
            BaseException: Ctrl-C, say, has struck while the thread was coming up; that runs all the same.
        """
        ...


def open_gate(gate: Gate) -> None:
    """Let whoever is parked at ``gate`` go on.

    Opening a gate twice is harmless: a virtual clock's time-out and a waker may both open one.
    """
    try:  # noqa: SIM105 - a hot path, where contextlib.suppress() is an object and three calls
        gate.release()
    except RuntimeError:
        pass


def is_at_exit(error: BaseException) -> bool:
    """Tell whether a thread was refused because the interpreter exits: none will be had any more."""
    return "interpreter shutdown" in str(error)


def deadline_after(clock: Clock, timeout: float | None) -> float | None:
    """Return the absolute deadline that lies ``timeout`` seconds ahead; None and ``inf`` are no limit."""
    if timeout is None or timeout == math.inf:
        return None
    return clock.monotonic() + timeout


class SystemClock:
    """The machine's own clock.

    Example:
        >>> clock = SystemClock()
        >>> clock.now().tzname()
        'UTC'
        >>> clock.monotonic() <= clock.monotonic()
        True
    """

    if TYPE_CHECKING:

        def monotonic(self) -> float:
            """Return ``time.monotonic()``."""
            return time.monotonic()

    else:
        # The function itself, not a method that calls it: each firing and each job asks several times.
        monotonic = staticmethod(time.monotonic)

    def now(self) -> datetime:
        """Return the current time in UTC."""
        return datetime.now(UTC)

    def gate(self) -> Gate:
        """Return a new gate that nobody has opened yet: a plain lock."""
        gate = threading.Lock()
        gate.acquire()
        return gate

    def park(self, gate: Gate, deadline: float | None) -> bool:
        """Wait at the gate, really."""
        if deadline is None:
            return gate.acquire()
        while (remaining := deadline - time.monotonic()) > 0:
            if gate.acquire(timeout=min(remaining, _LONGEST_WAIT)):
                return True
        return gate.acquire(blocking=False)

    def spawn(self, target: Callable[[], None], name: str) -> threading.Thread:
        """Start a daemon thread.

        Its context is fresh, whatever the interpreter's setting for inheritance: what a long-lived thread sees must not
        depend on who happened to start it.
        """
        thread = threading.Thread(target=contextvars.Context().run, args=(target,), name=name, daemon=True)
        thread.start()
        return thread

    def __repr__(self) -> str:
        return "SystemClock()"


SYSTEM_CLOCK = SystemClock()
