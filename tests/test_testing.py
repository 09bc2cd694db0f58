"""``InlineExecutor`` and ``no_thread_leaks``. The virtual clock has a file of its own."""

from __future__ import annotations

import threading

import pytest
from helpers import PATIENCE, Gate

from threadkit import Closed, StopToken
from threadkit.testing import InlineExecutor, no_thread_leaks


def test_inline_executor_runs_here_and_now() -> None:
    """A call runs in the caller's thread, and its future is done when submit() returns."""
    with InlineExecutor() as executor:
        future = executor.submit(threading.current_thread)
        assert future.done()
        assert future.result() is threading.current_thread()
        assert executor.submit(dict, fn=1, self=2).result() == {"fn": 1, "self": 2}
        assert list(executor.map(pow, [2, 3], [3, 2])) == [8, 9]


@pytest.mark.parametrize("error", [LookupError("no"), SystemExit("no"), KeyboardInterrupt(), GeneratorExit()])
def test_inline_executor_keeps_errors_in_the_future(error: BaseException) -> None:
    """Whatever a call raises is in its future, and submit() returns."""

    def fail() -> None:
        raise error

    future = InlineExecutor().submit(fail)
    assert future.exception() is error


def test_inline_executor_after_shutdown() -> None:
    """After shutdown() a call is refused and not made."""
    executor = InlineExecutor()
    executor.shutdown(wait=False, cancel_futures=True)
    executor.shutdown()
    with pytest.raises(Closed, match="executor 'inline' is closed"):
        executor.submit(pytest.fail, "must not run")


def test_shutdown_from_inside_a_call() -> None:
    """A call may shut the executor down that it runs on."""
    executor = InlineExecutor()
    assert executor.submit(executor.shutdown).exception() is None


def test_no_leak() -> None:
    """Threads that end in time, and those that were there before, are no leak."""
    may_end = [Gate(), Gate()]

    class Lingering(threading.Thread):
        """It ends when somebody waits for it."""

        def join(self, timeout: float | None = None) -> None:
            may_end[1].open()
            super().join(timeout)

    before = threading.Thread(target=may_end[0].pass_through)
    before.start()
    with no_thread_leaks(grace=PATIENCE):
        inside = Lingering(target=may_end[1].pass_through)
        inside.start()
    assert not inside.is_alive()
    may_end[0].open()
    before.join(PATIENCE)


def test_leak() -> None:
    """Threads that go on after the grace are named."""
    may_end = Gate()
    threads = [threading.Thread(target=may_end.pass_through, name=name) for name in ("b", "a")]
    with pytest.raises(AssertionError, match="still alive: a, b"), no_thread_leaks(grace=0.0):
        for thread in threads:
            thread.start()
    may_end.open()
    for thread in threads:
        thread.join(PATIENCE)


def test_stopper_is_no_leak() -> None:
    """The one thread that threadkit keeps for the life of the process is no leak."""
    with no_thread_leaks(grace=0.0):
        StopToken().on_stop(print).remove()


def test_checking_thread_may_be_new() -> None:
    """The thread that leaves the block is no leak, though it was not there when it was entered."""
    check = no_thread_leaks(grace=0.0)
    check.__enter__()
    errors: list[BaseException] = []

    def leave() -> None:
        try:
            check.__exit__(None, None, None)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=leave)
    thread.start()
    thread.join(PATIENCE)
    assert errors == []


def test_threads_that_python_did_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread of some C library cannot be waited for, and is named while it is alive."""
    dummy = threading._DummyThread.__new__(threading._DummyThread)
    threading.Thread.__init__(dummy, name="dummy", daemon=True)
    monkeypatch.setattr(dummy, "is_alive", lambda: True)
    real = threading.enumerate
    with pytest.raises(AssertionError, match="still alive: dummy"), no_thread_leaks(grace=0.0):
        monkeypatch.setattr(threading, "enumerate", lambda: [*real(), dummy])


def test_error_in_the_block_comes_first() -> None:
    """Where the block itself raises, its error is not hidden by a leak."""
    may_end = Gate()
    thread = threading.Thread(target=may_end.pass_through)
    with pytest.raises(LookupError), no_thread_leaks(grace=0.0):
        thread.start()
        raise LookupError
    may_end.open()
    thread.join(PATIENCE)
