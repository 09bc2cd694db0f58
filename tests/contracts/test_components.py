"""What every component promises, whatever it does. One suite, all of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import Background

from threadkit import (
    BoundedExecutor,
    Bus,
    Closed,
    Component,
    ComponentState,
    DuplicateName,
    EventLoopThread,
    ForkedError,
    IntervalTask,
    Leader,
    Lifecycle,
    ManagedThread,
    Phase,
    ThreadGroup,
    WorkQueue,
    events,
)
from threadkit._component import BaseComponent
from threadkit.health import Status


def group_of_two(name: str) -> ThreadGroup:
    group = ThreadGroup(name, "one_for_all")
    for one in ("first", "second"):
        group.add(ManagedThread(lambda running: running.wait(), name=one))
    return group


MAKERS: dict[str, Callable[[str], BaseComponent]] = {
    "thread": lambda name: ManagedThread(lambda running: running.wait(), name=name),
    "group": group_of_two,
    "task": lambda name: IntervalTask(lambda: None, 3600, name=name),
    "queue": lambda name: WorkQueue(name, workers=2),
    "executor": lambda name: BoundedExecutor(2, name=name),
    "bus": Bus,
    "loop": EventLoopThread,
    "leader": lambda name: Leader("app.lock", name=name),
}


@pytest.fixture(params=MAKERS)
def make(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[str], BaseComponent]:
    monkeypatch.chdir(tmp_path)  # the folder for a leader's file
    return MAKERS[request.param]


def test_it_follows_the_protocol(make: Callable[[str], BaseComponent]) -> None:
    """Every component has the four names of the protocol, a kind, and a default phase."""
    part = make("one")
    assert isinstance(part, Component)
    assert part.name == "one"
    assert part.default_phase in set(Phase)
    assert part.kind != "component"
    assert part.state is ComponentState.NEW


def test_its_life(make: Callable[[str], BaseComponent]) -> None:
    """Every component is new, runs, and has stopped; it says so by state, events and health, and leaves no thread."""
    seen: list[str] = []
    part = make("one")
    part.observe(lambda event: seen.append(type(event).__name__) if event.component == "one" else None)
    part.start()
    assert part.state is ComponentState.RUNNING
    assert part.health().status is Status.READY
    part.stop("enough")
    assert part.join(5)
    assert part.state is ComponentState.STOPPED
    assert part.failure is None
    assert part.health().status is Status.STOPPING
    assert part.threads() == []
    assert [name for name in seen if name in {"Started", "Stopped"}] == ["Started", "Stopped"]


def test_everything_twice(make: Callable[[str], BaseComponent]) -> None:
    """start(), stop() and join() may be called twice."""
    part = make("one")
    part.start()
    part.start()
    part.stop()
    part.stop()
    assert part.join(5)
    assert part.join(5)
    assert part.state is ComponentState.STOPPED


def test_stop_before_start(make: Callable[[str], BaseComponent]) -> None:
    """What was stopped before it was started never starts, and join() does not wait for it."""
    part = make("one")
    part.stop()
    assert part.join(0)
    assert part.state is ComponentState.STOPPED
    with pytest.raises(Closed):
        part.start()


def test_no_second_life(make: Callable[[str], BaseComponent]) -> None:
    """What has stopped is closed for good."""
    with make("one") as part:
        pass
    with pytest.raises(Closed, match="'one' is closed"):
        part.start()


def test_many_stop_at_once(make: Callable[[str], BaseComponent]) -> None:
    """Threads that stop and join one component at the same time all see its end, and one Stopped event is told."""
    stopped: list[events.Event] = []
    part = make("one")
    part.observe(lambda event: stopped.append(event) if str(event).startswith("'one' stopped") else None)
    part.start()
    crowd = [Background(lambda: (part.stop(), part.join(5))[1]) for _ in range(8)]
    assert all(one.result() for one in crowd)
    assert len(stopped) == 1


def test_stop_from_an_observer(make: Callable[[str], BaseComponent]) -> None:
    """An observer may call back into the component that it observes: no lock is held while it runs."""
    part = make("one")
    part.observe(lambda event: (part.stop("from an observer"), part.health(), part.stats(), part.state))
    part.start()
    assert part.join(5)
    assert part.state is ComponentState.STOPPED


def test_an_observer_that_raises_harms_nobody(
    make: Callable[[str], BaseComponent], caplog: pytest.LogCaptureFixture
) -> None:
    """What an observer raises is logged, and the component lives on."""

    def bad(event: events.Event) -> None:
        raise SystemExit(1)

    part = make("one")
    part.observe(bad)
    with part:
        assert part.state is ComponentState.RUNNING
    assert part.state is ComponentState.STOPPED
    assert "failed on 'one' started: SystemExit: 1" in caplog.text


def test_in_a_lifecycle(make: Callable[[str], BaseComponent]) -> None:
    """Every component works in a lifecycle, by its default phase, and is there once."""
    with Lifecycle() as lc:
        part = lc.add(make("one"))
        assert part.state is ComponentState.RUNNING
        with pytest.raises(DuplicateName):
            lc.add(make("one"))
        assert len(lc) == 1
    (report,) = lc.report.components
    assert (report.name, report.phase, report.outcome) == ("one", part.default_phase, "stopped")
    assert part.state is ComponentState.STOPPED


def test_bad_names(make: Callable[[str], BaseComponent]) -> None:
    """A name has to be a text that is not empty."""
    for name in ("", 3):
        with pytest.raises((TypeError, ValueError), match="name must"):
            make(name)


def test_figures_can_be_written_down(make: Callable[[str], BaseComponent]) -> None:
    """Statistics are None, or plain values, or a record that gives plain values."""
    part = make("one")
    figures = part.stats()
    plain = figures.as_dict() if hasattr(figures, "as_dict") else figures
    assert plain is None or isinstance(plain, dict)


@pytest.mark.integration
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_after_a_fork(make: Callable[[str], BaseComponent]) -> None:
    """In a forked child a running component refuses everything, until start() makes it the child's own."""
    with make("one") as part:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                for use in (part.stop, part.join, lambda: part.state):
                    with pytest.raises(ForkedError):
                        use()
                part.start()
                part.stop()
                assert part.join(5)
                assert part.state is ComponentState.STOPPED
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert part.state is ComponentState.RUNNING
