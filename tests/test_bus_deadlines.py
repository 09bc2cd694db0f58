"""``Bus``: deadlines that are passed on to nested calls, and for how long."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers import Background, Blocker, Gate

from threadkit import ActionError, Bus, CallTimeout, Request, current_request
from threadkit.testing import VirtualClock

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def bus(clock: VirtualClock) -> Bus:
    """A bus on a virtual clock, with an action that tells its deadline."""
    bus = Bus(clock=clock)
    bus.action("deadline")(lambda request: request.deadline)
    return bus


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


@pytest.mark.parametrize(
    ("outer", "inner", "expected"), [(5, None, 5.0), (5, 9, 5.0), (9, 5, 5.0), (None, 5, 5.0), (None, None, None)]
)
def test_nested_call_has_the_earlier_deadline(
    bus: Bus, outer: float | None, inner: float | None, expected: float | None
) -> None:
    """A call that a handler makes ends when the handler's own caller stops waiting, if not before."""
    bus.action("outer")(lambda: bus.call("deadline", timeout=inner))
    assert bus.call("outer", timeout=outer) == expected


def test_deadline_goes_down_any_number_of_calls(bus: Bus) -> None:
    """The deadline reaches the innermost of three calls, and is gone with the outermost."""
    bus.action("middle")(lambda: bus.call("deadline"))
    bus.action("outer")(lambda: bus.call("middle", timeout=60))
    assert bus.call("outer", timeout=5) == 5.0
    assert bus.call("deadline") is None


def test_deadline_is_passed_on_by_async_handlers(bus: Bus) -> None:
    """Calls that an async handler awaits, one after the other or at once, have its deadline."""

    @bus.action("outer")
    async def outer() -> list[object]:
        return [await bus.acall("deadline"), *await asyncio.gather(bus.acall("deadline"), bus.acall("deadline"))]

    assert asyncio.run(bus.acall("outer", timeout=5)) == [5.0] * 3
    assert bus.call("outer", timeout=5) == [5.0] * 3


def test_deadline_goes_from_bus_to_bus_on_one_clock_only(bus: Bus, clock: VirtualClock) -> None:
    """Another bus inherits the deadline where it has the same clock; seconds of another clock mean nothing there."""
    neighbour, stranger = Bus(clock=clock), Bus(clock=VirtualClock())
    for other in (neighbour, stranger):
        other.action("deadline")(lambda request: request.deadline)
    bus.action("both")(lambda: (neighbour.call("deadline"), stranger.call("deadline")))
    assert bus.call("both", timeout=5) == (5.0, None)


def test_inherited_deadline_cuts_the_wait_short(bus: Bus, clock: VirtualClock, pool: ThreadPoolExecutor) -> None:
    """A nested call on an executor is given up at the outer deadline, and says how long it had."""
    slow, release = Bus(executor=pool, clock=clock), Gate()
    slow.action("slow")(release.pass_through)

    @bus.action("outer")
    def outer() -> None:
        clock.advance(2)
        slow.call("slow", timeout=60)

    caller = Background(lambda: bus.call("outer", timeout=5))
    clock.wait_for_sleepers(1)
    clock.advance(3)
    with pytest.raises(ActionError) as caught:
        caller.result()
    release.open()
    cause = caught.value.__cause__
    assert isinstance(cause, CallTimeout)
    assert cause.timeout == 3.0


def test_nested_acalls_end_at_the_outer_deadline(bus: Bus, clock: VirtualClock) -> None:
    """Where the outer and the inner call are over at the same moment, the caller sees its own time-out."""

    @bus.action("inner")
    async def inner() -> None:
        await asyncio.Event().wait()

    bus.action("outer")(_calling(bus, "inner"))

    async def main() -> None:
        task = asyncio.ensure_future(bus.acall("outer", timeout=5))
        await asyncio.to_thread(clock.wait_for_sleepers, 1)
        await asyncio.to_thread(clock.advance, 5)
        with pytest.raises(CallTimeout, match="'outer'"):
            await task

    asyncio.run(main())


def test_time_that_is_over_is_no_time(bus: Bus, clock: VirtualClock, pool: ThreadPoolExecutor) -> None:
    """A nested call after the deadline has no seconds left, and says so instead of waiting."""
    slow, blocker = Bus(executor=pool, clock=clock), Blocker()
    slow.action("slow")(blocker)

    @bus.action("outer")
    def outer() -> None:
        clock.advance(7)
        slow.call("slow")

    with pytest.raises(ActionError, match="within 0 s"):
        bus.call("outer", timeout=5)
    blocker.let_go()


def test_deadline_ends_with_its_handler(bus: Bus) -> None:
    """What a handler leaves running in the background sees its request, and is bound by no deadline any more."""
    left: list[contextvars.Context] = []
    bus.action("outer")(lambda: left.append(contextvars.copy_context()))
    bus.call("outer", timeout=5)
    (context,) = left
    request = context.run(current_request)
    assert request is not None
    assert request.action == "outer"
    assert context.run(bus.call, "deadline") is None


def test_messages_have_no_deadline(bus: Bus, clock: VirtualClock, pool: ThreadPoolExecutor) -> None:
    """A subscriber on an executor sees the request that its message was published in, and calls with no deadline."""
    seen: list[tuple[Request | None, object]] = []
    with Bus(executor=pool, clock=clock) as news:
        news.subscribe("a", lambda message: seen.append((current_request(), bus.call("deadline"))))

        @bus.action("outer")
        def outer(request: Request) -> Request:
            news.publish("a")
            assert current_request() is request
            return request

        request = bus.call("outer", timeout=5)
    assert seen == [(request, None)]


@pytest.mark.parametrize("inline", [False, True])
def test_messages_have_no_request_of_their_own(pool: ThreadPoolExecutor, inline: bool) -> None:
    """A subscriber of a message that no handler published has no request."""
    seen: list[object] = []
    with Bus(executor=None if inline else pool) as bus:
        bus.subscribe("a", lambda message: seen.append(current_request()))
        bus.publish("a")
    assert seen == [None]


def test_abandoned_call_is_closed_quietly(bus: Bus) -> None:
    """A coroutine of acall() that is closed in another context than it ran in raises nothing, and leaves no request."""

    @bus.action("wait")
    async def wait() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        call = bus.acall("wait")
        contextvars.copy_context().run(call.send, None)
        call.close()

    asyncio.run(main())
    assert current_request() is None


def test_requests_of_a_crowd(bus: Bus) -> None:
    """Fifty async handlers at once, with ten nested calls each, all see their own request before and after."""

    @bus.action("inner")
    async def inner(request: Request) -> int:
        await asyncio.sleep(0.0001 * (request.payload % 5))
        assert current_request() is request
        return int(request.payload)

    @bus.action("outer")
    async def outer(request: Request) -> int:
        total = sum(await asyncio.gather(*(bus.acall("inner", number) for number in range(10))))
        assert current_request() is request
        return total

    async def main() -> list[int]:
        return await asyncio.gather(*(bus.acall("outer") for _ in range(50)))

    assert asyncio.run(main()) == [45] * 50


def _calling(bus: Bus, action: str) -> Callable[[], Coroutine[None, None, object]]:
    async def handler() -> object:
        return await bus.acall(action)

    return handler
