"""Executors over a real Dask cluster: what is sent, what is killed, and how it ends.

The functions are built-ins, since the workers have to find them.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, wait
from pathlib import Path

import pytest

pytest.importorskip("distributed", reason="the extra dask is not installed")

from cluster import Cluster, running_cluster

from threadkit import BoundedExecutor, ComponentState, Retry, backoff, events, executors

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

PATIENCE = 60.0
ALWAYS = Retry(100, backoff.constant(0.2))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster that outlives its tests."""
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture
def mortal() -> Iterator[Cluster]:
    """A cluster that a test may kill."""
    with running_cluster() as cluster:
        yield cluster


def test_the_same_call_is_made_each_time(cluster: Cluster) -> None:
    """Calls of one function with the same arguments are not taken for one."""
    with BoundedExecutor(inner=executors.dask(cluster.address)) as executor:
        futures = [executor.submit(os.urandom, 8) for _ in range(5)]
        assert len({future.result(PATIENCE) for future in futures}) == 5


def test_keywords_of_dask(cluster: Cluster) -> None:
    """Keywords that Dask takes for its own reach the function."""
    keywords = dict.fromkeys(["key", "workers", "retries", "resources", "priority", "allow_other_workers", "pure"], 1)
    with BoundedExecutor(inner=executors.dask(cluster.address)) as executor:
        assert executor.submit(dict, **keywords).result(PATIENCE) == keywords


def test_callbacks_may_wait(cluster: Cluster) -> None:
    """A callback runs on no thread of Dask's, so that it may ask Dask for something."""
    with BoundedExecutor(inner=executors.dask(cluster.address)) as executor:
        names: list[str] = []
        called = threading.Event()

        def see(_: object) -> None:
            names.append(threading.current_thread().name)
            called.set()

        executor.submit(time.sleep, 0.2).add_done_callback(see)
        assert called.wait(PATIENCE)
        assert names != ["IO loop"]


def test_cancel(cluster: Cluster) -> None:
    """A call that waits in the cluster can be cancelled, and a time-out ends the wait for one that runs."""
    with BoundedExecutor(inner=executors.dask(cluster.address)) as executor:
        slow = [executor.submit(time.sleep, 1) for _ in range(3)]
        assert slow[2].cancel()
        late = executor.options(timeout=0.3).submit(time.sleep, 1)
        assert isinstance(late.exception(PATIENCE), TimeoutError)
        assert slow[0].result(PATIENCE) is None


def test_a_client_of_the_users_own(cluster: Cluster) -> None:
    """A function that returns a client takes the place of an address."""
    import distributed

    inner = executors.dask(lambda: distributed.Client(cluster.address, set_as_default=False))
    with BoundedExecutor(inner=inner) as executor:
        assert executor.submit(pow, 2, 10).result(PATIENCE) == 1024
        assert executor.stats().workers == 2


def test_the_executor_by_itself(cluster: Cluster) -> None:
    """What the factory makes is an executor: it refuses calls after its shutdown, which waits, or cancels."""
    factory = executors.dask(cluster.address)
    with factory() as executor:
        future = executor.submit(pow, 2, 10)
    assert future.result(0) == 1024
    executor.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(pow, 2, 10)
    hasty = factory()
    future = hasty.submit(time.sleep, 5)
    hasty.shutdown(cancel_futures=True)
    assert future.cancelled()


def test_nobody_there() -> None:
    """Where there is no scheduler the start fails, and leaves nothing behind."""
    executor = BoundedExecutor(inner=executors.dask("tcp://127.0.0.1:9", connect_timeout=0.5))
    with pytest.raises(OSError, match=r"127\.0\.0\.1:9"):
        executor.submit(pow, 2, 10)


def test_an_address_that_makes_no_sense() -> None:
    """An address that cannot be one is refused by the error that says what is wrong with it."""
    executor = BoundedExecutor(inner=executors.dask("tcp://127.0.0.1:harbour"))
    with pytest.raises(ValueError, match="harbour"):
        executor.submit(pow, 2, 10)


def test_a_silent_scheduler() -> None:
    """Connecting to what takes connections and never says a word is given up when connect_timeout is over."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        executor = BoundedExecutor(inner=executors.dask(address, connect_timeout=1))
        began = time.monotonic()
        with pytest.raises(TimeoutError, match=f"no Dask scheduler answers at {address} within 1 s"):
            executor.submit(pow, 2, 10)
        assert time.monotonic() - began < PATIENCE / 2


def test_shutdown_while_connecting() -> None:
    """A shutdown that comes while somebody waits for a connection ends with that connection's time-out."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        executor = BoundedExecutor(inner=executors.dask(address, connect_timeout=2))
        refusals: list[Exception] = []

        def submit() -> None:
            try:
                executor.submit(pow, 2, 10)
            except OSError as error:
                refusals.append(error)

        submitting = threading.Thread(target=submit)
        submitting.start()
        connection, _ = silent.accept()
        with connection:
            began = time.monotonic()
            executor.shutdown()
            assert time.monotonic() - began < PATIENCE / 2
            submitting.join(PATIENCE)
        assert [type(error) for error in refusals] == [TimeoutError]


def test_a_frozen_scheduler(mortal: Cluster) -> None:
    """A call that a scheduler which was stopped does not end is lost in time, and a shutdown does not wait for it."""
    mortal.wait_for_workers()
    inner = executors.dask(mortal.address, connect_timeout=1, lost_after=3)
    executor = BoundedExecutor(inner=inner)
    assert executor.submit(pow, 2, 10).result(PATIENCE) == 1024
    mortal.scheduler.send_signal(signal.SIGSTOP)
    future = executor.submit(pow, 2, 11)
    assert isinstance(future.exception(PATIENCE), BrokenExecutor)
    executor.shutdown(timeout=PATIENCE)
    assert executor.state is ComponentState.STOPPED


def test_a_killed_worker(mortal: Cluster) -> None:
    """What a killed worker was at is done by another."""
    with BoundedExecutor(inner=executors.dask(mortal.address)) as executor:
        executor.start()
        mortal.wait_for_workers()
        futures = [executor.submit(time.sleep, 1) for _ in range(4)]
        time.sleep(0.3)
        mortal.workers[0].kill()
        assert not wait(futures, PATIENCE).not_done
        assert [future.exception() for future in futures] == [None] * 4
        assert executor.stats().rebuilds == 0


def test_a_killed_scheduler(mortal: Cluster) -> None:
    """A call in flight fails at once when the scheduler is killed; one that may run twice is made by the next one."""
    rebuilt = threading.Event()
    inner = executors.dask(mortal.address, connect_timeout=1)
    with BoundedExecutor(inner=inner, recreate=100, submit_retry=ALWAYS) as executor:
        executor.observe(lambda event: rebuilt.set() if isinstance(event, events.ExecutorRebuilt) else None)
        assert executor.submit(pow, 2, 10).result(PATIENCE) == 1024
        plain = executor.submit(time.sleep, 60)
        careful = executor.options(idempotent=True).submit(time.sleep, 1)
        time.sleep(0.3)
        mortal.kill_scheduler()
        assert isinstance(plain.exception(PATIENCE), BrokenExecutor)
        during = executor.submit(pow, 2, 11)  # the scheduler is away, and Dask would lose it
        mortal.start()
        assert during.result(PATIENCE) == 2048
        assert careful.result(PATIENCE) is None
        assert rebuilt.is_set()
        assert executor.stats().rebuilds == 1


def test_shutdown_without_a_scheduler(mortal: Cluster) -> None:
    """shutdown() does not hang when the scheduler is gone for good."""
    executor = BoundedExecutor(inner=executors.dask(mortal.address, connect_timeout=0.5))
    future = executor.submit(time.sleep, 60)
    mortal.kill_scheduler()
    executor.shutdown()
    assert isinstance(future.exception(0), BrokenExecutor)


@pytest.mark.parametrize("is_local", [False, True])
def test_exit_with_work_queued(is_local: bool, cluster: Cluster, tmp_path: Path) -> None:
    """At the end of the program what was submitted is done; on processes of its own, at the end of the with block."""
    program = tmp_path / "program.py"
    where = "" if is_local else repr(cluster.address)
    source = f"""
        import time
        from threadkit import BoundedExecutor, executors

        if __name__ == "__main__":
            executor = BoundedExecutor(inner=executors.dask({where}))
            for number in range(5):
                executor.submit(time.sleep, 0.1).add_done_callback(lambda future: print(future.result(), flush=True))
            if {is_local}:
                with executor:
                    pass
    """
    program.write_text(textwrap.dedent(source), encoding="utf-8")
    command = [sys.executable, str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["None"] * 5), done.stderr
