"""``Intake``: what happens to a call between ``submit()`` and the line, above all where there is no room."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import BrokenExecutor
from typing import Any, Literal, NoReturn, Protocol

from threadkit import _arguments
from threadkit._calling import is_on_event_loop
from threadkit._clock import Clock, deadline_after
from threadkit._errors import Closed, Full, WouldBlock
from threadkit._future import Call
from threadkit._lane import Terms
from threadkit._pace import Pace, once_there_is_a_thread
from threadkit._permits import Permits
from threadkit._stop import StopToken
from threadkit._tally import Tally
from threadkit._timed_call import TimedCall
from threadkit._timer import Timer
from threadkit.backoff import Retry
from threadkit.events import CallRejected, Event

OnFull = Literal["block", "reject", "caller_runs", "drop_oldest"]
ON_FULL: tuple[OnFull, ...] = ("block", "reject", "caller_runs", "drop_oldest")

Arguments = tuple[Any, ...]
Keywords = Mapping[str, Any]


_Otherwise = Callable[[Callable[..., Any], Arguments, Keywords, Terms, float | None], Call[Any]]

_PLAIN = Terms()


class _Lane(Protocol):
    """What an intake needs of a lane."""

    clock: Clock
    permits: Permits
    broken: BrokenExecutor | None

    @property
    def put(self) -> Callable[[Any], None]: ...
    def new_call(self, fn: Callable[..., Any], args: Arguments, kwargs: Keywords, terms: Terms) -> Call[Any]: ...
    def run_here(self, fn: Callable[..., Any], args: Arguments, kwargs: Keywords) -> Call[Any]: ...
    def refused(self, call: Any, /) -> None: ...
    def drop_oldest(self) -> bool: ...
    def is_worker(self) -> bool: ...


class Intake:
    """Takes calls for one lane, as many as its permits allow.

    Args:
        name: the executor's.
        lane: where calls go.
        on_full: what to do where there is no permit.
        limit: how many calls may wait, for messages.
        retry: how often, and how soon, a thread that the system refused is asked for again.
        token: set when nothing more is to be taken.
        emit: told of calls that are refused.
    """

    def __init__(
        self,
        name: str,
        lane: _Lane,
        on_full: OnFull,
        limit: float,
        *,
        retry: Retry,
        token: StopToken,
        emit: Callable[[Event], object],
    ) -> None:
        self.clock = lane.clock
        self.rejected = Tally()
        self.timer = Timer(lane.clock, f"{name}-timer")
        self._name = name
        self._lane = lane
        self._permits = lane.permits
        self._on_full = on_full
        self._limit = limit
        self._retry = retry
        self._token = token
        self._emit = emit

    def submit(self, fn: Callable[..., Any], args: Arguments, kwargs: Keywords, terms: Terms = _PLAIN) -> Call[Any]:
        """Take a call, and make room for it as ``on_full`` says.

        Raises:
            Closed: nothing more is taken.
            Full: there is no room, or was none in time.
            WouldBlock: there is no room, and this thread must not wait for it.
        """
        deadline = None if terms.timeout is None else deadline_after(self.clock, terms.timeout)  # most have none
        return self._take(fn, args, kwargs, terms, deadline, self._make_room)

    def submit_until(self, fn: Callable[..., Any], args: Arguments, terms: Terms, until: float | None) -> Call[Any]:
        """Do as ``submit()``, for one who has until a moment of his own.

        Raises:
            TimeoutError: there was no room by then.
        """
        otherwise = self._make_room if until is None else functools.partial(self._make_room, until=until)
        return self._take(fn, args, {}, terms, deadline_after(self.clock, terms.timeout), otherwise)

    def try_submit(self, fn: Callable[..., Any], args: Arguments, kwargs: Keywords, terms: Terms = _PLAIN) -> Call[Any]:
        """Take a call if there is room.

        Raises:
            Closed: nothing more is taken.
            Full: there is no room.
        """
        return self._take(fn, args, kwargs, terms, deadline_after(self.clock, terms.timeout), self._have_no_room)

    async def acall(self, fn: Callable[..., Any], args: Arguments, kwargs: Keywords, terms: Terms = _PLAIN) -> Any:
        """Take a call, wait for it, and return its result, all without blocking the event loop.

        Raises:
            Closed: nothing more is taken.
            Full: there is no room, or was none in time.
        """
        deadline = deadline_after(self.clock, terms.timeout)
        if not self._permits.take_now():
            self._refuse_if_over()
            if self._is_cancelled(terms):
                return await self._stillborn(fn, args, kwargs).on_loop()
            if self._on_full in {"block", "caller_runs"}:  # run by its caller, a call would block the loop
                with self._woken_by(terms.token), self._woken_at(deadline):
                    has_room = await self._permits.take_on_loop(self._has_given_up(terms, deadline))
                if not has_room and self._is_cancelled(terms):
                    return await self._stillborn(fn, args, kwargs).on_loop()
            else:
                has_room = self._on_full == "drop_oldest" and self._drop()
            if not has_room:
                self._reject(self._on_full)
        return await self._take(fn, args, kwargs, terms, deadline, None).on_loop()

    def _take(
        self,
        fn: Callable[..., Any],
        args: Arguments,
        kwargs: Keywords,
        terms: Terms,
        deadline: float | None,
        otherwise: _Otherwise | None,
    ) -> Call[Any]:
        """Hand a call on that has a permit, or gets one now; where there is none, do ``otherwise``.

        In one function, for between a permit and the ``try`` no call may begin or end: there Ctrl-C strikes.
        """
        call: Call[Any] | None = None
        if otherwise is not None and not self._permits.take_now():
            return otherwise(fn, args, kwargs, terms, deadline)
        try:
            _arguments.function(fn, "fn")
            call = self._lane.new_call(fn, args, kwargs, terms)
            self._lane.put(call)
        except BaseException as error:  # whatever it is: the permit goes back, and nobody waits for the future
            if call is None:
                self._permits.give()
            elif call.unsubmit():
                self._lane.refused(call)
            # Else it was handed on all the same, and has begun: the permit comes back when it ends.
            if isinstance(error, RuntimeError):
                self._refuse_if_over()
            raise
        if deadline is not None or terms.token is not None:
            self._attach(call, terms, deadline)
        return call

    def _make_room(
        self,
        fn: Callable[..., Any],
        args: Arguments,
        kwargs: Keywords,
        terms: Terms,
        deadline: float | None,
        until: float = math.inf,
    ) -> Call[Any]:
        """Take a call as ``on_full`` says."""
        self._refuse_if_over()  # first: what is refused must be run by nobody, and drop nobody
        if self._is_cancelled(terms):
            return self._stillborn(fn, args, kwargs)
        self._refuse_if_late(until)
        if self._on_full == "caller_runs":
            self._refuse_on_loop()
            return self._lane.run_here(_arguments.function(fn, "fn"), args, kwargs)
        if self._on_full == "block":
            self._refuse_to_block()
            with self._woken_by(terms.token):
                has_room = self._permits.take(_earlier(deadline, until), self._has_given_up(terms))
            if not has_room and self._is_cancelled(terms):
                return self._stillborn(fn, args, kwargs)
        else:
            has_room = self._on_full == "drop_oldest" and self._drop()
        if not has_room:
            self._refuse_if_over()
            self._refuse_if_late(until)
            self._reject(self._on_full)
        return self._take(fn, args, kwargs, terms, deadline, None)

    def _have_no_room(self, *_: object) -> NoReturn:
        self._refuse_if_over()
        self.rejected.up()
        raise Full("executor", self._name, self._limit)

    def _attach(self, call: Call[Any], terms: Terms, deadline: float | None) -> None:
        """Have a call end early when its token is set or its time is over; all of it goes when the call is done."""
        try:
            if terms.token is not None:
                hook = terms.token.on_stop(call.cancel)
                call.add_done_callback(lambda _: hook.remove())
            if deadline is not None and terms.timeout is not None and isinstance(call, TimedCall):
                self._watch(call, terms.timeout, deadline)
        except BaseException:  # no thread to be had for the timer
            call.cancel()
            raise

    def _watch(self, call: TimedCall[Any], timeout: float, deadline: float) -> None:
        """Have a call end early when its time is over."""
        clock, timer = self.clock, self.timer

        def watch() -> None:
            if not call.done():
                entry = timer.at(deadline, functools.partial(_expire, call, timeout))
                call.add_done_callback(lambda _: timer.cancel(entry))

        def wait(seconds: float) -> bool:
            call.wait(deadline_after(clock, seconds))
            return False

        once_there_is_a_thread(watch, Pace(clock, self._retry), wait)

    def _refuse_to_block(self) -> None:
        if self._lane.is_worker():
            raise WouldBlock("submit()", f"a worker of executor {self._name!r}, which is full", "try_submit()")
        self._refuse_on_loop()

    def _refuse_on_loop(self) -> None:
        if is_on_event_loop():
            raise WouldBlock("submit()", "an event loop's thread", "await acall()")

    def _refuse_if_over(self) -> None:
        if self._lane.broken is not None:
            raise BrokenExecutor(*self._lane.broken.args) from self._lane.broken
        if self._token.is_set():
            raise Closed("executor", self._name) from None

    def _refuse_if_late(self, until: float) -> None:
        if self.clock.monotonic() >= until:
            raise TimeoutError

    def _reject(self, policy: str) -> NoReturn:
        self._refuse_if_over()
        self.rejected.up()
        self._emit(CallRejected(component=self._name, policy=policy, limit=self._limit))
        raise Full("executor", self._name, self._limit)

    def _drop(self) -> bool:
        """Cancel calls until there is a permit; return False where none is left to cancel."""
        while not self._permits.take_now():
            if not self._lane.drop_oldest():
                return False
        return True

    def _stillborn(self, fn: Callable[..., Any], args: Arguments, kwargs: Keywords) -> Call[Any]:
        """Return the future of a call that was cancelled before there was room for it."""
        call = self._lane.new_call(fn, args, kwargs, _PLAIN)
        call.unsubmit()
        return call

    def _has_given_up(self, terms: Terms, deadline: float | None = None) -> Callable[[], bool]:
        """Return what tells somebody who waits for room whether to go on."""

        def given_up() -> bool:
            return (
                self._token.is_set()
                or self._lane.broken is not None
                or self._is_cancelled(terms)
                or (deadline is not None and self.clock.monotonic() >= deadline)
            )

        return given_up

    def _is_cancelled(self, terms: Terms) -> bool:
        return terms.token is not None and terms.token.is_set()

    @contextlib.contextmanager
    def _woken_by(self, token: StopToken | None) -> Generator[None]:
        """Have those who wait for room look again when a token is set."""
        if token is None:
            yield
        else:
            with token.on_stop(self._permits.wake_all):
                yield

    @contextlib.contextmanager
    def _woken_at(self, deadline: float | None) -> Generator[None]:
        """Have those who wait for room on an event loop look again at a deadline."""
        if deadline is None:
            yield
            return
        entry = self.timer.at(deadline, lambda _: self._permits.wake_all())
        try:
            yield
        finally:
            self.timer.cancel(entry)


def _earlier(deadline: float | None, until: float) -> float | None:
    """Return the earlier of two deadlines, of which None and ``inf`` are no limit."""
    earlier = until if deadline is None else min(deadline, until)
    return None if earlier == math.inf else earlier


def _expire(call: TimedCall[Any], timeout: float, _: object) -> None:
    call.expire("the call", timeout)
