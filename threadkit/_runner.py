"""The ways to run a lifecycle: ``with``, ``async with``, an ASGI application's lifespan, for ever; and its end at exit.

They are sugar over ``start()``, ``stop()`` and ``shutdown()``, which the lifecycle itself brings.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterable
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from threadkit import _arguments
from threadkit._clock import SYSTEM_CLOCK, Clock
from threadkit._component import ComponentState, Phase
from threadkit._entry import Entry
from threadkit._errors import Closed, WouldBlock
from threadkit._observe import Observers, logger
from threadkit._registry import Registry
from threadkit._report import ShutdownReport
from threadkit._signals import Forced, SignalTrap
from threadkit._stop import StopToken
from threadkit._systemd import Systemd
from threadkit._waiting import Condition
from threadkit.events import QuietRequested, describe
from threadkit.health import Health

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


class Runner(ABC):
    """The half of ``Lifecycle`` that drives it from a host."""

    name: str
    _clock: Clock
    _condition: Condition
    _failures: list[BaseException]
    _is_quiet: bool
    _observers: Observers
    _raised: BaseException | None
    _registry: Registry
    _state: ComponentState
    _stop_timeout: float
    _trap: SignalTrap

    @property
    @abstractmethod
    def token(self) -> StopToken:
        """The token that says that a stop has been asked for."""

    @property
    @abstractmethod
    def state(self) -> ComponentState:
        """Where the lifecycle is in its life."""

    @abstractmethod
    def start(self) -> None:
        """Start; see ``Lifecycle``."""

    @abstractmethod
    def stop(self, reason: str | None = None) -> None:
        """Ask for the end; see ``Lifecycle``."""

    @abstractmethod
    def health(self) -> Health:
        """Return how well the whole is; see ``Lifecycle``."""

    @abstractmethod
    def shutdown(self, timeout: float | timedelta | None = None) -> ShutdownReport:
        """Bring the end about; see ``Lifecycle``."""

    @abstractmethod
    def _refuse_forked(self) -> None:
        """Raise in a forked child."""

    @abstractmethod
    def _threads_of(self, entries: Iterable[Entry]) -> list[threading.Thread]:
        """Return the threads that these components have at this moment."""

    def wait(self, timeout: float | timedelta | None = None) -> bool:
        """Wait until a stop has been asked for.

        Args:
            timeout: how long at most, in seconds.

        Returns:
            True when a stop has been asked for, False when the time was over first.

        Raises:
            TypeError: ``timeout`` is no duration.
            ValueError: ``timeout`` is negative or ``nan``.
            ForkedError: the lifecycle was started by the parent process.
        """
        self._refuse_forked()
        return self.token.wait(timeout)

    def quiet(self, timeout: float | timedelta | None = None) -> bool:
        """Stop what creates work, and let the rest go on: what stands in phases up to ``Phase.INTAKE``.

        It is told and joined in the order of a stop, of which this is the first part: a ``stop()`` later goes on from
        there. ``health()`` says ``stopping`` from now on, so that a load balancer sends nothing more. What a component
        of a later phase requires goes on with that. What is added afterwards is started as ever, and stopped by another
        call. Before ``start()`` there is nothing to stop.

        Callable from any thread but those of the intake itself, by several at once, and again.

        Args:
            timeout: seconds to wait for the end of the intake; None takes ``stop_timeout``.

        Returns:
            whether all of it has ended; what has not was told, and ends when it can.

        Raises:
            WouldBlock: called by a thread of the intake, which would wait for itself.
            ForkedError: the lifecycle was started by the parent process.
            TypeError: ``timeout`` is no duration.
            ValueError: ``timeout`` is negative or ``nan``.

        Example:
            >>> with Lifecycle() as lc:
            ...     jobs = lc.queue()
            ...     @lc.thread
            ...     def intake(running):
            ...         running.wait()
            ...     print(lc.quiet(), lc["intake"].state.value, jobs.state.value, lc.health().is_ready)
            True stopped running False
        """
        given = _arguments.timeout(timeout)
        deadline = self._clock.monotonic() + (self._stop_timeout if given is None else given)
        if self.state is ComponentState.NEW:
            return True
        with self._condition:
            if not self._condition.wait_until(lambda: self._state is not ComponentState.STARTING, deadline):
                return False
        intake = self._registry.stages(Phase.INTAKE)
        if threading.current_thread() in self._threads_of(itertools.chain.from_iterable(intake)):
            raise WouldBlock("quiet()", f"a thread of the intake of lifecycle {self.name!r}", "stop()")
        self._is_quiet = True
        self._observers.emit(QuietRequested(component=self.name))
        parts = list(self._registry.stop(intake, "quiet", deadline, final=False))
        return all(part.outcome != "stuck" for part in parts)

    async def aquiet(self, timeout: float | timedelta | None = None) -> bool:
        """Do what ``quiet()`` does, in a thread of its own, so that the event loop goes on."""
        return await _run_off_loop(lambda: self.quiet(timeout), f"{self.name}-quiet")

    def run_forever(self) -> int:
        """Start if need be, wait for a stop or a signal, shut down, and return what the process should exit with.

        SIGINT and SIGTERM are taken meanwhile, if this is the main thread; the second one cuts the shutdown short. As
        the service of systemd it says when it is up and when it stops, and feeds the watchdog while it is live.

        Returns:
            the report's ``exit_code``: 128 + n after signal n; else 0, or 1 where something is stuck, say.

        Raises:
            ExceptionGroup: components died, or their end raised; the errors are inside.
            SystemExit: with 128 + n; a second signal, n, cut the start short.
        """
        trap = self._trap
        if trap.is_possible():
            trap.install()
        systemd = Systemd()
        try:
            systemd.tell("starting")
            if self.state is ComponentState.NEW:
                self._start_unless_stopped()
            with contextlib.suppress(Forced):
                self._stand_by(systemd)
            systemd.tell(f"stopping: {self.token.reason}", STOPPING=1)
            report = self.shutdown()
            systemd.tell(str(report))
        except BaseException as error:
            systemd.tell(describe(error))
            forced = Forced.behind(error)
            if forced is None or forced is error:
                raise
            raise forced from error
        finally:
            trap.restore()
            systemd.close()
        self._raise_failures(None)
        return report.exit_code

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop("leaving the with block" if exc is None else describe(exc))
        self.shutdown()
        self._raise_failures(exc)

    async def __aenter__(self) -> Self:
        import asyncio

        try:
            await _run_off_loop(self.start, f"{self.name}-start")
        except asyncio.CancelledError:  # then Python does not call __aexit__()
            self.stop("cancelled while it started")
            await _run_off_loop(self.shutdown, f"{self.name}-stop")
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop("leaving the with block" if exc is None else describe(exc))
        await _run_off_loop(self.shutdown, f"{self.name}-stop")
        self._raise_failures(exc)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: object) -> AsyncGenerator[dict[str, Self]]:
        """Run as long as an ASGI application does: ``FastAPI(lifespan=lc.lifespan)``. Takes no signals from its server.

        Args:
            app: the application, as the framework passes it; not used.

        Yields:
            the state that Starlette shares with requests: ``{"lifecycle": lc}``.
        """
        async with self:
            yield {"lifecycle": self}

    def begin_exit(self) -> None:
        """Called when the interpreter exits while the lifecycle runs."""
        self.stop("the interpreter exits")

    def finish_exit(self, deadline: float) -> list[str]:
        """Shut down before a deadline of the system's clock; return the names of what did not stop."""
        report = self.shutdown(min(self._stop_timeout, max(0.0, deadline - SYSTEM_CLOCK.monotonic())))
        return [f"{part.name!r} of lifecycle {self.name!r}" for part in report.stuck]

    def _start_unless_stopped(self) -> None:
        try:
            self.start()
        except Closed:
            if self._state is not ComponentState.NEW:
                raise
            # A stop has come first, a signal say, and nothing was started.

    def _stand_by(self, systemd: Systemd) -> None:
        """Wait for the stop, and keep systemd informed meanwhile."""
        if not self.token.is_set():
            systemd.tell("running", READY=1)
        while not self.token.wait(systemd.watchdog_interval):
            health = self.health()
            systemd.tell(str(health), **({"WATCHDOG": 1} if health.is_live else {}))

    def _raise_failures(self, body: BaseException | None) -> None:
        """Raise what the components died of. ``body`` is what the ``with`` block raised, and propagates by itself."""
        failures = [error for error in self._failures if error is not body]
        if not failures or (body is not None and body is self._raised):
            return
        if body is not None and not isinstance(body, Exception):
            for error in failures:  # KeyboardInterrupt and SystemExit mean more than what happened beside them
                body.add_note(f"lifecycle {self.name!r} also failed: {describe(error)}")
            return
        errors = failures if body is None else [body, *failures]
        self._raised = BaseExceptionGroup(f"lifecycle {self.name!r} failed", errors)
        raise self._raised from None


async def _run_off_loop(func: Callable[[], T], name: str) -> T:
    """Run a blocking function in a thread of its own, so that it neither blocks the loop nor queues behind its jobs."""
    import asyncio

    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            tell_nobody(error)
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)  # type: ignore[arg-type]  # without an error there is a value

    def tell_nobody(error: BaseException | None) -> None:
        if error is not None:
            logger.error("%s failed, and nobody waits for it any more", name, exc_info=error)

    def run() -> None:
        value: T | None = None
        error: BaseException | None = None
        try:
            value = func()
        except BaseException as raised:  # handed to whoever awaits
            error = raised
        try:
            loop.call_soon_threadsafe(settle, value, error)
        except RuntimeError:  # the loop is closed: who waited was cancelled
            tell_nobody(error)

    SYSTEM_CLOCK.spawn(run, name)
    return await future
