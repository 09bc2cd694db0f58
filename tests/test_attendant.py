"""``Attendant``: calls that may hang, in a thread that is not the caller's."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from helpers import PATIENCE, Background, Blocker

from threadkit import SystemClock
from threadkit._attendant import Attendant

CLOCK = SystemClock()


class Poor(SystemClock):
    """A clock that gives so many threads and no more; an error of another kind can be set."""

    left = 0
    error: type[BaseException] = RuntimeError

    def spawn(self, target: Callable[[], None], name: str) -> threading.Thread:
        if not self.left:
            raise self.error("can't start new thread")
        self.left -= 1
        return super().spawn(target, name)


def deadline() -> float:
    return CLOCK.monotonic() + PATIENCE


@pytest.fixture
def attendant() -> Iterator[Attendant]:
    attendant = Attendant(CLOCK, "attendant")
    yield attendant
    attendant.dismiss()


def thread_of(attendant: Attendant) -> threading.Thread:
    errand = attendant.do(threading.current_thread)
    assert errand.wait(deadline())
    return errand.result()


def test_one_thread_makes_all_calls(attendant: Attendant) -> None:
    """All calls are made by one thread, which is not the caller's, and has a name."""
    threads = {thread_of(attendant) for _ in range(100)}
    assert [thread.name for thread in threads] == ["attendant"]
    assert threading.current_thread() not in threads
    assert attendant.threads() == []


def test_what_a_call_raises_is_its_outcome(attendant: Attendant) -> None:
    """Whatever a call raises comes out of result(), and the next call is made as ever."""
    errand = attendant.do(lambda: {}[0])
    assert errand.wait(deadline())
    with pytest.raises(KeyError):
        errand.result()
    errand = attendant.do(sys.exit)
    assert errand.wait(deadline())
    with pytest.raises(SystemExit):
        errand.result()
    assert thread_of(attendant).name == "attendant"


def test_where_one_call_hangs_another_thread_takes_over(attendant: Attendant) -> None:
    """A call that hangs holds up nobody but who waits for it; there is one idle thread, however many have hung."""
    hanging = Blocker()
    stuck = attendant.do(hanging)
    hanging.wait_until_called()
    assert not stuck.wait(CLOCK.monotonic())
    assert not attendant.wait(CLOCK.monotonic())
    (first,) = attendant.threads()
    second = thread_of(attendant)
    assert second is not first
    assert thread_of(attendant) is second
    hanging.let_go()
    assert attendant.wait(deadline())
    assert stuck.is_over()
    assert stuck.result() == "let go"
    first.join(PATIENCE)
    assert not first.is_alive()
    assert thread_of(attendant) is second


def test_once_dismissed_its_thread_ends(attendant: Attendant) -> None:
    """A thread that is dismissed ends, at once or after its call; a later call gets a thread that ends with it."""
    idle = thread_of(attendant)
    attendant.dismiss()
    idle.join(PATIENCE)
    assert not idle.is_alive()
    late = thread_of(attendant)
    late.join(PATIENCE)
    assert not late.is_alive()


def test_a_call_that_was_handed_over_is_made_before_the_thread_ends() -> None:
    """A dismissal does not lose the call that was handed to the idle thread just before."""
    attendant = Attendant(CLOCK, "attendant")
    idle = thread_of(attendant)
    with attendant._condition:  # the idle thread cannot look before both are there
        errand = attendant.do(threading.current_thread)
        attendant.dismiss()
    assert errand.wait(deadline())
    assert errand.result() is idle


def test_two_calls_for_one_idle_thread() -> None:
    """Where the idle thread has got its call and has not taken it yet, the next call gets a thread of its own."""
    attendant = Attendant(CLOCK, "attendant")
    thread_of(attendant)
    with attendant._condition:
        errands = [attendant.do(threading.current_thread) for _ in range(2)]
    for errand in errands:
        assert errand.wait(deadline())
    assert len({errand.result() for errand in errands}) == 2
    attendant.dismiss()


def test_without_a_thread_the_caller_makes_the_call() -> None:
    """Where no thread is to be had, as at interpreter exit, the call is made right away, by the caller's."""
    attendant = Attendant(Poor(), "attendant")
    errand = attendant.do(threading.current_thread)
    assert errand.is_over()
    assert errand.result() is threading.current_thread()
    assert attendant.wait(CLOCK.monotonic())


def test_without_a_thread_nothing_is_called_while_something_hangs() -> None:
    """What hangs in one call may hang in the next, so that is not made by the caller: its outcome is the refusal."""
    clock, hanging = Poor(), Blocker()
    clock.left = 1
    attendant = Attendant(clock, "attendant")
    attendant.do(hanging)
    hanging.wait_until_called()
    errand = attendant.do(threading.current_thread)
    assert errand.is_over()
    with pytest.raises(RuntimeError, match="can't start new thread"):
        errand.result()
    hanging.let_go()
    attendant.dismiss()
    assert attendant.wait(deadline())


def test_an_interrupt_leaves_nothing_to_wait_for() -> None:
    """Where Ctrl-C strikes while a call is handed over that is forgotten, and nobody waits for it later."""
    clock = Poor()
    clock.error = KeyboardInterrupt
    attendant = Attendant(clock, "attendant")
    with pytest.raises(KeyboardInterrupt):
        attendant.do(threading.current_thread)
    assert attendant.wait(CLOCK.monotonic())


def test_an_interrupt_takes_back_what_was_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that was laid down for the idle thread when Ctrl-C struck is taken back."""
    attendant = Attendant(CLOCK, "attendant")
    thread_of(attendant)
    called: list[int] = []

    def strike(self: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(attendant._condition), "notify_all", strike)
        with pytest.raises(KeyboardInterrupt):
            attendant.do(lambda: called.append(1))
    assert thread_of(attendant).name == "attendant"
    assert attendant.wait(deadline())
    assert called == []
    attendant.dismiss()


def test_several_ask_at_once(attendant: Attendant) -> None:
    """Calls may come from any number of threads; each has its own outcome."""
    askers = [Background(lambda n=n: attendant.do(lambda: n)) for n in range(20)]
    for number, asker in enumerate(askers):
        errand = asker.result()
        assert errand.wait(deadline())
        assert errand.result() == number
