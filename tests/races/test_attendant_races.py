"""``Attendant``: who hands a call over, who waits for one, and who ends that."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from threadkit import SystemClock
from threadkit._attendant import Attendant, Errand

pytestmark = pytest.mark.races

Explore = Callable[..., None]


class Alone(SystemClock):
    """A clock that gives no threads: a scenario has none but its workers."""

    def spawn(self, target: Callable[[], None], name: str) -> None:  # type: ignore[override]
        raise RuntimeError("there are no threads but the workers")


class Scene:
    """An attendant whose thread comes from its first call while another one is given."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.attendant = Attendant(Alone(), "attendant")
        self.first = Errand(self.attendant._condition, lambda: self.calls.append("first"))
        self.attendant._open[self.first] = None

    def serve(self) -> None:
        self.attendant._serve(self.first)

    def give_and_dismiss(self) -> None:
        self.second = self.attendant.do(lambda: self.calls.append("second"))
        self.attendant.dismiss()

    def dismiss(self) -> None:
        self.attendant.dismiss()

    def wait(self) -> None:
        assert self.attendant.wait(None)

    def is_sound(self) -> bool:
        """Tell whether all calls are over, made once, and refused only where the first one was still going on."""
        expected = ["first"]
        if hasattr(self, "second"):
            if not self.second.is_over():
                return False
            expected += ["second"] if self.second._error is None else []
        return self.calls == expected and self.first.is_over() and not self.attendant._open


def test_a_call_against_the_end_of_the_one_before(explore: Explore) -> None:
    """A call that is given just when the thread is done with another, and a dismissal after it, lose nothing."""
    explore(Scene, Scene.serve, Scene.give_and_dismiss, invariant=Scene.is_sound)


def test_waiting_against_the_end_of_a_call(explore: Explore) -> None:
    """Who waits for the end of all calls sees it; a thread that was dismissed meanwhile ends."""
    explore(Scene, Scene.serve, Scene.wait, Scene.dismiss, invariant=Scene.is_sound)
