"""``PostOffice``: the half of a bus that delivers on an executor, with a mailbox for each subscriber.

Nothing here takes a lock that anybody waits for, because ``publish`` may be called by a finalizer that strikes inside
``publish``. Each step is a single operation on a ``dict`` or ``deque``, which is atomic with and without the GIL (see
``_waiting.py``), or a lock that is only ever *tried*.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Executor, Future
from typing import Literal, Protocol

from threadkit._calling import is_on_event_loop
from threadkit._clock import Clock
from threadkit._errors import Closed, Full, WouldBlock
from threadkit._stop import StopToken
from threadkit._subscription import Message, Subscription
from threadkit._waiting import Waiters

OnFull = Literal["block", "drop_oldest", "reject"]
_ADVICE = "a larger maxsize, or another on_full,"


class Letter:
    """A message on its way to one subscriber, with the context that it was published in."""

    __slots__ = ("context", "message", "subscription")

    def __init__(self, subscription: Subscription, message: Message) -> None:
        self.subscription = subscription
        self.message = message
        self.context = contextvars.copy_context()


class Mailbox:
    """Where the letters for one subscriber wait, to be delivered one after the other on an executor.

    Invariants:
        1. Whoever holds ``_duty`` sees to the letters: a delivery on the executor that is queued or at work. A poster
           appends and then tries for the duty; the holder gives the duty back and then looks for letters again. So no
           letter lies in a box that nobody has the duty for, and two letters of one box are never delivered at once.
        2. Under "block" and "reject" a letter enters with a token of ``_room`` and gives it back when it leaves: at
           most ``maxsize`` wait. Under "drop_oldest" it enters first, and what is above leaves at the other end.

    Args:
        executor: what deliveries run on.
        maxsize: how many letters wait at most; ``inf`` is no limit.
        on_full: what is done with one more.
        handle: called with each letter in turn; MUST NOT raise.
        drop: called with each letter that will not be delivered; MUST NOT raise.
    """

    __slots__ = (
        "_drop",
        "_duty",
        "_executor",
        "_handle",
        "_letters",
        "_maxsize",
        "_on_full",
        "_room",
        "_trimming",
        "_waiters",
    )

    def __init__(
        self,
        executor: Executor,
        maxsize: float,
        on_full: OnFull,
        *,
        handle: Callable[[Letter], None],
        drop: Callable[[Letter], None],
    ) -> None:
        self._executor = executor
        self._maxsize = maxsize
        self._on_full: OnFull = on_full
        self._handle = handle
        self._drop = drop
        self._letters: deque[Letter] = deque()
        self._room: deque[None] | None = None
        if on_full != "drop_oldest" and isinstance(maxsize, int):
            self._room = deque([None]) * maxsize
        self._waiters = Waiters()
        # Both are only tried, never waited for.
        self._duty = threading.Lock()
        self._trimming = threading.Lock()

    def post(self, letter: Letter, await_room: Callable[[Mailbox, Letter], None]) -> None:
        """Put a letter in, and have it delivered.

        Args:
            letter: the letter.
            await_room: called under "block" where there is no room; returns when it is worth another look, or raises
                what the poster is to hear.

        Raises:
            Full: there is no room, and the policy is to refuse.
        """
        while self._room is not None:
            try:
                self._room.pop()
                break
            except IndexError:
                if self._on_full == "reject":
                    raise Full("subscription", letter.subscription.handler, self._maxsize) from None
            await_room(self, letter)
        self._letters.append(letter)
        self._trim()
        self._see_to_it()

    def wait_for_room(self, clock: Clock, is_over: Callable[[], bool]) -> None:
        """Wait until there is room, or ``is_over()``."""
        self._waiters.wait(clock, lambda: bool(self._room) or is_over(), None)

    def wake(self) -> None:
        """Have everybody who waits for room look again."""
        self._waiters.wake_all()

    def _trim(self) -> None:
        # One trims at a time, or two who see one letter too many would drop two. Who comes second leaves it to the
        # first, who looks again afterwards.
        while self._room is None and len(self._letters) > self._maxsize and self._trimming.acquire(blocking=False):
            surplus: list[Letter] = []
            with contextlib.suppress(IndexError):  # a delivery may be faster
                while len(self._letters) > self._maxsize:
                    surplus.append(self._letters.popleft())
            self._trimming.release()
            for letter in surplus:
                self._drop(letter)

    def _see_to_it(self) -> None:
        if not self._duty.acquire(blocking=False):
            return
        try:
            future = self._executor.submit(self._empty, self._handle)
        except Exception:  # full, shut down or out of threads: whatever it is, the letters must not lie here for ever
            self._empty(self._handle)
        except BaseException:  # Ctrl-C in a submit that waited
            self._empty(self._drop)
            raise
        else:
            future.add_done_callback(self._check)

    def _check(self, future: Future[None]) -> None:
        # A delivery that was cancelled, or was lost with its executor, never gave the duty back. What it was to deliver
        # was given up by whoever ended the executor; that is said, and nobody waits for it any longer.
        if future.cancelled() or future.exception() is not None:
            self._empty(self._drop)

    def _empty(self, treat: Callable[[Letter], None]) -> None:
        """Treat all letters, and give the duty back, which MUST be held."""
        while True:
            while (letter := self._next()) is not None:
                treat(letter)
                del letter  # an idle mailbox must keep nothing alive
            self._duty.release()
            if not self._letters or not self._duty.acquire(blocking=False):
                return

    def _next(self) -> Letter | None:
        try:
            letter = self._letters.popleft()
        except IndexError:
            return None
        if self._room is not None:
            self._room.append(None)
            self._waiters.wake_all()
        return letter


class Sender(Protocol):
    """What a post office needs of the bus it works for. None of the ``_on_...`` may raise."""

    _clock: Clock
    _token: StopToken

    def _closed(self) -> Closed:
        """Return the error that says that a stop has been asked for."""
        ...

    def _on_delivered(self) -> None:
        """A subscriber was called, and returned."""
        ...

    def _on_failed(self, channel: str, handler: str, error: BaseException) -> None:
        """A subscriber was called, and raised."""
        ...

    def _on_dropped(self, channel: str, handler: str) -> None:
        """A message will not reach a subscriber."""
        ...

    def _on_settled(self) -> None:
        """A letter has been handled or dropped."""
        ...


class PostOffice:
    """Takes messages for subscribers, and has them delivered on an executor.

    Invariant: a letter is in ``_outstanding`` from before it enters a mailbox until it has been handled or dropped. A
        poster enters it and then looks whether the bus is closed; a stop closes the bus and then looks for letters. So
        none is delivered after the end.

    Args:
        executor: what deliveries run on.
        maxsize: how many letters wait for one subscriber at most.
        on_full: what is done with one more.
        sender: the bus.
    """

    __slots__ = ("_boxes", "_maxsize", "_on_full", "_outstanding", "_sender", "_serving", "executor")

    def __init__(self, executor: Executor, maxsize: float, on_full: OnFull, sender: Sender) -> None:
        self.executor = executor
        self._maxsize = maxsize
        self._on_full: OnFull = on_full
        self._sender = sender
        self.forget_all()

    def __len__(self) -> int:
        """Return how many letters wait or are being handled."""
        return len(self._outstanding)

    def forget_all(self) -> None:
        """Begin anew: in a forked child, where those who delivered the letters do not exist."""
        self._boxes: dict[Subscription, Mailbox] = {}
        self._outstanding: dict[Letter, None] = {}
        self._serving: dict[threading.Thread, None] = {}

    def threads(self) -> list[threading.Thread]:
        """Return the executor's threads that run a handler of the bus at this moment."""
        return list(self._serving)

    def is_served_here(self) -> bool:
        """Tell whether this very thread runs a handler; waiting in it for another of the executor may never end."""
        return threading.current_thread() in self._serving

    @contextlib.contextmanager
    def at_work(self) -> Generator[None]:
        """Count this thread among those that run a handler."""
        if self.is_served_here():  # a handler that publishes, where the executor runs it at once
            yield
            return
        thread = threading.current_thread()
        self._serving[thread] = None
        try:
            yield
        finally:
            self._serving.pop(thread, None)

    def open_box(self, subscription: Subscription) -> None:
        """Give a subscriber a mailbox."""
        self._boxes[subscription] = Mailbox(
            self.executor, self._maxsize, self._on_full, handle=self._handle, drop=self._drop
        )

    def close_box(self, subscription: Subscription) -> None:
        """Take a removed subscriber's mailbox away; nobody waits for room in it, and what it holds is passed over."""
        self._boxes.pop(subscription).wake()

    def post(self, subscription: Subscription, message: Message) -> bool:
        """Put a message into a subscriber's mailbox; return False where that has been removed.

        Raises:
            Full: there is no room, and the policy is to refuse.
            WouldBlock: there is no room, and this thread must not wait for it.
            Closed: a stop came meanwhile, or the subscription was removed while there was no room.
        """
        box = self._boxes.get(subscription)
        if box is None:
            return False
        letter = Letter(subscription, message)
        self._outstanding[letter] = None
        try:
            if self._sender._token.is_set():
                raise self._sender._closed()
            box.post(letter, self._await_room)
        except (Full, WouldBlock, Closed):
            self._drop(letter)
            raise
        except BaseException:  # Ctrl-C while it waited
            self._settle(letter)
            raise
        return True

    def wake_posters(self) -> None:
        """Have everybody who waits for room look whether there is still a reason to. Callable from anywhere."""
        for box in list(self._boxes.values()):
            box.wake()

    def _await_room(self, box: Mailbox, letter: Letter) -> None:
        subscription, sender = letter.subscription, self._sender
        if self.is_served_here():
            raise WouldBlock("publish()", "a thread of the bus's executor", _ADVICE)
        if is_on_event_loop():
            raise WouldBlock("publish()", "an event loop's thread", _ADVICE)
        box.wait_for_room(sender._clock, lambda: sender._token.is_set() or not subscription.is_live())
        if sender._token.is_set():
            raise sender._closed()
        if not subscription.is_live():
            raise Closed("subscription", subscription.handler, "subscribe again")

    def _handle(self, letter: Letter) -> None:
        subscription, message = letter.subscription, letter.message
        function = subscription.claim()
        if function is not None:
            with self.at_work():
                try:
                    letter.context.run(function, message)
                except BaseException as error:  # the border of user code; even SystemExit must not end a worker
                    self._sender._on_failed(message.channel, subscription.handler, error)
                else:
                    self._sender._on_delivered()
        self._settle(letter)

    def _drop(self, letter: Letter) -> None:
        self._sender._on_dropped(letter.message.channel, letter.subscription.handler)
        self._settle(letter)

    def _settle(self, letter: Letter) -> None:
        self._outstanding.pop(letter, None)
        self._sender._on_settled()
