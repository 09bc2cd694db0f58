"""The functions that do the jobs of a queue: ``Handler``, the table of them, and how one is called."""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Executor
from typing import Any

from threadkit import _arguments
from threadkit._calling import accepts, asks_for, is_async
from threadkit._clock import Clock, closed_gate, open_gate
from threadkit._errors import DuplicateName, UnknownHandler
from threadkit._limits import Limits
from threadkit.backoff import Retry

SerialBy = Callable[[Any], Hashable]


class Handler:
    """A name, the function that does the jobs of that name, and its rules.

    Args:
        name: what jobs are submitted by.
        func: ``f(payload)`` or ``f(payload, ctx)``, plain or ``async``.
        retry: None is the queue's.
        timeout: seconds that an attempt has; None is no limit.
        concurrency: how many of its jobs may run at once; None is no limit.
        rate: how many of its jobs may begin in how many seconds; None is no limit.
        serial_by: jobs for which it says the same run one at a time.

    Raises:
        TypeError: the function cannot be called with a payload.
    """

    def __init__(
        self,
        name: str,
        func: Callable[..., Any],
        *,
        retry: Retry | None,
        timeout: float | None,
        concurrency: int | None,
        rate: tuple[int, float] | None,
        serial_by: SerialBy | None,
    ) -> None:
        self.name = name
        self.func = _arguments.function(func, "handler")
        self.wants_context = asks_for(func, "JobContext", position=1)
        if not accepts(func, 1 + self.wants_context):
            raise TypeError(f"a handler must take the payload, or the payload and a JobContext, but {func!r} does not")
        self.is_async = is_async(func)
        self.retry = retry
        self.timeout = timeout
        self.concurrency = concurrency
        self.rate = rate
        self.serial_by = serial_by
        self.limits: Limits | None = None  # made by the queue, for they keep what they hold as long as it lives


class Handlers:
    """All handlers of a queue, and the names that others have handlers for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards changes; single looks need no lock
        self._by_name: dict[str, Handler | None] = {}  # None: declared only
        self._names: dict[Callable[..., Any], str] = {}

    def add(self, handler: Handler) -> None:
        """Add one.

        Raises:
            DuplicateName: there is one of that name.
        """
        with self._lock:
            if self._by_name.get(handler.name) is not None:
                raise DuplicateName("handler", handler.name)
            self._by_name[handler.name] = handler
            with contextlib.suppress(TypeError):  # a callable that cannot be hashed goes by its name only
                self._names.setdefault(handler.func, handler.name)

    def copy(self) -> Handlers:
        """Return the same with a lock of its own, for a forked child: another thread may have held this one's."""
        twin = Handlers()
        twin._by_name, twin._names = self._by_name, self._names
        return twin

    def declare(self, name: str) -> None:
        """Know a name from now on."""
        with self._lock:
            self._by_name.setdefault(name, None)

    def get(self, name: str) -> Handler | None:
        """Return the handler of a known name, None where it is only declared."""
        return self._by_name[name]

    def all(self) -> list[Handler]:
        """Return all handlers."""
        with self._lock:
            return [handler for handler in self._by_name.values() if handler is not None]

    def name_of(self, wanted: str | Callable[..., Any]) -> str:
        """Return the name that is meant by a name or by the function itself.

        Raises:
            TypeError: it is neither.
            UnknownHandler: nobody knows it.
        """
        if isinstance(wanted, str):
            if wanted in self._by_name:
                return wanted
            raise UnknownHandler(wanted, self._by_name.copy())
        if not callable(wanted):
            raise TypeError(f"name_or_handler must be the name of a handler, or the handler, not {wanted!r}")
        try:
            name = self._names.get(wanted)
        except TypeError:  # it cannot be hashed, so it was not remembered either
            name = None
        if name is None:
            raise UnknownHandler(_arguments.name_of(wanted, repr(wanted)), self._by_name.copy())
        return name


class Caller:
    """Calls handlers in the thread that it belongs to, or on an executor.

    Args:
        clock: what the thread parks on while an executor works.
        executor: where handlers run; None is here.
    """

    def __init__(self, clock: Clock, executor: Executor | None) -> None:
        self._clock = clock
        self._executor = executor
        self._runner: Any = None  # an asyncio.Runner, made with the first async handler

    def call(self, handler: Handler, arguments: tuple[Any, ...]) -> Any:
        """Return what the handler returns, or raise what it raises."""
        if self._executor is not None:
            return self._call_elsewhere(self._executor, handler, arguments)
        if handler.is_async:
            return self._run(handler.func, arguments)
        return handler.func(*arguments)

    def close(self) -> None:
        """Close the event loop, if there is one."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None

    def _run(self, func: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        import asyncio

        if self._runner is None:
            self._runner = asyncio.Runner()
        # The runner would use the context of its first call for all.
        return self._runner.run(func(*arguments), context=contextvars.copy_context())

    def _call_elsewhere(self, executor: Executor, handler: Handler, arguments: tuple[Any, ...]) -> Any:
        # What is submitted can be pickled if the handler can, so that processes may run it.
        if handler.is_async:
            future = executor.submit(_run_coroutine, handler.func, arguments)
        else:
            future = executor.submit(handler.func, *arguments)
        gate = closed_gate()
        future.add_done_callback(lambda _: open_gate(gate))
        self._clock.park(gate, None)
        return future.result()


def _run_coroutine(func: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    import asyncio

    return asyncio.run(func(*arguments))
