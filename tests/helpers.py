"""What many tests need to make a race happen instead of hoping for it. Nothing here sleeps; every wait has an end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, Generic, TypeVar

from threadkit._clock import SYSTEM_CLOCK
from threadkit._keep import Bound, bounds_of
from threadkit._records import FINISHED, JobRecord, JobState
from threadkit._registry import Registry
from threadkit._stop import StopToken
from threadkit._storing import Host
from threadkit.testing import VirtualClock

T = TypeVar("T")

PATIENCE = 5.0
"""Real seconds after which a test gives up on something that should have happened long ago."""

HOST = Host(
    lambda: SYSTEM_CLOCK, JobRecord, lambda: True, lambda: 0, lambda seconds: None, lambda: None, lambda error: None
)
"""What a store needs that is used without a queue."""


def bounds(count: int) -> tuple[Bound[JobState], ...]:
    """Return what a store is told that is to remember so many finished jobs."""
    return bounds_of(count, FINISHED)


class Gate:
    """A door that stays open once opened. ``pass_through()`` waits for it, and fails instead of hanging."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def open(self, *_: object) -> None:
        """Open the door; arguments are ignored, so that it can be a callback."""
        self._event.set()

    def is_open(self) -> bool:
        """Tell whether it is open."""
        return self._event.is_set()

    def pass_through(self) -> None:
        """Wait until the door is open."""
        assert self._event.wait(PATIENCE), f"nobody opened the gate within {PATIENCE} s"


class Blocker:
    """A function that says when it is called, and returns when it is let go."""

    def __init__(self) -> None:
        self._inside = threading.Semaphore(0)
        self._door = Gate()
        self.let_go = self._door.open

    def __call__(self) -> str:
        self._inside.release()
        self._door.pass_through()
        return "let go"

    def wait_until_called(self, times: int = 1) -> None:
        """Wait for ``times`` more calls to have begun."""
        for _ in range(times):
            assert self._inside.acquire(timeout=PATIENCE), f"nobody called within {PATIENCE} s"


def start_next(registry: Registry, timeout: float | None = None) -> None:
    """Start what is next in a registry, and wait until it is up."""
    entry = registry.next_to_start()
    assert entry is not None
    registry.bring_up(entry, timeout, StopToken())


class Background(Generic[T]):
    """A function that runs in a thread of its own; ``result()`` joins it and returns or raises its outcome."""

    def __init__(self, func: Callable[[], T]) -> None:
        self._func = func
        self._value: T
        self._error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name="test-background", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._value = self._func()
        except BaseException as error:
            self._error = error

    def result(self) -> T:
        """Return what the function returned, or raise what it raised."""
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive(), f"{self._func!r} did not return within {PATIENCE} s"
        if self._error is not None:
            raise self._error
        return self._value


class Manual(Executor):
    """An executor that runs what it was given when it is told to, or loses it."""

    def __init__(self) -> None:
        self.calls: list[tuple[Future[Any], Callable[[], Any]]] = []
        self.refuses: BaseException | None = None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.refuses is not None:
            raise self.refuses
        future: Future[Any] = Future()
        self.calls.append((future, lambda: fn(*args, **kwargs)))
        return future

    def run(self) -> None:
        while self.calls:
            future, call = self.calls.pop(0)
            if future.set_running_or_notify_cancel():
                future.set_result(call())

    def lose(self, error: BaseException | None = None) -> None:
        future, _ = self.calls.pop(0)
        if error is None:
            future.cancel()
        else:
            future.set_exception(error)


class Parked(Generic[T]):
    """A call on a thread that a virtual clock drives; the thread is parked, or has ended, once this is made."""

    def __init__(self, clock: VirtualClock, func: Callable[[], T]) -> None:
        self._func = func
        self._outcome: list[tuple[T | None, BaseException | None]] = []
        self.thread = clock.spawn(self._run, "test-parked")
        clock.settle()

    def _run(self) -> None:
        try:
            self._outcome.append((self._func(), None))
        except BaseException as error:
            self._outcome.append((None, error))

    @property
    def waits(self) -> bool:
        """Tell whether the call goes on."""
        return not self._outcome

    def result(self) -> T:
        """Return what the function returned, or raise what it raised."""
        self.thread.join(PATIENCE)
        assert self._outcome, f"{self._func!r} did not return within {PATIENCE} s"
        value, error = self._outcome[0]
        if error is not None:
            raise error
        return value  # type: ignore[return-value]  # there is one where there is no error
