"""``Permits``: how a bound is kept. Who gets none waits for one, in a thread or on an event loop.

A permit is a token in a deque. Taking one and giving one back are single operations, ``popleft`` and ``append``, each
atomic with and without the GIL, so the fast path takes no lock and a finalizer may take it. Who waits enters the bell
first and looks for a token then; who gives puts the token down first and rings then (see ``Bell``).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from threadkit._clock import Clock, Gate
from threadkit._waiting import Bell

# Tokens are made when they are first wanted, so that a bound of a million costs nothing until it is needed.
_BATCH = 512


class Permits:
    """A number of permits, which may be changed while they are in use.

    Args:
        clock: where threads wait.
        count: how many there are; ``inf`` is no limit.
    """

    __slots__ = ("_bell", "_debt", "_lock", "_made", "_tokens", "_unmade")

    def __init__(self, clock: Clock, count: float) -> None:
        self._tokens: deque[None] = deque()
        self._bell = Bell(clock)
        # Guards the three below. Nothing is called under it. Reentrant for finalizers.
        self._lock = threading.RLock()
        self._unmade = count
        self._made = 0
        self._debt = 0  # permits that are to be withdrawn as they come back

    def taken(self) -> int:
        """Return how many are in use at this moment."""
        with self._lock:
            return max(0, self._made - len(self._tokens))

    def take_now(self) -> bool:
        """Take one if there is one."""
        try:
            self._tokens.popleft()
        except IndexError:
            return self._make()
        except BaseException:  # Ctrl-C, which strikes as popleft() returns: what that took goes back
            self.give()
            raise
        return True

    def take(self, deadline: float | None, given_up: Callable[[], bool]) -> bool:
        """Take one, waiting for it if need be.

        Returns:
            False when ``given_up()`` said so, or the deadline passed.
        """
        while not self.take_now():
            if given_up():
                return False
            if not self._bell.wait(lambda: self._is_any_left() or given_up(), deadline):
                return self.take_now()
        self._pass_on()
        return True

    async def take_on_loop(self, given_up: Callable[[], bool]) -> bool:
        """Take one, waiting for it without a thread if need be.

        Returns:
            False when ``given_up()`` said so; it is asked after every ``wake_all()``.
        """
        import asyncio

        loop = asyncio.get_running_loop()
        while not self.take_now():
            if given_up():
                return False
            gate = _LoopGate(loop, self._bell)
            self._bell._idle.append(cast("Gate", gate))  # a bell does nothing with a gate but open it
            try:
                if self._is_any_left() or given_up():
                    self._bell._withdraw(cast("Gate", gate))
                else:
                    await (
                        gate.opened
                    )  # by a ring, which has taken it out: to look for it among thousands would take long
            except BaseException:
                if not self._bell._withdraw(cast("Gate", gate)):
                    self._bell.ring()  # cancelled, but rung: that goes to the next
                raise
        self._pass_on()
        return True

    def give(self) -> None:
        """Give one back."""
        if self._debt and self._pay():
            return
        self._tokens.append(None)
        self._bell.ring()

    def take_anyway(self) -> None:
        """Take one for a job that is not in its store yet, even where there is none."""
        self.owe()

    def owe(self) -> None:
        """Take one even where there is none: the next one that is given back is withheld."""
        if not self.take_now():
            self.resize(-1)

    def resize(self, change: float) -> None:
        """Add permits, or take some away, those in use as they come back."""
        with self._lock:
            for _ in range(int(change)):
                if self._debt:
                    self._debt -= 1
                else:
                    self._unmade += 1
            for _ in range(-int(change)):
                if self._unmade:
                    self._unmade -= 1
                elif self._discard():
                    self._made -= 1
                else:
                    self._debt += 1
        self._bell.ring_all()

    def wake_all(self) -> None:
        """Have everybody who waits ask again whether to give up. Lock-free: callable from a signal handler."""
        self._bell.ring_all()

    def _is_any_left(self) -> bool:
        return bool(self._tokens or self._unmade)

    def _make(self) -> bool:
        """Take a permit that was never in use."""
        if not self._unmade:
            return False
        with self._lock:
            batch = int(min(self._unmade, _BATCH))
            self._unmade -= batch
            self._made += batch
            self._tokens.extend([None] * (batch - 1))
            return batch > 0

    def _discard(self) -> bool:
        try:
            self._tokens.popleft()
        except IndexError:
            return False
        return True

    def _pay(self) -> bool:
        with self._lock:
            if not self._debt:
                return False
            self._debt -= 1
            self._made -= 1
            return True

    def _pass_on(self) -> None:
        """Who waited and got one sees to it that the next is not left asleep beside another."""
        try:
            if self._is_any_left():
                self._bell.ring()
        except BaseException:
            self.give()  # an interrupt took the one away who got it
            raise


class _LoopGate:
    """A gate at which a coroutine waits. Opening it never blocks."""

    __slots__ = ("_bell", "_loop", "opened")

    def __init__(self, loop: Any, bell: Bell) -> None:
        self.opened = loop.create_future()
        self._loop = loop
        self._bell = bell

    def release(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._open)
        except RuntimeError:  # the loop was closed, and its coroutine will never go on: that goes to the next
            self._bell.ring()

    def _open(self) -> None:
        if not self.opened.done():
            self.opened.set_result(None)
