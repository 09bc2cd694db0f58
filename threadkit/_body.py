"""The body of a managed thread: the loop that calls the user's function, again and again if need be.

It lives apart from the component, and knows it by a weak reference only. So a component that nobody refers to any more
is seen to be dropped although its thread runs; see ``ManagedThread.__del__``.

What comes after a call is decided here where it is clear (a stop, a verdict, the restart policy), and else by the
*supervision*: a budget of the body's own, or the group it belongs to. Each call has a token of its own, a child of the
body's, and belongs to whoever claims it: the thread that made it, when it returns, or the watch, which gives it up.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple, Protocol

import attrs

from threadkit._clock import Clock
from threadkit._errors import ThreadkitError
from threadkit._observe import Observers, logger
from threadkit._override import override
from threadkit._pulse import OnWedged, Pulse, Unresponsive, Watch
from threadkit._restarts import RestartBudget, RestartPolicy, RestartRules
from threadkit._stacks import stacks_of
from threadkit._stop import StopToken
from threadkit._verdicts import DONE, STOP_ALL, Stopping
from threadkit.events import Event, Recovered, Restarted, Wedged, describe


@attrs.frozen(eq=False)
class Part:
    """What a body is to do; see ``ManagedThread``."""

    kind: str
    target: Callable[..., object]
    wants_token: bool
    restart: RestartPolicy
    heartbeat: float | None = None
    on_wedged: OnWedged = "log"
    waits_for_ready: bool = False
    farewell: Callable[[], None] | None = None  # what the last thread has to do before it tells that it has ended


class Owner(Protocol):
    """The component that a body belongs to, as far as the body needs it."""

    def _ask_all_to_stop(self, reason: str) -> None: ...
    def _emit(self, event: Event) -> None: ...
    def _refuse(self, error: BaseException) -> None: ...
    def _fail(self, error: BaseException) -> None: ...
    def _end(self) -> None: ...


class Supervision(Protocol):
    """Who decides whether, and when, a body is called again. All is called by threads of the body."""

    def await_turn(self, body: Body, error: BaseException | None) -> BaseException | None:
        """A call has ended, and the policy wants another.

        Returns None when it is to be made, ``body.renew()`` having been called, or when the body has been told to
        stop; else what the body dies of.
        """

    def on_ready(self) -> None:
        """The body is up."""

    def on_failing(self, error: BaseException) -> None:
        """The call is going to end with this error, as soon as its children have ended."""

    def on_hopeless(self, error: BaseException) -> None:
        """The body fails in a way that no restart can mend."""

    def on_gone(self) -> None:
        """The last thread of the body is about to end."""


class Alone:
    """The supervision of a body that nobody looks after: a budget of its own."""

    __slots__ = ("_budget", "_rules")

    def __init__(self, rules: RestartRules) -> None:
        self._rules = rules
        self._budget: RestartBudget | None = None  # made when it is needed, which is seldom

    def await_turn(self, body: Body, error: BaseException | None) -> BaseException | None:
        budget = self._budget = self._budget or RestartBudget(self._rules)
        delay = budget.spend(body.clock.monotonic(), error)
        if delay is None:
            return budget.refusal(f"{body.part.kind} {body.name!r}", error)
        body.restarts += 1
        body.emit(Restarted(component=body.name, error=error, restarts=body.restarts, delay=delay))
        body.token.sleep(delay)
        body.renew()
        return None

    def on_ready(self) -> None: ...

    def on_failing(self, error: BaseException) -> None: ...

    def on_hopeless(self, error: BaseException) -> None: ...

    def on_gone(self) -> None: ...


class CallToken(StopToken):
    """The token of one call, which the user's function gets. Waiting on it, or on a child of it, is a sign of life."""

    __slots__ = ("_on_ready", "_pulse")

    def __init__(self, name: str | None, clock: Clock, pulse: Pulse, on_ready: Callable[[], None]) -> None:
        super().__init__(name, clock=clock)
        self._pulse = pulse
        self._on_ready = on_ready

    @override
    def wait(self, timeout: float | timedelta | None = None) -> bool:
        self._pulse.rest()
        try:
            return super().wait(timeout)
        finally:
            self._pulse.wake()

    @override
    def beat(self) -> None:
        self._pulse.beat()

    @override
    def ready(self) -> None:
        self._on_ready()

    @override
    def _new(self, name: str | None) -> StopToken:
        return CallToken(name, self._clock, self._pulse, self._on_ready)


class Outcome(NamedTuple):
    """What a call came to."""

    result: object
    error: BaseException | None
    told: bool  # its token had been set when it ended
    given_up: bool = False  # it has not ended: the watch has given it up, to have it replaced

    def wants_another(self, policy: RestartPolicy) -> bool:
        """Return True where another call is to follow, if the supervision allows."""
        if self.result is DONE or self.result is STOP_ALL:
            return False
        if self.given_up:
            return True
        if policy == "never" or self.told:
            return policy != "never"
        return policy == "always" or self.error is not None


class Call:
    """One call of a body."""

    __slots__ = ("_unclaimed", "pulse", "thread", "token")

    def __init__(self, body: Body) -> None:
        limit = body.part.heartbeat
        self.pulse: Pulse = Pulse(body.clock) if limit is None else Watch(body.clock, limit, body)
        self.token: CallToken = CallToken(body.name, body.clock, self.pulse, body.on_ready)
        self.token._descend_from(body.token)
        self.thread: threading.Thread | None = None
        self._unclaimed = [True]

    def make(self, part: Part) -> Outcome:
        """Call the function, and return what it returned or raised."""
        self.thread = threading.current_thread()
        self.pulse.begin()
        try:
            result = part.target(self.token) if part.wants_token else part.target()
        except Stopping as stopping:
            told = self.token.is_set()
            return Outcome(None, None if told else stopping, told)
        except BaseException as error:  # the thread's border: an error is a value from here on
            return Outcome(None, error, self.token.is_set())
        return Outcome(result, None, self.token.is_set())

    def claim(self) -> bool:
        """Return True to the first who asks; what becomes of the body is up to that one alone."""
        try:
            return self._unclaimed.pop()  # atomic
        except IndexError:
            return False


class Body:
    """Calls a function as often as its policy and its supervision want.

    Its fields are written by one thread at a time: the one that lives it, or the supervisor while that one waits for
    its turn. Whoever else looks at one sees a value of a moment ago.

    Args:
        part: what to call, and the rules for it.
        name: of the component, and of the thread.
        clock: where time comes from.
        token: the component's own.
        supervision: who decides about restarts.
        owner: the component.
    """

    __slots__ = (
        "_keeper", "_owner", "_present", "abandoned", "call", "clock", "is_over", "is_ready", "name", "part",
        "restarts", "supervision", "thread", "token", "up", "waits_after"
    )  # fmt: skip

    def __init__(
        self, part: Part, name: str, clock: Clock, token: StopToken, supervision: Supervision, owner: Owner
    ) -> None:
        self.part: Part = part
        self.name: str = name
        self.clock: Clock = clock
        self.token: StopToken = token
        self.supervision: Supervision = supervision
        self._owner = weakref.ref(owner)
        self._keeper: Owner | None = None  # the owner, from the end of the last call to its own
        self.thread: threading.Thread | None = None  # the one that lives it
        self._present: dict[threading.Thread, None] = {}  # all that are inside; single steps, each atomic
        self.up: StopToken | None = token.child() if part.waits_for_ready else None  # set when start() need not wait
        self.is_ready: bool = not part.waits_for_ready
        self.is_over: bool = False
        self.restarts: int = 0
        self.abandoned: int = 0  # calls that were given up
        self.waits_after: str | None = None  # how the last call ended, while the body waits for its next
        self.call: Call = Call(self)  # the one that is going on, or is to be made next

    def attach(self, owner: Owner) -> None:
        """Know the owner anew: the garbage collector clears weak references before it runs finalizers."""
        self._owner = weakref.ref(owner)

    def launch(self) -> None:
        """Start the thread."""
        self.thread = self.clock.spawn(self._run, self.name)  # it writes the same, if it is quicker

    def renew(self) -> None:
        """Prepare the next call."""
        self.call = Call(self)

    def threads(self) -> list[threading.Thread]:
        """Return the threads that are alive, those that were given up among them."""
        own = () if self.thread is None or self.is_over else (self.thread,)  # it may not have begun to be present
        return [thread for thread in dict.fromkeys((*list(self._present), *own)) if thread.is_alive()]

    def is_alive(self) -> bool:
        """Return True while the thread runs, between two calls too."""
        return self.thread is not None and self.thread.is_alive()

    def silence(self) -> float:
        """Return for how many seconds there has been no sign of life."""
        return 0.0 if self.waits_after is not None else self.call.pulse.silence()

    def beat(self) -> None:
        """Give a sign of life, unless it is a thread that was given up which does."""
        me = threading.current_thread()
        if me is self.thread or me not in self._present:
            self.call.pulse.beat()

    def emit(self, event: Event) -> None:
        """Tell everybody what happened."""
        owner = self._owner()
        if owner is None:
            Observers().emit(event)  # to the log at least
        else:
            owner._emit(event)

    # --- what the call and its watch say -----------------------------------------------------------------------------

    def on_ready(self) -> None:
        """The function says that it is up."""
        self.is_ready = True
        if self.up is not None:
            self.up.set("ready")
            self.supervision.on_ready()

    def is_stopping(self) -> bool:
        """Return True once the component has been told to stop."""
        return self.token.is_set()

    def on_silence(self, watch: Watch, seconds: float) -> None:
        """Do what the user wants done when the body is wedged."""
        call = self.call
        if call.pulse is not watch or call.thread is None or self.token.is_set():
            return  # it has just ended
        stack = stacks_of([call.thread]).get(call.thread.name, "")
        self.emit(Wedged(component=self.name, seconds=seconds, stack=stack))
        if self.part.on_wedged == "dump":
            everybody = "\n".join(f"{name}:\n{text}" for name, text in stacks_of(threading.enumerate()).items())
            logger.warning("since thread %r is wedged, here are all threads:\n%s", self.name, everybody)
        elif self.part.on_wedged != "log" and call.claim():
            error = Unresponsive(self.name, self.part.heartbeat or 0.0)
            if self.part.on_wedged == "replace":
                self._replace(call, error)
            else:
                self._give_up(call, error)

    def on_recovery(self, seconds: float) -> None:
        """It is well again."""
        self.emit(Recovered(component=self.name, seconds=seconds))

    def _replace(self, call: Call, error: BaseException) -> None:
        """Abandon the thread that made the call, and go on in its stead, on this one."""
        self.abandoned += 1
        threading.current_thread().name = f"{self.name}-{self.abandoned + 1}"
        call.token.set("given up: it is wedged")
        self._run(Outcome(None, error, told=False, given_up=True))

    def _give_up(self, call: Call, error: BaseException) -> None:
        """Fail, though the thread goes on. When it comes back it tells that the last thread has ended."""
        call.pulse.end()
        self._conclude(error)
        self.token.set(str(error))
        self.supervision.on_hopeless(error)

    # --- the life of a thread ----------------------------------------------------------------------------------------

    def _run(self, outcome: Outcome | None = None) -> None:
        """Live: from the beginning, or from the outcome of a call that was given up."""
        me = self.thread = threading.current_thread()
        self._present[me] = None
        try:
            if outcome is None or self._goes_on(outcome):
                while self._makes_another():
                    pass
        except BaseException as bug:  # a backoff of the user's that raises, say: it must not look like a clean end
            self._conclude(bug)
        if self.is_over and self.part.farewell is not None:
            self.part.farewell()
        del self._present[me]
        if self.is_over and not self._present:  # the last two may both find it so; once is as good as twice
            owner, self._keeper = self._keeper or self._owner(), None
            if owner is not None:
                owner._end()
            self.supervision.on_gone()

    def _makes_another(self) -> bool:
        """Make a call; return True where this thread is to make one more."""
        call = self.call
        outcome = call.make(self.part)  # one frame for each call: an idle thread must keep no error alive
        if call.claim():
            return self._goes_on(outcome)
        if outcome.error is not None:
            logger.info("%s, given up as wedged, raised: %s", self, describe(outcome.error), exc_info=outcome.error)
        return False

    def _goes_on(self, outcome: Outcome) -> bool:
        """Book what the call came to; return True where this thread is to make another one."""
        call, error = self.call, outcome.error
        call.pulse.end()
        if not call.token.is_set():
            call.token._retire()
        is_stopping = self.token.is_set()
        if error is not None and (outcome.told or is_stopping):
            logger.info("%s raised while it stopped: %s", self, describe(error), exc_info=error)
            error = None
        if is_stopping:
            return self._conclude(None)
        if not (self.is_ready or outcome.told):
            return self._conclude(error or ThreadkitError(f"{self} returned before it called token.ready()"))
        if outcome.result is STOP_ALL:
            self._ask_all_to_stop()
        if not outcome.wants_another(self.part.restart):
            return self._conclude(error)
        self.waits_after = "it was told to" if outcome.told else describe(error) if error else "it returned"
        failure = self.supervision.await_turn(self, error)
        self.waits_after = None
        return not (failure is not None or self.token.is_set()) or self._conclude(failure)

    def _ask_all_to_stop(self) -> None:
        owner = self._owner()
        if owner is not None:
            owner._ask_all_to_stop(f"{self} asked for it")

    def _conclude(self, error: BaseException | None) -> bool:
        """There is no next call. What is a failure is told at once, though a thread that was given up may go on."""
        self.is_over = True  # first, and then the look at the owner; see ManagedThread.__del__
        owner = self._keeper = self._owner()
        if error is None:
            pass
        elif owner is None:
            logger.error("%s failed: %s", self, describe(error), exc_info=error)
        elif not self.is_ready:
            owner._refuse(error)
        else:
            owner._fail(error)
        if self.up is not None:
            self.up.set("it has ended")
        return False

    def __str__(self) -> str:
        return f"{self.part.kind} {self.name!r}"
