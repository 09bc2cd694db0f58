"""``ManagedThread``: a named thread that is told to stop, is started again when it dies, and never dies unseen."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import Any, ClassVar, Literal

from threadkit import _arguments
from threadkit import backoff as _backoff
from threadkit._calling import accepts, asks_for
from threadkit._clock import Clock, deadline_after
from threadkit._component import BaseComponent, ComponentState, Phase
from threadkit._errors import StartTimeout, ThreadkitError
from threadkit._observe import logger
from threadkit._override import override
from threadkit._stop import StopToken
from threadkit._verdicts import Stopping
from threadkit._waiting import Waiters
from threadkit.backoff import Backoff, RetryState, delay_of
from threadkit.events import Restarted, describe
from threadkit.health import Health, Status

RestartPolicy = Literal["never", "on_failure", "always"]


class _ThreadToken(StopToken):
    """The token of a managed thread: it knows when the body is ready, and that who waits on it is alive."""

    __slots__ = ("_owner",)

    def __init__(self, owner: ManagedThread, clock: Clock) -> None:
        super().__init__(owner.name, clock=clock)
        self._owner = owner

    @override
    def wait(self, timeout: float | timedelta | None = None) -> bool:
        resting = self._owner._resting
        me = threading.get_ident()
        resting.add(me)  # set.add and set.discard of an int are atomic
        try:
            return super().wait(timeout)
        finally:
            resting.discard(me)
            self._owner.beat()

    @override
    def ready(self) -> None:
        self._owner._become_ready()


class ManagedThread(BaseComponent):
    """A long-lived thread with a name, a stop token and a restart policy.

    The body is ``target(token)`` or ``target()``. It should end soon after the token is set; ``while token.sleep(5):
    ...`` and ``with token.on_stop(client.close): ...`` see to that. When it is set, whatever the body raises is no
    failure.

    Args:
        target: the body. It gets the token if it has a required positional parameter.
        name: the thread's name; None takes the function's.
        restart: when the body is called again: ``"never"``, ``"on_failure"`` (it raised) or ``"always"`` (it ended).
        backoff: how long to wait before each restart. It begins anew after ``within`` seconds without one.
        max_restarts: how many restarts there may be ``within`` so many seconds; one more, and the thread has failed for
            good. None is unlimited.
        within: the window of ``max_restarts``, in seconds.
        heartbeat: the body must call ``beat()``, or wait on its token, at least this often, in seconds; else
            ``health()`` is degraded. None expects nothing.
        ready: True makes ``start()`` wait until the body calls ``token.ready()``, and raise what it raised before.
        start_timeout: how long ``start()`` waits for that, in seconds.
        stop_timeout: how long a lifecycle waits for the end of this thread, in seconds, within its own deadline; None
            is as long as that allows.
        clock: where time comes from; None inherits the lifecycle's.

    Raises:
        TypeError: ``target`` cannot be called with a token or without; or an argument is of the wrong kind.
        ValueError: an argument is out of range.

    Example:
        >>> def count(running):
        ...     while running.sleep(0.001):
        ...         counted.append(len(counted))
        >>> counted = []
        >>> with ManagedThread(count) as thread:
        ...     print(thread.name, thread.state.value)
        count running
        >>> thread.state.value
        'stopped'
    """

    kind: ClassVar[str] = "thread"
    default_phase: ClassVar[int] = Phase.INTAKE

    def __init__(
        self,
        target: Callable[[StopToken], object] | Callable[[], object],
        *,
        name: str | None = None,
        restart: RestartPolicy = "never",
        backoff: Backoff = _backoff.exponential(1, cap=30),  # noqa: B008 - a frozen value, made once, is what is wanted
        max_restarts: int | None = 5,
        within: float | timedelta = 60.0,
        heartbeat: float | timedelta | None = None,
        ready: bool = False,
        start_timeout: float | timedelta = 10.0,
        stop_timeout: float | timedelta | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._target: Callable[..., object] = _arguments.function(target, "target")
        self._wants_token = asks_for(target, "StopToken")
        if not accepts(target, int(self._wants_token)):
            raise TypeError(f"target must take one parameter, the token, or none, but {target!r} takes others")
        self._restart: RestartPolicy = _arguments.choice(restart, "restart", ("never", "on_failure", "always"))
        self._backoff = _arguments.function(backoff, "backoff")
        self._max_restarts: float = (
            math.inf if max_restarts is None else _arguments.count(max_restarts, "max_restarts", minimum=0)
        )
        self._within = _arguments.seconds(within, "within", above_zero=True)
        self._heartbeat = _arguments.timeout(heartbeat, "heartbeat")
        self._waits_for_ready = ready
        self._start_timeout = _arguments.timeout(start_timeout, "start_timeout")
        self.stop_timeout: float | None = _arguments.timeout(stop_timeout, "stop_timeout")
        super().__init__(name if name is not None else _arguments.name_of(target, "thread"), clock)

    @override
    def _reset(self) -> None:
        super()._reset()
        self._thread: threading.Thread | None = None
        self._is_ready = False  # written once, by the body
        self._milestones = Waiters()  # woken when the body is ready, has ended, or is told to stop
        self._resting: set[int] = set()  # the threads that wait on the token at this moment
        self._last_beat = 0.0  # one float store, atomic; whoever comes last is right
        # Written by the thread alone:
        self._restarts = 0
        self._row = 0  # restarts since the last healthy period
        self._restarted_at: deque[float] = deque()
        self._previous_delay = 0.0

    @override
    def _new_token(self) -> StopToken:
        return _ThreadToken(self, self._clock)

    @property
    def restarts(self) -> int:
        """How often the body has been called again."""
        return self._restarts

    def is_alive(self) -> bool:
        """Return True while the thread runs; between two calls of its body too."""
        return self._thread is not None and self._thread.is_alive()

    def beat(self) -> None:
        """Say that the body is alive and well; see ``heartbeat``. Waiting on the token says so by itself."""
        self._last_beat = self._clock.monotonic()

    @override
    def health(self) -> Health:
        """Return how well the thread is: degraded where its heart has not beaten for too long."""
        health = super().health()
        if self._heartbeat is None or health.status is not Status.READY or self._resting:
            return health
        silence = self._clock.monotonic() - self._last_beat
        if silence <= self._heartbeat:
            return health
        return Health(Status.DEGRADED, f"no heartbeat for {silence:.3g} s")

    @override
    def stats(self) -> dict[str, Any]:
        """Return ``state``, ``restarts``, ``alive`` and ``last_beat`` (seconds ago)."""
        return {
            "state": self.state.value,
            "restarts": self._restarts,
            "alive": self.is_alive(),
            "last_beat": 0.0 if self._resting else self._clock.monotonic() - self._last_beat,
        }

    @override
    def threads(self) -> list[threading.Thread]:
        thread = self._thread
        return [] if thread is None or self._over else [thread]

    @override
    def _launch(self) -> None:
        self.beat()
        self._thread = self._clock.spawn(self._run, self.name)
        if self._waits_for_ready:
            self._await_ready()

    def _await_ready(self) -> None:
        deadline = deadline_after(self._clock, self._start_timeout)
        settled = self._milestones.wait(
            self._clock, lambda: self._is_ready or self._state.has_ended or self._token.is_set(), deadline
        )
        with self._condition:
            failure = self._failure
        if failure is not None:
            raise failure
        if not settled:
            self._token.set("not ready in time")
            raise StartTimeout(self.name, self._start_timeout or 0.0)

    def _become_ready(self) -> None:
        self._is_ready = True
        self._milestones.wake_all()

    @override
    def _on_stop_asked(self) -> None:
        self._milestones.wake_all()

    def _run(self) -> None:
        self._thread = threading.current_thread()  # which _launch() may not have written yet; the value is the same
        try:
            error = self._live()
        except BaseException as bug:  # a backoff of the user's that raises, say: it must not look like a clean end
            error = bug
        if error is None:
            self._end()
        elif self._waits_for_ready and not self._is_ready:
            self._finish(ComponentState.FAILED, error)  # start() raises it, so nobody else need be told
            self._release()
        else:
            self._die(error)
        self._milestones.wake_all()

    def _live(self) -> BaseException | None:
        """Call the body as often as the policy wants; return what the thread dies of, or None for a good end."""
        while True:
            began = self._clock.monotonic()
            error = self._call_body()
            if self._token.is_set():
                if error is not None:
                    logger.info("thread %r raised while it stopped: %s", self.name, describe(error), exc_info=error)
                return None
            if self._waits_for_ready and not self._is_ready:
                return error or ThreadkitError(f"thread {self.name!r} returned before it called token.ready()")
            if self._restart == "never" or (self._restart == "on_failure" and error is None):
                return error
            exhausted = self._plan_restart(began, error)
            if exhausted is not None:
                return exhausted
            if not self._token.sleep(self._previous_delay):
                return None

    def _call_body(self) -> BaseException | None:
        try:
            if self._wants_token:
                self._target(self._token)
            else:
                self._target()
        except Stopping as stopping:
            return None if self._token.is_set() else stopping
        except BaseException as error:  # the thread's border: an error is a value from here on
            return error
        return None

    def _plan_restart(self, began: float, error: BaseException | None) -> BaseException | None:
        """Book one restart and its delay; return an error where the budget is spent."""
        now = self._clock.monotonic()
        while self._restarted_at and self._restarted_at[0] <= now - self._within:
            self._restarted_at.popleft()
        if len(self._restarted_at) >= self._max_restarts:
            note = (
                f"thread {self.name!r} ended {len(self._restarted_at) + 1} times within {self._within:g} s: no restart"
            )
            if error is None:
                return ThreadkitError(note)
            error.add_note(note)
            return error
        if now - began >= self._within:  # it was well for a while: begin anew
            self._row, self._previous_delay = 0, 0.0
        self._restarted_at.append(now)
        if self._max_restarts == math.inf:
            self._restarted_at.clear()  # unlimited: nothing to remember
        self._restarts += 1
        self._row += 1
        self._previous_delay = delay_of(
            self._backoff, RetryState(self._row, error, previous_delay=self._previous_delay)
        )
        self._emit(Restarted(component=self.name, error=error, restarts=self._restarts, delay=self._previous_delay))
        return None
