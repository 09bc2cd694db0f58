"""``Ending``: how one component is told to stop, joined and closed, and reported.

threadkit's own components keep their promises: ``stop()`` returns at once and ``join()`` in time. So they are called
right here. What a class of the user's does is unknown, so its attendant calls it, and is waited for no longer than the
component's limit. What hangs is stuck, and told by its stack; the others are told and joined meanwhile.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable

import attrs

from threadkit._attendant import Attendant
from threadkit._budget import Limit
from threadkit._clock import Clock
from threadkit._entry import Entry, answer_of, release
from threadkit._observe import logger
from threadkit._report import ComponentReport, Outcome
from threadkit._stacks import stacks_of
from threadkit._waiting import Condition
from threadkit.events import describe

GRACE = 0.1
"""Seconds beyond its limit that a call has to return, as long as none has hung."""

LEAST_GRACE = 0.005
"""Seconds that it has however many have hung: many times what a call takes that returns at once."""


class Ending:
    """Ends components, one after the other: those of one stop.

    What returns at once is waited for, so that stops come in order, and what comes to its end at its very limit is
    heard. That takes a little grace, which each call that hangs makes half as long for the next; so they do not add up.

    Args:
        clock: where time comes from.
        condition: guards the flags of the entries. Components are called without it.
    """

    def __init__(self, clock: Clock, condition: Condition) -> None:
        self._clock = clock
        self._condition = condition
        self._grace = GRACE

    def limit_of(self, limit: Limit, entry: Entry) -> Limit:
        """Return until when a component is waited for: no longer than ``limit``, which is that of its stage."""
        told_at = self._clock.monotonic() if entry.told_at is None else entry.told_at
        return min(limit, Limit(told_at + _own_timeout(entry), "stop_timeout"))

    def tell(self, entry: Entry, reason: str | None, deadline: float) -> None:
        """Tell a component to stop, unless somebody has done so."""
        try:
            with self._condition:
                if entry.told_at is not None:
                    return
                entry.told_at = self._clock.monotonic()
            entry.token.set(reason, deadline=min(deadline, entry.told_at + _own_timeout(entry)))
            if entry.attendant is None:
                self._stop(entry, reason)
            else:
                self._have_told(entry, entry.attendant, reason)
        except BaseException:  # Ctrl-C, or a second signal: who goes on from here tells it again, to be sure
            entry.told_at = None
            raise

    def gather(self, entry: Entry, limit: Limit, *, final: bool = True) -> ComponentReport:
        """Join one component that has been told, and close it; what is stuck only where the end is ``final``."""
        with self._condition:  # a component that is coming up is given the time to come down
            self._condition.wait_until(lambda: not entry.starting, limit.at)
        if entry.attendant is None:
            report = self._end(entry, limit, final=final)
        else:
            report = self._have_ended(entry, entry.attendant, limit, final=final)
            if final or entry.closed:
                entry.attendant.dismiss()
        if report.outcome != "stuck":
            release(entry)
        return report

    def _have_told(self, entry: Entry, attendant: Attendant, reason: str | None) -> None:
        if entry.telling is None or entry.telling.is_over():  # else an interrupt has ended the wait for it, and not it
            entry.telling = attendant.do(functools.partial(self._stop, entry, reason))
        if self._is_in_time(entry.telling.wait):
            try:
                entry.telling.result()
            except RuntimeError as error:  # no thread to tell it, while another call of it hangs
                self._blame(entry, "stop", error)

    def _have_ended(self, entry: Entry, attendant: Attendant, limit: Limit, *, final: bool) -> ComponentReport:
        while self._is_in_time(attendant.wait, limit.at):  # for its stop(), and for a start() that was given up
            ending = attendant.do(lambda: self._end(entry, limit, final=final))
            if not self._is_in_time(ending.wait, limit.at):
                break
            with contextlib.suppress(
                RuntimeError
            ):  # no thread, and somebody else ends it at this moment: wait for that
                return ending.result()
        stacks = stacks_of(attendant.threads())
        ending = attendant.do(lambda: self._end(entry, limit, final=final, may_join=False))
        if self._is_in_time(ending.wait):
            with contextlib.suppress(RuntimeError):  # no thread to ask it for more
                report = ending.result()
                return attrs.evolve(report, stacks=stacks | report.stacks)
        seconds = self._book(entry, joined=False)
        return ComponentReport(
            entry.name, entry.phase, "stuck", seconds, stacks=stacks, error=entry.failure, limit=limit.name
        )

    def _is_in_time(self, wait: Callable[[float], bool], limit: float = -math.inf) -> bool:
        """Wait until a limit, or for a little longer; tell whether it was worth it."""
        if wait(max(limit, self._clock.monotonic()) + self._grace):
            return True
        self._grace = max(self._grace / 2, LEAST_GRACE)
        return False

    def _end(self, entry: Entry, limit: Limit, *, final: bool, may_join: bool = True) -> ComponentReport:
        component = entry.component
        joined = False
        if may_join:
            try:
                joined = component.join(max(0.0, limit.at - self._clock.monotonic()))
            except Exception as error:  # nothing more can be waited for
                joined = True
                self._blame(entry, "join", error)
        seconds = self._book(entry, joined=joined)
        stacks = {} if joined else stacks_of(entry.threads())
        work_left = answer_of(component, "work_left", int)
        if (joined or final) and self._may_close(entry):
            try:
                getattr(component, "close", _nothing)()
            except Exception as error:
                self._blame(entry, "close", error)
        failure = entry.failure or getattr(component, "failure", None)
        outcome: Outcome = "stuck" if not joined else "failed" if failure is not None else "stopped"
        over = None if joined else limit.name
        return ComponentReport(entry.name, entry.phase, outcome, seconds, work_left, stacks, failure, over)

    def _book(self, entry: Entry, *, joined: bool) -> float:
        """Return how long the end has taken so far; once it has come, that stays so, whoever joins again."""
        with self._condition:
            now = self._clock.monotonic()
            told_at = now if entry.told_at is None else entry.told_at
            seconds = now - told_at if entry.seconds is None else entry.seconds
            if joined:
                entry.seconds = seconds
        return seconds

    def _may_close(self, entry: Entry) -> bool:
        """Tell whether nobody has closed it yet: a stop may be interrupted and come again, or meet another one."""
        with self._condition:
            was_closed, entry.closed = entry.closed, True
        return not was_closed

    def _stop(self, entry: Entry, reason: str | None) -> None:
        try:
            entry.component.stop(reason)
        except Exception as error:  # a stop that raises must not keep the others from being told
            self._blame(entry, "stop", error)

    def _blame(self, entry: Entry, method: str, error: Exception) -> None:
        """Note what a method has raised: as the component's failure, or, where it has one, beside that."""
        logger.error("the %s() of component %r failed", method, entry.name, exc_info=error)
        with self._condition:
            first = entry.failure = entry.failure or error
        if first is not error:
            first.add_note(f"the {method}() of component {entry.name!r} failed, too: {describe(error)}")


def _own_timeout(entry: Entry) -> float:
    """Return the seconds that a component's stop may take by what add() or the component itself says."""
    own: float | None = getattr(entry.component, "stop_timeout", None)
    return min((limit for limit in (own, entry.stop_timeout) if limit is not None), default=math.inf)


def _nothing() -> None:
    """Stand in for a close() that a component does not have."""
