"""The scheduler: what is due is done on a few threads, and nothing is left lying."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from helpers import Gate
from typing_extensions import override

from threadkit import StopToken
from threadkit._scheduler import MAX_THREADS, Scheduler
from threadkit.events import Event, PoolSaturated
from threadkit.testing import VirtualClock


def end(scheduler: Scheduler, clock: VirtualClock) -> None:
    scheduler.stop()
    assert scheduler.join(clock.monotonic() + 1)
    assert scheduler.threads() == []


def test_calls_at_their_time() -> None:
    """A call is made at its time, on a thread that is not the one of the heap."""
    clock, seen = VirtualClock(), list[tuple[float, str]]()
    scheduler = Scheduler(clock)
    for due in (2.0, 1.0):
        scheduler.schedule(due, lambda: seen.append((clock.monotonic(), threading.current_thread().name)))
    clock.advance(2)
    assert [moment for moment, _ in seen] == [1, 2]
    assert all(name.startswith("threadkit-task") for _, name in seen)
    assert scheduler.threads()[0].name == "threadkit-scheduler"
    end(scheduler, clock)


def test_cancel() -> None:
    """A cancelled call is not made."""
    clock, seen = VirtualClock(), list[None]()
    scheduler = Scheduler(clock)
    entry = scheduler.schedule(1, lambda: seen.append(None))
    assert scheduler.cancel(entry)
    assert not scheduler.cancel(entry)
    clock.advance(2)
    assert seen == []
    end(scheduler, clock)


def test_slow_calls_delay_nobody() -> None:
    """Calls that are due at one moment all begin at it, though each of them takes long."""
    clock, begun = VirtualClock(), list[float]()
    scheduler, token = Scheduler(clock), StopToken(clock=clock)

    def slow() -> None:
        begun.append(clock.monotonic())
        token.wait(100)

    for _ in range(MAX_THREADS):
        scheduler.schedule(1, slow)
    clock.advance(1)
    assert begun == [1] * MAX_THREADS
    token.set()
    end(scheduler, clock)


def test_saturation() -> None:
    """When all threads are busy that is told once, and what waits is done when one is free."""
    clock, events, done = VirtualClock(), list[Event](), list[None]()
    scheduler, token = Scheduler(clock, "mine", events.append), StopToken(clock=clock)
    for _ in range(MAX_THREADS):
        scheduler.run(token.wait)
    clock.settle()
    assert events == []
    for _ in range(3):
        scheduler.run(lambda: done.append(None))
    clock.settle()
    assert [type(event) for event in events] == [PoolSaturated]
    assert str(events[0]) == "'mine': all 32 threads are busy"
    assert done == []
    token.set()
    clock.settle()
    assert len(done) == 3
    end(scheduler, clock)


def test_saturation_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Where nobody is to be told of saturation it is logged as a warning."""
    clock = VirtualClock()
    scheduler, token = Scheduler(clock), StopToken(clock=clock)
    for _ in range(MAX_THREADS + 1):
        scheduler.run(token.wait)
    clock.settle()
    token.set()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "'scheduler': all 32 threads are busy")
    ]
    end(scheduler, clock)


def test_idle_threads_end() -> None:
    """After half a minute without work there is only the parked thread of the heap."""
    clock = VirtualClock()
    scheduler, token = Scheduler(clock), StopToken(clock=clock)
    for _ in range(8):
        scheduler.schedule(1, token.wait)
    clock.advance(1)
    assert len(scheduler.threads()) == 9
    token.set()
    clock.advance(31)
    assert [thread.name for thread in scheduler.threads()] == ["threadkit-scheduler"]
    end(scheduler, clock)


def test_a_call_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """What a call raises is logged, and what was behind it in the line is done."""
    clock, done = VirtualClock(), list[None]()
    scheduler = Scheduler(clock)

    def fail() -> None:
        raise ValueError("oops")

    scheduler.schedule(1, fail)
    scheduler.schedule(1, lambda: done.append(None))
    clock.advance(1)
    assert done == [None]
    assert "oops" in caplog.text
    end(scheduler, clock)


def test_after_stop() -> None:
    """After stop() nothing is called any more, and nobody gets an error for asking."""
    clock, seen = VirtualClock(), list[None]()
    scheduler = Scheduler(clock)
    scheduler.schedule(1, lambda: seen.append(None))
    end(scheduler, clock)
    scheduler.schedule(2, lambda: seen.append(None))
    scheduler.run(lambda: seen.append(None))
    clock.advance(5)
    assert seen == []


def test_stop_waits_for_what_runs() -> None:
    """join() gives up at its deadline while a call is going on, and succeeds after it."""
    clock = VirtualClock()
    scheduler, token = Scheduler(clock), StopToken(clock=clock)
    scheduler.run(token.wait)
    clock.settle()
    scheduler.stop()
    assert not scheduler.join(clock.monotonic())
    token.set()
    assert scheduler.join(clock.monotonic() + 1)


class Poor(VirtualClock):
    """A clock on a machine that has no thread left for the pool, at times."""

    poor = True

    @override
    def spawn(self, target: Callable[[], None], name: str) -> threading.Thread:
        if self.poor and "task" in name:
            raise RuntimeError("can't start new thread")
        return super().spawn(target, name)


def test_no_thread_for_the_pool(caplog: pytest.LogCaptureFixture) -> None:
    """Where the system gives no thread that is logged, and what was due is done a second later."""
    clock, done = Poor(), list[float]()
    scheduler = Scheduler(clock)
    scheduler.schedule(1, lambda: done.append(clock.monotonic()))
    clock.advance(1)
    assert done == []
    assert "can't start new thread; trying again in 1 s" in caplog.text
    clock.poor = False
    clock.advance(1)
    assert done == [2]
    end(scheduler, clock)


def test_two_threads_at_the_end_of_the_line() -> None:
    """A thread that comes to an empty line goes away again."""
    clock, gate = VirtualClock(), Gate()
    scheduler = Scheduler(clock)
    scheduler._summon()
    clock.settle()
    scheduler.run(gate.open)
    gate.pass_through()
    end(scheduler, clock)
