"""``EventLoopThread``: an asyncio loop on a thread of its own, for programs that are not asynchronous themselves.

The loop's thread waits in a selector, not at a gate, so it is the machine's clock that starts it: a virtual clock must
not wait for it to park.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from threadkit._clock import SYSTEM_CLOCK, Clock
from threadkit._component import BaseComponent, Phase
from threadkit._coroutines import Loop
from threadkit._errors import Closed
from threadkit._override import override
from threadkit._waiting import Waiters

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


class EventLoopThread(BaseComponent, Loop):
    """An asyncio event loop that runs on a thread of its own.

    Give it as ``loop=`` to a ``ManagedThread``, an ``IntervalTask`` or a ``WorkQueue`` with async functions, or give
    coroutines to ``submit()``.

    A stop cancels what runs on the loop, and goes on until all of it has ended; then asynchronous generators and the
    loop's default executor are closed. A coroutine that does not heed its cancellation keeps the loop from stopping,
    and is what the shutdown report shows.

    Args:
        name: unique within a lifecycle; also the thread's name.
        clock: what ``join()`` waits on; None inherits the lifecycle's, or the system's. The loop itself follows the
            machine's clock.

    Raises:
        TypeError: ``name`` is no string.
        ValueError: ``name`` is empty.

    Example:
        >>> async def double(number):
        ...     return 2 * number
        >>> with EventLoopThread() as loop:
        ...     loop.submit(double(21)).result(timeout=10)
        42
    """

    kind: ClassVar[str] = "loop"
    default_phase: ClassVar[int] = Phase.ENGINES

    def __init__(self, name: str = "loop", *, clock: Clock | None = None) -> None:
        super().__init__(name, clock)

    @override
    def _reset(self) -> None:
        super()._reset()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        # Those who are inside submit(). One enters and then looks at the token; the loop sees the token set and then
        # waits until nobody is inside. So whatever is submitted at all is there to be cancelled.
        self._inside: dict[object, None] = {}
        self._doorway = Waiters()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop; closed once the component has ended.

        Raises:
            RuntimeError: ``start()`` has not been called yet.
            ForkedError: it belongs to the parent process.
        """
        self._refuse_forked()
        if self._loop is None:
            raise RuntimeError(f"loop {self.name!r} has not been started; call start() first")
        return self._loop

    @override
    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Have a coroutine run on the loop, in a copy of the caller's context. Callable from any thread.

        On the loop's own thread do not wait for the future, or the loop waits for itself: await the coroutine instead.

        Args:
            coroutine: what calling an ``async def`` function gives. Where it is refused it is closed.

        Returns:
            a future of its result; cancelling it cancels the coroutine.

        Raises:
            TypeError: it is no coroutine.
            RuntimeError: ``start()`` has not been called yet.
            Closed: the loop has been stopped.
            ForkedError: the loop belongs to the parent process.
        """
        if not inspect.iscoroutine(coroutine):
            raise TypeError(f"coroutine must be what an async function returns, not {coroutine!r}")
        import asyncio

        me = object()
        self._inside[me] = None
        try:
            if self._token.is_set():
                raise Closed(self.kind, self.name)
            return asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        except BaseException:
            coroutine.close()  # or Python would warn that it was never awaited
            raise
        finally:
            self._inside.pop(me, None)
            self._doorway.wake_all()

    @override
    def threads(self) -> list[threading.Thread]:
        """Return the loop's thread."""
        thread = self._thread
        return [] if thread is None or self._over else [thread]

    @override
    def work_left(self) -> int:
        """Return how many tasks are on the loop."""
        import asyncio

        loop = self._loop
        return 0 if loop is None or loop.is_closed() else len(asyncio.all_tasks(loop))

    @override
    def _launch(self) -> None:
        import asyncio

        # Made here and not on the thread: what goes wrong is raised by start(), and what is submitted next finds it.
        loop = self._loop = asyncio.new_event_loop()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(loop.stop)

        hook = self._token.on_stop(wake)
        try:
            self._thread = SYSTEM_CLOCK.spawn(lambda: self._serve(loop), self.name)
        except BaseException:
            hook.remove()
            loop.close()
            raise

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            # asyncio lets two errors of a task out of the loop, and forgets a loop.stop() with them. The task's future
            # has the error; everybody else goes on.
            while not self._token.is_set():
                with contextlib.suppress(SystemExit, KeyboardInterrupt):
                    loop.run_forever()
                    self._token.set("its asyncio loop was stopped")  # by wake(), or by somebody else
            clean_up = loop.create_task(self._clean_up(loop))
            while not clean_up.done():
                with contextlib.suppress(SystemExit, KeyboardInterrupt, RuntimeError):  # the last is a late loop.stop()
                    loop.run_until_complete(clean_up)
            clean_up.result()
        except BaseException as error:
            loop.close()
            self._die(error)
        else:
            loop.close()
            self._end()

    async def _clean_up(self, loop: asyncio.AbstractEventLoop) -> None:
        import asyncio

        while not self._doorway.wait(SYSTEM_CLOCK, lambda: not self._inside, None):
            pass  # woken by one of several
        await asyncio.sleep(0)  # what was submitted last becomes a task
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        await loop.shutdown_asyncgens()
        with contextlib.suppress(RuntimeError):  # it takes a thread, and at interpreter exit there is none to be had
            await loop.shutdown_default_executor()
