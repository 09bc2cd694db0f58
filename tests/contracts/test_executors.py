"""What every executor promises, whatever runs its calls. One suite, all of them.

The functions are built-ins, since some engines have to find them in another process. Dask's is a scheduler and two
workers, each a process of its own on loopback.
"""

from __future__ import annotations

import concurrent.futures as cf
import operator
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from cluster import Cluster, running_cluster

from threadkit import BoundedExecutor, executors
from threadkit.testing import InlineExecutor

PATIENCE = 30.0  # a first process takes its time

MAKERS: dict[str, Callable[[], cf.Executor]] = {
    "own threads": lambda: BoundedExecutor(2),
    "factory of threads": lambda: BoundedExecutor(inner=executors.threads(2)),
    "over a thread pool": lambda: BoundedExecutor(inner=lambda: cf.ThreadPoolExecutor(2)),
    "over processes": lambda: BoundedExecutor(inner=executors.processes(1)),
    "over itself": lambda: BoundedExecutor(inner=lambda: BoundedExecutor(2)),
    "over an inline executor": lambda: BoundedExecutor(inner=InlineExecutor),
    "inline": InlineExecutor,
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture(params=[*MAKERS, "over loky", "over dask"])
def executor(request: pytest.FixtureRequest) -> Iterator[cf.Executor]:
    with make(request)() as executor:
        yield executor


def make(request: pytest.FixtureRequest) -> Callable[[], cf.Executor]:
    """Return what makes the executor, or skip the test where its package is not installed."""
    if request.param == "over loky":
        pytest.importorskip("loky", reason="the extra loky is not installed")
        return lambda: BoundedExecutor(inner=executors.loky(1))
    if request.param == "over dask":
        pytest.importorskip("distributed", reason="the extra dask is not installed")
        address = request.getfixturevalue("cluster").address
        return lambda: BoundedExecutor(inner=executors.dask(address))
    return MAKERS[request.param]


def test_results(executor: cf.Executor) -> None:
    """submit() returns a standard future of what the call returns."""
    future = executor.submit(pow, 2, 10)
    assert isinstance(future, cf.Future)
    assert future.result(PATIENCE) == 1024
    assert future.exception() is None
    assert future.done()
    assert not future.running()
    assert not future.cancel()
    assert not future.cancelled()


@pytest.mark.parametrize(
    ("call", "error"),
    [((operator.truediv, 1, 0), ZeroDivisionError), ((sys.exit, 3), SystemExit), ((next, iter(())), StopIteration)],
)
def test_errors(executor: cf.Executor, call: tuple[Callable[..., object]], error: type[BaseException]) -> None:
    """Whatever a call raises, even what is no Exception, is in its future, and the executor goes on."""
    future = executor.submit(*call)
    assert isinstance(future.exception(PATIENCE), error)
    with pytest.raises(error):
        future.result()
    assert executor.submit(abs, -1).result(PATIENCE) == 1


def test_keywords_of_any_name(executor: cf.Executor) -> None:
    """Any keyword reaches the function, whatever the parameters of submit() are called."""
    keywords = {"self": 1, "fn": 2, "args": 3, "key": 4, "timeout": 5}
    assert executor.submit(dict, **keywords).result(PATIENCE) == keywords


def test_many_calls(executor: cf.Executor) -> None:
    """Every one of many calls has its own result."""
    futures = [executor.submit(abs, -number) for number in range(200)]
    assert [future.result(PATIENCE) for future in futures] == list(range(200))


def test_many_submitters(executor: cf.Executor) -> None:
    """Calls may be submitted by several threads at once; none is lost, none is doubled."""
    results: list[int] = []

    def submit(start: int) -> None:
        futures = [executor.submit(abs, -number) for number in range(start, start + 50)]
        results.extend(future.result(PATIENCE) for future in futures)

    threads = [threading.Thread(target=submit, args=(start,)) for start in (0, 50, 100, 150)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(results) == list(range(200))


def test_map(executor: cf.Executor) -> None:
    """map() yields the results in order, in chunks or not."""
    assert list(executor.map(pow, range(10), range(10))) == [number**number for number in range(10)]
    assert list(executor.map(abs, range(-5, 5), chunksize=3)) == [5, 4, 3, 2, 1, 0, 1, 2, 3, 4]


def test_map_raises_in_its_place(executor: cf.Executor) -> None:
    """What a call raises comes out of map() where its result would have."""
    results = executor.map(operator.truediv, [4, 1, 9], [2, 0, 3])
    assert next(results) == 2
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_wait_and_as_completed(executor: cf.Executor) -> None:
    """wait() and as_completed() of the standard library take the futures, also beside others."""
    other: cf.Future[int] = cf.Future()
    other.set_result(3)
    futures = {executor.submit(abs, -1), executor.submit(operator.truediv, 1, 0), other}
    assert cf.wait(futures, PATIENCE).done == futures
    assert set(cf.as_completed(futures, PATIENCE)) == futures


def test_callbacks(executor: cf.Executor) -> None:
    """A callback is called once with the future, whether it is added before or after the end."""
    called = threading.Semaphore(0)
    seen: list[cf.Future[int]] = []

    def see(future: cf.Future[int]) -> None:
        seen.append(future)
        called.release()

    future = executor.submit(abs, -1)
    future.add_done_callback(see)
    assert called.acquire(timeout=PATIENCE)
    future.add_done_callback(see)
    assert seen == [future, future]


def test_shutdown(executor: cf.Executor) -> None:
    """shutdown() waits for what was submitted, may be called twice, and is final."""
    futures = [executor.submit(abs, -number) for number in range(10)]
    executor.shutdown()
    assert all(future.done() for future in futures)
    executor.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(RuntimeError):
        executor.submit(abs, -1)
