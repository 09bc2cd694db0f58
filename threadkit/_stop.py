"""``StopToken``: a stop as a value that knows why, until when, and whom to wake.

Tokens form trees by looking *up*: a child keeps its lineage (itself, its parent, ...), and it is set when any of them
is. A parent knows nothing of its children, so millions of them may come and go.

Invariants:
    1. ``_stops`` only grows, and its first element decides. ``list.append`` is atomic, so of two setters one is first.
    2. A waiter enters its gate in its whole lineage and then looks at the flags; a setter writes its flag and then
       opens the gates of its own token. So no waiter sleeps through a stop, with no lock between them.
    3. A hook is in ``_hooks`` of its whole lineage until it is claimed or removed. It is claimed by ``list.pop()`` on
       its one-element slot, which succeeds once, whoever comes first.
    4. ``set()`` takes no lock and calls no user code: it may run in a signal handler or a finalizer that interrupted
       any other method of the same token.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import NoReturn, Self

from threadkit import _arguments, _fork
from threadkit._clock import SYSTEM_CLOCK, Clock, deadline_after
from threadkit._stopper import ensure_stopper, run_soon
from threadkit._timer import Timer
from threadkit._verdicts import Stopping
from threadkit._waiting import Waiters

_logger = logging.getLogger("threadkit")


class _Stop:
    """Why a token was set, and until when what runs has time. Never changed after it is made."""

    __slots__ = ("clock", "deadline", "reason")

    def __init__(self, reason: str | None, deadline: float | None, clock: Clock) -> None:
        self.reason = reason
        self.deadline = deadline
        self.clock = clock  # whose seconds the deadline is in: a child that looks at it may have another


class StopToken:
    """Tells a thread, task, job or handler that it should end.

    It is passed to whoever asks for it; make one yourself to drive threadkit's parts, or your own, by hand. All methods
    may be called from any thread, and ``set()`` from a signal handler or a finalizer too.

    Args:
        name: shown by ``repr()``.
        clock: where time comes from; None is the system's clock.

    Example:
        >>> token = StopToken()
        >>> token()          # keep running?
        True
        >>> token.set("enough")
        >>> token(), token.is_set(), token.reason
        (False, True, 'enough')
        >>> token.wait(timeout=60)   # returns at once
        True
    """

    __slots__ = ("__weakref__", "_clock", "_expires", "_gates", "_hooks", "_lineage", "_stops", "_timer", "name")

    def __init__(self, name: str | None = None, *, clock: Clock | None = None) -> None:
        self.name: str | None = name
        self._clock: Clock = clock or SYSTEM_CLOCK
        self._stops: list[_Stop] = []
        self._expires: float | None = None
        self._gates = Waiters()
        self._hooks: dict[StopHook, None] = {}
        self._timer: Timer | None = None
        self._lineage: tuple[StopToken, ...] = (self,)

    def __call__(self) -> bool:
        """Return True while you should keep running, so that ``while running():`` reads well."""
        return self._cause() is None

    def __bool__(self) -> NoReturn:
        """Refuse: would truth mean "stopped" or "running"?

        Raises:
            TypeError: always.
        """
        raise TypeError("a StopToken has no truth value: call it, token(), or ask token.is_set()")

    def is_set(self) -> bool:
        """Return True once a stop has been asked for, here or at a parent."""
        return self._cause() is not None

    @property
    def reason(self) -> str | None:
        """Why the stop was asked for; None while it was not, or where no reason was given."""
        cause = self._cause()
        return cause.reason if cause else None

    def remaining(self) -> float | None:
        """Return the seconds that are left to the hard deadline, at least 0.

        None while no stop has been asked for, or where the stop has no deadline.
        """
        cause = self._cause()
        if cause is None or cause.deadline is None:
            return None
        return max(0.0, cause.deadline - cause.clock.monotonic())

    def set(self, reason: str | None = None, *, deadline: float | None = None) -> None:
        """Ask for a stop: wake who waits, and hand the ``on_stop`` callbacks to the stopper thread. Returns at once.

        The first call decides; later ones change nothing.

        Args:
            reason: why, in a few words.
            deadline: until when, in seconds of this token's clock; what ``remaining()`` counts down to.
        """
        if self._cause() is None:
            self._stops.append(_Stop(reason, deadline, self._clock))
        self._spread()

    def wait(self, timeout: float | timedelta | None = None) -> bool:
        """Wait for the stop.

        Args:
            timeout: how long at most, in seconds; None and ``inf`` are for ever.

        Returns:
            True when a stop has been asked for, False when the time was over first.

        Raises:
            TypeError: ``timeout`` is no duration.
            ValueError: ``timeout`` is negative or ``nan``.
        """
        seconds = _arguments.timeout(timeout)
        if self._cause() is not None:
            return True
        deadline = _earlier(deadline_after(self._clock, seconds), self._expiry())
        gate = self._clock.gate()
        for token in self._lineage:
            token._gates.enter(gate)
        try:
            if self._cause() is None:
                self._clock.park(gate, deadline)
        finally:
            for token in self._lineage:
                token._gates.leave(gate)
        return self._cause() is not None

    def sleep(self, seconds: float | timedelta) -> bool:
        """Sleep, but wake up at once when a stop is asked for.

        Args:
            seconds: how long.

        Returns:
            True when it slept in full, False when the stop came first.

        Raises:
            TypeError: ``seconds`` is no duration.
            ValueError: ``seconds`` is negative or ``nan``.

        Example:
            >>> token = StopToken()
            >>> token.sleep(0.001)
            True
        """
        return not self.wait(_arguments.seconds(seconds, "seconds", infinite=True))

    def raise_if_set(self) -> None:
        """Unwind by an exception once a stop has been asked for.

        Raises:
            Stopping: a stop has been asked for.
        """
        cause = self._cause()
        if cause is not None:
            raise Stopping(cause.reason)

    def ready(self) -> None:
        """Say that the body is up.

        It has an effect in a ``ManagedThread(..., ready=True)``, whose ``start()`` waits for it.
        """

    def beat(self) -> None:
        """Say that the body is alive and well, though it works for long without waiting on this token.

        It has an effect in a ``ManagedThread(..., heartbeat=...)``.
        """

    def child(self, name: str | None = None, timeout: float | timedelta | None = None) -> StopToken:
        """Return a token that is set when this one is, or on its own.

        Args:
            name: shown by ``repr()``.
            timeout: seconds after which it is set by itself, with the reason "timed out".

        Raises:
            TypeError: ``timeout`` is no duration.
            ValueError: ``timeout`` is negative or ``nan``.

        Example:
            >>> parent = StopToken()
            >>> child = parent.child("request", timeout=30)
            >>> parent.set("closing time")
            >>> child.reason
            'closing time'
        """
        seconds = _arguments.timeout(timeout)
        child = self._new(name)
        child._descend_from(self)
        if seconds is not None:
            child._expires = self._clock.monotonic() + seconds
        return child

    def on_stop(self, callback: Callable[[], object]) -> StopHook:
        """Have ``callback()`` called once when the stop comes, to free a body that is stuck in a call of its own.

        It runs on threadkit's stopper thread, never in the one that sets the token; where the stop has come already,
        here and now. What it raises is logged. A callback that hangs delays no other.

        Args:
            callback: a function without arguments that ends the call, such as a websocket's ``close``. A plain socket
                needs ``shutdown(SHUT_RDWR)``: its ``close`` wakes nobody who reads from it.

        Returns:
            a handle with ``remove()``, which is also a context manager: ``with token.on_stop(ws.close):
            ws.run_forever()``.

        Raises:
            TypeError: ``callback`` cannot be called.
            RuntimeError: the token has a time-out of its own, and there is no thread to watch it.

        Example:
            >>> token = StopToken()
            >>> with token.on_stop(lambda: print("never reached")):
            ...     pass
            >>> token.set()
        """
        hook = StopHook(self, _arguments.function(callback, "callback"))
        ensure_stopper()  # now, for set() may be called where no thread can be made
        for token in self._lineage:
            token._hooks[hook] = None
        if self._cause() is not None:
            hook._run()
        elif (expiry := self._expiry()) is not None:
            try:
                hook._watch(self._shared_timer(), expiry)
            except RuntimeError:  # no thread to be had: nothing half-registered stays behind
                hook.remove()
                raise
        return hook

    def __repr__(self) -> str:
        cause = self._cause()
        state = "running" if cause is None else f"stopped: {cause.reason}" if cause.reason else "stopped"
        return f"<StopToken {self.name!r} {state}>" if self.name else f"<StopToken {state}>"

    def _new(self, name: str | None) -> StopToken:
        """Make a token that is to become a child."""
        return StopToken(name, clock=self._clock)

    def _descend_from(self, parent: StopToken) -> None:
        """Make this new token a child; it MUST NOT be shared yet."""
        self._lineage = (self, *parent._lineage)

    def _cause(self) -> _Stop | None:
        expires, first = None, self
        for token in self._lineage:
            if token._stops:
                return token._stops[0]
            if token._expires is not None and (expires is None or token._expires < expires):
                expires, first = token._expires, token
        if expires is None or self._clock.monotonic() < expires:
            return None
        first._stops.append(_Stop("timed out", expires, first._clock))
        return first._stops[0]

    def _expiry(self) -> float | None:
        expiry = None
        for token in self._lineage:
            expiry = _earlier(expiry, token._expires)
        return expiry

    def _spread(self) -> None:
        """Wake the waiters and hand over the hooks: the second half of ``set()``."""
        self._gates.wake_all()
        while self._hooks:
            try:
                hook, _ = self._hooks.popitem()
            except KeyError:  # another setter has just taken the last one
                return
            run_soon(hook._run)

    def _retire(self) -> None:
        """Take back the hooks of this token that nobody removed, so that the parents forget them."""
        for hook in list(self._hooks):
            hook.remove()

    def _shared_timer(self) -> Timer:
        root = self._lineage[-1]
        with _timers_lock:
            if root._timer is None:
                root._timer = Timer(self._clock, "threadkit-expiry")
            return root._timer


class StopHook:
    """A callback that waits for a stop; what ``StopToken.on_stop()`` returns.

    Example:
        >>> hook = StopToken().on_stop(print)
        >>> hook.remove()    # True: it will not be called any more
        True
        >>> hook.remove()
        False
    """

    __slots__ = ("_entry", "_slot", "_timer", "_token")

    def __init__(self, token: StopToken, callback: Callable[[], object]) -> None:
        self._token = token
        self._slot = [callback]  # whoever pops it owns the call
        self._timer: Timer | None = None
        self._entry: list[object] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()

    def remove(self) -> bool:
        """Take the callback back; return False where it was called, is being called, or was removed before."""
        removed = self._claim() is not None
        self._forget()
        return removed

    def _claim(self) -> Callable[[], object] | None:
        try:
            return self._slot.pop()
        except IndexError:
            return None

    def _watch(self, timer: Timer, expiry: float) -> None:
        # Nobody else may be looking at the clock when the time is over.
        self._timer = timer
        self._entry = timer.at(expiry, lambda _: run_soon(self._run))
        if not self._slot:  # it was claimed meanwhile, by somebody who found no entry to cancel
            timer.cancel(self._entry)

    def _forget(self) -> None:
        for token in self._token._lineage:
            token._hooks.pop(self, None)
        if self._timer is not None and self._entry is not None:
            self._timer.cancel(self._entry)

    def _run(self) -> None:
        callback = self._claim()
        if callback is None:
            return
        self._forget()
        try:
            callback()
        except BaseException as error:  # the border of user code, and even SystemExit means nothing on this thread
            _logger.error("an on_stop callback of %r failed: %r", self._token, callback, exc_info=error)  # noqa: TRY400


def _earlier(one: float | None, other: float | None) -> float | None:
    if one is None:
        return other
    return one if other is None else min(one, other)


def _forget_parent() -> None:
    global _timers_lock
    _timers_lock = threading.Lock()  # another thread of the parent may have held it at the fork


_timers_lock = threading.Lock()  # guards the making of a root's timer
_fork.after_fork(_forget_parent)
