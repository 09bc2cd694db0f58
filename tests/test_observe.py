"""Who is told of what happens, and how often it has happened."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from helpers import Background

from threadkit._observe import Counters, Observers
from threadkit._tally import Tally
from threadkit.events import Event, Failed, Started, Stopped


@pytest.fixture
def observers() -> Observers:
    return Observers()


def test_observers_are_told_in_order(observers: Observers) -> None:
    """Each observer is called with each event, in the order of their coming."""
    seen: list[tuple[str, Event]] = []
    observers.add(lambda event: seen.append(("first", event)))
    observers.add(lambda event: seen.append(("second", event)))
    event = Started(component="feed")
    observers.emit(event)
    assert seen == [("first", event), ("second", event)]


def test_heard_is_what_an_observer_or_the_log_takes(observers: Observers, caplog: pytest.LogCaptureFixture) -> None:
    """Everyday events are heard while somebody observes, or the log takes what is of level DEBUG."""
    caplog.set_level(logging.INFO, "threadkit")
    assert not observers.is_heard()
    with observers.add(print):
        assert observers.is_heard()
    assert not observers.is_heard()
    caplog.set_level(logging.DEBUG, "threadkit")
    assert observers.is_heard()


def test_a_part_is_heard_where_its_whole_is(observers: Observers, caplog: pytest.LogCaptureFixture) -> None:
    """A part of a whole that nobody observes need make no events; observers of the whole hear those of the part."""
    caplog.set_level(logging.INFO, "threadkit")
    part = Observers()
    part.join(observers)
    assert not part.is_heard()
    seen: list[Event] = []
    event = Started(component="part")
    with observers.add(seen.append):
        assert part.is_heard()
        part.emit(event)
        part.emit(event)
    assert not part.is_heard()
    assert seen == [event, event]


def test_removed_observer_is_not_told(observers: Observers) -> None:
    """A handle takes its own observation back, once, even if the same function observes twice."""
    seen: list[Event] = []
    first, second = observers.add(seen.append), observers.add(seen.append)
    assert first.remove() is True
    assert first.remove() is False
    observers.emit(Started(component="feed"))
    assert len(seen) == 1
    assert second.remove() is True


def test_observers_that_equal_everything(observers: Observers) -> None:
    """An observer whose class has an odd idea of equality is not taken for another one."""

    class Odd:
        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 0

        def __call__(self, event: Event) -> None:
            called.append(self)

    called: list[Odd] = []
    one, two = Odd(), Odd()
    observers.add(one)
    observers.add(two).remove()
    observers.emit(Started(component="feed"))
    assert called[0] is one
    assert len(called) == 1


def test_observers_may_come_and_go_meanwhile(observers: Observers) -> None:
    """An observer may add and remove others; those of this event are told all the same."""
    seen: list[str] = []

    def first(event: Event) -> None:
        seen.append("first")
        second.remove()
        observers.add(lambda event: seen.append("third"))

    handle = observers.add(first)
    second = observers.add(lambda event: seen.append("second"))
    observers.emit(Started(component="feed"))
    assert seen == ["first", "second"]
    handle.remove()
    observers.emit(Started(component="feed"))
    assert seen == ["first", "second", "third"]


def test_what_is_no_function_is_refused(observers: Observers) -> None:
    """What cannot be called is refused, and nobody observes then."""
    with pytest.raises(TypeError, match="callback must be callable"):
        observers.add(None)  # type: ignore[arg-type]  # that is the point
    assert not observers._observations


@pytest.mark.parametrize("error", [LookupError("no"), SystemExit("no")])
def test_failing_observer(observers: Observers, error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """What an observer raises is logged, and does not get out; the next one is told."""
    seen: list[Event] = []

    def fail(event: Event) -> None:
        raise error

    observers.add(fail)
    observers.add(seen.append)
    observers.emit(Started(component="feed"))
    assert len(seen) == 1
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "fail" in record.getMessage()
    assert "'feed' started" in record.getMessage()
    assert record.exc_info
    assert record.exc_info[1] is error


def test_events_are_logged_at_their_level(observers: Observers, caplog: pytest.LogCaptureFixture) -> None:
    """An event is logged at its own level, with its error and its fields; below the logger's level it is not."""
    error = LookupError("no")
    observers.emit(Failed(component="feed", error=error))
    observers.emit(Stopped(component="feed"))  # DEBUG: nobody is interested
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage() == "'feed' failed: LookupError: no"
    assert record.exc_info
    assert record.exc_info[1] is error
    assert record.threadkit["event"] == "Failed"  # type: ignore[attr-defined]  # given as an extra
    caplog.set_level(logging.DEBUG, logger="threadkit")
    observers.emit(Stopped(component="feed", reason="enough"))
    assert caplog.records[-1].getMessage() == "'feed' stopped (enough)"


def test_tell_leaves_the_log_alone(observers: Observers, caplog: pytest.LogCaptureFixture) -> None:
    """tell() calls the observers and writes no log record."""
    seen: list[Event] = []
    observers.add(seen.append)
    observers.tell(Failed(component="feed", error=LookupError()))
    assert len(seen) == 1
    assert caplog.records == []


def test_counters() -> None:
    """Counts go up one by one or by more, and are read alone or all at once."""
    counters = Counters("done", "failed")
    assert counters.add("done") == 1
    assert counters.add("done", 4) == 5
    assert counters.get("done") == 5
    assert counters.snapshot() == {"done": 5, "failed": 0}
    with pytest.raises(KeyError):
        counters.add("unknown")


@pytest.mark.parametrize(
    ("make", "up", "value"),
    [
        (lambda: Counters("n"), lambda counter: counter.add("n"), lambda counter: counter.get("n")),
        (Tally, lambda counter: counter.up(), lambda counter: counter.value()),
    ],
)
def test_counting_in_many_threads(
    make: Callable[[], Any], up: Callable[[Any], object], value: Callable[[Any], int]
) -> None:
    """No count is lost among threads, nor by looking."""
    counter = make()

    def count() -> None:
        for _ in range(2000):
            up(counter)
            value(counter)

    for background in [Background(count) for _ in range(4)]:
        background.result()
    assert value(counter) == value(counter) == 8000
