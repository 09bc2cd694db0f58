"""The work queue on a file: one producer, whose submit returns when the job is safe, until every job has completed."""

from __future__ import annotations

import functools
import logging
import tempfile
import threading
from collections.abc import Callable
from time import perf_counter
from typing import Any, Literal

from row import Case, Figure, Figures, Goal, Row
from rows.jobs import PATIENCE, WORKERS, Countdown, nothing


def timed(size: int, submit: Callable[[int], None], wait: Callable[[], None]) -> Figures:
    """Submit a tenth to warm up, then all."""
    submitted = completed = 0.0
    for number in (size // 10, size):
        began = perf_counter()
        submit(number)
        submitted = perf_counter() - began
        wait()
        completed = perf_counter() - began
    return {"rate": size / completed, "submitted": size / submitted}


def own(size: int, durability: Literal["power", "process", "eventual"] = "power", *, at_once: bool = False) -> Figures:
    """Keep the full record of every job."""
    from threadkit import WorkQueue, stores

    with tempfile.TemporaryDirectory() as folder:
        store = stores.SQLiteStore(f"{folder}/jobs.db", durability)
        with WorkQueue(workers=WORKERS, maxsize=float("inf"), keep=size, store=store) as jobs:
            jobs.handler("nothing")(nothing)

            def submit(number: int) -> None:
                if at_once:
                    jobs.submit_many("nothing", range(number))
                else:
                    for each in range(number):
                        jobs.submit("nothing", each)

            def wait() -> None:
                if not jobs.drain(PATIENCE):
                    raise TimeoutError("the queue was not drained")

            return timed(size, submit, wait)


def huey_sqlite(size: int) -> Figures:
    """Synced at each commit; a job leaves the file before it runs. Looks for work a hundred times more often."""
    import huey

    logging.getLogger("huey").setLevel(logging.ERROR)
    countdown = Countdown()
    with tempfile.TemporaryDirectory() as folder:
        broker = huey.SqliteHuey(filename=f"{folder}/huey.db", store_none=True, fsync=True)
        job: Any = broker.task()(countdown.step)
        consumer = broker.create_consumer(workers=WORKERS, initial_delay=0.001, max_delay=0.001, periodic=False)
        consumer.start()

        def submit(number: int) -> None:
            countdown.expect(number)
            for each in range(number):
                job(each)

        figures = timed(size, submit, countdown.wait)
        consumer.stop(graceful=True)
        return figures


def persist_queue(size: int) -> Figures:
    """Synced at each commit, acknowledged; nothing but a line: no handlers, retries or results."""
    import persistqueue

    countdown = Countdown()
    with tempfile.TemporaryDirectory() as folder:
        line: Any = persistqueue.SQLiteAckQueue(folder, multithreading=True, auto_commit=True)

        def work() -> None:
            while (item := line.get()) is not None:
                line.ack(item)
                countdown.step()

        for _ in range(WORKERS):
            threading.Thread(target=work, daemon=True).start()

        def submit(number: int) -> None:
            countdown.expect(number)
            for each in range(number):
                line.put(each)

        return timed(size, submit, countdown.wait)


_PEERS = (Case("huey", huey_sqlite, "huey"), Case("persist-queue", persist_queue, "persist-queue"))

ON_DISK = Row(
    name="queue-on-disk",
    title="submit {size} jobs, each on the disk before its submit returns, and wait until all have completed",
    figures=(Figure("rate", "jobs/s", more_is_better=True), Figure("submitted", "jobs/s", more_is_better=True)),
    cases=(
        Case("threadkit", own, "threadkit"),
        Case("threadkit, process", functools.partial(own, durability="process"), "threadkit"),
        Case("threadkit, eventual", functools.partial(own, durability="eventual"), "threadkit"),
        Case("threadkit, at once", functools.partial(own, at_once=True), "threadkit"),
        *_PEERS,
    ),
    goals=(
        Goal("rate", 3, "huey"),
        Goal("rate", 3, "persist-queue"),
        Goal("rate", 6, "huey", case="threadkit, process"),
        Goal("submitted", 15, "huey", case="threadkit, at once"),
    ),
    size=3000,
    quick=100,
    baseline="huey",
    note=(
        "huey and persist-queue sync each commit, as threadkit does unless said otherwise; huey loses a job in hand. "
        "At once is submit_many(), which the others have not."
    ),
)
