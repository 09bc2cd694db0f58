"""The short ways to add things to a lifecycle: decorators for functions, makers for components.

They are sugar over ``add()``, which the lifecycle itself brings.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from datetime import datetime, timedelta
from typing import Any, Literal, ParamSpec, TypedDict, TypeVar, Unpack, overload

from threadkit import _arguments, triggers
from threadkit._bus import Bus
from threadkit._clock import Clock
from threadkit._component import Component
from threadkit._coroutines import Loop
from threadkit._due import Every
from threadkit._errors import DuplicateName
from threadkit._executor import BoundedExecutor
from threadkit._group import GroupOptions, ThreadGroup
from threadkit._intake import OnFull
from threadkit._interval import IntervalTask
from threadkit._loop import EventLoopThread
from threadkit._postoffice import OnFull as OnMailboxFull
from threadkit._run import Misfire, Overlap
from threadkit._storing import JobStore
from threadkit._supervisor import Strategy
from threadkit._thread import ChildOptions, ManagedThread
from threadkit._workqueue import KeepRules, WorkQueue
from threadkit.backoff import Backoff, Retry
from threadkit.events import Event, Stopped

C = TypeVar("C", bound=Component)
F = TypeVar("F", bound=Callable[..., object])
P = ParamSpec("P")


class Placement(TypedDict, total=False):
    """Where a component stands in a lifecycle; see ``Lifecycle.add()``."""

    phase: int | None
    requires: Iterable[str | Component]
    check: Callable[[], object] | None
    stop_timeout: float | timedelta | None
    check_timeout: float | timedelta | None
    check_every: float | timedelta | None


class ThreadOptions(Placement, ChildOptions, total=False):
    """The keywords of ``ManagedThread`` and of ``Lifecycle.add()``."""

    backoff: Backoff
    max_restarts: int | None
    within: float | timedelta
    clock: Clock | None


class ThreadGroupOptions(Placement, GroupOptions, total=False):
    """The keywords of ``ThreadGroup`` and of ``Lifecycle.add()``."""

    clock: Clock | None


class TaskOptions(Placement, total=False):
    """The keywords of ``IntervalTask`` and of ``Lifecycle.add()``."""

    run_immediately: bool
    fixed: Literal["rate", "delay"]
    jitter: float | timedelta
    overlap: Overlap
    max_parallel: int | None
    misfire: Misfire
    max_runs: int | None
    backoff: Backoff | None
    executor: Executor | None
    loop: Loop | None
    clock: Clock | None
    random: Callable[[], float] | None


class QueueOptions(Placement, total=False):
    """The keywords of ``WorkQueue`` and of ``Lifecycle.add()``."""

    workers: int
    maxsize: float
    on_full: OnFull
    store: JobStore | None
    executor: Executor | None
    loop: Loop | None
    retry: Retry
    grace: float | timedelta
    most_abandoned: float
    keep: KeepRules
    on_stop: Literal["drain", "finish"] | None
    clock: Clock | None


class ExecutorOptions(Placement, total=False):
    """The keywords of ``BoundedExecutor`` and of ``Lifecycle.add()``."""

    max_workers: int | None
    thread_name_prefix: str
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    inner: Callable[[], Executor] | None
    max_pending: float
    on_full: OnFull
    submit_retry: Retry
    recreate: int
    context: bool
    clock: Clock | None


class BusOptions(Placement, total=False):
    """The keywords of ``Bus`` and of ``Lifecycle.add()``."""

    executor: Executor | None
    maxsize: int
    on_full: OnMailboxFull
    clock: Clock | None


class Makers(ABC):
    """The half of a whole that makes components and adds them."""

    @abstractmethod
    def add(
        self,
        component: C,
        *,
        phase: int | None = None,
        requires: Iterable[str | Component] = (),
        check: Callable[[], object] | None = None,
        stop_timeout: float | timedelta | None = None,
        check_timeout: float | timedelta | None = None,
        check_every: float | timedelta | None = None,
    ) -> C:
        """Add a component; see ``Lifecycle``."""

    @abstractmethod
    def _free_name(self, wish: str) -> str: ...

    @abstractmethod
    def _drop(self, component: Component) -> None: ...

    @overload
    def thread(self, target: F, /) -> F: ...
    @overload
    def thread(self, name: str | None = None, /, **options: Unpack[ThreadOptions]) -> Callable[[F], F]: ...
    def thread(self, name: str | F | None = None, /, **options: Unpack[ThreadOptions]) -> F | Callable[[F], F]:
        """Make the decorated function the body of a ``ManagedThread`` and add that; the function stays as it is.

        Use it bare, or with a name and the keywords of ``ManagedThread`` and ``add()``. Without a name it takes the
        function's; if that is taken, a number is appended.

        Raises:
            DuplicateName: the name that was given is taken.

        Example:
            >>> from threadkit import Lifecycle
            >>> lc = Lifecycle()
            >>> @lc.thread("pump", restart="on_failure")
            ... def pump(running):
            ...     running.wait()
            >>> lc["pump"].name
            'pump'
        """
        if callable(name):
            self._add_thread(name, None, options)
            return name

        def decorate(target: F) -> F:
            self._add_thread(target, name, options)
            return target

        return decorate

    def group(
        self, name: str = "group", strategy: Strategy = "one_for_one", **options: Unpack[ThreadGroupOptions]
    ) -> ThreadGroup:
        """Make a ``ThreadGroup`` and add it. Takes the keywords of both.

        Example:
            >>> from threadkit import Lifecycle
            >>> with Lifecycle() as lc:
            ...     feed = lc.group("feed", "one_for_all")
            ...     @feed.thread
            ...     def read(running):
            ...         running.wait()
            ...     feed["read"].is_alive()
            True
        """
        placement, settings = split(options)
        settings["stop_timeout"] = placement.pop("stop_timeout", None)  # a group has one of its own
        return self.add(ThreadGroup(name, strategy, **settings), **placement)  # type: ignore[arg-type]

    def every(self, interval: Every, /, *, name: str | None = None, **options: Unpack[TaskOptions]) -> Callable[[F], F]:
        """Have the decorated function run by an ``IntervalTask`` and add that; the function stays as it is.

        Args:
            interval: seconds, a ``timedelta``, a text such as ``"5m"``, a callable returning seconds, or a trigger.
            name: the task's name; None takes the function's, with a number appended if that is taken.
            **options: the keywords of ``IntervalTask`` and ``add()``.

        Raises:
            DuplicateName: the name that was given is taken.

        Example:
            >>> from threadkit import Lifecycle
            >>> lc = Lifecycle()
            >>> @lc.every("5m")
            ... def report(): ...
            >>> lc["report"].interval
            300.0
        """

        def decorate(func: F) -> F:
            placement, settings = split(options)

            def make(name: str) -> IntervalTask:
                return IntervalTask(func, interval, name=name, **settings)  # type: ignore[arg-type]

            self._add_named(name, _arguments.name_of(func, "task"), make, placement)
            return func

        return decorate

    def call_later(
        self, seconds: float | timedelta, func: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs
    ) -> IntervalTask:
        """Call ``func(*args, **kwargs)`` once, ``seconds`` from now. The task leaves the lifecycle when it is done.

        Returns:
            the task, for ``cancel()``.

        Raises:
            TypeError: ``seconds`` is no duration, or ``func`` cannot be called.
            ValueError: ``seconds`` is negative, ``nan`` or infinite.
        """
        return self._call_once(triggers.after(seconds), functools.partial(_callable(func), *args, **kwargs), func)

    def call_at(
        self, moment: datetime, func: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs
    ) -> IntervalTask:
        """Call ``func(*args, **kwargs)`` once, at an aware point in time; at once if that has passed.

        Returns:
            the task, for ``cancel()``.

        Raises:
            TypeError: ``moment`` is no ``datetime``, or ``func`` cannot be called.
            ValueError: ``moment`` has no time zone.
        """
        return self._call_once(triggers.at(moment), functools.partial(_callable(func), *args, **kwargs), func)

    def queue(self, name: str = "jobs", **options: Unpack[QueueOptions]) -> WorkQueue:
        """Make a ``WorkQueue`` and add it. Takes the keywords of both.

        Example:
            >>> from threadkit import Lifecycle
            >>> with Lifecycle() as lc:
            ...     jobs = lc.queue(workers=1)
            ...     @jobs.handler
            ...     def double(payload):
            ...         return 2 * payload
            ...     jobs.submit("double", 21).result(timeout=5)
            42
        """
        placement, settings = split(options)
        return self.add(WorkQueue(name, **settings), **placement)  # type: ignore[arg-type]

    def executor(self, name: str = "executor", **options: Unpack[ExecutorOptions]) -> BoundedExecutor:
        """Make a ``BoundedExecutor`` and add it. Takes the keywords of both.

        Example:
            >>> from threadkit import Lifecycle
            >>> with Lifecycle() as lc:
            ...     lc.executor(max_workers=2).submit(pow, 2, 10).result(timeout=5)
            1024
        """
        placement, settings = split(options)
        return self.add(BoundedExecutor(name=name, **settings), **placement)  # type: ignore[arg-type]

    def bus(self, name: str = "bus", **options: Unpack[BusOptions]) -> Bus:
        """Make a ``Bus`` and add it. Takes the keywords of both.

        Example:
            >>> from threadkit import Lifecycle
            >>> with Lifecycle() as lc:
            ...     bus = lc.bus()
            ...     @bus.action("status")
            ...     def status():
            ...         return "fine"
            ...     bus.call("status")
            'fine'
        """
        placement, settings = split(options)
        return self.add(Bus(name, **settings), **placement)  # type: ignore[arg-type]

    def loop(self, name: str = "loop", **placement: Unpack[Placement]) -> EventLoopThread:
        """Make an ``EventLoopThread``, an asyncio loop on a thread of its own, and add it.

        It is what ``thread()``, ``every()`` and ``queue()`` take as ``loop=`` for async functions.

        Example:
            >>> import asyncio
            >>> from threadkit import Lifecycle
            >>> with Lifecycle() as lc:
            ...     lc.loop().submit(asyncio.sleep(0, "slept")).result(timeout=5)
            'slept'
        """
        return self.add(EventLoopThread(name), **placement)

    def _add_thread(self, target: Callable[..., object], name: str | None, options: ThreadOptions) -> None:
        placement, settings = split(options)
        settings["stop_timeout"] = placement.pop("stop_timeout", None)  # a thread has one of its own

        def make(name: str) -> ManagedThread:
            return ManagedThread(target, name=name, **settings)  # type: ignore[arg-type]

        self._add_named(name, _arguments.name_of(target, "thread"), make, placement)

    def _call_once(
        self, trigger: triggers.Trigger, call: Callable[[], object], func: Callable[..., object]
    ) -> IntervalTask:
        def make(name: str) -> IntervalTask:
            # A partial's parameters all have values, so it asks for no run, whatever the function itself takes.
            task = IntervalTask(lambda: call(), trigger, name=name, max_runs=1)  # noqa: PLW0108 - hides the signature

            def leave(event: Event) -> None:
                if isinstance(event, Stopped):
                    self._drop(task)

            task.observe(leave)
            return task

        return self._add_named(None, _arguments.name_of(func, "call"), make, {})

    def _add_named(self, name: str | None, wish: str, make: Callable[[str], C], placement: Placement) -> C:
        """Add what ``make`` makes under a given name, or else under ``wish``, with a number if that is taken."""
        if name is not None:
            return self.add(make(name), **placement)
        while True:
            free = self._free_name(wish)
            try:
                return self.add(make(free), **placement)
            except DuplicateName:
                if self._free_name(free) == free:
                    raise  # it was not about this name
                # Another thread has just taken it.


def _callable(func: Callable[P, object]) -> Callable[P, object]:
    return _arguments.function(func, "func")


def split(options: Placement) -> tuple[Placement, dict[str, object]]:
    """Part the keywords of ``add()`` from those of a component."""
    settings: dict[str, object] = dict(options)
    placement: Placement = {}
    for key in Placement.__annotations__:
        if key in settings:
            placement[key] = settings.pop(key)  # type: ignore[literal-required]  # the keys are Placement's own
    return placement, settings
