"""``ManagedThread``: starting, stopping, restarting, failing."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable

import pytest
from helpers import Background, Gate

from threadkit import (
    Closed,
    ComponentState,
    IntervalTask,
    Lifecycle,
    ManagedThread,
    StartTimeout,
    Stopping,
    StopToken,
    SystemClock,
    ThreadkitError,
    backoff,
    events,
)
from threadkit._body import Call
from threadkit.health import Status
from threadkit.testing import VirtualClock


def wait_for_stop(running: StopToken) -> None:
    running.wait()


class Flaky:
    """A body that fails a given number of times, and then waits for its stop."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls: list[float] = []
        self.clock = VirtualClock()

    def __call__(self, running: StopToken) -> None:
        self.calls.append(self.clock.monotonic())
        if len(self.calls) <= self.failures:
            raise OSError(f"failure {len(self.calls)}")
        running.wait()

    def thread(self, **options: object) -> ManagedThread:
        return ManagedThread(self, name="flaky", clock=self.clock, **options)


def test_body_gets_its_token_and_ends_when_told() -> None:
    """A body that asks for a token gets one, which is set by stop(), reason and all."""
    seen = []

    def body(running: StopToken) -> None:
        running.wait()
        seen.append(running.reason)

    thread = ManagedThread(body)
    assert thread.state is ComponentState.NEW
    thread.start()
    assert thread.state is ComponentState.RUNNING
    assert thread.is_alive()
    assert [one.name for one in thread.threads()] == ["body"]
    thread.stop("enough")
    assert thread.join(5)
    assert (thread.state, seen, thread.threads()) == (ComponentState.STOPPED, ["enough"], [])


def test_body_without_parameter_is_called_with_nothing() -> None:
    """A body that asks for nothing gets nothing, and a thread whose body returns has stopped well."""
    called = Gate()
    thread = ManagedThread(called.open, name="once")
    thread.start()
    called.pass_through()
    assert thread.join(5)
    assert thread.state is ComponentState.STOPPED
    assert thread.failure is None


def test_defaulted_parameter_gets_nothing() -> None:
    """A parameter that has a default keeps it, unless it is annotated as a token."""
    seen: list[object] = []

    def plain(value: int = 7) -> None:
        seen.append(value)

    def annotated(token: StopToken | None = None) -> None:
        seen.append(isinstance(token, StopToken))

    for body in (plain, annotated):
        with ManagedThread(body) as thread:
            assert thread.join(5)
    assert seen == [7, True]


def test_failure_is_seen_by_everybody(caplog: pytest.LogCaptureFixture) -> None:
    """A body that raises leaves a failed thread, an event, a log record with the traceback and a call of failed()."""
    told: list[BaseException] = []
    seen: list[events.Event] = []

    def body() -> None:
        raise ValueError("broken")

    thread = ManagedThread(body)
    thread.failed = told.append
    thread.observe(seen.append)
    with caplog.at_level(logging.ERROR, "threadkit"):
        thread.start()
        assert thread.join(5)
    assert thread.state is ComponentState.FAILED
    assert isinstance(thread.failure, ValueError)
    died = [event for event in seen if isinstance(event, events.Failed)]
    assert [str(event) for event in died] == ["'body' failed: ValueError: broken"]
    assert told == [thread.failure]
    assert caplog.records[0].exc_info
    assert thread.health().status is Status.FAILED


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_base_exception_of_a_body_is_a_failure(error: BaseException) -> None:
    """SystemExit and its like, raised by a body, are a failure like any other and do not vanish."""

    def body() -> None:
        raise error

    thread = ManagedThread(body)
    thread.start()
    assert thread.join(5)
    assert thread.failure is error


@pytest.mark.parametrize("restart", ["never", "on_failure", "always"])
def test_what_is_raised_after_the_stop_is_no_failure(restart: str) -> None:
    """Once its token is set, whatever a body raises is the way it stops."""

    def body(running: StopToken) -> None:
        running.wait()
        raise OSError("the socket was closed under me")

    with ManagedThread(body, restart=restart) as thread:
        pass
    assert thread.state is ComponentState.STOPPED
    assert thread.failure is None
    assert thread.restarts == 0


def test_stopping_unwinds_a_body() -> None:
    """Stopping, raised by raise_if_set(), ends a body well; raised without a stop it is a failure."""

    def polite(running: StopToken) -> None:
        running.wait()
        running.raise_if_set()

    def rude() -> None:
        raise Stopping("by my own will")

    with ManagedThread(polite) as thread:
        pass
    assert thread.state is ComponentState.STOPPED
    thread = ManagedThread(rude)
    thread.start()
    assert thread.join(5)
    assert isinstance(thread.failure, Stopping)


def test_restarts_on_failure_with_backoff() -> None:
    """A failing body is called again after each delay of the backoff, and the restarts are counted."""
    flaky = Flaky(failures=3)
    with flaky.thread(restart="on_failure", backoff=backoff.sequence(1, 10, 100)) as thread:
        flaky.clock.advance(1000)
        assert flaky.calls == [0.0, 1.0, 11.0, 111.0]
        assert thread.restarts == 3
        assert thread.state is ComponentState.RUNNING


def test_spent_budget_is_a_visible_failure() -> None:
    """One failure too many within the window fails the thread for good, with the last error and a note."""
    flaky = Flaky(failures=99)
    thread = flaky.thread(restart="on_failure", backoff=backoff.constant(1), max_restarts=2, within=60)
    thread.start()
    flaky.clock.advance(100)
    assert thread.state is ComponentState.FAILED
    assert str(thread.failure) == "failure 3"
    assert thread.failure.__notes__ == ["thread 'flaky' ended 3 times within 60 s: no restart"]


def test_old_restarts_leave_the_window() -> None:
    """Restarts that lie further back than the window do not count against the budget."""
    flaky = Flaky(failures=5)
    with flaky.thread(restart="on_failure", backoff=backoff.constant(40), max_restarts=2, within=60) as thread:
        flaky.clock.advance(1000)
        assert thread.restarts == 5
        assert thread.state is ComponentState.RUNNING


def test_backoff_begins_anew_after_a_healthy_period() -> None:
    """A body that was well for as long as the window is restarted after the first delay again."""
    clock = VirtualClock()
    calls: list[float] = []

    def body(running: StopToken) -> None:
        calls.append(clock.monotonic())
        if len(calls) == 3:
            running.sleep(60)
        raise OSError

    with ManagedThread(body, restart="on_failure", backoff=backoff.sequence(1, 2, 50), clock=clock):
        clock.advance(70)
    assert calls == [0.0, 1.0, 3.0, 64.0, 66.0]


def test_unlimited_restarts_remember_nothing() -> None:
    """With max_restarts=None a body is restarted as often as it fails, in constant memory."""
    flaky = Flaky(failures=200)
    with flaky.thread(restart="on_failure", backoff=backoff.constant(1), max_restarts=None) as thread:
        flaky.clock.advance(300)
        assert thread.restarts == 200
        assert not thread._body.supervision._budget._ends


def test_always_restarts_a_body_that_returns() -> None:
    """restart="always" calls a body again that returned; without end it is a failure that says so."""
    clock = VirtualClock()
    thread = ManagedThread(lambda: None, name="brief", restart="always", backoff=backoff.constant(1), clock=clock)
    thread.start()
    clock.advance(100)
    assert thread.restarts == 5
    assert isinstance(thread.failure, ThreadkitError)
    assert str(thread.failure) == "thread 'brief' ended 6 times within 60 s: no restart"


def test_on_failure_leaves_a_body_alone_that_returns() -> None:
    """restart="on_failure" does not call a body again that returned."""
    calls = []
    with ManagedThread(lambda: calls.append(1), restart="on_failure") as thread:
        assert thread.join(5)
    assert calls == [1]


def test_stop_cuts_a_backoff_short() -> None:
    """A stop during the delay before a restart ends the thread at once."""
    flaky = Flaky(failures=9)
    thread = flaky.thread(restart="on_failure", backoff=backoff.constant(3600))
    thread.start()
    flaky.clock.wait_for_sleepers(1)
    thread.stop()
    assert thread.join(5)
    assert flaky.calls == [0.0]


def test_backoff_that_raises_fails_the_thread() -> None:
    """An error in the user's backoff is the thread's failure, not a silent end."""
    flaky = Flaky(failures=1)

    def bad(state: object) -> float:
        raise ZeroDivisionError

    thread = flaky.thread(restart="on_failure", backoff=bad)
    thread.start()
    assert thread.join(5)
    assert isinstance(thread.failure, ZeroDivisionError)


def test_start_waits_until_ready() -> None:
    """With ready=True start() returns when the body has said so, and not before."""
    said = Gate()
    allowed = Gate()

    def body(running: StopToken) -> None:
        said.open()
        allowed.pass_through()
        running.ready()
        running.wait()

    thread = ManagedThread(body, ready=True)
    starting = Background(thread.start)
    said.pass_through()
    assert thread.state is ComponentState.STARTING
    assert thread.health().status is Status.STARTING
    allowed.open()
    starting.result()
    assert thread.state is ComponentState.RUNNING
    thread.stop()
    assert thread.join(5)


def test_error_before_ready_reaches_the_caller_of_start() -> None:
    """What a body raises before it is ready is raised by start(), and told to nobody else."""
    told: list[BaseException] = []

    def body(running: StopToken) -> None:
        raise ConnectionError("no such host")

    thread = ManagedThread(body, ready=True, restart="always")
    thread.failed = told.append
    with pytest.raises(ConnectionError, match="no such host"):
        thread.start()
    assert thread.state is ComponentState.FAILED
    assert told == []


def test_returning_before_ready_is_an_error() -> None:
    """A body that returns before it is ready makes start() raise."""
    with pytest.raises(ThreadkitError, match=r"returned before it called token\.ready"):
        ManagedThread(lambda: None, name="hasty", ready=True).start()


def test_not_ready_in_time() -> None:
    """A body that is not ready in time makes start() raise StartTimeout, and is told to stop."""
    clock = VirtualClock()
    thread = ManagedThread(wait_for_stop, ready=True, start_timeout=3, clock=clock)
    starting = Background(thread.start)
    clock.wait_for_sleepers(1)
    clock.advance(3)
    with pytest.raises(StartTimeout, match="'wait_for_stop' was not ready within 3 s"):
        starting.result()
    assert thread.join(5)
    assert thread.state is ComponentState.FAILED


def test_stop_during_start() -> None:
    """A stop while start() waits for readiness ends both."""
    began = Gate()

    def body(running: StopToken) -> None:
        began.open()
        running.wait()

    thread = ManagedThread(body, ready=True)
    starting = Background(thread.start)
    began.pass_through()
    thread.stop()
    starting.result()
    assert thread.join(5)
    assert thread.state is ComponentState.STOPPED


def test_start_twice_is_one_start() -> None:
    """A second start() of what runs does nothing, and one after the end is refused."""
    thread = ManagedThread(wait_for_stop)
    thread.start()
    first = thread.threads()
    thread.start()
    assert thread.threads() == first
    thread.stop()
    thread.stop()
    assert thread.join(5)
    with pytest.raises(Closed, match="thread 'wait_for_stop' is closed"):
        thread.start()


def test_stop_before_start_is_final() -> None:
    """A thread that was stopped before it was started never starts, and joining it does not wait."""
    thread = ManagedThread(wait_for_stop)
    thread.stop()
    assert thread.state is ComponentState.STOPPED
    assert thread.join()
    with pytest.raises(Closed):
        thread.start()


def test_joining_itself_does_not_hang() -> None:
    """A body that joins its own thread is told at once that it has not ended."""
    answers: list[bool] = []

    def body() -> None:
        answers.append(thread.join())

    thread = ManagedThread(body)
    thread.start()
    assert thread.join(5)
    assert answers == [False]


def test_stopping_itself() -> None:
    """A body may stop its own thread."""
    thread = ManagedThread(lambda running: (thread.stop("from inside"), running.wait()), name="self")
    thread.start()
    assert thread.join(5)
    assert thread.state is ComponentState.STOPPED


def test_join_gives_up_in_time() -> None:
    """join() returns False when its time is over."""
    clock = VirtualClock()
    with ManagedThread(wait_for_stop, clock=clock) as thread:
        joining = Background(lambda: thread.join(5))
        clock.wait_for_sleepers(1)
        clock.advance(5)
        assert joining.result() is False


def test_silence_degrades_health() -> None:
    """A body that neither beats nor waits for longer than its heartbeat is degraded until it does."""
    clock = VirtualClock()
    steps = StopToken(clock=clock)
    more = StopToken(clock=clock)

    def body(running: StopToken) -> None:
        steps.wait()  # a wait on another token is no beat
        thread.beat()
        more.wait()
        running.wait()

    with ManagedThread(body, heartbeat=10, clock=clock) as thread:
        clock.advance(10)
        assert thread.health().status is Status.READY
        clock.advance(1)
        assert str(thread.health()) == "degraded: no heartbeat for 11 s"
        assert thread.stats()["last_beat"] == 11.0
        steps.set()
        clock.settle()
        assert thread.health().status is Status.READY
        more.set()
        clock.settle()
        clock.advance(1000)
        assert thread.health().status is Status.READY
        assert thread.stats() == {
            "state": "running",
            "restarts": 0,
            "abandoned": 0,
            "alive": True,
            "last_beat": 0.0,
        }
    assert thread.health().status is Status.STOPPING


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"restart": "sometimes"}, "restart must be one of 'never', 'on_failure', 'always', not 'sometimes'"),
        ({"max_restarts": -1}, "max_restarts must be at least 0, but is -1"),
        ({"max_restarts": True}, "max_restarts must be a whole number, not True"),
        ({"within": 0}, "within must be above zero, but is 0"),
        ({"within": float("nan")}, "within must not be negative or nan, but is nan"),
        ({"heartbeat": -1}, "heartbeat must not be negative or nan, but is -1"),
        ({"heartbeat": 0}, "heartbeat must be above zero, but is 0"),
        ({"on_wedged": "stop"}, "on_wedged must not be 'stop' where there is no heartbeat: nobody would notice"),
        ({"start_timeout": "10"}, "start_timeout must be a number of seconds or a timedelta, not '10'"),
        ({"stop_timeout": True}, "stop_timeout must be a number of seconds or a timedelta, not True"),
        ({"backoff": 3}, "backoff must be callable, not 3"),
        ({"name": ""}, "name must not be empty"),
        ({"name": 5}, "name must be a string, not 5"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    """A bad option is refused by an error that names the parameter and the value."""
    with pytest.raises((TypeError, ValueError)) as refusal:
        ManagedThread(wait_for_stop, **options)
    assert str(refusal.value) == message


@pytest.mark.parametrize("target", [None, "body", lambda one, two: None, lambda *, key: None])
def test_bad_targets_are_refused(target: object) -> None:
    """A target that cannot be called, or not with a token or nothing, is refused at once."""
    with pytest.raises(TypeError, match="target must"):
        ManagedThread(target)


def test_names_come_from_the_function() -> None:
    """Without a name a thread takes the function's, a partial's included."""
    assert ManagedThread(wait_for_stop).name == "wait_for_stop"
    assert ManagedThread(functools.partial(wait_for_stop)).name == "wait_for_stop"
    assert ManagedThread(Flaky(0)).name == "thread"


def test_no_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system gives no thread, start() raises and nothing half-started stays behind."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    thread = ManagedThread(wait_for_stop)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        thread.start()
    assert thread.state is ComponentState.FAILED
    assert thread.join(0)


def test_repr_tells_name_and_state() -> None:
    """repr() shows what one wants to know first."""
    assert repr(ManagedThread(wait_for_stop)) == "<ManagedThread 'wait_for_stop' new>"


def test_thread_is_known_before_it_has_run_a_line() -> None:
    """After start() the thread is alive and among threads(), even where the system has not let it begin yet."""
    gate = Gate()

    class SlowSystem(SystemClock):
        def spawn(self, target: Callable[[], None], name: str) -> threading.Thread:
            def run() -> None:
                gate.pass_through()
                target()

            return super().spawn(run, name)

    with ManagedThread(wait_for_stop, clock=SlowSystem()) as thread:
        assert thread.is_alive()
        assert len(thread.threads()) == 1
        gate.open()


@pytest.mark.parametrize("restart", ["never", "on_failure", "always"])
def test_done_is_a_good_end_for_good(restart: str) -> None:
    """A body that returns DONE has ended well and is not called again, whatever its policy says."""
    assert ManagedThread.DONE is IntervalTask.DONE
    calls: list[int] = []

    def body() -> object:
        calls.append(1)
        return ManagedThread.DONE

    thread = ManagedThread(body, restart=restart)
    thread.start()
    assert thread.join(5)
    assert (thread.state, thread.failure, calls) == (ComponentState.STOPPED, None, [1])


def test_stop_all_stops_the_lifecycle() -> None:
    """A body that returns STOP_ALL ends well, and stops its lifecycle with a reason that names it."""
    with Lifecycle() as lc:
        lc.thread("main", restart="always")(lambda: ManagedThread.STOP_ALL)
        assert lc.wait(5)
    assert lc.token.reason == "thread 'main' asked for it"
    assert lc.report.exit_code == 0
    assert lc["main"].restarts == 0


def test_stop_all_ends_a_thread_that_stands_alone() -> None:
    """Where there is nothing else to stop, a body that returns STOP_ALL just ends."""
    thread = ManagedThread(lambda: ManagedThread.STOP_ALL, name="main", restart="always")
    thread.start()
    assert thread.join(5)
    assert thread.state is ComponentState.STOPPED


def test_verdict_of_a_body_that_was_told_to_stop() -> None:
    """What a body returns after it was told to stop means nothing: a thread that is removed does not stop the rest."""
    with Lifecycle() as lc:
        lc.thread("main")(lambda running: running.wait() and ManagedThread.STOP_ALL)
        assert lc.remove("main")
        assert not lc.token.is_set()


def test_verdict_before_ready_is_an_error() -> None:
    """A body that ends before it is ready could not start, whatever it returns."""
    for verdict in (ManagedThread.DONE, ManagedThread.STOP_ALL):
        with pytest.raises(ThreadkitError, match="returned before"):
            ManagedThread(lambda verdict=verdict: verdict, name="hasty", ready=True).start()


def test_each_call_has_a_token_of_its_own() -> None:
    """Each call of a body gets a token of its own, and hooks that one call left behind are forgotten with it."""
    clock = VirtualClock()
    calls: list[StopToken] = []
    left: list[object] = []

    def body(running: StopToken) -> None:
        calls.append(running)
        running.on_stop(lambda: left.append(1))
        if len(calls) < 3:
            raise OSError
        running.wait()

    thread = ManagedThread(body, name="forgetful", restart="on_failure", backoff=backoff.constant(1), clock=clock)
    with thread:
        clock.advance(10)
        assert len(set(map(id, calls))) == 3
        assert len(thread._token._hooks) == 1
    assert all(call.is_set() for call in calls)


def test_health_between_two_calls() -> None:
    """While a thread waits to be called again its health is degraded, and says why."""
    flaky = Flaky(failures=1)
    with flaky.thread(restart="on_failure", backoff=backoff.constant(5)) as thread:
        flaky.clock.advance(1)
        assert str(thread.health()) == "degraded: waits to be called again: OSError: failure 1"
        assert thread.stats()["last_beat"] == 0.0
        flaky.clock.advance(5)
        assert thread.health().status is Status.READY


def test_error_that_meets_the_stop_is_written_down(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What a body raises just before its stop is in the log, though nobody calls it a failure any more."""
    caplog.set_level(logging.INFO, "threadkit")

    def body() -> None:
        raise OSError("just before")

    thread = ManagedThread(body)
    claim = Call.claim

    def stop_and_claim(call: Call) -> bool:
        thread.stop()
        return claim(call)

    monkeypatch.setattr(Call, "claim", stop_and_claim)
    thread.start()
    assert thread.join(5)
    assert thread.state is ComponentState.STOPPED
    assert "thread 'body' raised while it stopped: OSError: just before" in caplog.text


def test_ready_where_nobody_asked() -> None:
    """A body may say that it is ready, and beat, where nobody waits for either."""

    def body(running: StopToken) -> None:
        running.ready()
        running.child().ready()
        running.beat()
        StopToken().ready()
        StopToken().beat()

    with ManagedThread(body) as thread:
        assert thread.join(5)
    assert thread.failure is None
