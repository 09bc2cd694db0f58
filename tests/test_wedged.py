"""Threads that are alive but give no sign of it: how that is noticed, and what is done about it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest
from helpers import Background, Gate

from threadkit import (
    ComponentState,
    Lifecycle,
    ManagedThread,
    StopToken,
    Unresponsive,
    _pulse,
    backoff,
    events,
)
from threadkit._timer import shared_timer
from threadkit.health import Status
from threadkit.testing import VirtualClock

Body = Callable[[StopToken], object]


class Scene:
    """A body that hangs, where no stop reaches it, until it is let go; then it waits for its stop."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.hangs = [StopToken(clock=self.clock) for _ in range(3)]  # one for each call
        self.calls: list[StopToken] = []
        self.seen: list[events.Event] = []
        self.came_back: list[str] = []

    def body(self, running: StopToken) -> None:
        number = len(self.calls)
        self.calls.append(running)
        if number < len(self.hangs):
            self.hangs[number].wait()
        self.came_back.append(threading.current_thread().name)
        running.wait()

    def thread(self, body: Body | None = None, **options: object) -> ManagedThread:
        settings = {"heartbeat": 10, "backoff": backoff.constant(1)} | options
        thread = ManagedThread(body or self.body, name="hangs", clock=self.clock, **settings)  # type: ignore[arg-type]
        thread.observe(self.seen.append)
        return thread

    def let_go(self) -> None:
        for hang in self.hangs:
            hang.set()

    def told(self, *kinds: type[events.Event]) -> list[str]:
        return [str(event).partition("\n")[0] for event in self.seen if isinstance(event, kinds)]


def entries(clock: VirtualClock) -> int:
    return len(shared_timer(clock))


def test_silence_is_told_once_with_the_stack(caplog: pytest.LogCaptureFixture) -> None:
    """A body that is silent for as long as its heartbeat is told of once, by an event and a record with its stack."""
    scene = Scene()
    with scene.thread() as thread:
        scene.clock.advance(9)
        assert scene.told(events.Wedged) == []
        scene.clock.advance(1)
        (wedged,) = [event for event in scene.seen if isinstance(event, events.Wedged)]
        assert wedged.seconds == 10
        assert "in body" in wedged.stack
        assert "hangs[number].wait()" in wedged.stack
        scene.clock.advance(1000)
        assert scene.told(events.Wedged) == ["thread 'hangs' is wedged: silent for 10 s. It is here:"]
        assert str(thread.health()) == "degraded: no heartbeat for 1.01e+03 s"
        scene.let_go()
    assert len([record for record in caplog.records if "is wedged" in record.message]) == 1
    assert thread.restarts == 0


def test_recovery_is_told() -> None:
    """A wedged body that gives a sign of life is told to be well again, and is watched as before."""
    scene = Scene()
    more = StopToken(clock=scene.clock)

    def body(running: StopToken) -> None:
        scene.hangs[0].wait()
        running.beat()
        more.wait()
        running.wait()

    with scene.thread(body) as thread:
        scene.clock.advance(15)
        scene.hangs[0].set()
        scene.clock.settle()
        assert thread.health().status is Status.READY
        scene.clock.advance(10)
        more.set()
        scene.clock.settle()
    assert scene.told(events.Wedged, events.Recovered) == [
        "thread 'hangs' is wedged: silent for 10 s. It is here:",
        "thread 'hangs' is well again after 15 s of silence",
        "thread 'hangs' is wedged: silent for 10 s. It is here:",
        "thread 'hangs' is well again after 10 s of silence",
    ]


def test_beats_move_the_entry_lazily() -> None:
    """A body that beats in time is left alone; the watch has one entry, and looks once in the limit."""
    scene = Scene()
    looks: list[float] = []

    def body(running: StopToken) -> None:
        for _ in range(100):
            StopToken(clock=scene.clock).wait(3)  # a wait on another token is no sign of life
            running.beat()
            looks.append(entries(scene.clock))
        running.wait()

    with scene.thread(body):
        scene.clock.advance(300)
    assert scene.told(events.Wedged) == []
    assert set(looks) == {1}


def test_rest_takes_the_entry_away() -> None:
    """A body that rests in a wait on its token, or on a child of it, has no entry in the timer, and is not wedged."""
    scene = Scene()
    naps: list[int] = []

    def body(running: StopToken) -> None:
        StopToken(clock=scene.clock).wait(3)
        running.child().wait(1000)
        naps.append(entries(scene.clock))
        running.wait()

    with scene.thread(body) as thread:
        assert entries(scene.clock) == 1
        scene.clock.advance(900)
        assert entries(scene.clock) == 0
        assert not [one for one in threading.enumerate() if one.name == "threadkit-watch"]
        scene.clock.advance(103)
        assert naps == [1]
        scene.clock.advance(1000)
        assert entries(scene.clock) == 0
        assert thread.health().status is Status.READY
    assert scene.told(events.Wedged) == []


def test_nothing_is_left_of_the_watch_at_the_end() -> None:
    """When a call ends its entry is taken out, so that no thread waits for it."""
    scene = Scene()
    with scene.thread(lambda running: None, heartbeat=3600) as thread:
        assert thread.join(5)
    assert entries(scene.clock) == 0


def test_who_stops_is_not_wedged() -> None:
    """A body that hangs while it is told to stop is what the shutdown reports, and no wedged thread."""
    scene = Scene()
    thread = scene.thread()
    thread.start()
    thread.stop()
    scene.clock.advance(100)
    assert scene.told(events.Wedged) == []
    scene.let_go()
    assert thread.join(5)


def test_who_wakes_up_to_stop_is_not_watched_again() -> None:
    """A body that rested for long, and is woken by its stop, needs no entry in the timer to end."""
    scene = Scene()

    def body(running: StopToken) -> None:
        running.wait()
        scene.hangs[0].wait()

    thread = scene.thread(body)
    thread.start()
    scene.clock.advance(10)
    thread.stop()
    scene.clock.settle()
    assert entries(scene.clock) == 0
    scene.let_go()
    assert thread.join(5)


def test_dump_writes_all_stacks(caplog: pytest.LogCaptureFixture) -> None:
    """on_wedged="dump" writes the stacks of all threads into the log."""
    scene = Scene()
    blocker = Gate()
    other = threading.Thread(target=blocker.pass_through, name="somebody-else", daemon=True)
    other.start()
    with scene.thread(on_wedged="dump"):
        scene.clock.advance(10)
        scene.let_go()
    blocker.open()
    other.join(5)
    (dump,) = [record.message for record in caplog.records if "here are all threads" in record.message]
    assert "somebody-else:\n" in dump
    assert "hangs:\n" in dump


def test_replace_abandons_the_thread() -> None:
    """on_wedged="replace" sets the call's token, and calls the body again on a new thread after the backoff."""
    scene = Scene()
    with scene.thread(on_wedged="replace", restart="on_failure") as thread:
        old = thread.threads()
        scene.hangs[1].set()
        scene.clock.advance(10)
        assert scene.calls[0].is_set()
        assert scene.calls[0].reason == "given up: it is wedged"
        assert thread.state is ComponentState.RUNNING
        scene.clock.advance(1)
        assert len(scene.calls) == 2
        assert scene.calls[1]()
        assert scene.came_back == ["hangs-2"]
        assert [one.name for one in thread.threads()] == ["hangs", "hangs-2"]
        assert thread.threads()[0] is old[0]
        stats = thread.stats()
        assert (stats["restarts"], stats["abandoned"], stats["alive"]) == (1, 1, True)
        (restarted,) = scene.told(events.Restarted)
        assert restarted.startswith("'hangs' ended (Unresponsive: thread 'hangs' gave no sign of life for 10 s; ")
        scene.let_go()
        old[0].join(5)
        assert [one.name for one in thread.threads()] == ["hangs-2"]
    assert thread.state is ComponentState.STOPPED
    assert thread.failure is None


def test_late_result_of_an_abandoned_call_is_ignored(caplog: pytest.LogCaptureFixture) -> None:
    """What an abandoned call returns or raises in the end changes nothing; an error is written down."""
    scene = Scene()

    def body(running: StopToken) -> object:
        if not scene.calls:
            scene.calls.append(running)
            scene.hangs[0].wait()
            raise LookupError("too late")
        return running.wait() or None

    caplog.set_level(logging.INFO, "threadkit")
    with scene.thread(body, on_wedged="replace") as thread:
        scene.clock.advance(11)
        scene.let_go()
        scene.clock.settle()
        assert thread.restarts == 1
    assert thread.failure is None
    assert "thread 'hangs', given up as wedged, raised: LookupError: too late" in caplog.text


def test_replace_replaces_what_is_never_restarted_but_within_the_budget() -> None:
    """Replacing is a restart whatever the policy says, and when the budget is spent the thread has failed."""
    scene = Scene()
    told: list[BaseException] = []
    thread = scene.thread(on_wedged="replace", restart="never", max_restarts=1)
    thread.failed = told.append
    thread.start()
    scene.clock.advance(100)
    assert len(scene.calls) == 2
    assert thread.state is ComponentState.FAILED
    assert isinstance(thread.failure, Unresponsive)
    assert thread.failure.__notes__ == ["thread 'hangs' ended 2 times within 60 s: no restart"]
    assert told == [thread.failure]
    assert not thread.join(0)  # its threads go on, and nobody says otherwise
    assert [one.name for one in thread.threads()] == ["hangs", "hangs-2"]
    scene.let_go()
    assert thread.join(5)


def test_join_waits_for_abandoned_threads() -> None:
    """A thread has not ended before those that it abandoned have, and says so in the report of its lifecycle."""
    scene = Scene()
    lc = Lifecycle(clock=scene.clock, stop_timeout=5)
    scene.hangs[1].set()
    thread = lc.add(scene.thread(on_wedged="replace"))
    lc.start()
    scene.clock.advance(11)
    assert scene.came_back == ["hangs-2"]
    stopping = Background(lc.shutdown)
    scene.clock.wait_for_sleepers(1)
    scene.clock.advance(5)
    report = stopping.result()
    (stuck,) = report.stuck
    assert list(stuck.stacks) == ["hangs"]
    assert "in body" in stuck.stacks["hangs"]
    assert thread.state is ComponentState.STOPPING
    scene.let_go()
    assert thread.join(5)
    assert thread.state is ComponentState.STOPPED


def test_beats_of_an_abandoned_thread_do_not_count() -> None:
    """A thread that was given up cannot beat for the one that took its place."""
    scene = Scene()
    again = StopToken(clock=scene.clock)

    def body(running: StopToken) -> None:
        scene.calls.append(running)
        if len(scene.calls) > 1:
            scene.hangs[1].wait()
            running.wait()
            return
        scene.hangs[0].wait()
        thread.beat()
        running.beat()
        again.wait()

    thread = scene.thread(body, on_wedged="replace")
    with thread:
        scene.clock.advance(11)
        scene.clock.advance(5)
        scene.hangs[0].set()
        scene.clock.settle()
        assert thread.stats()["last_beat"] == 5.0
        thread.beat()  # anybody else may
        assert thread.stats()["last_beat"] == 0.0
        again.set()
        scene.let_go()


def test_stop_fails_the_thread_and_the_lifecycle() -> None:
    """on_wedged="stop" fails the component at once, which stops the lifecycle; the report shows where it is stuck."""
    scene = Scene()
    lc = Lifecycle(clock=scene.clock, stop_timeout=5)
    thread = lc.add(scene.thread(on_wedged="stop", restart="always"))
    lc.start()
    scene.clock.advance(10)
    assert lc.wait(5)
    assert thread.state is ComponentState.FAILED
    assert isinstance(thread.failure, Unresponsive)
    assert scene.calls[0].is_set()
    stopping = Background(lc.shutdown)
    scene.clock.wait_for_sleepers(1)
    scene.clock.advance(5)
    report = stopping.result()
    assert report.errors == (thread.failure,)
    assert [part.name for part in report.stuck] == ["hangs"]
    assert report.exit_code == 1
    scene.let_go()
    assert thread.join(5)
    assert thread.state is ComponentState.FAILED


def test_wedged_before_it_is_ready_is_an_error_of_start() -> None:
    """A body that is wedged before it has said that it is ready makes start() raise, where something is to be done."""
    scene = Scene()
    thread = scene.thread(on_wedged="replace", ready=True, start_timeout=60)
    starting = Background(thread.start)
    scene.clock.wait_for_sleepers(2)
    scene.clock.advance(10)
    with pytest.raises(Unresponsive):
        starting.result()
    scene.let_go()
    assert thread.join(5)
    assert thread.state is ComponentState.FAILED


def test_call_that_ends_while_it_is_reported_is_not_replaced() -> None:
    """A call that ends while its silence is told belongs to itself, and nothing is done about it any more."""
    scene = Scene()

    def let_go(event: events.Event) -> None:
        if isinstance(event, events.Wedged):
            scene.hangs[0].set()
            assert thread.join(5)

    thread = scene.thread(lambda running: scene.hangs[0].wait() and None, on_wedged="replace")
    thread.observe(let_go)
    thread.start()
    scene.clock.advance(10)
    assert thread.join(5)
    assert thread.restarts == 0
    assert thread.state is ComponentState.STOPPED


def test_sign_of_life_while_the_silence_is_told() -> None:
    """A body that gives a sign of life, or rests, while its silence is being told is well again right after."""
    scene = Scene()

    def let_go(event: events.Event) -> None:
        if isinstance(event, events.Wedged):
            scene.hangs[0].set()
            rests.pass_through()

    rests = Gate()

    def body(running: StopToken) -> None:
        scene.hangs[0].wait()
        running.on_stop(rests.open)
        rests.open()
        running.wait()

    thread = scene.thread(body)
    thread.observe(let_go)
    with thread:
        scene.clock.advance(10)
        scene.clock.settle()
        assert scene.told(events.Wedged, events.Recovered)[1:] == ["thread 'hangs' is well again after 10 s of silence"]


def test_no_thread_to_watch(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Where the system gives no thread for the watch the body runs on, and the next wait on its token tries again."""
    scene = Scene()
    real = scene.clock.spawn

    def refuse(target: Callable[[], None], name: str) -> threading.Thread:
        if name == "threadkit-watch":
            raise RuntimeError("can't start new thread")
        return real(target, name)

    monkeypatch.setattr(scene.clock, "spawn", refuse)

    def body(running: StopToken) -> None:
        scene.hangs[0].wait()
        running.sleep(1)
        scene.hangs[1].wait()
        running.wait()

    with scene.thread(lambda running: None, restart="never"):  # it ends without having been watched
        scene.clock.settle()
    with scene.thread(body):
        scene.clock.settle()
        assert "nobody watches over thread 'hangs': can't start new thread" in caplog.text
        monkeypatch.setattr(scene.clock, "spawn", real)
        scene.hangs[0].set()
        scene.clock.advance(11)
        assert len(scene.told(events.Wedged)) == 1
        scene.let_go()


def test_no_thread_to_do_something_about_it(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Where the system gives no thread to look after a wedged one, the log says so, and its recovery is still seen."""
    scene = Scene()
    with scene.thread(on_wedged="replace") as thread:
        scene.clock.settle()
        real = scene.clock.spawn

        def refuse(target: Callable[[], None], name: str) -> threading.Thread:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as full:
            full.setattr(scene.clock, "spawn", refuse)
            scene.clock.advance(10)
        assert scene.clock.spawn == real
        assert "thread 'hangs' is wedged, and nothing is done about it: can't start new thread" in caplog.text
        assert thread.restarts == 0
        scene.let_go()
        scene.clock.settle()
        assert len(scene.told(events.Recovered)) == 1


def test_timer_is_shared_by_all_on_one_clock() -> None:
    """However many threads are watched on a clock, one thread watches over them, and another clock has another."""
    scene, other = Scene(), VirtualClock()
    watched = [scene.thread(lambda running: scene.hangs[0].wait() and None, heartbeat=100) for _ in range(5)]
    for thread in watched:
        thread.start()
    assert entries(scene.clock) == 5
    assert shared_timer(other) is not shared_timer(scene.clock)
    assert [one.name for one in threading.enumerate()].count("threadkit-watch") == 1
    scene.let_go()
    for thread in watched:
        assert thread.join(5)


def test_one_of_two_recovers() -> None:
    """Two threads that see an alarm at once tell one recovery."""
    scene = Scene()
    thread = scene.thread()
    watch = thread._body.call.pulse
    assert isinstance(watch, _pulse.Watch)
    watch._recover()
    assert scene.told(events.Recovered) == []


def test_heartbeat_without_a_limit_is_no_watch() -> None:
    """heartbeat=None and inf expect nothing."""
    scene = Scene()
    for heartbeat in (None, float("inf")):
        assert type(scene.thread(heartbeat=heartbeat)._body.call.pulse) is _pulse.Pulse


def test_bad_choice_is_refused() -> None:
    """What is to be done has to be one of four words."""
    with pytest.raises(ValueError, match="on_wedged must be one of 'log', 'dump', 'replace', 'stop', not 'kill'"):
        ManagedThread(lambda: None, name="x", on_wedged="kill")  # type: ignore[arg-type]  # that is the point


def test_call_that_ends_while_it_is_armed() -> None:
    """A watch that is armed just when its call ends leaves no entry behind."""
    scene = Scene()
    watch = scene.thread()._body.call.pulse
    assert isinstance(watch, _pulse.Watch)
    timer = watch._timer

    class EndsMeanwhile:
        def at(self, *arguments: object) -> object:
            watch.end()
            return timer.at(*arguments)  # type: ignore[arg-type]

        def cancel(self, entry: object) -> bool:
            return timer.cancel(entry)  # type: ignore[arg-type]

    watch._timer = EndsMeanwhile()  # type: ignore[assignment]  # a duck
    watch.begin()
    assert len(timer) == 0
