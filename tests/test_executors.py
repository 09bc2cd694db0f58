"""BoundedExecutor over somebody else's executor: what it sends, how it heals; and the factories of ``executors``."""

from __future__ import annotations

import concurrent.futures as cf
import contextvars
import logging
import math
import sys
import threading
import types
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from helpers import PATIENCE, Background, Blocker, Gate

from threadkit import (
    BoundedExecutor,
    CallTimeout,
    Closed,
    ComponentState,
    Full,
    Retry,
    SystemClock,
    WouldBlock,
    backoff,
    events,
    executors,
)
from threadkit._engine_call import EngineCall
from threadkit.testing import InlineExecutor, VirtualClock


class Engine(cf.Executor):
    """An executor that does what a test tells it to. Its shutdown() has no cancel_futures, as some have none."""

    def __init__(self) -> None:
        self.refusals: deque[BaseException] = deque()
        self.sent: list[tuple[cf.Future[Any], Callable[[], Any]]] = []
        self.shut_down: list[bool] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> cf.Future[Any]:
        if self.refusals:
            raise self.refusals.popleft()
        future: cf.Future[Any] = cf.Future()
        self.sent.append((future, lambda: fn(*args, **kwargs)))
        return future

    def begin(self) -> None:
        """Take the first call, so that it cannot be cancelled any more."""
        self.sent[0][0].set_running_or_notify_cancel()

    def run(self) -> None:
        """Run what was sent."""
        while self.sent:
            future, call = self.sent.pop(0)
            if not future.running() and not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)

    def die(self) -> None:
        """Break: everything that was sent fails at once, and so does every submit() from now on."""
        self.refusals.extend([cf.BrokenExecutor("dead")] * 1000)
        sent, self.sent = self.sent, []
        for future, _ in sent:
            if future.running() or future.set_running_or_notify_cancel():
                future.set_exception(cf.BrokenExecutor("dead"))

    def shutdown(self, wait: bool = True) -> None:  # type: ignore[override]  # as loky's and dask's
        self.shut_down.append(wait)


class Dead(Engine):
    """An engine that was broken from the beginning."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> cf.Future[Any]:
        raise cf.BrokenExecutor("born dead")


class Factory:
    """Makes engines and remembers them."""

    def __init__(self) -> None:
        self.engines: list[Engine] = []

    def __call__(self) -> Engine:
        self.engines.append(Engine())
        return self.engines[-1]


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def factory() -> Factory:
    return Factory()


Make = Callable[..., BoundedExecutor]


@pytest.fixture
def make(clock: VirtualClock, factory: Factory) -> Iterator[Make]:
    """Make executors over engines; after the test what the engines have is run, and the executors are shut down."""
    made: list[BoundedExecutor] = []

    def make(**kwargs: Any) -> BoundedExecutor:
        made.append(BoundedExecutor(**{"inner": factory, "clock": clock, "submit_retry": PATIENT, **kwargs}))
        return made[-1]

    yield make
    for engine in factory.engines:
        engine.run()
    for executor in made:
        executor.shutdown(cancel_futures=True)


PATIENT = Retry(4, backoff.constant(10))


# --- What is sent ----------------------------------------------------------------------------------------------------


def test_results_and_errors_come_back(make: Make, factory: Factory) -> None:
    """What the engine's future has, the call's future has."""
    executor = make()
    good, bad = executor.submit(pow, 2, exp=10), executor.submit(divmod, 1, 0)
    factory.engines[0].run()
    assert good.result(PATIENCE) == 1024
    assert isinstance(bad.exception(PATIENCE), ZeroDivisionError)
    stats = executor.stats()
    assert (stats.completed, stats.failed, stats.pending, stats.running) == (1, 1, 0, 0)


def test_the_bound_holds(make: Make, factory: Factory) -> None:
    """An engine that does not say how many calls it runs at once has at most max_pending of them."""
    executor = make(max_pending=2, on_full="reject")
    executor.submit(str)
    executor.submit(str)
    with pytest.raises(Full):
        executor.submit(str)
    factory.engines[0].run()
    executor.submit(str)
    assert executor.stats().pending == 1


def test_workers_are_known_of_the_standard_library(make: Make) -> None:
    """Where the engine says how many calls it runs at once, so many may run and max_pending more may wait."""
    blocker = Blocker()
    executor = make(inner=lambda: cf.ThreadPoolExecutor(2), max_pending=1, on_full="reject")
    for _ in range(3):
        executor.submit(blocker)
    with pytest.raises(Full):
        executor.submit(blocker)
    assert executor.stats().workers == 2
    blocker.let_go()


def test_an_engine_whose_size_is_no_number(make: Make) -> None:
    """What an engine says about its size is believed only where it is a number."""

    class Odd(Engine):
        _max_workers = "many"

    assert make(inner=Odd, max_pending=3).submit(str).done() is False


def test_submit_that_fails_for_another_reason(make: Make, factory: Factory) -> None:
    """An error of submit() that does not mean a broken engine goes to the submitter; the permit comes back."""
    executor = make(max_pending=1, on_full="reject")
    executor.start()
    factory.engines[0].refusals.append(TypeError("cannot pickle"))
    with pytest.raises(TypeError, match="cannot pickle"):
        executor.submit(str)
    executor.submit(str)
    assert executor.stats().submitted == 1
    assert len(factory.engines) == 1


def test_cancel(make: Make, factory: Factory) -> None:
    """A call is cancelled where the engine's own future can be; one that runs there goes on."""
    executor = make(max_pending=2, on_full="reject")
    running, waiting = executor.submit(str, 1), executor.submit(str, 2)
    factory.engines[0].begin()
    assert (running.running(), waiting.running()) == (True, False)
    assert not running.cancel()
    assert waiting.cancel()
    assert waiting.cancelled()
    executor.submit(str, 3)
    factory.engines[0].run()
    assert running.result(PATIENCE) == "1"
    assert executor.stats().cancelled == 1


def test_an_engine_that_cancels(make: Make, clock: VirtualClock, factory: Factory) -> None:
    """An engine that cancels a call though nobody asked has lost it and is broken: the call fails, or is sent again."""
    executor = make()
    future, careful = executor.submit(str), executor.options(idempotent=True).submit(str, "again")
    for sent, _ in factory.engines[0].sent:
        sent.cancel()
    assert "lost the call" in str(future.exception(PATIENCE))
    clock.advance(10)
    factory.engines[1].run()
    assert careful.result(PATIENCE) == "again"
    assert executor.stats().rebuilds == 1


def test_cancel_inside_submit(make: Make, factory: Factory) -> None:
    """A call that is cancelled before the engine's future can be seen cancels that future then."""
    executor = make()
    calls: list[EngineCall[Any]] = []

    class Eager(Engine):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> cf.Future[Any]:
            future = super().submit(fn, *args, **kwargs)
            calls.extend(executor._lane._in_flight)  # type: ignore[union-attr]  # it runs
            calls[-1].cancel()
            return future

    executor = make(inner=Eager)
    future = executor.submit(str)
    assert future.cancelled()
    assert executor.work_left() == 0
    assert executor._lane._plant.current.executor.sent[0][0].cancelled()  # type: ignore[union-attr]  # it runs


def test_drop_oldest(make: Make, factory: Factory) -> None:
    """With on_full="drop_oldest" the oldest call that does not run yet is cancelled."""
    executor = make(max_pending=3, on_full="drop_oldest")
    futures = [executor.submit(str, number) for number in range(3)]
    factory.engines[0].begin()
    late = executor.submit(str, "late")
    assert [future.cancelled() for future in futures] == [False, True, False]
    factory.engines[0].run()
    assert late.result(PATIENCE) == "late"
    one = make(max_pending=1, on_full="drop_oldest")
    one.submit(str)
    factory.engines[1].begin()
    with pytest.raises(Full):
        one.submit(str)


def test_two_who_drop_the_same_call(make: Make, factory: Factory) -> None:
    """Of two who drop the same call at once, one counts it."""
    executor = make(max_pending=1, on_full="drop_oldest")
    future: Any = executor.submit(str)
    inner = factory.engines[0].sent[0][0]
    cancel = inner.cancel
    others: list[bool] = []

    def cancel_and_be_overtaken() -> bool:
        inner.cancel = cancel  # type: ignore[method-assign]  # once
        others.append(future.drop())
        return cancel()

    inner.cancel = cancel_and_be_overtaken  # type: ignore[method-assign]  # a race, made certain
    late = executor.submit(str, "late")
    assert others == [True]
    stats = executor.stats()
    assert (stats.cancelled, stats.dropped) == (1, 0)
    factory.engines[0].run()
    assert late.result(PATIENCE) == "late"


def test_timeout_while_it_runs(make: Make, clock: VirtualClock, factory: Factory) -> None:
    """A call whose time is over while it runs there fails; it keeps its permit until the engine has done with it."""
    executor = make(max_pending=1, on_full="reject")
    future = executor.options(timeout=5).submit(str)
    factory.engines[0].begin()
    clock.advance(5)
    assert isinstance(future.exception(), CallTimeout)
    with pytest.raises(Full):
        executor.submit(str)
    stats = executor.stats()
    assert (stats.submitted, stats.pending + stats.running, stats.failed) == (1, 1, 0)  # it is counted once
    factory.engines[0].run()
    stats = executor.stats()
    assert (stats.submitted, stats.pending + stats.running, stats.failed, stats.completed) == (1, 0, 1, 0)
    executor.submit(str)


def test_timeout_while_it_waits(make: Make, clock: VirtualClock, factory: Factory) -> None:
    """A call whose time is over while it waits there is cancelled there, and fails."""
    executor = make(max_pending=1, on_full="reject")
    future = executor.options(timeout=5).submit(str)
    clock.advance(5)
    assert isinstance(future.exception(), CallTimeout)
    assert factory.engines[0].sent[0][0].cancelled()
    executor.submit(str)


def test_shutdown_waits_for_the_engine(make: Make, clock: VirtualClock, factory: Factory) -> None:
    """After stop() the engine is shut down when the last call has ended, and then the executor has stopped."""
    executor = make()
    future = executor.submit(str, 1)
    executor.stop()
    with pytest.raises(Closed):
        executor.submit(str)
    clock.settle()
    assert executor.state is ComponentState.STOPPING
    assert factory.engines[0].shut_down == []
    factory.engines[0].run()
    assert executor.join(PATIENCE)
    assert future.result(0) == "1"
    assert factory.engines[0].shut_down[-1] is True


def test_a_stop_inside_submit(make: Make, factory: Factory) -> None:
    """A stop that comes while a call is handed to an engine that refuses it is a stop, and no broken engine."""
    executor: BoundedExecutor

    class Refusing(Engine):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> cf.Future[Any]:
            executor.stop()
            raise RuntimeError("cannot schedule new futures after shutdown")

    executor = make(inner=Refusing)
    with pytest.raises(Closed):
        executor.submit(str)
    assert executor.join(PATIENCE)
    assert executor.stats().rebuilds == 0


def test_an_engine_that_cannot_be_shut_down(make: Make, factory: Factory, caplog: pytest.LogCaptureFixture) -> None:
    """What shutdown() of an engine raises is logged, and the executor stops nevertheless."""

    class Bad(Engine):
        def shutdown(self, wait: bool = True) -> None:
            raise OSError("gone")

    executor = make(inner=Bad)
    executor.start()
    with caplog.at_level(logging.ERROR, "threadkit"):
        executor.shutdown()
    assert "shutting" in caplog.text
    assert executor.state is ComponentState.STOPPED


def test_a_factory_that_fails(make: Make) -> None:
    """Where the factory fails, or makes something else than an executor, the start fails and says so."""
    with pytest.raises(TypeError, match=r"inner must return a concurrent\.futures\.Executor, not ''"):
        make(inner=str).submit(str)
    with pytest.raises(ZeroDivisionError):
        make(inner=lambda: 1 / 0).start()


def test_the_event_loop_goes_on_while_an_engine_is_made(make: Make) -> None:
    """acall() has an engine made, however long it takes, while the event loop goes on."""
    import asyncio

    inside, door = Gate(), Gate()

    def make_engine() -> cf.Executor:
        inside.open()
        door.pass_through()
        return InlineExecutor()

    executor = make(inner=make_engine)

    async def main() -> list[int]:
        calls = asyncio.gather(executor.acall(abs, -1), executor.options(timeout=60).acall(abs, -2))
        while not inside.is_open():  # noqa: ASYNC110 - what is shown is that the loop turns
            await asyncio.sleep(0)
        door.open()
        return await calls

    assert asyncio.run(main()) == [1, 2]


def test_no_thread_for_the_keeper(factory: Factory) -> None:
    """Where no thread can be made, the start fails, and the engine that was made is shut down."""

    class Stingy(VirtualClock):
        def spawn(self, target: Callable[[], None], name: str) -> threading.Thread:
            raise RuntimeError("can't start new thread")

    executor = BoundedExecutor(inner=factory, clock=Stingy(), submit_retry=Retry(1))
    with pytest.raises(RuntimeError, match="can't start new thread"):
        executor.start()
    assert factory.engines[0].shut_down == [False]


def test_an_engine_cannot_be_resized(make: Make) -> None:
    """resize() of an executor over an engine says that the size is the engine's own."""
    with pytest.raises(RuntimeError, match="a size of its own"):
        make().resize(2)


# --- Engines of this process -----------------------------------------------------------------------------------------


def test_context_over_threads(make: Make) -> None:
    """Over threads of this process calls run in a copy of the context that they were submitted in."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    variable.set("mine")
    executor = make(inner=lambda: cf.ThreadPoolExecutor(1))
    assert executor.submit(variable.get).result(PATIENCE) == "mine"
    assert make(inner=lambda: cf.ThreadPoolExecutor(1), context=False).submit(variable.get).result(PATIENCE) == "none"


def test_no_context_over_interpreters(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A context is not sent to other interpreters, although their executor derives from that of threads."""

    class InterpreterPoolExecutor(cf.ThreadPoolExecutor):
        pass

    module = types.SimpleNamespace(InterpreterPoolExecutor=InterpreterPoolExecutor)
    monkeypatch.setitem(sys.modules, "concurrent.futures.interpreter", module)
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    variable.set("mine")
    assert make(inner=lambda: InterpreterPoolExecutor(1)).submit(variable.get).result(PATIENCE) == "none"
    assert make(inner=lambda: cf.ThreadPoolExecutor(1)).submit(variable.get).result(PATIENCE) == "mine"


def test_its_own_worker_would_block(make: Make) -> None:
    """A call on an engine of this process that submits to its own full executor gets WouldBlock."""
    executor = make(inner=lambda: cf.ThreadPoolExecutor(1), max_pending=0)
    with pytest.raises(WouldBlock, match="a worker"):
        executor.submit(lambda: executor.submit(str)).result(PATIENCE)


def test_shutdown_by_its_own_worker(make: Make) -> None:
    """A call on an engine of this process that shuts its own executor down does not wait for itself."""
    executor = make(inner=lambda: cf.ThreadPoolExecutor(1))
    executor.submit(executor.shutdown).result(PATIENCE)
    assert executor.join(PATIENCE)
    assert executor.state is ComponentState.STOPPED


def test_threads_of_an_engine(make: Make) -> None:
    """The threads of an engine of this process are the executor's while they run its calls."""
    blocker = Blocker()
    executor = make(inner=lambda: cf.ThreadPoolExecutor(1, "borrowed"))
    future = executor.submit(blocker)
    blocker.wait_until_called()
    assert [thread.name for thread in executor.threads() if thread.name.startswith("borrowed")] == ["borrowed_0"]
    blocker.let_go()
    future.result(PATIENCE)
    executor.shutdown()
    assert executor.threads() == []


def test_an_engine_that_takes_a_call_and_refuses_it(make: Make, clock: VirtualClock) -> None:
    """A call that a thread pool has queued although its submit() raised is sent again, and runs once."""
    ran: list[int] = []

    class TornPool(cf.ThreadPoolExecutor):
        refusals = 1

        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> cf.Future[Any]:
            future = super().submit(fn, *args, **kwargs)
            if self.refusals:
                TornPool.refusals -= 1
                raise RuntimeError("can't start new thread")
            return future

    executor = make(inner=lambda: TornPool(1))
    future = executor.submit(ran.append, 1)
    future.result(PATIENCE)
    executor.shutdown()
    assert ran == [1]


def test_an_engine_of_this_process_that_breaks(make: Make, clock: VirtualClock) -> None:
    """A thread pool whose initializer fails is broken: its calls fail, and it is replaced."""
    broken = iter([True, False])

    def initializer() -> None:
        if next(broken):
            raise OSError("no licence")

    executor = make(inner=lambda: cf.ThreadPoolExecutor(1, initializer=initializer))
    error = executor.submit(str, 1).exception(PATIENCE)
    assert isinstance(error, cf.BrokenExecutor)
    executor._lane._keeper.put(lambda: None)  # type: ignore[union-attr]  # it runs
    clock.settle()
    assert executor.submit(str, 2).result(PATIENCE) == "2"


def test_an_engine_of_this_process_that_cancels(make: Make) -> None:
    """A call that an engine of this process loses, or fails to run, has failed."""

    class Lazy(Engine):
        in_process = True

    executor = make(inner=Lazy)
    cancelled, failed = executor.submit(str), executor.submit(str)
    engine = executor._lane._plant.current.executor  # type: ignore[union-attr]  # it runs
    assert executor.submit(str).cancel()
    assert engine.sent[2][0].cancelled()
    engine.sent[0][0].cancel()
    assert isinstance(cancelled.exception(PATIENCE), cf.BrokenExecutor)
    engine.sent[1][0].set_exception(OSError("gone"))
    assert isinstance(failed.exception(), OSError)


# --- Healing ---------------------------------------------------------------------------------------------------------


def test_one_rebuild_however_many_notice(make: Make, clock: VirtualClock, factory: Factory) -> None:
    """Calls in flight fail with the cause; the engine is replaced once; what comes then runs on the new one."""
    executor = make()
    seen: list[events.Event] = []
    executor.observe(seen.append)
    futures = [executor.submit(str, number) for number in range(10)]
    factory.engines[0].die()
    clock.settle()
    assert [type(future.exception(0)) for future in futures] == [cf.BrokenExecutor] * 10
    assert len(factory.engines) == 2
    assert factory.engines[0].shut_down == [False]
    rebuilt = [event for event in seen if isinstance(event, events.ExecutorRebuilt)]
    assert [(event.rebuilds, str(event.error)) for event in rebuilt] == [(1, "dead")]
    late = executor.submit(str, "late")
    factory.engines[1].run()
    assert late.result(PATIENCE) == "late"
    assert executor.stats().rebuilds == 1


def test_many_submitters_notice(make: Make, clock: VirtualClock, factory: Factory) -> None:
    """However many threads get the refusal of a broken engine, there is one rebuild, and every call is made."""
    executor = make()
    executor.start()
    factory.engines[0].die()
    crowd = [Background(lambda number=number: executor.submit(str, number)) for number in range(8)]
    futures = [one.result() for one in crowd]
    clock.settle()
    for _ in futures:
        clock.advance(10)
    assert len(factory.engines) == 2
    factory.engines[1].run()
    assert sorted(future.result(PATIENCE) for future in futures) == [str(number) for number in range(8)]


@pytest.mark.parametrize(
    "error", [cf.BrokenExecutor("dead"), RuntimeError("cannot schedule new futures after shutdown")]
)
def test_a_refused_call_is_sent_again(make: Make, clock: VirtualClock, factory: Factory, error: RuntimeError) -> None:
    """A call that the engine refuses waits as submit_retry says, on the clock, and goes to the new engine."""
    executor = make()
    executor.start()
    factory.engines[0].refusals.append(error)
    future = executor.submit(str, 1)
    clock.settle()
    assert len(factory.engines) == 2
    clock.advance(9)
    assert factory.engines[1].sent == []
    clock.advance(1)
    factory.engines[1].run()
    assert future.result(PATIENCE) == "1"


def test_a_call_that_is_refused_again_and_again(make: Make, clock: VirtualClock, factory: Factory) -> None:
    """When submit_retry gives up, the call fails with the last refusal; recreate bounds the engines made meanwhile."""
    executor = make(recreate=2)
    executor.start()
    made = factory.engines
    made[0].die()
    executor._lane._plant._factory = lambda: made.append(Dead()) or made[-1]  # type: ignore[union-attr]  # it runs
    future = executor.submit(str)
    clock.advance(40)
    assert str(future.exception(0)) == "born dead"
    assert len(made) == 3  # the second after ten seconds more
    executor._lane._plant._factory = factory  # type: ignore[union-attr]  # it runs
    late = executor.submit(str, "late")
    clock.advance(19)
    assert len(made) == 3
    clock.advance(21)  # a minute after the first rebuild one more is allowed
    made[-1].run()
    assert late.result(PATIENCE) == "late"


def test_a_stop_while_a_refused_call_waits(make: Make, clock: VirtualClock, factory: Factory) -> None:
    """A stop ends the wait of a call that was refused: it goes to the new engine, or fails where there is none."""
    executor = make(recreate=1)
    executor.start()
    factory.engines[0].die()
    executor._lane._plant._factory = InlineExecutor  # type: ignore[union-attr]  # it runs
    good = executor.submit(str, "good")
    clock.settle()
    executor.stop()
    assert good.result(PATIENCE) == "good"
    executor = make(recreate=1, inner=Dead)
    future = executor.submit(str)
    clock.settle()
    executor.shutdown()
    assert "born dead" in str(future.exception(0))


def test_a_stop_while_an_engine_is_busy(make: Make, clock: VirtualClock, factory: Factory) -> None:
    """A stop does not end the wait for an engine that is only busy: what was taken is done."""
    executor = make()
    executor.start()
    factory.engines[0].refusals.append(Full("executor", "inner", 3))
    future = executor.submit(str, 1)
    clock.settle()
    executor.stop()
    clock.advance(9)
    assert factory.engines[0].sent == []
    clock.advance(1)
    factory.engines[0].run()
    assert future.result(PATIENCE) == "1"


def test_rebuilds_keep_their_distance(make: Make, clock: VirtualClock, factory: Factory) -> None:
    """The second rebuild within a minute waits as submit_retry says, unless the executor is told to stop meanwhile."""
    executor = make()
    for number, pause in ((0, 0), (1, 10)):
        executor.submit(str)
        factory.engines[number].die()
        clock.advance(pause)
        assert len(factory.engines) == number + 2
    late = executor.submit(str)
    factory.engines[2].die()
    assert isinstance(late.exception(PATIENCE), cf.BrokenExecutor)
    executor.shutdown()
    assert len(factory.engines) == 3


def test_a_busy_engine_is_not_broken(make: Make, clock: VirtualClock, factory: Factory) -> None:
    """An engine that is full, or gets no thread for the call just now, is asked again later and not replaced."""
    factory.in_process = True  # type: ignore[attr-defined]  # what a factory may say
    executor = make(recreate=0)
    executor.start()
    factory.engines[0].refusals.extend([RuntimeError("can't start new thread"), Full("executor", "inner", 3)])
    future = executor.submit(str, 1)
    clock.advance(20)
    factory.engines[0].run()
    assert future.result(PATIENCE) == "1"
    assert executor.stats().rebuilds == 0


def test_a_torn_engine(make: Make, clock: VirtualClock, factory: Factory) -> None:
    """An engine of other processes that got no thread to look after them is replaced: it will never ask again."""

    class Torn(Engine):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> cf.Future[Any]:
            future = super().submit(fn, *args, **kwargs)
            if len(self.sent) == 1:
                raise RuntimeError("can't start new thread")
            return future

    executor = make(inner=Torn)
    executor.start()
    executor._lane._plant._factory = factory  # type: ignore[union-attr]  # it runs
    future = executor.submit(str, 1)
    clock.advance(10)
    factory.engines[0].run()
    assert future.result(PATIENCE) == "1"
    assert executor.stats().rebuilds == 1


def test_a_main_module_without_a_guard(make: Make, factory: Factory) -> None:
    """A process that must not start processes yet is told so at once: there is nothing to mend."""
    executor = make()
    executor.start()
    factory.engines[0].refusals.append(RuntimeError("before it has finished its bootstrapping phase"))
    with pytest.raises(RuntimeError, match="bootstrapping"):
        executor.submit(str)


def test_an_engine_that_says_that_it_is_broken(make: Make, clock: VirtualClock, factory: Factory) -> None:
    """A factory may say what else is a break: asked before each call, and for each error."""
    asked: list[tuple[bool, BaseException | None]] = []

    class Probed(Factory):
        def is_broken(self, executor: cf.Executor, error: BaseException | None) -> bool:
            asked.append((executor is self.engines[0], error))
            return executor is self.engines[0] and isinstance(error, OSError)

    probed = Probed()
    executor = make(inner=probed)
    failing, dying = executor.submit(divmod, 1, 0), executor.submit(str)
    assert asked == [(True, None)] * 2
    probed.engines[0].run()
    assert isinstance(failing.exception(PATIENCE), ZeroDivisionError)
    assert dying.result(PATIENCE) == ""
    dying = executor.submit(str)
    probed.engines[0].sent.pop()[0].set_exception(OSError("disk"))
    assert isinstance(dying.exception(PATIENCE), cf.BrokenExecutor)
    assert isinstance(dying.exception().__cause__, OSError)  # type: ignore[union-attr]  # there is one
    clock.settle()
    assert executor.stats().rebuilds == 1


def test_an_engine_that_is_broken_before_a_call(make: Make, clock: VirtualClock, factory: Factory) -> None:
    """A call is not given to an engine that says that it is broken; a question that fails is answered with no."""
    answers = iter([True, False])

    class Probed(Factory):
        def is_broken(self, executor: cf.Executor, error: BaseException | None) -> bool:
            return next(answers)

    probed = Probed()
    executor = make(inner=probed)
    future = executor.submit(str, 1)
    clock.advance(10)
    assert (len(probed.engines), probed.engines[0].sent) == (2, [])
    unasked = executor.submit(str, 2)  # StopIteration
    probed.engines[1].run()
    assert (future.result(PATIENCE), unasked.result(PATIENCE)) == ("1", "2")


@pytest.mark.parametrize("begun", [False, True])
def test_a_lost_call(make: Make, clock: VirtualClock, factory: Factory, begun: bool) -> None:
    """A call that the engine has for longer than lost_after has failed, and the engine is replaced."""
    factory.lost_after = 60.0  # type: ignore[attr-defined]  # what a factory may say
    executor = make(max_pending=2)
    lost, careful = executor.submit(str), executor.options(idempotent=True).submit(str, "again")
    if begun:
        for sent, _ in factory.engines[0].sent:
            sent.set_running_or_notify_cancel()
    clock.advance(59)
    assert not lost.done()
    clock.advance(1)
    assert "not ended the call within 60" in str(lost.exception(PATIENCE))
    clock.advance(10)
    if begun:  # it may be running still, so it is not made twice
        assert isinstance(careful.exception(PATIENCE), cf.BrokenExecutor)
    else:
        factory.engines[1].run()
        assert careful.result(PATIENCE) == "again"
    assert executor.stats().rebuilds == 1
    assert executor.work_left() == 0


def test_a_call_that_ends_in_time_is_not_lost(make: Make, clock: VirtualClock, factory: Factory) -> None:
    """A call that has ended is watched no longer; one that ends as its time is over is left alone."""
    factory.lost_after = 60.0  # type: ignore[attr-defined]  # what a factory may say
    executor = make()
    future = executor.submit(str, 1)
    inner = factory.engines[0].sent[0][0]
    assert executor.threads()
    factory.engines[0].run()
    assert future.result(PATIENCE) == "1"
    lane = executor._lane
    lane._lose(future, lane._plant.current, inner)  # type: ignore[union-attr, arg-type]  # as if it had been on its way
    clock.advance(60)
    assert executor.stats().rebuilds == 0


def test_a_call_that_waits_is_not_lost(make: Make, clock: VirtualClock, factory: Factory) -> None:
    """The time of lost_after begins for a call when the engine has come to it, however long the line before it was."""
    factory.lost_after, factory.workers = 60.0, 2  # type: ignore[attr-defined]  # what a factory may say
    executor = make()
    futures = [executor.submit(str, number) for number in range(4)]
    engine = factory.engines[0]
    for future, _ in engine.sent[:2]:
        future.set_running_or_notify_cancel()
    clock.advance(50)
    engine.sent.pop(0)[0].set_result("0")  # so that the third begins
    clock.advance(10)
    assert "not ended the call within 60" in str(futures[1].exception(PATIENCE))
    clock.advance(49)
    assert not futures[2].done()
    clock.advance(1)
    assert futures[2].exception(PATIENCE) is not None
    assert executor.stats().rebuilds == 1


def test_a_replaced_engine_is_killed(make: Make, clock: VirtualClock, factory: Factory) -> None:
    """Where the factory knows how to end what an engine is at, that is done when the engine is replaced."""
    killed: list[cf.Executor] = []
    factory.kill = killed.append  # type: ignore[attr-defined]  # what a factory may say
    executor = make()
    executor.submit(str)
    factory.engines[0].die()
    clock.settle()
    assert killed == factory.engines[:1]
    assert factory.engines[0].shut_down == [True]  # what was killed soon ends
    executor.shutdown()
    assert killed == factory.engines[:1]
    assert factory.engines[1].shut_down == [True]


def test_an_engine_that_cannot_be_killed(
    make: Make, clock: VirtualClock, factory: Factory, caplog: pytest.LogCaptureFixture
) -> None:
    """What killing an engine raises is logged, and it is shut down and replaced nevertheless."""
    factory.kill = lambda executor: 1 / 0  # type: ignore[attr-defined]  # what a factory may say
    executor = make()
    executor.submit(str)
    with caplog.at_level(logging.ERROR, "threadkit"):
        factory.engines[0].die()
        clock.settle()
    assert "killing" in caplog.text
    assert factory.engines[0].shut_down == [False]
    assert executor.stats().rebuilds == 1


def test_the_end_of_an_engine_that_has_lost_a_call(make: Make, clock: VirtualClock, factory: Factory) -> None:
    """A shutdown does not wait for an engine that is not replaced, and is still at a call that was given up."""
    factory.lost_after = 60.0  # type: ignore[attr-defined]  # what a factory may say
    executor = make(recreate=0)
    future = executor.submit(str)
    factory.engines[0].begin()
    clock.advance(60)
    assert isinstance(future.exception(PATIENCE), cf.BrokenExecutor)
    executor.shutdown()
    assert factory.engines[0].shut_down == [False]


def test_calls_of_an_engine_that_is_given_up(make: Make, clock: VirtualClock, factory: Factory) -> None:
    """The time of all calls of an engine that was replaced runs at once, since nobody may ever begin them."""
    factory.lost_after, factory.workers = 60.0, 1  # type: ignore[attr-defined]  # what a factory may say
    executor = make()
    futures = [executor.submit(str, number) for number in range(20)]
    clock.advance(60)
    assert futures[0].done()
    clock.advance(60)
    assert all(future.done() for future in futures)
    assert executor.stats().rebuilds == 1


def test_a_call_without_a_watch(factory: Factory, caplog: pytest.LogCaptureFixture) -> None:
    """Where no thread is to be had to watch over a call that the engine has taken, that is logged; it is made once."""

    class Stingy(VirtualClock):
        def spawn(self, target: Callable[[], None], name: str) -> threading.Thread:
            if name.endswith("-watch"):
                raise RuntimeError("can't start new thread")
            return super().spawn(target, name)

    factory.lost_after = 60.0  # type: ignore[attr-defined]  # what a factory may say
    with caplog.at_level(logging.ERROR, "threadkit"):
        executor = BoundedExecutor(inner=factory, clock=Stingy())
        future = executor.submit(str, 1)
    assert "not watched" in caplog.text
    assert len(factory.engines[0].sent) == 1
    factory.engines[0].run()
    assert future.result(PATIENCE) == "1"
    executor.shutdown()
    assert executor.stats().rebuilds == 0


def test_a_finalizer_inside_the_first_submit(make: Make, clock: VirtualClock, factory: Factory) -> None:
    """A finalizer that strikes while the executor starts may submit to it; the call is made once it has started."""
    futures: list[cf.Future[Any]] = []

    def strike() -> Engine:
        futures.append(executor.submit(str, "early"))
        return factory()

    executor = make(inner=strike)
    futures.append(executor.submit(str, "late"))
    clock.settle()
    factory.engines[0].run()
    assert [future.result(PATIENCE) for future in futures] == ["early", "late"]


def test_a_finalizer_inside_a_start_that_fails(make: Make) -> None:
    """What a finalizer has submitted while the executor could not start has failed with it."""
    futures: list[cf.Future[Any]] = []

    def strike() -> Engine:
        futures.append(executor.submit(str, "early"))
        raise OSError("no cluster")

    executor = make(inner=strike)
    with pytest.raises(OSError, match="no cluster"):
        executor.start()
    assert isinstance(futures[0].exception(0), OSError)


def test_a_finalizer_whose_call_is_refused(make: Make, factory: Factory) -> None:
    """What a finalizer has submitted while the executor started, and the engine cannot take, has failed."""
    futures: list[cf.Future[Any]] = []

    def strike() -> Engine:
        futures.append(executor.submit(str, "early"))
        engine = factory()
        engine.refusals.append(ValueError("too long"))
        return engine

    executor = make(inner=strike)
    executor.start()
    assert isinstance(futures[0].exception(PATIENCE), ValueError)
    assert executor.work_left() == 0


def test_no_bound(make: Make, factory: Factory) -> None:
    """With max_pending=inf an engine is given everything, whether it says how much it can do or not."""
    executor = make(max_pending=math.inf, inner=lambda: cf.ThreadPoolExecutor(1))
    assert [future.result(PATIENCE) for future in [executor.submit(str, 1) for _ in range(50)]] == ["1"] * 50


def test_who_waits_for_a_start_may_be_interrupted() -> None:
    """An interrupt of one who waits for another's start() leaves that start alone."""
    inside, door = Blocker(), SystemClock()

    class Interrupting(SystemClock):
        def park(self, gate: Any, deadline: float | None) -> bool:
            if threading.current_thread() is threading.main_thread():
                raise KeyboardInterrupt
            return door.park(gate, deadline)

    def make_engine() -> Engine:
        inside()
        return Engine()

    executor = BoundedExecutor(inner=make_engine, clock=Interrupting())
    starting = Background(executor.start)
    inside.wait_until_called()
    with pytest.raises(KeyboardInterrupt):
        executor.start()
    inside.let_go()
    starting.result()
    assert executor.state is ComponentState.RUNNING
    Background(executor.shutdown).result()


def test_recreate_switched_off(make: Make, clock: VirtualClock, factory: Factory) -> None:
    """With recreate=0 a broken engine stays, and what it refuses fails in submit()."""
    executor = make(recreate=0, max_pending=1, on_full="reject")
    future = executor.submit(str)
    factory.engines[0].die()
    clock.settle()
    assert isinstance(future.exception(0), cf.BrokenExecutor)
    for _ in range(3):
        with pytest.raises(cf.BrokenExecutor):
            executor.submit(str)
    assert len(factory.engines) == 1


def test_a_break_that_nobody_reads(make: Make, clock: VirtualClock, factory: Factory, caplog: Any) -> None:
    """A call that fell with its engine, and whose future nobody asked, is told of; one that was asked is not."""
    executor = make(recreate=0, max_pending=2)
    future, read = executor.submit(divmod, 1, 2), executor.submit(abs, 1)
    factory.engines[0].die()
    clock.settle()
    assert isinstance(read.exception(0), cf.BrokenExecutor)
    factory.engines.clear()  # they keep what was sent
    assert future.done()
    del future, read
    assert "nobody asked what divmod raised" in caplog.text
    assert "nobody asked what abs" not in caplog.text


def test_an_idempotent_call_is_sent_once_more(make: Make, clock: VirtualClock, factory: Factory) -> None:
    """A call that may run twice goes to a new engine when one broke under it; after two breaks it is to blame."""
    factory.workers = 1  # type: ignore[attr-defined]  # so that only the first of those in flight was running
    executor = make()
    seen: list[events.Event] = []
    executor.observe(seen.append)
    careful = executor.options(idempotent=True)
    guilty, innocent = careful.submit(divmod, 1, 2), careful.submit(str, 2)
    factory.engines[0].die()
    clock.advance(10)
    factory.engines[1].die()
    clock.settle()
    assert "divmod was running when the engine of executor 'executor' broke, 2 times" in str(guilty.exception(0))
    quarantined = next(event for event in seen if isinstance(event, events.CallQuarantined))
    assert (quarantined.function, quarantined.error) == ("divmod", guilty.exception(0))
    clock.advance(20)
    factory.engines[2].run()
    assert innocent.result(PATIENCE) == "2"
    assert executor.stats().rebuilds == 2


def test_an_idempotent_call_that_has_ended_is_not_sent_again(make: Make, clock: VirtualClock, factory: Factory) -> None:
    """A call whose time was over when the engine broke under it only gives its permit back."""
    executor = make(max_pending=1, on_full="reject")
    future = executor.options(idempotent=True, timeout=5).submit(str)
    factory.engines[0].begin()
    clock.advance(5)
    factory.engines[0].die()
    clock.settle()
    assert isinstance(future.exception(0), CallTimeout)
    assert executor.work_left() == 0


def test_a_call_that_is_cancelled_while_it_waits_for_an_engine(
    make: Make, clock: VirtualClock, factory: Factory
) -> None:
    """A call that waits to be sent again can be cancelled, which ends the wait, and is not sent."""
    executor = make(max_pending=1, on_full="reject")
    executor.start()
    factory.engines[0].refusals.append(RuntimeError("no"))
    future = executor.submit(str)
    clock.settle()
    assert future.cancel()
    clock.settle()
    executor.submit(str, 2)
    clock.advance(60)
    assert len(factory.engines[1].sent) == 1


def test_a_call_that_is_cancelled_before_it_is_sent_again(make: Make, factory: Factory) -> None:
    """A call that was cancelled before the engine could be given it is not sent."""
    executor = make()
    executor.start()
    lane = executor._lane
    call = lane.new_call(str, (), {}, executor._terms)  # type: ignore[union-attr]  # it runs
    call.unsubmit()
    lane.put(call)  # type: ignore[union-attr, arg-type]  # it runs, and it is an EngineCall
    assert factory.engines[0].sent == []
    lane._in_flight.clear()  # type: ignore[union-attr]  # nobody will end it


def test_sending_again_may_fail_for_another_reason(make: Make, clock: VirtualClock, factory: Factory) -> None:
    """An error that does not mean a broken engine ends the attempts at once."""
    executor = make()
    executor.start()
    factory.engines[0].refusals.append(RuntimeError("no"))
    future = executor.submit(str)
    clock.settle()
    factory.engines[1].refusals.append(TypeError("cannot pickle"))
    clock.advance(10)
    assert isinstance(future.exception(0), TypeError)
    assert executor.work_left() == 0


def test_a_factory_that_fails_later(
    make: Make, clock: VirtualClock, factory: Factory, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no new engine can be made, that is logged, and tried again with the next refusal."""
    executor = make()
    executor.start()
    factory.engines[0].die()
    answers: Iterator[Any] = iter([OSError("no cluster"), Engine()])

    def make_engine() -> Engine:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        factory.engines.append(answer)
        return answer  # type: ignore[no-any-return]  # it is an Engine

    executor._lane._plant._factory = make_engine  # type: ignore[union-attr]  # it runs
    with caplog.at_level(logging.ERROR, "threadkit"):
        future = executor.submit(str, 1)
        clock.advance(20)
    assert "cannot be replaced" in caplog.text
    factory.engines[-1].run()
    assert future.result(PATIENCE) == "1"
    assert executor.stats().rebuilds == 1


def test_the_interpreter_refuses(make: Make, clock: VirtualClock, factory: Factory) -> None:
    """A refusal since the interpreter exits is final: it is raised, nothing is replaced, nothing is tried again."""
    final = RuntimeError("cannot schedule new futures after interpreter shutdown")
    executor = make()
    executor.start()
    factory.engines[0].refusals.append(final)
    with pytest.raises(RuntimeError, match="interpreter shutdown"):
        executor.submit(str)
    factory.engines[0].refusals.append(RuntimeError("no"))
    future = executor.submit(str)
    clock.settle()
    factory.engines[1].refusals.append(final)
    clock.advance(10)
    assert future.exception(0) is final
    assert len(factory.engines) == 2


def test_a_break_after_the_last_call(make: Make, clock: VirtualClock, factory: Factory) -> None:
    """A break that is noticed when nothing is in flight any more and the executor has stopped is of no interest."""
    executor = make()
    future = executor.options(timeout=5).submit(str)
    factory.engines[0].begin()
    inner = factory.engines[0].sent.pop()[0]
    executor.stop()
    lane = executor._lane
    lane._in_flight.clear()  # type: ignore[union-attr]  # as if the last call had been given up
    lane._end_if_idle()  # type: ignore[union-attr]  # it runs
    assert executor.join(PATIENCE)
    inner.set_exception(cf.BrokenExecutor("dead"))
    assert isinstance(future.exception(PATIENCE), cf.BrokenExecutor)
    assert len(factory.engines) == 1


# --- Factories -------------------------------------------------------------------------------------------------------


def test_threads() -> None:
    """threads(n) runs calls on n of our own threads; called by itself it makes an executor without a bound."""
    blocker = Blocker()
    with BoundedExecutor(inner=executors.threads(2), max_pending=1, on_full="reject") as executor:
        for _ in range(3):
            executor.submit(blocker)
        with pytest.raises(Full):
            executor.submit(blocker)
        executor.resize(3)
        blocker.let_go()
        assert executor.submit(threading.current_thread).result(PATIENCE).name.startswith("executor_")
    with executors.threads()() as executor:
        assert isinstance(executor, BoundedExecutor)
        assert executor._max_pending == math.inf
        assert executor.submit(abs, -1).result(PATIENCE) == 1


def test_an_executor_over_an_executor() -> None:
    """An executor of ours may be the engine of another, and is known to run in this process."""
    with BoundedExecutor(inner=lambda: BoundedExecutor(2)) as executor:
        assert executor.stats().workers in {0, 2}
        assert list(executor.map(abs, [-1, -2])) == [1, 2]


def test_processes_say_what_they_are() -> None:
    """processes(n) says how many calls it runs at once, and that contexts do not reach them."""
    factory = executors.processes(3)
    assert (factory.workers, factory.in_process, factory.own_threads) == (3, False, None)
    assert executors.processes().workers >= 1


def test_processes_where_there_is_no_forkserver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no "forkserver", processes are spawned."""
    import multiprocessing

    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    engine = executors.processes(1)()
    try:
        assert engine._mp_context.get_start_method() == "spawn"  # type: ignore[attr-defined]  # it is the standard library's
    finally:
        engine.shutdown()


@pytest.mark.parametrize(("make_factory", "package"), [(executors.loky, "loky"), (executors.dask, "distributed")])
def test_a_missing_package(make_factory: Callable[[], Any], package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package is not installed the error says what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=rf"needs the package {package}: pip install threadkit\[") as caught:
        make_factory()
    assert caught.value.name == package


@pytest.mark.parametrize(
    ("make_factory", "error", "name"),
    [
        (lambda: executors.threads(0), ValueError, "max_workers"),
        (lambda: executors.threads(True), TypeError, "max_workers"),
        (lambda: executors.processes(-1), ValueError, "max_workers"),
        (lambda: executors.processes(1.5), TypeError, "max_workers"),
        (lambda: executors.processes(1, start_method="magic"), ValueError, "start_method"),
        (lambda: executors.processes(1, initializer=3), TypeError, "initializer"),
        (lambda: executors.loky(1, initializer=3), TypeError, "initializer"),
    ],
)
def test_factories_refuse_bad_input(make_factory: Callable[[], Any], error: type[Exception], name: str) -> None:
    """What makes no sense is refused by the factories, with the parameter's name."""
    with pytest.raises(error, match=name):
        make_factory()
