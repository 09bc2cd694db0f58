"""What happens to running components when the interpreter exits without a stop call.

One ``atexit`` hook stops what still runs, the youngest first, on one deadline. threadkit's threads are daemons, so they
are alive at that moment (non-daemon threads would be joined *before* the hooks, and keep a server alive for ever).
Inside the hook no new thread can be made, so a stop needs nothing that does not exist already.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import weakref
from collections.abc import Callable, Generator
from typing import Protocol

from threadkit import _fork
from threadkit._clock import SYSTEM_CLOCK

EXIT_TIMEOUT = 10.0
"""Seconds that all components have together at interpreter exit."""

_logger = logging.getLogger("threadkit")


class Root(Protocol):
    """A component or lifecycle that nobody else stops."""

    def begin_exit(self) -> None:
        """Ask for the stop; return at once."""
        ...

    def finish_exit(self, deadline: float) -> list[str]:
        """Wait until everything has ended, or the deadline of the system's clock; return the names of what has not."""
        ...


# What gives a root, by its id, in the order of their start. Single dict operations, each atomic: a stop may come from
# anywhere, and a finalizer may have its object watched.
_roots: dict[int, Callable[[], Root | None]] = {}


def watch(root: Root, *, weakly: bool = False) -> None:
    """Stop this one at exit.

    Args:
        root: what is to be stopped.
        weakly: do not keep it alive. Its finalizer MUST see to it that it is watched or forgotten from then on.
    """
    _roots[id(root)] = weakref.ref(root) if weakly else lambda: root


def forget(root: Root) -> None:
    """It has ended, or somebody else answers for it now."""
    _roots.pop(id(root), None)


@contextlib.contextmanager
def _logged(root: Root) -> Generator[None]:
    """Let one root's error not keep the others from being stopped."""
    try:
        yield
    except Exception:
        _logger.exception("%r could not be stopped at interpreter exit", root)


def stop_all() -> None:
    """Stop every root; what ``atexit`` calls."""
    deadline = SYSTEM_CLOCK.monotonic() + EXIT_TIMEOUT
    roots = [root for find in list(_roots.values())[::-1] if (root := find()) is not None]
    abandoned: list[str] = []
    for root in roots:
        with _logged(root):
            root.begin_exit()
    for root in roots:
        with _logged(root):
            abandoned += root.finish_exit(deadline)
    _roots.clear()
    if abandoned:
        _logger.warning("abandoned at interpreter exit, still running: %s", ", ".join(abandoned))


atexit.register(stop_all)
_fork.after_fork(_roots.clear)
