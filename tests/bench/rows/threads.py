"""Managed threads: what their start and stop cost beside raw ones."""

from __future__ import annotations

import threading
from time import perf_counter

from row import Case, Figure, Figures, Goal, Row


def own(size: int) -> Figures:
    from threadkit import ManagedThread, StopToken

    def body(token: StopToken) -> None:
        token.wait()

    for number in (size // 10, size):
        began = perf_counter()
        threads = [ManagedThread(body, name=f"worker-{index}") for index in range(number)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.stop()
        for thread in threads:
            if not thread.join(30):
                raise TimeoutError(f"{thread.name} did not stop")
        seconds = perf_counter() - began
    return {"milliseconds": seconds * 1e3}


def own_lifecycle(size: int) -> Figures:
    from threadkit import Lifecycle, ManagedThread, StopToken

    def body(token: StopToken) -> None:
        token.wait()

    for number in (size // 10, size):
        began = perf_counter()
        with Lifecycle() as lc:
            for index in range(number):
                lc.add(ManagedThread(body, name=f"worker-{index}"))
        seconds = perf_counter() - began
        if lc.report is None or not lc.report.ok:
            raise RuntimeError(str(lc.report))
    return {"milliseconds": seconds * 1e3}


def raw(size: int) -> Figures:
    for number in (size // 10, size):
        began = perf_counter()
        over = threading.Event()
        threads = [threading.Thread(target=over.wait, name=f"worker-{index}", daemon=True) for index in range(number)]
        for thread in threads:
            thread.start()
        over.set()
        for thread in threads:
            thread.join()
        seconds = perf_counter() - began
    return {"milliseconds": seconds * 1e3}


THREADS = Row(
    name="threads",
    title="make, start, stop and join {size} threads that wait",
    figures=(Figure("milliseconds", "ms"),),
    cases=(
        Case("threadkit", own, "threadkit"),
        Case("threadkit, in a Lifecycle", own_lifecycle, "threadkit"),
        Case("Thread + one Event", raw),
    ),
    goals=(
        Goal("milliseconds", 1.6, "Thread + one Event"),
        Goal("milliseconds", 1.6, "Thread + one Event", case="threadkit, in a Lifecycle"),
    ),
    size=1_000,
    quick=50,
    baseline="Thread + one Event",
)
