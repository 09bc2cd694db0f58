"""What keeps a job from running although a worker is free, and what a key does, wherever the jobs are kept."""

from __future__ import annotations

import threading
from collections import defaultdict

import pytest
from helpers import Gate

from threadkit import JobState, PerKey, Retry, WorkQueue, backoff, stores
from threadkit.testing import VirtualClock


@pytest.fixture(params=["memory", "file"])
def new_queue(request, tmp_path):
    def make(**options) -> WorkQueue:
        store = None if request.param == "memory" else stores.SQLiteStore(tmp_path / "jobs.db", "process")
        return WorkQueue(store=store, **options)

    return make


def _key(payload):
    return payload[0] if isinstance(payload, str) else payload


class Rooms:
    """A handler's body that waits inside until it is let out, and notes who is there."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self.inside: list[object] = []
        self._free = 0

    def __call__(self, payload: object) -> object:
        with self._condition:
            self.inside.append(payload)
            self._condition.notify_all()
            assert self._condition.wait_for(lambda: self._free, 5)
            self._free -= 1
            self.inside.remove(payload)
        return payload

    def let_out(self, number: int = 1) -> None:
        with self._condition:
            self._free += number
            self._condition.notify_all()

    def wait_for(self, *keys: object) -> None:
        """Wait until jobs of these keys are inside, and no others. Which of a key is not told: one may overtake."""
        with self._condition:
            assert self._condition.wait_for(lambda: sorted(map(_key, self.inside)) == sorted(keys), 5), self.inside


def test_a_place_for_each_key(new_queue):
    """So many jobs of each key run at once, and those of a busy key stand in nobody's way."""
    rooms = Rooms()
    with new_queue(workers=4) as queue:
        queue.handler("work", concurrency=PerKey(1, lambda payload: payload[0]))(rooms)
        queue.submit_many("work", ["a1", "a2", "a3", "b1"])
        rooms.wait_for("a", "b")
        assert queue.stats().pending == 2
        rooms.let_out(4)
        assert queue.drain(5)


def test_places_for_all_and_for_each_key(new_queue):
    """Of a handler with both limits the jobs of a busy key take no place from those of others."""
    rooms = Rooms()
    with new_queue(workers=4) as queue:
        queue.handler("work", concurrency=[2, PerKey(1, lambda payload: payload[0])])(rooms)
        queue.submit_many("work", ["a1", "a2", "a3", "b1"])
        rooms.wait_for("a", "b")
        queue.submit("work", "c1")
        assert queue.stats().running == 2
        rooms.let_out(5)
        assert queue.drain(5)


def test_a_rate_for_each_key(new_queue):
    """Each key has tokens of its own, and a job begins at the moment of its token."""
    clock, begun = VirtualClock(), defaultdict(list)
    with new_queue(workers=2, clock=clock) as queue:

        @queue.handler(rate=PerKey((1, 10.0), lambda payload: payload[0]))
        def work(payload):
            begun[payload[0]].append(clock.monotonic())

        queue.submit_many(work, ["a", "a", "b", "a"])
        clock.settle()
        clock.advance(25)
        assert queue.drain(0)
    assert begun == {"a": [0.0, 10.0, 20.0], "b": [0.0]}


def test_a_rate_for_each_key_takes_no_place(new_queue):
    """A job that waits for a token of its key keeps none of the places of its handler."""
    clock, begun = VirtualClock(), []
    with new_queue(workers=2, clock=clock) as queue:

        @queue.handler(concurrency=1, rate=PerKey("1/h", lambda payload: payload[0]))
        def work(payload):
            begun.append(payload)

        queue.submit_many(work, ["a1", "a2", "b1"])
        clock.settle()
        assert sorted(map(_key, begun)) == ["a", "b"]
        clock.advance(3600)
        assert sorted(begun) == ["a1", "a2", "b1"]


def test_a_flood_of_limited_jobs_starves_nobody(new_queue):
    """However many jobs of one handler its limit holds, those of other handlers run, limited ones too."""
    gate = Gate()
    with new_queue(workers=2) as queue:

        @queue.handler(concurrency=1)
        def flood(payload):
            gate.pass_through()

        @queue.handler(concurrency=1)
        def narrow(payload):
            return payload

        queue.handler("wide")(lambda payload: payload)
        queue.submit_many(flood, range(600))
        assert queue.submit(narrow, 1).result(5) == 1
        assert queue.submit("wide", 2).result(5) == 2
        gate.open()
        assert queue.drain(30)
        assert queue.stats().completed == 602


def test_jobs_of_one_value_run_in_order(new_queue):
    """Jobs for which serial_by says the same never overlap, and run in the order of their submits."""
    order, busy = defaultdict(list), set()
    with new_queue(workers=4) as queue:

        @queue.handler(serial_by=lambda payload: payload[0])
        def work(payload):
            key, number = payload
            assert key not in busy
            busy.add(key)
            order[key].append(number)
            busy.discard(key)

        queue.pause()
        queue.submit_many(work, [[key, number] for number in range(100) for key in "abc"])
        queue.resume()
        assert queue.drain(30)
        assert queue.stats().completed == 300
    assert all(order[key] == list(range(100)) for key in "abc")


def test_order_goes_by_priority_first(new_queue):
    """Among jobs of one value that wait, the highest priority is next."""
    order = []
    with new_queue(workers=3) as queue:
        queue.handler("work", serial_by=lambda payload: 0)(order.append)
        queue.pause()
        for payload in (1, 2):
            queue.submit("work", payload)
        queue.submit("work", 9, priority=1)
        queue.resume()
        assert queue.drain(5)
    assert order == [9, 1, 2]


def test_a_retry_does_not_hold_its_line(new_queue):
    """A job that waits for its next attempt lets the others of its value run, and goes behind those that wait then."""
    clock, order = VirtualClock(), []
    with new_queue(workers=2, clock=clock, retry=Retry(2, backoff.constant(10))) as queue:

        @queue.handler(serial_by=lambda payload: 0, rate=(1, 5.0))
        def work(payload):
            order.append(payload)
            if order == [0]:
                raise OSError("once")

        jobs = queue.submit_many(work, range(3))
        clock.settle()
        assert jobs[0].state is JobState.RETRYING
        clock.advance(20)
        assert queue.drain(0)
    assert order == [0, 1, 2, 0]


def test_a_held_job_that_is_cancelled_gives_way(new_queue):
    """A job that is cancelled while a limit holds it does not run, and those behind it do."""
    rooms = Rooms()
    with new_queue(workers=2) as queue:
        queue.handler("work", serial_by=lambda payload: 0)(rooms)
        first, second, third = queue.submit_many("work", [1, 2, 3])
        rooms.wait_for(1)
        assert second.cancel()
        rooms.let_out(2)
        assert third.result(5) == 3
        assert [str(job.state) for job in (first, second)] == ["completed", "cancelled"]


def test_limited_jobs_survive_a_pause(new_queue):
    """A worker that pauses with a job in hand keeps nobody from it afterwards, nor from those behind it."""
    rooms, order = Rooms(), []
    with new_queue(workers=1) as queue:
        queue.handler("work", serial_by=lambda payload: 0)(lambda payload: order.append(rooms(payload)))
        queue.submit_many("work", [1, 2, 3])
        rooms.wait_for(1)
        queue.pause()
        rooms.let_out(3)
        queue.resize(3)
        queue.resume()
        assert queue.drain(5)
    assert order == [1, 2, 3]


def test_a_key_replaces_a_running_job(new_queue):
    """A running job whose key another takes is told by its token and ends as cancelled; the other one runs."""
    running, gate = Gate(), Gate()
    with new_queue(workers=2) as queue:

        @queue.handler
        def work(payload, ctx):
            if payload == "old":
                running.open()
                assert ctx.token.wait(5)
                gate.pass_through()
            return payload

        old = queue.submit(work, "old", key="k")
        running.pass_through()
        new = queue.submit(work, "new", key="k", on_conflict="replace")
        assert new.result(5) == "new"
        assert str(old.state) == "running"
        gate.open()
        assert old.wait(5)
        assert (str(old.state), old.why) == ("cancelled", "was replaced")
        assert queue.submit(work, "next", key="k").result(5) == "next"


def test_a_key_replaces_a_job_that_waits(new_queue):
    """A job that waits for its time or its next attempt is cancelled by the one that takes its key."""
    clock, seen = VirtualClock(), []
    with new_queue(workers=2, clock=clock, retry=Retry(2, backoff.constant(10))) as queue:

        @queue.handler
        def work(payload):
            seen.append(payload)
            if payload == "bad":
                raise OSError(payload)

        retrying = queue.submit(work, "bad", key="r")
        scheduled = queue.submit(work, "late", key="s", delay=10)
        clock.settle()
        assert (str(retrying.state), str(scheduled.state)) == ("retrying", "scheduled")
        for key in "rs":
            assert queue.submit(work, key, key=key) in {retrying, scheduled}
            queue.submit(work, key, key=key, on_conflict="replace").result(5)
        clock.advance(20)
        assert {str(retrying.state), str(scheduled.state)} == {"cancelled"}
        assert seen == ["bad", "r", "s"]


def test_a_replaced_job_that_fails_is_not_tried_again(new_queue):
    """A running job that was replaced ends as cancelled also where its handler raises."""
    running, gate = Gate(), Gate()
    with new_queue(workers=2, retry=Retry(5, backoff.constant(0))) as queue:

        @queue.handler
        def work(payload):
            if payload == "old":
                running.open()
                gate.pass_through()
                raise OSError(payload)
            return payload

        old = queue.submit(work, "old", key="k")
        running.pass_through()
        queue.submit(work, "new", key="k", on_conflict="replace")
        gate.open()
        assert queue.drain(5)
        assert (str(old.state), old.attempts) == ("cancelled", 1)
        assert queue.stats().retries == 0
