"""The scheduler: what is due is done on a few threads, and nothing is left lying."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from helpers import Gate
from typing_extensions import override

from threadkit import StopToken
from threadkit._clock import Gate as ClockGate
from threadkit._scheduler import MAX_THREADS, Scheduler, Tempo
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
    refusal = "can't start new thread"

    @override
    def spawn(self, target: Callable[[], None], name: str) -> threading.Thread:
        if self.poor and "task" in name:
            raise RuntimeError(self.refusal)
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


def test_no_thread_since_the_interpreter_exits(caplog: pytest.LogCaptureFixture) -> None:
    """Where the interpreter exits no thread will be had any more, so nothing is tried again, and nothing logged."""
    clock = Poor()
    clock.refusal = "can't create new thread at interpreter shutdown"
    scheduler = Scheduler(clock)
    scheduler.schedule(1, bool)
    clock.advance(5)
    assert caplog.text == ""
    end(scheduler, clock)


def test_no_thread_for_the_watch() -> None:
    """Where the system gives no thread at all the entry is taken back, and who asked is told."""

    class Poorer(VirtualClock):
        @override
        def spawn(self, target: Callable[[], None], name: str) -> threading.Thread:
            raise RuntimeError("can't start new thread")

    scheduler = Scheduler(Poorer())
    with pytest.raises(RuntimeError, match="can't start new thread"):
        scheduler.schedule(1, bool)
    assert len(scheduler._agenda) == 0
    assert scheduler.threads() == []
    scheduler.stop()
    assert scheduler.join(0)


def test_two_threads_at_the_end_of_the_line() -> None:
    """A thread that comes to an empty line goes away again."""
    clock, gate = VirtualClock(), Gate()
    scheduler = Scheduler(clock)
    scheduler._summon()
    clock.settle()
    scheduler.run(gate.open)
    gate.pass_through()
    end(scheduler, clock)


# --- the attendant -------------------------------------------------------------------------------------------------


QUICK, SLOW, FAST = Tempo(), Tempo(), Tempo()
SLOW.took(10)
FAST.follow(0.001)


class Diary:
    """Notes what is called when, and by which thread."""

    def __init__(self, clock: VirtualClock | None = None) -> None:
        self.clock = VirtualClock() if clock is None else clock
        self.scheduler = Scheduler(self.clock)
        self.token = StopToken(clock=self.clock)
        self.called: list[tuple[str, float]] = []
        self.threads: dict[str, threading.Thread] = {}

    def plan(self, due: float, name: str, tempo: Tempo = QUICK, *, blocks: bool = False) -> None:
        def call() -> None:
            self.called.append((name, self.clock.monotonic()))
            self.threads[name] = threading.current_thread()
            if blocks:
                self.token.wait()

        self.scheduler.schedule(due, call, tempo)

    def end(self) -> None:
        self.token.set()
        end(self.scheduler, self.clock)


def test_what_is_due_soon_is_done_by_one_thread() -> None:
    """A server that sees more to come soon stays for it, and does it at its time."""
    diary = Diary()
    dues = [1 + number * 0.016 for number in range(10)]
    for number, due in enumerate(dues):
        diary.plan(due, str(number))
    diary.clock.advance(2)
    assert diary.called == [(str(number), due) for number, due in enumerate(dues)]
    assert len(set(diary.threads.values())) == 1
    assert diary.scheduler._attendant is None
    diary.end()


def test_what_is_due_close_together_is_done_together() -> None:
    """Within ten milliseconds after a nap began nobody is woken twice, and nothing is done early."""
    diary = Diary()
    for due, name in [(1, "a"), (1.0008, "b"), (1.0098, "c"), (1.0104, "d")]:
        diary.plan(due, name)
    diary.clock.advance(2)
    assert dict(diary.called) == pytest.approx({"a": 1, "b": 1.01, "c": 1.01, "d": 1.02})
    diary.end()


def test_a_fast_task_has_naps_cut_short() -> None:
    """Beside a task whose interval is a millisecond nothing is late by more than a twenty-fifth of that."""
    diary = Diary()
    for number, due in enumerate([1, 1.0004, 1.0019, 1.0022]):
        diary.plan(due, str(number), FAST if number == 3 else QUICK)
    diary.clock.advance(2)
    assert [moment for _, moment in diary.called] == [1, 1.0004, 1.0019, 1.0022]
    diary.end()


def test_a_call_that_is_no_longer_quick_delays_others_by_moments() -> None:
    """Where an attendant is stuck in a call that used to be quick, others step in before long."""
    diary = Diary()
    diary.plan(1, "a")
    diary.plan(1.012, "stuck", blocks=True)
    diary.plan(1.012, "beside it")
    diary.plan(1.023, "after it")
    diary.plan(5, "long after")
    diary.clock.advance(5)
    began = dict(diary.called)
    assert (began["stuck"], began["long after"]) == (1.012, 5)
    assert 1.012 <= began["beside it"] <= 1.06
    assert 1.023 <= began["after it"] <= 1.06
    diary.end()


@pytest.mark.parametrize("following", [None, 30, 1.3])
def test_what_lies_behind_a_stuck_call_does_not_wait_for_what_is_due_next(following: float | None) -> None:
    """What is due together with a call that sticks is done before long, be the next due late or never."""
    diary = Diary()
    diary.plan(1, "a")
    diary.plan(1.012, "stuck", blocks=True)
    for number in range(3):
        diary.plan(1.012, f"beside it {number}")
    if following is not None:
        diary.plan(following, "next")
    diary.clock.advance(30)
    began = dict(diary.called)
    assert began["stuck"] == 1.012
    assert all(1.012 <= began[f"beside it {number}"] <= 1.06 for number in range(3))
    assert began.get("next") == following
    assert diary.scheduler._attendant is None
    diary.end()


class Counting(VirtualClock):
    """A clock that counts how often somebody goes to sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.sleeps = 0

    @override
    def park(self, gate: ClockGate, deadline: float | None) -> bool:
        self.sleeps += 1
        return super().park(gate, deadline)


def test_the_watch_does_not_spin_while_everybody_is_stuck() -> None:
    """Where all threads are stuck and the line is long the watch steps in once, and sleeps until something is due."""
    clock = Counting()
    diary = Diary(clock)
    diary.plan(1, "a")
    for number in range(MAX_THREADS + 3):
        diary.plan(1.012, str(number), blocks=True)
    diary.plan(60, "b")
    clock.advance(1.1)
    assert len(diary.called) == 1 + MAX_THREADS
    sleeps = clock.sleeps
    clock.advance(50)
    assert clock.sleeps == sleeps
    diary.end()


def test_a_stuck_call_with_nothing_beside_it() -> None:
    """An attendant that is stuck with an empty line is found out by what is due next, and is in nobody's way later."""
    diary = Diary()
    diary.plan(1, "a")
    diary.plan(1.006, "stuck", blocks=True)
    for number in range(3):
        diary.plan(1.5 + number, str(number))
    diary.clock.advance(5)
    began = dict(diary.called)
    assert 1.5 <= began["0"] <= 1.54
    assert (began["1"], began["2"]) == (2.5, 3.5)
    diary.end()


def test_a_slow_call_is_not_attended() -> None:
    """Who is about to do what may take long leaves the rest to the others first: they begin at their time."""
    diary = Diary()
    diary.plan(1, "a")
    diary.plan(1.012, "slow", SLOW, blocks=True)
    diary.plan(1.012, "beside it")
    diary.plan(1.024, "after it")
    diary.clock.advance(2)
    assert dict(diary.called) == {"a": 1, "slow": 1.012, "beside it": 1.012, "after it": 1.024}
    diary.end()


def test_who_leaves_wakes_the_watch() -> None:
    """A watch that sleeps for longer, since somebody attends, is told when nobody does any more."""
    diary = Diary()
    for number, due in enumerate([1, 1.012, 1.024]):
        diary.plan(due, str(number))
    diary.plan(1.036, "slow", SLOW, blocks=True)
    diary.plan(1.048, "after it")
    diary.clock.advance(2)
    assert diary.called[-2:] == [("slow", 1.036), ("after it", 1.048)]
    diary.end()


def test_there_is_one_attendant() -> None:
    """A server that comes while another attends does what it came for, and goes."""
    diary = Diary()
    diary.plan(1, "a")
    diary.plan(1.016, "b")
    diary.clock.advance(1)
    attendant = diary.scheduler._attendant
    assert attendant is diary.threads["a"]
    others: list[threading.Thread] = []
    diary.scheduler.run(lambda: others.append(threading.current_thread()))
    diary.clock.settle()
    assert attendant not in others
    assert len(others) == 1
    assert diary.scheduler._attendant is attendant
    diary.clock.advance(1)
    assert diary.called == [("a", 1), ("b", 1.016)]
    diary.end()


def test_an_earlier_entry_while_somebody_attends() -> None:
    """What is added while an attendant naps, and due before it wakes up, is done at its time."""
    diary = Diary()
    diary.plan(1, "a")
    diary.plan(1.025, "c")
    diary.clock.advance(1)
    diary.plan(1.012, "b")
    diary.clock.advance(1)
    assert diary.called == [("a", 1), ("b", 1.012), ("c", 1.025)]
    diary.end()


def test_stop_while_somebody_attends() -> None:
    """stop() sends the attendant home as well as the watch."""
    diary = Diary()
    diary.plan(1, "a")
    diary.plan(1.016, "b")
    diary.clock.advance(1)
    diary.end()
    assert diary.called == [("a", 1)]


def test_the_last_entry_is_cancelled_while_somebody_attends() -> None:
    """An attendant that has nothing to wait for any more goes, and the watch does its part again."""
    diary = Diary()
    diary.plan(1, "a")
    entry = diary.scheduler.schedule(1.016, bool, QUICK)
    diary.clock.advance(1)
    assert diary.scheduler.cancel(entry)
    diary.clock.advance(0.5)
    diary.plan(2, "b")
    diary.clock.advance(1)
    assert diary.called == [("a", 1), ("b", 2)]
    diary.end()
