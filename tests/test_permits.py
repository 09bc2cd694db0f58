"""Permits: a bound that is kept by tokens, and changed while it is in use."""

from __future__ import annotations

import asyncio
import math
from collections import deque

import pytest
from helpers import Background

from threadkit._permits import Permits
from threadkit._waiting import Bell
from threadkit.testing import VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def take_all(permits: Permits) -> int:
    """Take every permit there is, and return how many it were."""
    count = 0
    while permits.take_now():
        count += 1
    return count


@pytest.mark.parametrize("count", [1, 3, 511, 512, 513, 2000])
def test_as_many_as_there_are(clock: VirtualClock, count: int) -> None:
    """Exactly so many permits can be taken; each that is given back can be taken again."""
    permits = Permits(clock, count)
    assert permits.taken() == 0
    assert take_all(permits) == permits.taken() == count
    permits.give()
    assert permits.taken() == count - 1
    assert permits.take_now()
    assert not permits.take_now()


def test_no_limit(clock: VirtualClock) -> None:
    """With an infinite number there is always one."""
    permits = Permits(clock, math.inf)
    assert all(permits.take_now() for _ in range(5000))
    assert permits.taken() == 5000


@pytest.mark.parametrize("taken", [0, 1, 3, 5])
@pytest.mark.parametrize("change", [-4, -2, 0, 2])
def test_resize(clock: VirtualClock, taken: int, change: int) -> None:
    """Whatever is in use when the number changes: once all have come back there are as many as the new number says."""
    permits = Permits(clock, 5)
    for _ in range(taken):
        assert permits.take_now()
    permits.resize(change)
    assert permits.taken() == taken
    for _ in range(taken):
        permits.give()
    assert permits.taken() == 0
    assert take_all(permits) == 5 + change


def test_a_debt_that_is_forgiven(clock: VirtualClock) -> None:
    """Permits that were to go when they come back stay where the number was raised again meanwhile."""
    permits = Permits(clock, 3)
    take_all(permits)
    permits.resize(-2)
    permits.resize(2)
    for _ in range(3):
        permits.give()
    assert take_all(permits) == 3


def test_two_who_pay_the_last_debt(clock: VirtualClock) -> None:
    """Who comes to pay a debt that somebody else has just paid gives the permit back instead."""
    permits = Permits(clock, 1)
    permits.take_now()
    assert not permits._pay()
    permits.give()
    assert take_all(permits) == 1


def test_two_who_make_the_last(clock: VirtualClock) -> None:
    """Who comes to make a permit that somebody else has just made gets none."""
    permits = Permits(clock, 0.5)  # looks as if there were one left; a batch of it is empty
    assert not permits.take_now()
    assert permits.taken() == 0


def test_who_waits_gets_one(clock: VirtualClock) -> None:
    """take() waits until a permit is given back, or made by a change of the number."""
    permits = Permits(clock, 1)
    permits.take_now()
    for make_room in (permits.give, lambda: permits.resize(1)):
        waiter = Background(lambda: permits.take(60, lambda: False))
        clock.wait_for_sleepers(1)
        make_room()
        assert waiter.result()


def test_all_who_wait_get_one(clock: VirtualClock) -> None:
    """When several permits come at once, nobody who waits is left asleep beside one."""
    permits = Permits(clock, 3)
    take_all(permits)
    waiters = [Background(lambda: permits.take(60, lambda: False)) for _ in range(3)]
    clock.wait_for_sleepers(3)
    permits._tokens.extend([None] * 3)
    permits._bell.ring()
    assert all(waiter.result() for waiter in waiters)


def test_an_interrupt_of_one_who_waited(clock: VirtualClock) -> None:
    """A permit goes back where Ctrl-C strikes one who waited for it, just as he has got it."""

    class Struck(Bell):
        def ring(self) -> bool:
            self.ring = super().ring  # type: ignore[method-assign]  # once
            raise KeyboardInterrupt

    permits = Permits(clock, 2)
    permits._bell = Struck(clock)
    with pytest.raises(KeyboardInterrupt):
        permits.take(None, lambda: False)  # the next one is there, so it is passed on
    assert permits.taken() == 0


def test_who_is_woken_in_vain_waits_on(clock: VirtualClock) -> None:
    """A ring after which there is no permit wakes nobody for good."""
    permits = Permits(clock, 1)
    permits.take_now()
    waiter = Background(lambda: permits.take(60, lambda: False))
    clock.wait_for_sleepers(1)
    permits.wake_all()
    permits.give()
    assert waiter.result()


def test_room_that_comes_just_before_a_coroutine_waits(clock: VirtualClock) -> None:
    """A coroutine looks for a permit once more when it has said that it waits, so that none is missed."""
    permits = Permits(clock, 1)
    permits.take_now()
    given = iter([permits.give])

    def given_up() -> bool:
        for give in given:
            give()
        return False

    assert asyncio.run(permits.take_on_loop(given_up))
    assert permits._bell.idle() == 0


def test_who_waits_may_give_up(clock: VirtualClock) -> None:
    """take() ends without a permit at its deadline, or when it is told to give up."""
    permits = Permits(clock, 1)
    permits.take_now()
    waiter = Background(lambda: permits.take(60, lambda: False))
    clock.wait_for_sleepers(1)
    clock.advance(60)
    assert not waiter.result()
    given_up: deque[bool] = deque()
    waiter = Background(lambda: permits.take(120, lambda: bool(given_up)))
    clock.wait_for_sleepers(1)
    given_up.append(True)
    permits.wake_all()
    assert not waiter.result()
