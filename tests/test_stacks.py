"""Stacks of threads: what is shown of them, and what is left out."""

from __future__ import annotations

import gc
import sys
import threading

import pytest
from helpers import Blocker

from threadkit import Lifecycle, ManagedThread
from threadkit._stacks import stacks_of


def calls_in(stack: str) -> list[str]:
    """Return the names of the functions in a stack, the outermost first."""
    return [line.rpartition(" in ")[2] for line in stack.splitlines() if line.startswith("  File ")]


def test_a_stack_begins_with_the_users_function() -> None:
    """Of a thread in the user's function nothing is shown that lies outside of that; what it calls is."""
    blocker = Blocker()

    def body() -> None:
        blocker()

    thread = ManagedThread(body, name="stuck")
    thread.start()
    blocker.wait_until_called()
    stacks = stacks_of(thread.threads())
    blocker.let_go()
    assert thread.join(5)
    assert list(stacks) == ["stuck"]
    assert calls_in(stacks["stuck"])[:3] == ["body", "__call__", "pass_through"]
    assert "self._door.pass_through()" in stacks["stuck"]


def test_what_the_user_calls_of_ours_is_shown() -> None:
    """A wait of threadkit's that the user's function is in stays in its stack."""
    blocker = Blocker()
    with Lifecycle() as lc:
        jobs = lc.queue(workers=1)

        @jobs.handler
        def outer(payload: object) -> None:
            pool.submit(blocker).result()

        pool = lc.executor(max_workers=1)
        jobs.submit("outer")
        blocker.wait_until_called()
        (stack,) = stacks_of(jobs.threads()).values()
        blocker.let_go()
    calls = calls_in(stack)
    assert calls[0] == "outer"
    assert "result" in calls


def test_a_thread_without_user_code_is_shown_whole() -> None:
    """Where no function is the user's, all of the stack is shown."""
    gate = threading.Lock()
    gate.acquire()
    thread = threading.Thread(target=gate.acquire)  # written in C, which has no place in a stack
    thread.start()
    (stack,) = stacks_of([thread]).values()
    gate.release()
    thread.join()
    assert calls_in(stack)[0] == "_bootstrap"


def test_threads_that_are_not_alive_have_no_stack() -> None:
    """Neither a thread that has not begun nor one that has ended is shown."""
    ended = threading.Thread(target=int)
    ended.start()
    ended.join()
    assert stacks_of([ended, threading.Thread(target=int)]) == {}


@pytest.mark.parametrize("enabled", [True, False])
def test_no_collection_meanwhile(enabled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Garbage is not collected while the interpreter writes frames down; afterwards that is as it was."""
    frames, seen = sys._current_frames(), list[bool]()
    monkeypatch.setattr(sys, "_current_frames", lambda: seen.append(gc.isenabled()) or frames)
    if not enabled:
        gc.disable()
    try:
        stacks_of([])
        assert (seen, gc.isenabled()) == ([False], enabled)
    finally:
        gc.enable()
