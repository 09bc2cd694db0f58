"""Interval tasks: what a firing costs, whether any is missed, and whether the ticks stay on their grid."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from statistics import linear_regression, median, quantiles

from row import Case, Figure, Figures, Goal, Row

Task = Callable[[], None]
Runner = Callable[[list[Task], float], AbstractContextManager[object]]
"""Runs each task every so many seconds while the block is entered."""

GRACE = 0.4  # seconds; a firing that is later than this at the end of the window counts as missed
TICK = 0.05


# The ways to run them. -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def with_threadkit(tasks: list[Task], every: float) -> Iterator[None]:
    from threadkit import IntervalTask, Lifecycle

    with Lifecycle() as lc:
        for number, task in enumerate(tasks):
            lc.add(IntervalTask(task, every, name=f"task-{number}"))
        yield


@contextlib.contextmanager
def with_threads(tasks: list[Task], every: float) -> Iterator[None]:
    """Give each task a thread that keeps to its grid."""
    over = threading.Event()

    def repeat(task: Task) -> None:
        due = time.monotonic() + every
        while not over.wait(max(0.0, due - time.monotonic())):
            task()
            due += every

    threads = [threading.Thread(target=repeat, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


@contextlib.contextmanager
def with_naive_threads(tasks: list[Task], every: float) -> Iterator[None]:
    """Give each task a thread that waits for the interval, as it is usually written."""
    over = threading.Event()

    def repeat(task: Task) -> None:
        while not over.wait(every):
            task()

    threads = [threading.Thread(target=repeat, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


@contextlib.contextmanager
def with_apscheduler(tasks: list[Task], every: float) -> Iterator[None]:
    from apscheduler.schedulers.background import BackgroundScheduler

    scheduler = BackgroundScheduler()
    for task in tasks:
        scheduler.add_job(task, "interval", seconds=every)
    scheduler.start()
    try:
        yield
    finally:
        scheduler.shutdown()


@contextlib.contextmanager
def with_futurist(tasks: list[Task], every: float) -> Iterator[None]:
    from futurist import periodics

    worker = periodics.PeriodicWorker([(periodics.periodic(every)(task), (), {}) for task in tasks])
    thread = threading.Thread(target=worker.start)
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join()


@contextlib.contextmanager
def with_schedule(tasks: list[Task], every: float) -> Iterator[None]:
    import schedule

    scheduler = schedule.Scheduler()
    for task in tasks:
        scheduler.every(round(every)).seconds.do(task)
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(max(0.0, scheduler.idle_seconds or 0.0)):
            scheduler.run_pending()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


# What is looked at. --------------------------------------------------------------------------------------------------


class Firings:
    """Tasks that do nothing but count, each for itself: a task never runs twice at a time."""

    def __init__(self, number: int) -> None:
        self._counts = [0] * number
        self.tasks = [self._task(index) for index in range(number)]

    def _task(self, index: int) -> Task:
        counts = self._counts

        def fire() -> None:
            counts[index] += 1

        return fire

    def total(self) -> int:
        return sum(self._counts)

    def missed(self, expected: int) -> int:
        return sum(max(0, expected - count) for count in self._counts)


def observed(runner: Runner, size: int, seconds: int = 5) -> Figures:
    """Watch tasks that are due each second for some seconds, from when all have been started."""
    firings = Firings(size)
    threads_before = threading.active_count()
    began = time.monotonic()
    with runner(firings.tasks, 1.0):
        started_in = time.monotonic() - began
        cpu, fired = time.process_time(), firings.total()
        time.sleep(seconds + GRACE)
        cpu, fired = time.process_time() - cpu, firings.total() - fired
        missed = firings.missed(seconds)
        threads = threading.active_count() - threads_before
    return {"cpu": cpu / fired * 1e6, "missed": missed, "threads": threads, "start": started_in}


def idle_cpu(size: int, seconds: float = 3.0) -> float:
    """Return the share of one core that tasks cost which are due in an hour."""
    with with_threadkit(Firings(size).tasks, 3_600.0):
        cpu = time.process_time()
        time.sleep(seconds)
        return (time.process_time() - cpu) / seconds * 100


def own_many(size: int) -> Figures:
    return {**observed(with_threadkit, size), "idle": idle_cpu(size)}


def ticking(runner: Runner, size: int) -> Figures:
    """Note the moment of each of so many ticks of 100 tasks at 20 Hz, and lay the straight line through them.

    Lateness is what a tick lies behind the best grid that its task could be on: peers do not tell when a tick was due.
    """
    moments: list[list[float]] = [[] for _ in range(100)]

    def task(own: list[float]) -> Task:
        return lambda: own.append(time.monotonic())

    with runner([task(own) for own in moments], TICK):
        time.sleep(size * TICK + GRACE)
    slopes: list[float] = []
    lateness: list[float] = []
    missed = 0
    for own in moments:
        ticks = own[:size]
        missed += size - len(ticks)
        offsets = [moment - number * TICK for number, moment in enumerate(ticks)]
        slopes.append(linear_regression(range(len(offsets)), offsets).slope)
        lateness += [offset - min(offsets) for offset in offsets]
    return {
        "drift": abs(median(slopes)) * 1e3,
        "late": quantiles(lateness, n=100)[98] * 1e3,
        "missed": missed,
    }


def watched(runner: Runner) -> Callable[[int], Figures]:
    return lambda size: observed(runner, size)


def ticked(runner: Runner) -> Callable[[int], Figures]:
    return lambda size: ticking(runner, size)


CPU = Figure("cpu", "us CPU/firing")
MISSED = Figure("missed", "missed")
THREADS = Figure("threads", "threads")

INTERVALS = Row(
    name="intervals",
    title="{size} tasks due each second, watched for 5 s",
    figures=(CPU, MISSED, THREADS),
    cases=(
        Case("threadkit", watched(with_threadkit), "threadkit"),
        Case("a thread each", watched(with_threads)),
        Case("APScheduler", watched(with_apscheduler), "apscheduler"),
        Case("futurist", watched(with_futurist), "futurist"),
        Case("schedule", watched(with_schedule), "schedule"),
    ),
    goals=(Goal("cpu", 15), Goal("missed", 0)),
    size=1_000,
    quick=20,
    baseline="a thread each",
    note="CPU of the whole process. schedule and futurist call the tasks one after the other, in one thread.",
)

TICKS = Row(
    name="ticks",
    title="100 tasks at 20 Hz, {size} ticks",
    figures=(Figure("drift", "ms drift/tick"), Figure("late", "ms late (99 %)"), MISSED),
    cases=(
        Case("threadkit", ticked(with_threadkit), "threadkit"),
        Case("a thread each, on a grid", ticked(with_threads)),
        Case("a thread each, wait(interval)", ticked(with_naive_threads)),
        Case("APScheduler", ticked(with_apscheduler), "apscheduler"),
        Case("futurist", ticked(with_futurist), "futurist"),
    ),
    goals=(Goal("drift", 0.1), Goal("missed", 0)),
    size=120,
    quick=10,
    note="schedule knows whole seconds only. Missed: not run by the end, be it left out or still to come.",
)

MANY = Row(
    name="many",
    title="{size} tasks due each second for 5 s, then as many that are due in an hour",
    figures=(
        CPU,
        MISSED,
        THREADS,
        Figure("idle", "% idle CPU"),
        Figure("start", "s to start"),
    ),
    cases=(Case("threadkit", own_many, "threadkit"),),
    goals=(Goal("missed", 0), Goal("threads", 34), Goal("idle", 0.1)),
    size=10_000,
    quick=50,
    note="Threads: one scheduler, the stopper, and a pool of at most 32 that all tasks of a lifecycle share.",
)
