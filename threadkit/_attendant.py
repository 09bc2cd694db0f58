"""``Attendant``: the thread that makes the calls of somebody else's code, which may hang, so that nobody hangs with it.

It makes them one after the other, and is parked between two of them. Where one hangs, another thread takes over; the
first cannot be ended from outside, and ends by itself if its call ever returns. A thread that waits already is also
what there is at interpreter exit, when no new one can be made.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from threadkit._clock import Clock
from threadkit._waiting import Condition

T = TypeVar("T")


class Errand(Generic[T]):
    """One call, and what came of it."""

    __slots__ = ("_call", "_condition", "_error", "_is_over", "_value")

    def __init__(self, condition: Condition, call: Callable[[], T]) -> None:
        self._condition = condition  # the attendant's; guards _is_over, and the rest is written before that is
        self._call = call
        self._is_over = False
        self._value: T
        self._error: BaseException | None = None

    def run(self) -> None:
        """Make the call, and keep what comes of it. ``settle()`` MUST follow."""
        try:
            self._value = self._call()
        except BaseException as error:  # the border of user code
            self._error = error

    def refuse(self, error: RuntimeError) -> None:
        """Make no call, and let this be what comes of it. ``settle()`` MUST follow."""
        self._error = error

    def settle(self) -> None:
        """Let those who wait have the outcome. The condition is held."""
        self._is_over = True
        self._condition.notify_all()

    def is_over(self) -> bool:
        """Tell whether the outcome is there."""
        return self._is_over

    def wait(self, deadline: float | None) -> bool:
        """Wait for the outcome; tell whether it came before the deadline."""
        with self._condition:
            return self._condition.wait_until(self.is_over, deadline)

    def result(self) -> T:
        """Return what the call returned, or raise what it raised. It MUST be over."""
        if self._error is not None:
            raise self._error
        return self._value


class Attendant:
    """Makes calls in a thread of its own, made with the first of them.

    Args:
        clock: where time and threads come from.
        name: its thread's name.
    """

    def __init__(self, clock: Clock, name: str) -> None:
        self._clock = clock
        self._name = name
        # Guards all below, and the errands; notified when one is given or over, and at the end. Never held in a call.
        self._condition = Condition(clock)
        self._open: dict[Errand[Any], threading.Thread | None] = {}  # what is not over yet, and who is at it
        self._next: Errand[Any] | None = None  # what the idle thread is to do
        self._has_idle_thread = False
        self._is_dismissed = False

    def do(self, call: Callable[[], T]) -> Errand[T]:
        """Have a call made, and return at once.

        Where no thread is to be had (the machine gives no more, or the interpreter exits) it is made right here, by the
        caller's own: better without a limit than not at all. But not while another one hangs, for so might this one:
        then its outcome is a ``RuntimeError``.
        """
        errand = Errand(self._condition, call)
        try:
            if not self._hand_over(errand):
                self._clock.spawn(lambda: self._serve(errand), self._name)
        except BaseException as error:
            with self._condition:  # whoever asks again, after an interrupt say, must not have to wait for this one
                self._open.pop(errand, None)
                self._next = None if self._next is errand else self._next
                hangs = bool(self._open)
            if not isinstance(error, RuntimeError):
                raise
            if hangs:
                errand.refuse(error)
            else:
                errand.run()
            with self._condition:
                errand.settle()
        return errand

    def wait(self, deadline: float | None) -> bool:
        """Wait until no call goes on; tell whether that came before the deadline."""
        with self._condition:
            return self._condition.wait_until(lambda: not self._open, deadline)

    def threads(self) -> list[threading.Thread]:
        """Return the threads that are at a call."""
        with self._condition:
            return [thread for thread in self._open.values() if thread is not None]

    def dismiss(self) -> None:
        """Let its thread end when it is done. What it is asked for after that gets a thread that ends with the call."""
        with self._condition:
            self._is_dismissed = True
            self._condition.notify_all()

    def _hand_over(self, errand: Errand[Any]) -> bool:
        """Take it in; return False where no thread waits for it."""
        with self._condition:
            self._open[errand] = None
            if not self._has_idle_thread or self._next is not None:
                return False
            self._next = errand
            self._condition.notify_all()
            return True

    # --- its thread --------------------------------------------------------------------------------------------------

    def _serve(self, first: Errand[Any]) -> None:
        errand: Errand[Any] | None = first
        while errand is not None:
            with self._condition:
                self._open[errand] = threading.current_thread()
            errand.run()
            with self._condition:  # in one: whoever has the outcome finds an idle thread
                self._open.pop(errand, None)
                errand.settle()
                errand = self._await_next()

    def _await_next(self) -> Errand[Any] | None:
        """Return what is to be done; None where this thread is wanted no longer, or another one has taken over."""
        if self._has_idle_thread:
            return None
        self._has_idle_thread = True
        self._condition.wait_until(lambda: self._next is not None or self._is_dismissed, None)
        self._has_idle_thread = False
        errand, self._next = self._next, None
        return errand
