"""A queue whose handlers run on other engines: processes, loky, a real Dask cluster. Jobs in memory and in a file.

The functions are built-ins, since the workers have to find them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path

import pytest

pytest.importorskip("distributed", reason="the extra dask is not installed")
pytest.importorskip("loky", reason="the extra loky is not installed")

from cluster import Cluster, running_cluster

from threadkit import BoundedExecutor, JobState, Retry, WorkQueue, executors, stores

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

PATIENCE = 60.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster that outlives its tests."""
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture(params=["processes", "loky", "dask"])
def engine(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """An executor over each engine."""
    makers: dict[str, Callable[[], Callable[[], Executor]]] = {
        "processes": lambda: executors.processes(2),
        "loky": lambda: executors.loky(2),
        "dask": lambda: executors.dask(request.getfixturevalue("cluster").address),
    }
    with BoundedExecutor(inner=makers[request.param]()) as executor:
        yield executor


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> stores.MemoryStore | stores.SQLiteStore:
    """A store of each kind."""
    return stores.MemoryStore() if request.param == "memory" else stores.SQLiteStore(tmp_path / "jobs.db")


def test_handlers_run_elsewhere(engine: Executor, store: stores.MemoryStore | stores.SQLiteStore) -> None:
    """Results and errors of handlers on an engine are those of the jobs, limits and retries included."""
    with WorkQueue(workers=2, store=store, executor=engine, retry=Retry(2, lambda state: 0.0)) as queue:
        queue.handler("factor", concurrency=1)(math.factorial)
        queue.handler("who", serial_by=lambda payload: 0)(os.path.abspath)
        jobs = queue.submit_many("factor", range(5))
        assert [job.result(PATIENCE) for job in jobs] == [1, 1, 2, 6, 24]
        assert [job.result(PATIENCE) for job in queue.submit_many("who", ["/a", "/b"])] == ["/a", "/b"]
        bad = queue.submit("factor", -1)
        assert isinstance(bad.exception(PATIENCE).__cause__, ValueError)  # type: ignore[union-attr]
        assert (bad.state, bad.attempts) == (JobState.FAILED, 2)
        assert queue.drain(PATIENCE)


def test_a_file_of_jobs_for_a_cluster(cluster: Cluster, tmp_path: Path) -> None:
    """Jobs that were written down without a cluster are done by it when there is one, and are there afterwards."""
    path = tmp_path / "jobs.db"
    with WorkQueue(workers=0, store=stores.SQLiteStore(path)) as front:
        front.declare("factor")
        names = [job.id for job in front.submit_many("factor", range(10))]
    with (
        BoundedExecutor(inner=executors.dask(cluster.address)) as executor,
        WorkQueue(workers=4, store=stores.SQLiteStore(path), executor=executor) as queue,
    ):
        queue.handler("factor")(math.factorial)
        assert queue.drain(PATIENCE)
    with WorkQueue(workers=0, store=stores.SQLiteStore(path)) as front:
        found = [front.get(name) for name in names]
        assert [job.result(0) for job in found if job] == [math.factorial(number) for number in range(10)]
