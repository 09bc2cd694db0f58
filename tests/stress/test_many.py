"""Much of everything, under a switch interval of a microsecond. Runs in ``nox -s stress`` only."""

from __future__ import annotations

import asyncio
import itertools
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from helpers import Background

from threadkit import (
    BoundedExecutor,
    Bus,
    Closed,
    Full,
    Lifecycle,
    ManagedThread,
    Message,
    Retry,
    StopToken,
    WorkQueue,
    backoff,
    executors,
)

FDS = Path("/proc/self/fd")
SCHEDULE = Path("/proc/thread-self/schedstat")  # run, waited for a processor, turns

pytestmark = [pytest.mark.stress, pytest.mark.timeout(600)]


@pytest.fixture(autouse=True)
def _switch_often() -> Iterator[None]:
    """Have the interpreter switch threads a thousand times as often as usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def open_files() -> int:
    return len(list(FDS.iterdir()))


@pytest.mark.skipif(not FDS.is_dir(), reason="counts what is open in /proc")
def test_ten_thousand_starts_and_stops_leave_nothing() -> None:
    """Threads, open files and memory are flat over 10,000 lives of a managed thread."""

    def live(times: int) -> None:
        for _ in range(times):
            with ManagedThread(lambda running: running.wait(), name="mayfly"):
                pass

    live(500)
    threads, files = threading.active_count(), open_files()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    live(10_000)
    assert threading.active_count() <= threads
    assert open_files() <= files
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 8 * 1024  # kB


def test_no_message_is_lost_or_doubled() -> None:
    """Eight threads publish 5,000 messages each; every subscriber hears each of them once."""
    bus = Bus()
    heard: list[object] = []  # list.append is atomic
    bus.on("numbers.*")(lambda message: heard.append(message.payload))

    def publish(worker: int) -> None:
        for number in range(5_000):
            assert bus.publish(f"numbers.{worker}", (worker, number)).reached == 1

    for one in [Background(lambda worker=worker: publish(worker)) for worker in range(8)]:
        one.thread.join(300)
        one.result()
    assert len(heard) == len(set(heard)) == 40_000
    bus.stop()


def test_every_job_runs_once_and_the_figures_add_up() -> None:
    """Four threads submit 5,000 jobs each to eight workers, while a fifth looks at the figures all the time."""
    done: list[object] = []
    queue = WorkQueue(workers=8, maxsize=500, keep=100)
    queue.handler("note")(done.append)
    looking = threading.Event()

    def submit(worker: int) -> None:
        for number in range(5_000):
            queue.submit("note", (worker, number))

    def look() -> int:
        looks = 0
        while not looking.is_set():
            figures = queue.stats().as_dict()
            states = [value for name, value in figures.items() if name in STATES]
            assert min(states) >= 0, figures
            assert sum(states) == figures["submitted"], figures
            looks += 1
        return looks

    with queue:
        looker = Background(look)
        crowd = [Background(lambda worker=worker: submit(worker)) for worker in range(4)]
        for one in crowd:
            one.thread.join(300)
            one.result()
        assert queue.drain(timeout=60)
        looking.set()
        assert looker.result() > 0
    assert len(done) == len(set(done)) == 20_000
    assert queue.stats().completed == 20_000


STATES = {
    "scheduled",
    "pending",
    "running",
    "retrying",
    "completed",
    "failed",
    "cancelled",
    "expired",
    "discarded",
}


def test_permits_never_leak(quiet: None) -> None:
    """After 20,000 calls that returned, raised, were cancelled or refused, an executor takes as many as at first."""
    with BoundedExecutor(4, max_pending=16, on_full="reject") as executor:

        def use(worker: int) -> None:
            for number in range(5_000):
                try:
                    future = executor.submit(divmod, number, number % 3)
                except Full:
                    continue
                if number % 5 == worker:
                    future.cancel()

        for one in [Background(lambda worker=worker: use(worker)) for worker in range(4)]:
            one.thread.join(300)
            one.result()
        gate = threading.Event()
        while executor.stats().running or executor.stats().pending:
            executor.submit(int).result(timeout=60) if executor.stats().pending < 8 else None
        futures = [executor.submit(gate.wait, 60) for _ in range(20)]
        with pytest.raises(Full):
            executor.submit(int)
        gate.set()
        assert all(future.result(timeout=60) for future in futures)


def test_tokens_wake_everybody_every_time() -> None:
    """Over 2,000 rounds, eight waiters on a tree of tokens are all woken by a set that races with their wait."""
    for _ in range(2_000):
        root = StopToken()
        waiters = [Background(lambda root=root: root.child().child().wait(30)) for _ in range(8)]
        root.set()
        assert all(one.result() for one in waiters)


def test_stopping_while_everybody_adds() -> None:
    """Over 200 rounds, a lifecycle that stops while others add to it either starts and stops each, or refuses it."""
    numbers = itertools.count()
    for _ in range(200):
        lc = Lifecycle()
        lc.start()
        threads: list[ManagedThread] = []

        def add(lc: Lifecycle = lc, threads: list[ManagedThread] = threads) -> None:
            for _ in range(5):
                name = f"added {next(numbers)}"
                thread = ManagedThread(lambda running: running.wait(), name=name)
                try:
                    lc.add(thread)
                except Closed:
                    return
                threads.append(thread)

        crowd = [Background(add) for _ in range(4)]
        assert lc.shutdown().ok
        for one in crowd:
            one.result()
        for thread in threads:
            assert thread.join(5)


def test_mailboxes_keep_their_order() -> None:
    """A subscriber on an executor gets the messages of one publisher in their order, 20,000 of them."""
    heard: list[object] = []
    with BoundedExecutor(4) as executor, Bus(executor=executor, maxsize=50) as bus:

        def hear(message: Message) -> None:
            heard.append(message.payload)

        bus.subscribe("numbers", hear)
        for number in range(20_000):
            bus.publish("numbers", number)
        bus.stop()
        assert bus.join(60)
    assert heard == list(range(20_000))


def test_a_million_calls_leave_nothing() -> None:
    """Resident memory is flat over a million calls, of which some raise and some are cancelled."""

    def call(times: int) -> None:
        for number in range(times):
            future = executor.submit(divmod, number, number % 100)
            if number % 7 == 0:
                future.cancel()
            future.add_done_callback(lambda future: future.cancelled() or future.exception())

    with BoundedExecutor(4, max_pending=1_000) as executor:
        call(100_000)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        call(1_000_000)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 8 * 1024  # kB
    stats = executor.stats()
    assert stats.submitted == 1_100_000 == stats.completed + stats.failed + stats.cancelled


def test_one_rebuild_for_each_break() -> None:
    """Over 300 breaks, under six threads that submit, the engine is replaced once each time, and every call is made."""

    class Mortal(Executor):
        """Runs calls here, until it is killed."""

        is_dead = False

        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            if self.is_dead:
                raise BrokenExecutor("dead")
            future: Future[Any] = Future()
            future.set_result(fn(*args, **kwargs))
            return future

    made: list[Mortal] = []

    def make() -> Mortal:
        made.append(Mortal())
        return made[-1]

    retry = Retry(50, backoff.constant(0.001))
    with BoundedExecutor(inner=make, recreate=1_000, submit_retry=retry) as executor:
        for number in range(300):
            executor.submit(abs, -1).result(30)
            made[-1].is_dead = True
            submitters = [Background(lambda: executor.submit(abs, -7).result(30)) for _ in range(6)]
            assert [submitter.result() for submitter in submitters] == [7] * 6
            assert len(made) == number + 2
    assert executor.stats().rebuilds == 300


def test_dropping_executors_while_they_work() -> None:
    """A thousand executors are dropped with calls in flight: each call is made, and no thread is left."""
    before = threading.active_count()
    futures: list[Future[int]] = []
    for number in range(1_000):
        executor = BoundedExecutor(2)
        futures += [executor.submit(abs, -number) for _ in range(5)]
        del executor
    assert sum(future.result(30) for future in futures) == 5 * sum(range(1_000))
    for thread in threading.enumerate():
        if thread.name.startswith("executor"):
            thread.join(30)
    assert threading.active_count() <= before + 1  # the stopper stays


async def longest_stall(end: asyncio.Future[Any]) -> float:
    """Return the longest time, in seconds of the day, that the loop left a heartbeat waiting until ``end``."""
    longest, last = 0.0, own_time()
    while not end.done():
        await asyncio.sleep(0.001)
        now = own_time()
        longest, last = max(longest, now - last), now
    return longest


def own_time() -> float:
    """Return the time of day, less what this thread has waited for a processor that another program had."""
    waited = int(SCHEDULE.read_text().split()[1]) / 1e9 if SCHEDULE.is_file() else 0.0
    return time.monotonic() - waited


def test_the_heartbeat_sees_a_blocked_loop() -> None:
    """What measures the stalls of a loop sees one in which the loop's thread only waits, and uses no processor."""

    async def block() -> None:
        await asyncio.sleep(0.01)
        time.sleep(0.1)  # noqa: ASYNC251 - what is tested

    async def main() -> float:
        return await longest_stall(asyncio.ensure_future(block()))

    assert asyncio.run(main()) >= 0.1


@pytest.mark.parametrize(
    ("arguments", "calls"),
    [
        ({"max_workers": 2}, 20_000),
        ({"inner": lambda: ThreadPoolExecutor(2)}, 10_000),
        ({"inner": executors.processes(2)}, 3_000),
    ],
    ids=["own threads", "a thread pool", "processes"],
)
def test_a_full_executor_does_not_stall_the_loop(arguments: dict[str, Any], calls: int) -> None:
    """While thousands of calls crowd a small executor, the event loop comes round every 50 ms at least."""
    sys.setswitchinterval(0.005)  # the interpreter's own: what is measured is what users have

    async def main() -> float:
        everything = asyncio.gather(*(executor.acall(sum, range(100)) for _ in range(calls)))
        await asyncio.sleep(0)  # which begins all of them: that is the program's own doing
        longest = await longest_stall(everything)
        assert everything.result() == [4950] * calls
        return longest

    with BoundedExecutor(**arguments, max_pending=10) as executor:
        executor.submit(abs, -1).result(30)  # an engine starts with its first call
        # A busy machine may stall it now and then: whoever has the interpreter's lock waits for a processor, too. What
        # stalls the loop itself does so each time.
        assert any(asyncio.run(main()) < 0.05 for _ in range(5))
