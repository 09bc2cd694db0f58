"""The functions that do the jobs of a queue: ``Handler``, the table of them, and how one is called."""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Hashable
from concurrent.futures import Executor, Future
from typing import Any

from threadkit import _arguments
from threadkit._calling import accepts, asks_for, is_async
from threadkit._clock import Clock
from threadkit._errors import DuplicateName, UnknownHandler
from threadkit._limits import Limits
from threadkit._meter import Meter
from threadkit._quotas import By, PerKey
from threadkit._records import JobRecord
from threadkit._waiting import outcome_of
from threadkit._whereabouts import is_in_process
from threadkit.backoff import Retry


class Handler:
    """A name, the function that does the jobs of that name, and its rules.

    It may be known by its name before there is a function, which ``define()`` brings.

    Args:
        name: what jobs are submitted by.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.func: Callable[..., Any] | None = None  # written last, since what follows it goes with it
        self.wants_context = False
        self.is_async = False
        self.retry: Retry | None = None
        self.timeout: float | None = None
        self.serial_by: By | None = None
        self.concurrency: list[PerKey[int] | int] = []
        self.rate: list[PerKey[tuple[int, float]] | tuple[int, float]] = []
        self.limits: Limits | None = None  # made by the queue of the three above
        self.axes: tuple[By, ...] = ()  # the functions of the payload by which they sort
        self.shelf: deque[JobRecord] = deque()  # jobs that came up before there was a function

    def define(self, func: Callable[..., Any], wants_context: bool) -> None:
        """Know the function from now on."""
        self.wants_context = wants_context
        self.is_async = is_async(func)
        self.func = func

    def keys_of(self, payload: Any) -> tuple[Hashable, ...]:
        """Return what the limits sort a payload by.

        Raises:
            TypeError: the user's function returns what cannot be hashed; or it raises that itself, as it may anything.
        """
        keys = tuple(by(payload) for by in self.axes)
        hash(keys)
        return keys


def wants_context(func: Callable[..., Any]) -> bool:
    """Tell whether a function is to be given a context beside the payload.

    Raises:
        TypeError: it cannot be called with the payload.
    """
    _arguments.function(func, "handler")
    wanted = asks_for(func, "JobContext", position=1)
    if not accepts(func, 1 + wanted):
        raise TypeError(f"a handler must take the payload, or the payload and a JobContext, but {func!r} does not")
    return wanted


class Handlers:
    """All handlers of a queue, those that are only declared too."""

    def __init__(self) -> None:
        # Guards changes; single looks need no lock. Reentrant for finalizers, who may meet a stranger.
        self._lock = threading.RLock()
        self._by_name: dict[str, Handler] = {}
        self._by_func: dict[Callable[..., Any], Handler] = {}
        self._strangers: dict[str, Handler] = {}  # those of jobs that another process has submitted

    def copy(self) -> Handlers:
        """Return the same with a lock of its own, for a forked child: another thread may have held this one's."""
        twin = Handlers()
        twin._by_name, twin._by_func, twin._strangers = self._by_name, self._by_func, self._strangers
        return twin

    def declare(self, name: str) -> Handler:
        """Know a name from now on."""
        with self._lock:
            return self._by_name.setdefault(name, self._strangers.pop(name, Handler(name)))

    def meet(self, name: str) -> Handler:
        """Return the handler of a job that came by another way; its name is not thereby known."""
        known = self._by_name.get(name) or self._strangers.get(name)
        if known is not None:
            return known
        with self._lock:
            return self._by_name.get(name) or self._strangers.setdefault(name, Handler(name))

    def define(self, name: str, func: Callable[..., Any], prepare: Callable[[Handler], None]) -> Handler:
        """Add a function.

        Args:
            name: what jobs are submitted by.
            func: ``f(payload)`` or ``f(payload, ctx)``, plain or ``async``.
            prepare: called with the handler before it becomes known.

        Raises:
            DuplicateName: there is one of that name.
            TypeError: it cannot be called with the payload.
        """
        wanted = wants_context(func)
        with self._lock:
            handler = self._by_name.get(name) or self._strangers.get(name) or Handler(name)
            if handler.func is not None:
                raise DuplicateName("handler", name)
            prepare(handler)
            handler.define(func, wanted)
            self._by_name[name] = handler
            self._strangers.pop(name, None)
            with contextlib.suppress(TypeError):  # a callable that cannot be hashed goes by its name only
                self._by_func.setdefault(func, handler)
        return handler

    def all(self) -> list[Handler]:
        """Return all of them."""
        return list(self._by_name.copy().values())

    def find(self, wanted: str | Callable[..., Any]) -> Handler:
        """Return the handler that is meant by a name or by the function itself.

        Raises:
            TypeError: it is neither.
            UnknownHandler: nobody knows it.
        """
        try:
            return self._by_name[wanted] if isinstance(wanted, str) else self._by_func[wanted]
        except (KeyError, TypeError):
            pass
        if not (isinstance(wanted, str) or callable(wanted)):
            raise TypeError(f"name_or_handler must be the name of a handler, or the handler, not {wanted!r}")
        name = wanted if isinstance(wanted, str) else _arguments.name_of(wanted, repr(wanted))
        raise UnknownHandler(name, self._by_name.copy())


class Caller:
    """Calls handlers in the thread that it belongs to, or on an executor.

    Args:
        clock: what the thread parks on while an executor works.
        executor: where handlers run; None is here.
        start: has an event loop run the coroutine of an async handler; None runs it where plain ones run.
        meter: what measures; closed with this.
        worker: the thread of a queue that may be abandoned, and replaced; None where it is somebody else's.
    """

    def __init__(
        self,
        clock: Clock,
        executor: Executor | None,
        start: Callable[[Coroutine[Any, Any, Any]], Future[Any]] | None = None,
        meter: Meter | None = None,
        worker: threading.Thread | None = None,
    ) -> None:
        self.meter = meter or Meter()
        self._clock = clock
        self._executor = executor
        self._is_near = executor is not None and is_in_process(executor)
        self._start = start
        self.worker = worker
        self.is_abandoned = False  # written once: the queue has another worker in its place
        self._runner: Any = None  # an asyncio.Runner, made with the first async handler

    def call(self, handler: Handler, arguments: tuple[Any, ...]) -> Any:
        """Return what the handler returns, or raise what it raises."""
        func = handler.func
        assert func is not None  # noqa: S101 - nobody begins a job before there is one
        if handler.is_async and self._start is not None:
            return outcome_of(self._start(func(*arguments)), self._clock)
        if self._executor is None:
            return self._run(func, arguments) if handler.is_async else func(*arguments)
        work: tuple[Any, ...] = (func, *arguments)
        if handler.is_async:
            work = (_run_coroutine, *work)
        if self._is_near:  # so that there is a job to ask for, and to keep from waiting for itself
            work = (contextvars.copy_context().run, *work)
        return outcome_of(self._executor.submit(*work), self._clock)

    def close(self) -> None:
        """Close the meter, and the event loop, if there is one."""
        self.meter.close()
        if self._runner is not None:
            self._runner.close()
            self._runner = None

    def _run(self, func: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        import asyncio

        if self._runner is None:
            self._runner = asyncio.Runner()
        # The runner would use the context of its first call for all.
        return self._runner.run(func(*arguments), context=contextvars.copy_context())


def _run_coroutine(func: Callable[..., Any], *arguments: Any) -> Any:
    # By itself, and of a module, so that it can be pickled if the handler can.
    import asyncio

    return asyncio.run(func(*arguments))


def retry_of(value: Retry) -> Retry:
    """Return what the user gave as a ``Retry``.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(value, Retry):
        raise TypeError(f"retry must be a Retry, not {value!r}")
    return value
