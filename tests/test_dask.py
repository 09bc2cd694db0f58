"""``DaskExecutor`` by itself, over a client that a test drives; ``tests/integration`` has real clusters."""

from __future__ import annotations

import logging
import sys
import threading
import types
from concurrent.futures import BrokenExecutor, Future
from typing import Any

import pytest
from helpers import PATIENCE, Background

from threadkit._dask import DaskExecutor, _Raised, _run


class Client:
    """What an executor needs of a client; what was sent stays until the test settles it."""

    def __init__(self) -> None:
        self.status = "running"
        self.sent: list[Future[Any]] = []
        self.closed = 0
        self.is_silent = False

    def get_executor(self, *, pure: bool) -> Client:
        assert not pure
        return self

    def nthreads(self, callback_timeout: float | None) -> dict[str, int]:
        if self.is_silent:
            raise TimeoutError
        return {"one": 2, "other": 1}

    def submit(self, call: Any, *, key: str) -> Future[Any]:
        self.sent.append(Future())
        return self.sent[-1]

    def close(self, timeout: float) -> None:
        self.closed += 1


@pytest.fixture
def client() -> Client:
    return Client()


def test_what_ends_a_process_comes_back() -> None:
    """On the worker an exit is an outcome, while any other error is raised."""
    assert _run(pow, (2, 10), {}) == 1024
    raised = _run(sys.exit, (3,), {})
    assert isinstance(raised, _Raised)
    with pytest.raises(ZeroDivisionError):
        _run(divmod, (1, 0), {})


def test_outcomes(client: Client) -> None:
    """A result, an error, an exit and a cancellation of the cluster are those of the future."""
    executor = DaskExecutor(lambda: client, 5)
    good, bad, left, lost = (executor.submit(str) for _ in range(4))
    client.sent[0].set_result(1)
    client.sent[1].set_exception(OSError("disk"))
    client.sent[2].set_result(_Raised(SystemExit(3)))
    client.sent[3].cancel()
    assert good.result(PATIENCE) == 1
    assert isinstance(bad.exception(PATIENCE), OSError)
    assert isinstance(left.exception(PATIENCE), SystemExit)
    executor.shutdown()
    assert lost.cancelled()
    assert client.closed == 1


def test_a_scheduler_that_is_away(client: Client) -> None:
    """While the scheduler is away nothing is taken, and a shutdown cancels what it had."""
    executor = DaskExecutor(lambda: client, 5)
    future = executor.submit(str)
    client.status = "connecting"
    assert executor.is_broken()
    with pytest.raises(BrokenExecutor, match="away"):
        executor.submit(str)
    executor.shutdown(wait=False)
    assert future.cancelled()
    assert client.sent[0].cancelled()
    executor.shutdown()
    assert client.closed >= 1


def test_shutdown_waits(client: Client) -> None:
    """A shutdown takes nothing more, and waits for what was taken, if it is to."""
    executor = DaskExecutor(lambda: client, 5)
    future = executor.submit(str)
    executor.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(str)
    waiting = Background(executor.shutdown)
    assert client.closed == 0
    client.sent[0].set_result("done")
    waiting.result()
    assert future.result(0) == "done"


def test_no_connection() -> None:
    """Where no client can be had the error goes to whoever asked, and no thread is left."""

    def connect() -> Client:
        raise OSError("no scheduler")

    with pytest.raises(OSError, match="no scheduler"):
        DaskExecutor(connect, 5)


def test_a_scheduler_that_falls_silent(client: Client) -> None:
    """Where the scheduler does not say what workers it has the error goes to whoever asked; the client is closed."""
    client.is_silent = True
    closed = threading.Event()
    client.close = lambda timeout: closed.set()  # type: ignore[method-assign]
    with pytest.raises(TimeoutError):
        DaskExecutor(lambda: client, 5)
    assert closed.wait(PATIENCE)


def test_a_client_that_cannot_be_closed(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """The thread of a client's loop is ended also where closing the client fails, which is logged."""
    stopped: list[bool] = []

    def fail(timeout: float) -> None:
        raise TimeoutError("no answer")

    client.close = fail  # type: ignore[method-assign]
    client._loop_runner = types.SimpleNamespace(  # type: ignore[attr-defined]  # Dask's own
        is_started=lambda: True, stop=lambda: stopped.append(True)
    )
    with caplog.at_level(logging.INFO, "threadkit"), DaskExecutor(lambda: client, 5):
        pass
    assert stopped == [True]
    assert "no answer" in caplog.text


@pytest.mark.parametrize("is_started", [True, False])
def test_the_loop_of_a_client(client: Client, is_started: bool) -> None:
    """The thread of a client's loop is ended where the client has left it behind."""
    stopped: list[bool] = []

    class Runner:
        def is_started(self) -> bool:
            return is_started

        def stop(self) -> None:
            stopped.append(True)

    client._loop_runner = Runner()  # type: ignore[attr-defined]  # Dask's own
    with DaskExecutor(lambda: client, 5):
        pass
    assert stopped == [True] * is_started
