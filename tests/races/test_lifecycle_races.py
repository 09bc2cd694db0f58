"""A lifecycle among several threads: stop, start, add, remove and quiet, in every order that chance finds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from threadkit import Closed, Lifecycle, Phase, SystemClock, UnknownComponent, _lifecycle, _stop
from threadkit.health import Status

pytestmark = pytest.mark.races

Explore = Callable[..., None]

FEW = 40
"""Interleavings to try: each of them is a whole life, of several thousand steps."""


class Inline(SystemClock):
    """A clock that runs what should have a thread of its own at once: a scenario has no threads but its workers.

    The thread of an attendant would stay, so that is refused, and the attendant makes its calls where it is asked to.
    """

    def spawn(self, target: Callable[[], None], name: str) -> None:  # type: ignore[override]  # nobody needs it
        if name.startswith("threadkit-calls"):
            raise RuntimeError("there are no threads but the workers")
        target()


class Part:
    """A component that writes down what happens to it."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    def start(self) -> None:
        self.log.append(f"start {self.name}")

    def stop(self, reason: str | None = None) -> None:
        self.log.append(f"stop {self.name}")

    def join(self, timeout: float | None = None) -> bool:
        return True

    def close(self) -> None:
        self.log.append(f"close {self.name}")


class Scene:
    """A lifecycle with an intake and a worker, started or not."""

    def __init__(self, *, started: bool = True) -> None:
        self.log: list[str] = []
        self.refused: list[str] = []
        self.lc = Lifecycle(clock=Inline(), check_every=0)
        self.lc.add(Part("intake", self.log), phase=Phase.INTAKE)
        self.lc.add(Part("work", self.log), phase=Phase.WORK)
        if started:
            self.lc.start()

    def start(self) -> None:
        try:
            self.lc.start()
        except Closed:
            self.refused.append("start")

    def stop(self) -> None:
        self.lc.stop("enough")

    def shutdown(self) -> None:
        assert self.lc.shutdown().ok

    def quiet(self) -> None:
        assert self.lc.quiet()

    def add(self) -> None:
        try:
            self.lc.add(Part("late", self.log), phase=Phase.INTAKE)
        except Closed:
            self.refused.append("add")

    def add_user(self) -> None:
        try:
            self.lc.add(Part("late", self.log), phase=Phase.INTAKE, requires=["intake"])
        except (UnknownComponent, ValueError):
            self.refused.append("add")

    def remove_required(self) -> None:
        try:
            assert self.lc.remove("intake")
        except ValueError:
            self.refused.append("remove")

    def remove(self) -> None:
        try:
            assert self.lc.remove("intake")
        except UnknownComponent:
            self.refused.append("remove")

    def is_sound(self) -> bool:
        """Tell whether, after a last shutdown, all that was started was stopped and closed, each once, in order."""
        self.lc.shutdown()
        for name in ("intake", "work", "late"):
            steps = [line for line in self.log if line.endswith(name)]
            if steps not in ([], [f"start {name}", f"stop {name}", f"close {name}"]):
                return False
        stops = [line for line in self.log if line.startswith("stop")]
        return "stop intake" not in stops or stops.index("stop intake") < (
            stops.index("stop work") if "stop work" in stops else len(stops)
        )


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (_lifecycle, _stop):
        monkeypatch.setattr(module, "ensure_stopper", lambda: None)


def test_shutdown_against_shutdown(explore: Explore) -> None:
    """Two shutdowns at once stop everything once, and return the same report."""
    explore(
        Scene,
        Scene.shutdown,
        Scene.shutdown,
        invariant=lambda scene: scene.is_sound() and len(scene.lc.report.components) == 2,
        attempts=FEW,
        ops=4000,
    )


def test_start_against_stop(explore: Explore) -> None:
    """A stop that meets a start keeps it from starting, or from starting more; what was started is stopped."""
    explore(lambda: Scene(started=False), Scene.start, Scene.stop, invariant=Scene.is_sound, attempts=FEW)


def test_start_against_shutdown(explore: Explore) -> None:
    """A shutdown that meets a start waits for it, or has it refused; nothing is left running."""
    explore(lambda: Scene(started=False), Scene.start, Scene.shutdown, invariant=Scene.is_sound, attempts=FEW)


def test_start_against_start(explore: Explore) -> None:
    """Two starts at once start everything once."""
    explore(
        lambda: Scene(started=False),
        Scene.start,
        Scene.start,
        invariant=lambda scene: scene.log == ["start work", "start intake"] and not scene.refused,
        attempts=FEW,
    )


def test_add_against_shutdown(explore: Explore) -> None:
    """What is added while a shutdown begins is refused, or started and stopped; it is never left running."""
    explore(
        Scene,
        Scene.add,
        Scene.shutdown,
        invariant=lambda scene: scene.is_sound() and ("add" in scene.refused) != ("start late" in scene.log),
        attempts=FEW,
    )


def test_add_against_start(explore: Explore) -> None:
    """What is added while the others start is started once, by whichever of the two."""
    explore(
        lambda: Scene(started=False),
        Scene.add,
        Scene.start,
        invariant=lambda scene: scene.log.count("start late") == 1 and scene.is_sound(),
        attempts=FEW,
    )


def test_add_against_the_removal_of_what_it_requires(explore: Explore) -> None:
    """Of two who add a component and remove what it requires, one is refused."""
    explore(
        Scene,
        Scene.add_user,
        Scene.remove_required,
        invariant=lambda scene: len(scene.refused) == 1 and scene.is_sound(),
        attempts=FEW,
    )


def test_remove_against_start(explore: Explore) -> None:
    """What is removed while the others start is never started, or is stopped; it is never left running."""
    explore(lambda: Scene(started=False), Scene.remove, Scene.start, invariant=Scene.is_sound, attempts=FEW)


def test_remove_against_shutdown(explore: Explore) -> None:
    """What is removed while a shutdown goes on is stopped and closed once, by whichever of the two."""
    explore(Scene, Scene.remove, Scene.shutdown, invariant=Scene.is_sound, attempts=FEW)


def test_remove_against_remove(explore: Explore) -> None:
    """Two who remove the same component stop and close it once."""
    explore(
        Scene,
        Scene.remove,
        Scene.remove,
        invariant=lambda scene: scene.is_sound() and "intake" not in scene.lc,
        attempts=FEW,
    )


def test_quiet_against_shutdown(explore: Explore) -> None:
    """Whichever comes first, the intake is stopped and closed once, before the rest."""
    explore(Scene, Scene.quiet, Scene.shutdown, invariant=Scene.is_sound, attempts=FEW)


def test_quiet_against_start(explore: Explore) -> None:
    """A quiet() that meets a start finds nothing to stop yet, or waits and stops the intake; the rest runs."""
    explore(
        lambda: Scene(started=False),
        Scene.quiet,
        Scene.start,
        invariant=lambda scene: (
            "stop work" not in scene.log
            and scene.lc.health().is_ready == ("stop intake" not in scene.log)
            and scene.is_sound()
        ),
        attempts=FEW,
    )


def test_quiet_against_add(explore: Explore) -> None:
    """An intake that comes meanwhile is stopped at most once, and by the end for certain."""
    explore(Scene, Scene.quiet, Scene.add, invariant=Scene.is_sound, attempts=FEW)


def test_quiet_against_remove(explore: Explore) -> None:
    """An intake that goes meanwhile is stopped and closed once, by whichever of the two."""
    explore(Scene, Scene.quiet, Scene.remove, invariant=Scene.is_sound, attempts=FEW)


class Asked(Scene):
    """A lifecycle whose worker has a check, which counts how many of its calls go on at once."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = 0
        self.most = 0
        self.answers: list[Status] = []
        self.lc.add(Part("checked", self.log), phase=Phase.WORK, check=self.check)

    def check(self) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.inside -= 1

    def ask(self) -> None:
        self.answers.append(self.lc.health().parts["checked"].status)


def test_a_check_is_never_called_twice_at_once(explore: Explore) -> None:
    """However many ask, one call of a check goes on at a time, and all have its answer."""
    explore(
        Asked,
        Asked.ask,
        Asked.ask,
        invariant=lambda scene: scene.most == 1 and scene.answers == [Status.READY] * 2,
        attempts=FEW,
    )
