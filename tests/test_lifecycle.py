"""``Lifecycle``: the whole of it. Its registry has tests of its own, and real processes stand in ``integration/``."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NoReturn

import pytest
from helpers import Background, Gate, Parked

from threadkit import (
    BoundedExecutor,
    Bus,
    Closed,
    ComponentState,
    DuplicateName,
    ForkedError,
    IntervalTask,
    JobCancelled,
    Lifecycle,
    ManagedThread,
    Phase,
    ShutdownReport,
    StopToken,
    SystemClock,
    ThreadGroup,
    UnknownComponent,
    WorkQueue,
    WouldBlock,
    _fork,
    _makers,
    events,
)
from threadkit.health import Health, Status
from threadkit.testing import VirtualClock


def wait_for_stop(running: StopToken) -> None:
    running.wait()


class Part:
    """A user's own component."""

    def __init__(self, name: str, log: list[str] | None = None) -> None:
        self.name = name
        self.log = log if log is not None else []
        self.ends = True

    def start(self) -> None:
        self.log.append(f"start {self.name}")

    def stop(self, reason: str | None = None) -> None:
        self.log.append(f"stop {self.name}")

    def join(self, timeout: float | None = None) -> bool:
        return self.ends


def failing(message: str) -> ManagedThread:
    def body() -> None:
        raise ValueError(message)

    return ManagedThread(body, name=message)


# --- start and stop ------------------------------------------------------------------------------------------------


def test_with_block_starts_and_stops_in_order() -> None:
    """A with block starts everything, engines first, and stops it the other way, resources last."""
    log: list[str] = []
    lc = Lifecycle("app")
    lc.callback(log.append, "close")
    lc.add(Part("reader", log), phase=Phase.INTAKE)
    lc.add(Part("pool", log), phase=Phase.ENGINES)
    with lc as inside:
        assert inside is lc
        assert lc.state is ComponentState.RUNNING
        assert lc.report is None
    assert log == ["start pool", "start reader", "stop reader", "stop pool", "close"]
    assert isinstance(lc.report, ShutdownReport)
    assert lc.report.ok
    assert lc.report.exit_code == 0
    assert [part.name for part in lc.report.components] == ["reader", "pool"]
    assert lc.state is ComponentState.STOPPED


def test_start_twice_and_after_the_end() -> None:
    """A second start does nothing, one after the end is refused, and so is everything that adds."""
    lc = Lifecycle()
    lc.start()
    lc.start()
    assert lc.shutdown() is lc.shutdown()
    with pytest.raises(Closed, match="lifecycle 'app' is closed"):
        lc.start()
    for use in (
        lambda: lc.add(Part("late")),
        lambda: lc.callback(print),
        lambda: lc.enter_context(contextlib.nullcontext()),
    ):
        with pytest.raises(Closed):
            use()


def test_stop_before_start_is_final() -> None:
    """A lifecycle that was stopped before it was started never starts anything."""
    log: list[str] = []
    lc = Lifecycle()
    lc.add(Part("one", log))
    lc.stop("changed my mind")
    assert lc.state is ComponentState.STOPPING
    with pytest.raises(Closed):
        lc.start()
    report = lc.shutdown()
    assert (log, report.reason, report.components) == ([], "changed my mind", ())


def test_a_failing_start_rolls_back() -> None:
    """Where one start fails, what is up is stopped in reverse, resources close, and the original error is raised."""
    log: list[str] = []
    lc = Lifecycle("app")
    lc.callback(log.append, "close")
    lc.add(Part("first", log))
    bad = lc.add(Part("bad", log))
    lc.add(Part("never", log))

    def fail() -> None:
        raise OSError("port in use")

    bad.start = fail
    with pytest.raises(OSError, match="port in use") as caught, lc:
        pass
    assert caught.value.__notes__ == ["while lifecycle 'app' was starting; what was up has been stopped"]
    assert log == ["start first", "stop bad", "stop first", "close"]
    assert lc.state is ComponentState.STOPPED


def test_a_start_that_fails_stops_what_began_by_itself() -> None:
    """An executor that was used before the start is stopped with the rest, though the start never came to it."""
    lc = Lifecycle()
    executor = lc.executor(max_workers=1)
    assert executor.submit(pow, 2, 10).result(5) == 1024
    bad = lc.add(Part("bad"))

    def fail() -> None:
        raise OSError("port in use")

    bad.start = fail
    with pytest.raises(OSError, match="port in use"):
        lc.start()
    assert executor.state is ComponentState.STOPPED
    assert [part.name for part in lc.report.components] == ["executor", "bad"]


def test_a_shutdown_without_a_start_leaves_nobody_waiting() -> None:
    """A job that was submitted to a queue that never started is told of the end of its lifecycle."""
    lc = Lifecycle()
    queue = lc.queue()
    queue.declare("later")
    job = queue.submit("later")
    report = lc.shutdown()
    assert (report.ok, report.components) == (True, ())
    with pytest.raises(JobCancelled):
        job.result(5)


def test_unknown_requirements_are_refused_before_anything_starts() -> None:
    """A start that cannot be put in order starts nothing, and can be tried again when it can."""
    log: list[str] = []
    lc = Lifecycle()
    lc.add(Part("web", log), requires=["db"])
    with pytest.raises(UnknownComponent, match="'db'"):
        lc.start()
    assert (log, lc.state) == ([], ComponentState.NEW)
    lc.add(Part("db", log))
    with lc:
        assert log == ["start db", "start web"]


def test_stop_during_start_starts_no_more() -> None:
    """A stop that comes while components start keeps the rest from starting."""
    log: list[str] = []
    lc = Lifecycle()
    one = lc.add(Part("one", log))
    lc.add(Part("two", log))
    one.start = lambda: lc.stop("too late")
    with lc:
        assert lc.state is ComponentState.STOPPING
    assert log == ["stop one"]


def test_a_stop_frees_the_start_that_waits_for_a_body() -> None:
    """A body that waits for its token before it is ready is told of a stop that comes while its start goes on."""
    clock = VirtualClock()
    lc = Lifecycle(clock=clock)
    told: list[str | None] = []

    @lc.thread(ready=True)
    def never_ready(running: StopToken) -> None:
        running.wait()
        told.append(running.reason)

    starting = Parked(clock, lc.start)
    assert starting.waits
    lc.stop("enough")
    starting.result()
    assert lc.shutdown().ok
    assert (told, clock.monotonic()) == (["enough"], 0.0)


def test_a_stop_frees_the_add_that_waits_for_a_body() -> None:
    """A component that is added to a running lifecycle is told of a stop that comes while it comes up."""
    clock = VirtualClock()
    with Lifecycle(clock=clock) as lc:
        adding = Parked(clock, lambda: lc.thread(ready=True)(wait_for_stop))
        assert adding.waits
        lc.stop("enough")
        assert adding.result() is wait_for_stop
    assert lc.report.ok


def test_what_a_stop_overtakes_on_its_way_up_is_not_started() -> None:
    """A component whose start a stop overtakes does not begin; that is no error of the start."""

    class Overtaken(ManagedThread):
        def start(self) -> None:
            lc.stop("a moment before")
            self._token.wait()  # the stop comes to it by the stopper thread
            super().start()

    calls: list[int] = []
    lc = Lifecycle()
    thread = lc.add(Overtaken(lambda: calls.append(1), name="overtaken"))
    with lc:
        assert lc.state is ComponentState.STOPPING
    assert (calls, thread.state) == ([], ComponentState.STOPPED)
    assert lc.report.ok


@pytest.mark.parametrize("kind", ["own", "foreign"])
def test_a_shutdown_waits_for_a_hanging_start_no_longer_than_it_may(kind: str) -> None:
    """A shutdown by another thread takes a start over, and reports the component that hangs in it as stuck."""
    gate, inside = Gate(), Gate()
    log: list[str] = []

    def hang() -> float:
        inside.open()
        gate.pass_through()
        return 60.0

    lc = Lifecycle(start_timeout=math.inf)
    lc.add(Part("up", log), phase=Phase.BACKGROUND)
    lc.callback(log.append, "close")
    if kind == "own":
        lc.every(hang, name="hanging")(print)
    else:
        part = Part("hanging")
        part.start = hang
        lc.add(part)
    lc.add(Part("never", log), phase=Phase.INTAKE)
    starting = Background(lc.start)
    inside.pass_through()
    report = lc.shutdown(timeout=0.05)
    assert {part.name: part.outcome for part in report.components} == {"hanging": "stuck", "up": "stopped"}
    assert "gate.pass_through()" in "".join(report.stuck[0].stacks.values())
    assert len(report.resources_left_open) == 1
    gate.open()
    starting.result()
    assert (log, lc.state) == (["start up", "stop up"], ComponentState.STOPPED)
    with pytest.raises(Closed):
        lc.start()


def test_a_start_that_fails_under_a_shutdown_raises_when_that_has_ended() -> None:
    """Where another thread shuts down what is starting, the start still raises its error, and settles nothing."""
    inside, gate = Gate(), Gate()

    def fail() -> None:
        inside.open()
        gate.pass_through()
        raise OSError("port in use")

    lc = Lifecycle()
    part = lc.add(Part("bad"))
    part.start = fail
    starting = Background(lc.start)
    inside.pass_through()
    stopping = Background(lc.shutdown)
    assert lc.wait(5)
    gate.open()
    with pytest.raises(OSError, match="port in use"):
        starting.result()
    assert stopping.result() is lc.report
    assert lc.state is ComponentState.STOPPED


def test_stop_works_from_inside() -> None:
    """A thread of the lifecycle may stop the whole, and is told plainly that it cannot wait for that."""
    seen: list[BaseException] = []
    lc = Lifecycle()

    @lc.thread
    def worker(running: StopToken) -> None:
        try:
            lc.shutdown()
        except WouldBlock as error:
            seen.append(error)
        lc.stop("from inside")
        running.wait()

    with lc:
        assert lc.wait(5)
    assert lc.report.ok
    assert lc.report.reason == "from inside"
    assert "shutdown() would block a thread of lifecycle 'app'" in str(seen[0])


def test_shutdown_waits_for_one_that_is_going_on() -> None:
    """Two shutdowns at once are one, and both return its report."""
    gate = Gate()
    lc = Lifecycle()
    lc.callback(gate.pass_through)
    lc.start()
    first, second = Background(lc.shutdown), Background(lc.shutdown)
    gate.open()
    assert first.result() is second.result()


def test_wait_returns_when_a_stop_is_asked_for() -> None:
    """wait() tells whether a stop has been asked for in time."""
    clock = VirtualClock()
    with Lifecycle(clock=clock) as lc:
        waiting = Background(lambda: lc.wait(3))
        clock.wait_for_sleepers(1)
        clock.advance(3)
        assert waiting.result() is False
        lc.stop()
        assert lc.wait(3) is True


# --- failure -------------------------------------------------------------------------------------------------------


def test_a_dead_component_stops_the_whole() -> None:
    """When a component dies the lifecycle stops, and the with block raises an ExceptionGroup."""
    with pytest.raises(ExceptionGroup, match="lifecycle 'app' failed") as caught, Lifecycle("app") as lc:
        lc.add(failing("broken"))
        assert lc.wait(5)
    assert [str(error) for error in caught.value.exceptions] == ["broken"]
    assert lc.report.reason == "component 'broken' failed: ValueError: broken"
    assert lc.report.exit_code == 1
    assert lc.state is ComponentState.FAILED
    assert lc.health().status is Status.FAILED


def test_several_failures_come_together() -> None:
    """Everything that failed is in the group, what the body raised first."""
    with pytest.raises(ExceptionGroup) as caught, Lifecycle("app") as lc:
        lc.callback(int, "x")
        lc.add(failing("broken"))
        assert lc.wait(5)
        raise KeyError("body")
    assert [type(error) for error in caught.value.exceptions] == [KeyError, ValueError, ValueError]


def test_a_body_that_alone_raises_propagates_as_it_is() -> None:
    """An error of the body alone comes out as it went in, and is the reason of the stop."""
    with pytest.raises(KeyError), Lifecycle() as lc:
        raise KeyError("body")
    assert lc.report.reason == "KeyError: 'body'"
    assert lc.report.ok


def test_ctrl_c_in_the_body_stays_ctrl_c() -> None:
    """A KeyboardInterrupt of the body is not hidden in a group; what failed beside it becomes a note."""
    with pytest.raises(KeyboardInterrupt) as caught, Lifecycle("app") as lc:
        lc.add(failing("broken"))
        assert lc.wait(5)
        raise KeyboardInterrupt
    assert caught.value.__notes__ == ["lifecycle 'app' also failed: ValueError: broken"]


def test_failures_can_be_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    """With on_failure="log" the death of a component stops nothing and raises nothing, but is seen."""
    with caplog.at_level(logging.ERROR, "threadkit"), Lifecycle(on_failure="log") as lc:
        thread = lc.add(failing("broken"))
        assert thread.join(5)
        assert not lc.wait(0)
        assert lc.health().parts["broken"].status is Status.FAILED
    assert "'broken' failed: ValueError: broken" in caplog.text
    report = lc.report
    assert [part.outcome for part in report.components] == ["failed"]
    assert (report.ok, report.exit_code, [str(error) for error in report.errors]) == (False, 1, ["broken"])


class BadEnd(Part):
    """A component whose stop() and close() raise."""

    def stop(self, reason: str | None = None) -> None:
        raise ValueError("bad stop")

    def close(self) -> None:
        raise OSError("bad close")


def test_what_an_end_raises_is_a_failure_of_the_whole() -> None:
    """What a component's stop() raises is raised and reported as what a resource raises; its close() adds a note."""
    with pytest.raises(ExceptionGroup) as caught, Lifecycle("app") as lc:
        lc.callback(int, "x")
        lc.add(BadEnd("bad"))
    stop, close = caught.value.exceptions
    assert (str(stop), type(close)) == ("bad stop", ValueError)
    assert stop.__notes__ == ["the close() of component 'bad' failed, too: OSError: bad close"]
    assert lc.report.errors == (stop, close)
    assert (lc.report.ok, lc.report.exit_code, lc.state) == (False, 1, ComponentState.FAILED)
    assert "app did not stop well" in str(lc.report)


def test_what_an_end_raises_can_be_only_logged() -> None:
    """With on_failure="log" what a component's end raises is in the report and its exit code, and not raised."""
    lc = Lifecycle(on_failure="log")
    lc.add(BadEnd("bad"))
    lc.call_later(0, lc.stop, "done")
    assert lc.run_forever() == 1
    assert [str(error) for error in lc.report.errors] == ["bad stop"]
    assert (lc.report.ok, lc.state) == (False, ComponentState.STOPPED)


def test_stuck_components_leave_resources_open(caplog: pytest.LogCaptureFixture) -> None:
    """Under a stuck component resources stay open and are named; the report shows where it is stuck."""
    gate = Gate()
    closed: list[str] = []

    def stuck(running: StopToken) -> None:
        gate.pass_through()

    with Lifecycle(stop_timeout=0.05) as lc:
        lc.callback(closed.append, "closed")
        lc.thread(stuck)
    report = lc.report
    gate.open()
    assert closed == []
    assert report.resources_left_open == ("append('closed')",)
    assert not report.ok
    assert report.exit_code == 1
    text = str(report)
    assert "stuck: stuck after" in text
    assert "left open: append('closed')" in text
    assert "gate.pass_through()" in text
    assert report.as_dict()["components"][0]["outcome"] == "stuck"
    assert "'stuck' did not stop within" in caplog.text


def test_resources_are_entered_at_once_and_left_at_the_end() -> None:
    """enter_context() returns what the context manager gives, which stays open as long as components run."""
    log: list[str] = []

    @contextlib.contextmanager
    def opened(name: str) -> Iterator[str]:
        log.append(f"open {name}")
        yield name
        log.append(f"close {name}")

    with Lifecycle() as lc:
        assert lc.enter_context(opened("db")) == "db"
        lc.add(Part("part", log))
    assert log == ["open db", "start part", "stop part", "close db"]


def test_force_close_closes_under_the_stuck() -> None:
    """With force_close=True resources close even where a component is stuck."""
    closed: list[str] = []
    lc = Lifecycle(stop_timeout=0.01, force_close=True)
    lc.callback(closed.append, "closed")
    lc.add(Part("stuck")).ends = False
    with lc:
        pass
    assert closed == ["closed"]
    assert lc.report.stuck


# --- adding and finding --------------------------------------------------------------------------------------------


def test_what_is_added_while_running_starts_at_once() -> None:
    """A component that is added to a running lifecycle is up when add() returns; what it requires must be there."""
    log: list[str] = []
    with Lifecycle() as lc:
        part = lc.add(Part("late", log))
        assert log == ["start late"]
        assert lc["late"] is part
        with pytest.raises(UnknownComponent):
            lc.add(Part("later"), requires=["ghost"])
        assert len(lc) == 1


def test_what_is_added_while_others_start_is_one_of_them() -> None:
    """A component that is added during the start comes up with the others, by phase, and after what it requires."""
    log: list[str] = []
    inside, gate = Gate(), Gate()
    lc = Lifecycle()
    slow = lc.add(Part("slow", log), phase=Phase.ENGINES)
    slow.start = lambda: (inside.open(), gate.pass_through(), log.append("start slow"))
    lc.add(Part("db", log), phase=Phase.WORK)
    starting = Background(lc.start)
    inside.pass_through()
    lc.add(Part("reader", log), phase=Phase.INTAKE)
    lc.add(Part("user", log), phase=Phase.BACKGROUND, requires=["db"])
    lc.add(Part("removed", log))
    assert lc.remove("removed")
    with pytest.raises(UnknownComponent):
        lc.add(Part("later"), requires=["ghost"])
    assert lc.every(60, name="task")(print) is print
    gate.open()
    starting.result()
    assert log == ["start slow", "start db", "start user", "start reader"]
    assert lc["task"].state is ComponentState.RUNNING
    assert lc.shutdown().ok


def test_what_a_start_adds_is_not_waited_for() -> None:
    """A component whose start() adds another does not wait for that, which is up when the start of all returns."""
    log: list[str] = []
    lc = Lifecycle()
    lc.add(Part("first")).start = lambda: lc.add(Part("second", log)).name
    with lc:
        assert log == ["start second"]


def test_what_is_being_removed_cannot_be_required() -> None:
    """A component that is added while what it requires is removed is refused, and not left without that."""
    inside, gate = Gate(), Gate()
    with Lifecycle() as lc:
        database = lc.add(Part("db"))
        database.join = lambda timeout=None: (inside.open(), gate.pass_through()) and True
        removing = Background(lambda: lc.remove("db"))
        inside.pass_through()
        with pytest.raises(ValueError, match="'user' cannot require 'db', which is being removed"):
            lc.add(Part("user"), requires=["db"])
        gate.open()
        assert removing.result()
        with pytest.raises(UnknownComponent):
            lc.add(Part("user"), requires=["db"])


def test_what_is_added_while_a_shutdown_begins_is_stopped() -> None:
    """A component that is registered, but not up yet, when a shutdown begins comes up and is stopped by it."""
    log: list[str] = []
    lc = Lifecycle()
    lc.start()
    part = Part("late", log)
    stopping: list[Background[ShutdownReport]] = []

    def observe(callback: object) -> None:  # called by add(), between registering and starting
        stopping.append(Background(lc.shutdown))
        assert lc.wait(5)

    part.observe = observe
    lc.add(part)
    assert stopping[0].result().ok
    assert log == ["start late", "stop late"]


def test_added_while_running_and_failing_to_start_leaves_nothing() -> None:
    """A component that cannot start is not kept, and the lifecycle goes on."""

    def fail() -> None:
        raise OSError("no")

    with Lifecycle() as lc:
        part = Part("bad")
        part.start = fail
        with pytest.raises(OSError, match="no"):
            lc.add(part)
        assert "bad" not in lc
        assert not lc.wait(0)


def test_removing() -> None:
    """A removed component is stopped and forgotten, unless others require it or it does not end."""
    log: list[str] = []
    with Lifecycle(stop_timeout=0.05) as lc:
        lc.add(Part("db", log))
        lc.add(Part("web", log), requires=["db"])
        with pytest.raises(ValueError, match="'db' is required by 'web': remove them first"):
            lc.remove("db")
        assert lc.remove("web")
        stuck = lc.add(Part("stuck", log))
        stuck.ends = False
        assert not lc.remove("stuck")
        assert [component.name for component in lc] == ["db", "stuck"]
        stuck.ends = True
        with pytest.raises(UnknownComponent):
            lc.remove("web")
    assert log[:3] == ["start db", "start web", "stop web"]


def test_removing_before_the_start_forgets() -> None:
    """Before the start a component can be taken out again, and is never started."""
    log: list[str] = []
    lc = Lifecycle()
    lc.add(Part("one", log))
    assert lc.remove("one")
    with lc:
        assert (len(lc), log) == (0, [])


def test_removing_what_is_coming_up_stops_it() -> None:
    """A component that is removed while it starts is waited for, stopped and forgotten."""
    log: list[str] = []
    inside, gate = Gate(), Gate()

    class Slow(Part):
        def start(self) -> None:
            inside.open()
            gate.pass_through()
            super().start()

    with Lifecycle() as lc:
        adding = Background(lambda: lc.add(Slow("slow", log)))
        inside.pass_through()
        removing = Background(lambda: lc.remove("slow"))
        gate.open()
        assert removing.result()
        adding.result()
        assert len(lc) == 0
    assert log == ["start slow", "stop slow"]


def test_finding() -> None:
    """Components are found by name, typed if wanted, and iterated in the order of their start."""
    lc = Lifecycle()
    thread = lc.add(ManagedThread(wait_for_stop))
    queue = lc.queue()
    assert lc.get("jobs", WorkQueue) is queue
    with pytest.raises(TypeError, match="component 'jobs' is a WorkQueue, not a Bus"):
        lc.get("jobs", Bus)
    assert list(lc) == [queue, thread]
    assert "jobs" in lc
    assert "ghost" not in lc
    assert 3 not in lc
    with pytest.raises(UnknownComponent, match="no component is called 'ghost'; known are 'wait_for_stop', 'jobs'"):
        lc["ghost"]
    assert repr(lc) == "<Lifecycle 'app' new, 2 components>"


# --- makers and decorators -----------------------------------------------------------------------------------------


def test_decorators_return_the_function_and_add_a_component() -> None:
    """The decorators leave the function as it is and register a component under its name, or the one given."""
    lc = Lifecycle()
    assert lc.thread(wait_for_stop) is wait_for_stop
    assert lc.thread("named", restart="always", phase=5)(wait_for_stop) is wait_for_stop
    assert lc.every("5m", jitter=1)(print) is print
    assert [component.name for component in lc] == ["wait_for_stop", "print", "named"]
    assert lc.get("print", IntervalTask).interval == 300.0


def test_repeated_names_get_a_number_and_given_ones_are_refused() -> None:
    """A default name that is taken gets a number; one that was given is refused, and nothing is added."""
    lc = Lifecycle()
    for _ in range(3):
        lc.thread(wait_for_stop)
    assert [component.name for component in lc] == ["wait_for_stop", "wait_for_stop-2", "wait_for_stop-3"]
    with pytest.raises(DuplicateName, match="'wait_for_stop'"):
        lc.thread("wait_for_stop")(wait_for_stop)
    with pytest.raises(DuplicateName):
        lc.every(1, name="wait_for_stop")(wait_for_stop)
    assert len(lc) == 3


def test_a_default_name_that_another_thread_takes_meanwhile_gets_a_number() -> None:
    """Between the choice of a default name and its use it may be taken, which is nobody's error."""

    class Crowded(Lifecycle):
        def _free_name(self, wish: str) -> str:
            free = super()._free_name(wish)
            if not len(self):
                self.add(Part(free))  # another thread, which is quicker
            return free

    lc = Crowded()
    lc.thread(wait_for_stop)
    assert [component.name for component in lc] == ["wait_for_stop", "wait_for_stop-2"]


def test_a_body_that_raises_a_duplicate_name_is_started_once() -> None:
    """An error of that type that is not about the name is raised, and nothing is tried again."""
    calls = []

    def body(running: StopToken) -> None:
        calls.append(1)
        raise DuplicateName("row", "7")

    with Lifecycle() as lc, pytest.raises(DuplicateName, match="7"):
        lc.thread(ready=True)(body)
    assert calls == [1]


def test_makers_make_and_add() -> None:
    """The makers return components of the lifecycle, started if it runs, on its clock."""
    clock = VirtualClock()
    with Lifecycle(clock=clock) as lc:
        made = [lc.queue(workers=1), lc.executor(max_workers=1), lc.bus(), lc.loop()]
        assert [type(part).__name__ for part in made] == ["WorkQueue", "BoundedExecutor", "Bus", "EventLoopThread"]
        assert {part.state for part in made} == {ComponentState.RUNNING}
        assert made[1].submit(pow, 2, 3).result() == 8
        assert isinstance(lc["executor"], BoundedExecutor)
        assert {"jobs", "executor", "bus"} <= lc.stats().keys()


@pytest.mark.parametrize(
    ("options", "component", "given"),
    [
        (_makers.ThreadOptions, ManagedThread, {"target", "name"}),
        (_makers.ThreadGroupOptions, ThreadGroup, {"name", "strategy"}),
        (_makers.TaskOptions, IntervalTask, {"func", "every", "name"}),
        (_makers.QueueOptions, WorkQueue, {"name"}),
        (_makers.ExecutorOptions, BoundedExecutor, {"name"}),
        (_makers.BusOptions, Bus, {"name"}),
    ],
)
def test_makers_take_what_components_take(options: type, component: type, given: set[str]) -> None:
    """The keywords of a maker are those of the component that it makes, and those of add()."""
    own = set(inspect.signature(component).parameters) - given
    placement = set(inspect.signature(Lifecycle.add).parameters) - {"self", "component"}
    assert set(options.__annotations__) == own | placement


def test_tasks_share_one_scheduler_on_the_lifecycle_clock() -> None:
    """Tasks of a lifecycle run on its clock, and a hundred of them on one scheduler thread."""
    clock = VirtualClock()
    runs: list[int] = []
    with Lifecycle(clock=clock) as lc:
        for number in range(100):
            lc.every(60, name=f"task {number}")(lambda: runs.append(1))
        clock.advance(600)
        assert len(runs) == 1000
        names = [thread.name for thread in threading.enumerate() if "scheduler" in thread.name]
        assert len([name for name in names if "timer" in name or name.endswith("scheduler")]) <= 1, names


def test_call_later_and_call_at() -> None:
    """A call that is put off is made once, with its arguments, and leaves the lifecycle then."""
    clock = VirtualClock()
    calls: list[tuple[object, ...]] = []

    def call(*args: object, **kwargs: object) -> None:
        calls.append((clock.monotonic(), args, kwargs))

    with Lifecycle(clock=clock) as lc:
        lc.call_later(30, call, 1, key=2)
        lc.call_at(clock.now() + timedelta(seconds=90), call, 3)
        cancelled = lc.call_later(timedelta(minutes=2), call)
        assert [component.name for component in lc] == ["call", "call-2", "call-3"]
        clock.advance(60)
        assert [component.name for component in lc] == ["call-2", "call-3"]
        cancelled.cancel()
        assert cancelled.join(5)  # its end comes by the stopper thread, which no clock drives
        clock.advance(600)
        assert len(lc) == 0
    assert calls == [(30.0, (1,), {"key": 2}), (90.0, (3,), {})]


def test_call_that_was_never_made_is_in_the_report() -> None:
    """A call that a shutdown overtakes is not made, and stays in the lifecycle for the report."""
    with Lifecycle() as lc:
        lc.call_later(1000, print, "never")
    assert [part.name for part in lc.report.components] == ["print"]
    assert len(lc) == 1


def test_call_later_before_the_start_counts_from_the_start() -> None:
    """A call that is put off before the start is due so many seconds after the start."""
    clock = VirtualClock()
    calls: list[float] = []
    lc = Lifecycle(clock=clock)
    lc.call_later(30, lambda: calls.append(clock.monotonic()))
    clock.advance(100)
    with lc:
        clock.advance(30)
    assert calls == [130.0]


@pytest.mark.parametrize("seconds", [-1, float("nan"), True, None])
def test_call_later_refuses_what_is_no_delay(seconds: float) -> None:
    """A bad delay, and what cannot be called, are refused; nothing is registered."""
    lc = Lifecycle()
    with pytest.raises((TypeError, ValueError)):
        lc.call_later(seconds, print)
    with pytest.raises(TypeError, match="func must be callable"):
        lc.call_later(1, None)
    with pytest.raises(ValueError, match="must have a time zone"):
        lc.call_at(datetime(2026, 1, 1), print)  # noqa: DTZ001 - it is what is tested
    with pytest.raises(TypeError, match="func must be callable"):
        lc.call_at(datetime(2026, 1, 1, tzinfo=UTC), None)
    assert len(lc) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": ""}, "name must not be empty"),
        ({"stop_timeout": -1}, "stop_timeout must not be negative"),
        ({"stop_timeout": float("inf")}, "stop_timeout must be finite"),
        ({"stop_timeout": None}, "stop_timeout must be a number of seconds"),
        ({"start_timeout": float("nan")}, "start_timeout must not be negative or nan"),
        ({"on_failure": "ignore"}, "on_failure must be one of 'stop', 'log'"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    """A bad option is refused by an error that names the parameter and the value."""
    with pytest.raises((TypeError, ValueError), match=message):
        Lifecycle(**options)


# --- looking in ----------------------------------------------------------------------------------------------------


def test_events_of_all_components_reach_one_observer() -> None:
    """Who observes the lifecycle hears of it and of all its components."""
    seen: list[events.Event] = []
    with Lifecycle("app") as lc:
        lc.observe(seen.append)
        lc.thread(wait_for_stop)
    assert [(type(event).__name__, event.component) for event in seen] == [
        ("Started", "wait_for_stop"),
        ("StopRequested", "app"),
        ("Stopped", "wait_for_stop"),
        ("ShutdownFinished", "app"),
    ]


def test_health_is_that_of_the_worst_part() -> None:
    """The health of the whole names the parts that are unwell; checks and errors in them count."""

    def broken() -> bool:
        raise OSError("no disk")

    lc = Lifecycle()
    assert lc.health().status is Status.STARTING
    with lc:
        lc.add(Part("fine"))
        assert lc.health().status is Status.READY
        lc.add(Part("checked"), check=lambda: False)
        lc.add(Part("broken"), check=broken)
        lc.add(Part("own")).health = lambda: Health(Status.READY)
        assert str(lc.health()) == "degraded: checked (its check says no), broken (OSError: no disk)"
        assert lc.health().is_ready
        lc.stop("enough")
        assert str(lc.health()) == "stopping: enough"
    assert lc.health().status is Status.STOPPING


def test_health_of_components_without_a_word_of_their_own() -> None:
    """A component that says nothing of its health is judged by whether it is up, told or dead."""
    lc = Lifecycle(on_failure="log")
    part = lc.add(Part("mute"))
    with lc:
        assert lc.health().parts["mute"].status is Status.READY
        part.failed(OSError("gone"))
        assert str(lc.health().parts["mute"]) == "failed: OSError: gone"
    part.health = lambda: True
    assert lc.health().parts["mute"].status is Status.READY


# --- hosts ---------------------------------------------------------------------------------------------------------


def test_run_forever_returns_zero_after_a_stop() -> None:
    """run_forever() starts, waits for a stop, shuts down and returns 0."""
    log: list[str] = []
    lc = Lifecycle()
    part = lc.add(Part("one", log))
    lc.call_later(0, lc.stop, "done")
    assert lc.run_forever() == 0
    assert log == ["start one", "stop one"]
    assert part.ends


def test_run_forever_tells_of_who_is_stuck() -> None:
    """Where a component is stuck run_forever() returns 1, as the report does, though no signal came."""
    lc = Lifecycle(stop_timeout=0)
    lc.add(Part("stuck")).ends = False
    lc.call_later(0, lc.stop, "done")
    assert lc.run_forever() == lc.report.exit_code == 1
    assert [part.name for part in lc.report.stuck] == ["stuck"]


def test_run_forever_returns_the_code_of_the_signal() -> None:
    """A signal ends run_forever() with 128 + n, and the handlers are given back."""
    before = signal.getsignal(signal.SIGTERM)
    lc = Lifecycle()
    lc.call_later(0, os.kill, os.getpid(), signal.SIGTERM)
    with lc:
        # The signal may come before run_forever() is there to take it, so it is raised by a task that waits for it.
        assert lc.run_forever() == 128 + signal.SIGTERM
    assert lc.report.reason == "signal SIGTERM"
    assert lc.report.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) == before


def test_run_forever_raises_failures_once() -> None:
    """run_forever() raises what components died of, and the with block around it does not wrap that again."""
    with pytest.raises(ExceptionGroup) as caught, Lifecycle() as lc:
        lc.add(failing("broken"))
        lc.run_forever()
    assert [str(error) for error in caught.value.exceptions] == ["broken"]


def test_run_forever_outside_the_main_thread_takes_no_signals() -> None:
    """In another thread run_forever() works, and leaves the signals alone."""
    lc = Lifecycle()
    lc.call_later(0, lc.stop)
    before = signal.getsignal(signal.SIGTERM)
    assert Background(lc.run_forever).result() == 0
    assert signal.getsignal(signal.SIGTERM) == before


def test_in_a_forked_child_a_lifecycle_tells_and_forgets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in the parent's lifecycle is neither told nor removed in a child, nor is a name for more looked for."""
    with Lifecycle("app") as lc:
        lc.thread("body")(wait_for_stop)
        uses: dict[str, Callable[[], object]] = {
            "remove": lambda: lc.remove("body"),
            "getitem": lambda: lc["body"],
            "get": lambda: lc.get("body", ManagedThread),
            "contains": lambda: "body" in lc,
            "iter": lambda: list(lc),
            "len": lambda: len(lc),
            "stats": lc.stats,
            "health": lc.health,
            "wait": lambda: lc.wait(0),
            "report": lambda: lc.report,
            "thread": lambda: lc.thread(wait_for_stop),
        }
        told = []
        with monkeypatch.context() as child, lc._registry._condition:
            # Held as by another thread of the parent at the fork: who waited for it here would be heard of.
            child.setattr(_fork, "_generation", _fork.generation() + 1)
            for name, use in uses.items():
                with contextlib.suppress(ForkedError):
                    Background(use).result()
                    told.append(name)
            assert repr(lc) == "<Lifecycle 'app' of the parent process, 1 components>"
        assert told == []
        assert "body" in lc
    assert lc.report.ok


def test_signals_from_start_on() -> None:
    """With signals=True the signals are taken at start(); outside the main thread that is refused."""
    with Lifecycle(signals=True) as lc:
        signal.raise_signal(signal.SIGTERM)
        assert lc.wait(5)
    assert lc.report.signal == signal.SIGTERM
    other = Lifecycle(signals=True)
    with pytest.raises(RuntimeError, match="from the main thread only"):
        Background(other.start).result()
    assert other.state is ComponentState.NEW


def test_signals_are_given_back_whoever_shuts_down() -> None:
    """Where another thread has shut down, the next step of the main thread gives the signals back."""
    before = signal.getsignal(signal.SIGTERM)
    lc = Lifecycle(signals=True)
    lc.start()
    report = Background(lc.shutdown).result()
    assert signal.getsignal(signal.SIGTERM) != before
    assert lc.shutdown() is report
    assert signal.getsignal(signal.SIGTERM) == before


def test_signals_of_a_former_lifecycle_are_not_those_of_the_next() -> None:
    """A lifecycle that another thread has shut down leaves no handler under that of the next one."""
    before = signal.getsignal(signal.SIGTERM)
    former = Lifecycle("former", signals=True)
    former.start()
    Background(former.shutdown).result()
    with Lifecycle("next", signals=True) as lc:
        signal.raise_signal(signal.SIGTERM)
        assert lc.wait(5)
    assert signal.getsignal(signal.SIGTERM) == before
    assert former.report.signal is None


def test_second_signal_cuts_the_shutdown_short() -> None:
    """A second signal ends the waiting; who has not stopped by then is reported as stuck."""
    lc = Lifecycle(signals=True, stop_timeout=60)
    stuck = lc.add(Part("stuck"))

    def join(timeout: float | None = None) -> bool:
        if timeout:
            signal.raise_signal(signal.SIGINT)
        return False

    stuck.join = join
    lc.start()
    signal.raise_signal(signal.SIGTERM)
    report = lc.shutdown()
    assert report.forced
    assert [part.outcome for part in report.components] == ["stuck"]
    assert report.exit_code == 143


def test_async_with_never_blocks_the_loop() -> None:
    """While an async with block starts and stops components, the loop goes on."""
    gate = Gate()

    async def main() -> list[str]:
        log: list[str] = []
        lc = Lifecycle()
        part = lc.add(Part("slow", log))
        part.join = lambda timeout=None: gate.pass_through() or True

        loop = asyncio.get_running_loop()
        told = asyncio.Event()
        part.stop = lambda reason=None: loop.call_soon_threadsafe(told.set)

        async def opener() -> None:
            await told.wait()
            log.append("the loop runs")
            gate.open()

        async with lc:
            task = asyncio.create_task(opener())
        await task
        return log

    assert asyncio.run(main()) == ["start slow", "the loop runs"]


def test_async_with_raises_what_starting_raised() -> None:
    """An error of a start comes out of async with, in the awaiting task."""

    async def main() -> None:
        lc = Lifecycle()
        part = lc.add(Part("bad"))
        part.start = lambda: 1 / 0
        async with lc:
            pass

    with pytest.raises(ZeroDivisionError):
        asyncio.run(main())


def test_cancelled_while_starting_leaves_no_trace() -> None:
    """A task that is cancelled while its lifecycle starts is cancelled when all that has been started is stopped."""
    inside, gate = Gate(), Gate()
    log: list[str] = []
    lc = Lifecycle()
    part = lc.add(Part("slow", log))
    part.start = lambda: (inside.open(), gate.pass_through())
    lc.add(Part("never", log))

    async def use() -> None:
        async with lc:
            log.append("inside")

    async def main() -> None:
        task = asyncio.create_task(use())
        await asyncio.to_thread(inside.pass_through)
        task.cancel()
        assert await asyncio.to_thread(lc.wait, 5)
        gate.open()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert (log, lc.state) == (["stop slow"], ComponentState.STOPPED)
    assert lc.report.reason == "cancelled while it started"


def test_cancelled_twice_while_starting_is_stopped_by_its_thread(caplog: pytest.LogCaptureFixture) -> None:
    """Cancelled again while it waits for the end, a task goes at once; the end comes, and what fails then is logged."""
    inside, gate = Gate(), Gate()
    lc = Lifecycle()
    part = lc.add(Part("slow"))
    part.start = lambda: (inside.open(), gate.pass_through(), 1 / 0)

    async def main() -> None:
        task = asyncio.create_task(lc.__aenter__())
        await asyncio.to_thread(inside.pass_through)
        task.cancel()
        assert await asyncio.to_thread(lc.wait, 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    helpers = [thread for thread in threading.enumerate() if thread.name in {"app-start", "app-stop"}]
    gate.open()
    for thread in helpers:
        thread.join(5)
    assert len(helpers) == 2
    assert lc.report.reason == "cancelled while it started"
    assert "app-start failed, and nobody waits for it any more" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_lifespan_of_an_application() -> None:
    """As a lifespan it runs as long as the application, and hands itself to the requests."""

    async def main() -> ComponentState:
        lc = Lifecycle()
        async with lc.lifespan(object()) as state:
            assert state == {"lifecycle": lc}
            assert lc.state is ComponentState.RUNNING
        return lc.state

    assert asyncio.run(main()) is ComponentState.STOPPED


def test_exit_shuts_down_within_what_is_left(caplog: pytest.LogCaptureFixture) -> None:
    """At interpreter exit a lifecycle is shut down, and says who is stuck."""
    lc = Lifecycle("app", stop_timeout=0.01)
    lc.add(Part("stuck")).ends = False
    lc.start()
    lc.begin_exit()
    assert lc.finish_exit(lc._clock.monotonic() + 5) == ["'stuck' of lifecycle 'app'"]
    assert lc.report.reason == "the interpreter exits"


@pytest.fixture
def running() -> Iterator[Lifecycle]:
    with Lifecycle() as lc:
        yield lc


def test_queue_executor_and_bus_work_together(running: Lifecycle) -> None:
    """A queue may run on the lifecycle's executor and publish on its bus."""
    bus = running.bus()
    heard: list[object] = []
    bus.on("done")(lambda message: heard.append(message.payload))
    jobs = running.queue(executor=running.executor(max_workers=1), requires=["executor", bus])

    @jobs.handler
    def double(payload: int) -> int:
        bus.publish("done", payload)
        return 2 * payload

    assert jobs.submit(double, 21).result(timeout=5) == 42
    assert heard == [21]


class Struck(Part):
    """A component whose join() is struck by so many interrupts."""

    strikes = 0

    def join(self, timeout: float | None = None) -> bool:
        if self.strikes:
            self.strikes -= 1
            raise KeyboardInterrupt
        self.log.append(f"join {self.name}")
        return True

    def close(self) -> None:
        self.log.append(f"close {self.name}")


def test_an_interrupted_shutdown_is_taken_up_again() -> None:
    """Ctrl-C gets out of a shutdown; the next one, as that at exit, goes on, and tells and closes nobody twice."""
    log: list[str] = []
    lc = Lifecycle()
    lc.add(Struck("source", log), phase=Phase.INTAKE)
    lc.add(Struck("sink", log), phase=Phase.WORK).strikes = 1
    lc.callback(log.append, "resource")
    lc.start()
    log.clear()
    with pytest.raises(KeyboardInterrupt):
        lc.shutdown()
    assert lc.report is None
    assert log == ["stop source", "join source", "close source", "stop sink"]
    log.clear()
    report = Background(lc.shutdown).result()
    assert report.ok
    assert [part.name for part in report.components] == ["source", "sink"]
    assert log == ["join source", "join sink", "close sink", "resource"]
    assert lc.shutdown() is report


def test_who_waits_for_an_interrupted_shutdown_takes_it_over() -> None:
    """A shutdown that waits for another one goes on in its place when that is interrupted."""
    inside, gate = Gate(), Gate()
    lc = Lifecycle()

    def close() -> None:
        inside.open()
        gate.pass_through()
        raise KeyboardInterrupt

    lc.callback(gate.open)
    lc.callback(close)
    lc.start()
    first = Background(lc.shutdown)
    inside.pass_through()
    second = Background(lc.shutdown)
    gate.open()
    with pytest.raises(KeyboardInterrupt):
        first.result()
    assert second.result().ok


def test_components_of_the_users_own_may_stop_all() -> None:
    """A class with an attribute ``stop_all`` is given a function that stops the lifecycle; a method stays as it is."""

    class Asks(Part):
        stop_all = None

    class HasItsOwn(Part):
        def stop_all(self) -> str:
            return "its own"

    with Lifecycle() as lc:
        asks, other = lc.add(Asks("asks")), lc.add(HasItsOwn("other"))
        assert other.stop_all() == "its own"
        assert not lc.token.is_set()
        asks.stop_all("asks wants it")
        assert lc.wait(5)
    assert lc.token.reason == "asks wants it"
    assert lc.report.ok


def test_an_interrupt_of_who_waits_leaves_the_shutdown_alone() -> None:
    """Ctrl-C in a thread that waits for another's shutdown ends that wait, and the shutdown goes on."""

    class Clock(SystemClock):
        def park(self, gate: object, deadline: float | None) -> bool:
            if threading.current_thread() is impatient:
                raise KeyboardInterrupt
            return super().park(gate, deadline)

    gate, inside = Gate(), Gate()
    lc = Lifecycle(clock=Clock())
    impatient: threading.Thread | None = None

    @lc.thread
    def slow(running: StopToken) -> None:
        running.wait()
        inside.open()
        gate.pass_through()

    lc.start()
    shutdown = Background(lc.shutdown)
    inside.pass_through()
    impatient = threading.current_thread()
    with pytest.raises(KeyboardInterrupt):
        lc.shutdown()
    gate.open()
    assert shutdown.result().ok


def test_a_component_that_raises_whatever_it_is_asked(quiet: None) -> None:
    """A component of a user's that raises in each of its methods is stopped with the others, and told as failed."""

    class Bad:
        name = "bad"

        def start(self) -> None: ...
        def stop(self, reason: str | None = None) -> None:
            raise LookupError("stop")

        def join(self, timeout: float | None = None) -> bool:
            raise LookupError("join")

        def raises(self) -> NoReturn:
            raise LookupError("asked")

        close = work_left = threads = stats = health = raises

    lc = Lifecycle()
    lc.add(Bad(), check=lambda: 1 / 0)
    lc.thread("good")(lambda running: running.wait())
    lc.start()
    assert lc.stats().keys() == {"good"}
    assert lc.health().parts["bad"].status is Status.DEGRADED
    report = lc.shutdown()
    assert {part.name: part.outcome for part in report.components} == {"good": "stopped", "bad": "failed"}


def test_a_component_that_cannot_be_added_leaves_nothing(running: Lifecycle) -> None:
    """A component whose own property raises while it is added is not in the lifecycle, and holds nothing up."""

    class Bad:
        name = "bad"

        def start(self) -> None: ...
        def stop(self, reason: str | None = None) -> None: ...
        def join(self, timeout: float | None = None) -> bool:
            return True

        @property
        def failed(self) -> None: ...

        @failed.setter
        def failed(self, _: object) -> NoReturn:
            raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        running.add(Bad())
    assert "bad" not in running


def test_a_stop_that_overtakes_the_start_of_run_forever() -> None:
    """A stop that comes just before run_forever() starts anything is obeyed; a component that is closed is an error."""

    class Overtaken(Lifecycle):
        def start(self) -> None:
            self.stop("a moment before")
            super().start()

    lc = Overtaken()
    part = lc.add(Part("part"))
    assert lc.run_forever() == 0
    assert (part.log, lc.report.reason) == ([], "a moment before")

    class Shut(Part):
        def start(self) -> None:
            raise Closed("part", self.name)

    lc = Lifecycle()
    lc.add(Shut("part"))
    with pytest.raises(Closed, match="part"):
        lc.run_forever()


def test_who_is_interrupted_while_it_is_told_is_told_again() -> None:
    """A Ctrl-C that strikes while a component is told to stop leaves it to be told by the shutdown that goes on."""

    class Struck(Part):
        is_struck = True

        def stop(self, reason: str | None = None) -> None:
            if self.is_struck:
                self.is_struck = False
                raise KeyboardInterrupt
            super().stop(reason)

    lc = Lifecycle()
    part = lc.add(Struck("part"))
    lc.start()
    with pytest.raises(KeyboardInterrupt):
        lc.shutdown()
    assert lc.shutdown().ok
    assert part.log[:2] == ["start part", "stop part"]


@pytest.mark.parametrize("kind", ["own", "foreign"])
def test_what_runs_is_not_taken_into_another_lifecycle(kind: str) -> None:
    """A component is in one lifecycle while it runs: another refuses it, when it is added and when it is started."""
    one, other, third = Lifecycle("one"), Lifecycle("other"), Lifecycle("third")
    part = Part("part") if kind == "foreign" else ManagedThread(wait_for_stop, name="part")
    with one:
        other.add(part)
        one.add(part)
        with pytest.raises(ValueError, match="component 'part' runs in another lifecycle; it can be in one at a time"):
            other.start()
        with pytest.raises(ValueError, match="'part' runs in another"), third:
            third.add(part)
        assert len(third) == 0
        with pytest.raises(ValueError, match="'part' runs in another"):
            Lifecycle("fourth").add(part)
        assert one.health().is_ready
        assert not one.token.is_set()
    assert one.report.ok
    assert other.report.ok


def test_what_has_ended_may_go_into_another_lifecycle() -> None:
    """A class of the user's that bears being started again may be added elsewhere once it has ended, or was removed."""
    part = Part("part")
    for _ in range(2):
        with Lifecycle() as lc:
            lc.add(part)
    with Lifecycle() as lc:
        lc.add(part)
        assert lc.remove("part")
        with Lifecycle() as another:
            another.add(part)
    assert part.log == ["start part", "stop part"] * 4
