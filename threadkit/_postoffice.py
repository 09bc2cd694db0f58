"""``PostOffice``: the half of a bus that works on an executor.

It has a mailbox for each subscriber, and runs the handlers of actions. Nothing here takes a lock that anybody waits
for, because ``publish`` may be called by a finalizer that strikes inside ``publish``. Each step is a single operation
on a ``dict`` or a one-element ``list``, which is atomic with and without the GIL (see ``_waiting.py``).
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Executor, Future
from typing import Literal, ParamSpec, Protocol, TypeVar, runtime_checkable

from threadkit._action import Action, Outcome, given_up, is_cancelled, outcome_in
from threadkit._calling import is_ctrl_c, is_on_event_loop
from threadkit._clock import Clock
from threadkit._errors import ActionError, CallTimeout, Closed, ForkedError, Full, WouldBlock
from threadkit._mailbox import Mailbox, Turn
from threadkit._request import Request, context_to_go
from threadkit._stop import StopToken
from threadkit._subscription import Message, Subscription
from threadkit._timer import Timer
from threadkit._waiting import Waiters

P = ParamSpec("P")
T = TypeVar("T")
OnFull = Literal["block", "drop_oldest", "reject"]
_ADVICE = "a larger maxsize, or another on_full,"
# What an executor of ours refuses a call with says all there is to say. What another one raises becomes an ActionError.
_REFUSALS = (Closed, ForkedError, Full, WouldBlock)


class Letter:
    """A message on its way to one subscriber, with the context that it was published in."""

    __slots__ = ("context", "message", "subscription")

    def __init__(self, subscription: Subscription, message: Message) -> None:
        self.subscription = subscription
        self.message = message
        self.context = context_to_go()


class Errand:
    """A request on its way to its handler, with the context that it was made in. Calling it runs the handler."""

    __slots__ = ("_context", "_office", "_slot", "request")

    def __init__(self, office: PostOffice, action: Action, request: Request) -> None:
        self._office = office
        self._slot = [action]  # whoever pops it settles the matter: who runs it, or who gives it up
        self._context = contextvars.copy_context()
        self.request = request

    def __call__(self) -> Outcome:
        try:
            action = self._slot.pop()
        except IndexError:  # an executor may run what it was told to cancel
            return Outcome(error=CancelledError())
        try:
            return self._context.run(self._office.run, action, self.request)
        finally:
            self._office.settle(self)

    def give_up(self) -> None:
        """See to it that it does not begin any more. Once it has begun it goes on."""
        with contextlib.suppress(IndexError):
            self._slot.pop()
            self._office.settle(self)


class Sender(Protocol):
    """What a post office needs of the bus it works for. None of the ``_on_...`` may raise."""

    _clock: Clock
    _timer: Timer
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

    def _noted(self, request: Request, outcome: Outcome) -> Outcome:
        """Return what a handler came to, once it is counted and told of. MUST NOT raise."""
        ...

    def _on_settled(self) -> None:
        """One piece of work less is outstanding."""
        ...


class PostOffice:
    """Has messages delivered, and requests handled, on an executor.

    Invariant: a letter or errand is in ``_outstanding`` from before the executor may know of it until it has been
        handled or given up. Who enters one then looks whether the bus is closed; a stop closes the bus and then looks
        what is outstanding. So nothing is handled after the end.

    Args:
        executor: what everything runs on.
        maxsize: how many letters wait for one subscriber at most.
        on_full: what is done with one more.
        sender: the bus.
    """

    __slots__ = ("_bounded", "_boxes", "_executor", "_maxsize", "_on_full", "_outstanding", "_sender", "_serving")

    def __init__(self, executor: Executor, maxsize: float, on_full: OnFull, sender: Sender) -> None:
        self._executor = executor
        self._bounded = executor if isinstance(executor, _Bounded) else None
        self._maxsize = maxsize
        self._on_full: OnFull = on_full
        self._sender = sender
        self.forget_all()

    def __len__(self) -> int:
        """Return how many messages and calls wait or are being handled."""
        return len(self._outstanding)

    @property
    def clock(self) -> Clock:
        """The bus's clock."""
        return self._sender._clock

    def forget_all(self) -> None:
        """Begin anew: in a forked child, where those who did the work do not exist."""
        self._boxes: dict[Subscription, Mailbox[Letter]] = {}
        self._outstanding: dict[Letter | Errand, None] = {}
        self._serving: dict[threading.Thread, None] = {}

    def threads(self) -> list[threading.Thread]:
        """Return the executor's threads that run a handler of the bus at this moment."""
        return list(self._serving)

    def is_served_here(self) -> bool:
        """Tell whether this very thread works for the executor; waiting in it for another of them may never end."""
        if any(executor is self._executor for executor in _here.executors):
            return True
        return isinstance(self._executor, _Staffed) and threading.current_thread() in self._executor.threads()

    @contextlib.contextmanager
    def at_work(self) -> Generator[None]:
        """Count this thread among those that work for the executor, and that run a handler of the bus."""
        before, _here.executors = _here.executors, (*_here.executors, self._executor)
        thread = threading.current_thread()
        is_nested = thread in self._serving  # nobody but the thread itself enters it, or takes it out
        self._serving[thread] = None
        try:
            yield
        finally:
            _here.executors = before
            if not is_nested:
                self._serving.pop(thread, None)

    # Messages

    def open_box(self, subscription: Subscription) -> None:
        """Give a subscriber a mailbox."""
        self._boxes[subscription] = Mailbox(self, self._maxsize, trims=self._on_full == "drop_oldest")

    def close_box(self, subscription: Subscription) -> None:
        """Take a removed subscriber's mailbox away; nobody waits for room in it, and what it holds is passed over."""
        self._boxes.pop(subscription).wake()

    def wake_posters(self) -> None:
        """Have everybody who waits for room look whether there is still a reason to. Callable from anywhere."""
        for box in list(self._boxes.values()):
            box.wake()

    def post(self, subscription: Subscription, message: Message) -> bool:
        """Put a message into a subscriber's mailbox; return False where that has been removed.

        Raises:
            Full: there is no room, and the policy is to refuse.
            WouldBlock: there is no room, and this thread must not wait for it.
            Closed: a stop came meanwhile.
            Exception: on an event loop's thread: why the executor did not take it.
            KeyboardInterrupt: Ctrl-C.
        """
        box = self._boxes.get(subscription)
        if box is None:
            return False
        letter = Letter(subscription, message)
        try:
            self._enter(letter)
            while not box.reserve():
                self._make_room(box, subscription)
                if not subscription.is_live():
                    self.settle(letter)
                    return False
        except BaseException:
            self.drop(letter)
            raise
        box.put(letter)  # which answers for it from here on
        return True

    def _make_room(self, box: Mailbox[Letter], subscription: Subscription) -> None:
        sender = self._sender
        if self._on_full == "reject":
            raise Full("subscription", subscription.handler, self._maxsize)
        if self.is_served_here():
            raise WouldBlock("publish()", "a thread of the bus's executor", _ADVICE)
        if is_on_event_loop():
            raise WouldBlock("publish()", "an event loop's thread", _ADVICE)
        box.wait_for_room(lambda: sender._token.is_set() or not subscription.is_live())
        if sender._token.is_set():
            raise sender._closed()

    def submit(self, take: Callable[[Turn], None], turn: Turn) -> Future[None]:
        """Have the executor call ``take(turn)``. Only under "block" it is waited for where it has no room.

        Raises:
            Exception: it does not take it.
        """
        if self._bounded is None or self._on_full == "block":
            return self._executor.submit(take, turn)
        return self._bounded.try_submit(take, turn)

    def handle(self, letter: Letter) -> None:
        """Call the subscriber.

        Raises:
            KeyboardInterrupt: the program's Ctrl-C. Everything else is told to the bus.
        """
        subscription, message = letter.subscription, letter.message
        try:
            function = subscription.claim()
            if function is not None:
                with self.at_work():
                    letter.context.run(function, message)
                self._sender._on_delivered()
        except BaseException as error:  # the border of user code; even SystemExit must not end a worker
            if is_ctrl_c(error):
                raise
            self._sender._on_failed(message.channel, subscription.handler, error)
        finally:
            self.settle(letter)

    def drop(self, letter: Letter) -> None:
        """Say that a message will not reach its subscriber."""
        letter.subscription.count_drop()
        self._sender._on_dropped(letter.message.channel, letter.subscription.handler)
        self.settle(letter)

    # Requests

    def ask(self, action: Action, request: Request, seconds: float) -> Outcome:
        """Have a request handled, and wait for it.

        Raises:
            CallTimeout: there was no outcome before the deadline, which leaves it so many seconds.
            ActionError: the executor failed, not the handler.
            Closed: a stop came meanwhile, or the executor has been stopped.
            ForkedError: the executor belongs to the parent process.
            Full: the executor is full.
            WouldBlock: the executor is full, and this thread must not wait for it.
            KeyboardInterrupt: Ctrl-C.
        """
        errand = Errand(self, action, request)
        future: Future[Outcome] | None = None
        try:
            self._enter(errand)
            future = self._place(errand, seconds)
            waiters = Waiters()
            future.add_done_callback(lambda _: waiters.wake_all())
            if not waiters.wait(self.clock, future.done, request.deadline):
                raise CallTimeout(f"action {request.action!r}", seconds)
            return outcome_in(future, request)
        except (*_REFUSALS, ActionError, CallTimeout):
            raise
        except Exception as error:
            raise given_up(request, error) from error
        finally:
            errand.give_up()
            if future is not None:
                future.cancel()

    def _place(self, errand: Errand, seconds: float) -> Future[Outcome]:
        """Hand an errand to the executor, and wait for room there no longer than for the reply.

        Raises:
            CallTimeout: there was none before the deadline, which leaves it so many seconds.
            Exception: the executor does not take it.
        """
        executor, deadline = self._bounded, errand.request.deadline
        if executor is None or deadline is None:
            return self._executor.submit(errand)
        with contextlib.suppress(Full):
            return executor.try_submit(errand)  # where there is room, nobody has to watch the clock
        timer, patience = self._sender._timer, StopToken(clock=self.clock)
        entry = timer.at(deadline, lambda _: patience.set())
        try:
            future = executor.options(token=patience).submit(errand)
        finally:
            in_time = timer.cancel(entry)
        if not in_time and (not future.done() or future.cancelled()):  # if it was taken all the same, it may go on
            raise CallTimeout(f"action {errand.request.action!r}", seconds)
        return future

    async def aask(self, action: Action, request: Request) -> Outcome:
        """Have a request handled, and wait for it without blocking the event loop; see ``ask()``.

        Raises:
            CancelledError: the task that awaits is itself cancelled.
        """
        import asyncio

        errand = Errand(self, action, request)
        try:
            self._enter(errand)
            if self._bounded is not None:  # it waits for a free place without blocking the loop
                return await self._bounded.acall(errand)
            return await asyncio.wrap_future(self._executor.submit(errand))
        except _REFUSALS:
            raise
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and is_cancelled():
                raise
            raise given_up(request, error) from error
        finally:
            errand.give_up()

    def run(self, action: Action, request: Request) -> Outcome:
        """Run a handler in this thread, which is the executor's.

        Raises:
            KeyboardInterrupt: the program's Ctrl-C.
        """
        with self.at_work():
            return self._sender._noted(request, self._try(action, request))

    def _try(self, action: Action, request: Request) -> Outcome:
        try:
            return action.run(request, self.clock)
        except KeyboardInterrupt as error:
            if is_ctrl_c(error):
                raise
            return Outcome(error=error)

    # What is outstanding

    def _enter(self, work: Letter | Errand) -> None:
        self._outstanding[work] = None
        if self._sender._token.is_set():
            raise self._sender._closed()

    def settle(self, work: Letter | Errand) -> None:
        """Forget what has been dealt with."""
        self._outstanding.pop(work, None)
        self._sender._on_settled()


class _Here(threading.local):
    """What this thread is doing at this moment."""

    executors: tuple[Executor, ...] = ()  # whose work it does; several buses may share one


_here = _Here()


@runtime_checkable
class _Staffed(Protocol):
    """An executor that knows its threads, as ours does."""

    def threads(self) -> list[threading.Thread]: ...


@runtime_checkable
class _Bounded(Protocol):
    """An executor that may be full, as ours, and that need not be waited for in a thread then."""

    def try_submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]: ...
    async def acall(self, fn: Callable[[], T], /) -> T: ...
    def options(self, *, token: StopToken) -> Executor: ...
