"""``Roster``: how handlers and hooks come into a queue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar, overload

from threadkit import _arguments
from threadkit._handlers import Handler, retry_of
from threadkit._quotas import By, PerKey, RateLike, checked_limits, parse_rate
from threadkit._waitlist import Waitlist
from threadkit.backoff import Retry
from threadkit.events import Event, HookFailed

F = TypeVar("F", bound=Callable[..., Any])
E = TypeVar("E", bound=Event)


class Roster(Waitlist):
    """The part of ``WorkQueue`` that takes handlers and hooks in."""

    @overload
    def handler(self, name: F, /) -> F: ...
    @overload
    def handler(
        self,
        name: str | None = None,
        *,
        retry: Retry | None = None,
        timeout: float | timedelta | None = None,
        concurrency: int | PerKey[int] | list[int | PerKey[int]] | None = None,
        rate: RateLike | PerKey[RateLike] | list[RateLike | PerKey[RateLike]] | None = None,
        serial_by: By | None = None,
    ) -> Callable[[F], F]: ...
    def handler(
        self,
        name: str | F | None = None,
        *,
        retry: Retry | None = None,
        timeout: float | timedelta | None = None,
        concurrency: int | PerKey[int] | list[int | PerKey[int]] | None = None,
        rate: RateLike | PerKey[RateLike] | list[RateLike | PerKey[RateLike]] | None = None,
        serial_by: By | None = None,
    ) -> F | Callable[[F], F]:
        """Have the decorated function do the jobs of its name; the function stays as it is.

        It is ``f(payload)`` or ``f(payload, ctx: JobContext)``, plain or ``async``. Use the decorator bare or with
        arguments. A job that a limit keeps from running holds no worker and stands in no other job's way.

        Args:
            name: what jobs are submitted by; None takes the function's name.
            retry: how its jobs are tried again; None is the queue's way.
            timeout: seconds that an attempt has. When they are over the attempt's token is set; a handler that raises
                or returns after that has failed with a ``TimeoutError``. A thread cannot be killed: where a handler
                never looks at its token and goes on beyond the queue's ``grace``, its thread is abandoned. It no longer
                counts in any limit, and the next attempt may run beside it.
            concurrency: how many of its jobs may run at once; ``PerKey(2, by)`` is as many of each key. A list of
                these means all of them.
            rate: how many may begin in a time: ``"10/s"``, ``"100/m"``, ``(count, seconds)``, or a number for each
                second; ``PerKey("10/s", by)`` is as many of each key. A list means all of them. The bucket is full at
                first, so as many as ``count`` may begin at once.
            serial_by: a function of the payload. Jobs for which it returns the same run one at a time, those of one
                priority in the order of their submits. A job that waits for its next attempt does not keep the others
                waiting, and goes behind those that wait when its time has come.

        The limits are those of this queue: other processes that share its file have their own.

        Raises:
            DuplicateName: there is a handler of that name.
            TypeError: the function cannot be called with a payload; or an argument is of the wrong kind.
            ValueError: an argument is out of range.
        """
        if callable(name):
            self._add_handler(_arguments.name_of(name, "handler"), name)
            return name
        if name is not None:
            _arguments.text(name, "name")

        def decorate(func: F) -> F:
            own_name = name if name is not None else _arguments.name_of(func, "handler")
            self._add_handler(
                own_name,
                func,
                retry=None if retry is None else retry_of(retry),
                timeout=_arguments.timeout(timeout),
                concurrency=checked_limits(concurrency, partial(_arguments.count, name="concurrency")),
                rate=checked_limits(rate, parse_rate),
                serial_by=None if serial_by is None else _arguments.function(serial_by, "serial_by"),
            )
            return func

        return decorate

    def declare(self, name: str) -> None:
        """Take jobs of this name in before there is a handler for it; they wait until there is.

        Raises:
            TypeError: it is no text.
            ValueError: it is empty.
        """
        self._handlers.declare(_arguments.text(name, "name"))

    def on(self, *kinds: type[E]) -> Callable[[Callable[[E], object]], Callable[[E], object]]:
        """Have the decorated function called with each event of these kinds; the function stays as it is.

        ``JobStarted`` is told just before a handler is called; ``JobCompleted``, ``JobRetried``, ``JobDied`` and
        ``JobEnded`` just after, when the record says so. The hook runs in the thread of the worker, in which
        ``current_job()`` is the job's context, under no lock; what the job cannot be asked there, ``get()`` tells. What
        no worker comes upon, such as an expiry, an attempt that is given up or a store that fails, is told one after
        the other by a thread of the queue's own. What a hook raises is logged, and told by a ``HookFailed``; it harms
        neither the job nor the worker.

        Args:
            *kinds: classes of ``threadkit.events``, with those that derive from them.

        Raises:
            TypeError: one of them is no event; or the function cannot be called.

        Example:
            >>> from threadkit import Retry, WorkQueue, events
            >>> with WorkQueue(workers=1, retry=Retry(1)) as queue:
            ...     @queue.on(events.JobDied)
            ...     def page(event):
            ...         print(f"{event.handler} died of {event.error!r}")
            ...     @queue.handler
            ...     def divide(payload):
            ...         return 1 / payload
            ...     job = queue.submit(divide, 0)
            divide died of ZeroDivisionError('division by zero')
        """
        given: tuple[object, ...] = kinds
        if not given or not all(isinstance(kind, type) and issubclass(kind, Event) for kind in given):
            raise TypeError(f"kinds must be classes of threadkit.events, not {kinds!r}")

        def decorate(func: Callable[[E], object]) -> Callable[[E], object]:
            hook = _arguments.name_of(_arguments.function(func, "hook"), repr(func))

            def call(event: Event) -> None:
                if isinstance(event, kinds):
                    try:
                        func(event)
                    except BaseException as error:  # the border of user code: even SystemExit must not end a worker
                        if isinstance(event, HookFailed):  # to tell of that would fail again
                            raise
                        self._emit(HookFailed(component=self.name, hook=hook, error=error))

            self._observers.add(call)
            return func

        return decorate

    def _add_handler(
        self,
        name: str,
        func: Callable[..., Any],
        *,
        retry: Retry | None = None,
        timeout: float | None = None,
        concurrency: Sequence[PerKey[int] | int] = (),
        rate: Sequence[PerKey[tuple[int, float]] | tuple[int, float]] = (),
        serial_by: By | None = None,
    ) -> None:
        def prepare(handler: Handler) -> None:
            handler.retry, handler.timeout = retry, timeout
            handler.concurrency, handler.rate, handler.serial_by = list(concurrency), list(rate), serial_by
            self._set_limits(handler)

        handler = self._handlers.define(name, func, prepare)
        self._serve()
        self._clear_shelf(handler)
        if self._shared is not None:
            self._bell.ring_all()  # its jobs may lie in the store
