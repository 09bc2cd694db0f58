"""``EngineLane``: calls that run on somebody else's executor, which is replaced when it breaks.

Whoever notices that the engine is broken (a submitter, a callback) tells the *keeper*, a thread of ours, by the number
of the engine that it saw. Only the keeper replaces engines, one after the other, and only the one that has this number
still; so however many notice at once, there is one rebuild, without a lock, and the user's factory runs under none.

An engine that runs calls in this process is given the call itself, which runs once at most whatever the engine does. To
any other the function is sent, and the call waits for the engine's own future.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, Executor
from concurrent.futures import Future as StandardFuture
from concurrent.futures._base import CANCELLED_AND_NOTIFIED
from typing import Any, TypeVar

from threadkit._clock import Clock, deadline_after
from threadkit._future import Call, Host, TimedCall, Work
from threadkit._lane import Lane, Terms
from threadkit._override import override
from threadkit._pool import ThreadPool
from threadkit.backoff import Retry, RetryState

T = TypeVar("T")

_WINDOW = 60.0  # seconds within which rebuilds are counted

_logger = logging.getLogger("threadkit")


class EngineCall(TimedCall[T]):
    """A call that somebody else's executor runs.

    Args:
        clock: where its waiters wait.
        lane: who is told of its end.
        work: the function, its arguments, and the context to run it in, if any.
        resubmits: how often it may be submitted again when the engine broke under it.
    """

    __slots__ = ("inner", "resubmits")

    def __init__(self, clock: Clock, lane: Host, work: Work, resubmits: int) -> None:
        super().__init__(clock, lane, work)
        self.inner: StandardFuture[Any] | None = None
        self.resubmits = resubmits

    @override
    def cancel(self) -> bool:
        """Cancel it, unless the engine says that it is running or done.

        Returns:
            True when it is cancelled now, by this call or an earlier one.
        """
        inner = self.inner
        if inner is not None and not inner.cancel():
            return self.cancelled()
        return super().cancel()

    @override
    def running(self) -> bool:
        """Return True while the engine says so."""
        inner = self.inner
        return not self.done() and inner is not None and inner.running()

    def peek(self) -> Work | None:
        """Return the work, for an engine that cannot be given the call itself; None where it is done."""
        return next(iter(self._right.copy()), None)

    def follow(self, inner: StandardFuture[Any]) -> None:
        """End as the engine's own future has ended."""
        if inner.cancelled():
            self._withdraw(CANCELLED_AND_NOTIFIED, None, None)
        elif self._claim():
            error = inner.exception()
            self._end(inner.result() if error is None else None, error)


class EngineLane(Lane):
    """Calls that run on an executor that ``factory()`` makes, now and whenever the last one has broken.

    Args:
        clock: where the keeper and callers wait.
        name: the executor's, for the keeper's.
        factory: returns a ``concurrent.futures.Executor``.
        max_pending: how many calls may wait.
        context: whether calls run in a copy of their submitter's context, where the engine runs them in this process.
        retry: how often, and how soon, a call that the engine refused is submitted again.
        recreate: how often a minute the engine is replaced.
        on_end: called by the keeper when all is over, with None: an engine that breaks is replaced.
        on_rebuilt: called by the keeper with the error and the number of rebuilds.
    """

    def __init__(
        self,
        clock: Clock,
        name: str,
        factory: Callable[[], Executor],
        max_pending: float,
        *,
        context: bool,
        retry: Retry,
        recreate: int,
        on_end: Callable[[BrokenExecutor | None], object],
        on_rebuilt: Callable[[BaseException, int], object],
    ) -> None:
        self._name = name
        self._factory = factory
        engine = self._make()
        super().__init__(clock, _workers_of(factory, engine), max_pending, context=context)
        self._in_process = _is_in_process(factory, engine)
        self.context = context and self._in_process
        self.broken: BrokenExecutor | None = None
        self._engine = (0, engine)  # written by the keeper alone
        self._retry = retry
        self._recreate = recreate
        self._rebuilt_at: deque[float] = deque()  # the keeper's own
        self._on_rebuilt = on_rebuilt
        self._closing = False  # written once
        # The calls that have a permit. Whoever pops one gives its permit back: a single step on a dict, atomic.
        self._in_flight: dict[EngineCall[Any], None] = {}
        self._idents: dict[int, None] = {}  # of the engine's threads that are running a call
        self._keeper: ThreadPool[Callable[[], object]] = ThreadPool(
            clock, f"{name}-keeper", 1, on_end=lambda: on_end(None)
        )
        self.start = self._keeper.start
        self.threads = self._keeper.threads

    def new_call(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], terms: Terms
    ) -> EngineCall[Any]:
        """Make a call, for ``put()``. Each may be given up while it runs."""
        return EngineCall(self.clock, self, (fn, args, kwargs, self.captured()), int(terms.idempotent))

    def put(self, call: EngineCall[Any]) -> None:
        """Have a call run. One that the engine refuses is taken over by the keeper, which tries again.

        Raises:
            RuntimeError: the lane is closed; or the engine refuses, and trying again makes no sense.
        """
        self._in_flight[call] = None  # first, so that close() sees it or we see that it is closed
        number, engine = self._engine
        try:
            if self._closing:
                raise RuntimeError("the executor is closed")
            self._send(call, number, engine)
        except RuntimeError as error:
            if self._closing or not self._recreate or is_final(error):
                self._forget(call)
                raise
            self._ask_keeper(functools.partial(self._send_again, call, number, error))
        except BaseException:
            self._forget(call)
            raise

    @override
    def ended(self, call: Call[Any], /, *, failed: bool) -> None:
        (self.failed if failed else self.completed).up()
        self._release(call)

    @override
    def withdrawn(self, call: Call[Any], /, *, failed: bool) -> None:
        (self.failed if failed else self.cancelled).up()
        inner = call.inner if isinstance(call, EngineCall) else None
        if inner is None or inner.cancel():
            self._release(call)  # else it runs on, and keeps its place until the engine has done with it

    def drop_oldest(self) -> bool:
        """Cancel the call that has waited longest; return False where none waits."""
        return any(not call.done() and call.cancel() for call in self._in_flight.copy())

    def cancel_waiting(self) -> None:
        """Cancel every call that waits."""
        for call in self._in_flight.copy():
            call.cancel()

    def is_worker(self) -> bool:
        """Tell whether this thread is running a call of ours."""
        return threading.get_ident() in self._idents

    def close(self) -> None:
        """Take nothing more; end after the last call. Lock-free: callable from a signal handler."""
        self._closing = True
        self._end_if_idle()

    def dispose(self) -> None:
        """Give up what was made before ``start()`` failed."""
        _shut_down(self._engine[1], wait=False)

    def _make(self) -> Executor:
        engine = self._factory()
        if not isinstance(engine, Executor):
            raise TypeError(f"inner must return a concurrent.futures.Executor, not {engine!r}")
        return engine

    def _send(self, call: EngineCall[Any], number: int, engine: Executor) -> None:
        if self._in_process:
            inner: StandardFuture[Any] = engine.submit(self._run, call)
        else:
            work = call.peek()
            if work is None:
                return  # cancelled meanwhile
            fn, args, kwargs, _ = work
            inner = engine.submit(fn, *args, **kwargs)
        call.inner = inner
        inner.add_done_callback(functools.partial(self._settle, call, number))
        if call.done():
            inner.cancel()  # cancelled before the engine's future could be seen

    def _run(self, call: EngineCall[Any]) -> None:
        ident = threading.get_ident()
        self._idents[ident] = None
        try:
            call()
        finally:
            self._idents.pop(ident, None)

    def _settle(self, call: EngineCall[Any], number: int, inner: StandardFuture[Any]) -> None:
        """The engine has done with a call, one way or another."""
        call.inner = None
        error = None if inner.cancelled() else inner.exception()
        if isinstance(error, BrokenExecutor):
            if call.resubmits and call.peek() is not None:
                call.resubmits -= 1
                self._ask_keeper(functools.partial(self._send_again, call, number, error))
                return
            self._ask_keeper(functools.partial(self._rebuild, number, error))
            call.abandon(error)
        elif not self._in_process or error is not None or inner.cancelled():
            call.follow(inner)
        self._release(call)

    def _send_again(self, call: EngineCall[Any], number: int, error: BaseException) -> None:
        """On the keeper: submit a call until it is accepted, or until ``submit_retry`` gives up."""
        started, delay, attempts = self.clock.monotonic(), 0.0, 1
        while not call.done():
            self._rebuild(number, error)
            elapsed = self.clock.monotonic() - started
            next_delay = self._retry.next_delay(RetryState(attempts, error, elapsed, delay))
            if next_delay is None or is_final(error):
                call.abandon(error)
                return
            delay = next_delay
            if call.wait(deadline_after(self.clock, delay)):
                return
            number, engine = self._engine
            attempts += 1
            try:
                self._send(call, number, engine)
                return
            except RuntimeError as refusal:
                error = refusal
            except BaseException as failure:
                call.abandon(failure)
                return

    def _rebuild(self, number: int, error: BaseException) -> None:
        """On the keeper: replace the engine, unless it has been replaced or too many were within a minute."""
        current, old = self._engine
        now = self.clock.monotonic()
        while self._rebuilt_at and self._rebuilt_at[0] <= now - _WINDOW:
            self._rebuilt_at.popleft()
        if number != current or len(self._rebuilt_at) >= self._recreate or is_final(error):
            return
        self._rebuilt_at.append(now)
        try:
            self._engine = (number + 1, self._make())
        except Exception:
            _logger.exception("the engine of executor %r cannot be replaced", self._name)
            return
        _shut_down(old, wait=False)
        self.rebuilds += 1
        self._on_rebuilt(error, self.rebuilds)

    def _forget(self, call: EngineCall[Any]) -> None:
        """A call was not accepted: its permit is the submitter's again."""
        self._in_flight.pop(call, None)
        self._end_if_idle()

    def _release(self, call: Call[Any]) -> None:
        if self._in_flight.pop(call, self) is None:  # type: ignore[call-overload]  # self stands for "not there"
            self.permits.give()
            self._end_if_idle()

    def _end_if_idle(self) -> None:
        # Two threads may both see the last call gone: then the second is refused, or shuts down what is shut down.
        if self._closing and not self._in_flight:
            self._ask_keeper(self._finish)
            self._keeper.close()

    def _ask_keeper(self, item: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # closed: nothing is in flight any more, so nobody needs the engine
            self._keeper.put(item)

    def _finish(self) -> None:
        _shut_down(self._engine[1], wait=True)


def _shut_down(engine: Executor, *, wait: bool) -> None:
    try:
        engine.shutdown(wait=wait)
    except Exception:
        _logger.exception("shutting %r down failed", engine)


def is_final(error: BaseException) -> bool:
    """Tell whether it is the interpreter that refuses, since it exits: nothing is broken, and nothing can be mended."""
    return "interpreter shutdown" in str(error)


def _is_in_process(factory: object, engine: Executor) -> bool:
    """Tell whether an engine runs calls on threads of this interpreter: as it or its factory says, or by its class."""
    said = getattr(factory, "in_process", getattr(engine, "in_process", None))
    if isinstance(said, bool):
        return said
    # Looked up, since importing it would cost those who never need it. The interpreters of 3.14 derive from threads.
    threads = sys.modules.get("concurrent.futures.thread")
    interpreters = sys.modules.get("concurrent.futures.interpreter")
    return (
        threads is not None
        and isinstance(engine, threads.ThreadPoolExecutor)
        and not (interpreters is not None and isinstance(engine, interpreters.InterpreterPoolExecutor))
    )


def _workers_of(factory: object, engine: Executor) -> int:
    """Return how many calls an engine runs at once; 0 where it does not say, so that all of them count as waiting."""
    said = getattr(factory, "workers", getattr(engine, "_max_workers", 0))
    return said if isinstance(said, int) else 0
