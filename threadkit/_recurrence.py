"""``Recurrence``: the running life of an interval task, from its start to its end.

Three things carry its state. ``due`` is what the schedule wants next, ``_held`` a run that was decided on and waits to
begin, ``_active`` the runs that are going on. It is over when all three are empty, however that came about.

The scheduler calls ``_look()``, which is a hint and nothing more: it sees whether a run is due, and being called in
vain does no harm. So nobody takes back what is on its way to the pool: whoever changes ``due`` has it looked at anew.

What needs user code (triggers, backoffs, chance) is worked out from a ``due`` that was read without the lock, and takes
effect only if ``due`` is still that very object once the lock is held. Reading one attribute is atomic.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from datetime import datetime
from functools import partial
from typing import Any

from threadkit._agenda import Entry
from threadkit._clock import Clock
from threadkit._due import Due, Once, Tick
from threadkit._run import GRACE, ActiveRun, AgainIn, Figures, Settings, TaskStats
from threadkit._scheduler import Scheduler, Tempo
from threadkit._setback import Setback
from threadkit._stop import StopToken
from threadkit._verdicts import DONE
from threadkit.events import Event, RunFailed, RunMissed, RunSkipped


class Recurrence:
    """Decides when runs begin, runs them, and keeps count.

    Args:
        settings: how.
        clock: where time comes from.
        token: the task's; no run begins once it is set, and each run's token is a child of it.
        emit: called with what happens, never under the lock.
        finish: called once, when all is over, with what the trigger or the backoff raised, if it did.
        paused: whether it begins paused.
        asked: whether it begins with a run that was asked for by ``run_now()``.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        token: StopToken,
        emit: Callable[[Event], None],
        finish: Callable[[BaseException | None], None],
        *,
        paused: bool,
        asked: bool = False,
    ) -> None:
        self._settings = settings
        self._rhythm = settings.rhythm
        self._clock = clock
        self._token = token
        self._emit = emit
        self._finish = finish
        # Guards all below, and the rhythm's interval. Nothing is called under it but the scheduler.
        self._lock = threading.Lock()
        self._scheduler: Scheduler | None = None
        self.due: Due | None = None
        self._held: Due | None = Once(clock.monotonic()) if asked else None
        self._active: dict[int, ActiveRun] = {}
        self._entry: Entry | None = None  # the scheduler's, for the next look
        self._setback = Setback(settings.backoff, settings.random)
        self._tempo = Tempo()
        self.paused = paused
        self.closed = False  # written once: nothing begins any more
        self._told = False  # written once: somebody calls finish()
        self._broken: BaseException | None = None  # what the trigger or the backoff raised
        self._begun = 0
        self.figures = Figures()

    # --- what the task asks for --------------------------------------------------------------------------------------

    def start(self, scheduler: Scheduler, *, run_immediately: bool) -> None:
        """Begin. What the trigger or the callable raises is raised here."""
        first = self._rhythm.first(self._clock)
        self._tempo.follow(self._rhythm.pace)
        self._token.on_stop(self.wind_down)  # if the stop has come already, it is called here and now
        with self._lock:
            if not self.closed:
                self._scheduler = scheduler
                if self._held or (run_immediately and not self.paused):  # held is what run_now() has asked for already
                    self._held = Once(self._clock.monotonic())
                self.due = None if self._held and self._rhythm.after_the_end else first
                self._arm()
            is_held, is_over = self._held is not None, self._is_over()
        if is_over:
            self._finish(None)
        elif is_held:
            scheduler.run(self._begin_held)

    def abandon(self) -> None:
        """The start has failed: let nothing begin."""
        with self._lock:
            self._close()

    def wind_down(self, error: BaseException | None = None) -> None:
        """Begin no more: the stop has come, or an error says that nobody knows what is due.

        A stop is told by the stopper thread, for the setter of a token may be where no lock can be taken.
        """
        with self._lock:
            self._broken = self._broken if error is None else error
            self._close()
            futures = [run.future for run in self._active.values() if run.future is not None]
            is_over = self._is_over()
        for future in futures:
            future.cancel()  # those that the executor has not begun
        if is_over:
            self._finish(self._broken)

    def set_interval(self, interval: float) -> None:
        """Count in another interval, at once."""
        with self._lock:
            if interval == self._rhythm.interval:
                return
            self._rhythm.interval = interval
            self._tempo.follow(interval)
            if isinstance(self.due, Tick):
                self.due = self.due.paced(interval, self._clock)
                self._arm()

    def pause(self) -> None:
        """Begin no run that is due, and none that waits."""
        with self._lock:
            self.paused = True
            dropped = self._drop_held()
            # Before the start nothing is planned yet, and a delay never until a run ends, or resume() plans it.
            is_over = self._scheduler is not None and not self._rhythm.after_the_end and self._is_over()
        self._tell_skipped(dropped)
        if is_over:
            self._finish(None)

    def resume(self) -> None:
        """Go on; see ``IntervalTask.resume()``."""
        while self.paused:
            due = self.due
            following, missed = self._rhythm.after_pause(due, self._setback.put_off, self._clock)
            with self._lock:
                if self.due is not due:
                    continue
                self.paused = False
                self.figures.missed += missed
                self._plan(following)
            self._tell_missed(due, missed)
            return

    def run_now(self) -> bool:
        """Have a run begin as soon as possible; return False where none can any more."""
        with self._lock:
            if self.closed:
                return False
            self._hold(Once(self._clock.monotonic()))
        if self._scheduler is not None:  # else it begins with start()
            self._scheduler.run(self._begin_held)
        return True

    def next_run_at(self) -> datetime | None:
        """Return when the next run is due, in UTC."""
        due = self.due
        return None if due is None or self.paused else self._setback.put_off(due, self._clock).moment(self._clock)

    def stats(self) -> TaskStats:
        """Return the figures, as of one moment."""
        with self._lock:
            return self.figures.stats(len(self._active), self.next_run_at())

    def threads(self) -> list[threading.Thread]:
        """Return the threads that are running it, save those of a foreign executor."""
        with self._lock:
            return [run.thread for run in self._active.values() if run.thread is not None]

    def work_left(self) -> int:
        """Return how many runs are going on, or wait to begin."""
        with self._lock:
            return len(self._active) + (self._held is not None)

    # --- what is due -------------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        """Have the scheduler look when the next run is due, and not before. The lock MUST be held."""
        if self._scheduler is None:
            return
        if self._entry is not None:
            self._scheduler.cancel(self._entry)
            self._entry = None
        if self.due is not None and not self.paused:
            moment = self.due.wake_at(self._clock)
            if self._setback.until is not None:
                moment = max(moment, self._setback.until)
            self._entry = self._scheduler.schedule(moment, self._look, self._tempo)

    def _look(self) -> None:
        """See whether a run is due, and if so, decide about it. On a thread of the pool."""
        due = self.due
        if due is None:
            return
        try:
            meant = self._setback.put_off(due, self._clock)
            lateness = meant.lateness(self._clock)
            if lateness < 0:
                self._replace(due, due.revised(self._clock))
                return
            following, passed = self._rhythm.following(due, self._clock)
            passed = passed if meant is due else 0  # a backoff was meant to leave those out
            left_out = self._settings.misfire == "skip" and (passed > 0 or lateness > GRACE)
            if left_out and following is None:
                following = self._rhythm.from_now(self._clock)
        except BaseException as error:  # the trigger's: all else here is ours
            self.wind_down(error)
            return
        missed = passed + left_out
        with self._lock:
            if self.due is not due or self.paused or self._token.is_set():
                return
            self.due, self._entry = following, None  # it is this entry that brought us, or else it will come in vain
            self.figures.missed += missed
            skipped = self.figures.skipped
            run = None if left_out else self._admit(meant)
            is_skipped = self.figures.skipped > skipped
            self._arm()
            is_over = run is None and self._is_over()
        if missed or is_skipped:
            self._tell_missed(meant, missed)
            self._tell_skipped(meant if is_skipped else None)
        if is_over:
            self._finish(None)
        self._perform(run)

    def _replace(self, due: Due, other: Due | None) -> None:
        with self._lock:
            if self.due is due:
                self.due = other
                self._arm()
            is_over = self._is_over()
        if is_over:
            self._finish(None)

    def _close(self) -> None:
        """Let nothing begin any more. The lock MUST be held."""
        self.closed = True
        self.due = self._held = None
        self._arm()

    def _is_over(self) -> bool:
        """Tell whether nothing is to come, and close then. True once: to who calls finish. The lock MUST be held."""
        if self._active or self.due is not None or self._held is not None or self._told:
            return False
        self.closed = self._told = True
        return True

    # --- runs --------------------------------------------------------------------------------------------------------

    def _admit(self, due: Due) -> ActiveRun | None:
        """Begin a run, or do what the overlap policy says. The lock MUST be held."""
        if self._has_room():
            return self._begin(due)
        if self._settings.overlap in {"skip", "parallel"} or self._held is not None:
            self.figures.skipped += 1
        else:
            self._hold(due)
        return None

    def _has_room(self) -> bool:
        """Tell whether one more run may begin now. The lock MUST be held."""
        return not self._active or (
            self._settings.overlap == "parallel" and len(self._active) < self._settings.max_parallel
        )

    def _hold(self, due: Due) -> None:
        """Have a run wait for the end of the present one, unless one does already. The lock MUST be held."""
        if self._held is None:
            self._held = due
        if self._settings.overlap == "cancel":
            for run in self._active.values():
                run.token.set("the next run is due")

    def _begin(self, due: Due) -> ActiveRun:
        """Count a run in; whoever gets it has to perform it. The lock MUST be held."""
        number = self._begun = self._begun + 1
        # A function that takes no run, and runs here, has no use for a token, so the task's own stands in.
        has_token = self._settings.wants_run or self._settings.elsewhere is not None
        token = self._token.child(f"{self._settings.name}, run {number}") if has_token else self._token
        run = self._active[number] = ActiveRun(number, due, token)
        if number == self._settings.max_runs:
            self._close()
        return run

    def _begin_held(self) -> None:
        self._perform(self._take_held())

    def _take_held(self) -> ActiveRun | None:
        with self._lock:
            if self._held is None or not self._has_room() or self._token.is_set():
                return None
            due, self._held = self._held, None
            return self._begin(due)

    def _perform(self, run: ActiveRun | None) -> None:
        """Perform a run, and those that are held meanwhile. On a thread of the pool."""
        while run is not None:
            run.began = self._clock.monotonic()
            self.figures.last_run_at = self._clock.now()
            if self._settings.elsewhere is not None:
                if self._hand_over(run, self._settings.elsewhere):
                    return
            else:
                run.thread = threading.current_thread()
                self._settle(run, *run.call(self._settings, self._clock))
            # What is held from here on comes with a call of its own, for it found no active run to wait for.
            run = self._take_held() if self._held is not None else None

    def _hand_over(self, run: ActiveRun, elsewhere: Callable[..., Future[Any]]) -> bool:
        """Have an executor or an event loop perform a run; return False where it could not begin, and is settled."""
        try:
            future = run.future = elsewhere(run.token, *run.arguments(self._settings, self._clock))
        except BaseException as error:  # it is full, closed or broken
            self._settle(run, None, error)
            return False
        if self._token.is_set():
            future.cancel()
        future.add_done_callback(partial(self._take_back, run))
        return True

    def _take_back(self, run: ActiveRun, future: Future[Any]) -> None:
        if future.cancelled():
            self._settle(run, None, CancelledError(), has_run=not self._token.is_set())
        else:
            error = future.exception()
            self._settle(run, None if error else future.result(), error)
        if self._held is not None and self._scheduler is not None:
            self._scheduler.run(self._begin_held)

    def _settle(self, run: ActiveRun, result: object, error: BaseException | None, *, has_run: bool = True) -> None:
        """Book what has become of a run, and plan what depends on its end."""
        ended = self._clock.monotonic()
        if self._rhythm.ask is not None:
            interval, error = self._rhythm.ask_again(self._rhythm.ask, error)
            if interval is not None:
                self.set_interval(interval)
        dropped = until = following = broken = None
        decides = error is not None or result is not None or self._rhythm.after_the_end
        try:
            until, following = self._work_out(result, error, ended) if decides else (None, None)
        except BaseException as failure:  # the trigger's or the backoff's
            broken = failure
        with self._lock:
            del self._active[run.number]
            if has_run:
                self._tempo.took(ended - run.began)
                self.figures.count(ended - run.began, error)
            self._setback.until = until
            if until is not None:
                dropped = self._drop_held()
            if result is DONE or broken is not None:
                self._broken = broken
                self._close()
            elif following is not None and (self.due is None or isinstance(result, AgainIn)):
                self._plan(following)
            is_over = self._is_over()
        if error is not None and has_run:
            self._emit(RunFailed(component=self._settings.name, error=error, number=run.number))
        self._tell_skipped(dropped)
        if is_over:
            self._finish(self._broken)

    def _work_out(self, result: object, error: BaseException | None, ended: float) -> tuple[float | None, Due | None]:
        """Return when a setback ends, and what is due next, where the end of a run decides about these."""
        until = None if error is None else self._setback.after(self.figures.failures_in_a_row + 1, error, ended)
        if isinstance(result, AgainIn):
            return until, self._rhythm.again_in(result.seconds, self._clock)
        return until, self._rhythm.after_end(self._clock)

    def _plan(self, due: Due | None) -> None:
        """Make this the next, unless the end of a run will decide about that. The lock MUST be held."""
        if not (self.closed or (self.due is None and (self._held or self._active))):
            self.due = due
            self._arm()

    def _drop_held(self) -> Due | None:
        """A backoff or a pause begins: look at its end, and let go of what was held. The lock MUST be held."""
        self._arm()
        dropped, self._held = self._held, None
        self.figures.skipped += dropped is not None
        return dropped

    def _tell_skipped(self, due: Due | None) -> None:
        if due is not None:
            self._emit(RunSkipped(component=self._settings.name, scheduled_at=due.moment(self._clock)))

    def _tell_missed(self, due: Due | None, count: int) -> None:
        if due is not None and count:
            self._emit(RunMissed(component=self._settings.name, scheduled_at=due.moment(self._clock), count=count))
