"""``Request`` and the handlers of actions: how one is run, and how it finds its own request."""

from __future__ import annotations

import contextlib
import contextvars
import os
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor, Future
from typing import Any, Protocol, runtime_checkable

import attrs

from threadkit import _arguments
from threadkit._calling import accepts, asks_for, is_async
from threadkit._clock import Clock
from threadkit._errors import ActionError
from threadkit._timer import Timer
from threadkit._waiting import Waiters
from threadkit.events import describe


@attrs.frozen
class Request:
    """What the handler of an action is called with, where it asks for it.

    Attributes:
        id: unique, a short text.
        action: the name of the action.
        payload: what the caller passed.
        deadline: when the caller stops waiting, in seconds of the bus's clock; None where it waits for ever.

    Example:
        >>> Request("7f3a", "resize", {"width": 80}).payload["width"]
        80
    """

    id: str
    action: str
    payload: Any = None
    deadline: float | None = None


_current: contextvars.ContextVar[Request | None] = contextvars.ContextVar("threadkit_request", default=None)


def current_request() -> Request | None:
    """Return the request that is being handled here, or None outside of the handlers of actions.

    Each handler has its own, also when calls are nested or run at the same time.

    Example:
        >>> from threadkit import Bus, current_request
        >>> bus = Bus()
        >>> @bus.action("whoami")
        ... def whoami():
        ...     return current_request().action
        >>> bus.call("whoami"), current_request()
        ('whoami', None)
    """
    return _current.get()


def new_request(action: str, payload: Any, deadline: float | None) -> Request:
    """Return a request with an id of its own."""
    return Request(os.urandom(8).hex(), action, payload, deadline)


class Outcome:
    """What a handler returned or raised: a value, so that what the executor itself raises cannot be taken for it."""

    __slots__ = ("error", "value")

    def __init__(self, value: Any = None, error: BaseException | None = None) -> None:
        self.value = value
        self.error = error

    def reply(self, request: Request) -> Any:
        """Return what the handler returned.

        Raises:
            ActionError: the handler raised; that is the ``__cause__``.
        """
        if self.error is None:
            return self.value
        raise ActionError(request.action, describe(self.error)) from self.error


class Action:
    """The handler of an action: ``f()`` or ``f(request)``, plain or ``async``.

    Raises:
        TypeError: it can be called neither way.
    """

    __slots__ = ("_function", "_wants_request", "is_async")

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = _arguments.function(function, "handler")
        self._wants_request = asks_for(function, "Request")
        self.is_async = is_async(function)
        if not accepts(function, int(self._wants_request)):
            raise TypeError(f"handler must be f() or f(request), but is {function!r}")

    def run(self, request: Request) -> Outcome:
        """Run the handler in this thread; an ``async`` one in an event loop of its own.

        Raises:
            KeyboardInterrupt: the program's Ctrl-C came while the handler ran. Everything else becomes an outcome.
        """
        if self.is_async:
            import asyncio

            return asyncio.run(self.arun(request))
        before = _current.set(request)
        try:
            return Outcome(self._call(request))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the border of user code: the caller gets it as the cause of an ActionError
            return Outcome(error=error)
        finally:
            _current.reset(before)

    async def arun(self, request: Request) -> Outcome:
        """Await an ``async`` handler.

        Raises:
            CancelledError: the task that awaits is itself cancelled. A handler's own becomes an outcome.
            KeyboardInterrupt: as above.
        """
        import asyncio

        before = _current.set(request)
        try:
            return Outcome(await self._call(request))
        except (GeneratorExit, KeyboardInterrupt):
            raise
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            return Outcome(error=error)
        except BaseException as error:  # the border of user code, as above
            return Outcome(error=error)
        finally:
            _current.reset(before)

    def _call(self, request: Request) -> Any:
        return self._function(request) if self._wants_request else self._function()


async def await_outcome(executor: Executor, call: Callable[[], Outcome], action: str) -> Outcome:
    """Have a handler run on an executor, and wait for it without blocking the event loop.

    Raises:
        ActionError: the executor gave the call up.
        CancelledError: the task that awaits is itself cancelled.
    """
    import asyncio

    try:
        if isinstance(executor, _Awaitable):  # one of ours can wait for a free place without blocking the loop
            return await executor.acall(call)
        return await asyncio.wrap_future(executor.submit(call))
    except asyncio.CancelledError as error:
        if _is_cancelled():
            raise
        raise given_up(action, error) from error


def wait_for_outcome(future: Future[Outcome], clock: Clock, request: Request) -> Outcome | None:
    """Wait for what a handler on an executor makes of a request; None is no outcome before the deadline.

    Raises:
        ActionError: the executor gave the call up.
    """
    waiters = Waiters()
    future.add_done_callback(lambda _: waiters.wake_all())
    if not waiters.wait(clock, future.done, request.deadline):
        future.cancel()
        return None
    try:
        return future.result(0)
    except BaseException as error:  # not the handler's, for an outcome has that
        raise given_up(request.action, error) from error


def given_up(action: str, error: BaseException) -> ActionError:
    """Return the error that says that the executor, not the handler, failed."""
    return ActionError(action, f"its executor gave the call up ({describe(error)})")


@contextlib.asynccontextmanager
async def time_limit(timer: Timer, deadline: float | None) -> AsyncGenerator[None]:
    """Cancel what is awaited inside, and raise TimeoutError, when the timer's clock reaches the deadline."""
    import asyncio

    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as scope:
        is_open = True

        def expire() -> None:
            if is_open:
                scope.reschedule(0.0)  # long ago: now

        def expire_soon(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed, and nobody waits any more
                loop.call_soon_threadsafe(expire)

        entry = None if deadline is None else timer.at(deadline, expire_soon)
        try:
            yield
        finally:
            is_open = False
            if entry is not None:
                timer.cancel(entry)


@runtime_checkable
class _Awaitable(Protocol):
    async def acall(self, fn: Callable[[], Outcome], /) -> Outcome: ...


def _is_cancelled() -> bool:
    """Tell whether the current task was asked to end, rather than having met somebody else's ``CancelledError``."""
    import asyncio

    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
