"""``ManagedThread``: a named thread that is told to stop, is started again when it dies, and never dies unseen."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import Any, ClassVar, TypedDict

from threadkit import _arguments, _exit, _fork
from threadkit import backoff as _backoff
from threadkit._body import Alone, Body, Part
from threadkit._calling import accepts, asks_for
from threadkit._clock import Clock
from threadkit._component import Phase
from threadkit._coroutines import Loop, loop_for, on_loop
from threadkit._errors import StartTimeout
from threadkit._override import override
from threadkit._pulse import OnWedged
from threadkit._restarts import RestartPolicy, RestartRules
from threadkit._stop import StopToken
from threadkit._supervised import Supervised
from threadkit._verdicts import DONE, STOP_ALL
from threadkit.backoff import Backoff
from threadkit.health import Health, Status


class ChildOptions(TypedDict, total=False):
    """The keywords of ``ManagedThread`` that are the thread's own affair also where it belongs to a group."""

    restart: RestartPolicy
    heartbeat: float | timedelta | None
    on_wedged: OnWedged
    ready: bool
    start_timeout: float | timedelta
    stop_timeout: float | timedelta | None
    loop: Loop | None


class ManagedThread(Supervised):
    """A long-lived thread with a name, a stop token and a restart policy.

    The body is ``target(token)`` or ``target()``. It should end soon after the token is set; ``while token.sleep(5):
    ...`` and ``with token.on_stop(client.close): ...`` see to that. When it is set, whatever the body raises is no
    failure. Each call of the body has a token of its own.

    A body that returns ``ManagedThread.DONE`` is not called again, whatever ``restart`` says. One that returns
    ``ManagedThread.STOP_ALL`` is not either, and the lifecycle is asked to stop; so is the outermost group, where there
    is no lifecycle.

    A thread that stands alone must be kept: where nobody refers to it any more while its body runs there is a
    ``ResourceWarning``, and it goes on until the interpreter exits.

    Args:
        target: the body. It gets the token if it has a required positional parameter.
        name: the thread's name; None takes the function's.
        restart: when the body is called again: ``"never"``, ``"on_failure"`` (it raised) or ``"always"`` (it ended).
        backoff: how long to wait before each restart. It begins anew after ``within`` seconds without one.
        max_restarts: how many restarts there may be ``within`` so many seconds; one more, and the thread has failed for
            good. None is unlimited.
        within: the window of ``max_restarts``, in seconds. In a group these three are not used: the group's are.
        heartbeat: the body must call ``token.beat()``, or wait on its token, at least this often, in seconds; else it
            is *wedged*: ``health()`` is degraded, and a ``Wedged`` event, which is logged, has its stack. None expects
            nothing.
        on_wedged: what to do then besides: only ``"log"``; ``"dump"`` the stacks of all threads into the log;
            ``"replace"``: set the token of that call, abandon its thread, and call the body again on a new one, which
            is a restart whatever ``restart`` says; or ``"stop"``: fail, which stops the lifecycle.
        ready: True makes ``start()`` wait until the body calls ``token.ready()``, and raise what it raised before.
        start_timeout: how long ``start()`` waits for that, in seconds.
        stop_timeout: how long a lifecycle waits for the end of this thread, in seconds, within its own deadline; None
            is as long as that allows.
        loop: an ``EventLoopThread`` for an async ``target``. The thread waits until the coroutine has ended. A stop
            cancels the coroutine, with the reason as the message; a ``CancelledError`` that has another cause is a
            failure.
        clock: where time comes from; None inherits the lifecycle's.

    Raises:
        TypeError: ``target`` cannot be called with a token or without, or is async and has no ``loop``; or an argument
            is of the wrong kind.
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
    DONE: ClassVar[object] = DONE
    """Return it from the body: a good end, for good."""
    STOP_ALL: ClassVar[object] = STOP_ALL
    """Return it from the body: a good end, and the lifecycle is to stop."""

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
        on_wedged: OnWedged = "log",
        ready: bool = False,
        start_timeout: float | timedelta = 10.0,
        stop_timeout: float | timedelta | None = None,
        loop: Loop | None = None,
        clock: Clock | None = None,
    ) -> None:
        wants_token = asks_for(_arguments.function(target, "target"), "StopToken")
        if not accepts(target, int(wants_token)):
            raise TypeError(f"target must take one parameter, the token, or none, but {target!r} takes others")
        called: Callable[..., object] = target
        if (loop := loop_for(target, "target", loop)) is not None:
            called, wants_token = on_loop(loop, target, wants_token=wants_token), True
        self._part = Part(
            self.kind,
            called,
            wants_token,
            _arguments.choice(restart, "restart", ("never", "on_failure", "always")),
            _limit(heartbeat),
            _arguments.choice(on_wedged, "on_wedged", ("log", "dump", "replace", "stop")),
            ready,
        )
        if heartbeat is None and on_wedged != "log":
            raise ValueError(f"on_wedged must not be {on_wedged!r} where there is no heartbeat: nobody would notice")
        self._rules = RestartRules.of(max_restarts, within, backoff)
        self._start_timeout = _arguments.timeout(start_timeout, "start_timeout")
        self.stop_timeout: float | None = _arguments.timeout(stop_timeout, "stop_timeout")
        super().__init__(name if name is not None else _arguments.name_of(target, "thread"), clock)

    @override
    def _make_body(self) -> Body:
        supervision = self._membership or Alone(self._rules)
        return Body(self._part, self.name, self._clock, self._token, supervision, self)

    @property
    def restarts(self) -> int:
        """How often the body has been called again."""
        self._refuse_forked()
        return self._body.restarts

    def beat(self) -> None:
        """Say that the body is alive and well; see ``heartbeat``. Waiting on the token says so by itself."""
        self._refuse_forked()
        self._body.beat()

    @override
    def health(self) -> Health:
        """Return how well the thread is: degraded where it is wedged, or waits to be called again."""
        health = super().health()
        body = self._body
        if health.status is not Status.READY:
            return health
        if body.waits_after is not None:
            return Health(Status.DEGRADED, f"waits to be called again: {body.waits_after}")
        silence = body.silence()
        if self._part.heartbeat is None or silence <= self._part.heartbeat:
            return health
        return Health(Status.DEGRADED, f"no heartbeat for {silence:.3g} s")

    @override
    def stats(self) -> dict[str, Any]:
        """Return ``state``, ``restarts``, ``abandoned`` (calls), ``alive`` and ``last_beat`` (seconds ago)."""
        return {
            "state": self.state.value,
            "restarts": self.restarts,
            "abandoned": self._body.abandoned,
            "alive": self.is_alive(),
            "last_beat": self._body.silence(),
        }

    @property
    @override
    def _ready_timeout(self) -> float | None:
        return self._start_timeout

    @override
    def _watch_exit(self) -> None:
        _exit.watch(self, weakly=True)

    @override
    def _launch(self) -> None:
        self._body.launch()
        up = self._body.up
        if up is None:
            return
        settled = up.wait(self._start_timeout)
        with self._condition:
            failure = self._failure
        if failure is not None:
            raise failure
        if not settled:
            self._token.set("not ready in time")
            raise StartTimeout(self.name, self._start_timeout or 0.0)

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        """Warn where the body runs and nobody will be able to stop it; then live on until it ends.

        Each step is reentrant, since a finalizer may strike anywhere: single operations on a dict, and stores.
        """
        if is_finalizing() or not self._is_dropped():
            return
        _exit.watch(self)  # strongly: it is alive again
        self._body.attach(self)
        if self._body.is_over:  # the body may have looked for its owner in vain, and will not look again
            _exit.forget(self)
            return
        warnings.warn(
            f"thread {self.name!r} was dropped while its body runs, and goes on until the interpreter exits: "
            "keep a reference to it and stop it, or add it to a lifecycle",
            ResourceWarning,
            stacklevel=2,
            source=self,
        )

    def _is_dropped(self) -> bool:
        """Return True where it has not ended, and nobody answers for it."""
        try:
            ours = self._generation == _fork.generation() and self._host_token is None
        except AttributeError:  # it was refused when it was made
            return False
        return ours and not self._over


def _limit(heartbeat: float | timedelta | None) -> float | None:
    """Return how many seconds of silence are allowed, or None where any number is."""
    if heartbeat is None:
        return None
    seconds = _arguments.seconds(heartbeat, "heartbeat", above_zero=True, infinite=True)
    return None if seconds == math.inf else seconds
