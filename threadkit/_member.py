"""One child of a group: what its threads say to the supervisor, and what the supervisor knows of it.

A child's thread lives as long as the child. Between two calls it waits at a *door*, a token of its own, which the
supervisor opens when the next call may begin; as a child of the component's token it also opens when that is stopped.
So a stop needs no supervisor, and finds a waiting thread wherever it is.
"""

from __future__ import annotations

import enum
import threading
from collections import deque
from typing import NamedTuple, Protocol

from threadkit._body import Body
from threadkit._clock import Clock
from threadkit._stop import StopToken


class Child(Protocol):
    """What a group may hold, as far as its supervisor needs it."""

    name: str
    _body: Body
    _token: StopToken

    @property
    def _ready_timeout(self) -> float | None: ...
    def start(self) -> None: ...
    def threads(self) -> list[threading.Thread]: ...


class Stage(enum.Enum):
    """How far a child is. The supervisor alone changes it, by what it has heard and what it has ordered."""

    UP = "its call goes on"
    COMING = "its call has begun, and it has not said yet that it is ready"
    ENDING = "its call has been told to end"
    DOWN = "it waits at the door"
    GONE = "it has ended for good"


class Ended(NamedTuple):
    """A call is over, and the policy of the child wants another."""

    member: Member
    error: BaseException | None
    door: StopToken


class Ready(NamedTuple):
    """A call has come so far that the next child may follow."""

    member: Member


class Failing(NamedTuple):
    """A child is about to fail. It says so early, since the end may take as long as its slowest thread."""

    member: Member
    error: BaseException
    is_hopeless: bool  # no restart can mend it


class Gone(NamedTuple):
    """A child has ended for good."""

    member: Member


Message = Ended | Ready | Failing | Gone


class Inbox:
    """A line of messages for one reader, who heeds a token too. ``put()`` takes no lock."""

    __slots__ = ("_bell", "_messages")

    def __init__(self, clock: Clock) -> None:
        self._messages: deque[Message] = deque()
        self._bell = StopToken(clock=clock)

    def put(self, message: Message) -> None:
        """Add a message, and wake the reader."""
        self._messages.append(message)
        self._bell.set()  # whichever it is: see get()

    def get(self, token: StopToken, seconds: float | None = None) -> Message | None:
        """Return the first message; or None, when the token is set or the time is over."""
        bell = self._bell = token.child()  # first the new bell, then the look: who missed the bell is seen
        if not self._messages:
            bell.wait(seconds)
        return self._messages.popleft() if self._messages and not token.is_set() else None


class Member:
    """A child in its group, and the supervision of its body."""

    __slots__ = ("_has_told", "child", "door", "inbox", "is_late", "ready_by", "stage")

    def __init__(self, child: Child, inbox: Inbox, *, is_late: bool) -> None:
        self.child = child
        self.inbox = inbox
        self.is_late = is_late  # added while the group was running: whoever adds it starts it
        self._has_told = False  # the child's: its failure has been announced
        # The supervisor's:
        self.stage = Stage.UP
        self.door = StopToken()  # where it waits while it is DOWN
        self.ready_by: float | None = None  # while it is COMING: when it should be ready

    # --- called by the child's threads -------------------------------------------------------------------------------

    def await_turn(self, body: Body, error: BaseException | None) -> BaseException | None:
        """Tell the supervisor, and wait at the door."""
        door = body.token.child()
        self.inbox.put(Ended(self, None if self._has_told else error, door))
        self._has_told = False
        door.wait()
        return None

    def on_ready(self) -> None:
        """Tell the supervisor."""
        self.inbox.put(Ready(self))

    def on_failing(self, error: BaseException) -> None:
        """Announce to the supervisor that the call is going to end with this error."""
        self._has_told = True
        self.inbox.put(Failing(self, error, is_hopeless=False))

    def on_hopeless(self, error: BaseException) -> None:
        """Announce to the supervisor what it cannot mend."""
        self._has_told = True
        self.inbox.put(Failing(self, error, is_hopeless=True))

    def on_gone(self) -> None:
        """Tell the supervisor."""
        self.inbox.put(Gone(self))

    # --- called by the supervisor ------------------------------------------------------------------------------------

    def end_call(self, reason: str) -> None:
        """Have the call end that goes on."""
        self.stage = Stage.ENDING
        self.child._body.call.token.set(reason)  # while a call goes on, nobody but the supervisor would put another

    def call_again(self, now: float) -> None:
        """Open the door."""
        body, timeout = self.child._body, self.child._ready_timeout
        if body.up is None:
            self.stage = Stage.UP
        else:
            self.stage = Stage.COMING
            self.ready_by = None if timeout is None else now + timeout
        body.restarts += 1
        body.renew()
        self.door.set("again")
