"""BoundedExecutor on its own threads: bounds, policies, terms, futures, its end. Engines have tests of their own."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import contextlib
import contextvars
import functools
import gc
import itertools
import logging
import math
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from helpers import PATIENCE, Background, Blocker, Gate

from threadkit import (
    BoundedExecutor,
    CallTimeout,
    Closed,
    ComponentState,
    Full,
    Lifecycle,
    Phase,
    Retry,
    StopToken,
    SystemClock,
    WouldBlock,
    _exit,
    backoff,
    events,
    executors,
)
from threadkit._future import Call
from threadkit._lane import PoolLane
from threadkit._timed_call import TimedCall
from threadkit.testing import VirtualClock

Make = Callable[..., BoundedExecutor]


@pytest.fixture
def make() -> Iterator[Make]:
    """Make executors that are shut down after the test."""
    made: list[BoundedExecutor] = []

    def make(*args: Any, **kwargs: Any) -> BoundedExecutor:
        made.append(BoundedExecutor(*args, **kwargs))
        return made[-1]

    yield make
    for executor in made:
        executor.shutdown(cancel_futures=True)


@pytest.fixture
def blocker() -> Iterator[Blocker]:
    blocker = Blocker()
    yield blocker
    blocker.let_go()


class ClockBlocker(Blocker):
    """A blocker that a virtual clock sees parked."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._token = StopToken(clock=clock)
        self.let_go = self._token.set  # type: ignore[assignment]  # called without arguments only

    def __call__(self) -> str:
        self._inside.release()
        self._token.wait()
        return "let go"


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def parked(clock: VirtualClock) -> Iterator[ClockBlocker]:
    blocker = ClockBlocker(clock)
    yield blocker
    blocker.let_go()


def full(make: Make, blocker: Blocker, **kwargs: Any) -> tuple[BoundedExecutor, list[cf.Future[Any]]]:
    """Return an executor whose one worker is busy and whose line is full, and the futures of all its calls."""
    executor = make(1, max_pending=kwargs.pop("max_pending", 2), **kwargs)
    futures: list[cf.Future[Any]] = [executor.submit(blocker)]
    blocker.wait_until_called()
    futures += [executor.submit(str, number) for number in range(int(executor._max_pending))]
    return executor, futures


def waiting_for_room(executor: BoundedExecutor) -> int:
    """Return how many threads and coroutines wait for a permit."""
    assert executor._lane is not None
    return executor._lane.permits._bell.idle()


def wait_for(predicate: Callable[[], bool]) -> None:
    """Let other threads run until something is so that nobody tells of."""
    deadline = SystemClock().monotonic() + PATIENCE
    while not predicate():
        assert SystemClock().monotonic() < deadline


# --- The bound -------------------------------------------------------------------------------------------------------


def test_pending_calls_do_not_include_running_ones(make: Make) -> None:
    """With w workers and max_pending=p exactly w + p calls are taken, however fast they come."""
    blocker = Blocker()
    executor = make(3, max_pending=2, on_full="reject")
    futures = [executor.submit(blocker) for _ in range(5)]
    with pytest.raises(Full, match="2 are waiting"):
        executor.submit(blocker)
    blocker.wait_until_called(3)
    stats = executor.stats()
    assert (stats.running, stats.pending, stats.rejected) == (3, 2, 1)
    blocker.let_go()
    assert [future.result(PATIENCE) for future in futures] == ["let go"] * 5


def test_room_comes_back_before_the_result(make: Make) -> None:
    """Whoever has the result of a call may submit the next one at once, for its permit has been given back."""
    executor = make(1, max_pending=0, on_full="reject")
    for number in range(200):
        assert executor.submit(abs, -number).result(PATIENCE) == number


def test_cancelling_makes_room_at_once(make: Make, blocker: Blocker) -> None:
    """A call that is cancelled while it waits leaves the line, gives its permit back, and never runs."""
    executor, futures = full(make, blocker, on_full="reject")
    assert futures[1].cancel()
    assert futures[1].cancel()
    assert futures[1].cancelled()
    assert executor._lane._pool.waiting() == [futures[2]]  # type: ignore[union-attr]  # it runs
    late = executor.submit(str, "late")
    blocker.let_go()
    assert late.result(PATIENCE) == "late"
    with pytest.raises(cf.CancelledError):
        futures[1].result(PATIENCE)


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("inner", [None, lambda: cf.ThreadPoolExecutor(1)])
def test_an_interrupt_as_a_call_is_handed_on(
    make: Make, inner: Callable[[], cf.Executor] | None, *, begun: bool
) -> None:
    """However far a call had got when Ctrl-C ended its submit(), its permit comes back once, and it leaves the line."""
    executor = make(inner=inner, max_pending=math.inf) if inner else make(1, max_pending=1)
    first, second = Blocker(), Blocker()
    executor.start()
    lane = executor._lane
    if not begun:
        executor.submit(first)
        first.wait_until_called()
    put = lane.put

    def struck(call: Any) -> None:
        put(call)
        if begun:
            second.wait_until_called()
        raise KeyboardInterrupt

    lane.put = struck  # type: ignore[assignment, method-assign]  # what Ctrl-C does, made certain
    taken = executor.work_left()
    with pytest.raises(KeyboardInterrupt):
        executor.submit(second)
    assert executor.work_left() == taken + begun
    if isinstance(lane, PoolLane):
        assert lane._pool.waiting() == []
    first.let_go()
    second.let_go()
    executor.shutdown(timeout=PATIENCE)
    assert executor.work_left() == 0
    assert executor.stats().submitted == 1


def test_an_interrupt_as_a_permit_is_taken(make: Make) -> None:
    """A permit that Ctrl-C strikes out of a submitter's hand goes back, and so does one whose call was not made yet."""

    class Struck(deque[None]):
        def popleft(self) -> None:
            super().popleft()
            raise KeyboardInterrupt

    executor = make(1, max_pending=0, on_full="reject")
    executor.submit(abs, -1).result(PATIENCE)
    permits, lane = executor._lane.permits, executor._lane
    tokens, permits._tokens = permits._tokens, Struck(permits._tokens)
    with pytest.raises(KeyboardInterrupt):
        executor.submit(abs, -1)
    tokens.clear()
    tokens.extend(permits._tokens)
    permits._tokens = tokens
    new_call = lane.new_call

    def strike(*_: object) -> Call[Any]:
        raise KeyboardInterrupt

    lane.new_call = strike  # type: ignore[assignment, method-assign]  # what Ctrl-C does, made certain
    with pytest.raises(KeyboardInterrupt):
        executor.submit(abs, -1)
    lane.new_call = new_call  # type: ignore[method-assign]  # as it was
    assert executor.submit(abs, -2).result(PATIENCE) == 2


def test_a_refused_function_takes_no_room(make: Make) -> None:
    """What cannot be called is refused at the door, on every way in, and the permit comes back."""
    executor = make(1, max_pending=0, on_full="reject")
    for _ in range(3):
        with pytest.raises(TypeError, match="fn must be callable, not 3"):
            executor.submit(3)  # type: ignore[arg-type]  # what is tested
    assert executor.submit(len, "ab").result(PATIENCE) == 2


def test_no_bound(make: Make, blocker: Blocker) -> None:
    """With max_pending=inf nothing is ever refused."""
    executor = make(1, max_pending=math.inf, on_full="reject")
    executor.submit(blocker)
    futures = [executor.submit(abs, -number) for number in range(5000)]
    blocker.let_go()
    assert [future.result(PATIENCE) for future in futures] == list(range(5000))


class Peak:
    """A count that remembers its highest value, and opens a gate when it has been as high as it may be."""

    def __init__(self, most: int) -> None:
        self._lock = threading.Lock()
        self._most = most
        self._value = 0
        self.highest = 0
        self.reached = Gate()

    def change(self, by: int) -> None:
        with self._lock:
            self._value += by
            self.highest = max(self.highest, self._value)
            if self.highest >= self._most:
                self.reached.open()


@pytest.mark.parametrize("on_full", ["block", "reject", "caller_runs", "drop_oldest"])
@pytest.mark.parametrize("inner", [None, lambda: cf.ThreadPoolExecutor(3)], ids=["own threads", "a thread pool"])
def test_the_peak(make: Make, on_full: str, inner: Callable[[], cf.Executor] | None) -> None:
    """Under many submitters at most 3 calls run and at most 3 + 4 are there, both are reached, and no call is lost."""
    executor = make(*(() if inner else (3,)), inner=inner, max_pending=4, on_full=on_full)
    executor.start()
    lane = executor._lane
    running, present = Peak(3), Peak(7)
    put, ended, withdrawn = lane.put, lane.ended, lane.withdrawn
    submitters: set[threading.Thread] = set()

    # A call is there from when it has its permit until just before it gives that back.
    def count_put(call: Any) -> None:
        present.change(1)
        put(call)

    def count_ended(call: Any, *, failed: bool) -> None:
        present.change(-1)
        ended(call, failed=failed)

    def count_withdrawn(call: Any, *, failed: bool) -> None:
        present.change(-1)
        withdrawn(call, failed=failed)

    lane.put, lane.ended, lane.withdrawn = count_put, count_ended, count_withdrawn  # type: ignore[assignment, method-assign]

    def work() -> None:
        if threading.current_thread() in submitters:
            return  # by "caller_runs"
        running.change(1)
        running.reached.pass_through()
        present.reached.pass_through()
        running.change(-1)

    def submit() -> list[cf.Future[None]]:
        submitters.add(threading.current_thread())
        futures = []
        for _ in range(100):
            with contextlib.suppress(Full):
                futures.append(executor.submit(work))
        return futures

    futures = [future for submitter in [Background(submit) for _ in range(6)] for future in submitter.result()]
    executor.shutdown(timeout=PATIENCE)
    assert (running.highest, present.highest) == (3, 7)
    stats = executor.stats()
    assert len(futures) == stats.submitted == stats.completed + stats.cancelled
    assert stats.cancelled == stats.dropped == sum(future.cancelled() for future in futures)
    assert stats.submitted + stats.rejected == 600


# --- Policies --------------------------------------------------------------------------------------------------------


def test_block_waits_for_room(make: Make, blocker: Blocker) -> None:
    """By default submit() waits until there is room, and then takes the call."""
    executor, _ = full(make, blocker)
    submitter = Background(lambda: executor.submit(str, "late").result())
    wait_for(lambda: waiting_for_room(executor) == 1)
    assert submitter.thread.is_alive()
    blocker.let_go()
    assert submitter.result() == "late"


def test_block_with_a_timeout(make: Make, clock: VirtualClock, parked: Blocker) -> None:
    """options(timeout=) bounds the wait for room: when it is over, submit() raises Full and nothing was submitted."""
    executor, futures = full(make, parked, clock=clock)
    submitter = Background(lambda: executor.options(timeout=5).submit(str, "late"))
    clock.wait_for_sleepers(1)
    clock.advance(5)
    with pytest.raises(Full):
        submitter.result()
    assert executor.stats().rejected == 1
    assert executor.stats().submitted == len(futures)


def test_a_blocked_submit_is_woken_by_the_stop(make: Make, blocker: Blocker) -> None:
    """A submit() that waits for room raises Closed when the executor is told to stop."""
    executor, _ = full(make, blocker)
    submitter = Background(lambda: executor.submit(str, "late"))
    wait_for(lambda: waiting_for_room(executor) == 1)
    executor.stop()
    with pytest.raises(Closed):
        submitter.result()


def test_reject(make: Make, blocker: Blocker) -> None:
    """With on_full="reject" a full executor raises Full, counts it and tells its observers."""
    executor, _ = full(make, blocker, on_full="reject")
    seen: list[events.Event] = []
    executor.observe(seen.append)
    with pytest.raises(Full, match="'executor' is full: 2 are waiting"):
        executor.submit(str, "late")
    assert executor.stats().rejected == 1
    assert [(event.policy, event.limit) for event in seen if isinstance(event, events.CallRejected)] == [("reject", 2)]


def test_caller_runs(make: Make, blocker: Blocker) -> None:
    """With on_full="caller_runs" a call that finds no room is run by its submitter, errors included."""
    executor, _ = full(make, blocker, on_full="caller_runs")
    here = executor.submit(threading.current_thread)
    assert here.done()
    assert here.result() is threading.current_thread()
    assert isinstance(executor.submit(int, "x").exception(), ValueError)
    with pytest.raises(TypeError, match="fn must be callable"):
        executor.submit(None)  # type: ignore[arg-type]  # what is tested
    stats = executor.stats()
    assert (stats.completed, stats.failed, stats.submitted) == (1, 1, 5)


def test_drop_oldest(make: Make, blocker: Blocker) -> None:
    """With on_full="drop_oldest" the call that has waited longest is cancelled in favour of the new one."""
    executor, futures = full(make, blocker, on_full="drop_oldest")
    seen: list[events.Event] = []
    executor.observe(seen.append)
    late = executor.submit(str, "late")
    assert [future.cancelled() for future in futures] == [False, True, False]
    assert (executor.stats().dropped, executor.stats().cancelled) == (1, 1)
    assert [event.policy for event in seen if isinstance(event, events.CallRejected)] == ["drop_oldest"]
    blocker.let_go()
    assert late.result(PATIENCE) == "late"
    assert futures[2].result(PATIENCE) == "1"


def test_a_drop_is_counted_once(make: Make, blocker: Blocker) -> None:
    """Who comes to drop a call that somebody else has just cancelled counts no drop, and tells of none."""
    executor, futures = full(make, blocker, on_full="drop_oldest", max_pending=1)
    seen: list[events.Event] = []
    executor.observe(seen.append)
    lane = executor._lane
    assert isinstance(lane, PoolLane)

    class Late(list[Any]):
        def pop(self, *_: Any) -> Any:
            vars(futures[1]).clear()  # once
            futures[1]._right = right  # type: ignore[attr-defined]  # it is a Call
            futures[1].cancel()
            return right.pop()

    right = futures[1]._right  # type: ignore[attr-defined]  # it is a Call
    futures[1]._right = Late()  # type: ignore[attr-defined]  # it is a Call
    late = executor.submit(str, "late")
    assert futures[1].cancelled()
    stats = executor.stats()
    assert (stats.cancelled, stats.dropped) == (1, 0)
    assert not [event for event in seen if isinstance(event, events.CallRejected)]
    blocker.let_go()
    assert late.result(PATIENCE) == "late"


def test_drop_oldest_without_anything_to_drop(make: Make, blocker: Blocker) -> None:
    """Where nothing waits that could be dropped, the call is refused."""
    executor, _ = full(make, blocker, on_full="drop_oldest", max_pending=0)
    with pytest.raises(Full):
        executor.submit(str, "late")


def test_drop_oldest_passes_one_that_is_being_cancelled(make: Make, blocker: Blocker) -> None:
    """A call that somebody else is just cancelling is taken out of the line, so that dropping goes on to the next."""
    executor, futures = full(make, blocker, on_full="drop_oldest")
    assert isinstance(futures[1], Call)
    futures[1]._claim()  # somebody has the right to it, and has got no further
    late = executor.submit(str, "late")
    assert futures[2].cancelled()
    blocker.let_go()
    assert late.result(PATIENCE) == "late"
    futures[1]._end(None, None)
    assert executor.stats().pending == 0


def test_ctrl_c_while_its_submitter_runs_a_call(make: Make, blocker: Blocker, caplog: Any) -> None:
    """A Ctrl-C that comes while submit() runs a call in the main thread goes through; in another it is the call's."""
    executor, _ = full(make, blocker, on_full="caller_runs")

    def strike() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        executor.submit(strike)
    elsewhere = Background(lambda: executor.submit(strike)).result()
    assert isinstance(elsewhere.exception(), KeyboardInterrupt)
    assert executor.stats().failed == 2
    assert "nobody asked" not in caplog.text


@pytest.mark.parametrize("on_full", ["block", "reject", "caller_runs", "drop_oldest"])
def test_a_full_executor_that_has_been_stopped(make: Make, blocker: Blocker, on_full: str) -> None:
    """After a stop a full executor refuses with Closed, whatever its policy: it runs nothing here and drops nothing."""
    executor, futures = full(make, blocker, on_full=on_full)
    executor.shutdown(wait=False)
    ran: list[int] = []
    with pytest.raises(Closed):
        executor.submit(ran.append, 1)
    with pytest.raises(Closed):
        asyncio.run(executor.acall(ran.append, 2))
    blocker.let_go()
    assert [future.result(PATIENCE) for future in futures] == ["let go", "0", "1"]
    assert not ran
    assert executor.stats().dropped == 0


@pytest.mark.parametrize("on_full", ["block", "reject", "caller_runs", "drop_oldest"])
def test_a_cancelled_call_to_a_full_executor(make: Make, blocker: Blocker, on_full: str) -> None:
    """A call whose token is set already comes back cancelled from a full executor: it is not run, and drops nothing."""
    executor, futures = full(make, blocker, on_full=on_full)
    token = StopToken()
    token.set()
    ran: list[int] = []
    assert executor.options(token=token).submit(ran.append, 1).cancelled()
    with pytest.raises(cf.CancelledError):
        asyncio.run(executor.options(token=token).acall(ran.append, 2))
    blocker.let_go()
    assert [future.result(PATIENCE) for future in futures] == ["let go", "0", "1"]
    assert not ran
    assert executor.stats().submitted == len(futures)


def test_try_submit(make: Make, blocker: Blocker) -> None:
    """try_submit() never waits: it takes the call or raises Full, whatever the policy."""
    executor, futures = full(make, blocker)
    with pytest.raises(Full):
        executor.try_submit(str, "late")
    with pytest.raises(Full):
        executor.options(timeout=60).try_submit(str, "late")
    assert executor.stats().rejected == 2
    futures[1].cancel()
    late = executor.try_submit(str, "late")
    blocker.let_go()
    assert late.result(PATIENCE) == "late"


def test_its_own_worker_would_block(make: Make) -> None:
    """A call that submits to its own full pool gets WouldBlock instead of waiting for itself for ever."""
    executor = make(1, max_pending=0)
    call = executor.submit(lambda: executor.submit(str, "nested"))
    with pytest.raises(WouldBlock, match="a worker of executor 'executor', which is full"):
        call.result(PATIENCE)


def test_its_own_worker_may_submit_where_there_is_room(make: Make) -> None:
    """A call may submit to its own pool while that has room."""
    executor = make(1, max_pending=1)
    assert executor.submit(lambda: executor.submit(str, "nested")).result(PATIENCE).result(PATIENCE) == "nested"


@pytest.mark.parametrize("on_full", ["block", "caller_runs"])
def test_an_event_loop_would_block(make: Make, blocker: Blocker, on_full: str) -> None:
    """submit() to a full executor raises WouldBlock on an event loop's thread, and works while there is room."""
    executor = make(1, max_pending=1, on_full=on_full)

    async def main() -> None:
        executor.submit(blocker)
        executor.submit(str, 1)
        with pytest.raises(WouldBlock, match="await acall"):
            executor.submit(str, 2)
        with pytest.raises(WouldBlock, match="await acall"):
            await asyncio.get_running_loop().run_in_executor(executor, str, 3)

    asyncio.run(main())


def test_no_event_loop_where_asyncio_was_never_imported(
    make: Make, blocker: Blocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a loop runs is asked without importing asyncio."""
    monkeypatch.delitem(sys.modules, "asyncio")
    executor, _ = full(make, blocker)
    blocker.let_go()
    assert executor.submit(str, "late").result(PATIENCE) == "late"


# --- From an event loop ----------------------------------------------------------------------------------------------


def test_acall_returns_the_result(make: Make) -> None:
    """Await acall() gives the result, or raises what the call raised."""
    executor = make(2)

    async def main() -> None:
        assert await executor.acall(pow, 2, exp=10) == 1024
        with pytest.raises(ZeroDivisionError):
            await executor.acall(divmod, 1, 0)

    asyncio.run(main())


def test_acall_waits_for_room_without_a_thread(make: Make, blocker: Blocker) -> None:
    """acall() on a full executor lets the loop go on, and every call is made once there is room."""
    executor, _ = full(make, blocker)

    async def main() -> list[int]:
        calls = [asyncio.create_task(executor.acall(abs, -number)) for number in range(20)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not any(call.done() for call in calls)
        blocker.let_go()
        return await asyncio.wait_for(asyncio.gather(*calls), PATIENCE)

    assert asyncio.run(main()) == list(range(20))


@pytest.mark.parametrize("on_full", ["reject", "drop_oldest", "caller_runs"])
def test_acall_and_policies(make: Make, blocker: Blocker, on_full: str) -> None:
    """acall() rejects and drops as submit() does, but never runs a call on the loop's own thread."""
    executor, futures = full(make, blocker, on_full=on_full)

    async def main() -> Any:
        call = asyncio.create_task(executor.acall(threading.get_ident))
        await asyncio.sleep(0)
        blocker.let_go()
        return await asyncio.wait_for(call, PATIENCE)

    if on_full == "reject":
        with pytest.raises(Full):
            asyncio.run(main())
    else:
        assert asyncio.run(main()) != threading.get_ident()
        assert futures[1].cancelled() == (on_full == "drop_oldest")


def test_a_cancelled_acall(make: Make, blocker: Blocker) -> None:
    """Cancelling the task cancels a call that waits in the line, and leaves the wait for room to the next."""
    executor, _ = full(make, blocker, max_pending=1)
    assert executor._intake is not None

    async def main() -> str:
        waiting_for_room = [asyncio.create_task(executor.acall(str, number)) for number in range(2)]
        await asyncio.sleep(0)
        waiting_for_room[0].cancel()
        await asyncio.sleep(0)
        blocker.let_go()
        return await asyncio.wait_for(waiting_for_room[1], PATIENCE)

    assert asyncio.run(main()) == "1"

    second = Blocker()

    async def in_line() -> None:
        executor.submit(second)
        second.wait_until_called()
        call = asyncio.create_task(executor.acall(str, "never"))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(in_line())
    assert executor.stats().cancelled == 1
    second.let_go()


def test_a_cancelled_acall_passes_its_ring_on(make: Make, blocker: Blocker) -> None:
    """A task that is cancelled in the moment in which room was made for it hands the news to the next."""
    executor, futures = full(make, blocker, max_pending=1)

    async def main() -> None:
        first = asyncio.create_task(executor.acall(str, 1))
        second = asyncio.create_task(executor.acall(str, 2))
        await asyncio.sleep(0)
        futures[1].cancel()  # rings the first
        first.cancel()  # before it has heard of it
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        blocker.let_go()
        assert await asyncio.wait_for(second, PATIENCE) == "2"
        assert first.cancelled()

    asyncio.run(main())


def test_acall_with_a_timeout(make: Make, blocker: Blocker) -> None:
    """options(timeout=).acall() raises Full when there was no room in time."""
    executor, _ = full(make, blocker)

    async def main() -> None:
        with pytest.raises(Full):
            await executor.options(timeout=0.01).acall(str, "late")

    asyncio.run(main())
    assert executor.stats().rejected == 1


def test_acall_and_the_stop(make: Make, blocker: Blocker) -> None:
    """acall() that waits for room raises Closed when the executor is told to stop."""
    executor, _ = full(make, blocker)

    async def main() -> None:
        call = asyncio.create_task(executor.acall(str, "late"))
        await asyncio.sleep(0)
        executor.stop()
        with pytest.raises(Closed):
            await asyncio.wait_for(call, PATIENCE)

    asyncio.run(main())


def test_acall_and_a_token(make: Make, blocker: Blocker) -> None:
    """acall() that waits for room is cancelled when its token is set."""
    executor, _ = full(make, blocker)
    token = StopToken()

    async def main() -> None:
        call = asyncio.create_task(executor.options(token=token).acall(str, "late"))
        await asyncio.sleep(0)
        token.set()
        with pytest.raises(cf.CancelledError):
            await asyncio.wait_for(call, PATIENCE)

    asyncio.run(main())


def test_acall_raises_stop_iteration(make: Make) -> None:
    """A StopIteration raised by the call arrives as a RuntimeError, as from any coroutine, and hangs no loop."""
    executor = make(1)

    async def main() -> None:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await asyncio.wait_for(executor.acall(next, iter(())), PATIENCE)

    asyncio.run(main())


def test_a_loop_that_is_closed_before_there_is_room(make: Make, blocker: Blocker) -> None:
    """Room that is made for a coroutine whose loop was closed meanwhile goes to the next who waits."""
    executor, futures = full(make, blocker, max_pending=1)
    loop = asyncio.new_event_loop()
    call = executor.acall(str, "never")
    waiting = loop.create_task(call)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    submitter = Background(lambda: executor.submit(str, "late"))
    wait_for(lambda: waiting_for_room(executor) == 2)
    futures[1].cancel()
    blocker.let_go()
    assert submitter.result().result(PATIENCE) == "late"
    waiting._log_destroy_pending = False  # type: ignore[attr-defined]  # it is left pending on purpose
    call.close()


def test_a_loop_that_is_closed_before_the_result(make: Make, blocker: Blocker) -> None:
    """A result for a coroutine whose loop was closed meanwhile is lost without a word, and harms nobody."""
    executor = make(1)
    loop = asyncio.new_event_loop()
    call = executor.acall(blocker)
    waiting = loop.create_task(call)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    blocker.let_go()
    assert executor.submit(str, "next").result(PATIENCE) == "next"
    waiting._log_destroy_pending = False  # type: ignore[attr-defined]  # it is left pending on purpose
    call.close()


def test_wrap_future(make: Make) -> None:
    """asyncio.wrap_future() and loop.run_in_executor() take the executor and its futures as the standard library's."""
    executor = make(1)

    async def main() -> None:
        assert await asyncio.wrap_future(executor.submit(abs, -1)) == 1
        assert await asyncio.get_running_loop().run_in_executor(executor, abs, -2) == 2

    asyncio.run(main())


# --- Terms -----------------------------------------------------------------------------------------------------------


def test_timeout_of_a_call_that_waits(make: Make, clock: VirtualClock, parked: Blocker) -> None:
    """A call whose time is over while it waits fails with CallTimeout, makes room, and never runs."""
    executor = make(1, clock=clock, max_pending=1, on_full="reject")
    executor.submit(parked)
    parked.wait_until_called()
    ran: list[int] = []
    future = executor.options(timeout=timedelta(seconds=5)).submit(ran.append, 1)
    expired: list[Any] = []
    future.add_done_callback(expired.append)
    clock.advance(5)
    assert expired == [future]
    with pytest.raises(CallTimeout, match="within 5 s"):
        future.result()
    executor.submit(ran.append, 2)
    parked.let_go()
    executor.shutdown()
    assert ran == [2]


def test_timeout_of_a_call_that_runs(make: Make, blocker: Blocker) -> None:
    """A call whose time is over while it runs fails with CallTimeout, keeps its worker, and is counted when it ends."""
    executor = make(1, max_pending=0, on_full="reject")
    future = executor.options(timeout=0.01).submit(blocker)
    blocker.wait_until_called()
    assert isinstance(future.exception(PATIENCE), CallTimeout)
    with pytest.raises(Full):
        executor.submit(str)
    stats = executor.stats()
    assert (stats.submitted, stats.running, stats.failed) == (1, 1, 0)
    blocker.let_go()
    executor.shutdown()
    stats = executor.stats()
    assert (stats.submitted, stats.running, stats.failed, stats.completed) == (1, 0, 1, 0)


def test_timeout_that_is_not_needed(make: Make) -> None:
    """A call that ends in time leaves nothing behind: no entry, no timer's thread."""
    executor = make(1)
    assert executor.options(timeout=3600).submit(abs, -1).result(PATIENCE) == 1
    assert executor._intake is not None
    assert executor._intake.timer.join(SystemClock().monotonic() + PATIENCE)


class NoTimer(VirtualClock):
    """A clock that gives no thread to watch the time, for so many attempts."""

    def __init__(self, refusals: int) -> None:
        super().__init__()
        self.refusals = refusals

    def spawn(self, target: Callable[[], None], name: str) -> threading.Thread:
        if "timer" in name and self.refusals:
            self.refusals -= 1
            raise RuntimeError("can't start new thread")
        return super().spawn(target, name)


def test_timeout_without_a_thread_for_it(make: Make) -> None:
    """A thread to watch the time is asked for as submit_retry says; the call's time is what it was."""
    clock = NoTimer(refusals=2)
    blocker = ClockBlocker(clock)
    executor = make(1, clock=clock, submit_retry=Retry(3, backoff.constant(1)))
    executor.submit(blocker)
    submitter = Background(lambda: executor.options(timeout=5).submit(str))
    for _ in range(2):
        clock.wait_for_sleepers(1)
        clock.advance(1)
    future = submitter.result()
    clock.advance(2.5)
    assert not future.done()
    clock.advance(0.5)
    assert isinstance(future.exception(), CallTimeout)
    blocker.let_go()


def test_timeout_that_no_thread_is_to_be_had_for(make: Make) -> None:
    """Where no thread can be made to watch the time, submit() fails in the end, and the call is taken back."""
    clock = NoTimer(refusals=2)
    blocker = ClockBlocker(clock)
    executor = make(1, clock=clock, submit_retry=Retry(2, backoff.constant(1)))
    executor.submit(blocker)
    submitter = Background(lambda: executor.options(timeout=5).submit(str))
    clock.wait_for_sleepers(1)
    clock.advance(1)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        submitter.result()
    assert executor.stats().cancelled == 1
    blocker.let_go()


def test_timeout_of_a_call_that_ends_while_a_thread_is_awaited(make: Make) -> None:
    """A call that ends before a thread to watch its time is to be had needs none, and its submitter waits no longer."""
    clock = NoTimer(refusals=1)
    blocker = ClockBlocker(clock)
    executor = make(1, clock=clock, submit_retry=Retry(3, backoff.constant(1)))
    executor.submit(blocker)
    submitter = Background(lambda: executor.options(timeout=5).submit(str, "done"))
    clock.wait_for_sleepers(1)
    blocker.let_go()
    assert submitter.result().result(PATIENCE) == "done"
    assert clock.monotonic() == 0
    assert executor._intake.timer.thread() is None


def test_a_token_cancels_what_waits(make: Make, blocker: Blocker) -> None:
    """Setting the token of a call cancels it while it waits."""
    executor, futures = full(make, blocker, max_pending=1)
    futures[1].cancel()
    token = StopToken()
    future = executor.options(token=token).submit(str, "never")
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    token.set()
    assert done.wait(PATIENCE)
    assert future.cancelled()


def test_a_token_that_is_set_already(make: Make) -> None:
    """A call whose token is set already is cancelled, unless a worker is quicker."""
    executor = make(1)
    token = StopToken()
    token.set()
    blocker = Blocker()
    executor.submit(blocker)
    blocker.wait_until_called()
    assert executor.options(token=token).submit(str).cancelled()
    blocker.let_go()


def test_a_token_is_left_alone_by_what_ran(make: Make) -> None:
    """A call that has ended is forgotten by its token."""
    executor = make(1)
    token = StopToken()
    assert executor.options(token=token).submit(abs, -1).result(PATIENCE) == 1
    executor.shutdown()
    assert not token._hooks


def test_a_token_ends_the_wait_for_room(make: Make, blocker: Blocker) -> None:
    """A call whose token is set while submit() waits for room comes back cancelled, and was not submitted."""
    executor, futures = full(make, blocker)
    token = StopToken()
    submitter = Background(lambda: executor.options(token=token).submit(str, "late"))
    wait_for(lambda: waiting_for_room(executor) == 1)
    token.set()
    assert submitter.result().cancelled()
    assert executor.stats().submitted == len(futures)


def test_map_on_terms(make: Make) -> None:
    """options() has map() too."""
    assert list(make(2).options(timeout=60).map(abs, [-1, 2])) == [1, 2]


# --- map -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", [1, 2, 100])
@pytest.mark.parametrize("buffersize", [None, 1, 3])
def test_map(make: Make, chunksize: int, buffersize: int | None) -> None:
    """map() yields the results in order, whatever the size of its chunks and its buffer, and ends with the shortest."""
    executor = make(2, max_pending=1000)
    results = executor.map(pow, range(7), itertools.repeat(2), chunksize=chunksize, buffersize=buffersize)
    assert list(results) == [number**2 for number in range(7)]
    assert list(executor.map(abs, [], chunksize=chunksize, buffersize=buffersize)) == []


def test_map_is_eager(make: Make) -> None:
    """Without a buffer map() reads its iterables and submits all calls before it returns."""
    executor = make(1)
    source = iter(range(5))
    results = executor.map(abs, source)
    assert next(source, "read") == "read"
    assert list(results) == [0, 1, 2, 3, 4]


def test_map_over_an_endless_iterable(make: Make) -> None:
    """With a buffer map() reads no further ahead than that, so the iterable may be endless."""
    executor = make(2)
    source = itertools.count()
    results = executor.map(abs, source, buffersize=4)
    assert [next(results) for _ in range(10)] == list(range(10))
    assert next(source) <= 15


def test_map_raises_and_cancels_the_rest(make: Make, blocker: Blocker) -> None:
    """What a call raises comes out of the iterator in its place, and what waits is cancelled."""
    executor = make(1)
    results = executor.map(lambda f: f(), [lambda: 1 / 0, blocker, str, str])
    with pytest.raises(ZeroDivisionError):
        next(results)
    blocker.wait_until_called()
    assert executor.stats().cancelled == 2
    assert next(results, None) is None


def test_map_times_out(make: Make, blocker: Blocker) -> None:
    """map(timeout=) raises TimeoutError when the results are not there in time, and cancels what waits."""
    executor = make(1)
    results = executor.map(lambda f: f(), [str, blocker, str], timeout=0.05)
    assert next(results) == ""
    with pytest.raises(TimeoutError):
        next(results)
    assert executor.stats().cancelled == 1


@pytest.mark.parametrize("timeout", [None, 60])
def test_map_times_out_while_it_waits_for_room(
    make: Make, clock: VirtualClock, parked: Blocker, timeout: float | None
) -> None:
    """map(timeout=) bounds its wait for room, whether it submits all at once or as results are taken."""
    executor = make(1, max_pending=0, clock=clock)
    later = executor.map(str, [1, 2], timeout=5, buffersize=1)
    wait_for(lambda: executor.stats().completed == 1)
    executor.submit(parked)
    now = Background(lambda: executor.options(timeout=timeout).map(str, [1], timeout=5))
    then = Background(lambda: next(later))
    clock.wait_for_sleepers(2)
    clock.advance(5)
    for one in (now, then):
        with pytest.raises(TimeoutError):
            one.result()
    assert executor.stats().submitted == 2


@pytest.mark.parametrize("on_full", ["reject", "caller_runs", "drop_oldest"])
def test_map_that_has_no_time_left(make: Make, blocker: Blocker, on_full: str) -> None:
    """Where there is no room and no time, map() raises TimeoutError: it runs nothing here, and drops nothing."""
    executor, futures = full(make, blocker, on_full=on_full)
    ran: list[int] = []
    with pytest.raises(TimeoutError):
        executor.map(ran.append, [1], timeout=0)
    blocker.let_go()
    assert [future.result(PATIENCE) for future in futures] == ["let go", "0", "1"]
    assert not ran


def test_map_that_is_closed(make: Make, blocker: Blocker) -> None:
    """Closing the iterator cancels what waits."""
    executor = make(1)
    results = executor.map(lambda f: f(), [str, blocker, str, str])
    assert next(results) == ""
    blocker.wait_until_called()
    results.close()  # type: ignore[attr-defined]  # it is a generator
    assert executor.stats().cancelled == 2


def test_map_that_fails_to_submit(make: Make, blocker: Blocker) -> None:
    """Where the executor rejects one of the calls, those submitted before are cancelled and map() raises."""
    executor = make(1, max_pending=2, on_full="reject")
    executor.submit(blocker)
    with pytest.raises(Full):
        executor.map(str, range(5))
    assert executor.stats().cancelled == 2


def test_map_holds_no_results(make: Make) -> None:
    """map() keeps no reference to a result that was taken."""

    class Thing:
        pass

    for chunksize in (1, 2):
        for result in make(1).map(lambda _: Thing(), range(4), chunksize=chunksize):
            gone = weakref.ref(result)
            del result
            gc.collect()
            assert gone() is None


def test_map_refuses_bad_input(make: Make) -> None:
    """map() names the parameter that is wrong, and submits nothing."""
    executor = make(1)
    for arguments, error, name in [
        ({"chunksize": 0}, ValueError, "chunksize"),
        ({"chunksize": True}, TypeError, "chunksize"),
        ({"buffersize": 0}, ValueError, "buffersize"),
        ({"buffersize": 1.5}, TypeError, "buffersize"),
        ({"timeout": -1}, ValueError, "timeout"),
        ({"timeout": math.nan}, ValueError, "timeout"),
    ]:
        with pytest.raises(error, match=name):
            executor.map(abs, [1], **arguments)  # type: ignore[arg-type]  # what is tested
    with pytest.raises(TypeError, match="fn"):
        executor.map(None, [1])  # type: ignore[arg-type]  # what is tested
    assert executor.stats().submitted == 0


# --- Futures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, ValueError])
def test_whatever_is_raised_reaches_the_future(make: Make, error: type[BaseException]) -> None:
    """Even what is meant to end a thread reaches the future, and the worker goes on."""
    executor = make(1)

    def fail() -> None:
        raise error("x")

    future = executor.submit(fail)
    assert isinstance(future.exception(PATIENCE), error)
    with pytest.raises(error):
        future.result()
    assert executor.submit(threading.current_thread).result(PATIENCE).name == "executor_0"
    assert executor.stats().failed == 1


def test_keywords_of_any_name(make: Make) -> None:
    """Any keyword reaches the function, also those called like parameters of submit()."""
    executor = make(1)

    def keywords(**kwargs: int) -> dict[str, int]:
        return kwargs

    for submit in (executor.submit, executor.try_submit, executor.options().submit):
        assert submit(keywords, self=1, fn=2, args=3, timeout=4).result(PATIENCE) == {
            "self": 1,
            "fn": 2,
            "args": 3,
            "timeout": 4,
        }
    assert asyncio.run(executor.acall(keywords, self=1, fn=2)) == {"self": 1, "fn": 2}


def test_wait_and_as_completed(make: Make, blocker: Blocker) -> None:
    """concurrent.futures.wait() and as_completed() see results, errors and cancellations as they come."""
    executor = make(1)
    slow = executor.submit(blocker)
    failing, cancelled = executor.submit(divmod, 1, 0), executor.submit(str)
    waiter = Background(lambda: cf.wait([slow, failing, cancelled], PATIENCE))
    one_by_one = Background(lambda: [future for future in cf.as_completed([slow, failing, cancelled], PATIENCE)])  # noqa: C416 - list() would hide that it is an iterator
    first = Background(lambda: cf.wait([slow, cancelled], PATIENCE, cf.FIRST_COMPLETED))
    wait_for(lambda: [len(future._waiters) for future in (slow, failing, cancelled)] == [3, 2, 3])
    cancelled.cancel()
    assert first.result().done == {cancelled}
    blocker.let_go()
    assert waiter.result().done == {slow, failing, cancelled}
    assert one_by_one.result()[0] is cancelled
    assert set(one_by_one.result()) == {slow, failing, cancelled}
    with pytest.raises(TimeoutError):
        list(cf.as_completed([executor.submit(blocker), executor.submit(Blocker())], 0))
    executor.close()


def test_waiting_for_a_future(make: Make, clock: VirtualClock, parked: Blocker) -> None:
    """result() and exception() wait on the executor's clock, up to their timeout."""
    executor, futures = full(make, parked, clock=clock)
    for wait in (futures[1].result, futures[1].exception):
        waiter = Background(lambda wait=wait: wait(timeout=30))
        clock.wait_for_sleepers(1)
        clock.advance(30)
        with pytest.raises(TimeoutError):
            waiter.result()
    waiter = Background(futures[1].result)
    futures[1].cancel()
    with pytest.raises(cf.CancelledError):
        waiter.result()
    with pytest.raises(cf.CancelledError):
        futures[1].exception()
    for bad in (-1, math.nan):
        with pytest.raises(ValueError, match="timeout"):
            futures[0].result(bad)
    assert executor.stats().cancelled == 1


def test_callbacks(make: Make, blocker: Blocker, caplog: pytest.LogCaptureFixture) -> None:
    """Every callback is called once with the future; one that raises, even SystemExit, is logged and harms no other."""
    executor = make(1)
    seen: list[Any] = []

    def exits(_: object) -> None:
        raise SystemExit

    future = executor.submit(blocker)
    future.add_done_callback(exits)
    future.add_done_callback(seen.append)
    blocker.let_go()
    executor.shutdown()
    future.add_done_callback(seen.append)
    with caplog.at_level(logging.ERROR, "threadkit"):
        future.add_done_callback(exits)
    assert seen == [future, future]
    assert "exits" in caplog.text


def test_a_callback_that_comes_as_the_call_ends(make: Make) -> None:
    """A callback is called although the call ended, and called its callbacks, just before this one was among them."""
    call: Call[int] = Call(SystemClock(), make(1)._new_lane(), (abs, (-1,), {}, None))
    audience = call._join()

    class Late(type(audience.callbacks)):  # type: ignore[misc]  # what a callback reaches too late
        def append(self, callback: Callable[[Any], object]) -> None:
            call()
            super().append(callback)

    audience.callbacks = Late()
    seen: list[Any] = []
    call.add_done_callback(seen.append)
    assert seen == [call]


def test_two_who_call_back(make: Make) -> None:
    """A callback that somebody else has just popped is left to that one."""
    call: Call[int] = make(1).submit(abs, -1)  # type: ignore[assignment]  # it is a Call
    assert call.result(PATIENCE) == 1

    class Gone(list):  # type: ignore[type-arg]  # looks as if something were in it
        def __bool__(self) -> bool:
            return True

        def popleft(self) -> None:
            raise IndexError

    audience = call._join()
    audience.callbacks = Gone()  # type: ignore[assignment]  # a race, frozen
    call._call_back(audience)


def test_states_of_a_future(make: Make, blocker: Blocker) -> None:
    """A future is pending, running and finished, or cancelled, and says so."""
    executor, (running, pending, *_) = full(make, blocker)
    assert (running.running(), running.done(), running.cancel()) == (True, False, False)
    assert (pending.running(), pending.done()) == (False, False)
    assert "state=running" in repr(running)
    assert "state=pending" in repr(pending)
    pending.cancel()
    assert "state=cancelled" in repr(pending)
    blocker.let_go()
    assert running.result(PATIENCE) == "let go"
    assert running.exception() is None
    assert (running.running(), running.done(), running.cancelled(), running.cancel()) == (False, True, False, False)
    assert "state=finished" in repr(running)
    assert executor.stats().cancelled == 1


def test_a_future_that_is_finished_from_outside(make: Make, blocker: Blocker) -> None:
    """set_result() and set_exception() finish a call that waits, which then never runs; any other is refused."""
    _, (running, first, second) = full(make, blocker)
    first.set_result("mine")
    second.set_exception(ValueError("mine"))
    assert first.result() == "mine"
    assert str(second.exception()) == "mine"
    for future in (running, first):
        with pytest.raises(cf.InvalidStateError):
            future.set_result("again")
        with pytest.raises(cf.InvalidStateError):
            future.set_exception(ValueError("again"))


def test_nothing_is_kept(make: Make) -> None:
    """When the result is there, function and arguments are gone, and a result does not keep the executor alive."""

    class Thing:
        def method(self, other: object) -> None:
            pass

        def fail(self, other: object) -> None:
            raise ValueError

    executor = make(1)
    for name in ("method", "fail"):
        thing, other = Thing(), Thing()
        gone = [weakref.ref(thing), weakref.ref(other)]
        future = executor.submit(getattr(thing, name), other)
        del thing, other
        future.exception(PATIENCE)
        if name == "method":
            assert [ref() for ref in gone] == [None, None]
        assert future._lane is not executor._lane  # type: ignore[attr-defined]  # it is a Call
    call = TimedCall(SystemClock(), executor._lane, (abs, (-1,), {}, None))  # type: ignore[arg-type]  # it runs
    call.unsubmit()
    call()  # a worker that had just taken it out of the line
    assert call.cancelled()
    assert executor.stats().cancelled == 0


def test_an_error_makes_no_cycle(make: Make) -> None:
    """A future that failed is freed without the garbage collector, with its error."""
    executor = make(1)

    class Marked(ValueError):
        pass

    def fail() -> None:
        raise Marked

    gc.collect()
    gc.disable()
    try:
        future = executor.submit(fail)
        with pytest.raises(Marked) as caught:
            future.result(PATIENCE)
        executor.submit(str).result(PATIENCE)  # the worker has left the frame of the first call
        gone = weakref.ref(future)
        del future, caught
        assert gone() is None
    finally:
        gc.enable()


def test_context(make: Make) -> None:
    """Calls run in a copy of the context that they were submitted in; with context=False in the worker's own."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    executor, bare = make(1), make(1, context=False)
    variable.set("mine")
    assert executor.submit(variable.get).result(PATIENCE) == "mine"
    assert bare.submit(variable.get).result(PATIENCE) == "none"
    executor.submit(variable.set, "theirs").result(PATIENCE)
    assert variable.get() == "mine"


# --- Life ------------------------------------------------------------------------------------------------------------


def test_it_starts_with_the_first_call(make: Make) -> None:
    """An executor need not be started: the first call does it."""
    executor = make(1)
    assert executor.state is ComponentState.NEW
    assert executor.threads() == []
    assert executor.work_left() == 0
    assert executor.stats().submitted == 0
    executor.submit(str).result(PATIENCE)
    assert executor.state is ComponentState.RUNNING
    assert [thread.name for thread in executor.threads()] == ["executor_0"]


def test_thread_name_prefix(make: Make) -> None:
    """Threads are called by the prefix, or else as the executor."""
    assert make(1, "crew").submit(threading.current_thread).result(PATIENCE).name == "crew_0"
    assert make(1, name="mine").submit(threading.current_thread).result(PATIENCE).name == "mine_0"


def test_stop_finishes_what_waits(make: Make, blocker: Blocker) -> None:
    """stop() takes nothing new, and what was taken is finished before join() returns."""
    executor, futures = full(make, blocker)
    assert executor.work_left() == 3
    executor.stop("enough")
    assert executor.state is ComponentState.STOPPING
    for submit in (executor.submit, executor.try_submit, executor.options(timeout=1).submit):
        with pytest.raises(Closed, match="executor 'executor' is closed"):
            submit(str)
    blocker.let_go()
    assert executor.join(PATIENCE)
    assert [future.done() for future in futures] == [True, True, True]
    with pytest.raises(Closed):
        executor.submit(str)


def test_close_cancels_what_waits(make: Make, blocker: Blocker) -> None:
    """close() cancels the calls that wait; the one that runs goes on."""
    executor, futures = full(make, blocker)
    executor.stop()
    executor.close()
    assert [future.cancelled() for future in futures] == [False, True, True]
    blocker.let_go()
    assert executor.join(PATIENCE)
    make(1).close()


def test_shutdown(make: Make, blocker: Blocker) -> None:
    """shutdown() waits, or not, or so long, and may cancel what waits; it may be called twice."""
    executor, futures = full(make, blocker)
    executor.shutdown(wait=False)
    executor.shutdown(timeout=0.01)
    assert executor.state is ComponentState.STOPPING
    executor.shutdown(wait=False, cancel_futures=True)
    assert [future.cancelled() for future in futures] == [False, True, True]
    blocker.let_go()
    executor.shutdown()
    executor.shutdown()
    assert executor.state is ComponentState.STOPPED
    for bad in (-1, math.nan):
        with pytest.raises(ValueError, match="timeout"):
            make(1).shutdown(timeout=bad)


def test_shutdown_from_a_worker(make: Make) -> None:
    """A call may shut down its own executor: it does not wait for itself."""
    executor = make(1)
    executor.submit(executor.shutdown).result(PATIENCE)
    assert executor.join(PATIENCE)


def test_with_block_waits(make: Make) -> None:
    """Leaving the with block waits for all calls, as the standard library's executors do."""
    with make(1) as executor:
        futures = [executor.submit(abs, -number) for number in range(10)]
    assert all(future.done() for future in futures)


def test_a_stop_during_the_start(make: Make) -> None:
    """A stop that comes while the executor starts ends it as soon as it has started."""
    executor: BoundedExecutor

    class Stopping(SystemClock):
        def spawn(self, target: Callable[[], None], name: str) -> threading.Thread:
            executor.stop("changed my mind")
            return super().spawn(target, name)

    executor = make(1, clock=Stopping())
    executor.start()
    assert executor.join(PATIENCE)
    assert executor.state is ComponentState.STOPPED
    with pytest.raises(Closed):
        executor.submit(str)


def test_a_failing_initializer(make: Make) -> None:
    """An initializer that raises fails the calls that wait, refuses new ones, and the executor has failed."""

    def fail(reason: str) -> None:
        raise OSError(reason)

    deaths: list[BaseException] = []
    gate = threading.Event()
    executor = make(1, "", lambda reason: (gate.wait(PATIENCE), fail(reason)), ("no licence",), max_pending=1)
    executor.failed = deaths.append
    futures = [executor.submit(str), executor.submit(str)]
    blocked = Background(lambda: executor.submit(str))
    wait_for(lambda: waiting_for_room(executor) == 1)
    gate.set()
    for future in futures:
        error = future.exception(PATIENCE)
        assert isinstance(error, cf.BrokenExecutor)
        assert str(error.__cause__) == "no licence"
    with pytest.raises(cf.BrokenExecutor):
        blocked.result()
    assert executor.join(PATIENCE)
    with pytest.raises(cf.BrokenExecutor):
        executor.submit(str)
    assert executor.state is ComponentState.FAILED
    assert deaths == [executor.failure]


def test_an_initializer_with_arguments(make: Make) -> None:
    """The initializer is called with initargs, first in each thread."""
    seen: list[int] = []
    executor = make(1, "", seen.append, (7,))
    executor.submit(seen.append, 8).result(PATIENCE)
    assert seen == [7, 8]


def test_resize(make: Make, blocker: Blocker) -> None:
    """resize() changes how many calls run at once, and so the bound, before and after the start."""
    executor = make(1, max_pending=1, on_full="reject")
    executor.resize(2)
    assert executor.stats().workers == 2
    futures = [executor.submit(blocker) for _ in range(3)]
    blocker.wait_until_called(2)
    executor.resize(4)
    futures += [executor.submit(blocker) for _ in range(2)]
    blocker.wait_until_called(2)
    with pytest.raises(Full):
        executor.submit(blocker)
    executor.resize(1)
    blocker.let_go()
    for future in futures:
        future.result(PATIENCE)
    assert executor.stats().workers == 1
    second = Blocker()
    executor.submit(second)
    executor.submit(second)
    with pytest.raises(Full):
        executor.submit(second)
    second.let_go()
    for bad, error in [(0, ValueError), (True, TypeError), (1.5, TypeError), (None, TypeError)]:
        with pytest.raises(error, match="max_workers"):
            executor.resize(bad)  # type: ignore[arg-type]  # what is tested


def test_statistics_add_up(make: Make, blocker: Blocker) -> None:
    """At every moment submitted is the sum of completed, failed, cancelled, pending and running."""
    executor, futures = full(make, blocker, max_pending=4)
    futures[1].cancel()
    for _ in range(2):
        stats = executor.stats()
        assert stats.submitted == 5
        assert stats.submitted == (stats.completed + stats.failed + stats.cancelled + stats.pending + stats.running)
        blocker.let_go()
        executor.shutdown()
    assert executor.stats().as_dict() == {
        "submitted": 5,
        "completed": 4,
        "failed": 0,
        "cancelled": 1,
        "rejected": 0,
        "dropped": 0,
        "pending": 0,
        "running": 0,
        "workers": 1,
        "rebuilds": 0,
    }


def test_no_first_thread(make: Make) -> None:
    """Where the system gives no first thread, the start is tried again as submit_retry says, and then fails."""

    class Stingy(SystemClock):
        refusals = 2

        def spawn(self, target: Callable[[], None], name: str) -> threading.Thread:
            if self.refusals:
                self.refusals -= 1
                raise RuntimeError("can't start new thread")
            return super().spawn(target, name)

    patient = Retry(3, backoff.constant(0.001))
    assert make(1, clock=Stingy(), submit_retry=patient).submit(abs, -1).result(PATIENCE) == 1
    impatient = make(1, clock=Stingy(), submit_retry=Retry(2, backoff.constant(0.001)))
    with pytest.raises(RuntimeError, match="can't start new thread"):
        impatient.submit(abs, -1)
    assert impatient.state is ComponentState.FAILED
    with pytest.raises(Closed):
        impatient.submit(abs, -1)


class Refusing(SystemClock):
    """A clock that makes no thread."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.attempts = 0

    def spawn(self, target: Callable[[], None], name: str) -> threading.Thread:
        self.attempts += 1
        raise RuntimeError(self.reason)


def test_no_thread_from_the_interpreter(make: Make) -> None:
    """Where the interpreter gives no more threads since it exits, the start is not tried again."""
    clock = Refusing("can't create new thread at interpreter shutdown")
    with pytest.raises(RuntimeError, match="interpreter shutdown"):
        make(1, clock=clock).start()
    assert clock.attempts == 1


def test_no_first_thread_on_an_event_loop(make: Make) -> None:
    """On an event loop's thread the start is not tried again, since that would block the loop; acall() has it tried."""
    clock, patient = Refusing("can't start new thread"), Refusing("can't start new thread")
    retry = Retry(3, backoff.constant(0))

    async def main() -> None:
        with pytest.raises(RuntimeError, match="can't start new thread"):
            make(1, clock=clock, submit_retry=retry).submit(str)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            await make(1, clock=patient, submit_retry=retry).acall(str)

    asyncio.run(main())
    assert (clock.attempts, patient.attempts) == (1, 3)


def test_no_start_while_the_interpreter_exits(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the main thread has ended an executor does not start any more: its threads would be killed."""
    ended = threading.Thread(target=str)
    ended.start()
    ended.join(PATIENCE)
    monkeypatch.setattr(threading, "main_thread", lambda: ended)
    with pytest.raises(Closed, match="the interpreter exits"):
        make(1).submit(str)


def test_submit_from_a_finalizer(make: Make) -> None:
    """A finalizer may submit, also where it strikes inside submit()."""
    executor = make(2)

    class Thing:
        def __del__(self) -> None:
            executor.submit(seen.append, 1)

    seen: list[int] = []
    futures = []
    for _ in range(200):
        cycle = [Thing()]
        cycle.append(cycle)  # type: ignore[arg-type]  # a cycle, for the garbage collector
        del cycle
        futures.append(executor.submit(gc.collect, 0))
    for future in futures:
        future.result(PATIENCE)
    gc.collect()
    executor.shutdown()
    assert len(seen) == 200


def test_a_finalizer_inside_the_first_submit(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finalizer that strikes while the first submit() starts the executor may submit to it, and waits for nothing."""
    executor = make(1)
    futures: list[cf.Future[Any]] = []
    launch = executor._launch

    def strike() -> None:
        futures.append(executor.submit(str, "early"))
        launch()

    monkeypatch.setattr(executor, "_launch", strike)
    futures.append(Background(lambda: executor.submit(str, "late")).result())
    assert [future.result(PATIENCE) for future in futures] == ["early", "late"]


# --- Dropped ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [{}, {"inner": executors.threads(1)}, {"inner": lambda: cf.ThreadPoolExecutor(1)}]
)
def test_an_executor_that_is_dropped(arguments: dict[str, Any], blocker: Blocker) -> None:
    """Dropped without a shutdown it is freed at once, futures or not; what waits is done, and its threads end."""
    executor = BoundedExecutor(**arguments)
    futures = [executor.submit(blocker), executor.submit(str, 2)]
    blocker.wait_until_called()
    results = executor.map(str, range(3))
    threads, gone = executor.threads(), weakref.ref(executor)
    assert id(executor._steward) in _exit._roots
    gc.disable()
    try:
        del executor
        assert gone() is None
    finally:
        gc.enable()
    blocker.let_go()
    assert [future.result(PATIENCE) for future in futures] == ["let go", "2"]
    assert list(results) == ["0", "1", "2"]
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_an_executor_that_is_dropped_while_the_interpreter_exits(blocker: Blocker) -> None:
    """At exit the interpreter waits for what a dropped executor has taken, and no longer."""
    executor = BoundedExecutor(1)
    future = executor.submit(blocker)
    steward = executor._steward
    del executor
    assert id(steward) in _exit._roots
    steward.begin_exit()
    waiting = Background(lambda: steward.finish_exit(0.0))
    blocker.let_go()
    assert waiting.result() == []
    assert future.result(0) == "let go"
    wait_for(lambda: id(steward) not in _exit._roots)
    assert steward.finish_exit(0.0) == []


def test_map_with_a_buffer_keeps_its_executor(make: Make) -> None:
    """An iterator that has yet to submit something keeps the executor alive, and lets it go then."""
    results = BoundedExecutor(1).map(str, range(5), buffersize=2)
    assert list(results) == ["0", "1", "2", "3", "4"]


# --- Errors that nobody reads ----------------------------------------------------------------------------------------


def failing(what: str) -> None:
    raise OSError(what)


def test_an_error_that_nobody_reads(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """What a call raised and nobody asked for is an event and a log record, when its future goes."""
    executor = make(1)
    seen: list[events.Event] = []
    executor.observe(seen.append)
    executor.submit(functools.partial(failing, "disk full"))
    executor.shutdown()
    (unread,) = (event for event in seen if isinstance(event, events.ErrorUnread))
    assert str(unread) == "executor 'executor': nobody asked what failing raised: OSError: disk full"
    assert str(unread) in caplog.text


@pytest.mark.parametrize("read", [lambda future: future.exception(PATIENCE), lambda future: future.result(PATIENCE)])
def test_an_error_that_somebody_reads(make: Make, read: Callable[[Any], object], caplog: Any) -> None:
    """Asking for the outcome is enough, whatever comes of it."""
    executor = make(1)
    with contextlib.suppress(OSError):
        read(executor.submit(failing, "disk full"))
    executor.shutdown()
    assert "nobody asked" not in caplog.text


def test_a_late_error_that_nobody_reads(make: Make, blocker: Blocker, caplog: pytest.LogCaptureFixture) -> None:
    """What a call raises after its time was over is not lost, although the future told of the time-out."""
    executor = make(1)

    def late() -> None:
        blocker()
        raise OSError("too late")

    future = executor.options(timeout=0.01).submit(late)
    assert isinstance(future.exception(PATIENCE), CallTimeout)
    blocker.let_go()
    executor.shutdown()
    del future
    assert "late raised: OSError: too late" in caplog.text


def test_a_timeout_that_nobody_reads(
    make: Make, clock: VirtualClock, parked: Blocker, caplog: pytest.LogCaptureFixture
) -> None:
    """A call whose time was over, while it waited or while it ran, and whose future nobody asked, is told of."""
    executor = make(1, clock=clock)
    running = executor.options(timeout=5).submit(parked)
    parked.wait_until_called()
    waiting = executor.options(timeout=5).submit(failing, "never")
    read = executor.options(timeout=5).submit(failing, "never")
    clock.advance(5)
    assert isinstance(read.exception(), CallTimeout)
    del read
    assert "nobody asked" not in caplog.text
    del waiting
    assert "nobody asked what failing raised: CallTimeout" in caplog.text
    caplog.clear()
    parked.let_go()
    executor.shutdown()
    assert "nobody asked" not in caplog.text
    del running
    assert "ClockBlocker" in caplog.text
    assert "CallTimeout" in caplog.text


def test_a_late_error_before_the_timeout_is_read(make: Make, blocker: Blocker, caplog: Any) -> None:
    """A call that raises after its time was over is told of at once, and its CallTimeout waits to be asked for."""
    executor = make(1)

    def late() -> None:
        blocker()
        raise OSError("too late")

    future = executor.options(timeout=0.01).submit(late)
    assert cf.wait([future], PATIENCE).done
    blocker.let_go()
    executor.shutdown()
    assert "late raised: OSError: too late" in caplog.text
    assert "CallTimeout" not in caplog.text
    assert isinstance(future.exception(), CallTimeout)
    del future
    assert "CallTimeout" not in caplog.text


def test_errors_that_map_does_not_come_to(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Who stops at the first error of map() has seen enough: the others are not held against him."""
    executor = make(2)
    with pytest.raises(OSError, match="0"):
        list(executor.map(failing, ["0", "1", "2"]))
    executor.shutdown()
    assert "nobody asked" not in caplog.text


def test_errors_at_interpreter_exit(make: Make, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """What goes while the interpreter is torn down tells nothing: there may be nothing left to tell it with."""
    executor = make(1)
    monkeypatch.setattr("sys.is_finalizing", lambda: True)
    executor.submit(failing, "disk full")
    executor.shutdown()
    assert "nobody asked" not in caplog.text


def test_an_error_of_a_call_that_its_submitter_ran(make: Make, blocker: Blocker, caplog: Any) -> None:
    """With on_full="caller_runs" an error that nobody reads is told of, too."""
    executor, _ = full(make, blocker, on_full="caller_runs")
    executor.submit(failing, "here")
    assert "failing raised: OSError: here" in caplog.text


# --- In a lifecycle --------------------------------------------------------------------------------------------------


def test_in_a_lifecycle() -> None:
    """In a lifecycle the executor is an engine: it stops last, and finishes what was submitted."""
    with Lifecycle(signals=False) as lc:
        executor = lc.executor(max_workers=1)
        assert executor.default_phase is Phase.ENGINES
        futures = [executor.submit(abs, -number) for number in range(20)]
    assert [future.result(0) for future in futures] == list(range(20))


@pytest.mark.parametrize(
    ("arguments", "error", "name"),
    [
        ({"max_workers": 0}, ValueError, "max_workers"),
        ({"max_workers": -1}, ValueError, "max_workers"),
        ({"max_workers": True}, TypeError, "max_workers"),
        ({"max_workers": 1.5}, TypeError, "max_workers"),
        ({"max_workers": "4"}, TypeError, "max_workers"),
        ({"thread_name_prefix": None}, TypeError, "thread_name_prefix"),
        ({"initializer": 3}, TypeError, "initializer"),
        ({"initargs": [1]}, TypeError, "initargs"),
        ({"inner": 3}, TypeError, "inner"),
        ({"inner": str, "max_workers": 2}, TypeError, "inner"),
        ({"inner": str, "initializer": str}, TypeError, "inner"),
        ({"max_pending": -1}, ValueError, "max_pending"),
        ({"max_pending": math.nan}, TypeError, "max_pending"),
        ({"max_pending": None}, TypeError, "max_pending"),
        ({"on_full": "drop"}, ValueError, "on_full"),
        ({"submit_retry": 3}, TypeError, "submit_retry"),
        ({"recreate": -1}, ValueError, "recreate"),
        ({"recreate": None}, TypeError, "recreate"),
        ({"context": "yes"}, TypeError, "context"),
        ({"name": ""}, ValueError, "name"),
        ({"name": 3}, TypeError, "name"),
    ],
)
def test_bad_input_is_refused(arguments: dict[str, Any], error: type[Exception], name: str) -> None:
    """What makes no sense is refused by the constructor, with the parameter's name."""
    with pytest.raises(error, match=name):
        BoundedExecutor(**arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "name"),
    [
        ({"timeout": -1}, ValueError, "timeout"),
        ({"timeout": "5"}, TypeError, "timeout"),
        ({"idempotent": 1}, TypeError, "idempotent"),
        ({"token": threading.Event()}, TypeError, "token"),
    ],
)
def test_bad_terms_are_refused(make: Make, arguments: dict[str, Any], error: type[Exception], name: str) -> None:
    """What makes no sense is refused by options(), with the parameter's name."""
    with pytest.raises(error, match=name):
        make(1).options(**arguments)
