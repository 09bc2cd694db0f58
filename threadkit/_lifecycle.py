"""``Lifecycle``: starts what belongs together, watches it, and stops it in order on one deadline."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Literal, ParamSpec, TypeVar, Unpack

from threadkit import _arguments, _budget, _exit, _fork
from threadkit._checkup import Checkup
from threadkit._clock import SYSTEM_CLOCK, Clock
from threadkit._component import ComponentState
from threadkit._composite import Composite
from threadkit._entry import Entry
from threadkit._errors import Closed, ForkedError, WouldBlock
from threadkit._leader import Leader, LeaderOptions
from threadkit._makers import split
from threadkit._observe import Observers
from threadkit._override import override
from threadkit._registry import Registry
from threadkit._report import ComponentReport, ShutdownReport
from threadkit._resources import Resources
from threadkit._runner import Runner
from threadkit._scheduler import Scheduler
from threadkit._signals import Forced, SignalTrap
from threadkit._stop import StopToken
from threadkit._stopper import ensure_stopper
from threadkit._waiting import Condition
from threadkit.events import ComponentStuck, ShutdownFinished, Started, StopRequested, describe

P = ParamSpec("P")
T = TypeVar("T")


class Lifecycle(Composite, Runner):
    """Holds the components of an application: starts them in order, stops them in order, and says how that went.

    Everything is told to stop and joined on one deadline, phase by phase; resources close last; the ``report`` names
    who did not stop, with its stack. When a component dies the whole is stopped, and the ``with`` block raises an
    ``ExceptionGroup``.

    Args:
        name: shown in the report and the log.
        stop_timeout: seconds that a shutdown may take in all.
        start_timeout: seconds that each component of a class of yours has to come up. threadkit's own come up at once,
            but for a thread with ``ready=True``, which has a ``start_timeout`` of its own.
        phase_timeouts: seconds that phases may take to stop, as ``{Phase.WORK: 5.0}``, within ``stop_timeout``.
        on_failure: what the death of a component does: ``"stop"`` the whole, or only ``"log"`` it.
        signals: take SIGINT and SIGTERM from ``start()`` on, in the main thread; ``run_forever()`` takes them anyway.
        force_close: close the resources even where a component is stuck that may still use them.
        check_timeout: seconds after which the answer of a check is late; ``health()`` takes no longer.
        check_every: seconds for which the answer of a check is good.
        clock: where time comes from, also for every component that was given none.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: an argument is out of range.

    Example:
        >>> ticks = []
        >>> with Lifecycle("demo") as lc:
        ...     @lc.thread
        ...     def worker(running):
        ...         while running.sleep(0.001):
        ...             ticks.append(1)
        >>> lc.report.ok, lc.state.value
        (True, 'stopped')
    """

    def __init__(
        self,
        name: str = "app",
        *,
        stop_timeout: float | timedelta = 10.0,
        start_timeout: float | timedelta = 10.0,
        phase_timeouts: Mapping[int, float | timedelta] | None = None,
        on_failure: Literal["stop", "log"] = "stop",
        signals: bool = False,
        force_close: bool = False,
        check_timeout: float | timedelta = 1.0,
        check_every: float | timedelta = 1.0,
        clock: Clock | None = None,
    ) -> None:
        self.name: str = _arguments.text(name, "name")
        self._stop_timeout = _arguments.seconds(stop_timeout, "stop_timeout")
        self._start_timeout = _arguments.timeout(start_timeout, "start_timeout")
        self._phase_timeouts = _budget.phase_timeouts(phase_timeouts)
        self._check_timeout = _arguments.seconds(check_timeout, "check_timeout", above_zero=True)
        self._check_every = _arguments.seconds(check_every, "check_every")
        self._on_failure = _arguments.choice(on_failure, "on_failure", ("stop", "log"))
        self._wants_signals = signals
        self._force_close = force_close
        self._clock: Clock = clock or SYSTEM_CLOCK
        self._observers = Observers()
        self._registry = Registry(self._clock, self._take_failure, self.stop, self._phase_timeouts)
        self._reset()

    def _reset(self) -> None:
        """Make everything that belongs to one life: when made, and when started anew in a forked child."""
        self._generation = _fork.generation()
        # Guards _state, _starter, _driver, _failures and _report; notified when they change. No user's code is called
        # under it. The registry's is taken under it, and never the other way round.
        self._condition = Condition(self._clock)
        self._state = ComponentState.NEW
        self._starter: threading.Thread | None = None  # who starts everything at this moment
        self._driver: threading.Thread | None = None  # who stops everything at this moment
        self._failures: list[BaseException] = []
        self._resources = Resources()
        self._report: ShutdownReport | None = None
        self._raised: BaseException | None = None
        self._token = StopToken(self.name, clock=self._clock)
        self._scheduler = Scheduler(self._clock)
        self._is_quiet = False
        self._checkup = Checkup(self._clock, self._check_timeout, self._check_every, self._observers.emit)
        self.bind(self._scheduler)
        self._trap = SignalTrap(lambda _, signal: self._token.set(f"signal {signal}"))

    @property
    def token(self) -> StopToken:
        """The token that says that a stop has been asked for. Components have their own, which are set in order."""
        return self._token

    @property
    def state(self) -> ComponentState:
        """Where the lifecycle is in its life."""
        self._refuse_forked()
        state = self._state
        if state.has_ended or not self._token.is_set():
            return state
        return ComponentState.STOPPING

    @property
    def report(self) -> ShutdownReport | None:
        """How the shutdown went; None before its end."""
        self._refuse_forked()
        return self._report

    def start(self) -> None:
        """Start all components, the highest phase first; return when all are up. Starting what runs does nothing.

        If one fails, those that are up are stopped in reverse, and its error is raised with a note. Where a stop comes
        meanwhile, no more are started, and it returns.

        Raises:
            Closed: the lifecycle has been stopped.
            WouldBlock: called by what this very start calls, an observer say.
            UnknownComponent: ``requires`` names a component that does not exist; nothing was started.
            StartTimeout: a component was not up in time.
            ValueError: a component runs in another lifecycle or leader.
            BaseException: whatever a component's ``start()`` raised.
        """
        if self._generation != _fork.generation():
            self._start_anew()
        me = threading.current_thread()
        if self._starter is me:  # nobody else could have written that
            raise WouldBlock("start()", f"the start of lifecycle {self.name!r}", "stop()")
        try:
            with self._condition:
                self._condition.wait_until(lambda: self._state is not ComponentState.STARTING, None)
                if self._state is ComponentState.RUNNING:
                    return
                if self._state is not ComponentState.NEW or self._token.is_set():
                    raise Closed("lifecycle", self.name)
                self._registry.check_requires()
                if self._wants_signals:
                    self._trap.install()
                self._starter, self._state = me, ComponentState.STARTING
            ensure_stopper()
            _exit.watch(self)
            while (entry := self._next_to_start()) is not None:
                self._registry.bring_up(entry, self._start_timeout, self._token)
        except BaseException as error:
            if self._starter is me:  # else nothing has begun
                error.add_note(f"while lifecycle {self.name!r} was starting; what was up has been stopped")
                self.stop(f"could not start: {describe(error)}")
                with self._condition:
                    self._come_up()
                self.shutdown(0 if isinstance(error, Forced) else None)
            raise
        self._observers.emit(Started(component=self.name))

    def stop(self, reason: str | None = None) -> None:
        """Ask for the end, and return at once; ``shutdown()``, or leaving the ``with`` block, brings it about.

        Callable from anywhere: any thread, a worker of this lifecycle, a callback, a signal handler; also twice, also
        before ``start()``.

        Args:
            reason: why, in a few words.

        Raises:
            ForkedError: the lifecycle was started by the parent process.
        """
        self._refuse_forked()
        self._token.set(reason)

    def shutdown(self, timeout: float | timedelta | None = None) -> ShutdownReport:
        """Stop everything in order and wait for it. A second call waits for the first and returns its report.

        What another thread is starting is stopped, too. Where it is interrupted, by Ctrl-C say, another call goes on
        with what is left.

        Args:
            timeout: seconds in all; None takes ``stop_timeout``.

        Returns:
            who stopped, who did not and where it is stuck, and what failed.

        Raises:
            WouldBlock: called by a thread of one of the components, or by what is called while the lifecycle starts or
                stops, which would wait for itself; ``stop()`` is for them.
            ForkedError: the lifecycle was started by the parent process.
            TypeError: ``timeout`` is no duration.
            ValueError: ``timeout`` is negative or ``nan``.
        """
        self._refuse_forked()
        given = _arguments.timeout(timeout)
        total = self._stop_timeout if given is None else given
        if self._is_inside():
            raise WouldBlock("shutdown()", f"a thread of lifecycle {self.name!r}", "stop()")
        self.stop("shutdown")
        me = threading.current_thread()
        try:
            with self._condition:
                self._condition.wait_until(lambda: self._driver is None or self._report is not None, None)
                report = self._report
                if report is None:
                    self._driver, self._state = me, ComponentState.STOPPING  # also under who is still starting it
                    self._condition.notify_all()
            if report is None:
                return self._shut_down(total)
            self._trap.restore()  # which another thread that has done all this could not do itself
            return report
        except BaseException:  # Ctrl-C, say. Whoever waits, be it the exit hook, takes up what is left
            if self._driver is me:
                self._settle(ComponentState.RUNNING)
            raise

    def leader(self, path: str | os.PathLike[str], name: str = "leader", **options: Unpack[LeaderOptions]) -> Leader:
        """Make a ``Leader`` and add it: what is added to that, in turn, runs in one process at a time.

        Args:
            path: a file that all processes name; it is made if need be.
            name: the leader's name.
            **options: the keywords of ``Leader`` and ``add()``.

        Raises:
            LeaseError: this system has no record locks; or the lifecycle runs, and the lease cannot be had there.

        Example:
            >>> import tempfile
            >>> folder = tempfile.TemporaryDirectory()
            >>> with folder, Lifecycle() as lc:
            ...     leader = lc.leader(f"{folder.name}/app.lock")
            ...     @leader.every("1h")
            ...     def clean_up(): ...
            ...     leader.wait(timeout=5)
            True
        """
        placement, settings = split(options)
        return self.add(Leader(path, name=name, **settings), **placement)  # type: ignore[arg-type]

    def enter_context(self, cm: AbstractContextManager[T]) -> T:
        """Enter a context manager that is left when all components have ended; the last one entered is left first.

        It belongs to the process that enters it: a forked child does not leave it. It is left by the thread that shuts
        the lifecycle down, since much must be left where it was entered: where both are the same thread, so it is. So
        the deadline does not bound it. What has not been left by then is logged, with its stack, and waited for.

        Returns:
            what its ``__enter__`` returned.

        Raises:
            Closed: the lifecycle has been stopped.
            BaseException: whatever its ``__enter__`` raised.
        """
        self._refuse_closed()
        return self._resources.enter(cm)

    def callback(self, func: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Have ``func(*args, **kwargs)`` called when all components have ended.

        A forked child that starts anew calls it, too. As what ``enter_context()`` enters, it is waited for.

        Raises:
            Closed: the lifecycle has been stopped.
            TypeError: ``func`` cannot be called.
        """
        self._refuse_closed()
        self._resources.call(func, *args, **kwargs)

    def __repr__(self) -> str:
        forked = self._generation != _fork.generation()
        state = "of the parent process" if forked else self.state.value
        return f"<Lifecycle {self.name!r} {state}, {len(self._registry)} components>"

    def _shut_down(self, total: float) -> ShutdownReport:
        """Do what ``shutdown()`` promises; called by one at a time, and not again once it has returned."""
        began = self._clock.monotonic()
        deadline = began + total
        reason = self._token.reason
        self._observers.emit(StopRequested(component=self.name, reason=reason))
        forced = False
        parts: list[ComponentReport] = []
        try:
            for part in self._registry.stop(self._registry.stages(), reason, deadline):
                parts.append(part)
                if part.outcome == "stuck":
                    self._observers.emit(ComponentStuck(component=part.name, seconds=part.seconds))
            self._registry.dismiss(reason, deadline)
            self._scheduler.stop()
            self._scheduler.join(deadline)
            parts += self._checkup.join(deadline)
        except Forced:
            forced = True
            parts += self._registry.give_up({part.name for part in parts})
            self._scheduler.stop()
        is_stuck = any(part.outcome == "stuck" for part in parts)
        with self._resources.watched(self._clock, deadline):
            left_open, errors = self._resources.close(leave_open=is_stuck and not self._force_close)
        with self._condition:
            ends = [part.error for part in parts if part.error is not None]
            known = list({id(error): error for error in (*self._failures, *ends, *errors)}.values())
            self._failures = known if self._on_failure == "stop" else [*self._failures, *errors]
            report = self._report = ShutdownReport(
                self.name,
                reason,
                self._clock.monotonic() - began,
                tuple(parts),
                tuple(known),
                tuple(left_open),
                self._trap.signum,
                forced,
            )
            self._settle(ComponentState.FAILED if self._failures else ComponentState.STOPPED)
        _exit.forget(self)
        self._trap.restore()
        self._observers.emit(ShutdownFinished(component=self.name, seconds=report.seconds, ok=report.ok))
        return report

    @override
    def _take_failure(self, entry: Entry, error: BaseException) -> None:
        if self._on_failure == "stop":
            super()._take_failure(entry, error)

    def _settle(self, state: ComponentState) -> None:
        """Stop no more: let others do so."""
        with self._condition:
            self._driver, self._state = None, state
            self._condition.notify_all()

    def _start_anew(self) -> None:
        """Begin a new life in a forked child, with the same components: their own start() makes them anew."""
        resources = self._resources.of_child()
        self._registry.begin_anew(self._clock)
        self._reset()
        self._resources = resources

    def _is_inside(self) -> bool:
        me = threading.current_thread()
        own = [self._starter, self._driver, *self._scheduler.threads(), *self._checkup.threads()]
        return me in own or me in self._threads_of(self._registry)

    @override
    def _is_up(self) -> bool:
        return self._state is not ComponentState.NEW

    @override
    def _is_coming_up(self) -> bool:
        return self._state is ComponentState.STARTING

    @override
    def _come_up(self) -> None:
        self._starter = None
        if self._state is ComponentState.STARTING:  # else a shutdown has come in between
            self._state = ComponentState.RUNNING
            self._condition.notify_all()

    def _refuse_forked(self) -> None:
        if self._generation != _fork.generation():
            raise ForkedError("lifecycle", self.name)

    @override
    def _refuse_closed(self) -> None:
        self._refuse_forked()
        if self._state is ComponentState.STOPPING or self._state.has_ended:
            raise Closed("lifecycle", self.name)
