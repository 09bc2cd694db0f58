"""What becomes of a thread that nobody refers to any more while its body runs."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator

import pytest
from helpers import PATIENCE, Blocker

from threadkit import (
    ComponentState,
    Lifecycle,
    ManagedThread,
    StopToken,
    SystemClock,
    ThreadGroup,
    _exit,
    _fork,
    events,
)
from threadkit._body import Body

WARNING = (
    "thread 'stray' was dropped while its body runs, and goes on until the interpreter exits: "
    "keep a reference to it and stop it, or add it to a lifecycle"
)


class Stray:
    """A thread whose body waits, and what can be said of it without a reference to it."""

    def __init__(self, body: Callable[[], object] | None = None) -> None:
        self.blocker = Blocker()
        self.seen: list[str] = []
        self.threads: list[threading.Thread] = []
        self.body: Body
        self.target = body or self.blocker

    def start(self, thread: ManagedThread | None = None) -> ManagedThread:
        thread = ManagedThread(self.target, name="stray") if thread is None else thread
        seen = self.seen  # a reference to this object would be none to the thread, but the list alone says so
        thread.observe(lambda event: seen.append(type(event).__name__))
        thread.start()
        self.threads = thread.threads()
        self.body = thread._body
        return thread

    def end(self) -> None:
        self.blocker.let_go()
        for thread in self.threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()


@pytest.fixture
def stray() -> Iterator[Stray]:
    one = Stray()
    yield one
    one.end()


@pytest.fixture
def warned() -> Iterator[list[warnings.WarningMessage]]:
    """Collect warnings, and no garbage but on request."""
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def test_dropping_a_running_thread_is_warned_of(stray: Stray, warned: list[warnings.WarningMessage]) -> None:
    """A thread that is dropped while its body runs is warned of once; it lives on, and ends as any other."""
    weak = weakref.ref(stray.start())
    (warning,) = warned
    assert warning.category is ResourceWarning
    assert str(warning.message) == WARNING
    assert warning.source is weak()
    warned.clear()
    del warning
    thread = weak()
    assert thread is not None  # the exit hook holds it now, and would stop it
    assert _exit._roots[id(thread)]() is thread
    assert thread.state is ComponentState.RUNNING
    del thread
    stray.end()
    assert weak() is None
    assert stray.seen == ["Started", "Stopped"]
    assert warned == []


def test_dropping_a_cycle_is_warned_of(stray: Stray, warned: list[warnings.WarningMessage]) -> None:
    """A thread in a cycle of references is warned of when the cycle is collected; its body finds it again."""
    thread = stray.start()
    thread.itself = thread  # type: ignore[attr-defined]  # what users do
    del thread
    assert warned == []
    gc.collect()
    assert [str(one.message) for one in warned] == [WARNING]
    warned.clear()
    owner = stray.body._owner()
    assert owner is not None
    del owner
    stray.end()
    assert stray.seen == ["Started", "Stopped"]


def test_failure_of_a_dropped_thread_is_logged(
    warned: list[warnings.WarningMessage], caplog: pytest.LogCaptureFixture
) -> None:
    """What a dropped thread dies of is told and logged like any other failure."""
    blocker = Blocker()

    def body() -> None:
        blocker()
        raise OSError("nobody is left")

    stray = Stray(body)
    stray.start()
    assert len(warned) == 1
    warned.clear()
    with caplog.at_level(logging.ERROR, "threadkit"):
        blocker.let_go()
        stray.end()
    assert "'stray' failed: OSError: nobody is left" in caplog.text
    assert stray.seen == ["Started", "Failed"]


def test_a_thread_that_has_ended_is_dropped_in_silence(warned: list[warnings.WarningMessage]) -> None:
    """A thread that was never started, was refused or has ended is dropped without a word."""
    ManagedThread(lambda: None, name="never")
    with pytest.raises(ValueError, match="name"):
        ManagedThread(lambda: None, name="")
    with pytest.raises(TypeError):
        ManagedThread(None)  # type: ignore[arg-type]  # that is the point
    thread = ManagedThread(lambda: None, name="brief")
    thread.start()
    assert thread.join(5)
    del thread
    with ManagedThread(lambda running: running.wait(), name="used well"):
        pass
    gc.collect()
    assert warned == []


def test_what_is_referred_to_is_not_dropped(stray: Stray, warned: list[warnings.WarningMessage]) -> None:
    """A body that is a method of an object that has the thread keeps it: there is nothing to warn of."""

    class Feed:
        def __init__(self) -> None:
            self.thread = ManagedThread(self.read, name="feed")

        def read(self) -> None:
            stray.blocker()

    feed = Feed()
    stray.start(feed.thread)
    weak = weakref.ref(feed)
    del feed
    gc.collect()
    assert weak() is not None
    assert warned == []


def test_what_belongs_to_somebody_is_not_dropped(warned: list[warnings.WarningMessage]) -> None:
    """A lifecycle and a group answer for their threads, whoever else refers to them."""
    with Lifecycle() as lc, ThreadGroup() as group:
        lc.add(ManagedThread(lambda running: running.wait(), name="theirs"))
        group.add(ManagedThread(lambda running: running.wait(), name="theirs"))
        lc.add(ManagedThread(lambda running: running.wait(), name="taken over"))
        gc.collect()
    assert warned == []


def test_a_running_thread_that_is_adopted_is_not_dropped(warned: list[warnings.WarningMessage]) -> None:
    """A thread that was started alone and is put into a lifecycle belongs to that."""
    lc = Lifecycle()
    thread = ManagedThread(lambda running: running.wait(), name="adopted")
    thread.start()
    assert id(thread) in _exit._roots
    lc.add(thread)
    assert id(thread) not in _exit._roots
    assert not thread._is_dropped()
    thread.stop()
    assert thread.join(5)
    assert warned == []


def test_no_warning_in_a_forked_child(
    stray: Stray, warned: list[warnings.WarningMessage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the parent process began is not the child's to warn of."""
    thread = stray.start()
    with monkeypatch.context() as forked:
        forked.setattr(_fork, "_generation", _fork.generation() + 1)
        thread.__del__()
    assert warned == []
    stray.end()


def test_no_warning_when_the_interpreter_ends(stray: Stray, warned: list[warnings.WarningMessage]) -> None:
    """When modules are being torn down there is nobody left to warn."""
    thread = stray.start()
    thread.__del__(lambda: True)
    assert warned == []
    stray.end()


def test_a_body_that_ends_while_its_owner_is_being_collected(
    stray: Stray, warned: list[warnings.WarningMessage], caplog: pytest.LogCaptureFixture
) -> None:
    """A body that ends when its owner's weak references are cleared, and its finalizer has not run, logs its failure.

    The finalizer finds that it is over then, and resurrects nothing.
    """
    thread = stray.start()

    class Nobody:
        pass

    nobody = Nobody()
    stray.body._owner = weakref.ref(nobody)  # type: ignore[assignment]  # as the collector leaves it
    del nobody
    stray.body._conclude(OSError("unseen"))
    assert "thread 'stray' failed: OSError: unseen" in caplog.text
    stray.body.emit(events.Restarted(component="stray", error=None, restarts=1, delay=1))
    assert "'stray' ended (None); restart 1 in 1 s" in caplog.text
    stray.body._ask_all_to_stop()
    assert id(thread) in _exit._roots
    stray.end()
    thread.__del__()
    assert warned == []
    assert id(thread) not in _exit._roots


def test_a_body_that_ends_while_its_owner_is_being_finalized(
    stray: Stray, warned: list[warnings.WarningMessage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that ends in the middle of the finalizer leaves nothing for the exit hook to stop."""
    thread = stray.start()
    attach = Body.attach

    def end_and_attach(body: Body, owner: ManagedThread) -> None:
        attach(body, owner)
        stray.end()

    monkeypatch.setattr(Body, "attach", end_and_attach)
    thread.__del__()
    assert warned == []
    assert id(thread) not in _exit._roots


def test_a_warning_that_is_an_error_changes_nothing(stray: Stray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where warnings are errors the finalizer has done its work before it raises."""
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: unraisable.append(args.exc_value))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weak = weakref.ref(stray.start())
    (error,) = unraisable
    assert isinstance(error, ResourceWarning)
    unraisable.clear()
    del error
    assert weak() is not None
    stray.end()


def test_dropped_in_a_wait(warned: list[warnings.WarningMessage]) -> None:
    """A thread that rests in a wait on its token, or waits for its restart, is dropped like any other."""
    stopped = threading.Event()
    tokens: list[StopToken] = []

    def body(running: StopToken) -> None:
        tokens.append(running)
        running.wait()
        stopped.set()

    def start() -> weakref.ref[ManagedThread]:
        thread = ManagedThread(body, name="stray", heartbeat=3600, clock=SystemClock())
        thread.start()
        return weakref.ref(thread)

    weak = start()
    assert [str(one.message) for one in warned] == [WARNING]
    warned.clear()
    thread = weak()
    assert thread is not None
    thread.stop()
    assert stopped.wait(PATIENCE)
    assert thread.join(PATIENCE)


@pytest.mark.integration
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_real_fork_is_silent(stray: Stray) -> None:
    """A forked child that drops what its parent runs warns of nothing."""
    thread = stray.start()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                del thread
                gc.collect()
            status = len(caught)
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    stray.end()
    assert thread.state is ComponentState.STOPPED
