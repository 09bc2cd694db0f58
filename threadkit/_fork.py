"""Which process this is: a number that goes up in every child of a fork.

Threads do not survive a fork, and a lock that another thread held stays locked for ever in the child. A component
remembers the generation it was made in; where it differs from today's, the component belongs to the parent.
``os.getpid()`` would do as well but costs a system call each time, and a pid may be used again.
"""

from __future__ import annotations

import os
from collections.abc import Callable

_generation = 0


def generation() -> int:
    """Return the number of forks between this process and the one that first imported threadkit."""
    return _generation


def after_fork(callback: Callable[[], None]) -> None:
    """Have ``callback()`` called in every forked child, while the child has only one thread."""
    if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows cannot fork; the tests run where one can
        os.register_at_fork(after_in_child=callback)


def around_fork(before: Callable[[], None], after: Callable[[], None]) -> None:
    """Have ``before()`` called in the thread that is about to fork, and ``after()`` in both processes."""
    if hasattr(os, "register_at_fork"):  # pragma: no branch - as above
        os.register_at_fork(before=before, after_in_parent=after, after_in_child=after)


def _count() -> None:
    global _generation
    _generation += 1


after_fork(_count)
