"""A group, its children and those who stop, add and remove, in every order that chance finds.

The threads that the group would start are workers of the exploration: the clock writes down what they should run.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

import pytest

from threadkit import Closed, ManagedThread, StopToken, SystemClock, ThreadGroup, backoff
from threadkit._component import ComponentState
from threadkit._observe import logger

pytestmark = [pytest.mark.races, pytest.mark.usefixtures("quiet")]

Explore = Callable[..., None]


class Lineup(SystemClock):
    """A clock that stands still, and starts no threads: workers of the exploration are them, each by its name."""

    def __init__(self) -> None:
        self.targets: dict[str, deque[Callable[[], None]]] = {}

    def monotonic(self) -> float:
        return 0.0

    def spawn(self, target: Callable[[], None], name: str) -> threading.Thread:
        self.targets.setdefault(name, deque()).append(target)
        return threading.main_thread()  # it is alive, which is all that anybody asks of it

    def be(self, name: str) -> None:
        """Run what the thread of this name should run, if it has been started."""
        for target in self.targets.pop(name, ()):
            target()


class Scene:
    """A running group of two threads, ``a`` and ``b``; each fails as often as it is told, and then waits."""

    def __init__(self, strategy: str, failures: dict[str, int], **options: object) -> None:
        for level in range(0, 60, 10):
            logger.isEnabledFor(level)  # the first who asks takes a lock that frontrun does not know
        self.clock = Lineup()
        self.failures = failures
        self.calls: dict[str, int] = {}
        self.alive: set[str] = set()
        self.group = ThreadGroup("group", strategy, backoff=backoff.constant(0), clock=self.clock, **options)
        self.a, self.b = (self.group.add(self.thread(name)) for name in "ab")
        self.group.start()

    def thread(self, name: str) -> ManagedThread:
        def body(running: StopToken) -> None:
            self.calls[name] = self.calls.get(name, 0) + 1
            if self.calls[name] <= self.failures.get(name, 0):
                raise OSError(name)
            running.wait()

        return ManagedThread(body, name=name, restart="on_failure")

    def is_down(self) -> bool:
        """Tell whether everything has ended, and everybody knows."""
        parts = [self.group, *self.group]
        return all(part._over and part._state.has_ended for part in parts) and not self.clock.targets


def be(name: str) -> Callable[[Scene], None]:
    return lambda scene: scene.clock.be(name)


def stop(scene: Scene) -> None:
    scene.group.stop("enough")


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all"])
def test_stop_against_restart(explore: Explore, strategy: str) -> None:
    """A stop that meets a failure, the end of the others or their restart ends all of them, whoever is first."""

    def ends_well(scene: Scene) -> bool:
        return (
            scene.is_down()
            and scene.group.state is ComponentState.STOPPED
            and scene.a.failure is None
            and all(1 <= calls <= 2 for calls in scene.calls.values())
        )

    explore(
        lambda: Scene(strategy, {"a": 1}),
        be("a"),
        be("b"),
        be("group"),
        stop,
        invariant=ends_well,
        attempts=25,
        ops=20_000,
    )


def test_two_failures_at_once(explore: Explore) -> None:
    """Two children of one group that fail at once cost one restart or two, and both are called again or stopped."""

    def ends_well(scene: Scene) -> bool:
        return scene.is_down() and scene.group.restarts <= 2 and scene.group.failure is None

    explore(
        lambda: Scene("one_for_all", {"a": 1, "b": 1}),
        be("a"),
        be("b"),
        be("group"),
        stop,
        invariant=ends_well,
        attempts=25,
        ops=20_000,
    )


def test_two_failures_against_the_budget(explore: Explore) -> None:
    """Of two that fail at once one spends the budget, and the group fails once, of one of them, with nobody's help."""

    def fails_well(scene: Scene) -> bool:
        return scene.is_down() and isinstance(scene.group.failure, OSError) and scene.group.restarts == 0

    explore(
        lambda: Scene("one_for_one", {"a": 1, "b": 1}, max_restarts=0),
        be("a"),
        be("b"),
        be("group"),
        invariant=fails_well,
        attempts=25,
        ops=20_000,
    )


def test_remove_against_restart(explore: Explore) -> None:
    """A child that is removed while another's failure ends it, and calls it again, is gone; the other runs on."""

    def remove_and_stop(scene: Scene) -> None:
        assert scene.group.remove("b")
        scene.group.stop()

    def ends_well(scene: Scene) -> bool:
        return scene.is_down() and "b" not in scene.group and scene.b._over and scene.b._state is ComponentState.STOPPED

    explore(
        lambda: Scene("one_for_all", {"a": 1}),
        be("a"),
        be("b"),
        be("group"),
        remove_and_stop,
        invariant=ends_well,
        attempts=25,
        ops=20_000,
    )


def test_add_against_restart(explore: Explore) -> None:
    """A child that is added while others are being restarted is called, with them or before them, and stopped."""

    def add_and_be(scene: Scene) -> None:
        scene.group.add(scene.thread("c"))
        scene.group.stop()
        scene.clock.be("c")

    def ends_well(scene: Scene) -> bool:
        return scene.is_down() and scene.calls["c"] in {1, 2} and scene.group.restarts <= 1

    explore(
        lambda: Scene("one_for_all", {"a": 1}),
        be("a"),
        be("b"),
        be("group"),
        add_and_be,
        invariant=ends_well,
        attempts=25,
        ops=20_000,
    )


def test_add_against_stop(explore: Explore) -> None:
    """A child that is added while its group is stopped is refused, or ends with it."""

    def add_and_be(scene: Scene) -> None:
        try:
            scene.group.add(scene.thread("c"))
        except Closed:
            return
        scene.clock.be("c")

    explore(
        lambda: Scene("one_for_one", {}),
        be("a"),
        be("b"),
        be("group"),
        stop,
        add_and_be,
        invariant=lambda scene: scene.is_down() and scene.group.state is ComponentState.STOPPED,
        attempts=25,
        ops=20_000,
    )


def test_stop_against_restart_of_one_that_stands_alone(explore: Explore) -> None:
    """A thread that stands alone, and is stopped as it fails or is about to be called again, ends once, and well."""

    class Alone:
        def __init__(self) -> None:
            for level in range(0, 60, 10):
                logger.isEnabledFor(level)
            self.clock = Lineup()
            self.calls = 0
            self.thread = ManagedThread(
                self.body,
                name="thread",
                restart="always",
                backoff=backoff.constant(0),
                max_restarts=3,
                clock=self.clock,
            )
            self.thread.start()

        def body(self, running: StopToken) -> None:
            self.calls += 1
            if self.calls == 1:
                raise OSError
            running.wait()

    explore(
        Alone,
        lambda scene: scene.clock.be("thread"),
        lambda scene: scene.thread.stop(),
        invariant=lambda scene: (
            scene.thread._over and scene.thread._state is ComponentState.STOPPED and scene.calls in {1, 2}
        ),
    )
