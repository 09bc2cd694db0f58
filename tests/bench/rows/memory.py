"""Jobs that wait for their time: what each takes of the memory, and what it costs to submit it."""

from __future__ import annotations

import sched
import tracemalloc
from collections.abc import Callable
from time import perf_counter

from row import Case, Figure, Figures, Goal, Row

HOUR = 3_600.0


def nothing(payload: object = None) -> None:
    """Be the job."""


def filled(submit: Callable[[int], object], size: int) -> float:
    """Submit so many, due in an hour and later, the first last; return the seconds that took."""
    began = perf_counter()
    for number in range(size, 0, -1):
        submit(number)
    return perf_counter() - began


def own(size: int) -> Figures:
    from threadkit import WorkQueue

    def fill() -> tuple[float, int]:
        with WorkQueue(maxsize=float("inf"), on_stop="finish") as jobs:
            jobs.handler("nothing")(nothing)
            before = tracemalloc.get_traced_memory()[0]
            seconds = filled(lambda number: jobs.submit("nothing", delay=HOUR + number), size)
            return seconds, tracemalloc.get_traced_memory()[0] - before

    seconds, _ = fill()
    tracemalloc.start()
    _, used = fill()
    return {"bytes": used / size, "microseconds": seconds / size * 1e6}


def standard(size: int) -> Figures:
    def fill() -> tuple[float, int]:
        jobs = sched.scheduler()
        before = tracemalloc.get_traced_memory()[0]
        seconds = filled(lambda number: jobs.enter(HOUR + number, 0, nothing), size)
        return seconds, tracemalloc.get_traced_memory()[0] - before

    seconds, _ = fill()
    tracemalloc.start()
    _, used = fill()
    return {"bytes": used / size, "microseconds": seconds / size * 1e6}


MEMORY = Row(
    name="memory",
    title="{size} jobs in memory that wait for an hour and more",
    figures=(Figure("bytes", "bytes/job"), Figure("microseconds", "us/submit")),
    cases=(
        Case("threadkit", own, "threadkit"),
        Case("sched.scheduler", standard),
    ),
    goals=(Goal("bytes", 1_000),),
    size=100_000,
    quick=500,
    baseline="sched.scheduler",
    note="Submits are timed in a pass of their own, without tracemalloc. sched keeps a date and a function, no record.",
)
