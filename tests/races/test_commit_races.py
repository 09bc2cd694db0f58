"""Callers of a group commit, in every order that chance finds: each piece is written once, and nobody is forgotten."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from threadkit._commit import GroupCommit

pytestmark = pytest.mark.races

Explore = Callable[..., None]


class Scene:
    """A book to write in, and what its writers were told."""

    def __init__(self) -> None:
        self.committed: list[list[str]] = []
        self.told: list[str] = []
        self.leaders = 0
        self.overlapped = False
        self.commits: GroupCommit[list[str]] = GroupCommit(self.write)

    def write(self, take, pieces) -> None:
        self.overlapped |= self.leaders > 0
        self.leaders += 1
        lines: list[str] = []
        while (piece := take()) is not None:
            pieces.append(piece)
            piece.value = piece.work(lines)
        self.committed.append(lines)
        for piece in pieces:
            piece.is_done = True
        self.leaders -= 1

    def run(self, text: str) -> None:
        def work(lines: list[str]) -> str:
            lines.append(text)
            return text

        self.told.append(self.commits.run(work))

    def post(self) -> None:
        self.commits.post(lambda lines: lines.append("posted"))

    def holds(self, *texts: str) -> bool:
        written = sorted(text for lines in self.committed for text in lines)
        return (
            not self.overlapped
            and written == sorted(texts)
            and sorted(self.told) == sorted(set(texts) - {"posted"})
            and self.commits._leader is None
        )


def test_three_callers_at_once(explore: Explore) -> None:
    """Of three who call at once each is told of its own piece, which is written once, by one leader at a time."""
    explore(
        Scene,
        lambda scene: scene.run("a"),
        lambda scene: scene.run("b"),
        lambda scene: scene.run("c"),
        invariant=lambda scene: scene.holds("a", "b", "c"),
    )


def test_one_posts_while_others_call(explore: Explore) -> None:
    """What is posted while others write is written by them, or waits for the next."""

    def hold(scene: Scene) -> bool:
        if scene.commits.is_anything_posted():
            scene.run("last")
            return scene.holds("a", "b", "posted", "last")
        return scene.holds("a", "b", "posted")

    explore(
        Scene,
        Scene.post,
        lambda scene: scene.run("a"),
        lambda scene: scene.run("b"),
        invariant=hold,
    )
