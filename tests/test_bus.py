"""``Bus``: actions, arguments and life. Channels and mailboxes have files of their own."""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from helpers import PATIENCE, Background, Gate, Manual

from threadkit import (
    ActionError,
    BoundedExecutor,
    Bus,
    CallTimeout,
    Closed,
    ComponentState,
    DuplicateName,
    ForkedError,
    Full,
    Message,
    Phase,
    Request,
    StopToken,
    UnknownHandler,
    WouldBlock,
    _fork,
    current_request,
    events,
)
from threadkit.testing import InlineExecutor, VirtualClock

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
def bus() -> Bus:
    return Bus()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


class Boom(BaseException):
    """Something that no ``except Exception`` catches."""


def raiser(error: BaseException) -> Callable[..., Any]:
    def handler(_: object = None) -> None:
        raise error

    return handler


# Actions


def test_call_returns_what_the_handler_returns(bus: Bus) -> None:
    """A call gives the payload to the handler and its result to the caller."""
    bus.action("double")(lambda request: 2 * request.payload)
    assert bus.call("double", 21) == 42


def test_decorator_leaves_the_function_as_it_is(bus: Bus) -> None:
    """``@bus.action(name)`` returns the very function."""

    def handler() -> int:
        return 7

    assert bus.action("seven")(handler) is handler
    assert handler() == 7
    assert bus.call("seven") == 7


def test_handler_gets_a_request_only_where_it_asks(bus: Bus) -> None:
    """A request goes to a required parameter or an annotated one; a default keeps its value."""

    def annotated(request: Request | None = None) -> object:
        return request

    bus.action("required")(lambda request: request.action)
    bus.action("default")(lambda limit=7: limit)
    bus.action("annotated")(annotated)
    assert bus.call("required") == "required"
    assert bus.call("default") == 7
    assert bus.call("annotated").action == "annotated"


def test_request_tells_what_is_asked() -> None:
    """A request has an id of its own, the action's name, the payload and the deadline on the bus's clock."""
    bus = Bus(clock=VirtualClock())
    bus.action("show")(lambda request: request)
    first, second = bus.call("show", "payload", timeout=timedelta(seconds=30)), bus.call("show")
    assert (first.action, first.payload, first.deadline) == ("show", "payload", 30.0)
    assert second.deadline is None
    assert first.id != second.id


def test_unknown_action(bus: Bus) -> None:
    """A call of an action that nobody handles names the actions that there are."""
    bus.action("status")(lambda: None)
    with pytest.raises(UnknownHandler, match=r"'statsu'.*'status'"):
        bus.call("statsu")
    assert bus.stats().calls == 0


def test_one_handler_a_name(bus: Bus) -> None:
    """A second handler for a name is refused, and the first one stays."""
    bus.action("status")(lambda: "first")
    with pytest.raises(DuplicateName, match="action called 'status'"):
        bus.action("status")(lambda: "second")
    assert bus.call("status") == "first"


@pytest.mark.parametrize("handler", [lambda one, two: None, lambda *, key: None, None, "text", 7])
def test_wrong_handlers_are_refused(bus: Bus, handler: Any) -> None:
    """What cannot be called with a request or with nothing is refused at once, and nothing is registered."""
    with pytest.raises(TypeError, match="handler must be"):
        bus.action("odd")(handler)
    assert bus.stats().actions == 0


@pytest.mark.parametrize("name", [None, 7, True, lambda: None])
def test_name_of_an_action_must_be_text(bus: Bus, name: Any) -> None:
    """A name that is no text is refused by the decorator and by the call."""
    with pytest.raises(TypeError, match="name must be a string"):
        bus.action(name)
    with pytest.raises(TypeError, match="name must be a string"):
        bus.call(name)


def test_name_of_an_action_must_not_be_empty(bus: Bus) -> None:
    """An empty name is refused."""
    with pytest.raises(ValueError, match="name must not be empty"):
        bus.action("")


@pytest.mark.parametrize("timeout", [-1, math.nan])
def test_timeouts_that_make_no_sense(bus: Bus, timeout: float) -> None:
    """A negative or nan time-out is refused before the handler runs."""
    bus.action("never")(lambda: pytest.fail("must not run"))
    with pytest.raises(ValueError, match="timeout"):
        bus.call("never", timeout=timeout)
    with pytest.raises(TypeError, match="timeout"):
        bus.call("never", timeout=True)


@pytest.mark.parametrize("kind", [LookupError, SystemExit, GeneratorExit, asyncio.CancelledError, Boom])
@pytest.mark.parametrize("executor", [None, InlineExecutor()])
def test_error_of_a_handler(kind: type[BaseException], executor: Executor | None) -> None:
    """Whatever a handler raises reaches the caller as the cause of an ActionError, and is counted and told."""
    bus, seen = Bus(executor=executor), []
    bus.observe(seen.append)
    error = kind("no")
    bus.action("broken")(raiser(error))
    with pytest.raises(ActionError, match="'broken'") as caught:
        bus.call("broken")
    assert caught.value.__cause__ is error
    assert bus.stats().calls_failed == 1
    assert [(type(event), event.error) for event in seen] == [(events.HandlerFailed, error)]


def test_ctrl_c_goes_through_an_inline_handler(bus: Bus) -> None:
    """A KeyboardInterrupt in a handler that runs in the caller's thread is not taken for the handler's failure."""
    bus.action("long")(raiser(KeyboardInterrupt()))
    bus.subscribe("long", raiser(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        bus.call("long")
    with pytest.raises(KeyboardInterrupt):
        bus.publish("long")
    assert current_request() is None


def test_keyboard_interrupt_on_the_executor_is_an_error_like_others(pool: ThreadPoolExecutor) -> None:
    """A KeyboardInterrupt raised on an executor's thread becomes an ActionError."""
    bus = Bus(executor=pool)
    bus.action("odd")(raiser(KeyboardInterrupt()))
    with pytest.raises(ActionError) as caught:
        bus.call("odd")
    assert isinstance(caught.value.__cause__, KeyboardInterrupt)


def test_current_request_is_each_handlers_own(bus: Bus) -> None:
    """A nested call has its own request, and the outer one is back after it."""

    @bus.action("outer")
    def outer(request: Request) -> tuple[bool, str, bool]:
        before = current_request() is request
        inner = bus.call("inner")
        return before, inner, current_request() is request

    @bus.action("inner")
    def inner() -> str:
        request = current_request()
        assert request is not None
        return request.action

    assert bus.call("outer") == (True, "inner", True)
    assert current_request() is None


def test_current_request_after_an_error(bus: Bus) -> None:
    """A handler that raises leaves no request behind."""
    bus.action("broken")(raiser(LookupError()))
    with pytest.raises(ActionError):
        bus.call("broken")
    assert current_request() is None


def test_current_request_of_concurrent_handlers(pool: ThreadPoolExecutor) -> None:
    """Handlers that run at the same time each see their own request."""
    bus = Bus(executor=pool)
    together = threading.Barrier(3)

    @bus.action("who")
    def who() -> object:
        together.wait(PATIENCE)
        request = current_request()
        assert request is not None
        return request.payload

    callers = [Background(lambda number=number: bus.call("who", number)) for number in range(3)]
    assert [caller.result() for caller in callers] == [0, 1, 2]


# Actions on an executor


def test_call_on_the_executor(pool: ThreadPoolExecutor) -> None:
    """With an executor a handler runs on its threads, with a copy of the caller's context."""
    bus = Bus(executor=pool)
    variable = contextvars.ContextVar("variable", default="none")
    bus.action("where")(lambda: (threading.current_thread(), variable.get()))
    variable.set("mine")
    thread, value = bus.call("where")
    assert thread is not threading.current_thread()
    assert value == "mine"


def test_nested_calls_do_not_fill_the_executor() -> None:
    """A call made by a handler runs in that handler's thread, so one worker is enough for any depth."""
    with ThreadPoolExecutor(1) as single:
        bus = Bus(executor=single)
        bus.action("outer")(lambda: (threading.current_thread(), bus.call("inner")))
        bus.action("inner")(threading.current_thread)
        outer, inner = bus.call("outer")
    assert outer is inner


def test_timeout_cuts_the_wait_short() -> None:
    """On an executor a call ends at its deadline, on the bus's clock; what has not begun is cancelled."""
    clock, executor = VirtualClock(), Manual()
    bus = Bus(executor=executor, clock=clock)
    bus.action("slow")(lambda: pytest.fail("must not run"))
    caller = Background(lambda: bus.call("slow", timeout=5))
    clock.wait_for_sleepers(1)
    clock.advance(5)
    with pytest.raises(CallTimeout, match="action 'slow' gave no reply within 5 s"):
        caller.result()
    future, _ = executor.calls[0]
    assert future.cancelled()


def test_inline_deadline_is_only_told() -> None:
    """Inline, a handler that takes too long still gives its result."""
    clock = VirtualClock()
    bus = Bus(clock=clock)

    @bus.action("slow")
    def slow(request: Request) -> float:
        clock.advance(10)
        assert request.deadline is not None
        return request.deadline

    assert bus.call("slow", timeout=5) == 5.0


def test_lost_calls_are_action_errors() -> None:
    """A call that the executor cancels or loses raises an ActionError that says so."""
    executor = Manual()
    bus = Bus(executor=executor)
    bus.action("lost")(lambda: None)
    for error in (None, OSError("the engine broke")):
        submitted = Gate()
        original = executor.submit

        def submit(*args: Any, submitted: Gate = submitted, original: Any = original) -> Future[Any]:
            future = original(*args)
            submitted.open()
            return future

        executor.submit = submit  # type: ignore[method-assign]  # a spy
        caller = Background(lambda: bus.call("lost"))
        submitted.pass_through()
        executor.lose(error)
        with pytest.raises(ActionError, match="its executor gave the call up") as caught:
            caller.result()
        assert caught.value.__cause__ is not None


def test_what_the_executor_refuses_is_raised() -> None:
    """A call that the executor refuses raises what the executor raised."""
    executor = Manual()
    executor.refuses = Full("executor", "pool", 3)
    bus = Bus(executor=executor)
    bus.action("status")(lambda: None)
    with pytest.raises(Full):
        bus.call("status")


def test_call_would_block_an_event_loop(pool: ThreadPoolExecutor, bus: Bus) -> None:
    """On an event loop's thread a call that would wait is refused; an inline one is not."""
    waiting = Bus(executor=pool)
    waiting.action("status")(lambda: "up")
    bus.action("status")(lambda: "up")

    @bus.action("asynchronous")
    async def asynchronous() -> None: ...

    async def main() -> object:
        with pytest.raises(WouldBlock, match="await acall"):
            waiting.call("status")
        with pytest.raises(WouldBlock, match="await acall"):
            bus.call("asynchronous")
        return bus.call("status")

    assert asyncio.run(main()) == "up"


# Asynchronous actions


def test_call_of_an_async_handler(bus: Bus) -> None:
    """A plain call of an async handler runs it in an event loop of its own."""

    @bus.action("double")
    async def double(request: Request) -> int:
        await asyncio.sleep(0)
        assert current_request() is request
        return 2 * request.payload

    assert bus.call("double", 21) == 42


def test_call_of_an_async_handler_on_the_executor(pool: ThreadPoolExecutor) -> None:
    """With an executor the event loop of an async handler runs there."""
    bus = Bus(executor=pool)

    @bus.action("where")
    async def where() -> threading.Thread:
        return threading.current_thread()

    assert bus.call("where") is not threading.current_thread()


def test_callable_object_may_be_async(bus: Bus) -> None:
    """An object whose ``__call__`` is async is an async handler."""

    class Handler:
        async def __call__(self, request: Request) -> str:
            return request.action

    bus.action("object")(Handler())
    assert bus.call("object") == "object"


def test_acall_awaits_an_async_handler_in_the_callers_task(pool: ThreadPoolExecutor) -> None:
    """An async handler is awaited on the caller's loop, also where there is an executor."""
    for bus in (Bus(), Bus(executor=pool)):

        @bus.action("task")
        async def task() -> object:
            return asyncio.current_task()

        async def main(bus: Bus = bus) -> bool:
            return await bus.acall("task") is asyncio.current_task()

        assert asyncio.run(main())


@pytest.mark.parametrize("is_ours", [False, True])
def test_acall_of_a_plain_handler_runs_on_the_executor(pool: ThreadPoolExecutor, is_ours: bool) -> None:
    """A plain handler runs on the executor, by the ``acall`` of a ``BoundedExecutor``; without an executor, inline."""

    class Watched(BoundedExecutor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            pytest.fail("might block the event loop")

    with Watched() as ours:
        bus = Bus(executor=ours if is_ours else pool)
        bus.action("where")(threading.current_thread)
        assert asyncio.run(bus.acall("where")) is not threading.current_thread()
    inline = Bus()
    inline.action("where")(threading.current_thread)
    assert asyncio.run(inline.acall("where")) is threading.current_thread()


def test_acall_inside_the_executor_stays_there() -> None:
    """A call made by an async handler that runs on the executor stays in its thread, so one worker is enough."""
    with ThreadPoolExecutor(1) as single:
        bus = Bus(executor=single)
        bus.action("inner")(threading.current_thread)

        @bus.action("outer")
        async def outer() -> bool:
            return await bus.acall("inner") is threading.current_thread()

        assert bus.call("outer") is True


@pytest.mark.parametrize("kind", [LookupError, SystemExit, asyncio.CancelledError, Boom])
def test_error_of_an_async_handler(bus: Bus, kind: type[BaseException]) -> None:
    """Whatever an async handler raises is the cause of an ActionError."""
    error = kind("no")

    @bus.action("broken")
    async def broken() -> None:
        raise error

    async def main() -> None:
        with pytest.raises(ActionError) as caught:
            await bus.acall("broken")
        assert caught.value.__cause__ is error
        assert current_request() is None

    asyncio.run(main())


def test_keyboard_interrupt_goes_through_an_async_handler(bus: Bus) -> None:
    """A KeyboardInterrupt in an async handler goes through."""

    @bus.action("long")
    async def long() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(bus.acall("long"))


def test_cancelling_the_caller_cancels_the_call(pool: ThreadPoolExecutor) -> None:
    """A task that is cancelled in acall() gets its CancelledError, with and without an executor."""
    executor = Manual()
    inline, elsewhere = Bus(), Bus(executor=executor)

    @inline.action("wait")
    async def wait() -> None:
        await asyncio.Event().wait()

    elsewhere.action("wait")(lambda: None)

    async def main() -> None:
        for bus in (inline, elsewhere):
            task = asyncio.ensure_future(bus.acall("wait"))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert executor.calls[0][0].cancelled()


def test_executor_that_cancels_an_acall() -> None:
    """A call that the executor cancels is an ActionError, not a cancellation of the caller."""
    executor = Manual()
    bus = Bus(executor=executor)
    bus.action("lost")(lambda: None)

    async def main() -> None:
        task = asyncio.ensure_future(bus.acall("lost"))
        await asyncio.sleep(0)
        executor.lose()
        with pytest.raises(ActionError, match="gave the call up"):
            await task

    asyncio.run(main())


@pytest.mark.parametrize("handler_is_async", [True, False])
def test_acall_times_out_on_the_buss_clock(handler_is_async: bool) -> None:
    """The time-out of acall() follows the bus's clock, and cancels what is awaited."""
    clock = VirtualClock()
    bus = Bus(executor=None if handler_is_async else Manual(), clock=clock)

    async def wait() -> None:
        await asyncio.Event().wait()

    bus.action("slow")(wait if handler_is_async else lambda: None)

    async def main() -> None:
        task = asyncio.ensure_future(bus.acall("slow", timeout=60))
        await asyncio.to_thread(clock.wait_for_sleepers, 1)
        clock.advance(59)
        assert not task.done()
        clock.advance(1)
        with pytest.raises(CallTimeout, match="60 s"):
            await task

    asyncio.run(main())


def test_acall_in_time(bus: Bus) -> None:
    """A reply in time takes the time-out back."""

    @bus.action("quick")
    async def quick() -> str:
        return "done"

    assert asyncio.run(bus.acall("quick", timeout=60)) == "done"
    assert len(bus._timer) == 0


def test_timeout_that_comes_too_late_for_the_loop(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A time-out that strikes when the call is over, or its loop closed, harms nobody."""
    strikes: list[Callable[[object], None]] = []

    def at(due: float, callback: Callable[[object], None], argument: object = None) -> object:
        strikes.append(callback)
        return []

    monkeypatch.setattr(type(bus._timer), "at", lambda self, *args: at(*args))
    monkeypatch.setattr(type(bus._timer), "cancel", lambda self, entry: False)

    @bus.action("quick")
    async def quick() -> str:
        return "done"

    async def main() -> None:
        assert await bus.acall("quick", timeout=60) == "done"
        strikes[0](None)
        await asyncio.sleep(0)

    asyncio.run(main())
    strikes[0](None)


def test_abandoned_acall(bus: Bus) -> None:
    """A coroutine of acall() that is closed half-way raises nothing."""

    @bus.action("wait")
    async def wait() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        call = bus.acall("wait")
        call.send(None)
        call.close()

    asyncio.run(main())


def test_handler_without_a_task(bus: Bus) -> None:
    """A CancelledError outside of any task is the handler's own."""

    @bus.action("odd")
    async def odd() -> None:
        raise asyncio.CancelledError

    async def main() -> BaseException | None:
        # A coroutine may be driven by hand; asyncio knows of no task then.
        action, request, _ = bus._open("odd", None, None)
        loop = asyncio.get_running_loop()
        done: Future[Any] = Future()

        def drive() -> None:
            try:
                action.arun(request, bus._clock).send(None)
            except StopIteration as stop:
                done.set_result(stop.value)

        loop.call_soon(drive)
        await asyncio.sleep(0)
        return done.result(0).error

    assert isinstance(asyncio.run(main()), asyncio.CancelledError)


# Life


def test_stop_delivers_what_waits() -> None:
    """After stop() nothing new is taken, what waits is delivered, and join() waits for it."""
    executor = Manual()
    bus, seen, told = Bus(executor=executor), [], []
    bus.observe(lambda event: told.append(type(event)))
    bus.start()
    bus.subscribe("a", lambda message: seen.append(message.payload))
    bus.publish("a", 1)
    bus.stop("enough")
    with pytest.raises(Closed):
        bus.publish("a", 2)
    assert not bus.join(0)
    assert bus.state is ComponentState.STOPPING
    assert bus.work_left() == bus.stats().waiting == 1
    joiner = Background(bus.join)
    executor.run()
    assert joiner.result() is True
    assert seen == [1]
    assert bus.state is ComponentState.STOPPED
    assert told == [events.Started, events.Stopped]


def test_stop_before_start_delivers_what_waits() -> None:
    """A bus that is stopped without a start delivers what waits as well, and join() waits for it."""
    executor = Manual()
    bus = Bus(executor=executor)
    bus.subscribe("a", lambda message: None)
    bus.publish("a", 1)
    assert bus.join(0) is True  # it runs nothing, and nobody has asked for a stop
    bus.stop()
    assert bus.join(0) is False
    executor.run()
    assert bus.join(PATIENCE) is True
    assert bus.state is ComponentState.STOPPED


def test_after_stop_everything_is_refused() -> None:
    """A stopped bus refuses every use but removing, looking and joining."""
    bus = Bus()
    bus.action("status")(lambda: None)
    subscription = bus.subscribe("a", lambda message: None)
    decorate, register = bus.action("other"), bus.on("a")
    with bus:
        pass
    assert bus.join(PATIENCE)
    for use in (
        lambda: bus.publish("a"),
        lambda: bus.subscribe("a", print),
        lambda: register(print),
        lambda: bus.call("status"),
        lambda: asyncio.run(bus.acall("status")),
        lambda: decorate(print),
        bus.start,
    ):
        with pytest.raises(Closed, match="bus 'bus'"):
            use()
    assert subscription.remove()
    assert bus.stats().actions == 1


def test_stop_from_a_handler() -> None:
    """A handler may stop its bus: those who come after it in the same message are told that it is closed."""
    bus = Bus(executor=InlineExecutor())
    bus.start()
    joined: list[bool] = []
    serving: list[list[threading.Thread]] = []

    def stop(message: Message) -> None:
        bus.stop()
        serving.append(bus.threads())
        joined.append(bus.join())

    bus.subscribe("a", stop)
    bus.subscribe("a", lambda message: pytest.fail("must not run"))
    delivery = bus.publish("a")
    assert delivery.reached == 1
    assert [type(error) for error in delivery.errors] == [Closed]
    assert joined == [False]  # it would wait for itself
    assert serving == [[threading.current_thread()]]
    assert bus.join(PATIENCE) is True


def test_works_before_start_and_keeps_its_subscribers_when_adopted() -> None:
    """What was registered before a lifecycle adopts the bus is still there afterwards, on the lifecycle's clock."""
    bus, clock, host, seen = Bus(), VirtualClock(), StopToken(), []
    bus.action("show")(lambda request: request.deadline)
    bus.subscribe("a", seen.append)
    bus.adopt(clock, host)
    assert bus.call("show", timeout=5) == 5.0
    with bus:
        bus.publish("a")
        host.set()
        with pytest.raises(Closed):
            bus.publish("a")
    assert len(seen) == 1
    assert bus.join(PATIENCE)


def test_belongs_to_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a forked child every use is refused until start(), which begins anew, with the same subscribers."""
    executor = Manual()
    bus, plain, seen = Bus(executor=executor), Bus(), []
    bus.action("status")(lambda: "up")
    bus.subscribe("a", lambda message: seen.append(message.payload))
    bus.publish("a", "of the parent")
    monkeypatch.setattr(_fork, "_generation", _fork.generation() + 1)
    bus._published._lock.acquire()  # as a thread of the parent did at that moment
    for use in (
        lambda: bus.publish("a"),
        lambda: bus.subscribe("a", print),
        lambda: bus.action("b")(print),
        lambda: bus.call("status"),
        lambda: plain.publish("a"),
        bus.stop,
        bus.join,
    ):
        with pytest.raises(ForkedError):
            use()
    executor.calls.clear()
    with plain, bus:
        assert bus.work_left() == 0
        bus.publish("a", "of the child")
        executor.run()
    assert seen == ["of the child"]
    assert bus.stats().published == 1


def test_arguments() -> None:
    """What makes no sense is refused by an error that names the parameter."""
    for wrong in (0, -1, True, 1.5, math.nan, None, "10"):
        with pytest.raises((TypeError, ValueError), match="maxsize"):
            Bus(maxsize=wrong)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(ValueError, match="on_full"):
        Bus(on_full="caller_runs")  # type: ignore[arg-type]  # that is the point
    with pytest.raises(TypeError, match="executor"):
        Bus(executor=4)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(TypeError, match="name"):
        Bus(None)  # type: ignore[arg-type]  # that is the point
    assert Bus().name == "bus"
    assert Bus().default_phase == Phase.WORK
    assert Bus().threads() == []
    assert Bus().work_left() == 0


def test_stats_as_dict(bus: Bus) -> None:
    """The statistics are a flat dict of numbers, and looking at them changes nothing."""
    bus.action("status")(lambda: None)
    bus.call("status")
    bus.publish("a")
    figures = {"actions": 1, "calls": 1, "published": 1}
    for _ in range(3):
        assert {name: number for name, number in bus.stats().as_dict().items() if number} == figures
