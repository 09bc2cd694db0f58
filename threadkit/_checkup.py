"""``Checkup``: asks user code how well it is, without ever waiting for it longer than a limit.

A check is somebody else's code: it may hang, and who asks for the health of a whole must have an answer all the same.
So each call is made in a thread of its own, all calls at once, and each question is put at most once at a time: one
that hangs costs one thread, however often it is asked. Between two calls there is no thread at all.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Iterable

from threadkit._clock import Clock
from threadkit._report import ComponentReport
from threadkit._stacks import stacks_of
from threadkit._waiting import Condition
from threadkit.events import Event, HealthChanged, describe
from threadkit.health import Health, Status


class Question:
    """Something to ask of user code: "how well is it?".

    Args:
        component: the name of the component that it is about.
        phase: that component's.
        what: what is called, ``"check"`` or ``"health()"``, for the texts.
        ask: the user's function. It returns a ``Health``, a ``Status``, or False where something is wrong; or raises.
        timeout: seconds after which its answer is late; None takes the checkup's limit, which it can only shorten.
        every: seconds for which an answer is good; None takes the checkup's.
    """

    __slots__ = (
        "answer",
        "answered",
        "answered_at",
        "ask",
        "asked",
        "asked_at",
        "component",
        "every",
        "phase",
        "status",
        "thread",
        "timeout",
        "what",
    )

    def __init__(
        self,
        component: str,
        phase: int,
        what: str,
        ask: Callable[[], object],
        *,
        timeout: float | None = None,
        every: float | None = None,
    ) -> None:
        self.component = component
        self.phase = phase
        self.what = what
        self.ask = ask
        self.timeout = timeout
        self.every = every
        # All below is guarded by the checkup's condition. A call goes on while more was asked than answered.
        self.asked = 0
        self.answered = 0
        self.asked_at = 0.0
        self.answered_at = -math.inf
        self.answer = Health(Status.READY)
        self.thread: threading.Thread | None = None
        self.status = Status.READY  # as of what was told last, which may have been that it is late


class Checkup:
    """Puts questions to user code.

    Args:
        clock: where time and threads come from.
        timeout: seconds after which an answer is late.
        every: seconds for which an answer is good.
        emit: called with an event where the status of an answer is another than last time.
    """

    def __init__(self, clock: Clock, timeout: float, every: float, emit: Callable[[Event], object]) -> None:
        self._clock = clock
        self._timeout = timeout
        self._every = every
        self._emit = emit
        # Guards _running and the fields of questions; notified when an answer comes. Nothing is called under it.
        self._condition = Condition(clock)
        self._running: dict[Question, None] = {}

    def ask(self, questions: Iterable[Question]) -> dict[Question, Health]:
        """Ask all of these at once, and return the answers.

        It takes no longer than the limit. An answer that is late counts as degraded, and the question is not put again
        before it has come. Where the last answer is still good nothing is called.
        """
        answers = self.collect(questions)
        for question, answer in answers.items():
            self._tell_change(question, answer)
        return answers

    def collect(self, questions: Iterable[Question]) -> dict[Question, Health]:
        """Do what ``ask()`` does, for questions that are about something else than health: no change is told."""
        numbers = {question: self._put(question) for question in questions}
        return {question: self._hear(question, number) for question, number in numbers.items()}

    def is_asking(self, question: Question) -> bool:
        """Tell whether a call goes on."""
        with self._condition:
            return question in self._running

    def join(self, deadline: float) -> list[ComponentReport]:
        """Give the calls that go on the time of their limit to return, and report those that do not.

        A check may use a resource that is about to close, so it is waited for as every other user of that is.
        """
        began = self._clock.monotonic()
        with self._condition:
            self._condition.wait_until(lambda: not self._running, min(deadline, began + self._timeout))
            left = list(self._running)
        seconds = self._clock.monotonic() - began
        return [
            ComponentReport(
                f"{question.what} of {question.component}",
                question.phase,
                "stuck",
                seconds,
                stacks=stacks_of([thread] if (thread := question.thread) else []),
            )
            for question in left
        ]

    def threads(self) -> list[threading.Thread]:
        """Return the threads in which calls go on."""
        with self._condition:
            return [question.thread for question in self._running if question.thread is not None]

    def _put(self, question: Question) -> int:
        """Have the question asked, unless that is being done or need not be; return the number of its answer."""
        every = self._every if question.every is None else question.every
        with self._condition:
            now = self._clock.monotonic()
            if question.asked > question.answered or now - question.answered_at < every:
                return question.asked
            question.asked += 1
            question.asked_at = now
            self._running[question] = None
            number = question.asked
        try:
            self._clock.spawn(functools.partial(self._call, question), f"threadkit-check-{question.component}")
        except RuntimeError as error:  # no thread is to be had
            self._settle(question, Health(Status.DEGRADED, describe(error)))
        return number

    def _call(self, question: Question) -> None:
        with self._condition:
            question.thread = threading.current_thread()
        try:
            answer = _answer_of(question)
        except BaseException as error:  # the border of user code
            answer = Health(Status.DEGRADED, describe(error))
        self._settle(question, answer)

    def _settle(self, question: Question, answer: Health) -> None:
        with self._condition:
            question.answered += 1
            question.answer, question.answered_at = answer, self._clock.monotonic()
            question.thread = None
            del self._running[question]
            self._condition.notify_all()

    def _hear(self, question: Question, number: int) -> Health:
        limit = self._timeout if question.timeout is None else min(question.timeout, self._timeout)
        with self._condition:
            deadline = question.asked_at + limit  # of the call that goes on: who comes later does not wait anew
            if self._condition.wait_until(lambda: question.answered >= number, deadline):
                return question.answer
            seconds = self._clock.monotonic() - question.asked_at
        return Health(Status.DEGRADED, f"its {question.what} has not answered for {seconds:.3g} s")

    def _tell_change(self, question: Question, answer: Health) -> None:
        with self._condition:
            if question.status is answer.status:
                return
            question.status = answer.status
        self._emit(HealthChanged(component=question.component, status=answer.status.name.lower(), health=str(answer)))


def _answer_of(question: Question) -> Health:
    said = question.ask()
    if isinstance(said, Health):
        return said
    if isinstance(said, Status):
        return Health(said)
    return Health(Status.DEGRADED, f"its {question.what} says no") if said is False else Health(Status.READY)
