"""Four ways to wait. That nothing is lost between threads is explored in ``races/test_waiting_races.py``."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from helpers import Parked

from threadkit._clock import SYSTEM_CLOCK, Gate, open_gate
from threadkit._waiting import Bell, Channel, Condition, Waiters
from threadkit.testing import VirtualClock


class Interrupted(BaseException):
    """What a signal handler may raise in a thread that waits."""


class Clock(VirtualClock):
    """A clock that calls a function in the moment in which somebody parks."""

    def __init__(self) -> None:
        super().__init__()
        self.on_park: Callable[[], object] = lambda: None

    def park(self, gate: Gate, deadline: float | None) -> bool:
        self.on_park()
        return super().park(gate, deadline)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def interrupt() -> None:
    raise Interrupted


# Waiters


def test_waiter_that_need_not_wait(clock: Clock) -> None:
    """Where the thing has happened already nobody waits."""
    clock.on_park = interrupt
    assert Waiters().wait(clock, lambda: True, None) is True


def test_all_waiters_are_woken(clock: Clock) -> None:
    """wake_all() wakes everybody who waits, and forgets them."""
    waiters, flag = Waiters(), []
    threads = [Parked(clock, lambda: waiters.wait(clock, lambda: bool(flag), None)) for _ in range(3)]
    assert all(thread.waits for thread in threads)
    flag.append(True)
    waiters.wake_all()
    assert [thread.result() for thread in threads] == [True] * 3
    assert waiters._gates == {}


def test_waiter_that_is_woken_for_nothing(clock: Clock) -> None:
    """A waiter that is woken although nothing has happened says so."""
    waiters = Waiters()
    thread = Parked(clock, lambda: waiters.wait(clock, lambda: False, None))
    waiters.wake_all()
    assert thread.result() is False


def test_waiter_gives_up_at_its_deadline(clock: Clock) -> None:
    """A waiter whose time is over leaves no gate behind."""
    waiters = Waiters()
    thread = Parked(clock, lambda: waiters.wait(clock, lambda: False, 5.0))
    clock.advance(5)
    assert thread.result() is False
    assert waiters._gates == {}


def test_flag_that_is_set_while_a_waiter_enters(clock: Clock) -> None:
    """A waiter looks once more after it has entered, and does not park then."""
    clock.on_park = interrupt
    looks = iter([False, True, True])
    assert Waiters().wait(clock, lambda: next(looks), None) is True


def test_interrupted_waiter(clock: Clock) -> None:
    """A waiter that an interrupt takes away leaves no gate behind."""
    waiters = Waiters()
    clock.on_park = interrupt
    with pytest.raises(Interrupted):
        waiters.wait(clock, lambda: False, None)
    assert waiters._gates == {}


def test_last_gate_that_somebody_else_wakes() -> None:
    """Two who wake at the same time do not stumble over the last gate."""
    waiters = Waiters()

    class Gates(dict[Any, None]):
        def __bool__(self) -> bool:
            return True

    waiters._gates = Gates()
    waiters.wake_all()  # sees a gate, and does not find it any more


# Condition


def test_condition_that_holds_already(clock: Clock) -> None:
    """Where the predicate is true nobody waits."""
    condition = Condition(clock)
    clock.on_park = interrupt
    with condition:
        assert condition.wait_until(lambda: True, None) is True


def test_condition_is_looked_at_again_after_each_notification(clock: Clock) -> None:
    """A waiter goes on waiting until its predicate is true, however often it is notified."""
    condition, numbers = Condition(clock), []

    def wait() -> list[int]:
        with condition:
            condition.wait_until(lambda: len(numbers) >= 2, None)
            return list(numbers)

    thread = Parked(clock, wait)
    for number in (1, 2):
        assert thread.waits
        with condition:
            numbers.append(number)
            condition.notify_all()
        clock.settle()
    assert thread.result() == [1, 2]
    assert condition._gates == []


def test_condition_gives_up_at_its_deadline(clock: Clock) -> None:
    """A waiter whose time is over says what the predicate says then, and leaves no gate behind."""
    condition, flag = Condition(clock), []

    def wait() -> bool:
        with condition:
            return condition.wait_until(lambda: bool(flag), 5.0)

    first = Parked(clock, wait)
    clock.advance(5)
    assert first.result() is False
    second = Parked(clock, wait)
    assert second.result() is False  # its time is over before it begins
    flag.append(True)
    assert Parked(clock, wait).result() is True
    assert condition._gates == []


def test_interrupted_condition(clock: Clock) -> None:
    """A waiter that an interrupt takes away gives the lock back, and leaves no gate behind."""
    condition = Condition(clock)
    clock.on_park = interrupt
    with pytest.raises(Interrupted), condition:
        condition.wait_until(lambda: False, None)
    assert condition._gates == []
    with condition:  # it is free
        pass


def test_lock_is_free_while_a_waiter_waits(clock: Clock) -> None:
    """While somebody waits another one may have the lock."""
    condition, flag = Condition(clock), []

    def wait() -> bool:
        with condition:
            return condition.wait_until(lambda: bool(flag), None)

    threads = [Parked(clock, wait) for _ in range(2)]
    with condition:
        flag.append(True)
        condition.notify_all()
    assert [thread.result() for thread in threads] == [True, True]


# Bell


def test_one_ring_wakes_one(clock: Clock) -> None:
    """A ring wakes one of those who wait, the first; with nobody there it says so."""
    bell = Bell(clock)
    assert bell.ring() is False
    first, second = [Parked(clock, lambda: bell.wait(lambda: False)) for _ in range(2)]
    assert bell.idle() == 2
    assert bell.ring() is True
    assert first.result() is True
    assert second.waits
    assert bell.idle() == 1
    bell.ring_all()
    assert second.result() is True
    assert bell.idle() == 0


def test_bell_is_not_waited_at_where_there_is_work(clock: Clock) -> None:
    """Where there is work already nobody parks."""
    bell = Bell(clock)
    clock.on_park = interrupt
    assert bell.wait(lambda: [1]) is True
    assert bell.idle() == 0


def test_bell_gives_up_at_its_deadline(clock: Clock) -> None:
    """Where the time is over and nobody has rung the answer is False."""
    bell = Bell(clock)
    thread = Parked(clock, lambda: bell.wait(lambda: False, 5.0))
    clock.advance(5)
    assert thread.result() is False
    assert bell.idle() == 0


def test_ring_that_meets_the_deadline_counts(clock: Clock) -> None:
    """A ring that was spent on a worker in the moment its time was over is not lost: the worker looks for work."""
    bell = Bell(clock)

    class Late(Clock):
        def park(self, gate: Gate, deadline: float | None) -> bool:
            bell.ring()
            return False

    bell._clock = Late()
    assert bell.wait(lambda: False, 5.0) is True


def test_ring_of_an_interrupted_worker_goes_to_the_next(clock: Clock) -> None:
    """Where an interrupt takes a worker away that has been rung for, the next one is woken in its place."""
    bell = Bell(clock)
    waiting = Parked(clock, lambda: bell.wait(lambda: False))
    gate = bell._idle.popleft()  # so that the one below is first in the line

    def ring_and_interrupt() -> None:
        bell._idle.append(gate)
        bell.ring()
        raise Interrupted

    clock.on_park = ring_and_interrupt
    with pytest.raises(Interrupted):
        bell.wait(lambda: False)
    assert waiting.result() is True


def test_interrupted_worker_that_nobody_rang_for(clock: Clock) -> None:
    """Where an interrupt takes a worker away that nobody rang for, nobody else is woken."""
    bell = Bell(clock)
    waiting = Parked(clock, lambda: bell.wait(lambda: False))
    clock.on_park = interrupt
    with pytest.raises(Interrupted):
        bell.wait(lambda: False)
    assert waiting.waits
    assert bell.idle() == 1
    bell.ring()
    waiting.result()


def test_ring_that_is_too_late() -> None:
    """Of two who ring for the last worker one is told that nobody was there."""
    bell = Bell(VirtualClock())

    class Idle(list[Any]):
        def __bool__(self) -> bool:
            return True

        def popleft(self) -> Any:
            raise IndexError

    bell._idle = Idle()  # type: ignore[assignment]  # it looks as if somebody were there
    assert bell.ring() is False


# Channel


def test_first_in_first_out(clock: Clock) -> None:
    """Items come out in the order in which they came in, and an empty channel has none."""
    channel: Channel[int] = Channel(clock)
    for number in (1, 2, 3):
        channel.put(number)
    assert len(channel) == 3
    assert [channel.get(), channel.get(deadline=0.0), channel.get()] == [1, 2, 3]
    with pytest.raises(IndexError):
        channel.get(deadline=0.0)


def test_get_waits_for_an_item(clock: Clock) -> None:
    """get() on an empty channel returns the item that comes next, and waits no longer."""
    channel: Channel[str] = Channel(clock)
    getter = Parked(clock, channel.get)
    assert getter.waits
    assert channel._bell.idle() == 1
    channel.put("item")
    assert getter.result() == "item"
    assert channel._bell.idle() == 0


def test_get_gives_up_at_its_deadline(clock: Clock) -> None:
    """get() raises IndexError where no item comes in time."""
    channel: Channel[int] = Channel(clock)

    def get() -> object:
        try:
            return channel.get(5.0)
        except IndexError:
            return "nothing"

    getter = Parked(clock, get)
    clock.advance(5)
    assert getter.result() == "nothing"
    assert channel._bell.idle() == 0


def test_getter_that_comes_too_late_waits_on(clock: Clock) -> None:
    """A getter that was rung for, and whose item somebody else has taken, goes on waiting."""
    channel: Channel[int] = Channel(clock)
    getter = Parked(clock, channel.get)
    channel._bell.ring()  # for nothing
    clock.settle()
    assert getter.waits
    channel.put(1)
    assert getter.result() == 1


def test_ring_is_passed_on(clock: Clock) -> None:
    """A getter that was woken and sees a second item wakes the next one."""
    channel: Channel[int] = Channel(clock)
    getters = [Parked(clock, channel.get) for _ in range(2)]
    channel._items.extend([1, 2])  # as if one ring had been spent twice
    channel._bell.ring()
    assert sorted(getter.result() for getter in getters) == [1, 2]


def test_gates_are_released_once() -> None:
    """A gate that is opened twice lets one through, and closes behind it."""
    gate = SYSTEM_CLOCK.gate()
    open_gate(gate)
    open_gate(gate)
    assert gate.acquire(blocking=False)
    assert not gate.acquire(blocking=False)


def test_nothing_takes_a_lock(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """Waiters, Bell and Channel make no lock but the gates of those who wait."""
    made: list[object] = []
    monkeypatch.setattr(threading, "Lock", lambda: made.append(1))
    channel: Channel[int] = Channel(clock)
    channel.put(1)
    channel.get()
    Waiters().wake_all()
    Bell(clock).ring_all()
    assert made == []


def test_no_python_runs_between_the_lock_and_the_block() -> None:
    """To take and to give back a condition calls nothing that is written in Python, where Ctrl-C could strike."""
    condition = Condition(SYSTEM_CLOCK)
    calls: list[str] = []
    before = sys.getprofile()
    sys.setprofile(lambda frame, event, _: calls.append(frame.f_code.co_name) if event == "call" else None)
    with condition:
        pass
    sys.setprofile(before)
    assert calls == []
