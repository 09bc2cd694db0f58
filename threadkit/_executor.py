"""``BoundedExecutor``: a ``concurrent.futures.Executor`` that takes only so much, and heals."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import timedelta
from types import TracebackType
from typing import Any, ClassVar, ParamSpec, TypeVar

from threadkit import _arguments, _fork
from threadkit._clock import Clock
from threadkit._component import BaseComponent, Phase
from threadkit._engine import EngineLane
from threadkit._errors import Closed
from threadkit._intake import ON_FULL, Intake, OnFull
from threadkit._lane import ExecutorStats, PoolLane, processors
from threadkit._override import override
from threadkit._pace import Pace, once_there_is_a_thread
from threadkit._steward import Steward
from threadkit._submitter import Submitter
from threadkit.backoff import Retry, exponential

P = ParamSpec("P")
T = TypeVar("T")


class BoundedExecutor(BaseComponent, Submitter):
    """Runs calls on a few threads, or on any other executor, and never has more than a bound of them waiting.

    It starts with the first call. Left alone, it waits at interpreter exit until its calls are done, as the standard
    library's does; in a lifecycle it has that one's time.

    Args:
        max_workers: how many calls run at once; None is the number of processors and four, at most 32.
        thread_name_prefix: what the threads are called; by default as the executor.
        initializer: called first in each thread. Where it raises, the executor has failed.
        initargs: its arguments.
        inner: a function that makes another ``concurrent.futures.Executor`` to run the calls; see ``executors``. It is
            called again when that one breaks. It excludes the four before.
        max_pending: how many calls may wait; those that run do not count.
        on_full: what ``submit()`` does when so many wait: "block" until there is room, "reject" with ``Full``,
            "caller_runs" the call in its own thread, "drop_oldest" cancels the call that has waited longest.
        submit_retry: how often, and how soon, a call that the inner executor refused, or a thread that the system
            refused, the first one or the one that watches ``options(timeout=)``, is tried again.
        recreate: how often a minute a broken inner executor is replaced; 0 is never.
        context: whether calls run in a copy of the context that they were submitted in. It does not reach other
            processes.
        name: unique within a lifecycle; "executor" by default.
        clock: where time comes from; None inherits the lifecycle's, or the system's.

    Raises:
        TypeError: an argument is of the wrong kind, or ``inner`` is given with one of the first four.
        ValueError: an argument is out of range.

    Example:
        >>> with BoundedExecutor(max_workers=2, max_pending=10) as executor:
        ...     executor.submit(pow, 2, 10).result(timeout=5)
        1024
    """

    kind: ClassVar[str] = "executor"
    default_phase: ClassVar[int] = Phase.ENGINES

    _is_up = False  # calls go straight in; here for one whose constructor raised

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        inner: Callable[[], Executor] | None = None,
        max_pending: float = 1000,
        on_full: OnFull = "block",
        submit_retry: Retry = Retry(5, exponential(0.05, cap=1)),  # noqa: B008 - a frozen value, made once, is wanted
        recreate: int = 3,
        context: bool = True,
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        _check_threads(max_workers, thread_name_prefix, initializer, initargs)
        if inner is not None:
            _arguments.function(inner, "inner")
            if (max_workers, thread_name_prefix, initializer, initargs) != (None, "", None, ()):
                raise TypeError(
                    "inner makes an executor of its own: "
                    "give max_workers, thread_name_prefix, initializer and initargs to that one"
                )
            max_workers = getattr(inner, "own_threads", None)
        if not isinstance(submit_retry, Retry):
            raise TypeError(f"submit_retry must be a Retry, not {submit_retry!r}")
        if not isinstance(context, bool):
            raise TypeError(f"context must be True or False, not {context!r}")
        self._inner = inner if max_workers is None else None
        self._max_workers = max_workers or min(32, processors() + 4)
        self._prefix = thread_name_prefix
        self._initializer = functools.partial(initializer, *initargs) if initializer else None
        self._max_pending = _arguments.limit(max_pending, "max_pending", minimum=0)
        self._on_full: OnFull = _arguments.choice(on_full, "on_full", ON_FULL)
        self._submit_retry = submit_retry
        self._recreate = _arguments.count(recreate, "recreate", minimum=0)
        self._context = context
        super().__init__("executor" if name is None else name, clock)

    @override
    def shutdown(
        self, wait: bool = True, *, cancel_futures: bool = False, timeout: float | timedelta | None = None
    ) -> None:
        """Stop, for good: take nothing more, and finish what was taken.

        Args:
            wait: return when all is done. ``join(0)`` tells whether it is.
            cancel_futures: cancel the calls that wait.
            timeout: how long to wait at most, in seconds; None and ``inf`` are for ever.

        Raises:
            TypeError: ``timeout`` is no duration.
            ValueError: ``timeout`` is negative or ``nan``.

        Example:
            >>> executor = BoundedExecutor()
            >>> future = executor.submit(pow, 2, 10)
            >>> executor.shutdown()
            >>> future.done()
            True
        """
        seconds = _arguments.timeout(timeout)
        self.stop("shutdown() was called")
        if cancel_futures:
            self.close()
        if wait:
            self.join(seconds)

    def close(self) -> None:
        """Cancel the calls that wait: the last chance of a stop, once its time is over."""
        self._lane.cancel_waiting()

    def resize(self, max_workers: int) -> None:
        """Change how many calls run at once. Threads that are too many end after their present call.

        Args:
            max_workers: the new number, at least 1.

        Raises:
            RuntimeError: the calls run on an inner executor, whose size is its own.
            TypeError: it is no whole number.
            ValueError: it is below 1.

        Example:
            >>> with BoundedExecutor(2) as executor:
            ...     executor.resize(8)
            ...     executor.stats().workers
            8
        """
        self._refuse_forked()
        _arguments.count(max_workers, "max_workers")
        if not isinstance(self._lane, PoolLane):
            raise RuntimeError(  # noqa: TRY004 - it is no argument's type that is wrong
                f"executor {self.name!r} runs its calls on an inner executor, which has a size of its own"
            )
        self._max_workers = max_workers
        self._lane.resize(max_workers)

    @override
    def stats(self) -> ExecutorStats:
        """Return what it has done and is doing.

        Example:
            >>> with BoundedExecutor() as executor:
            ...     _ = executor.submit(len, "abc").result(timeout=5)
            ...     executor.stats().completed
            1
        """
        self._refuse_forked()
        return self._lane.stats(self._intake.rejected.value())

    @override
    def threads(self) -> list[threading.Thread]:
        timer = self._intake.timer.thread()
        return [*self._lane.threads(), *([timer] if timer else [])]

    @override
    def work_left(self) -> int:
        return self._lane.permits.taken()

    @override
    def finish_exit(self, deadline: float) -> list[str]:
        """Wait until all is done, however long it takes, as the standard library's executors do."""
        self.join()
        return []

    @override
    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.shutdown()

    def __del__(self) -> None:
        """Dropped without a shutdown: what was submitted is done, and then the threads end."""
        if self._is_up and self._generation == _fork.generation():
            self._token.set("the executor was dropped")
            self._lane.close()

    @override
    def _reset(self) -> None:
        super()._reset()
        self._is_up = False
        # Nothing of these knows the executor itself, so that it is freed when its user drops it.
        self._steward = Steward(self)
        self._lane: PoolLane | EngineLane = self._new_lane()
        self._intake = Intake(
            self.name,
            self._lane,
            self._on_full,
            self._max_pending,
            retry=self._submit_retry,
            token=self._token,
            emit=self._observers.emit,
        )

    @override
    def _exit_root(self) -> Steward:
        return self._steward

    @override
    def _launch(self) -> None:
        if not threading.main_thread().is_alive():  # on 3.11 a thread could still be made, and would be killed
            raise Closed(self.kind, self.name, "the interpreter exits")
        self._steward.lane = self._lane
        try:
            self._lane.prepare()
            once_there_is_a_thread(self._lane.start, Pace(self._clock, self._submit_retry), self._token.wait)
        except BaseException as error:
            self._lane.dispose(error)
            raise
        self._is_up = True
        if self._token.is_set():  # meanwhile: who set it may have found nothing to close
            self._on_stop_asked()

    @override
    def _on_stop_asked(self) -> None:
        if self._is_up:
            self._lane.close()
            self._lane.permits.wake_all()

    @override
    def _ready(self) -> Intake:
        """Return where calls go in; start with the first one."""
        self._refuse_forked()
        if not self._is_up:
            self.start()  # returns at once for a finalizer that has struck inside it: its call waits for the start
        return self._intake

    @override
    async def _ready_on_loop(self) -> Intake:
        self._refuse_forked()
        if not self._is_up:
            import asyncio

            await asyncio.to_thread(self.start)  # an engine may take seconds to make, or to connect to
        return self._ready()

    def _new_lane(self) -> PoolLane | EngineLane:
        if self._inner is None:
            return PoolLane(
                self._clock,
                self.name,
                self._prefix or self.name,
                self._max_workers,
                self._max_pending,
                context=self._context,
                emit=self._observers.emit,
                initializer=self._initializer,
                on_end=self._steward.conclude,
            )
        return EngineLane(
            self._clock,
            self.name,
            self._inner,
            self._max_pending,
            context=self._context,
            retry=self._submit_retry,
            recreate=self._recreate,
            token=self._token,
            emit=self._observers.emit,
            on_end=self._steward.conclude,
        )

    def _conclude(self, broken: BaseException | None) -> None:
        """On the last thread."""
        if broken is None:
            self._end()
        else:
            self._die(broken)


def _check_threads(
    max_workers: int | None, prefix: str, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
) -> None:
    """Check what ``ThreadPoolExecutor`` has too."""
    if max_workers is not None:
        _arguments.count(max_workers, "max_workers")
    if not isinstance(prefix, str):
        raise TypeError(f"thread_name_prefix must be a string, not {prefix!r}")
    if initializer is not None:
        _arguments.function(initializer, "initializer")
    if not isinstance(initargs, tuple):
        raise TypeError(f"initargs must be a tuple, not {initargs!r}")
