"""The whole queue against a plain model of it, on a virtual clock: whatever is asked in whatever order, both agree."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import attrs
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from threadkit import Discard, Job, JobState, PerKey, Retry, RetryLater, Snooze, WorkQueue, backoff, stores
from threadkit.testing import VirtualClock

DELAY = 10.0  # between two attempts
ATTEMPTS = 2

OUTCOMES = st.lists(st.sampled_from(["ok", "fail", "fail", "later", "snooze", "discard"]), min_size=1, max_size=5)


@attrs.define(eq=False)
class Modelled:
    """A job as the model sees it: where it is, and what its handler is going to do."""

    job: Job
    number: int
    state: str
    outcomes: Iterator[str]
    priority: int = 0
    due: float = 0.0
    expires_at: float | None = None
    attempts: int = 0
    errors: int = 0
    turn: int = 0
    key: str | None = None
    is_deleted: bool = False


class QueueModel(RuleBasedStateMachine):
    """Jobs are done one at a time and in no time, so that the model is a loop."""

    @initialize()
    def begin(self) -> None:
        self.clock = VirtualClock()
        self.scripts: dict[int, Iterator[str]] = {}
        self.jobs: list[Modelled] = []
        self.order: list[str] = []
        self.expected_order: list[str] = []
        self.turns = 0
        self.now = 0.0
        self.open()

    def new_store(self) -> stores.JobStore:
        return stores.MemoryStore()

    def open(self) -> None:
        self.paused = False
        self.queue = WorkQueue(
            workers=1, clock=self.clock, retry=Retry(ATTEMPTS, backoff.constant(DELAY)), store=self.new_store()
        )
        self.queue.handler("plain")(self.work)
        self.queue.handler("narrow", concurrency=1)(self.work)
        self.queue.handler("serial", serial_by=lambda number: number % 2, timeout=1000)(self.work)
        self.queue.handler("keyed", concurrency=[2, PerKey(1, lambda number: number % 3)])(self.work)
        self.queue.start()
        self.clock.settle()

    def work(self, number: int, ctx) -> str:
        self.order.append(ctx.job_id)
        match next(self.scripts[number], "ok"):
            case "fail":
                raise ValueError
            case "later":
                raise RetryLater(DELAY / 2)
            case "snooze":
                raise Snooze(DELAY)
            case "discard":
                raise Discard
        return ctx.job_id

    # What is asked of both.

    @rule(
        name=st.sampled_from(["plain", "narrow", "serial", "keyed"]),
        outcomes=OUTCOMES,
        delay=st.sampled_from([0, 0, 1, 15]),
        priority=st.integers(-1, 1),
        expires=st.sampled_from([None, None, 3, 12]),
        key=st.sampled_from([None, None, "a", "b"]),
        on_conflict=st.sampled_from(["return", "replace"]),
    )
    def submit(self, name, outcomes, delay, priority, expires, key, on_conflict) -> None:
        holder = next((each for each in self.unfinished() if key is not None and each.key == key), None)
        number = len(self.scripts)
        self.scripts[number] = iter(outcomes)
        job = self.queue.submit(
            name,
            number,
            delay=delay,
            priority=priority,
            expires=expires,
            key=key,
            on_conflict=on_conflict,
        )
        if holder is not None:
            if on_conflict == "return":
                assert job is holder.job
                return
            holder.state = "cancelled"
        modelled = Modelled(
            job, number, "scheduled" if delay else "pending", iter(outcomes), priority, self.now + delay, key=key
        )
        if expires is not None:
            modelled.expires_at = self.now + expires
        if not delay:
            self.enter_line(modelled)
        self.jobs.append(modelled)
        self.settle()

    @rule(seconds=st.sampled_from([0.5, 1, 5, 10, 40]))
    def advance(self, seconds) -> None:
        self.clock.advance(seconds)
        target = self.now + seconds
        while True:
            moments = [each.due for each in self.waiting_for_time()]
            moments += [each.expires_at for each in self.unfinished() if each.expires_at is not None]
            following = min((moment for moment in moments if moment > self.now), default=None)
            if following is None or following > target:
                break
            self.now = following
            self.pass_time()
        self.now = target
        self.clock.settle()

    @rule(data=st.data())
    @precondition(lambda self: self.jobs)
    def cancel(self, data) -> None:
        modelled = data.draw(st.sampled_from(self.jobs))
        possible = modelled.state in {"scheduled", "pending", "retrying"}
        was_cancelled = modelled.state == "cancelled" and not modelled.is_deleted
        assert self.queue.cancel(modelled.job.id) is (possible or was_cancelled)
        if possible:
            modelled.state = "cancelled"
        self.settle()

    @rule(data=st.data())
    @precondition(lambda self: self.jobs)
    def replay(self, data) -> None:
        modelled = data.draw(st.sampled_from(self.jobs))
        if any(each.key == modelled.key for each in self.unfinished() if each.key is not None):
            return
        possible = modelled.state == "failed" and not modelled.is_deleted
        assert (self.queue.replay(modelled.job.id) is modelled.job) is possible
        if possible:
            modelled.state, modelled.attempts = "pending", 0
            self.enter_line(modelled)
        self.settle()

    @rule()
    def replay_all(self) -> None:
        self.queue.pause()  # so that none of them runs before the last is played again
        expected = []
        for letter in self.jobs:
            is_held = any(each.key == letter.key for each in self.unfinished() if each.key is not None)
            if letter.state == "failed" and not letter.is_deleted and not is_held:
                letter.state, letter.attempts = "pending", 0
                self.enter_line(letter)
                expected.append(letter.job)
        assert self.queue.replay_all() == expected
        if not self.paused:
            self.queue.resume()
        self.settle()

    @rule(data=st.data())
    @precondition(lambda self: self.jobs)
    def delete(self, data) -> None:
        modelled = data.draw(st.sampled_from(self.jobs))
        possible = modelled.job.state.is_finished and not modelled.is_deleted
        assert self.queue.delete(modelled.job.id) is possible
        modelled.is_deleted = modelled.is_deleted or possible
        assert (self.queue.get(modelled.job.id) is None) is modelled.is_deleted

    @rule()
    def pause(self) -> None:
        self.queue.pause()
        self.paused = True

    @rule()
    def resume(self) -> None:
        self.queue.resume()
        self.paused = False
        self.settle()

    # How the model goes on.

    def unfinished(self) -> list[Modelled]:
        return [each for each in self.jobs if each.state in {"scheduled", "pending", "retrying"}]

    def waiting_for_time(self) -> list[Modelled]:
        return [each for each in self.jobs if each.state in {"scheduled", "retrying"}]

    def enter_line(self, modelled: Modelled) -> None:
        self.turns += 1
        modelled.turn = self.turns

    def pass_time(self) -> None:
        for each in self.unfinished():
            if each.expires_at is not None and each.expires_at <= self.now:
                each.state, each.expires_at = "expired", None
        for each in sorted(self.waiting_for_time(), key=lambda each: each.due):
            if each.due <= self.now:
                each.state = "pending"
                self.enter_line(each)
        self.run_line()

    def run_line(self) -> None:
        while not self.paused:
            line = [each for each in self.jobs if each.state == "pending"]
            if not line:
                return
            self.attempt(min(line, key=lambda each: (-each.priority, each.turn)))

    def attempt(self, modelled: Modelled) -> None:
        self.expected_order.append(modelled.job.id)
        modelled.expires_at = None
        modelled.attempts += 1
        outcome = next(modelled.outcomes, "ok")
        if outcome == "snooze":
            modelled.state, modelled.due = "scheduled", self.now + DELAY
            modelled.attempts -= 1
        elif outcome == "ok":
            modelled.state = "completed"
        elif outcome == "discard":
            modelled.state = "discarded"
        else:
            modelled.errors += 1
            modelled.state = "failed" if modelled.attempts == ATTEMPTS else "retrying"
            modelled.due = self.now + (DELAY if outcome == "fail" else DELAY / 2)

    def settle(self) -> None:
        self.clock.settle()
        self.run_line()

    # What must be so at every step.

    @invariant()
    def both_agree(self) -> None:
        if not hasattr(self, "queue"):
            return
        for each in self.jobs:
            job = each.job
            assert (job.state, job.attempts, len(job.errors)) == (each.state, each.attempts, each.errors)
            assert job.done() is job.state.is_finished
        assert sorted(self.order) == sorted(self.expected_order)

    @invariant()
    def figures_add_up(self) -> None:
        if not hasattr(self, "queue"):
            return
        stats = self.queue.stats()
        for state in JobState:
            assert getattr(stats, state) == sum(each.state == state for each in self.jobs)
        assert stats.submitted == len(self.jobs)
        assert self.queue.work_left() == len(self.unfinished())
        assert self.queue.drain(0) is (not self.unfinished())

    def teardown(self) -> None:
        if hasattr(self, "queue"):
            self.close()

    def close(self) -> None:
        self.queue.stop()
        assert self.queue.join(5)
        self.queue.close()
        for each in self.jobs:
            assert each.job.done()


class DurableModel(QueueModel):
    """The same with a file, which is closed and opened again now and then; what waits in it waits there."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()

    def new_store(self) -> stores.JobStore:
        return stores.SQLiteStore(f"{self.folder.name}/jobs.db", "process")

    @rule(seconds=st.sampled_from([0, 0, 5, 40]))
    def reopen(self, seconds) -> None:
        self.close()
        self.clock.advance(seconds)
        self.now += seconds
        self.open()
        for each in self.jobs:
            each.job = self.queue.get(each.job.id) or each.job
        self.pass_time()
        self.run_line()

    def teardown(self) -> None:
        super().teardown()
        self.folder.cleanup()


QueueModel.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
DurableModel.TestCase.settings = settings(QueueModel.TestCase.settings, max_examples=25)


class TestQueueModel(QueueModel.TestCase):
    """The queue does what its model does."""


class TestDurableModel(DurableModel.TestCase):
    """The queue on a file does what its model does, also when it is closed and opened again."""
