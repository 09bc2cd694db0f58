"""``IntervalTask``: a function that is run again and again.

What is due when is worked out in ``_due.py``, when runs begin and what becomes of them in ``_recurrence.py``.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from datetime import datetime, timedelta
from typing import Any, ClassVar, Literal

from threadkit import _arguments, _durations
from threadkit._calling import accepts, asks_for
from threadkit._chance import chance
from threadkit._clock import Clock, deadline_after
from threadkit._component import BaseComponent, ComponentState, Phase
from threadkit._coroutines import Loop, begin, loop_for
from threadkit._due import Every, Pace, Rhythm, seconds
from threadkit._errors import Closed
from threadkit._override import override
from threadkit._recurrence import Recurrence
from threadkit._run import AgainIn, Figures, Misfire, Overlap, Run, Settings, TaskStats
from threadkit._scheduler import Scheduler
from threadkit._stop import StopToken
from threadkit._verdicts import DONE
from threadkit.backoff import Backoff
from threadkit.events import describe
from threadkit.health import Health, Status


class IntervalTask(BaseComponent):
    """Runs a function again and again: at a fixed rate, with a fixed delay, or when a trigger says so.

    Intervals are timed by the monotonic clock, on a grid that does not drift; calendar triggers by the wall clock. All
    tasks of a lifecycle share one scheduler; a task that is started alone has one of its own.

    **Late and missed runs.** What is due while nothing can run (the machine was asleep, the clock was set forward, all
    threads are busy) is run once, as soon as possible; more runs that have become due by then are folded into it. With
    ``misfire="skip"`` a run is left out if the next is due as well, or if it is more than a minute late. What was
    folded or left out is counted in ``missed`` and told by a ``RunMissed`` event. Single moments (``triggers.at``, or
    all that a trigger names) that have passed when the task starts are late. A wall clock that is set back by up to an
    hour makes no run come twice; one that is set back by more was wrong before, and the trigger is followed by the
    right time from then on.

    **The next run** may be moved by whoever sets ``interval``, by ``every`` where that is a function, and by the run
    itself, which returns ``IntervalTask.again_in("30s")``, or ``IntervalTask.DONE`` for never.

    **Failures.** A run that raises, be it ``SystemExit``, is counted and told by a ``RunFailed`` event, and the
    schedule goes on. A trigger or a backoff that raises ends the task as failed.

    Args:
        func: what to run; it gets the ``Run`` if it has a required positional parameter.
        every: seconds, a ``timedelta``, a text such as ``"5m"``, a trigger, or a function returning one of the first
            three, which is asked at the start and after each run.
        name: the task's name; None takes the function's.
        run_immediately: run once at the start, too.
        fixed: ``"rate"`` counts the interval from one due time to the next, ``"delay"`` from the end of a run.
        jitter: up to so many seconds, by chance, are added to each due time. The grid is not moved.
        overlap: what to do when a run is due while another is going on: ``"skip"`` it; ``"queue"`` one, to begin when
            the other ends; run both in ``"parallel"``; or ``"cancel"`` the other by its token, and begin when it ends.
        max_parallel: with ``overlap="parallel"``, how many runs may go on at once; what is due beyond that is skipped.
            None is no limit but the threads there are.
        misfire: ``"run"`` what is late, or ``"skip"`` it; see above.
        max_runs: end after so many runs.
        backoff: after a failed run none begins for as long as this says, though it be due; a queued one is dropped. It
            starts anew after a run that succeeds.
        executor: run it there, instead of on the scheduler's own threads. A run begins when it is handed over.
        loop: an ``EventLoopThread`` for an async ``func``; no thread waits for it. Its run's token cancels it: where
            the task stops, or with ``overlap="cancel"``. What observes the task must not block the loop.
        clock: where time comes from; None inherits the lifecycle's.
        random: where chance comes from, a function returning a float from 0 to 1.

    Raises:
        TypeError: an argument is of the wrong kind; ``func`` cannot be called with a run or without; or it is async and
            has no ``loop``.
        ValueError: an argument is out of range; ``overlap`` is ``"cancel"``, and ``func`` is not async and takes no run
            with a token; ``max_parallel`` is given where ``overlap`` is not ``"parallel"``; or there are an executor
            and a loop.

    Example:
        >>> from threadkit.testing import VirtualClock
        >>> clock = VirtualClock()
        >>> with IntervalTask(lambda run: print(run.number, run.scheduled_at), "5m", clock=clock):
        ...     clock.advance(600)
        1 2026-01-01 00:05:00+00:00
        2 2026-01-01 00:10:00+00:00
    """

    kind: ClassVar[str] = "task"
    default_phase: ClassVar[int] = Phase.INTAKE
    DONE: ClassVar[object] = DONE
    """Return it from ``func`` to end the task."""

    def __init__(
        self,
        func: Callable[[Run], object] | Callable[[], object],
        every: Every,
        *,
        name: str | None = None,
        run_immediately: bool = False,
        fixed: Literal["rate", "delay"] = "rate",
        jitter: float | timedelta = 0,
        overlap: Overlap = "skip",
        max_parallel: int | None = None,
        misfire: Misfire = "run",
        max_runs: int | None = None,
        backoff: Backoff | None = None,
        executor: Executor | None = None,
        loop: Loop | None = None,
        clock: Clock | None = None,
        random: Callable[[], float] | None = None,
    ) -> None:
        loop = loop_for(func, "func", loop)
        wants_run = asks_for(func, "Run")
        if not accepts(func, int(wants_run)):
            raise TypeError(f"func must take one parameter, the run, or none, but {func!r} takes others")
        if overlap == "cancel" and not wants_run and loop is None:
            raise ValueError("overlap must not be 'cancel' where func takes no run: it would not see the run's token")
        if max_parallel is not None and overlap != "parallel":
            raise ValueError(f"max_parallel must not be {max_parallel!r} where overlap is {overlap!r}, not 'parallel'")
        if executor is not None and not isinstance(executor, Executor):
            raise TypeError(f"executor must be a concurrent.futures.Executor, not {executor!r}")
        if executor is not None and loop is not None:
            raise ValueError(f"executor must not be given beside a loop, but is {executor!r}")
        source = chance if random is None else _arguments.function(random, "random")
        self._rhythm = Rhythm(
            every,
            _arguments.seconds(jitter, "jitter"),
            source,
            after_the_end=_arguments.choice(fixed, "fixed", ("rate", "delay")) == "delay",
        )
        name = _arguments.name_of(func, "task") if name is None else name
        self._settings = Settings(
            name,
            func,
            wants_run,
            self._rhythm,
            _arguments.choice(overlap, "overlap", ("skip", "queue", "parallel", "cancel")),
            math.inf if max_parallel is None else _arguments.count(max_parallel, "max_parallel"),
            _arguments.choice(misfire, "misfire", ("run", "skip")),
            None if max_runs is None else _arguments.count(max_runs, "max_runs"),
            None if backoff is None else _arguments.function(backoff, "backoff"),
            _elsewhere(func, executor, loop),
            source,
        )
        self._run_immediately = run_immediately
        self._paused = False  # what a new life begins with; one store, and whoever comes last is right
        self._asked = False  # likewise; by run_now(), until the start
        self._host_scheduler: Scheduler | None = None
        super().__init__(name, clock)

    @override
    def _reset(self) -> None:
        super()._reset()
        self._own_scheduler: Scheduler | None = None
        self._recurrence = Recurrence(
            self._settings,
            self._clock,
            self._token,
            self._emit,
            self._conclude,
            paused=self._paused,
            asked=self._asked,
        )

    def bind(self, scheduler: Scheduler) -> None:
        """Use this scheduler from the next ``start()`` on; called by a lifecycle, which stops it, too."""
        self._host_scheduler = scheduler

    @staticmethod
    def again_in(delay: float | timedelta | str) -> object:
        """Return what ``func`` returns to be run again so long after its end, whatever the schedule says.

        The run takes the place of the one that would be due next. An interval is then counted from it; a trigger says
        what comes after it. It is for a function that knows best: more is to do, or a server said when to come back.

        Args:
            delay: seconds, a ``timedelta`` or text such as ``"5m"``; zero is at once.

        Raises:
            TypeError: ``delay`` is no duration.
            ValueError: ``delay`` is negative, ``nan`` or infinite, or means nothing.

        Example:
            >>> from threadkit.testing import VirtualClock
            >>> clock = VirtualClock()
            >>> def fetch(run):
            ...     print(run.scheduled_at.time())
            ...     return IntervalTask.again_in("10s") if run.number == 1 else None
            >>> with IntervalTask(fetch, "5m", clock=clock):
            ...     clock.advance("11m")
            00:05:00
            00:05:10
            00:10:10
        """
        return AgainIn(_durations.seconds(delay, "delay"))

    # --- what users do -----------------------------------------------------------------------------------------------

    @property
    def interval(self) -> float | None:
        """Seconds from one run to the next; None where a trigger has no such thing.

        A new value takes effect at once, also from inside a run: the next run is due so many seconds after the one
        before was, or now if that has passed.
        """
        return self._rhythm.pace

    @interval.setter
    def interval(self, value: Pace) -> None:
        self._refuse_forked()
        interval = seconds(value, "interval")
        if self._rhythm.trigger is not None:
            raise ValueError(f"interval must not be set to {value!r}, for task {self.name!r} follows a trigger")
        self._recurrence.set_interval(interval)

    def pause(self) -> None:
        """Begin no run until ``resume()``; those that are going on go on. Also before ``start()``.

        A run that waits for another one to end, or was asked for by ``run_now()`` and has not begun, is skipped.
        """
        self._refuse_forked()
        self._paused, self._asked = True, False
        self._recurrence.pause()

    def resume(self) -> None:
        """Take the schedule up again. What was due meanwhile is missed, unless it was the last: that is run late."""
        self._refuse_forked()
        self._recurrence.resume()
        self._paused = False

    def run_now(self) -> None:
        """Run once, as soon as possible; the schedule stays as it is.

        Where a run is going on it begins when that has ended (in parallel where ``overlap`` says so); before
        ``start()`` it begins with that. It is run while the task is paused, too.

        Raises:
            Closed: the task has been stopped, or has ended.
        """
        self._refuse_forked()
        if self._state is ComponentState.NEW:
            self._asked = True
        if self._token.is_set() or not self._recurrence.run_now():
            raise Closed(self.kind, self.name)

    def cancel(self, reason: str | None = None) -> None:
        """End the task: the same as ``stop()``."""
        self.stop(reason)

    @property
    def next_run_at(self) -> datetime | None:
        """When the next run is due, in UTC; None where that is not known: not started, paused, ended."""
        self._refuse_forked()
        return self._recurrence.next_run_at()

    @property
    def last_run_at(self) -> datetime | None:
        """When the last run began, in UTC."""
        return self._figures.last_run_at

    @property
    def last_duration(self) -> float | None:
        """How many seconds the run took that ended last."""
        return self._figures.last_duration

    @property
    def last_error(self) -> BaseException | None:
        """What the last failed run raised."""
        return self._figures.last_error

    @property
    def runs(self) -> int:
        """How many runs have ended, the failed ones included."""
        return self._figures.runs

    @property
    def failures(self) -> int:
        """How many runs have raised."""
        return self._figures.failures

    @property
    def skipped(self) -> int:
        """How many runs were left out since others were going on, or waited and were dropped by a backoff or pause."""
        return self._figures.skipped

    @property
    def missed(self) -> int:
        """How many runs were due while nothing could run, or in a pause, and were folded into another or left out.

        Of calendar triggers (``daily`` to ``cron``, ``a | b``, your own) at most a thousand are counted at a time.
        """
        return self._figures.missed

    @override
    def health(self) -> Health:
        """Return how well the task is: degraded where its last run failed."""
        health = super().health()
        figures = self._figures
        if health.status is not Status.READY or not figures.failures_in_a_row or figures.last_error is None:
            return health
        return Health(
            Status.DEGRADED, f"the last {figures.failures_in_a_row} run(s) failed: {describe(figures.last_error)}"
        )

    @override
    def stats(self) -> TaskStats:
        """Return the figures of the task, as of this moment."""
        self._refuse_forked()
        return self._recurrence.stats()

    @override
    def threads(self) -> list[threading.Thread]:
        self._refuse_forked()
        own = self._own_scheduler
        return self._recurrence.threads() + ([] if own is None else own.threads())

    @override
    def work_left(self) -> int:
        return self._recurrence.work_left()

    @override
    def join(self, timeout: float | timedelta | None = None) -> bool:
        deadline = deadline_after(self._clock, _arguments.timeout(timeout))
        own = self._own_scheduler
        return super().join(timeout) and (own is None or own.join(deadline))

    # --- beginning and end -------------------------------------------------------------------------------------------

    @override
    def _launch(self) -> None:
        scheduler = self._host_scheduler
        if scheduler is None:
            scheduler = self._own_scheduler = Scheduler(self._clock, self.name, self._emit)
        try:
            self._recurrence.start(scheduler, run_immediately=self._run_immediately)
            self._asked = False
        except BaseException:
            self._recurrence.abandon()
            self._let_go()
            raise

    @property
    def _figures(self) -> Figures:
        self._refuse_forked()
        return self._recurrence.figures

    def _conclude(self, error: BaseException | None) -> None:
        self._let_go()
        if error is None:
            self._end()
        else:
            self._die(error)

    def _let_go(self) -> None:
        """Leave nothing behind at others: no hook at the token's parents, no threads."""
        self._token._retire()
        if self._own_scheduler is not None:
            self._own_scheduler.stop()


def _elsewhere(
    func: Callable[..., object], executor: Executor | None, loop: Loop | None
) -> Callable[..., Future[Any]] | None:
    """Return what begins a run on the executor or the loop, if there is either."""
    if loop is not None:
        return functools.partial(begin, loop, func)
    if executor is None:
        return None

    def submit(_: StopToken, *arguments: Any) -> Future[Any]:
        return executor.submit(func, *arguments)  # the function alone, for it may have to travel to another process

    return submit
