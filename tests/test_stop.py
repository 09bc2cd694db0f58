"""``StopToken``: what it tells, whom it wakes, and what it calls."""

from __future__ import annotations

import gc
import logging
import math
import threading
import weakref
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from helpers import Background, Gate

from threadkit import Stopping, StopToken, _stop, _stopper
from threadkit.testing import VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def token(clock: VirtualClock) -> StopToken:
    return StopToken("token", clock=clock)


# What it tells


def test_new_token(token: StopToken) -> None:
    """A new token runs, and knows no reason and no deadline."""
    assert token()
    assert not token.is_set()
    assert token.reason is None
    assert token.remaining() is None
    token.raise_if_set()


def test_set_token(token: StopToken) -> None:
    """A token that is set says so, and why."""
    token.set("enough")
    assert not token()
    assert token.is_set()
    assert token.reason == "enough"
    with pytest.raises(Stopping, match="stopping: enough"):
        token.raise_if_set()


def test_first_set_decides(token: StopToken) -> None:
    """Setting it again changes neither the reason nor the deadline."""
    token.set("first", deadline=10.0)
    token.set("second", deadline=99.0)
    assert token.reason == "first"
    assert token.remaining() == 10.0


def test_reason_may_be_missing(token: StopToken) -> None:
    """A stop without a reason is a stop, and stays without one."""
    token.set()
    token.set("too late")
    assert token.is_set()
    assert token.reason is None


def test_remaining_counts_down(token: StopToken, clock: VirtualClock) -> None:
    """What remains is counted down to the hard deadline, and not below zero."""
    token.set(deadline=10.0)
    clock.advance(4)
    assert token.remaining() == 6.0
    clock.advance(60)
    assert token.remaining() == 0.0


def test_no_deadline(token: StopToken) -> None:
    """Where a stop has no hard deadline nothing is counted."""
    token.set()
    assert token.remaining() is None


def test_a_deadline_is_of_the_clock_of_the_token_that_was_set(token: StopToken, clock: VirtualClock) -> None:
    """A descendant on a clock of its own counts down by the clock that its ancestor's deadline is of."""
    own = VirtualClock()
    own.advance(1000)
    descendant = StopToken(clock=own)
    descendant._descend_from(token)
    token.set(deadline=clock.monotonic() + 10)
    assert descendant.remaining() == 10.0
    clock.advance(4)
    own.advance(1000)
    assert descendant.remaining() == 6.0


def test_truth_value_is_refused(token: StopToken) -> None:
    """A token in place of a condition is an error, since it would mislead."""
    with pytest.raises(TypeError, match="no truth value: call it"):
        bool(token)


def test_repr() -> None:
    """A token shows its name, and why it stopped."""
    token = StopToken("worker")
    assert repr(token) == "<StopToken 'worker' running>"
    token.set("enough")
    assert repr(token) == "<StopToken 'worker' stopped: enough>"
    nameless = StopToken()
    assert repr(nameless) == "<StopToken running>"
    nameless.set()
    assert repr(nameless) == "<StopToken stopped>"


def test_ready_is_harmless(token: StopToken) -> None:
    """Outside of a thread that waits for it ready() does nothing."""
    token.ready()
    assert token()


# Waiting


def test_wait_returns_when_it_is_set(token: StopToken, clock: VirtualClock) -> None:
    """wait() returns True as soon as the token is set, and every waiter does."""
    waiters = [Background(token.wait) for _ in range(3)]
    limited = Background(lambda: token.wait(60))
    clock.wait_for_sleepers(1)
    token.set()
    assert all(waiter.result() for waiter in [*waiters, limited])
    assert token.wait() is True


def test_wait_gives_up(token: StopToken, clock: VirtualClock) -> None:
    """wait() returns False when its time is over first."""
    waiter = Background(lambda: token.wait(timedelta(seconds=5)))
    clock.wait_for_sleepers(1)
    clock.advance(5)
    assert waiter.result() is False
    assert token.wait(0) is False
    assert token._gates._gates == {}


@pytest.mark.parametrize("wait", [StopToken.wait, StopToken.sleep])
def test_wrong_durations(token: StopToken, wait: Callable[..., object]) -> None:
    """A wait for what is no duration is refused, on a set token too."""
    for _ in range(2):
        for wrong in (-1, math.nan):
            with pytest.raises(ValueError, match="negative or nan"):
                wait(token, wrong)
        for wrong in ("5", True):
            with pytest.raises(TypeError, match="number of seconds"):
                wait(token, wrong)
        token.set()
    with pytest.raises(TypeError, match="seconds"):
        token.sleep(None)  # type: ignore[arg-type]  # that is the point


def test_sleep(token: StopToken, clock: VirtualClock) -> None:
    """sleep() returns True when it slept in full, and False when the stop came first."""
    sleeper = Background(lambda: token.sleep(5))
    clock.wait_for_sleepers(1)
    clock.advance(5)
    assert sleeper.result() is True
    sleeper = Background(lambda: token.sleep(math.inf))
    token.set()
    assert sleeper.result() is False
    assert token.sleep(5) is False


def test_set_while_a_waiter_enters(clock: VirtualClock) -> None:
    """A token that is set between a waiter's first look and its entering does not leave it waiting."""

    class Late(VirtualClock):
        def monotonic(self) -> float:
            token.set("in between")
            return 0.0

    token = StopToken(clock=Late())
    assert token.wait(60) is True


# Trees


def test_child_is_set_with_its_parent(token: StopToken) -> None:
    """A child is set when its parent is, or the parent's parent, for their reason; a parent is not set by its child."""
    child = token.child("child")
    grandchild = child.child("grandchild")
    grandchild.set("alone")
    assert (token.is_set(), child.is_set()) == (False, False)
    waiter = Background(child.child().wait)
    token.set("closing time", deadline=5.0)
    assert waiter.result() is True
    assert child.reason == "closing time"
    assert child.remaining() == 5.0
    assert grandchild.reason == "alone"
    assert child.child().is_set()


def test_setting_a_child_of_a_set_parent(token: StopToken) -> None:
    """Where the parent was first its reason is the child's as well."""
    child = token.child()
    token.set("parent")
    child.set("child")
    assert child.reason == "parent"


def test_parent_forgets_its_children(token: StopToken) -> None:
    """A parent keeps no child alive."""
    child = token.child()
    reference = weakref.ref(child)
    del child
    gc.collect()
    assert reference() is None


def test_child_with_a_timeout(token: StopToken, clock: VirtualClock) -> None:
    """A child with a time-out is set when that is over, for its waiters and its children too."""
    child = token.child("request", timeout=timedelta(seconds=30))
    grandchild = child.child()
    waiters = [Background(child.wait), Background(lambda: grandchild.wait(60)), Background(lambda: grandchild.wait(5))]
    clock.wait_for_sleepers(3)
    clock.advance(5)
    assert waiters[2].result() is False
    clock.advance(24)
    assert child()
    clock.advance(1)
    assert [waiter.result() for waiter in waiters[:2]] == [True, True]
    assert child.reason == grandchild.reason == "timed out"
    assert child.remaining() == 0.0
    assert not token.is_set()


def test_timeouts_in_a_row(token: StopToken, clock: VirtualClock) -> None:
    """Of the time-outs of a token and its parents the earliest counts, whoever has it."""
    outer, inner = token.child(timeout=10).child(timeout=20), token.child(timeout=20).child(timeout=10)
    clock.advance(10)
    assert (outer.reason, inner.reason) == ("timed out", "timed out")
    assert not outer._lineage[1]()
    assert inner._lineage[1]()


def test_timeout_after_the_parents_stop(token: StopToken, clock: VirtualClock) -> None:
    """A time-out that is over after the parent was set changes neither the reason nor what remains."""
    child = token.child(timeout=5)
    token.set("closing time", deadline=60.0)
    assert child.reason == "closing time"
    clock.advance(10)
    assert child.reason == "closing time"
    assert child.remaining() == 50.0


@pytest.mark.parametrize(
    ("timeout", "kind"), [(-1, ValueError), (math.nan, ValueError), ("5", TypeError), (True, TypeError)]
)
def test_wrong_timeouts(token: StopToken, timeout: Any, kind: type[Exception]) -> None:
    """A child with a time-out that is none is refused."""
    with pytest.raises(kind, match="timeout"):
        token.child(timeout=timeout)


def test_endless_timeout(token: StopToken, clock: VirtualClock) -> None:
    """A time-out of inf is no time-out."""
    child = token.child(timeout=math.inf)
    clock.advance(1e9)
    assert child()


# Hooks


def test_hook_runs_on_the_stopper(token: StopToken) -> None:
    """A callback runs once, on the stopper thread, when the token is set."""
    calls: list[str] = []
    ran = Gate()

    def callback() -> None:
        calls.append(threading.current_thread().name)
        ran.open()

    hook = token.on_stop(callback)
    assert calls == []
    token.set()
    token.set()
    ran.pass_through()
    assert calls == ["threadkit-stopper"]
    assert hook.remove() is False


def test_hook_on_a_set_token_runs_here_and_now(token: StopToken) -> None:
    """Where the stop has come already the callback runs in the registering thread."""
    token.set()
    threads: list[threading.Thread] = []
    hook = token.on_stop(lambda: threads.append(threading.current_thread()))
    assert threads == [threading.current_thread()]
    assert hook.remove() is False
    assert token._hooks == {}


def test_hook_of_a_child(token: StopToken) -> None:
    """A callback on a child runs when the parent is set; the parents forget it then."""
    ran = Gate()
    child = token.child()
    child.on_stop(ran.open)
    token.set()
    ran.pass_through()
    assert child._hooks == {}


def test_removed_hook_is_not_called(token: StopToken) -> None:
    """A callback that was taken back is not called, and no token of the family remembers it."""
    child = token.child()
    hook = child.on_stop(lambda: pytest.fail("must not run"))
    assert hook.remove() is True
    assert hook.remove() is False
    assert token._hooks == child._hooks == {}
    ran = Gate()
    token.on_stop(ran.open)
    token.set()
    ran.pass_through()


def test_hook_that_is_removed_on_its_way_to_the_stopper(token: StopToken) -> None:
    """A callback that is taken back after it was handed to the stopper is not called."""
    hook = token.on_stop(lambda: pytest.fail("must not run"))
    assert hook.remove() is True
    hook._run()  # as the stopper would


def test_hook_is_a_context_manager(token: StopToken) -> None:
    """Leaving the ``with`` block takes the callback back."""
    with token.on_stop(lambda: pytest.fail("must not run")) as hook:
        assert token._hooks == {hook: None}
    assert token._hooks == {}
    token.set()


def test_hook_that_is_no_function(token: StopToken) -> None:
    """What cannot be called is refused, and nothing is registered."""
    with pytest.raises(TypeError, match="callback must be callable"):
        token.on_stop(None)  # type: ignore[arg-type]  # that is the point
    assert token._hooks == {}


@pytest.mark.parametrize("error", [LookupError("broken hook"), SystemExit("broken hook")])
def test_failing_hook(token: StopToken, error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """What a callback raises is logged, with the callback, and harms neither the others nor who sets the token."""
    ran = [Gate(), Gate()]

    def fail() -> None:
        raise error

    token.on_stop(ran[0].open)
    token.on_stop(fail)
    token.on_stop(ran[1].open)
    token.set()
    for gate in ran:
        gate.pass_through()
    token.on_stop(fail)  # here and now: it does not get out either
    for record in caplog.records:
        assert record.levelno == logging.ERROR
        assert "fail" in record.getMessage()
        assert record.exc_info
        assert record.exc_info[1] is error
    assert len(caplog.records) >= 1


def test_hanging_hook_delays_nobody(token: StopToken) -> None:
    """While one callback hangs the others run."""
    may_end, begun, ran = Gate(), [Gate(), Gate()], Gate()

    def hang(number: int) -> None:
        begun[number].open()
        may_end.pass_through()

    token.on_stop(ran.open)
    token.on_stop(lambda: hang(0))
    token.on_stop(lambda: hang(1))
    token.set()
    for gate in [*begun, ran]:
        gate.pass_through()
    may_end.open()


def test_hook_runs_when_the_time_is_over(token: StopToken, clock: VirtualClock) -> None:
    """A callback on a token with a time-out runs when that is over, though nobody looks."""
    ran = Gate()
    child = token.child(timeout=30).child()
    child.on_stop(ran.open)
    clock.advance(29)
    assert not ran.is_open()
    clock.advance(1)
    ran.pass_through()
    assert child.reason == "timed out"


def test_time_out_of_a_removed_hook_is_forgotten(token: StopToken, clock: VirtualClock) -> None:
    """Taking a callback back cancels the watch over its time-out, so that no thread is left for it."""
    child = token.child(timeout=30)
    first, second = child.on_stop(print), child.on_stop(print)
    assert token._timer is not None
    assert len(token._timer) == 2
    first.remove()
    second.remove()
    assert len(token._timer) == 0
    clock.settle()
    assert token._timer.thread() is None


def test_set_before_the_time_is_over(token: StopToken, clock: VirtualClock) -> None:
    """A callback that a set() has called is not called again when the time is over."""
    calls: list[int] = []
    ran = Gate()

    def callback() -> None:
        calls.append(1)
        ran.open()

    child = token.child(timeout=30)
    child.on_stop(callback)
    child.set()
    ran.pass_through()
    assert token._timer is not None
    assert len(token._timer) == 0  # nothing waits for the time-out any more
    clock.advance(60)
    again = Gate()
    token.on_stop(again.open)
    token.set()
    again.pass_through()
    assert calls == [1]


def test_no_thread_to_watch_the_time(token: StopToken, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be had to watch a time-out on_stop() raises, and nothing half-registered stays behind."""
    child = token.child(timeout=30)
    token.on_stop(print).remove()  # the stopper exists

    def refuse(target: object, name: str) -> threading.Thread:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(clock, "spawn", refuse)
    with pytest.raises(RuntimeError, match="can't start"):
        child.on_stop(print)
    assert token._hooks == child._hooks == {}


def test_set_while_the_watch_begins(token: StopToken, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A callback that is called just before the watch over its time-out begins leaves no watch behind."""
    child, ran = token.child(timeout=30), Gate()
    shared_timer = StopToken._shared_timer

    def set_first(self: StopToken) -> Any:
        child.set()
        ran.pass_through()
        return shared_timer(self)

    monkeypatch.setattr(StopToken, "_shared_timer", set_first)
    child.on_stop(ran.open)
    assert token._timer is not None
    assert len(token._timer) == 0


def test_lock_of_the_parent_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forked child has a lock of its own, since the parent may have held the other at the fork."""
    held = threading.Lock()
    monkeypatch.setattr(_stop, "_timers_lock", held)
    _stop._forget_parent()
    assert _stop._timers_lock is not held


def test_retire(token: StopToken) -> None:
    """A token that retires takes back the callbacks that nobody removed, so that its parents forget them."""
    child = token.child()
    child.on_stop(lambda: pytest.fail("must not run"))
    of_the_parent = token.on_stop(lambda: None)
    child._retire()
    assert child._hooks == {}
    assert list(token._hooks) == [of_the_parent]
    of_the_parent.remove()


def test_last_hook_that_somebody_else_takes(token: StopToken) -> None:
    """Two who set at the same time do not stumble over the last callback."""

    class Hooks(dict[Any, None]):
        def __bool__(self) -> bool:
            return True

    token._hooks = Hooks()
    token.set()  # sees a hook, and does not find it any more


def test_set_takes_no_lock(token: StopToken, monkeypatch: pytest.MonkeyPatch) -> None:
    """set() works while every lock of the token's machinery is held, as in a signal handler that struck inside one."""
    ran = Gate()
    token.on_stop(ran.open)
    with _stopper._stopper._lock:
        token.set()
        ran.pass_through()


# The stopper


@pytest.fixture
def stopper(monkeypatch: pytest.MonkeyPatch) -> _stopper._Stopper:
    """Give a stopper of one's own, which can be made to fail."""
    fresh = _stopper._Stopper()
    monkeypatch.setattr(_stopper, "_stopper", fresh)
    return fresh


def test_stopper_that_gets_no_thread_at_first(stopper: _stopper._Stopper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be had the stopper is made by the next one who asks, and runs what waited for it."""
    ran = Gate()

    def refuse(*_: object) -> threading.Thread:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as poor:
        poor.setattr("threadkit._stopper.SYSTEM_CLOCK.spawn", refuse, raising=False)
        token = StopToken()
        token.on_stop(ran.open)
        token.set()
        assert not ran.is_open()
    StopToken().on_stop(print).remove()
    ran.pass_through()


def test_stopper_without_followers(stopper: _stopper._Stopper, monkeypatch: pytest.MonkeyPatch) -> None:
    """At interpreter exit no thread can be made: then one thread runs one callback after the other."""
    stopper.ensure_started()

    def refuse(*_: object) -> threading.Thread:
        raise RuntimeError("can't start new thread at interpreter shutdown")

    monkeypatch.setattr("threadkit._stopper.SYSTEM_CLOCK.spawn", refuse, raising=False)
    gates = [Gate(), Gate(), Gate()]
    for gate in gates:
        stopper.run_soon(gate.open)
    for gate in gates:
        gate.pass_through()


def test_stopper_keeps_one_spare(stopper: _stopper._Stopper) -> None:
    """After many callbacks that hung at once no more than a leader and a spare are left."""
    stopper.ensure_started()
    before = set(threading.enumerate())
    may_end = Gate()
    begun = [Gate() for _ in range(5)]

    def hang(gate: Gate) -> None:
        gate.open()
        may_end.pass_through()

    for gate in begun:
        stopper.run_soon(lambda gate=gate: hang(gate))
        gate.pass_through()
    helpers = [thread for thread in threading.enumerate() if thread not in before and "stopper" in thread.name]
    assert len(helpers) == 5
    may_end.open()
    ended = [thread for thread in helpers if (thread.join(0.5), not thread.is_alive())[1]]
    assert len(ended) >= 3


def test_stopper_uses_its_spare_again(stopper: _stopper._Stopper) -> None:
    """Callbacks one after the other are shared by two threads, however many there are."""
    stopper.ensure_started()
    seen: set[int] = set()
    for _ in range(20):
        ran = Gate()

        def callback(ran: Gate = ran) -> None:
            seen.add(threading.get_ident())
            ran.open()

        stopper.run_soon(callback)
        ran.pass_through()
    assert len(seen) <= 4


def test_stopper_after_a_fork() -> None:
    """In a forked child there is a new stopper, since the parent's thread does not exist there."""
    before = _stopper._stopper
    _stopper._forget_parent()
    try:
        assert _stopper._stopper is not before
        assert not _stopper._stopper._started
    finally:
        _stopper._stopper = before


def test_stopper_that_somebody_else_has_just_made(stopper: _stopper._Stopper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two who find no stopper, the one who gets the lock second makes none."""

    class Overtaken:
        """A lock that is had only after another thread had it, and made the stopper."""

        def __enter__(self) -> None:
            stopper._started = True

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(stopper, "_lock", Overtaken())
    monkeypatch.setattr(stopper, "_spawn", lambda: pytest.fail("a second stopper was made"))
    stopper.ensure_started()
