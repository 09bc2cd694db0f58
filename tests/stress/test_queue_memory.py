"""What a queue in memory keeps: nothing of what is done, and little of what waits."""

from __future__ import annotations

import math
import resource

import pytest

from threadkit import Retry, WorkQueue

pytestmark = [pytest.mark.stress, pytest.mark.timeout(600)]

MILLION = 1_000_000


def resident() -> int:
    """Return the most memory that this process ever had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_a_million_jobs_leave_nothing_behind():
    """After the first hundred thousand jobs, nine hundred thousand more take no more memory."""
    with WorkQueue(workers=4, keep=1000, maxsize=1000) as queue:
        queue.handler("work")(lambda payload: payload)
        for _ in range(MILLION // 10):
            queue.submit("work")
        assert queue.drain(600)
        memory = resident()
        for _ in range(MILLION * 9 // 10):
            queue.submit("work")
        assert queue.drain(600)
        assert queue.stats().completed == MILLION
        assert resident() - memory < 8 * 2**20


def test_a_hundred_thousand_failing_jobs_leave_nothing_behind(caplog):
    """Jobs that fail, with tracebacks and dead letters, take no more memory than are kept."""
    caplog.set_level("CRITICAL", "threadkit")
    with WorkQueue(workers=4, keep=1000, maxsize=1000, retry=Retry(2, lambda state: 0.0)) as queue:

        @queue.handler
        def fail(payload):
            raise OSError(payload)

        for number in range(10_000):
            queue.submit(fail, number)
        assert queue.drain(600)
        memory = resident()
        for number in range(90_000):
            queue.submit(fail, number)
        assert queue.drain(600)
        assert (queue.stats().failed, len(queue.dead_letters())) == (100_000, 1000)
        assert resident() - memory < 16 * 2**20


def test_many_keys_of_limits_leave_nothing_behind():
    """Keys of a handler's limits are forgotten when they are idle."""
    with WorkQueue(workers=4, keep=1000, maxsize=1000) as queue:

        @queue.handler(serial_by=lambda payload: payload)
        def work(payload):
            pass

        for number in range(20_000):
            queue.submit(work, number)
        assert queue.drain(600)
        memory = resident()
        for number in range(20_000, 200_000):
            queue.submit(work, number)
        assert queue.drain(600)
        assert resident() - memory < 8 * 2**20


def test_a_million_delayed_jobs():
    """A million jobs that wait for their time take at most a kilobyte each, in the memory that the process has."""
    with WorkQueue(workers=1, maxsize=math.inf) as queue:
        queue.declare("work")
        memory = resident()
        for _ in range(MILLION):
            queue.submit("work", delay=100_000)
        assert queue.stats().scheduled == MILLION
        assert resident() - memory <= 1024 * MILLION
