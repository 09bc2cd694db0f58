"""``Request``: what the handler of an action is asked, and how code deeper down finds it again."""

from __future__ import annotations

import contextlib
import contextvars
import os
from types import TracebackType
from typing import Any

import attrs

from threadkit._clock import Clock


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


def new_request(action: str, payload: Any, deadline: float | None) -> Request:
    """Return a request with an id of its own."""
    return Request(os.urandom(8).hex(), action, payload, deadline)


class Handling:
    """The time during which a handler runs, as a context manager; ``current_request()`` is its request meanwhile.

    Context travels: what a handler starts in the background sees the same request, also when the handler has returned.
    Then nobody waits for a reply any more, so from then on the deadline binds nobody.
    """

    __slots__ = ("_before", "clock", "is_over", "request")

    def __init__(self, request: Request, clock: Clock) -> None:
        self.request = request
        self.clock = clock
        self.is_over = False

    def __enter__(self) -> None:
        self._before = _current.set(self)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.is_over = True
        with contextlib.suppress(ValueError):  # an abandoned coroutine is closed in a context that is not its own
            _current.reset(self._before)


_current: contextvars.ContextVar[Handling | None] = contextvars.ContextVar("threadkit_request", default=None)


def current_request() -> Request | None:
    """Return the request that is being handled here, or None outside of the handlers of actions.

    Each handler has its own, also when calls are nested or run at the same time. What a handler causes elsewhere sees
    it too, for context travels with work: the subscribers of a message that it publishes, calls that it submits to a
    ``BoundedExecutor``.

    Example:
        >>> from threadkit import Bus, current_request
        >>> bus = Bus()
        >>> @bus.action("whoami")
        ... def whoami():
        ...     return current_request().action
        >>> bus.call("whoami"), current_request()
        ('whoami', None)
    """
    handling = _current.get()
    return None if handling is None else handling.request


def deadline_here(clock: Clock) -> float | None:
    """Return until when somebody waits for the handler that runs here, where he waits on the same clock."""
    handling = _current.get()
    if handling is None or handling.is_over or handling.clock is not clock:
        return None
    return handling.request.deadline


def context_to_go() -> contextvars.Context:
    """Return a copy of the context for work that nobody here waits for: it has the request, but no deadline."""
    context = contextvars.copy_context()
    handling = _current.get()
    if handling is not None:
        context.run(_let_go, handling)
    return context


def _let_go(handling: Handling) -> None:
    loose = Handling(handling.request, handling.clock)
    loose.is_over = True
    _current.set(loose)
