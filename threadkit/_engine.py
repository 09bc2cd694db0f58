"""``EngineLane``: calls that run on somebody else's executor, which is replaced when it breaks.

Whoever notices that the engine is broken (a submitter, a callback, a timer) tells the *keeper*, a thread of ours, with
the engine that it saw. Only the keeper replaces engines, one after the other, and only the one that is still the
present one; so however many notice at once, there is one rebuild, without a lock, and the user's factory runs under
none. The keeper also sends again what was refused, or fell with an engine and may run twice.

An engine that runs calls in this process is given the call itself, which runs once at most whatever the engine does. To
any other the function is sent, and the call waits for the engine's own future.
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, Executor
from concurrent.futures import Future as StandardFuture
from typing import Any

from threadkit._calling import describe_function
from threadkit._clock import Clock, deadline_after
from threadkit._engine_call import EngineCall
from threadkit._future import Call
from threadkit._lane import Lane, Terms
from threadkit._override import override
from threadkit._pace import Pace
from threadkit._plant import Engine, Plant, is_final
from threadkit._pool import ThreadPool
from threadkit._stop import StopToken
from threadkit._tally import Tally
from threadkit.backoff import Retry
from threadkit.events import CallQuarantined, Event

_STRIKES = 2  # so often may a call be running when its engine breaks


class EngineLane(Lane):
    """Calls that run on an executor that ``factory()`` makes, at the start and whenever the last one has broken.

    Args:
        clock: where the keeper and callers wait.
        name: the executor's, for the keeper's.
        factory: returns a ``concurrent.futures.Executor``.
        max_pending: how many calls may wait.
        context: whether calls run in a copy of their submitter's context, where the engine runs them in this process.
        retry: how often, and how soon, a call that the engine refused is submitted again.
        recreate: how often a minute the engine is replaced.
        token: once it is set no engine is made any more.
        emit: told of rebuilds, and of calls that break engines.
        on_end: called by the keeper when all is over, with None: an engine that breaks is replaced.
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
        token: StopToken,
        emit: Callable[[Event], object],
        on_end: Callable[[BrokenExecutor | None], object],
    ) -> None:
        self._plant = Plant(clock, name, factory, retry=retry, recreate=recreate, token=token, emit=emit)
        super().__init__(clock, name, self._plant.workers, max_pending, context=context, emit=emit)
        self.broken: BrokenExecutor | None = None
        self._may_have_context = context
        self._retry = retry
        self._token = token
        self._closing = False  # written once
        # The calls that have a permit. Whoever pops one counts it and gives its permit back: a single step on a dict,
        # atomic.
        self._in_flight: dict[EngineCall[Any], None] = {}
        self._workers: dict[int, threading.Thread] = {}  # the engine's threads that are running a call, by ident
        self._early: list[
            EngineCall[Any]
        ] = []  # put by finalizers inside start(): that thread's own, then the keeper's
        # What the keeper is to send again: the call, the engine that did not make it, and the error.
        self._unsent: deque[tuple[EngineCall[Any], Engine, BaseException]] = deque()
        self._keeper: ThreadPool[Callable[[], object]] = ThreadPool(
            clock, f"{name}-keeper", 1, on_end=lambda: on_end(None)
        )
        self.join = self._keeper.join

    def prepare(self) -> None:
        """Make the first engine.

        Raises:
            BaseException: what the factory raised.
        """
        self._plant.open()
        self.resize(self._plant.workers)
        self.context = self._may_have_context and self._plant.in_process

    def resize(self, workers: int) -> None:
        """Learn how many calls the engine runs at once, where the factory did not say."""
        if self._max_pending != math.inf:
            self.permits.resize(self._bound(workers) - self._bound(self.workers))
        self.workers = workers

    def start(self) -> None:
        """Make the keeper.

        Raises:
            RuntimeError: the system or the interpreter gives no thread.
        """
        self._keeper.start()
        if self._early:
            self._ask_keeper(self._send_early)

    def threads(self) -> list[threading.Thread]:
        """Return the threads of ours, and those of the engine while they run a call of ours; else they are its own."""
        watch = self._plant.timer.thread()
        return [*self._keeper.threads(), *([watch] if watch else []), *self._workers.copy().values()]

    def rebuilds(self) -> int:
        """Return how often the engine was replaced."""
        return self._plant.rebuilds

    def new_call(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], terms: Terms
    ) -> EngineCall[Any]:
        """Make a call, for ``put()``. Each may be given up while it runs."""
        return EngineCall(self.clock, self, (fn, args, kwargs, self.captured()), idempotent=terms.idempotent)

    def put(self, call: EngineCall[Any]) -> None:
        """Have a call run. One that the engine refuses is taken over by the keeper, which tries again.

        Raises:
            RuntimeError: the lane is closed; or the engine refuses, and trying again makes no sense.
        """
        self._in_flight[call] = None  # first, so that close() sees it or we see that it is closed
        engine = self._plant.current
        if engine is None:
            self._early.append(call)
        else:
            self._put(call, engine)

    @override
    def ended(self, call: Call[Any], /, *, failed: bool) -> None:
        self._release(call, self.failed if failed else self.completed)

    @override
    def withdrawn(self, call: Call[Any], /, *, failed: bool) -> None:
        inner = call.inner if isinstance(call, EngineCall) else None
        if inner is None or inner.cancel():
            self._release(
                call, self._tally_of(call)
            )  # else it runs on, and keeps its place until the engine has done with it

    @override
    def refused(self, call: Call[Any], /) -> None:
        self._release(call, None)

    def drop_oldest(self) -> bool:
        """Cancel the call that has waited longest, unless somebody else does; return False where none waits."""
        return any(self._drop(call) or call.cancelled() for call in self._in_flight.copy() if not call.done())

    def cancel_waiting(self) -> None:
        """Cancel every call that waits."""
        for call in self._in_flight.copy():
            call.cancel()

    def is_worker(self) -> bool:
        """Tell whether this thread is running a call of ours."""
        return threading.get_ident() in self._workers

    def close(self) -> None:
        """Take nothing more; end after the last call. Lock-free: callable from a signal handler."""
        self._closing = True
        self._end_if_idle()

    def dispose(self, error: BaseException) -> None:
        """Give up what was made before ``start()`` failed."""
        self._plant.close(wait=False)
        for call in self._early:
            call.abandon(error)

    def _put(self, call: EngineCall[Any], engine: Engine) -> None:
        try:
            if self._closing:
                raise RuntimeError("the executor is closed")
            self._send(call, engine)
        except RuntimeError as error:
            if self._closing or is_final(error) or not (self._plant.recreate or self._plant.is_busy(error)):
                raise
            self._send_later(call, engine, error)

    def _send(self, call: EngineCall[Any], engine: Engine) -> None:
        self._plant.check(engine)
        call.lost = None
        if self._plant.in_process:
            inner: StandardFuture[Any] = engine.executor.submit(self._run, call)
        else:
            work = call.peek()
            if work is None:
                return  # cancelled meanwhile
            fn, args, kwargs, _ = work
            if kwargs:  # some engines take keywords such as ``key`` or ``self`` for their own
                fn, args = functools.partial(fn, *args, **kwargs), ()
            inner = engine.executor.submit(fn, *args)
        call.inner = inner
        inner.add_done_callback(functools.partial(self._settle, call, engine))
        if call.done():
            inner.cancel()  # cancelled before the engine's future could be seen
        elif engine.watch is not None:
            lose = functools.partial(self._lose, call, engine, inner)
            engine.watch.add(inner, functools.partial(self._ask_keeper, lose))

    def _run(self, call: EngineCall[Any]) -> None:
        ident = threading.get_ident()
        self._workers[ident] = threading.current_thread()
        try:
            call()
        finally:
            self._workers.pop(ident, None)

    def _settle(self, call: EngineCall[Any], engine: Engine, inner: StandardFuture[Any]) -> None:
        """The engine has done with a call, one way or another."""
        call.inner = None
        cancelled = inner.cancelled()
        error: BaseException | None = call.lost or (None if cancelled else inner.exception())
        is_lost = cancelled and not call.is_asked_for and call.peek() is not None
        if not self._plant.is_break(engine, error, lost=is_lost):
            if not self._plant.in_process or error is not None or cancelled:
                call.follow(inner)
            self._release(call, self._tally_of(call))
            return
        if not isinstance(error, BrokenExecutor):
            broken = BrokenExecutor(
                f"the engine broke under the call: {error}" if error else "the engine lost the call"
            )
            broken.__cause__ = error
            error = broken
        engine.casualties.append(None)
        is_suspect = not is_lost and len(engine.casualties) <= (self.workers or math.inf)
        if call.idempotent and call.peek() is not None:
            self._ask_keeper(functools.partial(self._salvage, call, engine, error, is_suspect=is_suspect))
        else:
            self._ask_keeper(functools.partial(self._plant.replace, engine, error))
            call.abandon(error)
            self._release(call, self._tally_of(call))

    def _salvage(self, call: EngineCall[Any], engine: Engine, error: BrokenExecutor, *, is_suspect: bool) -> None:
        """On the keeper: send a call again that an engine broke under, unless that was its own doing.

        Engines begin calls in their order, and when they break they fail them in their order. So the first of those
        that fail, as many as there are workers, were running. One of which that is true twice is to blame, or has very
        bad luck.
        """
        call.strikes += is_suspect
        if call.strikes < _STRIKES:
            self._send_later(call, engine, error)
            return
        work = call.peek()
        name = describe_function(work[0]) if work is not None else "the call"
        guilty = BrokenExecutor(
            f"{name} was running when the engine of executor {self.name!r} broke, {_STRIKES} times: not made again"
        )
        guilty.__cause__ = error
        self._emit(CallQuarantined(component=self.name, function=name, error=guilty))
        call.abandon(guilty)
        self._release(call, self._tally_of(call))
        self._plant.replace(engine, error)

    def _lose(self, call: EngineCall[Any], engine: Engine, inner: StandardFuture[Any]) -> None:
        """On the keeper: the engine has had a call for too long, so both are given up."""
        if call.done() or call.inner is not inner:
            return
        call.lost = error = BrokenExecutor(f"the engine has not ended the call within {self._plant.lost_after} s")
        if not inner.cancel():  # else it has been settled just now
            engine.lost.append(None)
            call.abandon(error)  # first: a killed engine settles what it is at, and this is not made again
            self._plant.replace(engine, error)
            self._release(call, self._tally_of(call))

    def _send_later(self, call: EngineCall[Any], engine: Engine, error: BaseException) -> None:
        self._unsent.append((call, engine, error))
        self._ask_keeper(self._mend)

    def _send_early(self) -> None:
        """On the keeper: send what could not be sent before there was an engine."""
        early, self._early = self._early, []
        for call in early:
            self._send_again(call, self._plant.present())
        self._mend()

    def _mend(self) -> None:
        """On the keeper: send again what was not made, until all of it is accepted or ``submit_retry`` gives up."""
        pace = Pace(self.clock, self._retry)
        while self._unsent:
            call, engine, error = self._unsent.popleft()
            try:
                better = self._better_engine(call, engine, error, pace)
            except BaseException as hopeless:
                call.abandon(hopeless)
                continue
            if better is not None:
                self._send_again(call, better)

    def _send_again(self, call: EngineCall[Any], engine: Engine) -> None:
        try:
            self._send(call, engine)
        except RuntimeError as refusal:
            self._unsent.appendleft((call, engine, refusal))
        except BaseException as failure:
            call.abandon(failure)

    def _better_engine(self, call: EngineCall[Any], engine: Engine, error: BaseException, pace: Pace) -> Engine | None:
        """Replace the engine or wait for it to recover; return None where the call is done meanwhile.

        Raises:
            BaseException: the error, where there is no hope.
        """
        if engine is self._plant.current and not call.done():
            self._plant.replace(engine, error, pause=False)
            delay = pace.after(error)
            if delay is None or is_final(error):
                raise error
            deadline = deadline_after(self.clock, delay)
            if self._plant.is_busy(error):
                call.wait(deadline)
            else:
                call.wait_unless_stopped(deadline, self._token)
                if self._token.is_set() and engine is self._plant.current:
                    raise error  # a stop is final: there will never be another engine
        return None if call.done() else self._plant.present()

    def _tally_of(self, call: Call[Any]) -> Tally:
        """Return where a call is counted that is done."""
        return self.cancelled if call.cancelled() else self.failed

    def _release(self, call: Call[Any], tally: Tally | None) -> None:
        if self._in_flight.pop(call, self) is None:  # type: ignore[call-overload]  # self stands for "not there"
            if tally is not None:
                tally.up()
            self.permits.give()
            self._end_if_idle()

    def _end_if_idle(self) -> None:
        # Two threads may both see the last call gone: then the second is refused, or shuts down what is shut down.
        if self._closing and not self._in_flight and self._plant.current is not None:
            self._ask_keeper(self._finish)
            self._keeper.close()

    def _ask_keeper(self, item: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # closed: nothing is in flight any more, so nobody needs the engine
            self._keeper.put(item)

    def _finish(self) -> None:
        self._plant.close(wait=True)
