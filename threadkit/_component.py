"""The waist: what everything that starts and stops has in common.

``Component`` is the protocol; the registry that starts and stops things in order knows nothing else, so a user's own
class that has these four names is a first-class citizen. ``BaseComponent`` is what threadkit's own components are made
of.

States (one more is derived: STOPPING is RUNNING or STARTING with the token set):

    NEW ---start()---> STARTING ---> RUNNING ---> STOPPED
     |                    |             |
     |                    `----error----`-------> FAILED
     `--stop()--> STOPPED
"""

from __future__ import annotations

import enum
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

from threadkit import _arguments, _exit, _fork
from threadkit._clock import SYSTEM_CLOCK, Clock, deadline_after
from threadkit._errors import Closed, ForkedError
from threadkit._observe import Observation, Observer, Observers
from threadkit._stop import StopToken
from threadkit._stopper import ensure_stopper
from threadkit._waiting import Condition
from threadkit.events import Event, Failed, Started, Stopped, describe
from threadkit.health import Health, Status


class Phase(enum.IntEnum):
    """When a component stops: the lowest phase first. It starts the other way round. Any ``int`` is a phase.

    Example:
        >>> Phase.INTAKE < 150 < Phase.WORK
        True
    """

    INTAKE = 100
    """What creates work."""
    WORK = 200
    """What finishes it."""
    ENGINES = 300
    """What runs it."""
    BACKGROUND = 400
    """Housekeeping, metrics, pages."""


class ComponentState(enum.Enum):
    """Where a component is in its life.

    Example:
        >>> ComponentState.STOPPED.has_ended, ComponentState.STOPPING.has_ended
        (True, False)
    """

    NEW = "new"
    """Made, not started."""
    STARTING = "starting"
    """``start()`` has not returned yet."""
    RUNNING = "running"
    """Up."""
    STOPPING = "stopping"
    """Told to stop; its threads go on for the moment."""
    STOPPED = "stopped"
    """Ended, with all its threads. For good."""
    FAILED = "failed"
    """Died of an error. For good."""

    @property
    def has_ended(self) -> bool:
        """True for STOPPED and FAILED."""
        return self is ComponentState.STOPPED or self is ComponentState.FAILED  # cheaper than a set: no hash in Python


@runtime_checkable
class Component(Protocol):
    """What can be started and stopped in order. A class of your own needs these four names and nothing else.

    It may also have ``phase``, ``state``, ``health()``, ``stats()``, ``failed`` (set by the registry: call it with the
    error when the component dies), ``stop_all`` (set by the registry: call it with a reason where everything is to
    stop) and ``close()`` (called once, when ``join`` has succeeded or its time is over). A method ``stop_all()`` of the
    class's own stays what it is.

    One thread that is made for it calls ``start()``, ``stop()``, ``join()`` and ``close()``, one after the other. Where
    a call hangs it is given up when its time is over, and another thread makes the next. What is asked meanwhile
    (``health()``, ``state``, ``stats()``, ``threads()``) is asked by threads that are made for the question.

    Example:
        >>> class Cache:
        ...     name = "cache"
        ...     def start(self) -> None: ...
        ...     def stop(self, reason=None) -> None: ...
        ...     def join(self, timeout=None) -> bool:
        ...         return True
        >>> isinstance(Cache(), Component)
        True
    """

    name: str

    def start(self) -> None:
        """Begin; return when it is up, or raise."""
        ...

    def stop(self, reason: str | None = None) -> None:
        """Ask for the end; return at once."""
        ...

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end; return whether it came within ``timeout`` seconds."""
        ...


class BaseComponent(ABC):
    """The common half of threadkit's own components: state, token, observers, health, fork, exit.

    A subclass gives ``_launch()`` (make the threads; called once by ``start()``), calls ``_end()`` or ``_die(error)``
    from its last thread, and may override ``_reset()``, ``_on_stop_asked()``, ``stats()``, ``threads()``,
    ``work_left()``.

    Args:
        name: unique within a lifecycle.
        clock: where time comes from; None inherits the lifecycle's, or the system's.
    """

    kind: ClassVar[str] = "component"
    default_phase: ClassVar[int] = Phase.BACKGROUND

    def __init__(self, name: str, clock: Clock | None) -> None:
        self.name: str = _arguments.text(name, "name")
        self.failed: Callable[[BaseException], None] | None = None
        self.stop_all: Callable[[str], None] | None = None
        self._own_clock = clock
        self._host_clock: Clock | None = None
        self._host_token: StopToken | None = None
        self._observers = Observers()
        self._reset()

    def _reset(self) -> None:
        """Make everything that belongs to one life: when made, when adopted, and when started anew after a fork."""
        self._generation = _fork.generation()
        self._clock: Clock = self._own_clock or self._host_clock or SYSTEM_CLOCK
        # Guards _state, _failure and _over; notified when they change. Held for a few lines, never while calling out.
        self._condition = Condition(self._clock)
        self._state = ComponentState.NEW
        self._over = True  # False from start() until the last thread has told everybody how it ended
        # The thread that is in start(). Each asks for itself alone, and it is no other's while the state is STARTING.
        self._starter: int | None = None
        self._failure: BaseException | None = None
        self._token = self._new_token()
        if self._host_token is not None:
            self._token._descend_from(self._host_token)

    def _new_token(self) -> StopToken:
        return StopToken(self.name, clock=self._clock)

    def adopt(self, clock: Clock, token: StopToken) -> None:
        """Inherit the clock, and descend from the token, of a registry that answers for this component from now on."""
        _exit.forget(self._exit_root())
        self._host_clock, self._host_token = clock, token
        is_new = self._state is ComponentState.NEW and not self._token.is_set()  # one that was stopped stays so
        if is_new or self._generation != _fork.generation():
            self._reset()

    @property
    def state(self) -> ComponentState:
        """Where the component is in its life."""
        self._refuse_forked()
        state = self._state
        if state.has_ended or not self._token.is_set():
            return state
        return ComponentState.STOPPED if state is ComponentState.NEW else ComponentState.STOPPING

    @property
    def failure(self) -> BaseException | None:
        """What the component died of, if it did."""
        self._refuse_forked()
        return self._failure

    def start(self) -> None:
        """Start, and return when it is up. Starting what runs does nothing.

        Raises:
            Closed: it has been stopped, or has ended.
            RuntimeError: the system gives no more threads.
        """
        if self._generation != _fork.generation():
            self._reset()
        if self._starter == threading.get_ident():
            return  # a finalizer has struck inside start(), and must not wait for itself
        try:
            self._start_once()
        finally:
            if self._starter == threading.get_ident():
                self._starter = None

    def _start_once(self) -> None:
        with self._condition:
            self._condition.wait_until(lambda: self._state is not ComponentState.STARTING, None)
            self._starter = threading.get_ident()
            if self._state is ComponentState.RUNNING:
                return
            if self._state is not ComponentState.NEW or self._token.is_set():
                raise Closed(self.kind, self.name)
            self._state = ComponentState.STARTING
            self._over = False
        ensure_stopper()
        if self._host_token is None:
            self._watch_exit()
        try:
            self._launch()
        except BaseException as error:
            self._token.set(f"could not start: {describe(error)}")  # for the threads that have started all the same
            self._finish(ComponentState.FAILED, error)
            if not self.threads():
                self._release()
            raise
        with self._condition:
            if self._state is not ComponentState.STARTING:
                return  # it has ended meanwhile
            self._state = ComponentState.RUNNING
            self._condition.notify_all()
        if self._observers.is_heard():
            self._emit(Started(component=self.name))

    def stop(self, reason: str | None = None) -> None:
        """Ask for the end, and return at once. Callable from anywhere, also twice, also before ``start()``.

        Args:
            reason: why, in a few words; what the token's ``reason`` tells.

        Raises:
            ForkedError: the component belongs to the parent process.
        """
        self._refuse_forked()
        self._token.set(reason)
        self._on_stop_asked()

    def join(self, timeout: float | timedelta | None = None) -> bool:
        """Wait until it has ended, with all its threads.

        Args:
            timeout: how long at most, in seconds; None and ``inf`` are for ever.

        Returns:
            True when it has ended or was never started; False when the time was over first, and at once where one of
            its own threads asks.

        Raises:
            ForkedError: the component belongs to the parent process.
            TypeError: ``timeout`` is no duration.
            ValueError: ``timeout`` is negative or ``nan``.
        """
        self._refuse_forked()
        seconds = _arguments.timeout(timeout)
        if threading.current_thread() in self.threads():
            return False
        deadline = deadline_after(self._clock, seconds)
        with self._condition:
            return self._condition.wait_until(self._is_over, deadline)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop("leaving the with block")
        self.join(_exit.EXIT_TIMEOUT)

    def has_begun(self) -> bool:
        """Return True from the beginning of ``start()``, by whomever, until its end; False in a forked child."""
        if self._generation != _fork.generation():
            return False
        return self._state is not ComponentState.NEW and not self._state.has_ended

    def observe(self, callback: Observer) -> Observation:
        """Have ``callback(event)`` called for everything that happens to this component.

        It runs in the thread that it happened in. What it raises is logged.

        Returns:
            a handle with ``remove()``, which is also a context manager.

        Raises:
            TypeError: ``callback`` cannot be called.
        """
        return self._observers.add(callback)

    def health(self) -> Health:
        """Return how well the component is."""
        state = self.state
        if state is ComponentState.FAILED:
            return Health(Status.FAILED, describe(self._failure) if self._failure else "")
        return Health(_STATUS[state])

    def stats(self) -> Any:
        """Return figures about the component."""
        return None

    def threads(self) -> list[threading.Thread]:
        """Return the threads that belong to this component at this moment."""
        return []

    def work_left(self) -> int:
        """Return how many pieces of work are not finished."""
        return 0

    def begin_exit(self) -> None:
        """Ask for the end, since the interpreter exits."""
        self.stop("the interpreter exits")

    def finish_exit(self, deadline: float) -> list[str]:
        """Wait for the end until a deadline of the system's clock; return the name where it did not come."""
        return [] if self.join(max(0.0, deadline - SYSTEM_CLOCK.monotonic())) else [f"{self.kind} {self.name!r}"]

    def __repr__(self) -> str:
        forked = self._generation != _fork.generation()
        return f"<{type(self).__name__} {self.name!r} {'of the parent process' if forked else self.state.value}>"

    @abstractmethod
    def _launch(self) -> None: ...

    def _watch_exit(self) -> None:
        """See to it that it is stopped at interpreter exit, since nobody else does."""
        _exit.watch(self._exit_root())

    def _exit_root(self) -> _exit.Root:
        """Return what stands for this component in the exit registry, and is kept alive by it."""
        return self

    def _on_stop_asked(self) -> None:  # noqa: B027 - most wait on the token, and have nothing to add
        """Wake what does not wait on the token. MUST be lock-free."""

    def _is_over(self) -> bool:
        """Return True where join() has nothing to wait for. The condition is held."""
        return self._over

    def _refuse_forked(self) -> None:
        if self._generation != _fork.generation():
            raise ForkedError(self.kind, self.name)

    def _emit(self, event: Event) -> None:
        self._observers.emit(event)

    def _end(self) -> None:
        """The last thread is about to end: STOPPED, unless it has failed."""
        if self._finish(ComponentState.STOPPED, None) and self._observers.is_heard():
            self._emit(Stopped(component=self.name, reason=self._token.reason))
        self._release()

    def _die(self, error: BaseException) -> None:
        """The last thread is about to end, and this is why: FAILED, and whoever answers for the component is told."""
        self._fail(error)
        self._release()

    def _fail(self, error: BaseException) -> None:
        """Do the first half of ``_die()``, where the last thread has more to do. ``_end()`` MUST follow."""
        if self._finish(ComponentState.FAILED, error):
            self._emit(Failed(component=self.name, error=error))
            if self.failed is not None:
                self.failed(error)

    def _ask_all_to_stop(self, reason: str) -> None:
        """Stop everything: the lifecycle, or, where there is none, this component."""
        (self.stop_all or self.stop)(reason)

    def _finish(self, state: ComponentState, failure: BaseException | None) -> bool:
        with self._condition:
            if self._state.has_ended:
                return False
            self._state, self._failure = state, failure
            self._condition.notify_all()
        return True

    def _release(self) -> None:
        """Let join() return: after the events and the call of failed(), so that whoever joined has seen them all."""
        with self._condition:
            self._over = True
            self._condition.notify_all()
        _exit.forget(self._exit_root())


_STATUS = {
    ComponentState.NEW: Status.STARTING,
    ComponentState.STARTING: Status.STARTING,
    ComponentState.RUNNING: Status.READY,
    ComponentState.STOPPING: Status.STOPPING,
    ComponentState.STOPPED: Status.STOPPING,
}
