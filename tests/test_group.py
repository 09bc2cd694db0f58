"""``ThreadGroup``: who is restarted with whom, how often, and what becomes of the rest."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import PATIENCE, Background, Gate

from threadkit import (
    Closed,
    ComponentState,
    DuplicateName,
    Lifecycle,
    ManagedThread,
    StartTimeout,
    StopToken,
    ThreadGroup,
    ThreadkitError,
    UnknownComponent,
    Unresponsive,
    backoff,
    events,
)
from threadkit._member import Inbox
from threadkit.health import Status
from threadkit.testing import VirtualClock

STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")


class Scene:
    """A group of threads that wait until they are told to fail, to return or to stop, and write down what they do."""

    def __init__(self, strategy: str = "one_for_one", **options: Any) -> None:
        self.clock = VirtualClock()
        self.log: list[str] = []
        self.seen: list[events.Event] = []
        self.orders: dict[str, list[object]] = {}  # what the calls of a body are to do; without an order they wait
        self.wake: dict[str, StopToken] = {}
        settings: dict[str, Any] = {"backoff": backoff.constant(1), "clock": self.clock} | options
        self.group = ThreadGroup("group", strategy, **settings)  # type: ignore[arg-type]  # a parameter of the test
        self.group.observe(self.seen.append)

    def body(self, name: str) -> Callable[[StopToken], object]:
        def body(running: StopToken) -> object:
            wake = self.wake[name] = StopToken(clock=self.clock)
            self.log.append(f"+{name}")
            with running.on_stop(wake.set):
                wake.wait()
            self.log.append(f"-{name}")
            return None if running.is_set() else self.obey(name)

        return body

    def obey(self, name: str) -> object:
        order = self.orders[name].pop(0) if self.orders.get(name) else None
        if isinstance(order, BaseException):
            raise order
        return order

    def add(self, *names: str, to: ThreadGroup | None = None, **options: Any) -> None:
        for name in names:
            (self.group if to is None else to).thread(name, **options)(self.body(name))

    def order(self, name: str, what: object = None) -> None:
        """Have the call that goes on do this, and wait until nothing happens any more."""
        self.orders.setdefault(name, []).append(what)
        self.wake[name].set()
        self.settle()

    def settle(self) -> None:
        self.clock.settle()

    def written(self) -> str:
        """Return what has been written down since the last time, sorted: threads that run at once take no turns."""
        words, self.log[:] = sorted(self.log), []
        return " ".join(words)

    def told(self, *kinds: type[events.Event]) -> list[str]:
        return [str(event) for event in self.seen if isinstance(event, kinds)]


@pytest.fixture(autouse=True)
def _hooks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # The stopper thread is on the machine's clock, which a virtual clock does not wait for.
    monkeypatch.setattr("threadkit._stop.run_soon", lambda callback: callback())


@pytest.fixture
def arrival(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Gate]:
    """Return a function that gives the gate which opens when the supervisor has a message about a child."""
    gates: dict[str, Gate] = {}
    put = Inbox.put

    def put_and_open(inbox: Inbox, message: Any) -> None:
        put(inbox, message)
        gates.setdefault(message.member.child.name, Gate()).open()

    monkeypatch.setattr(Inbox, "put", put_and_open)
    return lambda name: gates.setdefault(name, Gate())


@pytest.mark.parametrize(
    ("strategy", "ended", "again"),
    [
        ("one_for_one", "-b", "+b"),
        ("one_for_all", "-b -a -c", "+a +b +c"),
        ("rest_for_one", "-b -c", "+b +c"),
    ],
)
def test_who_is_restarted_with_whom(strategy: str, ended: str, again: str) -> None:
    """The strategy says whose calls are ended with that of a child that failed; all are called again in order."""
    scene = Scene(strategy)
    scene.add("a", "b", "c")
    with scene.group as group:
        scene.settle()
        assert scene.written() == "+a +b +c"
        scene.order("b", OSError("broken"))
        assert sorted(scene.written().split()) == sorted(ended.split())
        assert group.health().status is Status.DEGRADED
        scene.clock.advance(0.9)
        assert scene.written() == ""
        scene.clock.advance(0.1)
        assert scene.written() == again
        assert group.health().status is Status.READY
        assert group.restarts == 1
        assert [child.restarts for child in group] == [int(f"+{child.name}" in again) for child in group]
    assert group.state is ComponentState.STOPPED
    assert [child.state for child in group] == [ComponentState.STOPPED] * 3


def test_who_is_ended_learns_for_whom() -> None:
    """The token of a call that is ended for another's sake has a reason that names the culprit; it is no failure."""
    scene = Scene("one_for_all")
    reasons: list[str | None] = []

    @scene.group.thread
    def other(running: StopToken) -> None:
        running.wait()
        reasons.append(running.reason)
        raise OSError("the socket was closed under me")

    scene.add("culprit")
    with scene.group:
        scene.settle()
        scene.order("culprit", OSError("broken"))
        assert reasons == ["'culprit' ended: OSError: broken"]
        assert str(scene.group["other"].health()) == "degraded: waits to be called again: it was told to"
    assert scene.told(events.Restarted, events.GroupRestarted) == [
        "'culprit' ended (OSError: broken); restart 1 in 1 s",
        "group 'group': 'culprit' ended, and 'other' with it; again in 1 s",
    ]


def test_each_call_has_a_thread_that_stays_and_a_token_that_does_not() -> None:
    """A child keeps its thread from call to call, and each call has a token of its own."""
    scene = Scene("one_for_all")
    calls: list[tuple[threading.Thread, StopToken]] = []

    @scene.group.thread
    def other(running: StopToken) -> None:
        calls.append((threading.current_thread(), running))
        running.wait()

    scene.add("culprit")
    with scene.group:
        scene.settle()
        scene.order("culprit", OSError())
        scene.clock.advance(1)
        (one_thread, one_token), (two_thread, two_token) = calls
        assert one_thread is two_thread
        assert one_token.is_set()
        assert two_token()


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    ("restart", "order"),
    [
        ("never", OSError("broken")),
        ("never", None),
        ("on_failure", None),
        ("on_failure", ManagedThread.DONE),
        ("always", ManagedThread.DONE),
    ],
)
def test_who_ends_for_good_leaves_the_others_alone(strategy: str, restart: str, order: object) -> None:
    """A child whose policy wants no restart, or that returns DONE, ends alone, and stays listed."""
    scene = Scene(strategy)
    scene.add("a", "c")
    scene.add("b", restart=restart)
    with scene.group as group:
        scene.settle()
        scene.written()
        scene.order("b", order)
        scene.clock.advance(100)
        assert scene.written() == "-b"
        failed = isinstance(order, OSError)
        assert group["b"].state is (ComponentState.FAILED if failed else ComponentState.STOPPED)
        assert group["b"].failure is (order if failed else None)
        assert group.health().status is (Status.DEGRADED if failed else Status.READY)
        assert len(group) == 3
        scene.order("a", OSError())
        scene.clock.advance(1)
        assert "b" not in scene.written()  # and it is not called again with the others
    assert group.state is ComponentState.STOPPED
    assert len(scene.told(events.Failed)) == failed


def test_never_is_ended_for_good_with_others() -> None:
    """A child that is never restarted is not called again either, when it was ended for the sake of another."""
    scene = Scene("one_for_all")
    scene.add("a")
    scene.add("b", restart="never")
    with scene.group as group:
        scene.settle()
        scene.order("a", OSError())
        scene.clock.advance(1)
        assert scene.written() == "+a +a +b -a -b"
        assert group["b"].state is ComponentState.STOPPED


def test_budget_is_the_groups() -> None:
    """Restarts of all children count together; one too many fails the group, which ends the others."""
    scene = Scene(max_restarts=2)
    told: list[BaseException] = []
    scene.group.failed = told.append
    scene.add("a", "b")
    scene.group.start()
    scene.settle()
    for name in ("a", "b"):
        scene.order(name, OSError(name))
        scene.clock.advance(1)
    assert scene.group.restarts == 2
    scene.order("a", error := OSError("once more"))
    assert scene.group.join(5)
    assert scene.group.state is ComponentState.FAILED
    assert scene.group.failure is error
    assert error.__notes__ == ["the threads of group 'group' ended 3 times within 60 s: no restart"]
    assert told == [error]
    assert [child.state for child in scene.group] == [ComponentState.STOPPED] * 2
    assert scene.group["b"]._token.reason == "group 'group' failed: OSError: once more"
    assert scene.group.health().status is Status.FAILED
    assert scene.told(events.Failed) == ["'group' failed: OSError: once more"]
    with pytest.raises(Closed):
        scene.add("c")


def test_budget_that_a_returning_child_spends() -> None:
    """Where a child is always restarted and only returns, the group's failure says so."""
    scene = Scene(max_restarts=0)
    scene.add("a", restart="always")
    scene.group.start()
    scene.settle()
    scene.order("a")
    assert scene.group.join(5)
    assert isinstance(scene.group.failure, ThreadkitError)
    assert str(scene.group.failure) == "the threads of group 'group' ended 1 times within 60 s: no restart"


def test_backoff_is_the_groups() -> None:
    """The delays grow with the restarts of the group, whoever is restarted."""
    scene = Scene(backoff=backoff.sequence(1, 10, 100), max_restarts=None)
    scene.add("a", "b")
    with scene.group:
        scene.settle()
        for name in ("a", "b", "a"):
            scene.order(name, OSError())
            scene.clock.advance(20)
    assert [event.delay for event in scene.seen if isinstance(event, events.Restarted)] == [1, 10, 100]


def test_backoff_that_raises_fails_the_group() -> None:
    """An error in the user's backoff is the group's failure, not a silent end."""
    scene = Scene(backoff=lambda state: 1 / 0)
    scene.add("a", "b")
    scene.group.start()
    scene.settle()
    scene.order("a", OSError())
    assert scene.group.join(5)
    assert isinstance(scene.group.failure, ZeroDivisionError)


def test_one_child_does_not_wait_for_the_backoff_of_another() -> None:
    """While one child waits for its restart, others are restarted in their own time."""
    scene = Scene(backoff=backoff.sequence(50, 1))
    scene.add("a", "b")
    with scene.group:
        scene.settle()
        scene.written()
        scene.order("a", OSError())
        scene.order("b", OSError())
        scene.clock.advance(1)
        assert scene.written() == "+b -a -b"
        scene.clock.advance(49)
        assert scene.written() == "+a"


def test_restarts_that_meet_become_one() -> None:
    """A child that takes others with it which wait already has all wait for the later of both moments."""
    scene = Scene("rest_for_one", backoff=backoff.sequence(50, 1))
    scene.add("a", "b", "c")
    with scene.group:
        scene.settle()
        scene.order("b", OSError())
        scene.clock.advance(10)
        scene.order("a", OSError())
        scene.written()
        scene.clock.advance(39)
        assert scene.written() == ""
        scene.clock.advance(1)
        assert scene.written() == "+a +b +c"


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_others_are_called_when_the_one_before_is_ready(strategy: str) -> None:
    """In a restart each child is called when the one before it has said that it is ready."""
    scene = Scene(strategy)
    up = StopToken(clock=scene.clock)

    @scene.group.thread(ready=True, start_timeout=30)
    def first(running: StopToken) -> None:
        scene.log.append("+first")
        if scene.orders:
            up.wait()
        scene.log.append("first is up")
        running.ready()
        if not scene.orders:
            StopToken(clock=scene.clock).wait(5)
            scene.orders["first"] = []
            raise OSError
        running.wait()

    scene.add("second")
    with scene.group:
        scene.settle()
        scene.clock.advance(6)
        assert scene.log == ["+first", "first is up", "+second", "-second", "+first"]
        assert scene.group.health().status is Status.DEGRADED
        up.set()
        scene.settle()
        assert scene.log[5:] == ["first is up", "+second"]


def test_who_is_not_ready_in_time_is_restarted() -> None:
    """A child that is not ready in time after a restart is ended, which counts as a failure."""
    scene = Scene("one_for_all", max_restarts=2, within=1000)
    calls: list[float] = []

    @scene.group.thread(ready=True, start_timeout=30)
    def slow(running: StopToken) -> None:
        calls.append(scene.clock.monotonic())
        if len(calls) == 1:
            running.ready()
        running.wait()

    scene.add("other")
    scene.group.start()
    scene.settle()
    scene.order("other", OSError())
    scene.clock.advance(100)
    assert calls == [0, 1, 32]
    assert isinstance(scene.group.failure, StartTimeout)
    assert scene.group.join(5)
    assert scene.written() == "+other -other"


def test_sibling_that_does_not_heed_delays_the_restart_and_not_a_stop() -> None:
    """A sibling that does not end when it is told delays its group's restart; a stop reports it and does not hang."""
    scene = Scene("one_for_all")
    deaf = StopToken(clock=scene.clock)

    @scene.group.thread
    def stubborn() -> None:
        deaf.wait()

    scene.add("a")
    lc = Lifecycle(clock=scene.clock, stop_timeout=5)
    lc.add(scene.group)
    lc.start()
    scene.settle()
    scene.order("a", OSError())
    scene.clock.advance(100)
    assert scene.written() == "+a -a"
    stopping = Background(lc.shutdown)
    scene.clock.wait_for_sleepers(1)
    scene.clock.advance(5)
    report = stopping.result()
    (stuck,) = report.stuck
    assert "in stubborn" in stuck.stacks["stubborn"]
    deaf.set()
    assert scene.group.join(5)
    assert scene.group.state is ComponentState.STOPPED


def test_failure_of_another_during_a_restart_is_not_lost(
    arrival: Callable[[str], Gate], caplog: pytest.LogCaptureFixture
) -> None:
    """Of two that fail at once in one group one is the culprit, and the failure of the other is written down."""
    scene = Scene("one_for_all")
    scene.add("a", "b")

    def let_b_fail(event: events.Event) -> None:  # on the supervisor's thread, before it tells anybody to end
        if isinstance(event, events.Restarted):
            scene.wake["b"].set()
            arrival("b").pass_through()

    with scene.group as group:
        scene.settle()
        group.observe(let_b_fail)
        scene.orders["b"] = [OSError("two")]
        scene.order("a", OSError("one"))
        scene.clock.advance(1)
        assert scene.written() == "+a +a +b +b -a -b"
        assert group.restarts == 1
    assert "'a' ended (OSError: one); restart 1 in 1 s" in caplog.text
    assert "thread 'b' of group 'group' failed while its group ended it: OSError: two" in caplog.text


def test_failure_of_another_while_the_group_fails_is_not_lost(
    arrival: Callable[[str], Gate], caplog: pytest.LogCaptureFixture
) -> None:
    """A child that fails while its group fails of another is written down."""
    scene = Scene(max_restarts=0)
    scene.add("a", "b")

    def let_b_fail(event: events.Event) -> None:  # on the supervisor's thread, before it tells anybody to end
        if isinstance(event, events.Failed):
            scene.wake["b"].set()
            arrival("b").pass_through()

    scene.group.start()
    scene.settle()
    scene.group.observe(let_b_fail)
    scene.orders["b"] = [OSError("two")]
    scene.order("a", OSError("one"))
    assert scene.group.join(5)
    assert str(scene.group.failure) == "one"
    assert "thread 'b' of group 'group' failed while its group ended it: OSError: two" in caplog.text


def test_stop_during_backoff() -> None:
    """A stop while children wait for their restart ends the group at once."""
    scene = Scene("one_for_all", backoff=backoff.constant(3600))
    scene.add("a", "b")
    scene.group.start()
    scene.settle()
    scene.order("a", OSError())
    scene.group.stop("enough")
    assert scene.group.join(5)
    assert sorted(scene.written().split()) == ["+a", "+b", "-a", "-b"]
    assert scene.group.state is ComponentState.STOPPED


def test_stop_while_siblings_are_being_ended() -> None:
    """A stop while a restart waits for a sibling is not lost, and nobody is called again."""
    scene = Scene("one_for_all")
    slow = StopToken(clock=scene.clock)

    @scene.group.thread
    def sibling(running: StopToken) -> None:
        running.wait()
        slow.wait()

    scene.add("a")
    scene.group.start()
    scene.settle()
    scene.order("a", OSError())
    scene.group.stop()
    scene.settle()
    assert not scene.group.join(0)
    slow.set()
    assert scene.group.join(5)
    assert scene.written() == "+a -a"


def test_stop_from_inside_a_body() -> None:
    """A child may stop its group, and join() tells it at once that it has not ended."""
    answers: list[bool] = []
    group = ThreadGroup()

    @group.thread
    def child(running: StopToken) -> None:
        group.stop("from inside")
        answers.append(group.join())

    group.start()
    assert group.join(5)
    assert answers == [False]
    assert group.state is ComponentState.STOPPED


def test_empty_group_waits_for_children() -> None:
    """A group without children runs until it is stopped."""
    with ThreadGroup() as group:
        assert group.state is ComponentState.RUNNING
        assert len(group) == 0
        assert group.health().status is Status.READY
        assert group.work_left() == 0
    assert group.state is ComponentState.STOPPED


# --- start ------------------------------------------------------------------------------------------------------------


def test_start_that_fails_is_rolled_back() -> None:
    """The error of a child that could not start reaches the caller; those that ran are stopped, the rest never run."""
    scene = Scene()
    scene.add("a")

    @scene.group.thread(ready=True)
    def broken(running: StopToken) -> None:
        raise ConnectionError("no such host")

    scene.add("c")
    with pytest.raises(ConnectionError, match="no such host"):
        scene.group.start()
    assert scene.group.join(5)
    assert scene.group.state is ComponentState.FAILED
    assert isinstance(scene.group.failure, ConnectionError)
    assert scene.written() in {"+a -a", ""}
    assert [child.state.value for child in scene.group] == ["stopped", "failed", "stopped"]
    assert scene.group["a"]._token.reason == "could not start: ConnectionError: no such host"
    assert scene.told(events.Failed) == []  # start() has raised it
    assert scene.group.threads() == []


def test_start_that_fails_inside_a_group() -> None:
    """What keeps a group inside a group from starting keeps both, and reaches the caller of the outer one's start()."""
    scene = Scene()
    scene.add("a")
    inner = scene.group.group("inner")
    inner.add(ManagedThread(lambda: None, name="hasty", ready=True))
    lc = Lifecycle(clock=scene.clock)
    lc.add(scene.group)
    with pytest.raises(ThreadkitError, match=r"thread 'hasty' returned before it called token\.ready"):
        lc.start()
    assert inner.state is ComponentState.FAILED
    assert scene.group.state is ComponentState.FAILED
    assert lc.report is not None


def test_stop_during_start() -> None:
    """A stop while a child is being waited for ends start() without an error, and those that follow never run."""
    began = Gate()
    group = ThreadGroup()

    @group.thread(ready=True)
    def first(running: StopToken) -> None:
        began.open()
        running.wait()

    ran: list[int] = []
    group.thread("second")(lambda: ran.append(1))
    starting = Background(group.start)
    began.pass_through()
    group.stop()
    starting.result()
    assert group.join(5)
    assert group.state is ComponentState.STOPPED
    assert ran == []


def test_child_that_was_stopped_before_the_start_is_left_out() -> None:
    """A child that was stopped alone before its group was started does not keep the group from starting."""
    scene = Scene()
    scene.add("a", "b")
    scene.group["a"].stop()
    with scene.group as group:
        scene.settle()
        assert scene.written() == "+b"
        assert group["a"].state is ComponentState.STOPPED


def test_no_thread_for_the_supervisor() -> None:
    """Where the system gives no thread for the supervisor, start() raises, and the children are stopped."""
    clock = VirtualClock()
    real = clock.spawn
    names: list[str] = []

    def spawn(target: Callable[[], None], name: str) -> threading.Thread:
        if name == "group":
            raise RuntimeError("can't start new thread")
        names.append(name)
        return real(target, name)

    clock.spawn = spawn  # type: ignore[method-assign]
    group = ThreadGroup(clock=clock)
    group.add(ManagedThread(lambda running: running.wait(), name="child"))
    with pytest.raises(RuntimeError, match="can't start new thread"):
        group.start()
    assert group.state is ComponentState.FAILED
    assert names == ["child"]
    assert group["child"].state is ComponentState.STOPPED
    assert group.join(5)


# --- children come and go ---------------------------------------------------------------------------------------------


def test_children_come_and_go() -> None:
    """A child that is added to a running group is started at once; one that is removed is stopped alone."""
    scene = Scene("one_for_all")
    scene.add("a")
    with scene.group as group:
        scene.add("b")
        scene.settle()
        assert scene.written() == "+a +b"
        assert [child.name for child in group] == ["a", "b"]
        assert "b" in group
        b = group["b"]
        assert group.remove("b")
        assert b.state is ComponentState.STOPPED
        assert b._token.reason == "removed"
        assert "b" not in group
        with pytest.raises(UnknownComponent, match="no component is called 'b'; known are 'a'"):
            group["b"]
        with pytest.raises(UnknownComponent):
            group.remove("b")
        scene.written()
        scene.order("a", OSError())
        scene.clock.advance(1)
        assert scene.written() == "+a -a"
        scene.add("b")  # the name is free
        scene.settle()
        assert scene.written() == "+b"
        scene.order("a", OSError())
        scene.clock.advance(1)
        assert scene.written() == "+a +b -a -b"


def test_remove_whom_a_restart_waits_for() -> None:
    """Removing a child on which a restart waits lets the restart go on without it."""
    scene = Scene("one_for_all")
    slow = StopToken(clock=scene.clock)

    @scene.group.thread
    def sibling(running: StopToken) -> None:
        running.wait()
        slow.wait()

    scene.add("a")
    with scene.group as group:
        scene.settle()
        scene.order("a", OSError())
        assert not group.remove("sibling", timeout=0)
        assert "sibling" in group
        slow.set()
        assert group.remove("sibling")
        scene.clock.advance(1)
        assert scene.written() == "+a +a -a"


def test_remove_whom_a_restart_is_about_to_call() -> None:
    """A child that is removed during the delay of its restart is gone, and the others are called in time."""
    scene = Scene("one_for_all")
    scene.add("a")

    @scene.group.thread("b", ready=True)
    def slow_to_come(running: StopToken) -> None:
        running.ready()
        running.wait()

    scene.add("c")
    with scene.group as group:
        scene.settle()
        scene.order("a", OSError())
        assert group.remove("b")
        scene.clock.advance(1)
        assert scene.written() == "+a +a +c +c -a -c"


def test_removing_oneself_is_refused() -> None:
    """A child that removes itself is told to stop, and stays listed, for it has not ended."""
    group = ThreadGroup()
    answers: list[bool] = []
    with group:

        @group.thread
        def child(running: StopToken) -> None:
            answers.append(group.remove("child"))
            assert running.is_set()

        assert group["child"].join(5)
    assert answers == [False]
    assert len(group) == 1


def test_remove_waits_as_long_as_the_child_says() -> None:
    """Without a time-out of its own remove() waits as long as the child's stop_timeout."""
    scene = Scene()
    deaf = StopToken(clock=scene.clock)
    with scene.group as group:
        group.add(ManagedThread(deaf.wait, name="deaf", stop_timeout=3))
        removing = Background(lambda: group.remove("deaf"))
        scene.clock.wait_for_sleepers(1)
        scene.clock.advance(3)
        assert removing.result() is False
        deaf.set()


def test_child_that_cannot_start_is_not_added() -> None:
    """A child that is added to a running group and cannot start is not in it; add() raises what start() raised."""
    with ThreadGroup() as group:
        with pytest.raises(ThreadkitError, match="returned before"):
            group.thread("hasty", ready=True)(lambda: None)
        assert len(group) == 0


def test_names_are_given() -> None:
    """A repeated default name gets a number; a repeated name that was given is refused."""
    group = ThreadGroup()

    def child(running: StopToken) -> None: ...

    for _ in range(3):
        assert group.thread(child) is child
    assert [one.name for one in group] == ["child", "child-2", "child-3"]
    with pytest.raises(DuplicateName, match="a child called 'child-2' exists already"):
        group.thread("child-2")(child)


def test_what_is_no_child_is_refused() -> None:
    """A group takes new threads and groups that are nobody else's, and neither itself nor what holds it."""
    outer = ThreadGroup("outer")
    inner = outer.group("inner")
    for group in (outer, inner):
        with pytest.raises(ValueError, match="child must not be the group itself, or one that holds it"):
            inner.add(group)
    with pytest.raises(TypeError, match="child must be a ManagedThread or a ThreadGroup, not 3"):
        inner.add(3)  # type: ignore[type-var]  # that is the point
    thread = inner.add(ManagedThread(lambda running: running.wait(), name="thread"))
    with pytest.raises(ValueError, match="child must be new and nobody else's"):
        outer.add(thread)
    lc = Lifecycle()
    owned = lc.add(ManagedThread(lambda: None, name="owned"))
    with pytest.raises(ValueError, match="child must be new and nobody else's"):
        outer.add(owned)
    with ManagedThread(lambda running: running.wait(), name="runs") as running, pytest.raises(ValueError, match="new"):
        outer.add(running)


def test_options_are_the_childs_or_the_groups() -> None:
    """A child's decorator takes what is its own affair, and refuses what is the group's."""
    group = ThreadGroup()
    with pytest.raises(TypeError, match="max_restarts, within must be given to group 'group', not to its children"):
        group.thread("child", within=3, max_restarts=4)(print)  # type: ignore[call-overload]  # that is the point
    with pytest.raises(ValueError, match="strategy must be one of 'one_for_one', 'one_for_all', 'rest_for_one'"):
        ThreadGroup(strategy="all_for_one")  # type: ignore[arg-type]  # that is the point
    group.thread(lambda: None)
    assert next(iter(group))._part.restart == "on_failure"


def test_add_while_the_group_is_starting() -> None:
    """A child that is added while another is being waited for is started by whoever adds it, and once."""
    group = ThreadGroup()
    calls: list[str] = []

    @group.thread(ready=True)
    def first(running: StopToken) -> None:
        group.thread("late")(lambda: calls.append("late"))
        running.ready()
        running.wait()

    with group:
        assert group["late"].join(5)
        assert calls == ["late"]
        assert [child.name for child in group] == ["first", "late"]


def test_add_before_the_first_child_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that is added just after its group began to start is started by whoever adds it, and by nobody else."""
    group = ThreadGroup()
    calls: list[str] = []
    late = [ManagedThread(lambda: calls.append("late"), name="late")]

    def add() -> None:
        while late:
            group.add(late.pop())

    monkeypatch.setattr("threadkit._component.ensure_stopper", add)
    with group:
        assert group["late"].join(5)
        assert group.state is ComponentState.RUNNING
    assert calls == ["late"]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("by", ["backoff", "observer"])
def test_remove_who_is_being_restarted(strategy: str, by: str) -> None:
    """A child that the backoff's function or an observer removes is not restarted, and nobody with it."""

    def remove_b(event: object) -> float:
        if isinstance(event, events.Restarted) or by == "backoff":
            assert scene.group.remove("b")
        return 1.0

    if by == "backoff":
        scene = Scene(strategy, backoff=remove_b)
    else:
        scene = Scene(strategy)
        scene.group.observe(remove_b)
    scene.add("a", "b", "c")
    with scene.group as group:
        scene.settle()
        scene.order("b", OSError("broken"))
        scene.clock.advance(1)
        assert scene.written() == "+a +b +c -b"
        assert group.state is ComponentState.RUNNING
        assert [child.name for child in group] == ["a", "c"]
        assert scene.told(events.GroupRestarted) == []
        scene.order("c")
        assert "-c" in scene.written()
    assert group.state is ComponentState.STOPPED


def test_remove_twice_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that remove one child at the same time are both told that it has ended."""
    deaf = Gate()
    inside = threading.Semaphore(0)
    join = ManagedThread.join

    def join_and_say_so(self: ManagedThread, timeout: float | None = None) -> bool:
        inside.release()
        return join(self, timeout)

    monkeypatch.setattr(ManagedThread, "join", join_and_say_so)
    with ThreadGroup() as group:
        group.thread("child")(deaf.pass_through)
        removing = [Background(lambda: group.remove("child")) for _ in range(2)]
        assert all(inside.acquire(timeout=PATIENCE) for _ in removing)
        deaf.open()
        assert [one.result() for one in removing] == [True, True]
        assert len(group) == 0


def test_name_that_another_thread_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A default name that another thread takes at the same moment is given the next number."""
    group = ThreadGroup()
    add = ThreadGroup.add

    def be_slower(self: ThreadGroup, child: ManagedThread) -> ManagedThread:
        monkeypatch.setattr(ThreadGroup, "add", add)
        group.thread(work)
        return add(self, child)

    def work() -> None: ...

    monkeypatch.setattr(ThreadGroup, "add", be_slower)
    group.thread(work)
    assert [child.name for child in group] == ["work", "work-2"]


def test_remove_who_has_just_failed(arrival: Callable[[str], Gate]) -> None:
    """A child that fails, and is removed before the supervisor hears of it, is not restarted and spends no budget."""
    scene = Scene()
    scene.add("a", "b")

    def remove_b(event: events.Event) -> None:  # on the supervisor's thread, which hears of b when this is done
        if event.component == "a":
            scene.wake["b"].set()
            arrival("b").pass_through()
            assert scene.group.remove("b")

    with scene.group as group:
        scene.settle()
        group.observe(remove_b)
        scene.orders["b"] = [OSError("b")]
        scene.order("a", OSError("a"))
        scene.clock.advance(1)
        assert scene.written() == "+a +a +b -a -b"
        assert group.restarts == 1
    assert len(scene.told(events.Restarted)) == 1


def test_async_children_are_cancelled_and_called_again() -> None:
    """A child that runs on an event loop is cancelled for the sake of another, and called again with it."""
    calls: list[str] = []
    both = [Gate(), Gate()]
    fail = Gate()

    with Lifecycle() as lc:
        group = lc.group("group", "one_for_all", backoff=backoff.constant(0), requires=[loop := lc.loop()])

        @group.thread(loop=loop)
        async def waits() -> None:
            calls.append("waits")
            both[calls.count("waits") - 1].open()
            await asyncio.sleep(3600)

        @group.thread
        def fails(running: StopToken) -> None:
            if not fail.is_open():
                fail.pass_through()
                raise OSError
            running.wait()

        both[0].pass_through()
        fail.open()
        both[1].pass_through()
    assert group.state is ComponentState.STOPPED
    assert group["waits"].failure is None


# --- verdicts ---------------------------------------------------------------------------------------------------------


def test_stop_all_stops_the_lifecycle() -> None:
    """A child deep inside that returns STOP_ALL stops the lifecycle, which names it, and that is a good end."""
    with Lifecycle() as lc:
        inner = lc.group("outer").group("inner")
        inner.thread("main", restart="always")(lambda: ManagedThread.STOP_ALL)
        assert lc.wait(5)
    assert lc.token.reason == "thread 'main' asked for it"
    assert lc.report.exit_code == 0


def test_stop_all_goes_up_through_a_leader(tmp_path: Path) -> None:
    """A child of a group that a leader runs stops the lifecycle of the leader."""
    with Lifecycle() as lc:
        leader = lc.leader(tmp_path / "app.lock")
        leader.group("group").thread("main")(lambda: ManagedThread.STOP_ALL)
        assert lc.wait(PATIENCE)
    assert lc.token.reason == "thread 'main' asked for it"
    assert lc.report.ok


def test_stop_all_stops_the_outermost_group() -> None:
    """Where there is no lifecycle STOP_ALL stops the outermost group."""
    outer = ThreadGroup("outer")
    outer.group("inner").thread("main")(lambda: ManagedThread.STOP_ALL)
    outer.start()
    assert outer.join(5)
    assert outer.state is ComponentState.STOPPED
    assert outer._token.reason == "thread 'main' asked for it"


# --- groups in groups -------------------------------------------------------------------------------------------------


def nested(outer_strategy: str = "one_for_one", **inner_options: Any) -> tuple[Scene, ThreadGroup]:
    scene = Scene(outer_strategy, max_restarts=1)
    scene.add("a")
    inner = scene.group.group("inner", **({"max_restarts": 1, "backoff": backoff.constant(1)} | inner_options))
    scene.add("x", "y", to=inner)
    scene.add("z")
    return scene, inner


def test_group_in_a_group_is_restarted_whole(caplog: pytest.LogCaptureFixture) -> None:
    """A group whose budget is spent is restarted by the outer one: all its children again, with a fresh budget."""
    scene, inner = nested()
    with scene.group as group:
        scene.settle()
        assert scene.written() == "+a +x +y +z"
        scene.order("x", OSError("one"))
        scene.clock.advance(1)
        assert scene.written() == "+x -x"
        scene.order("x", OSError("two"))
        assert scene.written() == "-x -y"
        assert inner.state is ComponentState.RUNNING
        assert group.health().status is Status.DEGRADED
        scene.clock.advance(1)
        assert scene.written() == "+x +y"
        assert group.health().status is Status.READY
        assert (group.restarts, inner.restarts) == (1, 1)
        scene.order("x", OSError("three"))  # the budget is fresh
        scene.clock.advance(1)
        assert scene.written() == "+x -x"
        scene.order("x", error := OSError("four"))  # and now that of the outer group is spent, too
        assert group.join(5)
    assert group.failure is error
    assert error.__notes__ == [
        "the threads of group 'inner' ended 2 times within 60 s: no restart",
        "the threads of group 'group' ended 2 times within 60 s: no restart",
    ]
    assert "while its group ended it" not in caplog.text  # each failure is told once
    assert [child.state for child in inner] == [ComponentState.STOPPED] * 2
    assert inner.state is ComponentState.STOPPED


@pytest.mark.parametrize(("strategy", "others"), [("one_for_all", {"a", "z"}), ("rest_for_one", {"z"})])
def test_group_in_a_group_takes_others_with_it(strategy: str, others: set[str]) -> None:
    """To the outer group a group that fails is a child that fails, with all that its strategy says."""
    scene, _ = nested(strategy, max_restarts=0)
    with scene.group:
        scene.settle()
        scene.written()
        scene.order("x", OSError())
        assert {word[1:] for word in scene.written().split()} == {"x", "y"} | others
        scene.clock.advance(1)
        assert scene.written() == "+" + " +".join(sorted({"x", "y"} | others))


def test_group_in_a_group_is_ended_for_others() -> None:
    """A group inside a group is down when all its children are, and they are all called again with it."""
    scene, inner = nested("one_for_all")
    slow = StopToken(clock=scene.clock)

    @inner.thread(ready=True)
    def slowly(running: StopToken) -> None:
        running.ready()
        running.wait()
        running.ready()  # too late to be of interest
        slow.wait()

    with scene.group:
        scene.settle()
        scene.written()
        scene.order("a", OSError())
        scene.clock.advance(10)
        assert {*scene.written().split()} == {"-a", "-x", "-y", "-z"}
        slow.set()
        scene.settle()
        assert scene.written() == "+a +x +y +z"
        assert inner.restarts == 0


def test_failure_of_a_group_is_told_before_its_last_child_has_ended() -> None:
    """A child that does not heed its token cannot hide that its group has failed."""
    scene, inner = nested("one_for_all", max_restarts=0)
    deaf = StopToken(clock=scene.clock)
    inner.thread("deaf")(deaf.wait)
    told: list[BaseException] = []
    scene.group.failed = told.append
    scene.group.start()
    scene.settle()
    scene.order("x", OSError("inner"))
    assert scene.told(events.Restarted) == ["'inner' ended (OSError: inner); restart 1 in 1 s"]
    assert {*scene.written().split()} == {"+a", "+x", "+y", "+z", "-x", "-y", "-a", "-z"}
    deaf.set()
    scene.clock.advance(1)
    scene.order("a", OSError("outer"))
    assert [str(error) for error in told] == ["outer"]
    assert scene.group.join(5)


def test_top_group_fails_before_its_last_child_has_ended() -> None:
    """The failure of a group reaches its lifecycle at once, though a child does not heed its token."""
    scene = Scene(max_restarts=0)
    deaf = StopToken(clock=scene.clock)
    scene.group.thread("deaf")(deaf.wait)
    scene.add("a")
    lc = Lifecycle(clock=scene.clock, stop_timeout=1)
    lc.add(scene.group)
    lc.start()
    scene.settle()
    scene.order("a", OSError("broken"))
    assert lc.wait(5)
    assert lc.token.reason == "component 'group' failed: OSError: broken"
    assert scene.group.state is ComponentState.FAILED
    assert not scene.group.join(0)
    deaf.set()
    assert scene.group.join(5)
    report = lc.shutdown()
    assert report.errors == (scene.group.failure,)
    assert report.exit_code == 1


def test_two_groups_fail_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """A group that fails while its outer group is ending it is no second failure, but is written down."""
    scene = Scene("one_for_all")
    scene.add("a")
    inner = scene.group.group("inner", max_restarts=0)
    slow = StopToken(clock=scene.clock)

    @inner.thread
    def slowly(running: StopToken) -> None:
        running.wait()
        slow.wait()

    with scene.group as group:
        scene.settle()
        scene.order("a", OSError("outer"))
        inner._membership.on_failing(OSError("inner"))  # it crossed the order on its way
        scene.settle()
        slow.set()
        scene.clock.advance(1)
        assert group.restarts == 1
        assert scene.written() == "+a +a -a"
    assert "group 'inner' of group 'group' failed while its group ended it: OSError: inner" in caplog.text


def test_add_to_a_group_that_waits_for_its_restart() -> None:
    """A child that is added to a group that has failed, and waits to be restarted, begins anew with the others."""
    scene, inner = nested(max_restarts=0)
    with scene.group:
        scene.settle()
        scene.order("x", OSError())
        scene.written()
        scene.add("new", to=inner)
        scene.settle()
        assert scene.written() == "+new"
        scene.clock.advance(1)
        assert scene.written() == "+new +x +y -new"
        assert inner.remove("new")


# --- wedged children --------------------------------------------------------------------------------------------------


def test_wedged_child_is_replaced_by_the_rules_of_the_group() -> None:
    """Replacing a wedged child is a restart by its group, with all that its strategy says."""
    scene = Scene("one_for_all")
    hangs = [StopToken(clock=scene.clock)]

    @scene.group.thread(heartbeat=10, on_wedged="replace")
    def wedged(running: StopToken) -> None:
        scene.log.append("+wedged")
        (hangs.pop() if hangs else running).wait()

    hang = hangs[0]
    scene.add("other")
    with scene.group as group:
        scene.clock.advance(10)
        assert {*scene.written().split()} == {"+wedged", "+other", "-other"}
        scene.clock.advance(1)
        assert scene.written() == "+other +wedged"
        assert group["wedged"].stats()["abandoned"] == 1
        assert [one.name for one in group["wedged"].threads()] == ["wedged", "wedged-2"]
        hang.set()


def test_sibling_that_does_not_heed_can_be_replaced() -> None:
    """A restart that waits for a sibling which is wedged goes on when that is replaced."""
    scene = Scene("one_for_all")
    deaf = StopToken(clock=scene.clock)

    @scene.group.thread(heartbeat=10, on_wedged="replace")
    def stubborn(running: StopToken) -> None:
        scene.log.append("+stubborn")
        if len(scene.log) < 3:
            deaf.wait()
        running.wait()

    scene.add("a")
    with scene.group as group:
        scene.settle()
        scene.order("a", OSError())
        scene.clock.advance(9)
        assert scene.written() == "+a +stubborn -a"
        scene.log += ["one", "two"]
        scene.clock.advance(1)
        assert scene.written() == "+a +stubborn one two"
        assert group.restarts == 1
        deaf.set()


def test_wedged_child_that_nobody_can_mend_fails_all_groups() -> None:
    """With on_wedged="stop" no restart can mend it: its group fails, so does the outer one, and the lifecycle stops."""
    scene, inner = nested()
    hang = StopToken(clock=scene.clock)
    inner.thread("wedged", heartbeat=10, on_wedged="stop")(hang.wait)
    lc = Lifecycle(clock=scene.clock)
    lc.add(scene.group)
    lc.start()
    scene.clock.advance(10)
    assert lc.wait(5)
    assert isinstance(scene.group.failure, Unresponsive)
    assert inner["wedged"].state is ComponentState.FAILED
    assert inner["wedged"].failure is scene.group.failure
    assert not scene.group.join(0)
    hang.set()
    assert scene.group.join(5)
    assert lc.shutdown().errors == (scene.group.failure,)


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_figures_health_and_threads_are_those_of_all() -> None:
    """A group tells the figures, health and threads of its children, by name."""
    scene, inner = nested()
    with scene.group as group:
        scene.settle()
        stats = group.stats()
        assert (stats["state"], stats["strategy"], stats["restarts"]) == ("running", "one_for_one", 0)
        assert list(stats["children"]) == ["a", "inner", "z"]
        assert list(stats["children"]["inner"]["children"]) == ["x", "y"]
        health = group.health()
        assert list(health.parts) == ["a", "inner", "z"]
        assert list(health.parts["inner"].parts) == ["x", "y"]
        assert [one.name for one in group.threads()] == ["group", "a", "inner", "x", "y", "z"]
        assert group.is_alive()
        assert repr(inner) == "<ThreadGroup 'inner' running>"
    assert group.threads() == []
    assert group.health().status is Status.STOPPING


def test_group_is_a_component_of_a_lifecycle() -> None:
    """lc.group() makes a group and adds it; children may be added before and after the start, and all inherit."""
    clock = VirtualClock()
    lc = Lifecycle(clock=clock)
    group = lc.group("feed", "rest_for_one", max_restarts=1, phase=150)
    seen: list[events.Event] = []
    lc.observe(seen.append)
    group.thread("early")(lambda running: running.wait())
    with lc:
        group.thread("late")(lambda running: running.wait())
        assert lc.get("feed", ThreadGroup) is group
        assert group["late"]._clock is clock
        assert lc.health().parts["feed"].parts.keys() == {"early", "late"}
    (report,) = lc.report.components
    assert (report.name, report.phase, report.outcome) == ("feed", 150, "stopped")
    assert {event.component for event in seen} >= {"feed", "early", "late"}


def test_group_that_is_added_later_takes_its_children_along() -> None:
    """A group that is put into a lifecycle after it was filled inherits the clock, and so do all its children."""
    clock = VirtualClock()
    group = ThreadGroup("outer")
    child = group.group("inner").add(ManagedThread(lambda running: running.wait(), name="child"))
    lc = Lifecycle(clock=clock)
    lc.add(group)
    assert child._clock is clock
    with lc:
        assert child.is_alive()
    assert child.state is ComponentState.STOPPED


def test_raises_while_it_is_ended_is_written_down(caplog: pytest.LogCaptureFixture) -> None:
    """What a child raises when it has been told to end is no failure, and is in the log for whoever looks closely."""
    caplog.set_level(logging.INFO, "threadkit")
    scene = Scene("one_for_all")

    @scene.group.thread
    def rude(running: StopToken) -> None:
        running.wait()
        raise OSError("closed under me")

    scene.add("a")
    with scene.group:
        scene.settle()
        scene.order("a", OSError())
        assert "thread 'rude' raised while it stopped: OSError: closed under me" in caplog.text
        scene.clock.advance(1)
    assert scene.told(events.Failed) == []
