"""What all of threadkit's components have in common, on the smallest component there is."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest
from helpers import PATIENCE, Background, Gate

from threadkit import (
    Closed,
    Component,
    ComponentState,
    ForkedError,
    IntervalTask,
    ManagedThread,
    Phase,
    StopToken,
    SystemClock,
    ThreadGroup,
    _exit,
    _fork,
)
from threadkit._component import BaseComponent
from threadkit.health import Status
from threadkit.testing import VirtualClock


class Plain(BaseComponent):
    """A component without a thread; it ends when it is told to."""

    kind = "plain"

    def __init__(self, name: str = "plain") -> None:
        self.launched = 0
        self.launching: Gate | None = None
        self.error: BaseException | None = None
        super().__init__(name, None)

    def _launch(self) -> None:
        self.launched += 1
        if self.launching is not None:
            self.launching.pass_through()
        if self.error is not None:
            raise self.error

    def _on_stop_asked(self) -> None:
        if self.launched:
            self._end()


def test_it_is_a_component() -> None:
    """Components of threadkit's own follow the protocol that a user's class would follow."""
    assert isinstance(Plain(), Component)


def test_a_life_in_states_and_events() -> None:
    """A component goes from new to running to stopped, and tells it."""
    seen: list[str] = []
    plain = Plain()
    handle = plain.observe(lambda event: seen.append(str(event)))
    states = [plain.state]
    assert plain.health().status is Status.STARTING
    plain.start()
    states.append(plain.state)
    assert plain.health().status is Status.READY
    plain.stop("enough")
    states.append(plain.state)
    assert plain.join(0)
    assert [state.value for state in states] == ["new", "running", "stopped"]
    assert seen == ["'plain' started", "'plain' stopped (enough)"]
    assert handle.remove()
    assert not handle.remove()
    assert plain.stats() is None
    assert plain.work_left() == 0
    assert plain.threads() == []


def test_with_block_starts_and_stops() -> None:
    """A with block starts a component and stops it."""
    with Plain() as plain:
        assert plain.state is ComponentState.RUNNING
    assert plain.state is ComponentState.STOPPED


def test_start_that_fails_leaves_a_failed_component() -> None:
    """A start that raises leaves a component that failed, and that join() does not wait for."""
    plain = Plain()
    plain.error = OSError("no")
    with pytest.raises(OSError, match="no"):
        plain.start()
    assert plain.state is ComponentState.FAILED
    assert plain.join()
    assert plain.health().detail == "OSError: no"
    with pytest.raises(Closed):
        plain.start()


def test_two_starters_launch_once() -> None:
    """While one thread starts a component, another one that starts it waits for the same start."""
    plain = Plain()
    plain.launching = Gate()
    first = Background(plain.start)
    second = Background(plain.start)
    plain.launching.open()
    first.result()
    second.result()
    assert plain.launched == 1
    plain.stop()


def test_an_interrupt_while_another_thread_starts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C that strikes who waits for another thread's start leaves that start alone."""

    class Struck(SystemClock):
        def park(self, gate: object, deadline: float | None) -> bool:
            raise KeyboardInterrupt

    plain = Plain()
    plain.launching = Gate()
    first = Background(plain.start)
    while plain.launched == 0:
        assert not plain.join(0.01)
    with monkeypatch.context() as patch:
        patch.setattr(plain._condition, "_clock", Struck())
        with pytest.raises(KeyboardInterrupt):
            plain.start()
    plain.launching.open()
    first.result()
    assert (plain.launched, plain.state) == (1, ComponentState.RUNNING)
    plain.stop()


def test_another_start_while_the_first_is_told() -> None:
    """Who starts a component while observers are told that it runs finds it running."""
    plain = Plain()
    plain.observe(lambda _: Background(plain.start).result())
    plain.start()
    assert (plain.launched, plain.state) == (1, ComponentState.RUNNING)
    plain.stop()


def test_ending_while_starting_stays_ended() -> None:
    """What has ended before its start() returns does not come back to life."""
    plain = Plain()
    plain.launching = Gate()
    starting = Background(plain.start)
    while plain.launched == 0:
        assert not plain.join(0.01)
    plain.stop()
    plain.launching.open()
    starting.result()
    assert plain.state is ComponentState.STOPPED


def test_dying_after_the_end_is_no_news() -> None:
    """The first end of a component is the one that counts."""
    told: list[BaseException] = []
    with Plain() as plain:
        plain.failed = told.append
    plain._die(OSError())
    assert plain.state is ComponentState.STOPPED
    assert told == []


def test_dying_tells_who_answers() -> None:
    """failed() is called with the error of a component that dies; without it the event and the log remain."""
    told: list[BaseException] = []
    for failed in (told.append, None):
        plain = Plain()
        plain.failed = failed
        plain.start()
        plain._die(OSError("gone"))
        assert plain.state is ComponentState.FAILED
    assert [str(error) for error in told] == ["gone"]


def test_adoption_brings_clock_and_token() -> None:
    """An adopted component takes its registry's clock, and stops when the registry's token is set."""
    clock = VirtualClock()
    token = StopToken(clock=clock)
    thread = ManagedThread(lambda running: running.wait(), name="child")
    thread.adopt(clock, token)
    thread.start()
    clock.settle()
    token.set("all of you", deadline=5.0)
    assert thread.join(5)
    assert thread._token.reason == "all of you"


def test_adopting_what_was_stopped_does_not_revive_it() -> None:
    """A component that was stopped before its start cannot be started after its adoption either."""
    plain = Plain()
    plain.stop("never")
    plain.adopt(VirtualClock(), StopToken())
    assert plain.state is ComponentState.STOPPED
    with pytest.raises(Closed):
        plain.start()


def test_a_task_of_the_parent_has_no_interval_to_set_in_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Setting an interval takes a lock that a fork may have left held, so a forked child is refused first."""
    task = IntervalTask(print, 60)
    with monkeypatch.context() as child:
        child.setattr(_fork, "_generation", _fork.generation() + 1)
        with pytest.raises(ForkedError):
            task.interval = 5
    assert task.interval == 60


def test_adopting_what_runs_keeps_its_clock() -> None:
    """A component that runs already keeps its clock and its token when it is adopted."""
    with Plain() as plain:
        before = plain._clock
        plain.adopt(VirtualClock(), StopToken())
        assert plain._clock is before
        assert plain.state is ComponentState.RUNNING


@pytest.mark.parametrize("name", ["", None, 3])
def test_names_are_texts(name: object) -> None:
    """A component needs a name."""
    with pytest.raises((TypeError, ValueError), match="name must"):
        Plain(name)


@pytest.mark.parametrize("timeout", [-1, float("nan"), True, "1"])
def test_bad_timeouts_are_refused(timeout: float) -> None:
    """join() refuses what is no duration."""
    with pytest.raises((TypeError, ValueError), match="timeout must"):
        Plain().join(timeout)


def test_phases_and_states_are_plain_values() -> None:
    """Phases compare with ints, and a state knows whether it is an end."""
    assert sorted(Phase) == [100, 200, 300, 400]
    assert [state.has_ended for state in ComponentState] == [False, False, False, False, True, True]


def in_child(child: object) -> int:
    """Run a function in a forked child and return its exit status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            child()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.integration
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_of_a_fork_must_start_anew() -> None:
    """In a forked child every use of the parent's component raises, until start() makes it the child's own."""
    thread = ManagedThread(lambda running: running.wait(), name="parent's")

    def child() -> None:
        for use in (thread.stop, thread.join, lambda: thread.state):
            with pytest.raises(ForkedError, match="belongs to the parent process"):
                use()
        assert repr(thread) == '<ManagedThread "parent\'s" of the parent process>'
        thread.start()
        assert thread.state is ComponentState.RUNNING
        thread.stop()
        assert thread.join(5)

    with thread:
        assert in_child(child) == 0
        assert thread.state is ComponentState.RUNNING


def test_in_a_forked_child_the_parents_components_tell_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread, a group and a task of the parent process tell no figures in a child, which would be of another life."""
    thread = ManagedThread(lambda running: running.wait(), name="thread")
    task = IntervalTask(lambda: None, 3600, name="task")
    group = ThreadGroup("group")
    group.add(ManagedThread(lambda running: running.wait(), name="child"))
    uses: dict[str, Callable[[], object]] = {
        "beat": thread.beat,
        "is_alive": thread.is_alive,
        "threads": thread.threads,
        "thread.stats": thread.stats,
        "thread.failure": lambda: thread.failure,
        "thread.restarts": lambda: thread.restarts,
        "group.restarts": lambda: group.restarts,
        "group.threads": group.threads,
        "iter(group)": lambda: list(group),
        "len(group)": lambda: len(group),
        "in group": lambda: "child" in group,
        "task.stats": task.stats,
        "task.threads": task.threads,
        "next_run_at": lambda: task.next_run_at,
        "last_run_at": lambda: task.last_run_at,
        "last_duration": lambda: task.last_duration,
        "last_error": lambda: task.last_error,
        "runs": lambda: task.runs,
        "failures": lambda: task.failures,
        "skipped": lambda: task.skipped,
        "missed": lambda: task.missed,
    }
    with thread, group, task:
        with monkeypatch.context() as child:
            child.setattr(_fork, "_generation", _fork.generation() + 1)
            assert [name for name, use in uses.items() if not raises_forked(use)] == []
        for use in uses.values():
            use()


def raises_forked(use: Callable[[], object]) -> bool:
    try:
        use()
    except ForkedError:
        return True
    return False


def test_who_is_adopted_in_a_forked_child_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the parent has used is new from its adoption in a child on, so that its host can ask it at once."""
    with Plain() as plain:
        pass
    monkeypatch.setattr(_fork, "_generation", _fork.generation() + 1)
    plain.adopt(VirtualClock(), StopToken())
    assert plain.state is ComponentState.NEW
    assert plain.threads() == []


def test_exit_stops_the_youngest_first_and_names_the_stuck(caplog: pytest.LogCaptureFixture) -> None:
    """At exit all roots are told, the youngest first, and then joined; who does not end is named in the log."""
    log: list[str] = []

    class Root:
        def __init__(self, name: str, left: list[str]) -> None:
            self.name, self.left = name, left

        def begin_exit(self) -> None:
            log.append(f"begin {self.name}")

        def finish_exit(self, deadline: float) -> list[str]:
            log.append(f"finish {self.name}")
            return self.left

    before = dict(_exit._roots)
    _exit._roots.clear()
    try:
        broken = Root("broken", [])
        broken.finish_exit = lambda deadline: 1 / 0
        for root in (Root("old", []), broken, Root("young", ["thread 'stuck'"]), gone := Root("gone", [])):
            _exit.watch(root)
        _exit.forget(gone)
        _exit.stop_all()
        assert log == ["begin young", "begin broken", "begin old", "finish young", "finish old"]
        assert "could not be stopped at interpreter exit" in caplog.text
        assert "abandoned at interpreter exit, still running: thread 'stuck'" in caplog.text
        assert not _exit._roots
    finally:
        _exit._roots.update(before)


def test_only_what_runs_alone_is_stopped_at_exit() -> None:
    """A component is watched from its start to its end, unless somebody else answers for it."""
    thread = ManagedThread(lambda running: running.wait(), name="alone")
    assert id(thread) not in _exit._roots
    with thread:
        assert id(thread) in _exit._roots
        assert thread.finish_exit(0.0) == ["thread 'alone'"]
        thread.begin_exit()
        assert thread.join(5)
        assert thread._token.reason == "the interpreter exits"
    assert id(thread) not in _exit._roots
    adopted = Plain()
    adopted.adopt(VirtualClock(), StopToken())
    with adopted:
        assert id(adopted) not in _exit._roots
    assert threading.current_thread() is threading.main_thread()


def test_what_the_parent_began_has_not_begun_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A component that runs has begun; in a forked child, it has not."""
    with Plain() as plain:
        assert plain.has_begun()
        with monkeypatch.context() as forked:
            forked.setattr(_fork, "_generation", _fork.generation() + 1)
            assert not plain.has_begun()
    assert not plain.has_begun()


def test_an_interrupt_before_the_start_has_begun() -> None:
    """A Ctrl-C that strikes before a start has begun leaves a component that can be started."""

    class Struck(Plain):
        is_struck = True

        def _start_once(self) -> None:
            if self.is_struck:
                self.is_struck = False
                raise KeyboardInterrupt
            super()._start_once()

    component = Struck()
    with pytest.raises(KeyboardInterrupt):
        component.start()
    component.start()
    assert component.state is ComponentState.RUNNING
    component.stop()
    assert component.join(PATIENCE)
