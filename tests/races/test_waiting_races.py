"""Bell and channel among several threads: no item lies beside an idle worker, and none is taken twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from threadkit import SystemClock
from threadkit._waiting import Bell, Channel, Condition, Waiters

pytestmark = pytest.mark.races

Explore = Callable[..., None]


class Scene:
    """One of each, and what the threads have got."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.channel: Channel[int] = Channel(self.clock)
        self.bell = Bell(self.clock)
        self.waiters = Waiters()
        self.condition = Condition(self.clock)
        self.flag: list[int] = []
        self.got: list[Any] = []

    def get(self) -> None:
        self.got.append(self.channel.get())


def test_put_against_get(explore: Explore) -> None:
    """An item that is put while somebody begins to wait for one reaches that one."""
    explore(
        Scene,
        lambda scene: scene.get(),
        lambda scene: scene.channel.put(1),
        invariant=lambda scene: scene.got == [1] and scene.channel._bell.idle() == 0,
    )


def test_two_puts_against_two_gets(explore: Explore) -> None:
    """Two items reach two getters, whoever is rung for: none is left with an item beside it."""

    def put_two(scene: Scene) -> None:
        scene.channel.put(1)
        scene.channel.put(2)

    explore(
        Scene,
        lambda scene: scene.get(),
        lambda scene: scene.get(),
        put_two,
        invariant=lambda scene: sorted(scene.got) == [1, 2] and scene.channel._bell.idle() == 0,
    )


def test_put_and_take_against_get(explore: Explore) -> None:
    """A getter whose item somebody else takes gets the next one."""

    def put_take_put(scene: Scene) -> None:
        scene.channel.put(1)
        try:
            scene.got.append(scene.channel.get(deadline=0.0))
        except IndexError:
            pass
        else:
            scene.channel.put(2)

    explore(
        Scene,
        lambda scene: scene.get(),
        put_take_put,
        invariant=lambda scene: sorted(scene.got) in ([1], [1, 2]) and not len(scene.channel),
    )


def test_two_takers_of_one_item(explore: Explore) -> None:
    """Of two who will not wait for it one gets the item, and the other nothing."""

    def setup() -> Scene:
        scene = Scene()
        scene.channel.put(1)
        return scene

    def take(scene: Scene) -> None:
        try:
            scene.got.append(scene.channel.get(deadline=0.0))
        except IndexError:
            scene.flag.append(0)

    explore(setup, take, take, invariant=lambda scene: (scene.got, scene.flag) == ([1], [0]))


def test_two_rings_wake_two(explore: Explore) -> None:
    """Two rings wake two workers, and a ring for nobody says so."""

    def wait(scene: Scene) -> None:
        scene.got.append(scene.bell.wait(lambda: len(scene.flag) == 2))

    def ring_twice(scene: Scene) -> None:
        for number in (1, 2):
            scene.flag.append(number)
            scene.bell.ring()

    def work_until_done(scene: Scene) -> None:
        while len(scene.flag) < 2:
            wait(scene)

    explore(
        Scene,
        work_until_done,
        ring_twice,
        invariant=lambda scene: all(scene.got) and scene.bell.idle() == 0,
    )


def test_wake_against_wait(explore: Explore) -> None:
    """Whoever waits for a flag that is set meanwhile is woken."""

    def set_flag(scene: Scene) -> None:
        scene.flag.append(1)
        scene.waiters.wake_all()

    explore(
        Scene,
        lambda scene: scene.got.append(scene.waiters.wait(scene.clock, lambda: bool(scene.flag), None)),
        set_flag,
        set_flag,
        invariant=lambda scene: scene.got == [True] and not scene.waiters._gates,
    )


def test_notify_against_wait_until(explore: Explore) -> None:
    """Whoever waits for a predicate that becomes true meanwhile is notified."""

    def wait(scene: Scene) -> None:
        with scene.condition:
            scene.got.append(scene.condition.wait_until(lambda: bool(scene.flag), None))

    def notify(scene: Scene) -> None:
        with scene.condition:
            scene.flag.append(1)
            scene.condition.notify_all()

    explore(Scene, wait, wait, notify, invariant=lambda scene: scene.got == [True, True])
