"""``Action``: the handler of an action, how it is run, and what it comes to."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import CancelledError, Future
from typing import Any

from threadkit import _arguments
from threadkit._calling import accepts, asks_for, is_async
from threadkit._clock import Clock
from threadkit._errors import ActionError
from threadkit._request import Handling, Request
from threadkit._timer import Timer
from threadkit.events import describe


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

    def run(self, request: Request, clock: Clock) -> Outcome:
        """Run the handler in this thread; an ``async`` one in an event loop of its own.

        Args:
            request: what it is asked.
            clock: what the request's deadline is of.

        Raises:
            KeyboardInterrupt: the program's Ctrl-C came while the handler ran. Everything else becomes an outcome.
        """
        try:
            if self.is_async:
                return self._run_alone(request, clock)
            with Handling(request, clock):
                return Outcome(self._call(request))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the border of user code: the caller gets it as the cause of an ActionError
            return Outcome(error=error)

    async def arun(self, request: Request, clock: Clock) -> Outcome:
        """Await an ``async`` handler; see ``run()``.

        Raises:
            CancelledError: the task that awaits is itself cancelled. A handler's own becomes an outcome.
            KeyboardInterrupt: as above.
        """
        import asyncio

        try:
            with Handling(request, clock):
                return Outcome(await self._call(request))
        except (GeneratorExit, KeyboardInterrupt):
            raise
        except asyncio.CancelledError as error:
            if is_cancelled():
                raise
            return Outcome(error=error)
        except BaseException as error:  # the border of user code, as above
            return Outcome(error=error)

    def _run_alone(self, request: Request, clock: Clock) -> Outcome:
        import asyncio

        # With a factory of its own the runner leaves alone the loop that this thread may have set for other things.
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            return runner.run(self.arun(request, clock))

    def _call(self, request: Request) -> Any:
        return self._function(request) if self._wants_request else self._function()


def outcome_in(future: Future[Outcome], request: Request) -> Outcome:
    """Return what a future holds that is done.

    Raises:
        ActionError: that is no outcome.
        KeyboardInterrupt: the program's Ctrl-C, where the executor ran the handler in this thread.
    """
    try:
        error = future.exception(0)
    except CancelledError as cancelled:
        error = cancelled
    if error is None:
        return future.result(0)
    if isinstance(error, KeyboardInterrupt):
        raise error
    raise given_up(request, error) from error


def given_up(request: Request, error: BaseException) -> ActionError:
    """Return the error that says that the executor, not the handler, failed."""
    return ActionError(request.action, f"its executor gave the call up ({describe(error)})")


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


def is_cancelled() -> bool:
    """Tell whether the current task was asked to end, rather than having met somebody else's ``CancelledError``."""
    import asyncio

    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
