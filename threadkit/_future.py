"""``Call``: a piece of work and the future of its result, in one object that costs little until somebody waits for it.

``concurrent.futures.Future`` makes a ``Condition`` for each future and enters it four times, which is where most of a
``ThreadPoolExecutor``'s time goes. A call has no lock of its own; it has

* the *right*, a list that holds the work. Whoever pops it decides what becomes of the call: the worker that runs it, or
  who withdraws it. ``list.pop`` is one atomic step, with and without the GIL, so there is never a second to decide.
* the *audience*, made by the first who waits, listens or asks for ``_condition``. Who settles the call writes its state
  first and looks for an audience then; who joins makes the audience first and looks at the state then. Whichever order
  they meet in, one sees the other, and nobody waits for what has happened.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, InvalidStateError
from concurrent.futures import Future as StandardFuture
from concurrent.futures._base import CANCELLED_AND_NOTIFIED, FINISHED, PENDING
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from threadkit import _arguments
from threadkit._calling import describe_function
from threadkit._clock import Clock, deadline_after
from threadkit._override import override
from threadkit._unread import Unread
from threadkit._waiting import Waiters

T = TypeVar("T")

Work = tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any], "contextvars.Context | None"]

_DONE = frozenset({CANCELLED_AND_NOTIFIED, FINISHED})

_logger = logging.getLogger("threadkit")


class Host(Protocol):
    """Where a call waits and runs: whom it tells of its end."""

    def ended(self, call: Call[Any], /, *, failed: bool) -> None:
        """A call that was run has returned or raised; its future is not done yet."""

    def withdrawn(self, call: Call[Any], /, *, failed: bool) -> None:
        """A call will not be run: it was cancelled, or it failed while it waited."""

    def unread(self, name: str, error: BaseException) -> Unread | None:
        """Return what speaks up where nobody asks for the error of a call of the function of this name."""


class _Nobody:
    """The host of a call that has ended or has never been handed on."""

    def ended(self, call: Call[Any], /, *, failed: bool) -> None:
        """Do nothing."""

    def withdrawn(self, call: Call[Any], /, *, failed: bool) -> None:
        """Do nothing."""

    def unread(self, name: str, error: BaseException) -> None:
        """Do nothing."""


NOBODY = _Nobody()


class _Audience:
    """Who waits for a call, or listens to it."""

    __slots__ = ("callbacks", "gates", "lock", "waiters")

    def __init__(self) -> None:
        # Guards waiters, and has those who settle a call from outside do so one after the other. No user code runs
        # under it. Reentrant, since a finalizer that strikes inside may cancel this very call.
        self.lock = threading.RLock()
        self.waiters: list[Any] = []  # those of the standard library
        self.gates = Waiters()
        self.callbacks: deque[Callable[[Any], object]] = deque()


class Call(StandardFuture[T]):
    """One call: what is to be done, and the future of its result. Calling it does it.

    ``concurrent.futures.wait`` and ``as_completed``, and ``asyncio.wrap_future``, take it as one of their own.

    Args:
        clock: where ``result()`` waits.
        lane: who is told of the end, exactly once. Forgotten then, so that a result does not keep an executor alive.
        work: the function, its arguments, and the context to run it in, if any.
    """

    __slots__ = ("_clock", "_exception", "_lane", "_result", "_right", "_state")

    # In the instance's dict once it is made, since dict.setdefault() is the atomic "make it unless somebody else has".
    _audience: _Audience | None = None
    _unread: Unread | None = None  # in the instance's dict where there is an error

    def __init__(self, clock: Clock, lane: Host, work: Work) -> None:  # without super(): it would make the Condition
        self._clock = clock
        self._lane = lane
        self._right: list[Work] = [work]
        # PENDING until the end, for one that runs is told by its right, which is gone; two writers could overtake each
        # other. Written after _result and _exception, and once it is done none of the three ever changes.
        self._state = PENDING
        self._result: T | None = None
        self._exception: BaseException | None = None

    def __call__(self) -> None:
        """Run it, unless it has been withdrawn."""
        try:
            fn, args, kwargs, context = self._right.pop()
        except IndexError:
            return
        try:
            result = fn(*args, **kwargs) if context is None else context.run(fn, *args, **kwargs)
        except BaseException as error:  # SystemExit and its like as well: the future carries whatever was raised
            unread = self._lane.unread(describe_function(fn), error)
            del fn, args, kwargs, context
            self._end(None, error, unread)
            del self, unread  # error -> traceback -> this frame -> call -> error would be a cycle
        else:
            del fn, args, kwargs, context  # what only this call held is gone before its result is seen
            self._end(result, None)

    @override
    def running(self) -> bool:
        """Return True while a worker is at it."""
        with self._join().lock:  # who withdraws it has the right for a moment, too
            return not self._right and self._state == PENDING

    @override
    def done(self) -> bool:
        """Return True once there is a result, an error or a cancellation."""
        return self._state in _DONE

    @override
    def cancelled(self) -> bool:
        """Return True where it was cancelled."""
        return self._state == CANCELLED_AND_NOTIFIED

    @override
    def cancel(self) -> bool:
        """Cancel it unless it is running or done; a call that waits gives its place up at once.

        Returns:
            True when it is cancelled now, by this call or an earlier one.
        """
        self._withdraw(CANCELLED_AND_NOTIFIED, None, None)
        return self.cancelled()

    @override
    def result(self, timeout: float | timedelta | None = None) -> T:
        """Wait for the result and return it.

        Args:
            timeout: how long at most, in seconds; None and ``inf`` are for ever.

        Raises:
            CancelledError: it was cancelled.
            TimeoutError: the time was over first.
            TypeError: ``timeout`` is no duration.
            ValueError: ``timeout`` is negative or ``nan``.
            BaseException: whatever the call raised.
        """
        try:
            if self._state != FINISHED:
                self._wait(timeout)
            if self._exception is not None:
                self._be_read()
                raise self._exception
            return self._result  # type: ignore[return-value]  # finished without an error: it is a T
        finally:
            del self  # error -> traceback -> this frame -> call -> error would be a cycle

    @override
    def exception(self, timeout: float | timedelta | None = None) -> BaseException | None:
        """Wait for the end and return what the call raised; None where it returned.

        Args:
            timeout: how long at most, in seconds; None and ``inf`` are for ever.

        Raises:
            CancelledError: it was cancelled.
            TimeoutError: the time was over first.
            TypeError: ``timeout`` is no duration.
            ValueError: ``timeout`` is negative or ``nan``.
        """
        if self._state != FINISHED:
            self._wait(timeout)
        self._be_read()
        return self._exception

    @override
    def add_done_callback(self, fn: Callable[[StandardFuture[T]], object]) -> None:
        """Have ``fn(self)`` called when it is done, in the thread that it happens in; here and now where it is done.

        What ``fn`` raises is logged.
        """
        audience = self._join()
        audience.callbacks.append(fn)
        if self.done():
            self._call_back(audience)

    @override
    def set_result(self, result: T) -> None:
        """Finish a call that nobody has begun. For tests.

        Raises:
            concurrent.futures.InvalidStateError: it is running or done.
        """
        if not self._withdraw(FINISHED, result, None):
            raise InvalidStateError(f"only a call that waits can be finished from outside, unlike {self!r}")

    @override
    def set_exception(self, exception: BaseException | None) -> None:
        """Finish a call that nobody has begun with an error. For tests.

        Raises:
            concurrent.futures.InvalidStateError: it is running or done.
        """
        if not self._withdraw(FINISHED, None, exception):
            raise InvalidStateError(f"only a call that waits can be finished from outside, unlike {self!r}")

    def peek(self) -> Work | None:
        """Return the work; None where somebody has begun or withdrawn it."""
        return next(iter(self._right.copy()), None)

    def drop(self) -> bool:
        """Cancel it in favour of another; return whether it was this that cancelled it."""
        return self._withdraw(CANCELLED_AND_NOTIFIED, None, None)

    def fail(self, error: BaseException) -> bool:
        """Finish a call that waits with an error; return False where it was begun or done."""
        return self._withdraw(FINISHED, None, error)

    def unsubmit(self) -> bool:
        """Cancel a call that could not be handed on, without telling its lane; return False where it was begun."""
        with self._join().lock:
            if not self._claim():
                return False
            self._settle(CANCELLED_AND_NOTIFIED, None, None)
        self._lane = NOBODY
        self._tell()
        return True

    async def on_loop(self) -> T:
        """Wait for the result on an event loop; where that is cancelled, cancel the call."""
        import asyncio

        loop = asyncio.get_running_loop()
        seen = loop.create_future()

        def see() -> None:
            if not seen.done():
                seen.set_result(None)

        def tell(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(see)

        self.add_done_callback(tell)
        try:
            await seen
        except BaseException:
            self.cancel()
            raise
        return self.result()  # rather than through asyncio's futures, which a StopIteration cannot pass

    def wait(self, deadline: float | None) -> bool:
        """Wait until it is done or the clock reaches ``deadline``; return whether it is done."""
        return self.done() or self._join().gates.wait(self._clock, self.done, deadline)

    def __repr__(self) -> str:
        state = "running" if self.running() else self._state.split("_", maxsplit=1)[0].lower()
        return f"<{type(self).__name__} at {id(self):#x} state={state}>"

    @property
    def _condition(self) -> Any:  # type: ignore[override]  # the standard library only ever holds it
        return self._join().lock

    @property
    def _waiters(self) -> list[Any]:  # type: ignore[override]  # the standard library only changes the list
        return self._join().waiters

    def _join(self) -> _Audience:
        return self._audience or vars(self).setdefault("_audience", _Audience())

    def _wait(self, timeout: float | timedelta | None) -> None:
        if not self.wait(deadline_after(self._clock, _arguments.timeout(timeout))):
            raise TimeoutError
        if self._state != FINISHED:
            raise CancelledError

    def _be_read(self) -> None:
        unread = self._unread
        if unread is not None:
            unread.read()

    def _name(self) -> str:
        """Return the name of the function, while nobody has begun it. It asks the function, so not under a lock."""
        work = self.peek()
        return "" if work is None else describe_function(work[0])

    def _claim(self) -> bool:
        try:
            self._right.pop()
        except IndexError:
            return False
        return True

    def _withdraw(self, state: str, result: T | None, error: BaseException | None) -> bool:
        """Settle a call that nobody has begun; return False where somebody has."""
        name = "" if error is None else self._name()
        with self._join().lock:  # so that who comes second sees what the first has made of it
            if not self._claim():
                return False
            if error is not None:
                self._unread = self._lane.unread(name, error)
            self._settle(state, result, error)
        lane, self._lane = self._lane, NOBODY
        lane.withdrawn(self, failed=error is not None)
        self._tell()
        return True

    def _end(self, result: T | None, error: BaseException | None, unread: Unread | None = None) -> None:
        """Settle a call that was run. The right to it is here, so nobody else will."""
        lane, self._lane = self._lane, NOBODY
        lane.ended(self, failed=error is not None)
        if unread is not None:  # a success must not cost a dict
            self._unread = unread
        self._settle(FINISHED, result, error)
        self._tell()

    def _settle(self, state: str, result: T | None, error: BaseException | None) -> None:
        self._result = result
        self._exception = error
        self._state = state

    def _tell(self) -> None:
        audience = self._audience
        if audience is None:
            return
        with audience.lock:
            for waiter in audience.waiters:
                if self._state != FINISHED:
                    waiter.add_cancelled(self)
                elif self._exception is not None:
                    waiter.add_exception(self)
                else:
                    waiter.add_result(self)
        audience.gates.wake_all()
        self._call_back(audience)

    def _call_back(self, audience: _Audience) -> None:
        # Who settles the call and who adds a callback may be here at once: whoever pops a callback calls it.
        while audience.callbacks:
            try:
                callback = audience.callbacks.popleft()
            except IndexError:
                return
            try:
                callback(self)
            except BaseException:  # even SystemExit must neither end a worker nor keep the other callbacks waiting
                _logger.exception("callback %r of %r failed", callback, self)
