"""``Bus``: delivery on an executor, by a bounded mailbox for each subscriber."""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from helpers import PATIENCE, Background, Blocker, Gate, Manual, Parked

from threadkit import (
    BoundedExecutor,
    Bus,
    Closed,
    Delivery,
    Full,
    Message,
    StopToken,
    WouldBlock,
    events,
)
from threadkit.testing import InlineExecutor, VirtualClock

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


def raiser(error: BaseException) -> Callable[..., Any]:
    def handler(_: object = None) -> None:
        raise error

    return handler


def test_delivery_on_an_executor_keeps_the_order(pool: ThreadPoolExecutor) -> None:
    """Each subscriber gets its messages one after the other, in order, off the publisher's thread."""
    bus = Bus(executor=pool)
    seen: list[object] = []
    threads: set[threading.Thread] = set()

    def handle(message: Message) -> None:
        threads.add(threading.current_thread())
        seen.append(message.payload)

    with bus:
        bus.subscribe("n", handle)
        for number in range(500):
            assert bus.publish("n", number) == Delivery(1)
    assert seen == list(range(500))
    assert threading.current_thread() not in threads
    assert bus.stats().delivered == 500


def test_context_travels_with_the_message(pool: ThreadPoolExecutor) -> None:
    """A subscriber on an executor sees the context of the publish."""
    variable = contextvars.ContextVar("variable", default="none")
    seen: list[str] = []
    with Bus(executor=pool) as bus:
        bus.subscribe("a", lambda message: seen.append(variable.get()))
        for value in ("one", "two"):
            variable.set(value)
            bus.publish("a")
    assert seen == ["one", "two"]


def test_failing_subscriber_on_an_executor(pool: ThreadPoolExecutor) -> None:
    """What a subscriber raises on an executor is an event and a count, and its next message is delivered."""
    bus, told, seen = Bus(executor=pool), [], []
    errors: list[BaseException] = [SystemExit(), KeyboardInterrupt(), LookupError()]

    def handle(message: Message) -> None:
        seen.append(message.payload)
        if message.payload is not None:
            raise message.payload

    bus.observe(lambda event: told.append(getattr(event, "error", None)))
    with bus:
        bus.subscribe("a", handle)
        for error in errors:
            assert bus.publish("a", error).ok
        bus.publish("a")
    assert seen == [*errors, None]
    assert [error for error in told if error] == errors
    assert (bus.stats().delivered, bus.stats().failed) == (1, 3)


def test_slow_subscriber_delays_nobody(pool: ThreadPoolExecutor) -> None:
    """A subscriber that hangs does not keep another one from its messages."""
    may_end, heard = Gate(), Gate()
    with Bus(executor=pool) as bus:
        bus.subscribe("a", lambda message: may_end.pass_through())
        bus.subscribe("a", heard.open)
        bus.publish("a")
        heard.pass_through()
        may_end.open()


def test_nested_publish_on_one_worker() -> None:
    """A handler that publishes on its own channel gets that message after the present one, on one worker too."""
    with ThreadPoolExecutor(1) as single, Bus(executor=single) as bus:
        seen: list[object] = []
        done = Gate()

        def handle(message: Message) -> None:
            seen.append(message.payload)
            if message.payload:
                bus.publish("a", message.payload - 1)
                seen.append("between")
            else:
                done.open()

        bus.subscribe("a", handle)
        bus.publish("a", 2)
        done.pass_through()
    assert seen == [2, "between", 1, "between", 0]


def test_executor_that_runs_at_once() -> None:
    """On an executor that runs what it is given at once, nested publishes stay in order."""
    bus = Bus(executor=InlineExecutor())
    seen: list[object] = []

    def first(message: Message) -> None:
        seen.append(("first", message.payload))
        if message.payload:
            bus.publish("b", message.payload)
            bus.publish("a", message.payload - 1)

    bus.subscribe("a", first)
    bus.subscribe("b", lambda message: seen.append(("second", message.payload)))
    bus.publish("a", 1)
    assert seen == [("first", 1), ("second", 1), ("first", 0)]
    assert bus.threads() == []


def test_on_full_reject() -> None:
    """Under "reject" a full mailbox takes nothing more: the delivery and an event say so, and the rest arrives."""
    executor = Manual()
    bus, seen, told = Bus(executor=executor, maxsize=2, on_full="reject"), [], []
    bus.observe(told.append)
    bus.subscribe("a", lambda message: seen.append(message.payload))
    bus.subscribe("*", lambda message: None)
    deliveries = [bus.publish("a", number) for number in range(3)]
    assert [delivery.reached for delivery in deliveries] == [2, 2, 0]
    assert [type(error) for error in deliveries[2].errors] == [Full, Full]
    assert [type(event) for event in told] == [events.MessageDropped] * 2
    executor.run()
    assert seen == [0, 1]
    assert bus.stats().dropped == 2
    assert bus.publish("a").reached == 2  # there is room again


def test_large_bounds_cost_nothing() -> None:
    """A mailbox of any size takes memory for what is in it only."""
    executor = Manual()
    bus, seen = Bus(executor=executor, maxsize=10**15), []
    bus.subscribe("a", lambda message: seen.append(message.payload))
    assert bus.publish("a", 1).ok
    executor.run()
    assert seen == [1]


def test_each_subscriber_counts_its_drops() -> None:
    """A subscription tells how many messages its own mailbox has left out."""
    executor = Manual()
    bus = Bus(executor=executor, maxsize=2, on_full="drop_oldest")
    narrow, wide = bus.subscribe("a", lambda message: None), bus.subscribe("**", lambda message: None)
    bus.publish("b")
    for _ in range(3):
        bus.publish("a")
    assert (narrow.dropped, wide.dropped) == (1, 2)
    assert bus.stats().dropped == 3


def test_on_full_drop_oldest() -> None:
    """Under "drop_oldest" a full mailbox loses its oldest message, with an event, and takes the new one."""
    executor = Manual()
    bus, seen, told = Bus(executor=executor, maxsize=2, on_full="drop_oldest"), [], []
    bus.observe(told.append)
    bus.subscribe("a", lambda message: seen.append(message.payload))
    assert all(bus.publish("a", number) == Delivery(1) for number in range(5))
    assert bus.work_left() == 2
    executor.run()
    assert seen == [3, 4]
    assert len(told) == 3
    assert bus.stats().dropped == 3
    assert bus.work_left() == 0


def test_on_full_block() -> None:
    """Under "block" a publish waits until there is room."""
    clock, executor = VirtualClock(), Manual()
    bus, seen = Bus(executor=executor, maxsize=1, clock=clock), []
    bus.subscribe("a", lambda message: seen.append(message.payload))
    bus.publish("a", 0)
    publisher = Parked(clock, lambda: bus.publish("a", 1))
    assert publisher.waits
    executor.run()
    assert publisher.result() == Delivery(1)
    executor.run()
    assert seen == [0, 1]


def test_room_goes_to_one_of_those_who_wait() -> None:
    """Two publishers wait for one place: both messages arrive in the end, and never more than one waits."""
    clock, executor = VirtualClock(), Manual()
    bus, seen = Bus(executor=executor, maxsize=1, clock=clock), []
    bus.subscribe("a", lambda message: seen.append((message.payload, bus.work_left())))
    bus.publish("a", 0)
    publishers = [Parked(clock, lambda number=number: bus.publish("a", number)) for number in (1, 2)]
    for _ in range(3):
        executor.run()
        clock.settle()
    assert [publisher.result() for publisher in publishers] == [Delivery(1)] * 2
    executor.run()
    assert sorted(number for number, _ in seen) == [0, 1, 2]


def test_stop_wakes_who_waits_for_room() -> None:
    """A publish that waits for room when the stop comes returns with Closed among its errors."""
    for adopted in (False, True):
        clock, executor, host = VirtualClock(), Manual(), StopToken()
        bus = Bus(executor=executor, maxsize=1, clock=clock)
        if adopted:
            bus.adopt(clock, host)
            bus.start()
        bus.subscribe("a", lambda message: None)
        bus.publish("a", 0)
        publisher = Parked(clock, lambda bus=bus: bus.publish("a", 1))
        assert publisher.waits
        if adopted:
            host.set()
        else:
            bus.stop()
        delivery = publisher.result()
        assert delivery.reached == 0
        assert [type(error) for error in delivery.errors] == [Closed]
        executor.run()
        assert bus.join(PATIENCE) is True


def test_remove_wakes_who_waits_for_room() -> None:
    """A publish that waits for room returns when the subscriber is removed, who is not reached then, and no failure."""
    clock, executor = VirtualClock(), Manual()
    bus, seen = Bus(executor=executor, maxsize=1, clock=clock), []
    subscription = bus.subscribe("a", seen.append)
    bus.publish("a", 0)
    publisher = Parked(clock, lambda: bus.publish("a", 1))
    subscription.remove()
    assert publisher.result() == Delivery(0)
    executor.run()
    assert seen == []
    assert bus.work_left() == 0
    assert (subscription.dropped, bus.stats().dropped) == (0, 0)


def test_ctrl_c_while_waiting_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A KeyboardInterrupt in a publish that waits goes through, and its message is forgotten."""
    executor = Manual()
    bus = Bus(executor=executor, maxsize=1)
    bus.subscribe("a", lambda message: None)
    bus.publish("a", 0)
    monkeypatch.setattr("threadkit._postoffice.is_on_event_loop", raiser(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        bus.publish("a", 1)
    assert bus.work_left() == 1


def test_ctrl_c_in_the_executors_submit() -> None:
    """A KeyboardInterrupt out of the executor's submit goes through; the mailbox is usable afterwards."""
    executor = Manual()
    executor.refuses = KeyboardInterrupt()
    bus, seen = Bus(executor=executor), []
    bus.subscribe("a", lambda message: seen.append(message.payload))
    with pytest.raises(KeyboardInterrupt):
        bus.publish("a", 0)
    assert bus.work_left() == 0
    executor.refuses = None
    bus.publish("a", 1)
    executor.run()
    assert seen == [1]


def test_handlers_do_not_wait_for_room() -> None:
    """A handler on the executor that publishes to a full mailbox is refused instead of waiting for itself."""
    executor = Manual()
    bus, deliveries = Bus(executor=executor, maxsize=1), []

    def flood(message: Message) -> None:
        deliveries.extend(bus.publish("b", number) for number in range(2))

    bus.subscribe("a", flood)
    bus.subscribe("b", lambda message: None)
    bus.publish("a")
    executor.run()
    assert [delivery.reached for delivery in deliveries] == [1, 0]
    assert isinstance(deliveries[1].errors[0], WouldBlock)


def test_event_loops_do_not_wait_for_room() -> None:
    """A publish on an event loop's thread is refused by a full mailbox instead of blocking the loop."""
    bus = Bus(executor=Manual(), maxsize=1)
    bus.subscribe("a", lambda message: None)

    async def main() -> Delivery:
        bus.publish("a", 0)
        return bus.publish("a", 1)

    (error,) = asyncio.run(main()).errors
    assert isinstance(error, WouldBlock)
    assert "larger maxsize" in str(error)


def test_unlimited_mailbox() -> None:
    """With ``maxsize=inf`` a mailbox takes everything."""
    for policy in ("block", "drop_oldest", "reject"):
        executor = Manual()
        bus = Bus(executor=executor, maxsize=math.inf, on_full=policy)  # type: ignore[arg-type]  # one of the three
        bus.subscribe("a", lambda message: None)
        assert all(bus.publish("a").ok for _ in range(100))
        assert bus.work_left() == 100
        executor.run()
        assert bus.stats().delivered == 100


def test_executor_that_refuses_deliveries() -> None:
    """Where the executor refuses, the publisher's thread delivers: nothing is lost."""
    executor = Manual()
    executor.refuses = Full("executor", "pool", 3)
    bus, threads = Bus(executor=executor), []
    bus.subscribe("a", lambda message: threads.append(threading.current_thread()))
    assert bus.publish("a") == Delivery(1)
    assert threads == [threading.current_thread()]
    assert bus.work_left() == 0


@pytest.mark.parametrize("executors", ["block", "drop_oldest"])
@pytest.mark.parametrize("policy", ["reject", "drop_oldest"])
def test_full_executor_does_not_block_a_publisher(policy: Any, executors: Any) -> None:
    """Where a full mailbox blocks no publish, a full executor blocks none and loses nothing: the publisher delivers."""
    blocker, seen = Blocker(), []
    with BoundedExecutor(1, max_pending=1, on_full=executors) as executor:
        bus = Bus(executor=executor, on_full=policy)
        bus.subscribe("slow", lambda message: blocker())
        bus.subscribe("*.*", lambda message: seen.append(message.channel))
        bus.subscribe("other", lambda message: seen.append(message.channel))
        bus.publish("slow")
        blocker.wait_until_called()
        bus.publish("waits.there")
        publisher = Background(lambda: bus.publish("other"))
        try:
            assert publisher.result() == Delivery(1)
            assert seen == ["other"]
        finally:
            blocker.let_go()
    assert seen == ["other", "waits.there"]
    assert bus.stats().dropped == 0


def test_full_executor_blocks_a_publisher() -> None:
    """Under "block" a publish waits for room in the executor as it does for room in a mailbox."""
    blocker, asked = Blocker(), Gate()
    threads: list[threading.Thread] = []

    class Watched(BoundedExecutor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            asked.open()
            return super().submit(fn, *args, **kwargs)

    with Watched(1, max_pending=0) as executor:
        executor.try_submit(blocker)
        bus = Bus(executor=executor)
        bus.subscribe("a", lambda message: threads.append(threading.current_thread()))
        publisher = Background(lambda: bus.publish("a"))
        asked.pass_through()
        blocker.let_go()
        assert publisher.result() == Delivery(1)
    assert threads != [publisher.thread]
    assert len(threads) == 1


@pytest.mark.parametrize("error", [None, OSError("the engine broke")])
def test_executor_that_loses_deliveries(error: BaseException | None) -> None:
    """What the executor cancels or loses is dropped, with events; later messages arrive, and nobody waits for ever."""
    executor = Manual()
    bus, seen, told = Bus(executor=executor), [], []
    bus.subscribe("a", lambda message: seen.append(message.payload))
    bus.observe(told.append)
    bus.publish("a", 0)
    bus.publish("a", 1)
    executor.lose(error)
    assert [type(event) for event in told] == [events.MessageDropped] * 2
    assert bus.work_left() == 0
    bus.publish("a", 2)
    executor.run()
    assert seen == [2]


def test_once_on_an_executor() -> None:
    """A subscriber with ``once`` is called for the first of several waiting messages only."""
    executor = Manual()
    bus, seen = Bus(executor=executor), []
    bus.subscribe("a", lambda message: seen.append(message.payload), once=True)
    bus.publish("a", 0)
    bus.publish("a", 1)
    executor.run()
    assert seen == [0]
    assert bus.publish("a").reached == 0


def test_removed_during_the_publish() -> None:
    """A subscriber that another one removes while the message is on its way is not reached."""
    bus = Bus(executor=InlineExecutor())
    bus.subscribe("a", lambda message: second.remove())
    second = bus.subscribe("a", lambda message: pytest.fail("must not run"))
    assert bus.publish("a") == Delivery(1)


def test_letter_that_comes_as_the_duty_is_given_back() -> None:
    """A message that arrives between the last look and the giving back of the duty is delivered all the same."""
    executor = Manual()
    bus, seen = Bus(executor=executor), []
    bus.subscribe("a", lambda message: seen.append(message.payload))
    assert bus._post is not None
    (box,) = bus._post._boxes.values()
    duty = box._duty
    late = ["late", "later"]

    class Duty:
        def acquire(self, blocking: bool) -> bool:
            return duty.acquire(blocking)

        def release(self) -> None:
            if late:
                bus.publish("a", late.pop(0))  # the duty is still held, so nobody else delivers it
            duty.release()

    box._duty = Duty()  # type: ignore[assignment]  # a spy
    bus.publish("a", "first")
    executor.run()
    assert seen == ["first", "late", "later"]


def test_letter_that_somebody_else_delivers() -> None:
    """Whoever gives the duty back, and finds it taken by the next one, leaves the letters to that one."""
    executor = Manual()
    bus, seen = Bus(executor=executor), []
    bus.subscribe("a", lambda message: seen.append(message.payload))
    assert bus._post is not None
    (box,) = bus._post._boxes.values()
    duty = box._duty

    class Duty:
        def acquire(self, blocking: bool) -> bool:
            return duty.acquire(blocking)

        def release(self) -> None:
            box._duty = duty
            duty.release()
            bus.publish("a", "second")  # by somebody else, who gets the duty

    box._duty = Duty()  # type: ignore[assignment]  # a spy
    bus.publish("a", "first")
    _, call = executor.calls.pop(0)
    call()
    assert seen == ["first"]
    executor.run()
    assert seen == ["first", "second"]


def test_only_one_trims_at_a_time() -> None:
    """While somebody trims a mailbox others leave it to that one; and a delivery may be faster than the trimmer."""
    executor = Manual()
    bus, seen = Bus(executor=executor, maxsize=1, on_full="drop_oldest"), []
    bus.subscribe("a", lambda message: seen.append(message.payload))
    assert bus._post is not None
    (box,) = bus._post._boxes.values()
    with box._trimming:
        bus.publish("a", 0)
        bus.publish("a", 1)
        assert bus.work_left() == 2
    bus.publish("a", 2)
    assert bus.work_left() == 1

    class Fast(type(box._letters)):  # type: ignore[misc]  # a deque
        def popleft(self) -> Any:
            if len(self) == 2:
                box._letters = plain
            return plain.popleft()

    plain = box._letters
    box._letters = Fast([plain[0], plain[0]])
    plain.clear()
    box._trim()  # finds two letters, and the next moment none
    assert len(box._letters) == 0
