"""The supervisor of a group: one thread that hears how the calls of the children end, and has them made again.

All decisions are made here, one after another, so there is nothing to lock. Nothing here waits for one child alone:
what has to wait (for the delay of a backoff, for others to end, for one to be ready) stands in a *round*, and every
message may be what a round has waited for. A round begins when all its members are down and its delay is over; then
they are called in the order in which they were added, each when the one before is up. Rounds that would share a member
become one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from threadkit._clock import Clock
from threadkit._errors import StartTimeout
from threadkit._member import Ended, Failing, Gone, Inbox, Member, Message, Ready, Stage
from threadkit._observe import logger
from threadkit._restarts import RestartBudget, RestartRules
from threadkit._stop import StopToken
from threadkit.events import Event, GroupRestarted, Restarted, describe

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]


class Round:
    """Members that are to be called again, one after another."""

    __slots__ = ("due", "members")

    def __init__(self, members: list[Member], due: float) -> None:
        self.members = members
        self.due = due


class Supervisor:
    """Looks after the children of a group.

    Args:
        name: the group's.
        strategy: who is restarted with whom.
        rules: how often, and how soon.
        clock: where time comes from.
        token: the group's own.
        inbox: where the children's messages come in.
        members: returns the members, in the order in which they were added.
        emit: tells an event.
        announce: called with the error when the group fails, before its children have ended, and with whether a restart
            could mend it.
    """

    def __init__(
        self,
        name: str,
        strategy: Strategy,
        rules: RestartRules,
        clock: Clock,
        token: StopToken,
        inbox: Inbox,
        members: Callable[[], list[Member]],
        emit: Callable[[Event], object],
        announce: Callable[[BaseException, bool], object],
    ) -> None:
        self._name = name
        self._strategy = strategy
        self._rules = rules
        self._clock = clock
        self._token = token
        self._inbox = inbox
        self._members = members
        self._emit = emit
        self._announce = announce
        self._budget = RestartBudget(rules)
        self._rounds: list[Round] = []
        self._is_hopeless = False
        self._was_here = False
        self.restarts = 0  # granted so far; written by the supervisor alone

    def supervise(self, token: StopToken) -> None:
        """Look after the children until told to stop. A second call makes them all anew, with a fresh budget.

        Raises:
            BaseException: what the group fails of; its children are down.
        """
        self._budget = RestartBudget(self._rules)
        try:
            if self._was_here:
                self._begin_round(self._members(), self._clock.monotonic(), f"group {self._name!r} begins anew")
            self._was_here = True
            self._look_after(token)
        except BaseException as error:
            self._announce(error, self._is_hopeless)
            self._end_all(f"group {self._name!r} failed")
            if not self._token.is_set():
                raise
        else:
            self._end_all(token.reason or "")

    def see_off(self) -> None:
        """Wait until all children have ended for good; the last thing that the group's thread does."""
        self._token.set(f"group {self._name!r} has ended")
        while any(member.stage is not Stage.GONE for member in self._members()):
            self._hear_out()

    # --- while the group is up ---------------------------------------------------------------------------------------

    def _look_after(self, token: StopToken) -> None:
        is_up = False
        while not token.is_set():
            self._advance()
            if not (is_up or self._rounds):
                is_up = True
                token.ready()
            message = self._inbox.get(token, self._patience())
            if message is not None:
                self._handle(message)

    def _handle(self, message: Message) -> None:
        member = message.member
        if isinstance(message, Gone):
            member.stage = Stage.GONE
            self._leave_round(member)
        elif isinstance(message, Ready):
            if member.stage is Stage.COMING:
                member.stage = Stage.UP
                self._leave_round(member)
        elif isinstance(message, Failing) and message.is_hopeless:
            self._is_hopeless = True
            raise message.error
        else:
            is_expected = member.stage is Stage.ENDING
            self._take_down(member, message)
            if not is_expected:
                self._restart(member, message.error)
            elif message.error is not None:
                self._note(member, message.error)

    def _restart(self, culprit: Member, error: BaseException | None) -> None:
        """A child has ended, or is about to, and nobody had told it to."""
        if culprit not in self._members():
            return  # it has been removed, and is told by its own token
        now = self._clock.monotonic()
        delay = self._budget.spend(now, error)
        if delay is None:
            raise self._budget.refusal(f"the threads of group {self._name!r}", error)
        self.restarts += 1
        name, body = culprit.child.name, culprit.child._body
        body.emit(Restarted(component=name, error=error, restarts=body.restarts + 1, delay=delay))
        affected = self._affected(culprit)
        if not affected:
            return
        others = [repr(member.child.name) for member in affected if member is not culprit]
        if others:
            self._emit(GroupRestarted(component=self._name, culprit=name, others=", ".join(others), delay=delay))
        why = f"{name!r} ended" + (f": {describe(error)}" if error else "")
        self._begin_round(affected, now + delay, why)

    def _affected(self, culprit: Member) -> list[Member]:
        """Return who is restarted with the culprit, and itself, in the order in which they were added.

        Nobody is where user code that was called meanwhile, the backoff's or an observer's, has removed the culprit.
        """
        living = [member for member in self._members() if member.stage is not Stage.GONE]
        if culprit not in living:
            return []
        if self._strategy == "one_for_one":
            return [culprit]
        return living[living.index(culprit) :] if self._strategy == "rest_for_one" else living

    def _begin_round(self, members: list[Member], due: float, why: str) -> None:
        """Have these end, if they have not, and be called again; with them, whoever is in a round with one of them."""
        joined = {member for member in members if member.stage is not Stage.GONE}
        for other in [other for other in self._rounds if not joined.isdisjoint(other.members)]:
            self._rounds.remove(other)
            joined.update(other.members)
            due = max(due, other.due)
        order = [member for member in self._members() if member in joined]
        for member in reversed(order):
            if member.stage in {Stage.UP, Stage.COMING}:
                member.end_call(why)
        self._rounds.append(Round(order, due))

    def _advance(self) -> None:
        """Call whom nothing keeps from being called; give up who is not ready in time."""
        now = self._clock.monotonic()
        for member in self._members():
            if member.stage is Stage.COMING and member.ready_by is not None and member.ready_by <= now:
                member.end_call("not ready in time")
                self._restart(member, StartTimeout(member.child.name, member.child._ready_timeout or 0.0))
        for one in self._rounds:
            while self._can_go_on(one, now):
                first = one.members[0]
                first.call_again(now)
                if first.stage is Stage.UP:
                    one.members.remove(first)
        self._rounds = [one for one in self._rounds if one.members]

    @staticmethod
    def _can_go_on(one: Round, now: float) -> bool:
        return bool(one.members) and one.due <= now and all(member.stage is Stage.DOWN for member in one.members)

    def _patience(self) -> float | None:
        """Return the seconds after which there is something to do though no message came."""
        moments = [one.due for one in self._rounds if all(member.stage is Stage.DOWN for member in one.members)]
        moments += [
            member.ready_by
            for member in self._members()
            if member.stage is Stage.COMING and member.ready_by is not None
        ]
        return max(0.0, min(moments) - self._clock.monotonic()) if moments else None

    def _leave_round(self, member: Member) -> None:
        for one in self._rounds:
            one.members = [other for other in one.members if other is not member]

    # --- while it goes down ------------------------------------------------------------------------------------------

    def _end_all(self, why: str) -> None:
        """End all calls, and wait until they are over."""
        self._rounds.clear()
        while True:
            members = self._members()
            for member in reversed(members):
                if member.stage in {Stage.UP, Stage.COMING}:
                    member.end_call(why)
            if all(member.stage in {Stage.DOWN, Stage.GONE} for member in members):
                return
            self._hear_out()

    def _hear_out(self) -> None:
        """Wait for a message, and do nothing about it but to write it down."""
        message = self._inbox.get(StopToken(clock=self._clock))
        if isinstance(message, Gone):
            message.member.stage = Stage.GONE
        elif isinstance(message, Ended | Failing):
            self._take_down(message.member, message)
            if message.error is not None:
                self._note(message.member, message.error)

    @staticmethod
    def _take_down(member: Member, message: Ended | Failing) -> None:
        """Note that a call is over, or about to be."""
        if isinstance(message, Ended):
            member.stage, member.door = Stage.DOWN, message.door
        else:
            member.stage = Stage.ENDING

    def _note(self, member: Member, error: BaseException) -> None:
        """Let no failure be lost that comes while its group is ending the child anyway."""
        logger.warning(
            "%s of group %r failed while its group ended it: %s",
            member.child._body, self._name, describe(error), exc_info=error
        )  # fmt: skip
