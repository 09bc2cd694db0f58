"""Finding threads that outlive the code that started them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Generator

# The one thread that threadkit keeps for the life of the process; see "stopper" in the explanation of stop tokens.
_PERMANENT = frozenset({"threadkit-stopper"})


@contextlib.contextmanager
def no_thread_leaks(grace: float = 1.0) -> Generator[None]:
    """Fail where threads that were started inside the ``with`` block are still alive after it.

    Args:
        grace: seconds that such threads have to end by themselves.

    Raises:
        AssertionError: threads are left; they are named.

    Example:
        >>> with no_thread_leaks():
        ...     thread = threading.Thread(target=print, args=("done",))
        ...     thread.start()
        done
    """
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + grace
    left: list[str] = []
    for thread in threading.enumerate():
        if thread in before or thread is threading.current_thread() or thread.name in _PERMANENT:
            continue
        if not isinstance(thread, threading._DummyThread):  # one that Python did not start cannot be joined
            thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            left.append(thread.name)
    if left:
        raise AssertionError(f"threads were started and are still alive: {', '.join(sorted(left))}")
