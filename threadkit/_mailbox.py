"""``Mailbox``: what comes to one receiver waits here, and is treated one after the other on an executor.

Nothing here takes a lock that anybody waits for, because ``publish`` may be called by a finalizer that strikes inside
``publish``. Each step is a single operation on a ``deque``, a counter or a one-element ``list``, which is atomic with
and without the GIL (see ``_waiting.py``), or a lock that is only ever *tried*.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Generic, Protocol, TypeVar

from threadkit._calling import is_on_event_loop
from threadkit._clock import Clock
from threadkit._waiting import Waiters

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

# How many seconds a mailbox keeps a worker before it goes to the back of the executor's line. Each turn costs a submit.
TURN = 0.01


class Owner(Protocol[T_contra]):
    """What a mailbox needs of whom it belongs to."""

    @property
    def clock(self) -> Clock:
        """What turns are measured by, and room is waited for on."""
        ...

    def submit(self, take: Callable[[Turn], None], turn: Turn, /) -> Future[None]:
        """Have the executor call ``take(turn)``, on which the letters are treated.

        Raises:
            Exception: it does not take it, be it for now or for good.
        """
        ...

    def handle(self, letter: T_contra, /) -> None:
        """Treat a letter. MUST NOT raise, but for the program's Ctrl-C."""
        ...

    def drop(self, letter: T_contra, /) -> None:
        """Say that a letter will not be treated. MUST NOT raise."""
        ...


class Mailbox(Generic[T]):
    """Where the letters for one receiver wait.

    Invariants:
        1. Whoever holds ``_duty`` sees to the letters: a turn on the executor, queued or at work, or a poster whom the
           executor refused. A poster appends and then tries for the duty; the holder gives the duty back and then looks
           for letters again. So no letter lies in a box that nobody has the duty for, and two letters of one box are
           never treated at once.
        2. Where there are places, a letter takes one before it enters and gives it back when it leaves: at most
           ``maxsize`` wait. A box that trims takes every letter, and what is too much leaves at the other end.

    Args:
        owner: whom it belongs to.
        maxsize: how many letters wait at most; ``inf`` is no limit.
        trims: make room by pushing the oldest letters out.
    """

    __slots__ = ("_duty", "_letters", "_maxsize", "_owner", "_places", "_trimming", "_waiters")

    def __init__(self, owner: Owner[T], maxsize: float, *, trims: bool) -> None:
        self._owner = owner
        self._maxsize = maxsize
        self._places = _Places(math.inf if trims else maxsize)
        self._letters: deque[T] = deque()
        self._waiters = Waiters()
        # Both are only tried, never waited for.
        self._duty = threading.Lock()
        self._trimming = threading.Lock()

    def reserve(self) -> bool:
        """Take a place for a letter, if there is one."""
        return self._places.take()

    def put(self, letter: T) -> None:
        """Put a letter in that a place is reserved for, and have it treated.

        Raises:
            Exception: on an event loop's thread: why the executor did not take it. It has been dropped.
            KeyboardInterrupt: Ctrl-C; also in a handler, where the executor did not take it and this thread did.
        """
        self._letters.append(letter)
        self._trim()
        if self._duty.acquire(blocking=False):
            self._see_to_it()

    def wait_for_room(self, is_over: Callable[[], bool]) -> None:
        """Wait until there is room, or ``is_over()``."""
        self._waiters.wait(self._owner.clock, lambda: self._places.is_any_free() or is_over(), None)

    def wake(self) -> None:
        """Have everybody who waits for room look again."""
        self._waiters.wake_all()

    def _trim(self) -> None:
        # One trims at a time, or two who see one letter too many would drop two. Who comes second leaves it to the
        # first, who looks again afterwards.
        while self._is_too_full() and self._trimming.acquire(blocking=False):
            surplus: list[T] = []
            with contextlib.suppress(IndexError):  # a delivery may be faster
                while self._is_too_full():
                    surplus.append(self._letters.popleft())
            self._trimming.release()
            for letter in surplus:
                self._owner.drop(letter)

    def _is_too_full(self) -> bool:
        return len(self._letters) > self._maxsize

    # Each of the rest MUST be called with the duty, and gives it back or passes it on.

    def _see_to_it(self) -> None:
        try:
            if self._pass_on():
                return
        except Exception:
            # Full, shut down or out of threads: whatever it is, the letters must not lie here for ever. This thread
            # delivers them, unless it must not be blocked: then nobody does.
            if is_on_event_loop():
                self._give_up()
                raise
        self._deliver(0.0)

    def _pass_on(self) -> bool:
        """Have the executor go on; False where it would do so in this very call.

        Raises:
            Exception: the executor does not take it. The duty is still here.
            BaseException: Ctrl-C. The duty has been given back.
        """
        turn = Turn()
        try:
            future = self._owner.submit(self._take, turn)
        except BaseException as error:
            if not turn.claim():  # it was taken all the same, as by a pool that could not start one thread more
                if isinstance(error, Exception):
                    return True
            elif not isinstance(error, Exception):
                self._give_up()
            raise
        if future.done() and turn.claim():
            return False
        turn.giver = None
        future.add_done_callback(lambda _: self._rescue(turn))
        return True

    def _take(self, turn: Turn) -> None:
        # An executor that runs what it is given at once gives it back by that. It would nest turns in turns, and keep
        # a Ctrl-C in a future that nobody looks at.
        if turn.giver != threading.get_ident() and turn.claim():
            self._deliver(TURN)

    def _rescue(self, turn: Turn) -> None:
        # A turn that is over and that nobody took was cancelled, or lost with its executor. What it was to deliver was
        # given up by whoever ended the executor; that is said, and nobody waits for it any longer.
        if turn.claim():
            self._give_up()

    def _deliver(self, seconds: float) -> None:
        """Treat letters, for so long; then let others have their turn, unless the executor takes nothing more."""
        clock = self._owner.clock
        end = clock.monotonic() + seconds
        for letter in self._rest():
            try:
                self._owner.handle(letter)
            except BaseException:
                self._give_up()
                raise
            if self._letters and clock.monotonic() >= end:
                with contextlib.suppress(Exception):
                    if self._pass_on():
                        return

    def _give_up(self) -> None:
        """Drop all letters."""
        for letter in self._rest():
            self._owner.drop(letter)

    def _rest(self) -> Iterator[T]:
        """Take letters out until there are no more; then give the duty back, and look again."""
        while True:
            while (letter := self._next()) is not None:
                yield letter
            self._duty.release()
            if not self._letters or not self._duty.acquire(blocking=False):
                return

    def _next(self) -> T | None:
        try:
            letter = self._letters.popleft()
        except IndexError:
            return None
        self._places.give()
        self._waiters.wake_all()
        return letter


class _Places:
    """So many places. One that was never used is counted off, so that a bound of a million costs nothing."""

    __slots__ = ("_count", "_free", "_used")

    def __init__(self, count: float) -> None:
        self._count = count
        self._used = itertools.count()
        self._free: deque[None] = deque()  # those that were given back

    def take(self) -> bool:
        """Take one if there is one."""
        try:
            self._free.pop()
        except IndexError:
            return next(self._used) < self._count
        return True

    def give(self) -> None:
        """Give one back."""
        self._free.append(None)

    def is_any_free(self) -> bool:
        """Tell whether one was given back; once ``take()`` has said no, there are no others."""
        return bool(self._free)


class Turn:
    """The duty on its way through an executor. Whoever claims it has it: once, and nobody else."""

    __slots__ = ("_slot", "giver")

    def __init__(self) -> None:
        self._slot = [None]
        self.giver: int | None = threading.get_ident()  # None once it is given

    def claim(self) -> bool:
        try:
            self._slot.pop()
        except IndexError:
            return False
        return True
