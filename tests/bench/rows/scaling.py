"""How throughput grows: with threads, where calls wait for something, and with processes, where they compute."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import Executor
from time import perf_counter, sleep

from row import Case, Figure, Figures, Goal, Row

WAIT = 0.01  # seconds that a call waits, as for an answer over the network
COUNT = 300_000  # what a call that computes counts to

RATE = Figure("rate", "calls/s", more_is_better=True)


def count() -> int:
    """Be a call that computes."""
    return sum(range(COUNT))


def throughput(executor: Executor, func: Callable[[], object], size: int) -> Figures:
    """Time it after a few calls for warming up, which start the workers."""
    for number in (64, size):
        began = perf_counter()
        for future in [executor.submit(func) for _ in range(number)]:
            future.result()
        seconds = perf_counter() - began
    return {"rate": size / seconds}


def own_threads(workers: int, size: int) -> Figures:
    from threadkit import BoundedExecutor

    with BoundedExecutor(workers) as executor:
        return throughput(executor, functools.partial(sleep, WAIT), size * workers)


def standard_threads(workers: int, size: int) -> Figures:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(workers) as executor:
        return throughput(executor, functools.partial(sleep, WAIT), size * workers)


def own_processes(workers: int, size: int) -> Figures:
    from threadkit import BoundedExecutor, executors

    with BoundedExecutor(inner=executors.processes(workers)) as executor:
        return throughput(executor, count, size)


def own_threads_computing(workers: int, size: int) -> Figures:
    from threadkit import BoundedExecutor

    with BoundedExecutor(workers) as executor:
        return throughput(executor, count, size)


SCALING_THREADS = Row(
    name="scaling-threads",
    title="calls that wait 10 ms, {size} for each thread",
    figures=(RATE,),
    cases=(
        *(
            Case(
                f"threadkit, {workers} thread{'' if workers == 1 else 's'}",
                functools.partial(own_threads, workers),
                "threadkit",
            )
            for workers in (1, 4, 16, 64)
        ),
        Case("ThreadPoolExecutor, 64 threads", functools.partial(standard_threads, 64)),
    ),
    goals=(
        Goal("rate", 3.6, "threadkit, 1 thread", case="threadkit, 4 threads"),
        Goal("rate", 14.4, "threadkit, 1 thread", case="threadkit, 16 threads"),
        Goal("rate", 57.6, "threadkit, 1 thread", case="threadkit, 64 threads"),
    ),
    size=100,
    quick=5,
    baseline="threadkit, 1 thread",
    note="Linear would be as many times as there are threads; the goal is nine tenths of it.",
)

SCALING_PROCESSES = Row(
    name="scaling-processes",
    title="{size} calls that count to 300,000",
    figures=(RATE,),
    cases=(
        Case("threadkit, 1 process", functools.partial(own_processes, 1), "threadkit"),
        Case("threadkit, 2 processes", functools.partial(own_processes, 2), "threadkit"),
        Case("threadkit, 2 threads", functools.partial(own_threads_computing, 2), "threadkit"),
    ),
    goals=(Goal("rate", 1.7, "threadkit, 1 process", case="threadkit, 2 processes"),),
    size=400,
    quick=10,
    baseline="threadkit, 1 process",
    note="Needs two processors that nobody else wants. Threads share one interpreter, so a second one adds nothing.",
)
