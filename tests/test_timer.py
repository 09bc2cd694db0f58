"""One thread and one heap for things that are due later."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from helpers import PATIENCE, Background, Gate
from typing_extensions import override

from threadkit import SystemClock
from threadkit._timer import Timer
from threadkit.testing import VirtualClock


def test_order() -> None:
    """Entries are called in the order of their times, and those of one time in the order of their making."""
    clock, called = VirtualClock(), list[str]()
    timer = Timer(clock, "timer")
    for due, name in [(3, "c"), (1, "a"), (3, "d"), (2, "b")]:
        timer.at(due, called.append, name)
    assert len(timer) == 4
    clock.advance(2)
    assert called == ["a", "b"]
    clock.advance(1)
    assert called == ["a", "b", "c", "d"]


def test_what_is_past_is_called_at_once() -> None:
    """An entry whose time has passed is called without any time passing."""
    clock, called = VirtualClock(), list[object]()
    clock.advance(10)
    Timer(clock, "timer").at(5, called.append)
    clock.settle()
    assert called == [None]


def test_an_earlier_entry_wakes_the_thread() -> None:
    """An entry that is due before all others is called at its time, not at theirs."""
    clock, called = VirtualClock(), list[float]()
    timer = Timer(clock, "timer")
    timer.at(100, lambda _: called.append(clock.monotonic()))
    clock.settle()
    timer.at(1, lambda _: called.append(clock.monotonic()))
    clock.advance(100)
    assert called == [1, 100]


def test_the_thread_ends_with_the_last_entry() -> None:
    """There is no thread before the first entry, none after the last, and a new one for the next."""
    clock = VirtualClock()
    timer = Timer(clock, "timer")
    assert timer.thread() is None
    assert timer.join(None)
    timer.at(1, id)
    first = timer.thread()
    assert first is not None
    assert first.name == "timer"
    clock.advance(1)
    assert timer.join(None)
    assert timer.thread() is None
    timer.at(2, id)
    assert timer.thread() is not first
    clock.advance(1)


def test_cancel() -> None:
    """A cancelled entry is not called, is cancelled once, and frees the thread where it was the last."""
    clock, called = VirtualClock(), list[object]()
    timer = Timer(clock, "timer")
    first = timer.at(1, called.append)
    last = timer.at(2, called.append)
    assert timer.cancel(last)
    assert not timer.cancel(last)
    assert len(timer) == 1
    assert timer.cancel(first)
    assert timer.join(clock.monotonic() + 1)
    assert called == []


def test_cancel_after_the_call() -> None:
    """An entry that has been called cannot be cancelled."""
    clock = VirtualClock()
    timer = Timer(clock, "timer")
    entry = timer.at(1, id)
    clock.advance(1)
    assert not timer.cancel(entry)


def test_cancelled_entries_are_swept() -> None:
    """Many cancelled entries do not stay in the heap until their time."""
    clock = VirtualClock()
    timer = Timer(clock, "timer")
    kept = timer.at(1, id)
    entries = [timer.at(1000 + number, id) for number in range(2000)]
    for entry in entries:
        timer.cancel(entry)
    assert len(timer) == 1
    assert len(timer._agenda._heap) < 1000
    clock.advance(1)
    assert kept[2] is None
    assert timer.join(None)


def test_cancelled_entries_on_top_of_others() -> None:
    """A cancelled entry that is due among others is passed over."""
    clock, called = VirtualClock(), list[str]()
    timer = Timer(clock, "timer")
    timer.at(1, called.append, "a")
    gone = timer.at(1, called.append, "b")
    timer.at(1, called.append, "c")
    timer.cancel(gone)
    clock.advance(1)
    assert called == ["a", "c"]


def test_clear() -> None:
    """clear() cancels everything, and the timer can be used again."""
    clock, called = VirtualClock(), list[object]()
    timer = Timer(clock, "timer")
    entry = timer.at(1, called.append)
    timer.clear()
    assert timer.join(clock.monotonic() + 1)
    assert not timer.cancel(entry)
    timer.at(2, called.append, "again")
    clock.advance(2)
    assert called == ["again"]


@pytest.mark.parametrize("lingers", [True, False])
def test_close(lingers: bool) -> None:
    """close() ends the thread, and what is added later is never called."""
    clock, called = VirtualClock(), list[object]()
    timer = Timer(clock, "timer", lingers=lingers)
    timer.at(1, called.append)
    timer.close()
    assert timer.join(clock.monotonic() + 1)
    late = timer.at(2, called.append)
    assert not timer.cancel(late)
    clock.advance(2)
    assert called == []
    assert timer.thread() is None


def test_a_lingering_thread() -> None:
    """A timer that lingers keeps its thread parked while there is nothing to do, and close() ends it."""
    clock, called = VirtualClock(), list[float]()
    timer = Timer(clock, "timer", lingers=True)
    timer.at(1, lambda _: called.append(clock.monotonic()))
    thread = timer.thread()
    clock.advance(5)
    timer.at(7, lambda _: called.append(clock.monotonic()))
    clock.advance(5)
    assert timer.thread() is thread
    assert called == [1, 7]
    timer.close()
    assert timer.join(clock.monotonic() + 1)


def test_join_from_inside() -> None:
    """A callback that joins its own timer is not stuck."""
    clock, answers = VirtualClock(), list[bool]()
    timer = Timer(clock, "timer")
    timer.at(1, lambda _: answers.append(timer.join(None)))
    clock.advance(1)
    assert answers == [True]


def test_join_gives_up() -> None:
    """join() returns False at its deadline while there is something to come."""
    timer = Timer(SystemClock(), "timer")
    timer.at(SystemClock().monotonic() + 3600, id)
    assert not timer.join(SystemClock().monotonic())
    timer.clear()
    assert timer.join(SystemClock().monotonic() + PATIENCE)


class NoThreads(VirtualClock):
    """A clock on a machine that has no thread left."""

    @override
    def spawn(self, target: Callable[[], None], name: str) -> threading.Thread:
        raise RuntimeError("can't start new thread")


def test_no_thread_to_be_had() -> None:
    """Where the system gives no thread the entry is taken back and the caller told."""
    timer = Timer(NoThreads(), "timer")
    with pytest.raises(RuntimeError, match="can't start new thread"):
        timer.at(1, id)
    assert len(timer) == 0
    assert timer.thread() is None


def test_an_idle_timer_keeps_nothing_alive() -> None:
    """The argument of an entry is dropped as soon as its call is over, while the thread lives on."""

    class Thing:
        def __init__(self, gone: Gate) -> None:
            self.gone = gone

        def __del__(self) -> None:
            self.gone.open()

    clock, gone = VirtualClock(), Gate()
    timer = Timer(clock, "timer", lingers=True)
    timer.at(1, id, Thing(gone))
    clock.advance(1)
    assert gone.is_open()
    timer.close()


def test_nobody_waits_while_the_thread_is_made() -> None:
    """A finalizer that strikes the new thread before its first step may add an entry: no lock is held meanwhile."""
    called = Gate()

    class Struck(SystemClock):
        @override
        def spawn(self, target: Callable[[], None], name: str) -> threading.Thread:
            Background(lambda: timer.at(0, called.open)).result()
            return super().spawn(target, name)

    timer = Timer(Struck(), "timer")
    timer.at(1000, called.open)
    called.pass_through()
    timer.close()
    assert timer.join(None)
