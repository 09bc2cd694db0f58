"""``Bus`` on an executor that is shared, refuses, breaks, runs at once or goes away, and in whose turn it is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest
from helpers import PATIENCE, Background, Blocker, Gate, Manual

from threadkit import (
    ActionError,
    BoundedExecutor,
    Bus,
    CallTimeout,
    Closed,
    ComponentState,
    EventLoopThread,
    Full,
    Message,
    WorkQueue,
    WouldBlock,
)
from threadkit.testing import InlineExecutor, VirtualClock

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


@pytest.fixture
def single() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


class Crowded(Manual):
    """A pool that puts a call in its line, and then cannot start one thread more."""

    def __init__(self, *, is_quick: bool) -> None:
        super().__init__()
        self.is_quick = is_quick

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        super().submit(fn, *args, **kwargs)
        if self.is_quick:  # one of the threads that there are is faster than the error
            Background(self.run).result()
        raise RuntimeError("can't start new thread")


# Shared executors


def test_buses_that_share_an_executor(single: ThreadPoolExecutor) -> None:
    """A handler that calls an action of another bus on the same executor runs it itself, so one worker is enough."""
    one, other = Bus("one", executor=single), Bus("other", executor=single)
    other.action("inner")(threading.current_thread)
    one.action("outer")(lambda: (threading.current_thread(), other.call("inner", timeout=PATIENCE)))
    outer, inner = one.call("outer")
    assert outer is inner


def test_call_from_a_function_on_the_executor() -> None:
    """What runs on a ``BoundedExecutor`` for other reasons calls an action in its own thread as well."""
    with BoundedExecutor(1) as single:
        bus = Bus(executor=single)
        bus.action("inner")(threading.current_thread)
        future = single.submit(lambda: (threading.current_thread(), bus.call("inner", timeout=PATIENCE)))
        outer, inner = future.result(PATIENCE)
    assert outer is inner


def test_full_mailbox_of_a_bus_on_the_same_executor(single: ThreadPoolExecutor) -> None:
    """A handler does not wait for room that only its own worker could make, also where another bus has the mailbox."""
    one, other, done = Bus("one", executor=single), Bus("other", executor=single, maxsize=1), Gate()
    deliveries = []

    def flood(message: Message) -> None:
        deliveries.extend(other.publish("b") for _ in range(2))
        done.open()

    one.subscribe("a", flood)
    other.subscribe("b", lambda message: None)
    one.publish("a")
    done.pass_through()
    assert [delivery.reached for delivery in deliveries] == [1, 0]
    assert isinstance(deliveries[1].errors[0], WouldBlock)


def test_thread_that_is_done_works_for_the_executor_no_more() -> None:
    """A thread counts as the executor's while it runs a handler, nested ones included, and not afterwards."""
    executor, inline = Manual(), InlineExecutor()
    bus, nested = Bus(executor=executor), Bus(executor=inline)
    serving: list[list[threading.Thread]] = []

    def outer(message: Message) -> None:
        nested.publish("b")
        if message.payload == 0:
            nested.publish("a", 1)
        serving.append(nested.threads())

    nested.subscribe("a", outer)
    nested.action("again")(lambda: None)
    nested.subscribe("b", lambda message: nested.call("again"))
    nested.publish("a", 0)
    assert serving == [[threading.current_thread()]] * 2
    assert nested.threads() == []

    bus.subscribe("a", lambda message: None)
    bus.action("status")(lambda: pytest.fail("must not run here"))
    bus.publish("a")
    executor.run()
    executor.refuses = RuntimeError("shut down")
    with pytest.raises(ActionError, match="gave the call up"):
        bus.call("status")


@pytest.mark.parametrize("component", [EventLoopThread, WorkQueue])
def test_components_that_are_no_executors(component: Callable[[], Any]) -> None:
    """What has a ``submit()`` and is no executor is refused where it enters."""
    with pytest.raises(TypeError, match=r"executor must be a concurrent\.futures\.Executor"):
        Bus(executor=component())


# Whose turn it is


def test_busy_mailboxes_take_turns() -> None:
    """A subscriber with much to do lets the others have their turn on the executor before it goes on."""
    clock, executor = VirtualClock(), Manual()
    bus, seen = Bus(executor=executor, clock=clock), []

    def slow(message: Message) -> None:
        clock.advance(0.02)
        seen.append(message.payload)

    bus.subscribe("slow", slow)
    bus.subscribe("quick", lambda message: seen.append(message.payload))
    for number in range(3):
        bus.publish("slow", number)
    bus.publish("quick", "quick")
    executor.run()
    assert seen == [0, "quick", 1, 2]
    assert bus.work_left() == 0


def test_subscriber_that_feeds_itself_starves_nobody(single: ThreadPoolExecutor) -> None:
    """On one worker, a subscriber that publishes to itself without end does not keep others from their messages."""
    bus, heard, enough = Bus(executor=single), Gate(), threading.Event()

    def again(message: Message) -> None:
        if not enough.is_set():
            bus.publish("endless")

    bus.subscribe("endless", again)
    bus.subscribe("other", heard.open)
    bus.publish("endless")
    bus.publish("other")
    heard.pass_through()
    enough.set()


def test_turn_that_nobody_takes_over() -> None:
    """Where the executor takes nothing more, a turn goes on until all is delivered."""
    clock, executor = VirtualClock(), Manual()
    bus, seen = Bus(executor=executor, clock=clock), []

    def slow(message: Message) -> None:
        clock.advance(0.02)
        executor.refuses = RuntimeError("shut down")
        seen.append(message.payload)

    bus.subscribe("a", slow)
    for number in range(3):
        bus.publish("a", number)
    executor.run()
    assert seen == [0, 1, 2]
    assert bus.work_left() == 0


def test_lost_turn_of_many() -> None:
    """Where a later turn is cancelled, what it was to deliver is dropped, and the next message is delivered."""
    clock, executor = VirtualClock(), Manual()
    bus, seen = Bus(executor=executor, clock=clock), []

    def slow(message: Message) -> None:
        clock.advance(0.02)
        seen.append(message.payload)

    subscription = bus.subscribe("a", slow)
    for number in range(3):
        bus.publish("a", number)
    future, call = executor.calls.pop(0)
    call()
    future.set_result(None)
    executor.lose()
    assert seen == [0]
    assert subscription.dropped == bus.stats().dropped == 2
    bus.publish("a", 3)
    executor.run()
    assert seen == [0, 3]


def test_turns_do_not_nest() -> None:
    """On an executor that runs at once, any number of turns leaves the stack as it is."""
    clock = VirtualClock()
    bus = Bus(executor=InlineExecutor(), clock=clock)

    def again(message: Message) -> None:
        clock.advance(0.02)
        if message.payload:
            bus.publish("a", message.payload - 1)

    bus.subscribe("a", again)
    assert bus.publish("a", 2000).ok
    assert bus.stats().delivered == 2001
    assert bus.stats().dropped == 0


# Refusals


@pytest.mark.parametrize("is_quick", [False, True])
def test_pool_that_takes_and_raises(is_quick: bool) -> None:
    """A message that an executor puts in its line before it raises is delivered once."""
    executor = Crowded(is_quick=is_quick)
    bus, seen = Bus(executor=executor), []
    bus.subscribe("a", lambda message: seen.append(message.payload))
    assert bus.publish("a", 1).reached == 1
    assert seen == [1]
    executor.run()
    assert bus.publish("a", 2).reached == 1
    executor.run()
    assert seen == [1, 2]


def test_publisher_delivers_only_until_the_executor_takes_more() -> None:
    """A publisher that the executor refused delivers one message, and leaves the rest to an executor with room."""
    executor = Manual()
    bus, threads = Bus(executor=executor), []

    def handle(message: Message) -> None:
        threads.append(threading.current_thread())
        executor.refuses = None
        if message.payload:
            bus.publish("a", message.payload - 1)

    executor.refuses = RuntimeError("full")
    bus.subscribe("a", handle)
    bus.publish("a", 3)
    assert len(threads) == 1
    executor.run()
    assert len(threads) == 4


@pytest.mark.parametrize("is_async", [False, True])
def test_call_that_the_executor_refuses(pool: ThreadPoolExecutor, is_async: bool) -> None:
    """A call that a strange executor refuses is an ActionError with the cause; ours says itself what is the matter."""
    ours = BoundedExecutor(1)
    strange, known = Bus(executor=pool), Bus(executor=ours)
    pool.shutdown()
    ours.shutdown()
    for bus, expected in ((strange, ActionError), (known, Closed)):
        bus.action("status")(lambda: pytest.fail("must not run"))
        with pytest.raises(expected) as caught:
            asyncio.run(bus.acall("status")) if is_async else bus.call("status")
        if expected is ActionError:
            assert isinstance(caught.value.__cause__, RuntimeError)
        assert bus.work_left() == 0


def test_refused_delivery_does_not_block_an_event_loop(pool: ThreadPoolExecutor) -> None:
    """On an event loop's thread nobody is delivered to where the executor refuses: the delivery says why."""
    bus = Bus(executor=pool)
    subscription = bus.subscribe("a", lambda message: pytest.fail("must not run"))
    pool.shutdown()

    async def main() -> None:
        delivery = bus.publish("a")
        assert delivery.reached == 0
        assert [type(error) for error in delivery.errors] == [RuntimeError]

    asyncio.run(main())
    assert subscription.dropped == bus.stats().dropped == 1
    assert bus.work_left() == 0


def test_executor_that_runs_at_once_does_so_on_an_event_loop_too() -> None:
    """Where the executor runs what it is given at once, and refuses nothing, an event loop's thread delivers."""
    bus, seen = Bus(executor=InlineExecutor()), []
    bus.subscribe("a", seen.append)

    async def main() -> bool:
        return bus.publish("a").ok

    assert asyncio.run(main())
    assert len(seen) == 1


# Ctrl-C


def raise_keyboard_interrupt(_: object = None) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("refuses", [False, True])
def test_ctrl_c_in_a_delivery_of_the_main_thread(refuses: bool) -> None:
    """Ctrl-C in a subscriber that the publisher's thread runs goes through; what waits is dropped."""
    executor: Executor = InlineExecutor()
    if refuses:
        executor.shutdown()
    bus, seen = Bus(executor=executor), []

    def handle(message: Message) -> None:
        if message.payload == "interrupt":
            bus.publish("a", "behind")
            raise KeyboardInterrupt
        seen.append(message.payload)

    bus.subscribe("a", handle)
    with pytest.raises(KeyboardInterrupt):
        bus.publish("a", "interrupt")
    assert (bus.work_left(), bus.stats().dropped, bus.stats().failed) == (0, 1, 0)
    bus.publish("a", "next")
    assert seen == ["next"]


@pytest.mark.parametrize("is_async", [False, True])
def test_ctrl_c_in_a_call_of_the_main_thread(is_async: bool) -> None:
    """Ctrl-C in a handler that an executor runs at once, in the caller's thread, goes through."""
    bus = Bus(executor=InlineExecutor())
    bus.action("long")(raise_keyboard_interrupt)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(bus.acall("long")) if is_async else bus.call("long")
    assert bus.work_left() == 0
    assert bus.threads() == []


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_ctrl_c_while_waiting_for_a_reply(monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]) -> None:
    """What a signal handler raises in a waiting call goes through, and the call does not begin any more."""
    executor = Manual()
    bus = Bus(executor=executor)
    bus.action("status")(lambda: pytest.fail("must not run"))

    def interrupt(*_: object) -> None:
        raise kind

    monkeypatch.setattr("threadkit._postoffice.Waiters.wait", interrupt)
    with pytest.raises(kind):
        bus.call("status")
    ((future, call),) = executor.calls
    assert future.cancelled()
    call()  # by an executor that does not heed a cancellation
    assert bus.work_left() == 0


def test_ctrl_c_in_a_submit_whose_turn_was_taken() -> None:
    """Ctrl-C in a submit after the executor took the message goes through, and the message is delivered once."""

    class Interrupted(Crowded):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            with pytest.raises(RuntimeError):
                super().submit(fn, *args, **kwargs)
            raise KeyboardInterrupt

    bus, seen = Bus(executor=Interrupted(is_quick=True)), []
    bus.subscribe("a", lambda message: seen.append(message.payload))
    for number in range(2):
        with pytest.raises(KeyboardInterrupt):
            bus.publish("a", number)
    assert seen == [0, 1]


# Calls and the end


def test_join_waits_for_calls(pool: ThreadPoolExecutor) -> None:
    """A stop lets a call on the executor end, and join() waits for that."""
    bus, blocker = Bus(executor=pool), Blocker()
    bus.action("slow")(blocker)
    bus.start()
    caller = Background(lambda: bus.call("slow"))
    blocker.wait_until_called()
    assert len(bus.threads()) == bus.work_left() == bus.stats().waiting == 1
    bus.stop()
    assert bus.join(0) is False
    assert bus.state is ComponentState.STOPPING
    blocker.let_go()
    assert caller.result() == "let go"
    assert bus.join(PATIENCE) is True


def give_up(action: str, bus: Bus, clock: VirtualClock, blocker: Blocker, *, is_async: bool) -> None:
    """Call an action that is stuck in a blocker, and hear that its time is over."""

    def call() -> object:
        return asyncio.run(bus.acall(action, timeout=5)) if is_async else bus.call(action, timeout=5)

    caller = Background(call)
    blocker.wait_until_called()
    clock.wait_for_sleepers(1)
    clock.advance(5)
    with pytest.raises(CallTimeout):
        caller.result()


@pytest.mark.parametrize("is_async", [False, True])
def test_join_waits_for_what_a_time_out_left_behind(pool: ThreadPoolExecutor, is_async: bool) -> None:
    """A handler whose caller has given up belongs to the bus until it ends."""
    clock, blocker = VirtualClock(), Blocker()
    bus = Bus(executor=pool, clock=clock)
    bus.action("slow")(blocker)

    give_up("slow", bus, clock, blocker, is_async=is_async)
    bus.stop()
    assert bus.join(0) is False
    blocker.let_go()
    assert bus.join(PATIENCE) is True


@pytest.mark.parametrize("is_async", [False, True])
def test_timeout_cuts_the_wait_for_room_short(is_async: bool) -> None:
    """A call ends at its deadline also where it waits for room in a full executor, and it never begins afterwards."""
    clock, blocker = VirtualClock(), Blocker()
    with BoundedExecutor(1, max_pending=0) as executor:
        executor.submit(blocker)
        bus = Bus(executor=executor, clock=clock)
        bus.action("status")(lambda: pytest.fail("must not run"))

        def call() -> object:
            return asyncio.run(bus.acall("status", timeout=5)) if is_async else bus.call("status", timeout=5)

        caller = Background(call)
        try:
            clock.wait_for_sleepers(1)
            clock.advance(5)
            with pytest.raises(CallTimeout, match="action 'status' gave no reply within 5 s"):
                caller.result()
        finally:
            blocker.let_go()
    assert bus.stats().calls_failed == bus.work_left() == 0


def test_room_that_comes_in_time() -> None:
    """A call with a time-out that waits for room in a full executor is made as soon as there is some."""
    clock, blocker = VirtualClock(), Blocker()
    with BoundedExecutor(1, max_pending=0) as executor:
        executor.submit(blocker)
        bus = Bus(executor=executor, clock=clock)
        bus.action("status")(lambda: "up")
        caller = Background(lambda: bus.call("status", timeout=5))
        try:
            clock.wait_for_sleepers(1)
        finally:
            blocker.let_go()
        assert caller.result() == "up"
    assert len(bus._timer) == 0


def test_room_that_comes_as_the_time_is_over() -> None:
    """A call that gets room at the moment of its deadline is given up, whether its handler begins or not."""
    clock, blocker, may_end = VirtualClock(), Blocker(), Gate()

    class Late(BoundedExecutor):
        def options(self, **terms: Any) -> Any:
            blocker.let_go()
            first.result(PATIENCE)
            clock.advance(5)
            return super().options(**terms)

    with Late(1, max_pending=0) as executor:
        first = executor.submit(blocker)
        bus = Bus(executor=executor, clock=clock)
        bus.action("status")(may_end.pass_through)
        with pytest.raises(CallTimeout, match="within 5 s"):
            bus.call("status", timeout=5)
        may_end.open()
    assert bus.work_left() == 0


def test_handler_that_a_full_executor_leaves_to_the_caller() -> None:
    """A handler that a full executor has its caller run still gives its result, however long it takes, as inline."""
    clock, blocker = VirtualClock(), Blocker()
    with BoundedExecutor(1, max_pending=0, on_full="caller_runs") as executor:
        executor.submit(blocker)
        bus = Bus(executor=executor, clock=clock)

        @bus.action("slow")
        def slow() -> threading.Thread:
            clock.advance(10)
            return threading.current_thread()

        try:
            assert bus.call("slow", timeout=5) is threading.current_thread()
        finally:
            blocker.let_go()


def test_full_executor_that_rejects_a_call_with_a_timeout() -> None:
    """A call is refused at once by a full executor that rejects, however long it would have waited."""
    blocker = Blocker()
    with BoundedExecutor(1, max_pending=0, on_full="reject") as executor:
        executor.submit(blocker)
        bus = Bus(executor=executor, clock=VirtualClock())
        bus.action("status")(lambda: pytest.fail("must not run"))
        try:
            with pytest.raises(Full):
                bus.call("status", timeout=5)
        finally:
            blocker.let_go()
    assert len(bus._timer) == bus.work_left() == 0


@pytest.mark.parametrize("is_async", [False, True])
def test_failure_that_no_caller_waits_for(pool: ThreadPoolExecutor, is_async: bool) -> None:
    """What a handler raises after its caller has given up is a count and an event, once, like any other failure."""
    clock, blocker, told = VirtualClock(), Blocker(), []
    bus = Bus(executor=pool, clock=clock)
    bus.observe(lambda event: told.append(getattr(event, "error", None)))

    @bus.action("late")
    def late() -> None:
        blocker()
        raise LookupError("too late")

    give_up("late", bus, clock, blocker, is_async=is_async)
    assert bus.stats().calls_failed == 0
    bus.stop()
    blocker.let_go()
    assert bus.join(PATIENCE)
    assert bus.stats().calls_failed == 1
    assert [str(error) for error in told if error] == ["too late"]


def test_call_that_was_given_up_never_begins() -> None:
    """An executor that runs what it was told to cancel does not run the handler; and nobody waits for it."""
    clock, executor = VirtualClock(), Manual()
    bus = Bus(executor=executor, clock=clock)
    bus.action("slow")(lambda: pytest.fail("must not run"))
    caller = Background(lambda: bus.call("slow", timeout=5))
    clock.wait_for_sleepers(1)
    clock.advance(5)
    with pytest.raises(CallTimeout):
        caller.result()
    _, call = executor.calls[0]
    assert isinstance(call().error, BaseException)
    bus.stop()
    assert bus.join(PATIENCE)


@pytest.mark.parametrize("is_async", [False, True])
def test_call_that_meets_the_stop(is_async: bool) -> None:
    """A call that has looked before a stop, and gets to the executor after it, is refused."""

    class Sly(VirtualClock):
        def monotonic(self) -> float:
            bus.stop()
            return super().monotonic()

    bus = Bus(executor=Manual())
    bus.action("status")(lambda: pytest.fail("must not run"))
    bus._clock = Sly()
    with pytest.raises(Closed):
        asyncio.run(bus.acall("status", timeout=5)) if is_async else bus.call("status", timeout=5)
    assert bus.join(PATIENCE)
    assert bus.work_left() == 0


# Asynchronous handlers


@pytest.mark.parametrize("on_pool", [False, True])
def test_async_handler_that_cancels_itself(pool: ThreadPoolExecutor, on_pool: bool) -> None:
    """An async handler that cancels its own task fails as any other; its caller is not cancelled."""
    bus = Bus(executor=pool if on_pool else None)

    @bus.action("odd")
    async def odd() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    with pytest.raises(ActionError, match="failed: CancelledError"):
        bus.call("odd")
    assert bus.stats().calls_failed == 1


def test_async_handler_whose_task_exits() -> None:
    """A SystemExit in a task that an async handler left on its loop is the handler's error."""
    bus = Bus()

    async def leave() -> None:
        raise SystemExit(3)

    @bus.action("odd")
    async def odd() -> None:
        task = asyncio.create_task(leave())
        await task

    with pytest.raises(ActionError) as caught:
        bus.call("odd")
    assert isinstance(caught.value.__cause__, SystemExit)


def test_async_handler_leaves_the_threads_loop_alone() -> None:
    """A loop that the program has set for its thread is still set after a plain call of an async handler."""
    bus = Bus()

    @bus.action("quick")
    async def quick() -> None: ...

    def run() -> bool:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            bus.call("quick")
            return asyncio.get_event_loop_policy().get_event_loop() is loop
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    assert Background(run).result()


def test_acalls_on_an_event_loop_thread() -> None:
    """Async handlers may be called on a loop of their own thread, many at once, each with its request."""
    bus = Bus()

    @bus.action("double")
    async def double(request: Any) -> int:
        await asyncio.sleep(0)
        return 2 * int(request.payload)

    with EventLoopThread() as loop:
        futures = [loop.submit(bus.acall("double", number)) for number in range(100)]
        assert [future.result(PATIENCE) for future in futures] == [2 * number for number in range(100)]
