"""The work queue in memory: from the first submit until every job has completed."""

from __future__ import annotations

import logging
import queue
import threading
from concurrent.futures import Future, wait
from time import perf_counter
from typing import Any

from row import Case, Figure, Figures, Goal, Row

WORKERS = 4
BOUND = 10_000
PATIENCE = 120.0


def nothing(payload: object = None) -> None:
    """Be the job."""


def own(size: int) -> Figures:
    """Keep the full record of every job, and check that each was completed."""
    from threadkit import JobState, WorkQueue

    seconds = 0.0
    for number in (size // 10, size):
        with WorkQueue(workers=WORKERS, maxsize=BOUND, keep=size) as jobs:
            jobs.handler("nothing")(nothing)
            began = perf_counter()
            for _ in range(number):
                jobs.submit("nothing")
            if not jobs.drain(PATIENCE):
                raise TimeoutError("the queue was not drained")
            seconds = perf_counter() - began
            completed = sum(1 for _ in jobs.jobs(state=JobState.COMPLETED))
            if completed != number:
                raise RuntimeError(f"{completed} of {number} jobs were completed")
    return {"rate": size / seconds}


def standard(size: int) -> Figures:
    """Keep the futures as the record."""
    from concurrent.futures import ThreadPoolExecutor

    seconds = 0.0
    with ThreadPoolExecutor(WORKERS) as executor:
        for number in (size // 10, size):
            began = perf_counter()
            futures: list[Future[None]] = [executor.submit(nothing) for _ in range(number)]
            wait(futures)
            seconds = perf_counter() - began
    return {"rate": size / seconds}


def by_hand(size: int) -> Figures:
    """Keep nothing: a bounded queue and four threads, as they are written every day."""
    jobs: queue.Queue[Any] = queue.Queue(BOUND)

    def work() -> None:
        while (job := jobs.get()) is not None:
            job()
            jobs.task_done()

    threads = [threading.Thread(target=work) for _ in range(WORKERS)]
    for thread in threads:
        thread.start()
    seconds = 0.0
    for number in (size // 10, size):
        began = perf_counter()
        for _ in range(number):
            jobs.put(nothing)
        jobs.join()
        seconds = perf_counter() - began
    for _ in threads:
        jobs.put(None)
    for thread in threads:
        thread.join()
    return {"rate": size / seconds}


class Countdown:
    """Tells when so many jobs have run, for peers that cannot be asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _left
        self._left = 0
        self._over = threading.Event()

    def expect(self, number: int) -> None:
        self._left = number
        self._over.clear()

    def step(self, *_: object) -> None:
        with self._lock:
            self._left -= 1
            if not self._left:
                self._over.set()

    def wait(self) -> None:
        if not self._over.wait(PATIENCE):
            raise TimeoutError(f"{self._left} jobs have not run")


def huey_memory(size: int) -> Figures:
    """Keep the results, and look for work a hundred times more often than by default, which is to huey's advantage."""
    import huey

    logging.getLogger("huey").setLevel(logging.ERROR)
    countdown = Countdown()
    broker = huey.MemoryHuey(store_none=True)
    job = broker.task()(countdown.step)
    consumer = broker.create_consumer(workers=WORKERS, initial_delay=0.001, max_delay=0.001, periodic=False)
    consumer.start()
    seconds = 0.0
    for number in (size // 10, size):
        countdown.expect(number)
        began = perf_counter()
        for _ in range(number):
            job()
        countdown.wait()
        seconds = perf_counter() - began
    consumer.stop(graceful=True)
    return {"rate": size / seconds}


def dramatiq_stub(size: int) -> Figures:
    """Keep nothing: the stub broker lives in memory and has no backend for results."""
    import dramatiq
    from dramatiq.brokers.stub import StubBroker

    broker = StubBroker(middleware=[])
    actor = dramatiq.actor(nothing, broker=broker)
    worker = dramatiq.Worker(broker, worker_threads=WORKERS, worker_timeout=100)
    worker.start()
    seconds = 0.0
    for number in (size // 10, size):
        began = perf_counter()
        for _ in range(number):
            actor.send()
        broker.join(actor.queue_name)
        worker.join()
        seconds = perf_counter() - began
    worker.stop()
    return {"rate": size / seconds}


def apscheduler_now(size: int) -> Figures:
    """Keep nothing: a job without a date runs at once, and is gone."""
    from apscheduler.executors.pool import ThreadPoolExecutor
    from apscheduler.schedulers.background import BackgroundScheduler

    countdown = Countdown()
    scheduler = BackgroundScheduler(
        executors={"default": ThreadPoolExecutor(WORKERS)}, job_defaults={"misfire_grace_time": None}
    )
    scheduler.start()
    seconds = 0.0
    for number in (size // 10, size):
        countdown.expect(number)
        began = perf_counter()
        for _ in range(number):
            scheduler.add_job(countdown.step)
        countdown.wait()
        seconds = perf_counter() - began
    scheduler.shutdown()
    return {"rate": size / seconds}


QUEUE = Row(
    name="queue",
    title="submit {size} jobs to 4 workers and wait until all have completed, in memory",
    figures=(Figure("rate", "jobs/s", more_is_better=True),),
    cases=(
        Case("threadkit", own, "threadkit"),
        Case("ThreadPoolExecutor", standard),
        Case("queue.Queue by hand", by_hand),
        Case("huey", huey_memory, "huey"),
        Case("dramatiq", dramatiq_stub, "dramatiq"),
        Case("APScheduler", apscheduler_now, "apscheduler"),
    ),
    goals=(Goal("rate", 2.5, "ThreadPoolExecutor"), Goal("rate", 8, "huey")),
    size=20_000,
    quick=500,
    baseline="ThreadPoolExecutor",
    note=(
        "threadkit keeps the full record of each job, huey the result, ThreadPoolExecutor the future; the others none. "
        "At most 10,000 wait in threadkit and in the queue by hand; the others have no bound."
    ),
)
