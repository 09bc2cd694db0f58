"""Many lives, many threads, many components: nothing is left behind, and the times do not add up."""

from __future__ import annotations

import contextlib
import gc
import random
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import Background

from threadkit import Closed, Lifecycle, ManagedThread, StopToken, UnknownComponent

FDS = Path("/proc/self/fd")
STATM = Path("/proc/self/statm")
KILOBYTE = 1024

# A small version of each runs with all other tests, and the whole of it in `nox -s stress`.
thorough = [pytest.mark.stress, pytest.mark.timeout(1200)]


@pytest.fixture(autouse=True)
def _switch_often() -> Iterator[None]:
    """Have the interpreter switch threads a hundred times as often as usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-5)
    yield
    sys.setswitchinterval(before)


def belongings() -> tuple[int, int, int]:
    """Return how many threads, open files and bytes of memory this process has. Stoppers do not count: a few stay."""
    gc.collect()
    pages = int(STATM.read_text().split()[1])
    return (
        sum(1 for thread in threading.enumerate() if thread.name != "threadkit-stopper"),
        len(list(FDS.iterdir())),
        pages * 4096,
    )


def live_once() -> None:
    """Be one life of a lifecycle with one of each, all of which do something."""
    ticked, done = threading.Event(), threading.Event()
    with Lifecycle() as lc:
        jobs = lc.queue(workers=1)
        jobs.handler("job")(lambda payload: done.set())
        pool = lc.executor(max_workers=1)
        lc.thread("body")(lambda running: running.wait())
        lc.every(3600, run_immediately=True)(ticked.set)
        jobs.submit("job")
        assert pool.submit(int).result(timeout=60) == 0
        assert ticked.wait(60)
        assert done.wait(60)
    assert lc.report is not None
    assert lc.report.ok, lc.report


@pytest.mark.skipif(not STATM.exists(), reason="counts what there is in /proc")
@pytest.mark.parametrize(
    ("lives", "growth"), [(60, 2048 * KILOBYTE), pytest.param(10_000, 4096 * KILOBYTE, marks=thorough)]
)
def test_lives_leave_nothing(lives: int, growth: int) -> None:
    """Threads and open files are the same after many lives of a lifecycle with everything in it, and memory is flat."""
    for _ in range(max(20, lives // 20)):
        live_once()
    threads, files, memory = belongings()
    for _ in range(lives):
        live_once()
    deadline = time.monotonic() + 10
    while belongings()[0] > threads and time.monotonic() < deadline:
        time.sleep(0.01)  # the last callback of a stop may still be on its way out
    after_threads, after_files, after_memory = belongings()
    assert after_threads <= threads, threading.enumerate()
    assert after_files == files
    assert after_memory - memory < growth


@pytest.mark.parametrize("number", [100, pytest.param(1_000, marks=thorough)])
def test_many_threads_in_one_lifecycle(number: int) -> None:
    """So many managed threads all run at the same time, and all stop well."""
    arrived = threading.Semaphore(0)

    def body(running: StopToken) -> None:
        arrived.release()
        running.wait()

    with Lifecycle(stop_timeout=60) as lc:
        for _ in range(number):
            lc.thread(body)
        for _ in range(number):
            assert arrived.acquire(timeout=60)
        assert threading.active_count() > number
    assert lc.report is not None
    assert lc.report.ok
    assert len(lc.report.components) == number


@pytest.mark.parametrize("number", [100])
def test_stops_do_not_add_up(number: int) -> None:
    """A hundred components that take 0.2 s each to stop take less than 0.5 s together."""

    def body(running: StopToken) -> None:
        running.wait()
        time.sleep(0.2)

    with Lifecycle() as lc:
        for _ in range(number):
            lc.thread(body)
    assert lc.report is not None
    assert lc.report.ok
    assert 0.2 <= lc.report.seconds < 0.5


@pytest.mark.parametrize("rounds", [10, pytest.param(100, marks=thorough)])
def test_shutdowns_against_adds_and_removes(rounds: int) -> None:
    """Shutdowns at random moments, while others add and remove at random, end well and leave no thread running."""
    chance = random.Random(3)
    for number in range(rounds):
        added: list[ManagedThread] = []
        lc = Lifecycle(f"round {number}")

        def churn(seed: int, lc: Lifecycle = lc, added: list[ManagedThread] = added) -> None:
            chance = random.Random(seed)
            mine: list[str] = []
            with contextlib.suppress(Closed):
                for index in range(1_000):
                    if mine and chance.random() < 0.4:
                        with contextlib.suppress(UnknownComponent, ValueError):  # the latter: it is required
                            lc.remove(mine.pop(chance.randrange(len(mine))))
                        continue
                    requires = [chance.choice(mine)] if mine and chance.random() < 0.3 else []
                    thread = ManagedThread(lambda running: running.wait(), name=f"{seed}-{index}")
                    with contextlib.suppress(UnknownComponent):
                        lc.add(thread, requires=requires, phase=chance.choice([100, 200, 300]))
                        added.append(thread)
                        mine.append(thread.name)

        lc.start()
        crowd = [Background(lambda seed=4 * number + one: churn(seed)) for one in range(4)]
        time.sleep(chance.random() * 0.05)
        report = lc.shutdown(60)
        for one in crowd:
            one.thread.join(60)
            one.result()
        assert report.ok, report
        for thread in added:
            assert thread.join(60), thread
