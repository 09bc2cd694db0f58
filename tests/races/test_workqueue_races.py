"""Jobs among several threads, in every order that chance finds."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import pytest

from threadkit import Closed, JobState, Retry, WorkQueue, _ledger
from threadkit._ledger import Ledger
from threadkit._records import UNFINISHED, JobRecord

pytestmark = pytest.mark.races

Explore = Callable[..., None]


class Scene:
    """A queue without workers, whose steps the threads of the test take."""

    def __init__(self, **options: Any) -> None:
        self.queue = WorkQueue(workers=0, **options)
        self.runs: list[object] = []
        self.queue.handler("work")(self.runs.append)
        self.seen: list[object] = []
        self.drained: list[bool] = []

    def submit(self) -> None:
        try:
            self.seen.append(self.queue.submit("work", "new"))
        except Closed:
            self.seen.append(None)

    def work(self) -> None:
        """Do what a worker does until it finds nothing."""
        caller = self.queue._new_caller()
        while (job := self.queue._begin_next()) is not None:
            self.queue._run(job, caller)

    def adds_up(self) -> bool:
        stats = self.queue.stats()
        states = [getattr(stats, state) for state in JobState]
        records = self.queue.jobs()
        return (
            min(states) >= 0
            and sum(states) == stats.submitted == len(records)
            and all(getattr(stats, state) == len(self.queue.jobs(state)) for state in JobState)
        )


class OneJob(Scene):
    """The same with one job that waits."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.job = self.queue.submit("work", "old", **options)

    def cancel(self) -> None:
        self.seen.append(self.job.cancel())


def test_claim_against_cancel(explore: Explore) -> None:
    """A job that is begun and cancelled at once is done and stays, or is cancelled; its canceller is told the truth."""
    explore(
        OneJob,
        OneJob.work,
        OneJob.cancel,
        invariant=lambda scene: (
            scene.adds_up()
            and (scene.job.state, scene.seen) in ((JobState.COMPLETED, [False]), (JobState.CANCELLED, [True]))
            and len(scene.runs) <= 1
        ),
    )


def test_two_claim_one_job(explore: Explore) -> None:
    """A job that two workers reach for is run once."""
    explore(
        OneJob,
        OneJob.work,
        OneJob.work,
        invariant=lambda scene: scene.runs == ["old"] and scene.job.state is JobState.COMPLETED and scene.adds_up(),
    )


def test_claim_against_expiry_against_cancel(explore: Explore) -> None:
    """A job that is begun, cancelled and over its time at once comes to one end, and nobody is told two things."""
    explore(
        lambda: OneJob(expires=1000),
        OneJob.work,
        lambda scene: scene.queue._expire(scene.job),
        OneJob.cancel,
        invariant=lambda scene: (
            scene.adds_up()
            and (scene.job.state, scene.seen)
            in (
                (JobState.COMPLETED, [False]),
                (JobState.EXPIRED, [False]),
                (JobState.CANCELLED, [True]),
            )
        ),
    )


def drain(scene: Scene) -> None:
    scene.drained.append(scene.queue.drain())


def test_completion_against_drain(explore: Explore) -> None:
    """A drain that meets the end of the last job does not sleep through it."""
    explore(
        OneJob,
        OneJob.work,
        drain,
        invariant=lambda scene: scene.drained == [True] and scene.runs == ["old"] and scene.adds_up(),
        attempts=60,
        ops=8000,  # a drain asks for the counts of 64 locks
    )


def test_submit_against_drain(explore: Explore) -> None:
    """A drain that meets a submit waits for its job or does not, but comes to an end."""

    def submit_and_work(scene: Scene) -> None:
        scene.submit()
        scene.work()

    explore(
        Scene,
        submit_and_work,
        drain,
        invariant=lambda scene: scene.drained == [True] and scene.runs == ["new"] and scene.adds_up(),
        attempts=60,
        ops=8000,  # a drain asks for the counts of 64 locks
    )


def test_result_against_completion(explore: Explore) -> None:
    """Whoever waits for a job that is being done gets its result, whenever he begins to wait."""
    explore(
        OneJob,
        OneJob.work,
        lambda scene: scene.seen.append(scene.job.wait()),
        lambda scene: scene.seen.append(scene.job.wait()),
        invariant=lambda scene: scene.seen == [True, True] and scene.queue._audience == {},
        attempts=60,
    )


def test_stop_against_submit(explore: Explore) -> None:
    """A submit that meets a stop is refused and was never there, or its job is done by the last worker."""

    def stop(scene: Scene) -> None:
        scene.queue._closing = True

    def last_worker(scene: Scene) -> None:
        while not scene.queue._closing:
            scene.work()
        scene.work()

    def done_or_refused(scene: Scene) -> bool:
        (job,) = scene.seen
        if job is None:
            return scene.runs == [] and scene.queue.jobs() == [] and scene.adds_up()
        return scene.runs == ["new"] and job.state is JobState.COMPLETED and scene.adds_up()

    def stop_and_work(scene: Scene) -> None:
        stop(scene)
        last_worker(scene)

    explore(Scene, Scene.submit, stop_and_work, invariant=done_or_refused)


def test_submits_with_one_key(explore: Explore) -> None:
    """Two submits with one key make one job, and both get it."""

    def submit(scene: Scene) -> None:
        scene.seen.append(scene.queue.submit("work", key="k"))

    explore(
        Scene,
        submit,
        submit,
        invariant=lambda scene: len(set(scene.seen)) == 1 and scene.queue.stats().submitted == 1,
    )


def test_two_replays(explore: Explore) -> None:
    """A dead letter that two replay at once is revived once."""

    def setup() -> OneJob:
        scene = OneJob()
        scene.queue._store.move(scene.job, JobState.PENDING, JobState.FAILED, 1.0)
        scene.queue._store.pull(scene.job)
        return scene

    def replay(scene: OneJob) -> None:
        scene.seen.append(scene.queue.replay(scene.job.id))

    explore(
        setup,
        replay,
        replay,
        invariant=lambda scene: (
            scene.seen.count(None) == 1
            and scene.adds_up()
            and scene.queue._begin_next() is scene.job
            and scene.queue._begin_next() is None
        ),
    )


def test_a_look_at_the_counts(explore: Explore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who looks at the counts while a job moves sees it in one state, and in one only."""
    monkeypatch.setattr(_ledger, "_STRIPES", 4)  # as good as 64 here, and each look takes them all
    monkeypatch.setattr(_ledger, "_MASK", 3)

    class Books:
        def __init__(self) -> None:
            self.ledger = Ledger()
            self.job = JobRecord("x", 1, "work", None, 0.0)
            self.ledger.enter(self.job)
            self.looks: list[dict[JobState, int]] = []

    def move(books: Books) -> None:
        books.ledger.move(books.job, JobState.PENDING, JobState.RUNNING)
        books.ledger.settle(books.job, JobState.RETRYING, 1.0)

    def look(books: Books) -> None:
        books.looks += [books.ledger.snapshot(), books.ledger.snapshot()]

    explore(
        Books,
        move,
        look,
        invariant=lambda books: all(
            sum(counts.values()) == 1 and sum(counts[state] for state in UNFINISHED) == 1 for counts in books.looks
        ),
    )


class InOrder:
    """Two jobs of one value in the line, and two workers that claim them."""

    def __init__(self) -> None:
        self.queue = WorkQueue(workers=0)
        self.queue.handler("work", serial_by=lambda _: 0)(lambda payload: None)
        self.jobs = [self.queue.submit("work", number) for number in range(2)]
        self.begun: list[object] = []

    def begin(self) -> None:
        self.begun.append(self.queue._begin_next())


def test_jobs_come_to_their_limits_in_the_order_of_their_claims(explore: Explore) -> None:
    """Of two jobs of one value the first begins, whichever worker is quicker on its way to the limits."""

    def check(scene: InOrder) -> bool:
        first, second = scene.jobs
        return (
            first in scene.begun
            and second not in scene.begun
            and first.handler.limits.release(first) == [second]
            and not first.handler.limits._procession._tickets
        )

    explore(InOrder, InOrder.begin, InOrder.begin, invariant=check)


class Late:
    """A job that runs after its time-out; its worker, the timer and the end of the queue reach for it."""

    def __init__(self) -> None:
        self.queue = WorkQueue(workers=0, retry=Retry(1), grace=math.inf)
        self.queue.handler("work", timeout=1000)(lambda payload: payload)
        self.job = self.queue.submit("work", "done")
        assert self.queue._begin_next() is self.job
        self.job.attempts = 1
        self.abandoned: list[object] = []
        overtime = self.queue._overtime
        overtime._crew = self  # type: ignore[assignment]  # what it needs of one is here
        overtime._have_done = lambda errand: errand()  # which the clerk does in a thread that this scene has not
        self.attempt = overtime.begin(self.job, threading.current_thread(), self.job.begun + 1000, 0.0)

    def abandon(self, thread: object) -> None:
        self.abandoned.append(thread)

    def work(self) -> None:
        if self.queue._overtime.end(self.attempt):
            self.queue._settle(self.job, JobState.COMPLETED, None)

    def time_out(self) -> None:
        self.queue._overtime._look(self.attempt)

    def interrupt(self) -> None:
        self.queue._interrupt(self.job)


def test_the_end_of_an_attempt_against_its_time_out(explore: Explore) -> None:
    """A job whose handler returns as it is given up has completed with its worker, or failed without; not both."""
    explore(
        Late,
        Late.work,
        Late.time_out,
        invariant=lambda scene: (
            (scene.job.state, len(scene.abandoned)) in {(JobState.COMPLETED, 0), (JobState.FAILED, 1)}
        ),
    )


def test_an_interrupt_against_a_time_out(explore: Explore) -> None:
    """A job that is given up as the end of its queue interrupts it is failed, or interrupted and still running."""
    explore(
        Late,
        Late.interrupt,
        Late.time_out,
        invariant=lambda scene: (
            (scene.job.state, scene.job.attempts, len(scene.abandoned))
            in {(JobState.RUNNING, 0, 0), (JobState.FAILED, 1, 1)}
        ),
    )
