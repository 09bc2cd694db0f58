"""A token that is set while others wait on it, descend from it, and hang hooks on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from threadkit import StopToken, _stop

pytestmark = pytest.mark.races

Explore = Callable[..., None]


class Scene:
    """A token, and what has become of it. Callbacks are run by hand, in place of the stopper thread."""

    def __init__(self) -> None:
        self.token = StopToken("parent")
        self.child = self.token.child("child")
        self.calls: list[int] = []
        self.results: list[Any] = []

    def hang(self, token: StopToken) -> None:
        self.results.append(token.on_stop(lambda: self.calls.append(1)))


@pytest.fixture
def handed_over(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """Collect what set() hands to the stopper thread, which frontrun does not manage."""
    inbox: list[Callable[[], None]] = []
    monkeypatch.setattr(_stop, "run_soon", inbox.append)
    return inbox


def run(inbox: list[Callable[[], None]]) -> None:
    while inbox:
        inbox.pop(0)()


def test_set_against_wait(explore: Explore) -> None:
    """Whoever waits while the token is set is woken."""
    explore(
        Scene,
        lambda scene: scene.results.append(scene.token.wait()),
        lambda scene: scene.token.set(),
        invariant=lambda scene: scene.results == [True] and not scene.token._gates._gates,
    )


def test_set_against_wait_on_a_child(explore: Explore) -> None:
    """Whoever waits on a child while its parent is set is woken."""
    explore(
        Scene,
        lambda scene: scene.results.append(scene.child.wait()),
        lambda scene: scene.token.set(),
        invariant=lambda scene: scene.results == [True] and not scene.child._gates._gates,
    )


def test_set_against_the_birth_of_a_child(explore: Explore) -> None:
    """A child that is born while its parent is set is set too."""
    explore(
        Scene,
        lambda scene: scene.results.append(scene.token.child()),
        lambda scene: scene.token.set("why"),
        invariant=lambda scene: scene.results[0].reason == "why",
    )


def test_two_who_set(explore: Explore) -> None:
    """Of two who set one decides, and a waiter is woken once for both."""
    explore(
        Scene,
        lambda scene: scene.token.set("one"),
        lambda scene: scene.token.set("two"),
        lambda scene: scene.results.append((scene.child.wait(), scene.token.reason)),
        invariant=lambda scene: scene.results == [(True, scene.token.reason)],
        attempts=100,
    )


def test_set_against_on_stop(explore: Explore, handed_over: list[Callable[[], None]]) -> None:
    """A hook that is hung while the token is set is called once, by whomever."""

    def is_called_once(scene: Scene) -> bool:
        run(handed_over)
        return scene.calls == [1] and not scene.token._hooks and not scene.child._hooks

    explore(Scene, lambda scene: scene.hang(scene.child), lambda scene: scene.token.set(), invariant=is_called_once)


def test_set_against_remove(explore: Explore, handed_over: list[Callable[[], None]]) -> None:
    """A hook that is removed while the token is set is either called or removed, and remove() says which."""

    def setup() -> Scene:
        scene = Scene()
        scene.hang(scene.child)
        return scene

    def set_and_run(scene: Scene) -> None:
        scene.token.set()
        run(handed_over)

    def agrees(scene: Scene) -> bool:
        run(handed_over)
        _, removed = scene.results
        return len(scene.calls) == (0 if removed else 1) and not scene.token._hooks and not scene.child._hooks

    explore(setup, lambda scene: scene.results.append(scene.results[0].remove()), set_and_run, invariant=agrees)


def test_call_against_remove(explore: Explore, handed_over: list[Callable[[], None]]) -> None:
    """A hook that is removed in the moment in which it is to be called is either called or removed."""

    def setup() -> Scene:
        scene = Scene()
        scene.hang(scene.child)
        scene.token.set()
        return scene

    def agrees(scene: Scene) -> bool:
        _, removed = scene.results
        return len(scene.calls) == (0 if removed else 1)

    explore(
        setup,
        lambda scene: scene.results.append(scene.results[0].remove()),
        lambda scene: handed_over.pop()(),
        invariant=agrees,
    )


def test_parent_and_child_are_set(explore: Explore, handed_over: list[Callable[[], None]]) -> None:
    """A hook of a child whose parent is set at the same time is called once."""

    def setup() -> Scene:
        scene = Scene()
        scene.hang(scene.child)
        return scene

    def is_called_once(scene: Scene) -> bool:
        run(handed_over)
        return scene.calls == [1]

    explore(
        setup, lambda scene: scene.token.set("parent"), lambda scene: scene.child.set("child"), invariant=is_called_once
    )
