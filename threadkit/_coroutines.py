"""Async functions where plain ones would do: they run on an event loop, and a stop cancels them.

A thread, a task and a queue take ``loop=``, and need to know no more of asyncio than what stands here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from threadkit import _arguments
from threadkit._calling import is_async
from threadkit._stop import StopToken
from threadkit._verdicts import Stopping
from threadkit._waiting import outcome_of

T = TypeVar("T")


class Loop(ABC):
    """What coroutines run on: an ``EventLoopThread``, which stands on a higher floor."""

    @abstractmethod
    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Have a coroutine run; see ``EventLoopThread``."""


def checked(loop: Loop | None) -> Loop | None:
    """Return what was given as ``loop=``.

    Raises:
        TypeError: it is neither a loop nor None.
    """
    if loop is not None and not isinstance(loop, Loop):
        raise TypeError(f"loop must be an EventLoopThread, such as lc.loop() makes, not {loop!r}")
    return loop


def loop_for(func: Callable[..., object], name: str, loop: Loop | None) -> Loop | None:
    """Return the loop that a function has to run on; None for a plain one.

    Args:
        func: the user's function.
        name: the parameter's name, for the error.
        loop: what was given as ``loop=``.

    Raises:
        TypeError: the function is async, and there is no loop; or it is not, and there is one.
    """
    needed = is_async(_arguments.function(func, name))
    if needed and checked(loop) is None:
        raise TypeError(
            f"{name} must be a plain function, or have a loop to run on, such as loop=lc.loop(): "
            f"nobody would await what {func!r} returns"
        )
    if not needed and checked(loop) is not None:
        raise TypeError(f"{name} must be async where there is a loop for it, but {func!r} is a plain function")
    return loop


def begin(loop: Loop, func: Callable[..., Any], token: StopToken, *arguments: Any) -> Future[Any]:
    """Have ``func(*arguments)`` run on a loop, and cancelled when the token is set.

    Returns:
        a future that has the outcome when the coroutine has ended, with all its ``finally``; to cancel the future is of
        no effect. Where it ended because of the token, by ``CancelledError`` or ``Stopping``, the result is None.

    Raises:
        RuntimeError: the loop has not been started, or has been stopped.
    """
    import asyncio

    async def run() -> Any:
        here, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checkers: submit() makes one

        def cancel() -> None:
            with suppress(RuntimeError):  # it has ended meanwhile, and the loop after it
                here.call_soon_threadsafe(task.cancel, token.reason)

        with token.on_stop(cancel):
            return await func(*arguments)

    def hand_on(inner: Future[Any]) -> None:
        error = asyncio.CancelledError() if inner.cancelled() else inner.exception()
        if error is None:
            outcome.set_result(inner.result())
        elif isinstance(error, asyncio.CancelledError | Stopping) and token.is_set():
            outcome.set_result(None)
        else:
            outcome.set_exception(error)

    outcome: Future[Any] = Future()
    outcome.set_running_or_notify_cancel()
    loop.submit(run()).add_done_callback(hand_on)
    return outcome


def on_loop(loop: Loop, func: Callable[..., Any], *, wants_token: bool) -> Callable[[StopToken], Any]:
    """Return a plain function, the body of a thread, that runs an async one on a loop and waits for its end."""

    def body(token: StopToken) -> Any:
        arguments = (token,) if wants_token else ()
        return outcome_of(begin(loop, func, token, *arguments), token._clock)

    body.__name__ = _arguments.name_of(func, "body")
    return body
