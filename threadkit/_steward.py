"""``Steward``: sees an executor's lane to its end, also where the executor was dropped by its user meanwhile.

Threads, futures and the exit registry know the lane and the steward, and none of them holds the executor. So an
executor that nobody uses any more is freed at once, without the garbage collector; it closes its lane then, what was
submitted is still done, and the interpreter waits for it at exit.
"""

from __future__ import annotations

import weakref
from concurrent.futures import BrokenExecutor
from typing import Protocol

from threadkit import _exit


class _Owner(_exit.Root, Protocol):
    """What a steward needs of the executor."""

    def _conclude(self, broken: BrokenExecutor | None) -> None: ...


class _Lane(Protocol):
    """What a steward needs of a lane."""

    def join(self, deadline: float | None) -> bool: ...


class Steward:
    """Stands for an executor in the exit registry, and hears of the end of its lane.

    Args:
        owner: the executor; not kept alive.
    """

    def __init__(self, owner: _Owner) -> None:
        self._owner = weakref.ref(owner)
        self.lane: _Lane | None = None  # None again once it has ended

    def conclude(self, broken: BrokenExecutor | None) -> None:
        """The lane has ended. On its last thread."""
        owner = self._owner()
        if owner is not None:
            owner._conclude(broken)
        self.lane = None
        _exit.forget(self)

    def begin_exit(self) -> None:
        """Ask for the end, since the interpreter exits. An executor that was dropped has closed its lane already."""
        owner = self._owner()
        if owner is not None:
            owner.begin_exit()

    def finish_exit(self, deadline: float) -> list[str]:
        """Wait until all is done, however long it takes, as the standard library's executors do."""
        owner, lane = self._owner(), self.lane
        if owner is not None:
            return owner.finish_exit(deadline)
        if lane is not None:
            lane.join(None)
        return []
