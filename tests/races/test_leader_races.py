"""Leases that are asked for at once, and components that are added while a leader begins to lead."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from threadkit import Closed, Leader, StopToken, _lease
from threadkit._component import BaseComponent
from threadkit._lease import Lease

pytestmark = pytest.mark.races

Explore = Callable[..., None]


@pytest.fixture(autouse=True)
def _nothing_stays_held() -> Iterator[None]:
    yield
    for lease in list(_lease._held.values()):
        lease.release()


class Rivals:
    """Two leases on one path."""

    def __init__(self, path: Path) -> None:
        for lease in list(_lease._held.values()):  # of the interleaving before
            lease.release()
        self.leases = (Lease(path), Lease(path))
        self.won: list[bool] = []

    def ask(self, number: int) -> None:
        self.won.append(self.leases[number].acquire())


def test_two_ask_at_once(explore: Explore, tmp_path: Path) -> None:
    """Of two leases in one process that are asked for at once one is given."""
    explore(
        lambda: Rivals(tmp_path / "app.lock"),
        lambda rivals: rivals.ask(0),
        lambda rivals: rivals.ask(1),
        invariant=lambda rivals: sorted(rivals.won) == [False, True],
        attempts=100,
    )


def test_release_against_asking(explore: Explore, tmp_path: Path) -> None:
    """Who asks while the lease is given back gets it or does not, and is told which."""

    def setup() -> Rivals:
        rivals = Rivals(tmp_path / "app.lock")
        rivals.leases[0].acquire()
        return rivals

    explore(
        setup,
        lambda rivals: rivals.leases[0].release(),
        lambda rivals: rivals.ask(1),
        invariant=lambda rivals: (
            [lease.is_held() for lease in rivals.leases] == [False, *rivals.won]
            and len(_lease._held) == sum(rivals.won)
        ),
        attempts=100,
    )


DELAYS = itertools.cycle(range(0, 100, 5))


class Reign:
    """A leader without a thread, which leads until it looks after its lease for the first time, and is then stopped."""

    def __init__(self, path: Path) -> None:
        self.leader = Leader(path)
        self.leader._lease = self  # type: ignore[assignment]  # as much of one as is needed
        self.leader._token = Impatient()
        self.calls: list[str] = []
        self.delay = next(DELAYS)

    def lead(self) -> None:
        for _ in range(self.delay):  # add() takes longer to come to the point than leading does
            pass
        self.leader._lead()
        self.leader._step_down()

    def release(self) -> None:
        self.calls.append("release")

    def add(self) -> None:
        try:
            self.leader.add(Part(self.calls))
        except Closed:
            self.calls.append("refused")


class Impatient(StopToken):
    """A token for whose stop nobody has to wait."""

    def wait(self, timeout: float | timedelta | None = None) -> bool:
        return True


class Part(BaseComponent):
    """One that a leader starts in its own thread, not in one that frontrun does not see."""

    def __init__(self, calls: list[str]) -> None:
        super().__init__("part", None)
        self.calls = calls

    def start(self) -> None:
        self.calls.append("start")

    def stop(self, reason: str | None = None) -> None:
        self.calls.append("stop")

    def _launch(self) -> None: ...


def test_adding_against_leading(explore: Explore, tmp_path: Path) -> None:
    """What is added while a leader begins and ends is started once and stopped before the release, or it is refused."""
    wanted: Any = (["start", "stop", "release"], ["refused", "release"], ["release", "refused"])
    explore(
        lambda: Reign(tmp_path / "app.lock"),
        lambda reign: reign.lead(),
        lambda reign: reign.add(),
        invariant=lambda reign: reign.calls in wanted,
    )
