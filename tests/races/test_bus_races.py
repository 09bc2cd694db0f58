"""The bus among several threads, in every order that chance finds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from helpers import Manual

from threadkit import Bus, Closed, Message
from threadkit._postoffice import Errand

pytestmark = pytest.mark.races

Explore = Callable[..., None]


class Scene:
    """A bus with one subscriber, and what that has seen."""

    def __init__(self, executor: Manual | None = None, **options: Any) -> None:
        self.executor = executor
        self.bus = Bus(executor=executor, **options)
        self.seen: list[object] = []
        self.reached: list[int] = []
        self.subscription = self.bus.subscribe("a", self.handle)
        self.errand: Errand

    def handle(self, message: Message) -> None:
        self.seen.append(message.payload)

    def publish(self, payload: object) -> None:
        try:
            self.reached.append(self.bus.publish("a", payload).reached)
        except Closed:
            self.reached.append(0)


def test_subscribe_against_publish(explore: Explore) -> None:
    """Whoever has subscribed hears the next message, whatever a publish was doing meanwhile."""

    def setup() -> Scene:
        scene = Scene()
        scene.bus._subscriptions.discard(scene.subscription)
        return scene

    def subscribe(scene: Scene) -> None:
        scene.bus._subscriptions.listening_to("b")  # as long as what the other one does before it matters
        scene.bus._subscriptions.add(scene.subscription)

    explore(
        setup,
        subscribe,
        lambda scene: scene.bus._subscriptions.listening_to("a"),
        invariant=lambda scene: scene.bus.publish("a").reached == 1,
    )


def test_remove_against_publish(explore: Explore) -> None:
    """Whoever has been removed hears nothing more, whatever a publish was doing meanwhile."""
    explore(
        Scene,
        lambda scene: scene.subscription.remove(),
        lambda scene: scene.bus.publish("a"),
        invariant=lambda scene: scene.bus.publish("a").reached == 0 and len(scene.seen) <= 1,
    )


def test_once_against_two_publishes(explore: Explore) -> None:
    """Of two messages at once a subscriber with ``once`` gets one."""

    def setup() -> Scene:
        scene = Scene()
        scene.bus.subscribe("b", scene.handle, once=True)
        return scene

    explore(
        setup,
        lambda scene: scene.bus.publish("b", 1),
        lambda scene: scene.bus.publish("b", 2),
        invariant=lambda scene: len(scene.seen) == 1,
    )


def test_no_letter_is_left_behind(explore: Explore) -> None:
    """A message that is posted while another one is delivered is delivered too, once."""

    def setup() -> Scene:
        scene = Scene(Manual())
        scene.publish(1)
        return scene

    def is_complete(scene: Scene) -> bool:
        assert scene.executor is not None
        scene.executor.run()
        return scene.seen == [1, 2] and scene.bus.work_left() == 0

    explore(setup, lambda scene: scene.publish(2), lambda scene: scene.executor.run(), invariant=is_complete)


@pytest.mark.parametrize("policy", ["reject", "drop_oldest"])
def test_bound_of_a_mailbox(explore: Explore, policy: str) -> None:
    """Of two messages for one place exactly one waits in the end, and exactly one is counted as dropped."""

    def is_bounded(scene: Scene) -> bool:
        return scene.bus.work_left() == 1 and scene.bus.stats().dropped == 1

    explore(
        lambda: Scene(Manual(), maxsize=1, on_full=policy),
        lambda scene: scene.publish(1),
        lambda scene: scene.publish(2),
        invariant=is_bounded,
    )


def test_place_in_a_mailbox_comes_back(explore: Explore) -> None:
    """A place is free again after a delivery, whoever was refused meanwhile."""

    def setup() -> Scene:
        scene = Scene(Manual(), maxsize=1, on_full="reject")
        scene.publish(1)
        return scene

    def is_free(scene: Scene) -> bool:
        assert scene.executor is not None
        scene.executor.run()
        scene.publish(3)
        return scene.reached[-1] == 1 and scene.bus.work_left() == 1

    explore(setup, lambda scene: scene.publish(2), lambda scene: scene.executor.run(), invariant=is_free)


def test_turn_that_is_run_and_rescued(explore: Explore) -> None:
    """A turn whose future ends while it begins is either delivered or dropped, and the mailbox works afterwards."""

    def setup() -> Scene:
        scene = Scene(Manual())
        scene.publish(1)
        return scene

    def rescue(scene: Scene) -> None:
        assert scene.executor is not None
        future, _ = scene.executor.calls[0]
        future.cancel()

    def run(scene: Scene) -> None:
        assert scene.executor is not None
        _, call = scene.executor.calls[0]
        call()  # an executor that does not heed the cancellation

    def is_settled(scene: Scene) -> bool:
        assert scene.executor is not None
        scene.executor.calls.clear()
        dropped = scene.bus.stats().dropped
        scene.publish(2)
        scene.executor.run()
        return len(scene.seen) + dropped == 2 and scene.seen[-1] == 2 and scene.bus.work_left() == 0

    explore(setup, run, rescue, invariant=is_settled)


def test_refused_turn_against_a_publish(explore: Explore) -> None:
    """Two publishers whom the executor refuses deliver both messages, each once."""

    def setup() -> Scene:
        scene = Scene(Manual())
        assert scene.executor is not None
        scene.executor.refuses = RuntimeError("full")
        return scene

    explore(
        setup,
        lambda scene: scene.publish(1),
        lambda scene: scene.publish(2),
        invariant=lambda scene: sorted(scene.seen) == [1, 2] and scene.bus.work_left() == 0,
    )


def test_removal_against_a_post(explore: Explore) -> None:
    """A message that meets the removal of its subscriber is delivered or passed over, and nothing is left."""

    def is_settled(scene: Scene) -> bool:
        assert scene.executor is not None
        scene.executor.run()
        return len(scene.seen) <= sum(scene.reached) <= 1 and scene.bus.work_left() == 0

    explore(
        lambda: Scene(Manual()),
        lambda scene: scene.publish(1),
        lambda scene: scene.subscription.remove(),
        invariant=is_settled,
    )


def test_removal_wakes_who_waits_for_room(explore: Explore) -> None:
    """Under "block", a publish that meets the removal of its subscriber returns, whatever it was about to do."""

    def setup() -> Scene:
        scene = Scene(Manual(), maxsize=1)
        scene.publish(1)
        return scene

    def is_settled(scene: Scene) -> bool:
        assert scene.executor is not None
        scene.executor.run()
        return len(scene.reached) == 2 and scene.seen == [] and scene.bus.work_left() == 0

    explore(setup, lambda scene: scene.publish(2), lambda scene: scene.subscription.remove(), invariant=is_settled)


def test_room_against_two_who_wait(explore: Explore) -> None:
    """Under "block", a publish that meets the delivery which makes room gets in, and never more than one waits."""

    def setup() -> Scene:
        scene = Scene(Manual(), maxsize=1)
        scene.publish(1)
        return scene

    def is_complete(scene: Scene) -> bool:
        assert scene.executor is not None
        scene.executor.run()
        return scene.seen == [1, 2] and scene.bus.work_left() == 0

    explore(setup, lambda scene: scene.publish(2), lambda scene: scene.executor.run(), invariant=is_complete)


def test_stop_wakes_who_waits_for_room(explore: Explore) -> None:
    """Under "block", a publish that meets the stop returns; what waited is delivered, and join() returns."""

    def setup() -> Scene:
        scene = Scene(Manual(), maxsize=1)
        scene.publish(1)
        return scene

    def stop(scene: Scene) -> None:
        scene.bus.stop()
        scene.bus._stop_came()  # as the stopper thread does

    def is_settled(scene: Scene) -> bool:
        assert scene.executor is not None
        scene.executor.run()
        return scene.reached == [1, 0] and scene.seen == [1] and scene.bus.join(0)

    explore(setup, lambda scene: scene.publish(2), stop, invariant=is_settled)


def test_call_against_stop(explore: Explore) -> None:
    """A call that meets the stop is refused, or waited for by join(); it never runs after the end."""

    class Quick(Manual):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            future = super().submit(fn, *args, **kwargs)
            self.run()
            return future

    def setup() -> Scene:
        scene = Scene(Quick())
        scene.bus.action("status")(lambda: scene.seen.append(scene.bus.state))
        return scene

    def call(scene: Scene) -> None:
        with contextlib.suppress(Closed):
            scene.bus.call("status")

    def stop(scene: Scene) -> None:
        scene.bus.stop()
        scene.bus._stop_came()

    def is_over(scene: Scene) -> bool:
        return len(scene.seen) <= 1 and scene.bus.work_left() == 0 and scene.bus.join(0)

    explore(setup, call, stop, invariant=is_over)


def test_call_that_ends_as_it_is_given_up(explore: Explore) -> None:
    """Of a call that is given up as it begins, the handler runs at most once, and nothing is left outstanding."""

    def setup() -> Scene:
        scene = Scene(Manual())
        office = scene.bus._post
        assert office is not None
        scene.bus.action("status")(lambda: scene.seen.append(1))
        action, request, _ = scene.bus._open("status", None, None)
        scene.errand = Errand(office, action, request)
        office._enter(scene.errand)
        return scene

    explore(
        setup,
        lambda scene: scene.errand(),
        lambda scene: scene.errand.give_up(),
        invariant=lambda scene: len(scene.seen) <= 1 and scene.bus.work_left() == 0,
    )


def test_publish_against_stop(explore: Explore) -> None:
    """A message that meets the stop is either refused, or waited for by join()."""

    def is_settled(scene: Scene) -> bool:
        assert scene.executor is not None
        was_taken = scene.reached == [1]
        if scene.bus.join(0) is was_taken:
            return False
        scene.executor.run()
        return scene.bus.join(0) and scene.seen == [1] * was_taken

    def stop(scene: Scene) -> None:
        scene.bus.stop()
        scene.bus._stop_came()  # as the stopper thread does

    explore(lambda: Scene(Manual()), lambda scene: scene.publish(1), stop, invariant=is_settled)
