"""The executor: calls that do nothing, so that only what an executor costs is seen."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from time import perf_counter
from typing import Any

from row import Case, Figure, Figures, Goal, Row

WORKERS = 4
BOUND = 1_000
CHUNK = 1_000

Submit = Callable[[Callable[[], None]], "Future[None]"]


def nothing() -> None:
    """Be the work."""


def identity(number: int) -> int:
    """Be the work of a map."""
    return number


# Submit all, then take each result. ----------------------------------------------------------------------------------


def pipelined(submit: Submit, size: int) -> Figures:
    """Time it after a tenth of the work for warming up, which starts the threads."""
    for number in (size // 10, size):
        began = perf_counter()
        futures = [submit(nothing) for _ in range(number)]
        for future in futures:
            future.result()
        seconds = perf_counter() - began
        del futures
    return {"rate": size / seconds}


def own_pipelined(size: int) -> Figures:
    from threadkit import BoundedExecutor

    with BoundedExecutor(WORKERS, max_pending=BOUND) as executor:
        return pipelined(executor.submit, size)


def own_pipelined_unbounded(size: int) -> Figures:
    from threadkit import BoundedExecutor

    with BoundedExecutor(WORKERS, max_pending=float("inf")) as executor:
        return pipelined(executor.submit, size)


def standard_pipelined(size: int) -> Figures:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(WORKERS) as executor:
        return pipelined(executor.submit, size)


def standard_pipelined_bounded(size: int) -> Figures:
    """Bind the standard library's executor as one does by hand: a permit for each call, given back by its future."""
    from concurrent.futures import ThreadPoolExecutor

    permits = threading.BoundedSemaphore(WORKERS + BOUND)

    with ThreadPoolExecutor(WORKERS) as executor:

        def submit(func: Callable[[], None]) -> Future[None]:
            permits.acquire()
            future = executor.submit(func)
            future.add_done_callback(give_back)
            return future

        def give_back(_: Future[None]) -> None:
            permits.release()

        return pipelined(submit, size)


def futurist_pipelined(size: int) -> Figures:
    import futurist

    with futurist.ThreadPoolExecutor(max_workers=WORKERS) as executor:
        return pipelined(executor.submit, size)


def pebble_pipelined(size: int) -> Figures:
    import pebble

    with pebble.ThreadPool(max_workers=WORKERS) as pool:
        return pipelined(pool.schedule, size)


def floor_pipelined(size: int) -> Figures:
    """Do no more than hand each call to a thread and a mark back: no future, no error, no bound."""
    calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
    marks: SimpleQueue[None] = SimpleQueue()

    def work() -> None:
        while (call := calls.get()) is not None:
            marks.put(call())

    threads = [threading.Thread(target=work) for _ in range(WORKERS)]
    for thread in threads:
        thread.start()
    for number in (size // 10, size):
        began = perf_counter()
        for _ in range(number):
            calls.put(nothing)
        for _ in range(number):
            marks.get()
        seconds = perf_counter() - began
    for _ in threads:
        calls.put(None)
    for thread in threads:
        thread.join()
    return {"rate": size / seconds}


# Submit one, take its result, submit the next. -----------------------------------------------------------------------


def alternating(executor: Executor, size: int) -> Figures:
    for number in (size // 10, size):
        began = perf_counter()
        for _ in range(number):
            executor.submit(nothing).result()
        seconds = perf_counter() - began
    return {"microseconds": seconds / size * 1e6}


def own_alternating(size: int) -> Figures:
    from threadkit import BoundedExecutor

    with BoundedExecutor(WORKERS, max_pending=BOUND) as executor:
        return alternating(executor, size)


def standard_alternating(size: int) -> Figures:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(WORKERS) as executor:
        return alternating(executor, size)


# Map. ----------------------------------------------------------------------------------------------------------------


def mapped(call: Callable[[int], Any], size: int) -> Figures:
    """Time ``call``, which maps so many numbers, after a tenth for warming up; what it returns is checked."""
    for number in (size // 10, size):
        began = perf_counter()
        results = list(call(number))
        seconds = perf_counter() - began
    if results != list(range(size)):
        raise RuntimeError("the results of the map are wrong")
    return {"rate": size / seconds}


def own_map(size: int) -> Figures:
    from threadkit import BoundedExecutor

    with BoundedExecutor(WORKERS, max_pending=BOUND) as executor:
        return mapped(lambda number: executor.map(identity, range(number), chunksize=CHUNK), size)


def standard_map(size: int) -> Figures:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(WORKERS) as executor:
        return mapped(lambda number: executor.map(identity, range(number), chunksize=CHUNK), size)


def multiprocessing_map(size: int) -> Figures:
    from multiprocessing.pool import ThreadPool

    with ThreadPool(WORKERS) as pool:
        return mapped(lambda number: pool.map(identity, range(number), chunksize=CHUNK), size)


RATE = Figure("rate", "calls/s", more_is_better=True)

EXECUTOR = Row(
    name="executor",
    title="submit {size} calls to 4 workers, then take each result",
    figures=(RATE,),
    cases=(
        Case("threadkit, bounded", own_pipelined, "threadkit"),
        Case("threadkit, no bound", own_pipelined_unbounded, "threadkit"),
        Case("ThreadPoolExecutor", standard_pipelined),
        Case("ThreadPoolExecutor + semaphore", standard_pipelined_bounded),
        Case("futurist", futurist_pipelined, "futurist"),
        Case("pebble", pebble_pipelined, "pebble"),
        Case("floor: SimpleQueue, no futures", floor_pipelined),
    ),
    goals=(
        Goal("rate", 2.5, "ThreadPoolExecutor", case="threadkit, bounded"),
        Goal("rate", 2.5, "ThreadPoolExecutor + semaphore", case="threadkit, bounded"),
    ),
    size=50_000,
    quick=1_000,
    baseline="ThreadPoolExecutor",
    note="Bounded: at most 1,000 calls wait. pebble and futurist have no bound.",
)

ROUND_TRIP = Row(
    name="round-trip",
    title="submit one call and take its result, {size} times in a row",
    figures=(Figure("microseconds", "us/call"),),
    cases=(
        Case("threadkit", own_alternating, "threadkit"),
        Case("ThreadPoolExecutor", standard_alternating),
    ),
    goals=(),
    size=10_000,
    quick=500,
    baseline="ThreadPoolExecutor",
    note="Two changes of thread a call; most of it is the operating system's.",
)

MAP = Row(
    name="map",
    title="map {size} numbers in chunks of 1,000, 4 workers",
    figures=(RATE,),
    cases=(
        Case("threadkit", own_map, "threadkit"),
        Case("multiprocessing.pool.ThreadPool", multiprocessing_map),
        Case("ThreadPoolExecutor", standard_map),
    ),
    goals=(Goal("rate", 1_000_000),),
    size=200_000,
    quick=5_000,
    baseline="multiprocessing.pool.ThreadPool",
    note="ThreadPoolExecutor takes a chunksize and ignores it.",
)
