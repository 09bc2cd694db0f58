"""``DaskExecutor``: a Dask cluster that behaves as an executor should.

``distributed`` has an executor of its own, and here is what stands between that one and ours:

* it takes calls of the same function with the same arguments for one (``pure=False`` ends that), and some keywords
  (``key``, ``workers``, ``retries``, ...) for its own, so each call is sent as one object without any;
* what ends a process, such as ``sys.exit()``, ends worker after worker: it comes back as the call's error instead;
* it settles futures on the thread of its event loop, where a callback that waits would stop it: a thread of ours hands
  them on;
* it takes calls while its scheduler is away, and forgets them: here they are refused;
* its ``shutdown()`` leaves the connection open, and waits for ever for what was forgotten.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any, ParamSpec, TypeVar

import attrs

from threadkit._calling import describe_function
from threadkit._clock import SYSTEM_CLOCK
from threadkit._override import override
from threadkit._pool import ThreadPool

P = ParamSpec("P")
T = TypeVar("T")

_CLOSING = 5.0  # seconds that closing the connection may take

_logger = logging.getLogger("threadkit")


@attrs.frozen
class _Raised:
    """What a call raised."""

    error: BaseException


def _run(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """On the worker: call a function, and do not let it end the process."""
    try:
        return fn(*args, **kwargs)
    except (SystemExit, KeyboardInterrupt) as error:
        return _Raised(error)


def leave(client: Any) -> None:
    """Close a client, and end the thread of its event loop, which one that could not connect leaves behind."""
    try:
        client.close(timeout=_CLOSING)
    except Exception as error:  # the scheduler is silent; nothing is lost by not saying goodbye
        _logger.info("a Dask client was not closed properly: %r", error)
    with contextlib.suppress(Exception):  # there is no public way: where this one has gone, perhaps the fault has, too
        if client._loop_runner.is_started():
            client._loop_runner.stop()


class DaskExecutor(Executor):
    """Runs calls on a Dask cluster.

    Args:
        connect: returns a ``distributed.Client``, which belongs to the executor from then on.
        timeout: seconds that the scheduler has for its first answer.
    """

    def __init__(self, connect: Callable[[], Any], timeout: float | None) -> None:
        self._settler: ThreadPool[Callable[[], object]] = ThreadPool(SYSTEM_CLOCK, "dask-settler", 1)
        self._settler.start()
        self._client: Any = None
        try:
            self._client = connect()
            # At this moment; workers come and go.
            self._max_workers: int = sum(self._client.nthreads(callback_timeout=timeout).values())
        except BaseException:
            self._settler.put(self._leave)
            raise
        self._cluster = self._client.get_executor(pure=False)
        # Guards the two below. No user code runs under it, and nobody waits. Reentrant for finalizers.
        self._lock = threading.RLock()
        self._pending: dict[Future[Any], None] = {}
        self._is_closing = False

    def is_broken(self) -> bool:
        """Tell whether the scheduler is away."""
        return bool(self._client.status != "running")

    @override
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Send a call to the cluster.

        Raises:
            BrokenExecutor: the scheduler is away.
            RuntimeError: it was shut down.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._is_closing:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._pending[future] = None
        try:
            if self.is_broken():
                raise BrokenExecutor(f"the scheduler is away: {self._client!r}")
            key = f"{describe_function(fn)}-{os.urandom(16).hex()}"  # what Dask's pages show
            inner = self._cluster.submit(functools.partial(_run, fn, args, kwargs), key=key)
        except BaseException:
            self._forget(future)
            raise
        future.add_done_callback(functools.partial(self._pass_cancel_on, inner))
        inner.add_done_callback(functools.partial(self._hand_on, future))
        return future

    @override
    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing more, and leave the cluster when the last call has ended, or at once where it is broken."""
        with self._lock:
            self._is_closing = True
            pending = list(self._pending)
        if cancel_futures or self.is_broken():
            for future in pending:
                future.cancel()
        self._forget(None)
        if wait:
            concurrent.futures.wait(pending)
            self._settler.join(None)

    def _hand_on(self, future: Future[Any], inner: Future[Any]) -> None:
        """On the thread of Dask's loop, which must not wait."""
        self._settler.put(functools.partial(self._settle, future, inner))

    def _settle(self, future: Future[Any], inner: Future[Any]) -> None:
        try:
            if inner.cancelled():
                future.cancel()
            if future.set_running_or_notify_cancel():  # without it concurrent.futures.wait() would not see the end
                error = inner.exception()
                outcome = inner.result() if error is None else _Raised(error)
                if isinstance(outcome, _Raised):
                    future.set_exception(outcome.error)
                else:
                    future.set_result(outcome)
        finally:
            self._forget(future)

    def _pass_cancel_on(self, inner: Future[Any], future: Future[Any]) -> None:
        if future.cancelled():
            inner.cancel()

    def _forget(self, future: Future[Any] | None) -> None:
        """One call less; who takes the last one away after a shutdown leaves the cluster."""
        with self._lock:
            if future is not None:
                self._pending.pop(future, None)
            if self._pending or not self._is_closing:
                return
        with contextlib.suppress(RuntimeError):  # somebody else has just done so
            self._settler.put(self._leave)

    def _leave(self) -> None:
        self._settler.close()
        if self._client is not None:  # it could be made
            leave(self._client)
