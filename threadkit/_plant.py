"""``Plant``: makes the engines that calls run on, says when one is broken, and replaces it, so often a minute."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor
from typing import Any

import attrs

from threadkit._clock import Clock, is_at_exit
from threadkit._errors import Full
from threadkit._lost import LostWatch
from threadkit._stop import StopToken
from threadkit._timer import Timer
from threadkit._whereabouts import is_in_process
from threadkit.backoff import Retry, RetryState, delay_of
from threadkit.events import Event, ExecutorRebuilt

_WINDOW = 60.0  # seconds within which rebuilds are counted

_logger = logging.getLogger("threadkit")


@attrs.frozen(eq=False)
class Engine:
    """One engine of several, one after the other.

    Attributes:
        number: 0 is the first; each rebuild counts one on.
        executor: what runs calls.
        watch: over its calls, where they may take only so long.
        casualties: one for each call that it broke under.
        lost: one for each call that it may still be at though it was given up.
    """

    number: int
    executor: Executor
    watch: LostWatch | None
    casualties: deque[None] = attrs.Factory(deque[None])
    lost: deque[None] = attrs.Factory(deque[None])


class Plant:
    """Makes engines, one at a time. One thread alone, the lane's keeper, replaces them, so it takes no lock.

    What the factory says about its engines is believed: ``workers``, ``in_process``, ``is_broken``, ``lost_after``,
    ``kill``; see ``executors.Factory``. One that says nothing is judged by the class of what it makes.

    Args:
        clock: what the minute is measured with.
        name: the executor's.
        factory: returns a ``concurrent.futures.Executor``.
        retry: how long to wait before each rebuild but the first of a minute.
        recreate: how often a minute the engine is replaced.
        token: once it is set nothing is made any more.
        emit: told of rebuilds.
    """

    def __init__(
        self,
        clock: Clock,
        name: str,
        factory: Callable[[], Executor],
        *,
        retry: Retry,
        recreate: int,
        token: StopToken,
        emit: Callable[[Event], object],
    ) -> None:
        self.recreate = recreate
        self.rebuilds = 0
        self.current: Engine | None = None
        self.workers = _number(getattr(factory, "workers", 0))
        self.in_process = False
        self.lost_after: float | None = getattr(factory, "lost_after", None)
        self.timer = Timer(clock, f"{name}-watch", lingers=True)  # of those that watch over calls
        self._clock = clock
        self._name = name
        self._factory = factory
        self._retry = retry
        self._token = token
        self._emit = emit
        self._is_broken: Callable[[Executor, BaseException | None], bool] | None = getattr(factory, "is_broken", None)
        self._kill: Callable[[Executor], object] | None = getattr(factory, "kill", None)
        self._rebuilt_at: deque[float] = deque()

    def open(self) -> None:
        """Make the first engine.

        Raises:
            TypeError: the factory made something else.
            BaseException: whatever the factory raised.
        """
        executor = self._make()
        self.workers = self.workers or _number(getattr(executor, "_max_workers", 0))
        self.in_process = is_in_process(executor, self._factory)
        self.current = self._engine(0, executor)

    def present(self) -> Engine:
        """Return the engine of this moment, once there is one."""
        if self.current is None:
            raise RuntimeError(f"executor {self._name!r} has no engine yet")  # pragma: no cover - nobody asks before
        return self.current

    def check(self, engine: Engine) -> None:
        """Ask the engine how it is, before a call is given to it.

        Raises:
            BrokenExecutor: it is broken, and would take the call nevertheless.
        """
        if self._ask(engine, None):
            raise BrokenExecutor(f"the engine of executor {self._name!r} has lost what it needs")

    def is_break(self, engine: Engine, error: BaseException | None, *, lost: bool) -> bool:
        """Tell whether a call ended as it did because its engine is broken.

        Args:
            engine: what it was given to.
            error: what it raised.
            lost: the engine has cancelled it, and nobody had asked for that.
        """
        return isinstance(error, BrokenExecutor) or lost or (error is not None and self._ask(engine, error))

    def is_busy(self, error: BaseException) -> bool:
        """Tell whether an engine that refuses only lacks room or a thread just now: it is asked again, not replaced.

        A thread is its workers' only where it runs calls in this process. Any other wants one to look after its
        workers, and wants it but once: the standard library's process pool that did not get it takes every call from
        then on, and makes none.
        """
        return isinstance(error, Full) or (self.in_process and "can't start new thread" in str(error))

    def replace(self, engine: Engine, error: BaseException, *, pause: bool = True) -> None:
        """Make a new engine, unless this one has been replaced, or too many were within a minute. Never raises.

        Args:
            engine: the broken one.
            error: how that was seen.
            pause: wait first, where there was a rebuild within the last minute; else the caller does.
        """
        now = self._clock.monotonic()
        while self._rebuilt_at and self._rebuilt_at[0] <= now - _WINDOW:
            self._rebuilt_at.popleft()
        count = len(self._rebuilt_at)
        if engine is not self.current or count >= self.recreate or is_final(error) or self.is_busy(error):
            return
        try:
            if pause and count:
                self._token.wait(delay_of(self._retry.backoff, RetryState(count, error)))
            if self._token.is_set():
                return  # shutdown is final
            self._rebuilt_at.append(self._clock.monotonic())
            self.current = self._engine(engine.number + 1, self._make())
        except Exception:
            _logger.exception("the engine of executor %r cannot be replaced", self._name)
            return
        if engine.watch is not None:
            engine.watch.retire()
        self._give_up(engine)
        self.rebuilds += 1
        self._emit(ExecutorRebuilt(component=self._name, error=error, rebuilds=self.rebuilds))

    def close(self, *, wait: bool) -> None:
        """Shut the present engine down, if there is one."""
        self.timer.close()
        if self.current is None:
            return
        if self.current.lost:
            self._give_up(self.current)  # to wait for it would be to wait for these
        else:
            shut_down(self.current.executor, wait=wait)

    def _give_up(self, engine: Engine) -> None:
        """End an engine, and what it is at, where its factory knows how: its processes would keep this one alive."""
        is_killed = False
        if self._kill is not None:
            try:
                self._kill(engine.executor)
                is_killed = True
            except Exception:
                _logger.exception("killing %r failed", engine.executor)
        # What was killed is waited for, which does not take long: in Python 3.12 a process pool that is freed while it
        # clears up after its processes waits for itself.
        shut_down(engine.executor, wait=is_killed)

    def _ask(self, engine: Engine, error: BaseException | None) -> bool:
        """Return whether the engine says that it is broken."""
        try:
            return self._is_broken is not None and self._is_broken(engine.executor, error)
        except Exception:
            _logger.exception("asking the engine of executor %r whether it is broken failed", self._name)
            return False

    def _engine(self, number: int, executor: Executor) -> Engine:
        watch = None
        if self.lost_after is not None:
            watch = LostWatch(self._clock, self.timer, self.lost_after, self.workers or math.inf)
        return Engine(number, executor, watch)

    def _make(self) -> Executor:
        executor = self._factory()
        if not isinstance(executor, Executor):
            raise TypeError(f"inner must return a concurrent.futures.Executor, not {executor!r}")
        return executor


def shut_down(executor: Executor, *, wait: bool) -> None:
    """Shut an engine down, whatever it says to that."""
    try:
        executor.shutdown(wait=wait)
    except Exception:
        _logger.exception("shutting %r down failed", executor)


def is_final(error: BaseException) -> bool:
    """Tell whether it is the interpreter that refuses: nothing is broken, and nothing can be mended.

    It exits; or it is a spawned process that is still importing a main module which starts processes unasked.
    """
    return is_at_exit(error) or "bootstrapping phase" in str(error)


def _number(said: Any) -> int:
    """Return how many calls an engine runs at once; 0 where it does not say, so that all of them count as waiting."""
    return said if isinstance(said, int) else 0
