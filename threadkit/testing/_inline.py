"""An executor that has no threads: ``submit`` runs the call, here and now."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import TypeVar

from typing_extensions import ParamSpec, override

from threadkit import Closed

P = ParamSpec("P")
T = TypeVar("T")


class InlineExecutor(Executor):
    """Runs each call in ``submit``, in the caller's thread; the future is done when it is returned.

    Example:
        >>> with InlineExecutor() as executor:
        ...     executor.submit(pow, 2, 10).result()
        1024
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _is_shut_down
        self._is_shut_down = False

    @override
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run ``fn(*args, **kwargs)`` and return a finished future.

        Raises:
            Closed: the executor has been shut down.
        """
        with self._lock:
            if self._is_shut_down:
                raise Closed("executor", "inline")
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # a future carries whatever the call raised
            future.set_exception(error)
        return future

    @override
    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Refuse further calls; there is nothing to wait for."""
        with self._lock:
            self._is_shut_down = True
