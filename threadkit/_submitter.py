"""``Submitter``: the ways into an executor, which are the same with and without ``options()``."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

from threadkit import _arguments
from threadkit._clock import deadline_after
from threadkit._future import Call
from threadkit._intake import Intake
from threadkit._lane import Terms
from threadkit._map import chunks_of, flat, results, run_chunk
from threadkit._override import override
from threadkit._stop import StopToken

P = ParamSpec("P")
T = TypeVar("T")


class Submitter(Executor, ABC):
    """The calling half of ``BoundedExecutor``, on the terms of ``options()`` or without any."""

    _terms = Terms()

    @abstractmethod
    def _ready(self) -> Intake:
        """Return where calls go in; start with the first one."""

    @abstractmethod
    async def _ready_on_loop(self) -> Intake:
        """Do the same for an event loop, which a start must not hold up."""

    @override
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have ``fn(*args, **kwargs)`` called, and return the future of its result.

        What happens where the executor is full says ``on_full``.

        Raises:
            Closed: the executor has been stopped.
            Full: it is full, and ``on_full`` is "reject".
            WouldBlock: it is full, and this is one of its own workers or an event loop's thread.
            TypeError: ``fn`` cannot be called.
            concurrent.futures.BrokenExecutor: it is broken for good.

        Example:
            >>> with BoundedExecutor() as executor:
            ...     executor.submit(divmod, 17, 5).result(timeout=5)
            (3, 2)
        """
        return self._ready().submit(fn, args, kwargs, self._terms)

    def try_submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Do as ``submit()``, but never wait, run the call here or drop another.

        Raises:
            Closed: the executor has been stopped.
            Full: it is full.
            TypeError: ``fn`` cannot be called.
            concurrent.futures.BrokenExecutor: it is broken for good.

        Example:
            >>> with BoundedExecutor() as executor:
            ...     executor.try_submit(len, "abc").result(timeout=5)
            3
        """
        return self._ready().try_submit(fn, args, kwargs, self._terms)

    async def acall(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``fn(*args, **kwargs)`` on the executor, and return its result. Nothing of it blocks the event loop.

        Where the executor is full it waits for room, also if ``on_full`` is "caller_runs". When the awaiting task is
        cancelled, so is a call that waits.

        Raises:
            Closed: the executor has been stopped.
            Full: it is full, and ``on_full`` is "reject".
            TypeError: ``fn`` cannot be called.
            concurrent.futures.BrokenExecutor: it is broken for good.
            concurrent.futures.CancelledError: the call was dropped, or cancelled by ``close()`` or ``shutdown()``.

        Example:
            >>> import asyncio
            >>> with BoundedExecutor() as executor:
            ...     asyncio.run(executor.acall(sum, [1, 2, 3]))
            6
        """
        intake = await self._ready_on_loop()
        result: T = await intake.acall(fn, args, kwargs, self._terms)
        return result

    def options(
        self,
        *,
        timeout: float | timedelta | None = None,
        idempotent: bool = False,
        token: StopToken | None = None,
    ) -> Submitter:
        """Return the executor on terms of its own: what is submitted, called or mapped through it is treated specially.

        Args:
            timeout: seconds from ``submit()`` on. Where there was no room until then, ``submit()`` raises ``Full``. A
                call that waits then is never run; one that runs goes on and keeps its worker, since a thread cannot be
                stopped from outside. Either way its future fails with ``CallTimeout``.
            idempotent: it does no harm to run the call twice: where the inner executor breaks under it, it is submitted
                once more instead of failing.
            token: where it is set, a call that waits is cancelled. One that runs goes on; pass it the token, too.

        Raises:
            TypeError: an argument is of the wrong kind.
            ValueError: ``timeout`` is negative or ``nan``.

        Example:
            >>> with BoundedExecutor() as executor:
            ...     executor.options(timeout=5).submit(max, 3, 7).result()
            7
        """
        if not isinstance(idempotent, bool):
            raise TypeError(f"idempotent must be True or False, not {idempotent!r}")
        if token is not None and not isinstance(token, StopToken):
            raise TypeError(f"token must be a StopToken, not {token!r}")
        return _OnTerms(self, Terms(_arguments.timeout(timeout), idempotent, token))

    @override
    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | timedelta | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Call ``fn`` with the first of each iterable, the second of each and so on, and yield the results in order.

        Args:
            fn: called with one argument from each iterable.
            *iterables: read at once, or as far as ``buffersize`` goes.
            timeout: seconds from now until the last result.
            chunksize: how many sets of arguments make one call of the executor; more is faster where each takes little
                time.
            buffersize: how many calls are submitted ahead of the results that were taken; None is all. With it the
                iterables may be endless.

        Raises:
            TimeoutError: by the iterator, or where there was no room by then by ``map()`` itself: the time was over
                first. What waits is cancelled.
            TypeError: an argument is of the wrong kind.
            ValueError: ``timeout`` is negative or ``nan``, ``chunksize`` or ``buffersize`` below 1.

        Example:
            >>> import itertools
            >>> with BoundedExecutor() as executor:
            ...     squares = executor.map(pow, itertools.count(), itertools.repeat(2), buffersize=8)
            ...     list(itertools.islice(squares, 5))
            [0, 1, 4, 9, 16]
        """
        _arguments.function(fn, "fn")
        _arguments.count(chunksize, "chunksize")
        if buffersize is not None:
            _arguments.count(buffersize, "buffersize")
        seconds = _arguments.timeout(timeout)
        deadline = deadline_after(self._ready().clock, seconds)
        items = zip(*iterables, strict=False)

        def submit(fn: Callable[..., Any], args: tuple[Any, ...]) -> Call[Any]:
            return self._ready().submit_until(fn, args, self._terms, deadline)

        if chunksize == 1:
            return results(functools.partial(submit, fn), items, buffersize, deadline)
        chunks = chunks_of(items, chunksize)
        return flat(results(lambda chunk: submit(run_chunk, (fn, chunk)), chunks, buffersize, deadline))


class _OnTerms(Submitter):
    """What ``options()`` returns. It starts and stops nothing: that is the executor's."""

    def __init__(self, executor: Submitter, terms: Terms) -> None:
        self._executor = executor
        self._terms = terms

    @override
    def _ready(self) -> Intake:
        return self._executor._ready()

    @override
    async def _ready_on_loop(self) -> Intake:
        return await self._executor._ready_on_loop()
