"""``Resources``: what is closed when all that use it have ended."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NoReturn

import pytest
from helpers import Parked

from threadkit import StopToken
from threadkit._resources import Resources
from threadkit.testing import VirtualClock


@contextlib.contextmanager
def thing(name: str, log: list[str]) -> Iterator[str]:
    log.append(f"open {name}")
    yield name
    log.append(f"close {name}")


def test_last_in_first_out() -> None:
    """What was entered or pushed last is closed first."""
    log: list[str] = []
    resources = Resources()
    assert resources.enter(thing("a", log)) == "a"
    resources.call(log.append, "called")
    resources.enter(thing("b", log))
    assert resources.close(leave_open=False) == ([], [])
    assert log == ["open a", "open b", "close b", "called", "close a"]
    assert resources.close(leave_open=False) == ([], [])


def test_all_are_closed_whatever_one_raises(caplog: pytest.LogCaptureFixture) -> None:
    """An error while one closes is returned and logged, and the others close all the same."""
    log: list[str] = []
    resources = Resources()
    resources.enter(thing("a", log))
    resources.call(int, "x")
    resources.call(int, "y")
    left, errors = resources.close(leave_open=False)
    assert left == []
    assert [str(error) for error in errors] == [f"invalid literal for int() with base 10: '{c}'" for c in "yx"]
    assert log == ["open a", "close a"]
    assert "resource int('x') failed to close" in caplog.text
    assert "resource int('y') failed to close" in caplog.text


def test_leaving_open_tells_the_names() -> None:
    """Left open, nothing is closed, and the names are told in the order of closing."""
    log: list[str] = []
    resources = Resources()
    resources.enter(thing("a", log))
    resources.call(log.append, "called")
    assert resources.close(leave_open=True) == (["append('called')", "thing()"], [])
    assert log == ["open a"]


class Plain(contextlib.nullcontext[None]):
    """A context manager that says nothing of itself."""


class Named(Plain):
    """One that does."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def __repr__(self) -> str:
        if not self.text:
            raise ValueError("no name")
        return self.text


def test_what_is_left_open_has_a_name_that_tells_something() -> None:
    """A resource goes by its own words, shortened if they are many, or by its class; a callback shows its arguments."""
    resources = Resources()
    resources.call(print, "bye", end="!")
    resources.enter(Plain())
    resources.enter(Named("<Database 'shop'>"))
    resources.enter(Named("x" * 1000))
    resources.enter(Named(""))
    broken, long, named, plain, call = resources.close(leave_open=True)[0]
    assert (call, plain, named) == ("print('bye', end='!')", "Plain", "<Database 'shop'>")
    assert len(long) == 100
    assert "Named" in broken


def test_a_child_keeps_the_callbacks_alone() -> None:
    """What a forked child goes on with are the callbacks; what was entered is the parent's, who loses nothing."""
    log: list[str] = []
    resources = Resources()
    resources.enter(thing("a", log))
    resources.call(log.append, "called")
    assert resources.of_child().close(leave_open=False) == ([], [])
    assert log == ["open a", "called"]
    assert resources.close(leave_open=False) == ([], [])
    assert log == ["open a", "called", "called", "close a"]


def test_what_cannot_be_entered_or_called_is_not_kept() -> None:
    """An __enter__ that raises, and a callback that cannot be called, leave nothing behind."""
    resources = Resources()
    with pytest.raises(ZeroDivisionError):
        resources.enter(contextlib.contextmanager(lambda: iter([1 / 0]))())
    with pytest.raises(TypeError, match="func must be callable, not 3"):
        resources.call(3)
    assert resources.close(leave_open=False) == ([], [])


def test_an_interrupt_loses_no_more_than_the_one_it_struck() -> None:
    """Ctrl-C while one closes gets out, and the others are closed by the next call."""
    log: list[str] = []

    def struck() -> None:
        log.append("struck")
        raise KeyboardInterrupt

    resources = Resources()
    resources.call(log.append, "below")
    resources.call(struck)
    with pytest.raises(KeyboardInterrupt):
        resources.close(leave_open=False)
    assert resources.close(leave_open=False) == ([], [])
    assert log == ["struck", "below"]


def test_what_is_late_to_close_is_logged_with_its_place(caplog: pytest.LogCaptureFixture) -> None:
    """A resource that has not closed at the deadline is named in the log, with the stack of who closes it."""
    clock = VirtualClock()
    end = StopToken(clock=clock)
    resources = Resources()

    def take_for_ever() -> None:
        end.wait()

    resources.call(take_for_ever)

    def close() -> list[BaseException]:
        with resources.watched(clock, 10.0):
            return resources.close(leave_open=False)[1]

    closing = Parked(clock, close)
    clock.advance(9.9)
    assert caplog.text == ""
    clock.advance(0.1)
    assert "resource take_for_ever() is late to close, and the end waits for it" in caplog.text
    assert "in take_for_ever" in caplog.text
    end.set()
    assert closing.result() == []
    assert len(caplog.records) == 1


def test_what_closes_in_time_is_not_watched_for_longer(caplog: pytest.LogCaptureFixture) -> None:
    """Once all are closed nobody watches, and where there is nothing to close nobody does at all."""
    clock = VirtualClock()
    resources = Resources()
    for _ in range(2):
        with resources.watched(clock, 0.0):
            resources.close(leave_open=False)
        clock.advance(10)
        resources.call(int)
    assert caplog.text == ""


def test_what_is_left_open_is_not_late(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is logged where nothing is closing when the deadline comes."""
    clock = VirtualClock()
    resources = Resources()
    resources.call(int)
    with resources.watched(clock, 0.0):
        clock.advance(10)
    assert caplog.text == ""


def test_without_a_thread_nobody_watches() -> None:
    """Where no thread is to be had, as at interpreter exit, resources are closed all the same."""

    class Poor(VirtualClock):
        def spawn(self, target: object, name: str) -> NoReturn:
            raise RuntimeError("can't start new thread")

    log: list[str] = []
    resources = Resources()
    resources.call(log.append, "closed")
    with resources.watched(Poor(), 0.0):
        resources.close(leave_open=False)
    assert log == ["closed"]
