"""``Bus``: how the parts of one process talk without knowing each other.

An *action* has one handler and a reply: ``call("status")``. A *channel* has any number of subscribers and no reply:
``publish("file.indexed", path)``. Handlers run in the caller's thread, or on an executor where one is given.
``publish`` and ``call`` take no lock, so a finalizer or a handler may use the bus that it interrupts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import timedelta
from typing import Any, ClassVar, TypeVar

from threadkit import _arguments, _fork
from threadkit._action import Action, Outcome, time_limit
from threadkit._calling import is_on_event_loop
from threadkit._clock import Clock, deadline_after
from threadkit._component import BaseComponent, ComponentState, Phase
from threadkit._delivery import BusStats, Delivery, all_well, with_problems
from threadkit._errors import CallTimeout, Closed, DuplicateName, UnknownHandler, WouldBlock
from threadkit._override import override
from threadkit._postoffice import OnFull, PostOffice
from threadkit._request import Request, deadline_here, new_request
from threadkit._subscription import Message, Subscription, Subscriptions
from threadkit._tally import Tally
from threadkit._timer import Timer
from threadkit.events import HandlerFailed, MessageDropped, MessageUnheard

F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S", bound=Callable[[Message], object])


class Bus(BaseComponent):
    """Actions with a reply, and channels with subscribers.

    It works from the moment it is made; ``start()`` puts it under a lifecycle's care. After ``stop()`` it takes nothing
    new. What waits in mailboxes is still delivered, and calls on the executor end, which ``join()`` waits for. What
    runs in a caller's own thread belongs to the caller.

    A ``KeyboardInterrupt`` in a handler that runs in the caller's thread is the program's Ctrl-C and goes through;
    anything else that a handler raises stays with it.

    Args:
        name: unique within a lifecycle.
        executor: where handlers run, any thread-based ``concurrent.futures.Executor``; None is in the caller's thread.
            Each subscriber then has a mailbox and gets its messages one after the other; who has many takes turns with
            the others. Messages that the executor refuses are delivered by the publisher's thread, unless that is an
            event loop's; what it cancels is dropped, with an event.
        maxsize: how many messages may wait for one subscriber; ``inf`` is no limit.
        on_full: what ``publish`` does with one more: ``"block"`` until there is room, ``"drop_oldest"``, or
            ``"reject"`` it. What runs on the executor, and an event loop's thread, must not block: for them a full
            mailbox is an error. Only ``"block"`` waits for room in a full ``BoundedExecutor``, too.
        clock: where time comes from; None inherits the lifecycle's, or the system's.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: an argument has a value that makes no sense.

    Example:
        >>> bus = Bus()
        >>> @bus.action("double")
        ... def double(request):
        ...     return 2 * request.payload
        >>> bus.call("double", 21)
        42
        >>> @bus.on("file.*")
        ... def show(message):
        ...     print(message.channel, message.payload)
        >>> bus.publish("file.indexed", "a.py")
        file.indexed a.py
        Delivery(reached=1, errors=(), failed=())
    """

    kind: ClassVar[str] = "bus"
    default_phase: ClassVar[int] = Phase.WORK

    def __init__(
        self,
        name: str = "bus",
        *,
        executor: Executor | None = None,
        maxsize: float = 1000,
        on_full: OnFull = "block",
        clock: Clock | None = None,
    ) -> None:
        if executor is not None and not isinstance(executor, Executor):
            raise TypeError(f"executor must be a concurrent.futures.Executor, not {executor!r}")
        _arguments.limit(maxsize, "maxsize")
        _arguments.choice(on_full, "on_full", ("block", "drop_oldest", "reject"))
        self._post = None if executor is None else PostOffice(executor, maxsize, on_full, self)
        self._actions: dict[str, Action] = {}
        self._subscriptions = Subscriptions()
        self._count_anew()
        self._generation = _fork.generation()
        super().__init__(name, clock)

    @override
    def _reset(self) -> None:
        if self._generation != _fork.generation():  # a thread that does not exist here may have held any lock
            self._count_anew()
            if self._post is not None:
                self._post.forget_all()
                for subscription in self._subscriptions.all():
                    self._post.open_box(subscription)
        super()._reset()
        self._timer = Timer(self._clock, f"{self.name}-timeouts")

    def _count_anew(self) -> None:
        self._calls, self._calls_failed = Tally(), Tally()
        self._published, self._delivered, self._failed, self._dropped = Tally(), Tally(), Tally(), Tally()

    # Actions

    def action(self, name: str) -> Callable[[F], F]:
        """Make the decorated function the handler of an action; the function itself is left as it is.

        Args:
            name: what ``call()`` calls it by.

        Returns:
            a decorator for ``f()`` or ``f(request: Request)``, plain or ``async``.

        Raises:
            TypeError: ``name`` is no string, or the function can be called neither way.
            ValueError: ``name`` is empty.
            DuplicateName: there is a handler of this name.
            Closed: the bus has been stopped.
        """
        _arguments.text(name, "name")

        def register(function: F) -> F:
            self._refuse_closed()
            action = Action(function)
            if self._actions.setdefault(name, action) is not action:
                raise DuplicateName("action", name)
            return function

        return register

    def call(self, name: str, payload: Any = None, *, timeout: float | timedelta | None = None) -> Any:
        """Have an action handled, and return what its handler returned.

        With an executor the handler runs there, with a copy of the caller's context. A call from one of the executor's
        own threads runs in that thread, so that handlers that call each other, be it on several buses, cannot fill it
        and wait for themselves. An ``async`` handler runs in an event loop of its own, which ends with it.

        Args:
            name: the action's name.
            payload: handed to the handler as ``request.payload``.
            timeout: seconds until ``request.deadline``. Only where the handler runs on the executor can it cut the wait
                short, be it for room in a full ``BoundedExecutor``. A call made by a handler inherits that one's
                deadline, if it is on the same clock and comes first.

        Raises:
            UnknownHandler: no action has this name.
            ActionError: the handler raised; that is the ``__cause__``. Or the executor did: it refused the call or lost
                it.
            CallTimeout: there was no reply in time.
            Full: the executor is a ``BoundedExecutor`` and full.
            WouldBlock: called on an event loop's thread, where there is an executor or an ``async`` handler to be
                waited for.
            Closed: the bus has been stopped, or its ``BoundedExecutor``.
            TypeError: ``timeout`` is no duration.
            ValueError: ``timeout`` is negative or ``nan``.
        """
        action, request, seconds = self._open(name, payload, timeout)
        post = self._post_to_use()
        if (post is not None or action.is_async) and is_on_event_loop():
            raise WouldBlock("call()", "an event loop's thread", "await acall()")
        # No name for the outcome: an error's traceback leads to this frame, which must not lead back to the error.
        if post is None:
            return self._noted(request, action.run(request, self._clock)).reply(request)
        return post.ask(action, request, seconds).reply(request)

    async def acall(self, name: str, payload: Any = None, *, timeout: float | timedelta | None = None) -> Any:
        """Have an action handled without blocking the event loop; see ``call()``.

        An ``async`` handler is awaited here, in the caller's task. A plain one runs on the executor, or here and now
        where there is none. The time-out, on the bus's clock, cuts every wait short.

        Raises:
            UnknownHandler: no action has this name.
            ActionError: the handler raised; that is the ``__cause__``. Or the executor did.
            CallTimeout: there was no reply in time.
            Full: the executor is a ``BoundedExecutor`` that rejects, and full.
            Closed: the bus has been stopped, or its ``BoundedExecutor``.
            TypeError: ``timeout`` is no duration.
            ValueError: ``timeout`` is negative or ``nan``.
        """
        action, request, seconds = self._open(name, payload, timeout)
        return (await self._await_outcome(action, request, seconds)).reply(request)

    async def _await_outcome(self, action: Action, request: Request, seconds: float) -> Outcome:
        post = self._post_to_use()
        if post is None and not action.is_async:
            return self._noted(request, action.run(request, self._clock))
        try:
            async with time_limit(self._timer, request.deadline):
                if post is None or action.is_async:
                    return self._noted(request, await action.arun(request, self._clock))
                return await post.aask(action, request)
        except TimeoutError as error:
            raise CallTimeout(f"action {request.action!r}", seconds) from error

    def _open(self, name: str, payload: Any, timeout: float | timedelta | None) -> tuple[Action, Request, float]:
        """Return what a call comes to: the action, the request, and how many seconds there are for it."""
        self._refuse_closed()
        seconds = _arguments.timeout(timeout)
        action = self._actions.get(_arguments.text(name, "name"))
        if action is None:
            raise UnknownHandler(name, list(self._actions))
        deadline = deadline_after(self._clock, seconds)
        inherited = deadline_here(self._clock)
        if inherited is not None and (deadline is None or inherited < deadline):
            deadline, seconds = inherited, max(0.0, inherited - self._clock.monotonic())
        self._calls.up()
        return action, new_request(name, payload, deadline), seconds or 0.0

    def _post_to_use(self) -> PostOffice | None:
        """Return the way to the executor, unless this thread works for it: to wait there may be to wait for itself."""
        return None if self._post is None or self._post.is_served_here() else self._post

    def _noted(self, request: Request, outcome: Outcome) -> Outcome:
        # Where the handler has run, not where its reply is taken: nobody may be left to take it.
        if outcome.error is not None:
            self._calls_failed.up()
            self._report(request.action, "the handler of the action", outcome.error)
        return outcome

    # Channels

    def on(self, channel: str, *, once: bool = False) -> Callable[[S], S]:
        """Make the decorated function a subscriber; the function itself is left as it is. See ``subscribe()``.

        Example:
            >>> bus = Bus()
            >>> @bus.on("order.**")
            ... def log(message):
            ...     print(message.channel)
            >>> bus.publish("order.line.added").reached
            order.line.added
            1
        """

        def register(function: S) -> S:
            self.subscribe(channel, function, once=once)
            return function

        return register

    def subscribe(self, channel: str, function: Callable[[Message], object], *, once: bool = False) -> Subscription:
        """Have ``function(message)`` called for what is published from now on. Each subscription is one of its own.

        Args:
            channel: names between dots; ``*`` stands for one name, ``**`` for any number of them, also none.
            function: a plain function, method or other callable, which the bus keeps alive.
            once: end the subscription with the first message.

        Returns:
            a handle with ``remove()``, which is also a context manager.

        Raises:
            TypeError: ``channel`` is no string; or ``function`` cannot be called with one argument, or is ``async``.
            ValueError: ``channel`` has an empty part, or a ``*`` beside other characters.
            Closed: the bus has been stopped.
        """
        self._refuse_closed()
        subscription = Subscription(channel, function, once=once, on_removed=self._forget)
        if self._post is not None:
            self._post.open_box(subscription)
        self._subscriptions.add(subscription)
        return subscription

    def publish(self, channel: str, payload: Any = None) -> Delivery:
        """Tell all subscribers of the channel. What one of them raises harms no other: it is in the answer.

        Callable from anywhere, also from a handler, a finalizer, or (but for ``"block"``) a signal handler.

        Args:
            channel: names between dots.
            payload: handed to the subscribers as ``message.payload``.

        Raises:
            TypeError: ``channel`` is no string.
            ValueError: ``channel`` has an empty part or a wildcard.
            Closed: the bus has been stopped.
        """
        if self._token.is_set() or self._generation != _fork.generation():  # asked once more only where it matters
            self._refuse_closed()
        listeners = self._subscriptions.listening_to(channel)
        self._published.up()
        message = Message(channel, payload)
        reached = 0
        problems: list[tuple[BaseException, str]] = []
        post, count_delivery = self._post, self._delivered.up
        for subscription in listeners:
            try:
                if post is not None:
                    reached += post.post(subscription, message)
                elif (function := subscription.claim()) is not None:
                    reached += 1
                    function(message)
                    count_delivery()
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # the border of user code: the next one still runs
                problems.append((error, subscription.handler))
                if post is None:
                    self._on_failed(channel, subscription.handler, error)
        if not problems:
            if not reached and self._observers.is_heard():
                self._emit(MessageUnheard(component=self.name, channel=channel, payload=payload))
            return all_well(reached)
        try:
            return with_problems(reached, problems)
        finally:
            problems.clear()  # the errors' tracebacks lead to this frame, which must not lead back to them

    def _forget(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)
        if self._post is not None:
            self._post.close_box(subscription)

    def _on_delivered(self) -> None:
        self._delivered.up()

    def _on_failed(self, channel: str, handler: str, error: BaseException) -> None:
        self._failed.up()
        self._report(channel, handler, error)

    def _on_dropped(self, channel: str, handler: str) -> None:
        self._dropped.up()
        self._emit(MessageDropped(component=self.name, channel=channel, handler=handler))

    def _on_settled(self) -> None:
        if self._token.is_set() and not self._post:
            self._end()

    def _report(self, channel: str, handler: str, error: BaseException) -> None:
        self._emit(HandlerFailed(component=self.name, channel=channel, handler=handler, error=error))

    # Life

    @override
    def _launch(self) -> None:
        self._token.on_stop(self._stop_came)

    @override
    def _on_stop_asked(self) -> None:
        if self._post is not None:
            self._post.wake_posters()

    def _stop_came(self) -> None:
        self._on_stop_asked()  # it may be a token above that was set
        self._on_settled()

    @override
    def _is_over(self) -> bool:
        # Before start() there may be letters already; nobody else waits for them where a stop comes first.
        was_stopped_early = self._state is ComponentState.NEW and self._token.is_set()
        return super()._is_over() and not (was_stopped_early and self._post)

    def _closed(self) -> Closed:
        return Closed(self.kind, self.name)

    def _refuse_closed(self) -> None:
        self._refuse_forked()
        if self._token.is_set():
            raise self._closed()

    @override
    def stats(self) -> BusStats:
        """Return figures about the bus."""
        return BusStats(
            actions=len(self._actions),
            subscriptions=len(self._subscriptions),
            calls=self._calls.value(),
            calls_failed=self._calls_failed.value(),
            published=self._published.value(),
            delivered=self._delivered.value(),
            failed=self._failed.value(),
            dropped=self._dropped.value(),
            waiting=self.work_left(),
        )

    @override
    def threads(self) -> list[threading.Thread]:
        """Return the executor's threads that run a handler of this bus at this moment."""
        return [] if self._post is None else self._post.threads()

    @override
    def work_left(self) -> int:
        """Return how many messages are in mailboxes or being handled by the executor."""
        return 0 if self._post is None else len(self._post)
