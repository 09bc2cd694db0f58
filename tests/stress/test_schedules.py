"""Very many tasks, and very many lives of a task, in real time. Runs in ``nox -s stress`` only."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from threadkit import IntervalTask, Lifecycle

FDS = Path("/proc/self/fd")
MANY = 10_000

pytestmark = [pytest.mark.stress, pytest.mark.timeout(600)]


def threads_of_schedulers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("threadkit-")]


def test_ten_thousand_tasks() -> None:
    """Of 10,000 tasks that are due every two seconds none misses a run, on one scheduler thread and a small pool."""
    counts = [0] * MANY

    def counter(number: int) -> Callable[[], None]:
        def count() -> None:
            counts[number] += 1  # a task never runs twice at a time

        return count

    with Lifecycle(stop_timeout=60) as lc:
        tasks = [lc.add(IntervalTask(counter(number), 2, name=f"task-{number}")) for number in range(MANY)]
        began = time.monotonic()
        while min(counts) < 3 and time.monotonic() - began < 60:
            time.sleep(0.1)
        names = threads_of_schedulers()
        assert min(counts) >= 3
        assert sum(task.missed + task.skipped + task.failures for task in tasks) == 0
        assert sum(name == "threadkit-scheduler" for name in names) == 1
        assert sum(name.startswith("threadkit-task") for name in names) <= 32
        stopping = time.monotonic()
    assert time.monotonic() - stopping < 30
    assert lc.report is not None
    assert lc.report.ok


def test_ten_thousand_idle_tasks_use_no_processor() -> None:
    """Tasks that are due in an hour cost nothing until then: the process sleeps."""
    with Lifecycle(stop_timeout=60) as lc:
        for number in range(MANY):
            lc.add(IntervalTask(int, 3600, name=f"task-{number}"))
        time.sleep(0.5)
        used = time.process_time()
        time.sleep(3)
        assert time.process_time() - used < 0.01


@pytest.mark.skipif(not FDS.is_dir(), reason="counts what is open in /proc")
@pytest.mark.parametrize("shared", [False, True], ids=["alone", "in a lifecycle"])
def test_ten_thousand_lives_of_a_task_leave_nothing(shared: bool) -> None:
    """Threads, open files and memory are flat over 10,000 lives of a task that runs once in each of them."""
    with Lifecycle() as lc:

        def live(times: int) -> None:
            for _ in range(times):
                ran = threading.Event()
                task = IntervalTask(ran.set, 3600, name="mayfly", run_immediately=True)
                if shared:
                    lc.add(task)
                else:
                    task.start()
                assert ran.wait(10)
                if shared:
                    lc.remove("mayfly")
                else:
                    task.stop()
                    assert task.join(10)

        live(500)
        threads, files = threading.active_count(), len(list(FDS.iterdir()))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        live(MANY)
        assert threading.active_count() <= threads + 1  # a pool of up to 32, as it happens to have been needed
        assert len(list(FDS.iterdir())) <= files
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 8 * 1024  # kB
