"""``EventLoopThread``: coroutines in, futures out, and an end that leaves nothing behind."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import threading
import warnings
from collections.abc import AsyncIterator, Iterator

import pytest
from helpers import PATIENCE, Background, Gate

from threadkit import Closed, ComponentState, EventLoopThread, ForkedError, Phase, StopToken, _fork
from threadkit._waiting import Waiters
from threadkit.testing import VirtualClock


@pytest.fixture
def loop() -> Iterator[EventLoopThread]:
    component = EventLoopThread("loop")
    component.start()
    yield component
    component.stop()
    assert component.join(PATIENCE)


async def double(number: int) -> int:
    return 2 * number


async def wait_for_ever(begun: Gate | None = None) -> None:
    if begun is not None:
        begun.open()
    await asyncio.Event().wait()


def test_result(loop: EventLoopThread) -> None:
    """What a coroutine returns is in the future that submit() returned."""
    assert loop.submit(double(21)).result(PATIENCE) == 42


def test_error(loop: EventLoopThread) -> None:
    """What a coroutine raises is in its future."""

    async def fail() -> None:
        raise LookupError("nothing here")

    with pytest.raises(LookupError, match="nothing here"):
        loop.submit(fail()).result(PATIENCE)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_errors_that_end_programs_do_not_end_the_loop(loop: EventLoopThread, kind: type[BaseException]) -> None:
    """SystemExit and its like reach their future, and the loop goes on."""

    async def fail() -> None:
        raise kind

    with pytest.raises(kind):
        loop.submit(fail()).result(PATIENCE)
    assert loop.submit(double(1)).result(PATIENCE) == 2
    assert loop.state is ComponentState.RUNNING


def test_cancelled_error(loop: EventLoopThread) -> None:
    """A coroutine that raises CancelledError leaves a cancelled future."""

    async def fail() -> None:
        raise asyncio.CancelledError

    with pytest.raises(concurrent.futures.CancelledError):
        loop.submit(fail()).result(PATIENCE)


def test_cancelling_the_future_cancels_the_coroutine(loop: EventLoopThread) -> None:
    """Cancelling the future raises CancelledError inside the coroutine."""
    begun, cancelled = Gate(), Gate()

    async def work() -> None:
        try:
            await wait_for_ever(begun)
        except asyncio.CancelledError:
            cancelled.open()
            raise

    future = loop.submit(work())
    begun.pass_through()
    assert future.cancel()
    cancelled.pass_through()


def test_runs_on_a_thread_of_its_own(loop: EventLoopThread) -> None:
    """A coroutine runs on the one thread of the component, which has the component's name."""

    async def where() -> threading.Thread:
        return threading.current_thread()

    thread = loop.submit(where()).result(PATIENCE)
    assert loop.threads() == [thread]
    assert thread.name == "loop"
    assert thread.daemon


def test_submit_from_its_own_thread(loop: EventLoopThread) -> None:
    """A coroutine may submit another one to its own loop."""
    inner: list[concurrent.futures.Future[int]] = []

    async def outer() -> int:
        inner.append(loop.submit(double(2)))
        return await asyncio.wrap_future(inner[0])

    assert loop.submit(outer()).result(PATIENCE) == 4


def test_context_is_the_callers(loop: EventLoopThread) -> None:
    """A coroutine sees the context variables of whoever submitted it."""
    variable = contextvars.ContextVar("variable", default="none")

    async def read() -> str:
        return variable.get()

    variable.set("mine")
    assert loop.submit(read()).result(PATIENCE) == "mine"


def test_loop_is_the_loop(loop: EventLoopThread) -> None:
    """The attribute ``loop`` is the asyncio loop that coroutines run on."""

    async def which() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    assert loop.submit(which()).result(PATIENCE) is loop.loop


@pytest.mark.parametrize("wrong", [double, None, 7, "double"])
def test_submit_takes_coroutines_only(loop: EventLoopThread, wrong: object) -> None:
    """What is no coroutine is refused, by an error that shows it."""
    with pytest.raises(TypeError, match="coroutine must be"):
        loop.submit(wrong)  # type: ignore[arg-type]  # that is the point


def test_submit_before_start_is_refused_without_a_warning() -> None:
    """Before start() a coroutine is refused and closed, so that Python does not warn about it."""
    component = EventLoopThread("early")
    with pytest.raises(RuntimeError, match="call start"), warnings.catch_warnings():
        warnings.simplefilter("error")
        component.submit(double(1))
    gc.collect()
    assert component.threads() == []
    assert component.work_left() == 0


def test_submit_after_stop_is_refused_without_a_warning() -> None:
    """After stop() a coroutine is refused with Closed and closed, so that Python does not warn about it."""
    component = EventLoopThread("late")
    with component:
        pass
    coroutine = double(1)
    with pytest.raises(Closed, match="late"):
        component.submit(coroutine)
    assert coroutine.cr_frame is None  # that is: closed
    assert component.loop.is_closed()


def test_stop_cancels_what_runs_and_gives_it_time(loop: EventLoopThread) -> None:
    """A stop cancels each coroutine, and the loop goes on until they have cleaned up."""
    begun = Gate()
    steps: list[str] = []

    async def work() -> None:
        try:
            await wait_for_ever(begun)
        finally:
            await asyncio.sleep(0)
            steps.append("cleaned up")

    future = loop.submit(work())
    begun.pass_through()
    loop.stop()
    assert loop.join(PATIENCE)
    assert steps == ["cleaned up"]
    assert future.cancelled()
    assert loop.state is ComponentState.STOPPED
    assert loop.threads() == []
    assert loop.work_left() == 0


def test_tasks_made_by_what_is_cancelled_are_cancelled_too(loop: EventLoopThread) -> None:
    """A task that begins while another one is being cancelled is cancelled in its turn."""
    begun = Gate()
    late: list[asyncio.Task[None]] = []

    async def work() -> None:
        try:
            await wait_for_ever(begun)
        finally:
            late.append(asyncio.ensure_future(wait_for_ever()))

    loop.submit(work())
    begun.pass_through()
    loop.stop()
    assert loop.join(PATIENCE)
    assert late[0].cancelled()


def test_who_does_not_heed_its_cancellation_is_waited_for(loop: EventLoopThread) -> None:
    """A coroutine that goes on after its cancellation keeps the loop from stopping, and counts as work left."""
    begun, caught, may_end = Gate(), Gate(), Gate()
    finish: list[asyncio.Event] = []

    async def work() -> None:
        finish.append(asyncio.Event())
        try:
            await wait_for_ever(begun)
        except asyncio.CancelledError:
            caught.open()
            await finish[0].wait()
            may_end.open()

    loop.submit(work())
    begun.pass_through()
    loop.stop()
    caught.pass_through()
    assert not loop.join(0)
    assert loop.work_left() == 2  # the coroutine, and the clean-up that waits for it
    assert loop.state is ComponentState.STOPPING
    loop.loop.call_soon_threadsafe(finish[0].set)
    assert loop.join(PATIENCE)
    assert may_end.is_open()


def test_asynchronous_generators_are_closed(loop: EventLoopThread) -> None:
    """A generator that was left half-way is closed by the stop."""
    closed = Gate()

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.open()

    generator = numbers()

    async def begin() -> int:
        return await anext(generator)

    assert loop.submit(begin()).result(PATIENCE) == 1
    loop.stop()
    assert loop.join(PATIENCE)
    assert closed.is_open()


def test_default_executor_is_closed(loop: EventLoopThread) -> None:
    """The threads of the loop's default executor end with it."""

    async def elsewhere() -> threading.Thread:
        return await asyncio.to_thread(threading.current_thread)

    thread = loop.submit(elsewhere()).result(PATIENCE)
    loop.stop()
    assert loop.join(PATIENCE)
    assert not thread.is_alive()


def test_no_thread_for_the_default_executor(loop: EventLoopThread, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be had to close the default executor, as at interpreter exit, the loop ends all the same."""

    async def refuse() -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(loop.loop, "shutdown_default_executor", refuse)
    loop.stop()
    assert loop.join(PATIENCE)
    assert loop.state is ComponentState.STOPPED


def test_join_on_its_own_thread(loop: EventLoopThread) -> None:
    """join() on the loop's own thread returns False at once instead of waiting for itself."""

    async def ask() -> bool:
        return loop.join()

    assert loop.submit(ask()).result(PATIENCE) is False


def test_asyncio_stop_is_a_stop(loop: EventLoopThread) -> None:
    """Calling stop() on the asyncio loop stops the component, cleanly."""
    begun = Gate()
    future = loop.submit(wait_for_ever(begun))
    begun.pass_through()
    loop.loop.call_soon_threadsafe(loop.loop.stop)
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(PATIENCE)
    assert loop.join(PATIENCE)
    assert loop.state is ComponentState.STOPPED


def test_asyncio_stop_during_the_clean_up(loop: EventLoopThread) -> None:
    """Calling stop() on the asyncio loop while it cleans up does not cut the clean-up short."""
    begun = Gate()

    async def work() -> None:
        try:
            await wait_for_ever(begun)
        finally:
            loop.loop.stop()
            await asyncio.sleep(0)

    future = loop.submit(work())
    begun.pass_through()
    loop.stop()
    assert loop.join(PATIENCE)
    assert future.cancelled()
    assert loop.state is ComponentState.STOPPED


def test_broken_loop_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that breaks leaves a failed component, and whoever answers for it is told."""
    told: list[BaseException] = []
    component = EventLoopThread("broken")
    component.failed = told.append
    error = OSError("the selector is gone")

    def break_down(self: object) -> None:
        raise error

    monkeypatch.setattr(asyncio.BaseEventLoop, "run_forever", break_down)
    component.start()
    assert component.join(PATIENCE)
    assert component.state is ComponentState.FAILED
    assert component.failure is error
    assert told == [error]
    assert component.loop.is_closed()


def test_no_thread_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be had start() raises, the asyncio loop is closed, and no hook stays on the token."""
    component = EventLoopThread("poor")

    def refuse(*_: object) -> threading.Thread:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threadkit._loop.SYSTEM_CLOCK.spawn", refuse, raising=False)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        component.start()
    assert component.loop.is_closed()
    assert component.state is ComponentState.FAILED
    component.stop()


def test_stop_of_a_token_above_stops_the_loop() -> None:
    """A loop that was adopted stops when its host's token is set, without a stop() of its own."""
    component = EventLoopThread("adopted")
    host = StopToken("host")
    component.adopt(VirtualClock(), host)
    component.start()
    host.set("closing time")
    assert Background(component.join).result()
    assert component.state is ComponentState.STOPPED


def test_virtual_clock_does_not_wait_for_the_loop() -> None:
    """A virtual clock advances although the loop's thread waits in its selector, and join() waits on that clock."""
    clock = VirtualClock()
    with EventLoopThread("loop", clock=clock) as component:
        begun = Gate()
        component.submit(wait_for_ever(begun))
        begun.pass_through()
        clock.advance(3600)
    assert component.state is ComponentState.STOPPED


def test_belongs_to_its_process(monkeypatch: pytest.MonkeyPatch, loop: EventLoopThread) -> None:
    """In a forked child the loop refuses work, and closes the coroutine."""
    with monkeypatch.context() as child:
        child.setattr(_fork, "_generation", _fork.generation() + 1)
        coroutine = double(1)
        with pytest.raises(ForkedError):
            loop.submit(coroutine)
        with pytest.raises(ForkedError):
            _ = loop.loop
    assert coroutine.cr_frame is None


def test_submitted_while_it_stops() -> None:
    """Of coroutines that are submitted while the loop stops each is refused or ends with a settled future."""
    for _ in range(20):
        component = EventLoopThread("busy")
        component.start()
        futures: list[concurrent.futures.Future[int]] = []

        def submit_many(
            component: EventLoopThread = component, futures: list[concurrent.futures.Future[int]] = futures
        ) -> None:
            while True:
                try:
                    futures.append(component.submit(double(1)))
                except Closed:
                    return

        background = Background(submit_many)
        component.stop()
        background.result()
        assert component.join(PATIENCE)
        assert all(future.done() for future in futures)


def test_stop_waits_for_everybody_who_is_about_to_submit(loop: EventLoopThread) -> None:
    """The loop does not clean up while somebody is between the check and the submission."""
    entered = [Gate(), Gate()]

    class Doorway(Waiters):
        def enter(self, gate: object) -> None:
            super().enter(gate)
            entered[len(loop._inside) - 1].open()

    loop._doorway = Doorway()
    loop._inside.update({"first": None, "second": None})
    loop.stop()
    entered[1].pass_through()
    del loop._inside["first"]
    loop._doorway.wake_all()
    entered[0].pass_through()
    assert loop.state is ComponentState.STOPPING
    del loop._inside["second"]
    loop._doorway.wake_all()
    assert loop.join(PATIENCE)


def test_defaults() -> None:
    """A loop is called "loop" and belongs to the engines; a name that is no text is refused."""
    assert EventLoopThread().name == "loop"
    assert EventLoopThread().default_phase == Phase.ENGINES
    with pytest.raises(TypeError, match="name"):
        EventLoopThread(None)  # type: ignore[arg-type]  # that is the point
