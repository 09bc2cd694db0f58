"""Async bodies, tasks and handlers on an ``EventLoopThread``: what they do, and what a stop does to them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator

import pytest
from helpers import PATIENCE, Background, Gate

from threadkit import (
    Closed,
    ComponentState,
    EventLoopThread,
    IntervalTask,
    JobContext,
    JobFailed,
    Lifecycle,
    ManagedThread,
    Retry,
    Run,
    Stopping,
    StopToken,
    WorkQueue,
    backoff,
    current_job,
    events,
)
from threadkit.testing import InlineExecutor, VirtualClock


@pytest.fixture
def loop() -> Iterator[EventLoopThread]:
    component = EventLoopThread("loop")
    component.start()
    yield component
    component.stop()
    assert component.join(PATIENCE)


class Sleeper:
    """An async function that waits for ever, and writes down how that ended."""

    def __init__(self) -> None:
        self.begun = Gate()
        self.steps: list[str] = []

    async def __call__(self) -> None:
        self.begun.open()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            self.steps.append(f"cancelled: {error}")
            raise
        finally:
            await asyncio.sleep(0)
            self.steps.append("cleaned up")


async def nothing() -> None: ...


def plain() -> None: ...


# --- threads ---------------------------------------------------------------------------------------------------------


def test_an_async_body(loop: EventLoopThread) -> None:
    """An async body runs on the loop, in the name of a thread that waits for it, and gets the token if it asks."""
    seen: list[object] = []

    async def body(running: StopToken) -> None:
        seen.append((threading.current_thread(), running.is_set()))

    thread = ManagedThread(body, loop=loop)
    assert thread.name == "body"
    thread.start()
    assert thread.join(PATIENCE)
    assert thread.failure is None
    assert seen == [(loop.threads()[0], False)]


def test_a_stop_cancels_an_async_body(loop: EventLoopThread) -> None:
    """A stop cancels the body, with its reason; join() waits until it has cleaned up, and that is no failure."""
    sleeper = Sleeper()
    thread = ManagedThread(sleeper, name="sleeper", loop=loop)
    thread.start()
    sleeper.begun.pass_through()
    thread.stop("closing time")
    assert thread.join(PATIENCE)
    assert sleeper.steps == ["cancelled: closing time", "cleaned up"]
    assert (thread.state, thread.failure) == (ComponentState.STOPPED, None)
    assert loop.work_left() == 0


def test_a_stop_of_a_token_above_cancels_too(loop: EventLoopThread) -> None:
    """A thread that was adopted cancels its body when its host's token is set."""
    sleeper, host = Sleeper(), StopToken("host")
    thread = ManagedThread(sleeper, name="sleeper", loop=loop)
    thread.adopt(VirtualClock(), host)
    thread.start()
    sleeper.begun.pass_through()
    host.set("closing time")
    assert Background(thread.join).result()
    assert sleeper.steps[0] == "cancelled: closing time"


def test_a_body_that_ends_by_the_token_itself(loop: EventLoopThread) -> None:
    """A body may also look at its token, and unwind by Stopping."""
    begun = Gate()

    async def body(running: StopToken) -> None:
        begun.open()
        while not running.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.001)
        running.raise_if_set()

    thread = ManagedThread(body, loop=loop)
    thread.start()
    begun.pass_through()
    thread.stop()
    assert thread.join(PATIENCE)
    assert thread.state is ComponentState.STOPPED


def test_a_cancelled_error_of_its_own_is_a_failure(loop: EventLoopThread) -> None:
    """A body that raises CancelledError although nobody stops it has failed."""

    async def body() -> None:
        raise asyncio.CancelledError

    thread = ManagedThread(body, loop=loop)
    thread.start()
    assert thread.join(PATIENCE)
    assert thread.state is ComponentState.FAILED
    assert isinstance(thread.failure, asyncio.CancelledError)


def test_async_bodies_are_restarted(loop: EventLoopThread) -> None:
    """The restart policies hold for async bodies: what fails is called again."""
    calls: list[int] = []
    running = Gate()

    async def body() -> None:
        calls.append(1)
        if len(calls) < 3:
            raise OSError("no feed")
        running.open()
        await asyncio.Event().wait()

    with ManagedThread(body, restart="on_failure", backoff=backoff.constant(0), loop=loop) as thread:
        running.pass_through()
        assert thread.restarts == 2
    assert thread.failure is None


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), Stopping()])
def test_errors_that_end_programs_end_the_body_only(loop: EventLoopThread, error: BaseException) -> None:
    """SystemExit and its like are failures of the body, and the loop goes on."""

    async def body() -> None:
        raise error

    thread = ManagedThread(body, loop=loop)
    thread.start()
    assert thread.join(PATIENCE)
    assert thread.failure is error
    assert loop.submit(asyncio.sleep(0, "well")).result(PATIENCE) == "well"


def test_an_async_body_says_that_it_is_ready(loop: EventLoopThread) -> None:
    """With ``ready=True`` start() waits until an async body says so, and raises what that raised before."""

    async def body(running: StopToken) -> None:
        await asyncio.sleep(0)
        running.ready()
        await asyncio.Event().wait()

    async def broken(running: StopToken) -> None:
        raise OSError("port in use")

    with ManagedThread(body, ready=True, loop=loop) as thread:
        assert thread.state is ComponentState.RUNNING
    with pytest.raises(OSError, match="port in use"):
        ManagedThread(broken, ready=True, loop=loop).start()


def test_the_end_of_the_loop_ends_the_body() -> None:
    """A body whose loop is stopped before it has failed, and so has one whose loop has not been started."""
    loop, sleeper = EventLoopThread(), Sleeper()
    early = ManagedThread(nothing, loop=loop)
    early.start()
    assert early.join(PATIENCE)
    assert "has not been started" in str(early.failure)
    with loop:
        thread = ManagedThread(sleeper, name="sleeper", loop=loop)
        thread.start()
        sleeper.begun.pass_through()
    assert thread.join(PATIENCE)
    assert isinstance(thread.failure, asyncio.CancelledError)
    late = ManagedThread(nothing, loop=loop)
    late.start()
    assert late.join(PATIENCE)
    assert isinstance(late.failure, Closed)


def test_a_virtual_clock_does_not_wait_for_the_body(loop: EventLoopThread) -> None:
    """The thread of an async body is parked, so a virtual clock goes on."""
    clock, sleeper = VirtualClock(), Sleeper()
    with ManagedThread(sleeper, name="sleeper", loop=loop, clock=clock):
        sleeper.begun.pass_through()
        clock.advance(3600)


# --- tasks -----------------------------------------------------------------------------------------------------------


def test_an_async_task(loop: EventLoopThread) -> None:
    """The runs of an async task are on the loop, get their run if they ask, and may end the task."""
    seen: list[tuple[int, threading.Thread]] = []

    async def work(run: Run) -> object:
        await asyncio.sleep(0)
        seen.append((run.number, threading.current_thread()))
        return IntervalTask.DONE if run.number == 3 else None

    task = IntervalTask(work, 0.001, loop=loop)
    task.start()
    assert task.join(PATIENCE)
    assert seen == [(number, loop.threads()[0]) for number in (1, 2, 3)]
    assert (task.runs, task.failures) == (3, 0)


def test_no_thread_waits_for_an_async_run(loop: EventLoopThread) -> None:
    """While an async run goes on it holds no thread, so more may go on than the scheduler has threads."""
    with Lifecycle() as lc:
        sleepers = [Sleeper() for _ in range(50)]
        for number, sleeper in enumerate(sleepers):
            lc.every(60, name=f"task {number}", run_immediately=True, loop=loop)(sleeper)
        for sleeper in sleepers:
            sleeper.begun.pass_through()
    assert all(sleeper.steps[-1] == "cleaned up" for sleeper in sleepers)


def test_a_stop_cancels_an_async_run(loop: EventLoopThread) -> None:
    """A stop cancels the run that goes on, with its reason; join() waits until it has cleaned up. It has not failed."""
    sleeper = Sleeper()
    task = IntervalTask(sleeper, 60, name="sleeper", run_immediately=True, loop=loop)
    task.start()
    sleeper.begun.pass_through()
    task.stop("closing time")
    assert task.join(PATIENCE)
    assert sleeper.steps == ["cancelled: closing time", "cleaned up"]
    assert (task.runs, task.failures, task.state) == (1, 0, ComponentState.STOPPED)


def test_an_async_run_that_ends_by_its_token(loop: EventLoopThread) -> None:
    """A run that unwinds by Stopping when it is stopped has not failed."""
    begun = Gate()

    async def work(run: Run) -> None:
        begun.open()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        run.token.raise_if_set()

    task = IntervalTask(work, 60, run_immediately=True, loop=loop)
    task.start()
    begun.pass_through()
    task.stop()
    assert task.join(PATIENCE)
    assert (task.runs, task.failures) == (1, 0)


def test_overlap_cancels_an_async_run(loop: EventLoopThread) -> None:
    """With ``overlap="cancel"`` the run that is due cancels the one that goes on, which need not take a run for it."""
    clock, sleeper = VirtualClock(), Sleeper()
    with IntervalTask(sleeper, 60, name="sleeper", overlap="cancel", loop=loop, clock=clock) as task:
        clock.advance(60)
        sleeper.begun.pass_through()
        sleeper.begun = Gate()
        clock.advance(60)
        sleeper.begun.pass_through()
        assert sleeper.steps == ["cancelled: the next run is due", "cleaned up"]
        assert (task.runs, task.failures) == (1, 0)


@pytest.mark.parametrize("error", [OSError("no disk"), asyncio.CancelledError(), SystemExit(3)])
def test_an_async_run_that_fails(loop: EventLoopThread, error: BaseException) -> None:
    """An async run that raises, be it CancelledError, has failed, and the schedule goes on."""
    failed: list[events.Event] = []

    async def work(run: Run) -> object:
        if run.number == 1:
            raise error
        return IntervalTask.DONE

    task = IntervalTask(work, 0.001, loop=loop)
    task.observe(lambda event: failed.append(event) if isinstance(event, events.RunFailed) else None)
    task.start()
    assert task.join(PATIENCE)
    assert [type(event.error) for event in failed] == [type(error)]
    assert (task.runs, task.failures) == (2, 1)


def test_a_run_without_its_loop_fails() -> None:
    """A run that is due while its loop does not run has failed; so a task must stop before its loop."""
    clock = VirtualClock()
    with IntervalTask(nothing, 60, loop=EventLoopThread(), clock=clock) as task:
        clock.advance(60)
        assert "has not been started" in str(task.last_error)


# --- queues ----------------------------------------------------------------------------------------------------------


def test_async_handlers_on_one_loop(loop: EventLoopThread) -> None:
    """With a loop, async handlers of all workers run there, know their job, and plain ones run on the workers."""
    with WorkQueue(workers=2, loop=loop) as queue:

        @queue.handler("async")
        async def work(payload: int, ctx: JobContext) -> object:
            await asyncio.sleep(0)
            mine = current_job()
            return mine is not None and mine.job_id == ctx.job_id and threading.current_thread()

        queue.handler("plain")(lambda payload: threading.current_thread())
        assert {job.result(PATIENCE) for job in queue.submit_many("async", range(8))} == {*loop.threads()}
        assert queue.submit("plain").result(PATIENCE) not in loop.threads()


def test_async_handlers_beside_an_executor(loop: EventLoopThread) -> None:
    """With a loop and an executor, async handlers run on the one and plain ones on the other."""
    with WorkQueue(workers=1, loop=loop, executor=InlineExecutor()) as queue:

        async def where(payload: object) -> threading.Thread:
            return threading.current_thread()

        queue.handler("async")(where)
        queue.handler("plain")(lambda payload: "inline")
        assert queue.submit("async").result(PATIENCE) in loop.threads()
        assert queue.submit("plain").result(PATIENCE) == "inline"


def test_an_async_handler_that_fails_is_tried_again(loop: EventLoopThread) -> None:
    """What an async handler raises counts as an attempt, as everywhere."""
    attempts: list[int] = []
    with WorkQueue(workers=1, loop=loop, retry=Retry(2, backoff.constant(0))) as queue:

        @queue.handler
        async def work(payload: object, ctx: JobContext) -> None:
            attempts.append(ctx.attempt)
            raise OSError("no disk")

        with pytest.raises(JobFailed, match=r"after 2 attempt\(s\)"):
            queue.submit(work).result(PATIENCE)
    assert attempts == [1, 2]


def test_a_job_ends_with_its_loop() -> None:
    """A job whose loop is stopped under it does not hold up its queue."""
    loop, sleeper = EventLoopThread(), Sleeper()
    with WorkQueue(workers=1, loop=loop, retry=Retry(1)) as queue:

        @queue.handler
        async def work(payload: object) -> None:
            await sleeper()

        with loop:
            job = queue.submit(work)
            sleeper.begun.pass_through()
        with pytest.raises(JobFailed):
            job.result(PATIENCE)


# --- all of them -----------------------------------------------------------------------------------------------------


def test_in_a_lifecycle() -> None:
    """In a lifecycle all three are stopped before the loop, and nothing fails on the way."""
    body, run = Sleeper(), Sleeper()
    with Lifecycle() as lc:
        loop = lc.loop()
        lc.thread("body", loop=loop)(body)
        lc.every("1h", name="run", run_immediately=True, loop=loop)(run)
        jobs = lc.queue(workers=1, loop=loop)

        @jobs.handler
        async def double(payload: int) -> int:
            return 2 * payload

        assert jobs.submit(double, 21).result(PATIENCE) == 42
        body.begun.pass_through()
        run.begun.pass_through()
        lc.stop("closing time")
    assert lc.report.ok
    assert body.steps == run.steps == ["cancelled: closing time", "cleaned up"]


def test_who_does_not_heed_is_stuck(caplog: pytest.LogCaptureFixture) -> None:
    """A body that goes on after its cancellation is waited for, and reported as stuck when the time is over."""
    release: list[asyncio.Event] = []
    begun = Gate()

    async def deaf() -> None:
        release.append(asyncio.Event())
        begun.open()
        while not release[0].is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release[0].wait()

    lc = Lifecycle(stop_timeout=0.05)
    loop = lc.loop()
    thread = lc.add(ManagedThread(deaf, loop=loop))
    lc.start()
    begun.pass_through()
    assert [part.name for part in lc.shutdown().stuck] == ["deaf", "loop"]
    loop.loop.call_soon_threadsafe(release[0].set)
    assert thread.join(PATIENCE)
    assert loop.join(PATIENCE)


MAKERS: dict[str, Callable[..., object]] = {
    "target": ManagedThread,
    "func": lambda func, **options: IntervalTask(func, 60, **options),
}


@pytest.mark.parametrize("parameter", MAKERS)
def test_what_does_not_fit_together(parameter: str) -> None:
    """Async functions without a loop, plain ones with one, and what is no loop, are refused by errors that say so."""
    make, loop = MAKERS[parameter], EventLoopThread()
    for func in (nothing, Sleeper()):
        with pytest.raises(
            TypeError, match=rf"{parameter} must be a plain function, or have a loop .* loop=lc.loop\(\)"
        ):
            make(func)
    with pytest.raises(TypeError, match=f"{parameter} must be async where there is a loop for it"):
        make(plain, loop=loop)
    for func in (nothing, plain):
        with pytest.raises(TypeError, match="loop must be an EventLoopThread"):
            make(func, loop=asyncio)
    with pytest.raises(TypeError, match="takes others"):
        make(asyncio.wait_for, loop=loop)


def test_a_queue_takes_no_other_loop() -> None:
    """What is no EventLoopThread is refused as a queue's loop."""
    with pytest.raises(TypeError, match=r"loop must be an EventLoopThread, such as lc.loop\(\) makes, not 'loop'"):
        WorkQueue(loop="loop")


def test_a_task_has_an_executor_or_a_loop() -> None:
    """An executor beside a loop is refused, since only one can run the function."""
    with pytest.raises(ValueError, match="executor must not be given beside a loop"):
        IntervalTask(nothing, 60, loop=EventLoopThread(), executor=InlineExecutor())
