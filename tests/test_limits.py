"""Concurrency, serial order and rate: what keeps a job from running although a worker is free."""

from __future__ import annotations

import itertools
import sqlite3
import threading
from contextlib import closing

import pytest
from helpers import Gate

from threadkit import PerKey, WorkQueue, events, stores
from threadkit._limits import Concurrency, Limits, Procession, Rate
from threadkit._quotas import parse_rate
from threadkit._records import JobRecord
from threadkit.testing import VirtualClock

numbers = itertools.count(1)


def record(priority=0, serial=None) -> JobRecord:
    number = next(numbers)
    made = JobRecord(f"x-{number}", number, "work", None, 0.0)
    made.priority, made.keys, made.turn = priority, (serial,), number
    return made


def test_concurrency_hands_its_places_over():
    """A place that comes free belongs to the best job that is held, before anybody else can ask."""
    limits = Limits((Concurrency(1),))
    one, low, high, late = record(), record(), record(5), record()
    assert limits.admit(one)
    assert not limits.admit(low)
    assert not limits.admit(high)
    assert limits.release(one) == [high]
    assert not limits.admit(late)
    assert limits.admit(high)
    assert limits.release(high) == [low]
    assert limits.release(low) == [late]
    assert limits.release(late) == []
    assert limits.admit(record())


def test_a_place_that_nobody_waits_for_is_free():
    """Where several have places, each gives one back."""
    limits = Limits((Concurrency(2),))
    one, two = record(), record()
    assert limits.admit(one)
    assert limits.admit(two)
    assert limits.release(one) == []
    assert limits.admit(record())
    assert limits.release(two) == []


def test_serial_holds_each_value_by_itself():
    """Jobs of one value pass one at a time, and do not keep those of another value from passing."""
    limits = Limits((Concurrency(1, 0),))
    a, b, a2 = record(serial="a"), record(serial="b"), record(serial="a")
    assert limits.admit(a)
    assert limits.admit(b)
    assert not limits.admit(a2)
    assert limits.release(b) == []
    assert limits.release(a) == [a2]
    assert limits.release(a2) == []
    assert limits.admit(record(serial="a"))


def test_a_job_passes_one_limit_after_the_other():
    """A job that is held by a later limit keeps its place in the earlier one, and gives all back at the end."""
    limits = Limits((Concurrency(1, 0), Concurrency(1)))
    a, b, b2 = record(serial="a"), record(serial="b"), record(serial="b")
    assert limits.admit(a)
    assert not limits.admit(b)
    assert b.passed == 1
    assert not limits.admit(b2)
    assert limits.release(a) == [b]
    assert limits.admit(b)
    assert limits.release(b) == [b2]
    assert limits.admit(b2)


def test_a_held_job_can_be_discarded():
    """A job that is discarded is held no more; one that is not held cannot be."""
    concurrency, serial = Concurrency(1), Concurrency(1, 0)
    for limit in (concurrency, serial):
        one, held, other = record(), record(), record()
        assert limit.enter(one)
        assert not limit.enter(held)
        assert not limit.enter(other)
        assert limit.discard(held)
        assert not limit.discard(held)
        assert limit.leave(one) is other
    assert not serial.discard(record(serial="unheard of"))
    assert not Limits((concurrency, serial)).discard(record())


def test_a_rate_is_a_bucket_that_fills():
    """As many as the bucket holds may begin at once, and then one for each token that drops in."""
    clock, calls, released = VirtualClock(), [], []
    rate = Rate(clock, 2, 10.0, wake=lambda *call: calls.append(call), release=released.append)
    jobs = [record() for _ in range(5)]
    assert [rate.enter(job) for job in jobs] == [True, True, False, False, False]
    assert rate.leave(jobs[0]) is None
    (due, tick, key), *more = calls
    assert (due, more) == (5.0, [])
    clock.advance(5)
    tick(key)
    assert released == [jobs[2]]
    assert rate.discard(jobs[3])
    assert calls[1][0] == 10.0
    clock.advance(15)
    tick(key)
    assert released == [jobs[2], jobs[4]]
    assert len(calls) == 2
    assert rate.enter(record())
    assert not rate.enter(record())


def test_idle_buckets_are_forgotten():
    """A key whose bucket is full again is not remembered; one that has jobs waiting is."""
    clock = VirtualClock()
    rate = Rate(clock, 1, 1.0, wake=lambda *_: None, release=lambda _: None, axis=0)
    for key in range(1000):
        assert rate.enter(record(serial=key))
        clock.advance(0.5)
    assert len(rate._buckets) < 200
    held = record(serial=999)
    assert not rate.enter(held)
    clock.advance(5)
    assert all(rate.enter(record(serial=key)) for key in range(2000, 2500))
    assert rate.discard(held)
    assert not rate.discard(record(serial="unheard of"))


def test_a_procession_keeps_the_order_of_its_tickets():
    """Whoever comes early waits for those before; the first to come brings them in, and those who do not come count."""
    entered, released = [], []
    procession = Procession(lambda job: entered.append(job) or job.priority >= 0, released.append)
    tickets = [procession.join() for _ in range(4)]
    first, second, late, last = record(), record(), record(-1), record()
    assert not tickets[1].arrive(second)
    assert not tickets[3].arrive(last)
    assert entered == []
    assert tickets[0].arrive(first)
    assert (entered, released) == ([first, second], [second])
    assert not tickets[2].arrive(late)
    assert (entered, released) == ([first, second, late, last], [second, last])
    missing, after = procession.join(), procession.join()
    assert not after.arrive(first)
    assert not missing.arrive(None)
    assert released[-1] is first


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        ("10/s", (10, 1.0)),
        (" 100 / m ", (100, 60.0)),
        ("5/h", (5, 3600.0)),
        ("1/d", (1, 86400.0)),
        ((3, 2.5), (3, 2.5)),
        (10, (10, 1.0)),
        (2.5, (2, 0.8)),
        (0.5, (1, 2.0)),
    ],
)
def test_rates_are_read(rate, expected):
    """A rate is a number for each second, text with a unit, or a pair of count and seconds."""
    assert parse_rate(rate) == expected


@pytest.mark.parametrize(
    "rate",
    [
        "10",
        "x/s",
        "10/y",
        "0/s",
        (0, 1),
        (1, 0),
        (1, float("nan")),
        (1, 2, 3),
        None,
        True,
        0,
        -1,
        float("nan"),
        float("inf"),
        (True, 1),
    ],
)
def test_bad_rates_are_refused(rate):
    """A rate that makes no sense is refused by an error that names it."""
    with pytest.raises((TypeError, ValueError), match="rate"):
        parse_rate(rate)


def test_a_limit_holds_no_worker():
    """While jobs of a handler wait for its one place, the other workers do other jobs."""
    running, gate, seen = Gate(), Gate(), []
    with WorkQueue(workers=2) as queue:

        @queue.handler(concurrency=1)
        def narrow(payload):
            seen.append(payload)
            running.open()
            gate.pass_through()

        @queue.handler
        def wide(payload):
            return payload

        jobs = [queue.submit(narrow, n) for n in range(3)]
        running.pass_through()
        assert [queue.submit(wide, n).result(5) for n in range(3)] == [0, 1, 2]
        assert [str(job.state) for job in jobs] == ["running", "pending", "pending"]
        assert jobs[1].cancel()
        gate.open()
        assert queue.drain(5)
    assert seen == [0, 2]


def test_one_at_a_time_for_each_value():
    """Jobs for which serial_by says the same never overlap, and run in order; others run beside them."""
    lock, busy, order = threading.Lock(), set(), []
    with WorkQueue(workers=4) as queue:

        @queue.handler(serial_by=lambda payload: payload[0])
        def work(payload):
            with lock:
                assert payload[0] not in busy
                busy.add(payload[0])
            with lock:
                order.append(payload)
                busy.discard(payload[0])

        jobs = queue.submit_many(work, [(user, n) for n in range(20) for user in "ab"])
        for job in jobs:
            job.result(5)
    assert [n for user, n in order if user == "a"] == list(range(20))
    assert [n for user, n in order if user == "b"] == list(range(20))


def test_a_rate_spreads_the_jobs():
    """No more jobs begin than the rate allows, and every one begins as soon as it may."""
    clock = VirtualClock()
    begun = []
    with WorkQueue(workers=4, clock=clock) as queue:

        @queue.handler(rate="2/s")
        def work(payload):
            begun.append(clock.monotonic())

        queue.submit_many(work, range(6))
        clock.advance(5)
        assert begun == [0.0, 0.0, 0.5, 1.0, 1.5, 2.0]


def test_what_a_cancelled_job_had_goes_to_the_next():
    """A job that is cancelled on its way from a limit to a worker passes its place on."""
    running, gate = Gate(), Gate()
    with WorkQueue(workers=2) as queue:

        @queue.handler(concurrency=1)
        def narrow(payload):
            running.open()
            gate.pass_through()
            return payload

        first = queue.submit(narrow, 0)
        running.pass_through()
        second, third = queue.submit_many(narrow, [1, 2])
        queue.drain(0)
        queue.pause()
        gate.open()
        first.result(5)
        assert second.cancel()
        queue.resume()
        assert third.result(5) == 2


def test_serial_by_is_asked_at_the_door():
    """What serial_by raises is raised by submit(), and what it returns must be hashable."""
    queue = WorkQueue(workers=0)
    queue.handler("strict", serial_by=lambda payload: payload["user"])(lambda payload: None)
    queue.handler("list", serial_by=lambda payload: [payload])(lambda payload: None)
    with pytest.raises(KeyError):
        queue.submit("strict", {})
    with pytest.raises(TypeError, match="unhashable"):
        queue.submit("list", 1)
    assert queue.stats().submitted == 0
    queue.stop()


def test_serial_by_of_a_late_handler(caplog):
    """A job that came before its handler gets its value later; where that fails it runs without, and that is logged."""
    with WorkQueue(workers=1) as queue:
        queue.declare("late")
        jobs = [queue.submit("late", payload) for payload in ({"user": 1}, {})]
        queue.drain(0)
        queue.handler("late", serial_by=lambda payload: payload["user"])(lambda payload, ctx: ctx.attempt)
        assert [job.result(5) for job in jobs] == [1, 1]
    assert "unknown to 'late', and it runs without" in caplog.text


def test_bad_limits_for_each_key_are_refused():
    """A limit for each key that makes no sense is refused by an error that names it, and so is one in a list."""
    queue = WorkQueue(workers=0)
    with pytest.raises(TypeError, match="by must be"):
        PerKey(2, "customer")
    for bad in (PerKey(0, str), [2, PerKey("x", str)], PerKey(PerKey(2, str), str)):
        with pytest.raises((TypeError, ValueError), match="concurrency"):
            queue.handler("work", concurrency=bad)(print)
        with pytest.raises((TypeError, ValueError), match="rate"):
            queue.handler("work", rate=bad)(print)
    queue.stop()


def test_a_function_that_comes_in_the_middle_of_a_claim_is_not_waited_for():
    """A job that was claimed with a ticket, and is put aside all the same, keeps nobody waiting."""
    queue = WorkQueue(workers=0)
    queue.declare("late")
    job = queue.submit("late", "a")
    handler = queue._handlers.find("late")
    handler.serial_by = str
    queue._set_limits(handler)
    queue._serve()
    job.ticket = handler.limits.line_up()
    assert queue._store.claim() is job
    queue._shelve(job, handler)
    assert job.ticket is None
    queue.handler("late")(print)
    assert queue._begin_next() is job
    queue.stop()


@pytest.mark.parametrize("limits", [{"serial_by": lambda _: 0}, {"concurrency": 1}], ids=["serial", "narrow"])
def test_a_job_that_cannot_be_read_keeps_nobody_waiting(tmp_path, limits):
    """A job of a file whose payload is broken becomes a dead letter, and those behind it run."""
    path, order = tmp_path / "jobs.db", []
    with WorkQueue(workers=1, store=stores.SQLiteStore(path)) as queue:
        queue.declare("work")
        broken = queue.submit("work", 1).id
        queue.submit_many("work", [2, 3])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE job SET payload = x'ff' WHERE id = ?", (broken,))
    with WorkQueue(workers=2, store=stores.SQLiteStore(path)) as queue:
        queue.handler("work", **limits)(order.append)
        assert queue.drain(5)
        assert str(queue.get(broken).state) == "failed"
    assert sorted(order) == [2, 3]


def test_a_function_for_a_handler_that_has_none_yet():
    """A job of a name that is only declared takes no ticket."""
    queue = WorkQueue(workers=0)
    queue.declare("late")
    assert queue._line_up("late") is None
    queue.stop()


def test_a_job_that_was_claimed_before_a_pause_is_the_next_after_it(tmp_path):
    """A job of a file that was claimed with the end of another, and not begun, keeps its place and its ticket."""
    clock, order = VirtualClock(), []
    with WorkQueue(workers=1, clock=clock, store=stores.SQLiteStore(tmp_path / "jobs.db", "process")) as queue:
        queue.handler("work", serial_by=lambda _: 0)(order.append)
        queue.pause()
        queue.submit_many("work", [1, 2, 3])
        with queue.observe(lambda event: queue.pause() if isinstance(event, events.JobCompleted) else None):
            queue.resume()
            clock.settle()
        assert order == [1]
        queue.resume()
        clock.settle()
        assert (order, queue.stats().completed) == ([1, 2, 3], 3)
