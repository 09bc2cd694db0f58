"""``Checkup``: questions to user code, on a clock that stands still."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from helpers import Background, Parked

from threadkit import StopToken, SystemClock
from threadkit._checkup import Checkup, Question
from threadkit.events import Event, HealthChanged
from threadkit.health import Health, Status
from threadkit.testing import VirtualClock


class Scene:
    """A checkup with a limit of 1 s whose answers are good for 10 s, on a virtual clock."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.events: list[Event] = []
        self.checkup = Checkup(self.clock, 1.0, 10.0, self.events.append)

    def ask(self, *questions: Question) -> list[str]:
        return [str(answer) for answer in self.checkup.ask(questions).values()]

    def ask_aside(self, *questions: Question) -> Parked[list[str]]:
        return Parked(self.clock, lambda: self.ask(*questions))


class Hanging:
    """A check that answers when it is let go, by way of the clock, so that the clock knows that it waits."""

    def __init__(self, clock: VirtualClock, answer: object = None) -> None:
        self.calls = 0
        self.answer = answer
        self._door = StopToken(clock=clock)
        self.let_go = self._door.set

    def __call__(self) -> object:
        self.calls += 1
        self._door.wait()
        return self.answer


@pytest.fixture
def scene() -> Scene:
    return Scene()


def question(ask: Callable[[], object], **options: float) -> Question:
    return Question("db", 100, "check", ask, **options)


def raising(error: BaseException) -> Callable[[], object]:
    def check() -> None:
        raise error

    return check


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (lambda: None, "ready"),
        (lambda: True, "ready"),
        (lambda: 0, "ready"),
        (lambda: False, "degraded: its check says no"),
        (lambda: Status.STARTING, "starting"),
        (lambda: Status.READY, "ready"),
        (lambda: Health(Status.FAILED, "no disk"), "failed: no disk"),
        (raising(OSError("no disk")), "degraded: OSError: no disk"),
        (raising(SystemExit(3)), "degraded: SystemExit: 3"),
    ],
)
def test_what_an_answer_means(scene: Scene, check: Callable[[], object], said: str) -> None:
    """Health and status are taken as they are, False and what is raised is a fault, and all else is well."""
    assert scene.ask(question(check)) == [said]


def test_nothing_is_asked_in_the_callers_thread(scene: Scene) -> None:
    """A check runs on a thread that is not the asker's, and that ends with it."""
    threads: list[threading.Thread] = []
    scene.ask(question(lambda: threads.append(threading.current_thread())))
    assert threads[0] is not threading.current_thread()
    assert threads[0].name == "threadkit-check-db"
    threads[0].join(5)
    assert scene.checkup.threads() == []


def test_all_are_asked_at_once_and_waited_for_until_one_deadline(scene: Scene) -> None:
    """However many hang, the answer comes after the limit, and those that answer are not mixed up with them."""
    hanging = [Hanging(scene.clock) for _ in range(3)]
    asking = scene.ask_aside(*map(question, hanging), question(lambda: None))
    assert asking.waits
    scene.clock.advance(1.0)
    assert asking.result() == ["degraded: its check has not answered for 1 s"] * 3 + ["ready"]
    for each in hanging:
        each.let_go()
    scene.clock.settle()


def test_a_late_check_is_not_called_again_and_holds_nobody_up(scene: Scene) -> None:
    """While a late check has not returned it is not called again, and who asks then has the answer at once."""
    check = Hanging(scene.clock)
    late = question(check)
    asking = scene.ask_aside(late)
    scene.clock.advance(1.0)
    assert asking.result() == ["degraded: its check has not answered for 1 s"]
    scene.clock.advance(59.0)
    assert scene.ask(late) == ["degraded: its check has not answered for 60 s"]
    assert check.calls == 1
    assert len(scene.checkup.threads()) == 1
    check.let_go()
    scene.clock.settle()


def test_a_late_answer_is_used(scene: Scene) -> None:
    """An answer that came late is good from then on for as long as any other."""
    check = Hanging(scene.clock, Health(Status.DEGRADED, "slow"))
    late = question(check)
    asking = scene.ask_aside(late)
    scene.clock.advance(3.0)
    assert asking.result() == ["degraded: its check has not answered for 1 s"]
    check.let_go()
    scene.clock.settle()
    scene.clock.advance(9.9)
    assert scene.ask(late) == ["degraded: slow"]
    assert check.calls == 1
    scene.clock.advance(0.1)
    assert scene.ask(late) == ["degraded: slow"]
    assert check.calls == 2


def test_who_comes_while_a_check_runs_waits_for_the_same_call(scene: Scene) -> None:
    """Two who ask at once share one call and its answer; the second waits no longer than the first."""
    check = Hanging(scene.clock)
    shared = question(check)
    first = scene.ask_aside(shared)
    scene.clock.advance(0.6)
    second = scene.ask_aside(shared)
    scene.clock.advance(0.3)
    check.let_go()
    assert (first.result(), second.result(), check.calls) == (["ready"], ["ready"], 1)


def test_answers_are_good_for_a_while(scene: Scene) -> None:
    """Within its time an answer is given again without a call; a question may have a time of its own, none too."""
    calls: list[str] = []
    usual = question(lambda: calls.append("usual"))
    brief = question(lambda: calls.append("brief"), every=2.0)
    never = question(lambda: calls.append("never"), every=0.0)
    for _ in range(3):
        scene.ask(usual, brief, never)
    assert sorted(calls) == ["brief", "never", "never", "never", "usual"]
    calls.clear()
    scene.clock.advance(2.0)
    scene.ask(usual, brief, never)
    assert sorted(calls) == ["brief", "never"]


@pytest.mark.parametrize(("own", "seconds"), [(0.25, "0.25"), (5.0, "1")])
def test_a_limit_of_its_own_only_shortens(scene: Scene, own: float, seconds: str) -> None:
    """A question's own limit counts where it is shorter than that of all."""
    check = Hanging(scene.clock)
    asking = scene.ask_aside(question(check, timeout=own))
    scene.clock.advance(1.0)
    assert asking.result() == [f"degraded: its check has not answered for {seconds} s"]
    check.let_go()
    scene.clock.settle()


def test_changes_are_told_once(scene: Scene) -> None:
    """That a check says something else than before, or is late, is an event; that nothing has changed is none."""
    answers: list[object] = [None, False, False, Status.FAILED, None, None]
    check = question(lambda: answers.pop(0), every=0.0)
    while answers:
        scene.ask(check)
    assert [str(event) for event in scene.events if isinstance(event, HealthChanged)] == [
        "the health of 'db' is now degraded: its check says no",
        "the health of 'db' is now failed",
        "the health of 'db' is now ready",
    ]
    scene.events.clear()
    hanging = Hanging(scene.clock)
    asking = scene.ask_aside(question(hanging))
    scene.clock.advance(1.0)
    asking.result()
    assert [event.status for event in scene.events] == ["degraded"]
    hanging.let_go()
    scene.clock.settle()


def test_the_end_waits_for_checks_and_reports_those_that_hang(scene: Scene) -> None:
    """What still runs at the end has the time of the limit, and is reported with its stack where that is over."""
    assert scene.checkup.join(100.0) == []
    brief, stuck = Hanging(scene.clock), Hanging(scene.clock)
    asking = scene.ask_aside(question(brief), question(stuck))
    ending = Parked(scene.clock, lambda: scene.checkup.join(100.0))
    scene.clock.advance(0.5)
    brief.let_go()
    scene.clock.advance(0.5)
    asking.result()
    (report,) = ending.result()
    assert str(report) == "check of db: stuck after 1.00 s"
    assert (report.phase, report.outcome) == (100, "stuck")
    assert "self._door.wait()" in report.stacks["threadkit-check-db"]
    stuck.let_go()
    scene.clock.settle()


def test_the_end_waits_no_longer_than_it_may(scene: Scene) -> None:
    """Where less than the limit is left before the deadline, that is all there is."""
    stuck = Hanging(scene.clock)
    asking = scene.ask_aside(question(stuck))
    ending = Parked(scene.clock, lambda: scene.checkup.join(0.25))
    scene.clock.advance(0.25)
    assert [report.seconds for report in ending.result()] == [0.25]
    stuck.let_go()
    asking.result()


class Poor(SystemClock):
    """A clock that has no thread to give."""

    def spawn(self, target: Callable[[], None], name: str) -> threading.Thread:
        raise RuntimeError("can't start new thread")


def test_without_a_thread_there_is_an_answer_all_the_same() -> None:
    """Where no thread is to be had, that is the answer, and the question can be put again."""
    checkup = Checkup(Poor(), 1.0, 0.0, print)
    each = question(lambda: None)
    for _ in range(2):
        assert str(checkup.ask([each])[each]) == "degraded: RuntimeError: can't start new thread"
    assert (each.asked, each.answered) == (2, 2)


def test_a_call_that_has_no_thread_yet_is_counted(scene: Scene) -> None:
    """A call whose thread has not begun is reported without a stack."""
    pending: list[Callable[[], None]] = []

    class Late(SystemClock):
        def spawn(self, target: Callable[[], None], name: str) -> threading.Thread:
            pending.append(target)
            return threading.current_thread()

    checkup = Checkup(Late(), 0.01, 0.0, print)
    each = question(lambda: None)
    assert checkup.ask([each])[each].status is Status.DEGRADED
    assert checkup.threads() == []
    (report,) = checkup.join(SystemClock().monotonic() + 5)
    assert report.stacks == {}
    Background(pending[0]).result()
    assert checkup.join(SystemClock().monotonic() + 5) == []
