"""``GroupCommit``: many callers, one transaction.

Each caller brings a piece of work and waits until it is on the disk. The first becomes the leader: it begins a
transaction, does the pieces of all who wait, in the order of their coming, until there is none left, commits, and wakes
them. While the disk is at work others gather; the leader hands the lead to the first of them. So there is no writer
thread, a single caller waits for nobody, and however many call, the disk is asked once for all that came meanwhile.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from threadkit._clock import SYSTEM_CLOCK, open_gate
from threadkit._errors import WouldBlock

X = TypeVar("X")
T = TypeVar("T")


class Piece(Generic[X]):
    """A piece of work, and what came of it.

    Args:
        work: called with the transaction.
        is_awaited: whether a caller waits for it.
    """

    __slots__ = ("error", "gate", "is_done", "is_leader", "thread", "value", "work")

    def __init__(self, work: Callable[[X], Any], *, is_awaited: bool) -> None:
        self.work = work
        self.thread = threading.get_ident()
        self.gate = SYSTEM_CLOCK.gate() if is_awaited else None
        self.is_leader = False  # it is its caller's turn to lead
        self.is_done = False  # the two below are what came of it
        self.value: Any = None
        self.error: Exception | None = None


class GroupCommit(Generic[X]):
    """Gathers pieces of work and has them written together.

    Args:
        write: ``write(take, pieces)`` begins a transaction, calls the ``work`` of each piece that ``take()`` returns,
            which it puts into the list ``pieces``, until it returns none, commits, and makes each of them done, with a
            value or an error. What it leaves undone, since an interrupt struck, is written by the next leader.
    """

    def __init__(self, write: Callable[[Callable[[], Piece[X] | None], list[Piece[X]]], None]) -> None:
        self._write = write
        # Guards the two below, and is_leader of each piece. Nothing is called under it. Reentrant for finalizers: one
        # that strikes inside finds either no leader, and leads, or is refused as the leader's own thread.
        self._lock = threading.RLock()
        self._waiting: deque[Piece[X]] = deque()
        self._leader: int | None = None  # the thread that leads

    def run(self, work: Callable[[X], T]) -> T:
        """Write a piece of work, and return what it returned when that is safe on the disk.

        Raises:
            WouldBlock: called inside of itself, by a finalizer that struck while this thread was writing.
        """
        me = threading.get_ident()
        if self._leader == me:
            raise WouldBlock("a call of a durable store", "a finalizer that struck within it", "another thread")
        piece = Piece(work, is_awaited=True)
        try:
            with self._lock:
                self._waiting.append(piece)
                leads = self._leader is None
                if leads:
                    self._leader = me
            if leads or self._await(piece):
                self._lead(piece)
        finally:
            if self._leader == me:  # which nobody else can make so, or undo
                self._resign(piece)
        if piece.error is not None:
            raise piece.error
        return piece.value  # type: ignore[no-any-return]  # it is what work returned

    def post(self, work: Callable[[X], object]) -> int:
        """Have a piece of work written with the next that somebody waits for; return how many were posted before."""
        piece = Piece(work, is_awaited=False)
        with self._lock:
            self._waiting.append(piece)
            return len(self._waiting) - 1

    def is_anything_posted(self) -> bool:
        """Return whether there is work that is not written."""
        return bool(self._waiting)

    def _await(self, piece: Piece[X]) -> bool:
        """Wait until a piece is done, or until it is its caller's turn to lead; return whether that is so."""
        gate = piece.gate
        assert gate is not None  # noqa: S101 - for the type checkers
        try:
            gate.acquire()  # not on the clock: a writer is at work, and a virtual clock has to wait for it
        except BaseException:  # Ctrl-C
            with self._lock:
                is_waiting = piece in self._waiting
                if is_waiting:
                    self._waiting.remove(piece)
            if not (is_waiting or piece.is_leader or piece.is_done):
                gate.acquire()  # a leader has it in work, which cannot be taken back: see it through
            raise
        return piece.is_leader

    def _lead(self, own: Piece[X]) -> None:
        """Write everything that waits."""
        batch: list[Piece[X]] = []
        try:
            self._write(self._take, batch)
        finally:
            undone = [piece for piece in batch if not piece.is_done and piece is not own]
            if undone:
                with self._lock:
                    self._waiting.extendleft(reversed(undone))
            for piece in batch:
                if piece.is_done and piece is not own and piece.gate is not None:
                    open_gate(piece.gate)

    def _take(self) -> Piece[X] | None:
        with self._lock:
            return self._waiting.popleft() if self._waiting else None

    def _resign(self, own: Piece[X]) -> None:
        """Let the first caller that waits lead."""
        with self._lock:
            if own in self._waiting:  # an interrupt struck before it was written
                self._waiting.remove(own)
            first = next((piece for piece in self._waiting if piece.gate is not None), None)
            self._leader = None if first is None else first.thread
            # A finalizer may have struck while its thread brought a piece, and wait with one of its own: the last.
            for piece in reversed(self._waiting):
                if piece.gate is not None and piece.thread == self._leader:
                    piece.is_leader = True
                    open_gate(piece.gate)
                    return
