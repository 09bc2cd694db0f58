"""``Bus``: channels, patterns, subscribers, and one that fails among others."""

from __future__ import annotations

import asyncio
import functools
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from helpers import Background

from threadkit import (
    ActionError,
    Bus,
    Delivery,
    Lifecycle,
    Message,
    events,
)
from threadkit.testing import InlineExecutor

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
def bus() -> Bus:
    return Bus()


class Boom(BaseException):
    """Something that no ``except Exception`` catches."""


def raiser(error: BaseException) -> Callable[..., Any]:
    def handler(_: object = None) -> None:
        raise error

    return handler


@pytest.mark.parametrize(
    ("pattern", "hears", "does_not_hear"),
    [
        ("file", ["file"], ["file.indexed", "files", "a.file"]),
        ("file.*", ["file.indexed"], ["file", "file.a.b"]),
        ("*.indexed", ["file.indexed"], ["indexed", "a.b.indexed"]),
        ("**", ["a", "a.b", "a.b.c"], []),
        ("a.**", ["a", "a.b", "a.b.c"], ["b", "ab"]),
        ("**.c", ["c", "b.c", "a.b.c"], ["c.d", "abc"]),
        ("a.**.d", ["a.d", "a.b.d", "a.b.c.d"], ["a", "d", "a.b.c"]),
        ("*.**", ["a", "a.b"], []),
        ("a+b.(c)", ["a+b.(c)"], ["aab.c"]),
        ("*", ["white space", "new\nline", "ünï"], ["a.b"]),
    ],
)
def test_patterns(bus: Bus, pattern: str, hears: list[str], does_not_hear: list[str]) -> None:
    """``*`` stands for one part, ``**`` for any number of them, and everything else for itself."""
    bus.subscribe(pattern, lambda message: None)
    assert [channel for channel in hears + does_not_hear if bus.publish(channel).reached] == hears


@pytest.mark.parametrize("pattern", ["", ".", "a.", ".a", "a..b", "a*", "*a", "a.***", "**a", "**.**", "a.**.**.b"])
def test_bad_patterns_are_refused(bus: Bus, pattern: str) -> None:
    """A subscriber's channel with an empty part, or a star in the wrong place, is refused."""
    with pytest.raises(ValueError, match="channel"):
        bus.subscribe(pattern, print)
    assert bus.stats().subscriptions == 0


@pytest.mark.parametrize("channel", ["", "a.", "a..b", "*", "a.*", "a.**", "a*"])
def test_bad_channels_are_refused(bus: Bus, channel: str) -> None:
    """One cannot publish on a channel with an empty part or a wildcard."""
    bus.subscribe("**", print)
    with pytest.raises(ValueError, match="channel"):
        bus.publish(channel)
    assert bus.stats().published == 0


@pytest.mark.parametrize("channel", [None, 7, True, ["a"], b"a"])
def test_channels_must_be_text(bus: Bus, channel: Any) -> None:
    """A channel that is no text is refused everywhere, also where it cannot even be hashed."""
    with pytest.raises(TypeError, match="channel must be a string"):
        bus.publish(channel)
    with pytest.raises(TypeError, match="channel must be a string"):
        bus.subscribe(channel, print)
    with pytest.raises(TypeError, match="channel must be a string"):
        bus.on(channel)(print)


async def _asynchronous(message: Message) -> None: ...


@pytest.mark.parametrize("function", [None, "text", lambda: None, lambda one, two: None, _asynchronous])
def test_wrong_subscribers_are_refused(bus: Bus, function: Any) -> None:
    """What cannot be called with one message, or would have to be awaited, is refused."""
    with pytest.raises(TypeError, match="function must be"):
        bus.subscribe("a", function)
    assert bus.stats().subscriptions == 0


def test_subscribers_get_the_message_in_order(bus: Bus) -> None:
    """All subscribers of a channel get the message, in the order of their coming, and the delivery says how many."""
    seen: list[tuple[int, Message]] = []
    bus.subscribe("file.*", lambda message: seen.append((1, message)))
    bus.on("file.indexed")(lambda message: seen.append((2, message)))
    bus.on("order.**")(lambda message: seen.append((3, message)))
    delivery = bus.publish("file.indexed", {"path": "a.py"})
    message = Message("file.indexed", {"path": "a.py"})
    assert seen == [(1, message), (2, message)]
    assert delivery == Delivery(2)
    assert delivery.ok


def test_on_returns_the_function(bus: Bus) -> None:
    """``@bus.on(channel)`` returns the very function."""

    def handler(message: Message) -> None: ...

    assert bus.on("a")(handler) is handler


@pytest.mark.parametrize("kind", [LookupError, SystemExit, GeneratorExit, asyncio.CancelledError, Boom])
def test_one_failing_subscriber_harms_nobody(bus: Bus, kind: type[BaseException]) -> None:
    """What a subscriber raises is in the delivery, in an event and in the counts; the next one still runs."""
    seen, told = [], []
    error = kind("no")
    broken = raiser(error)
    bus.subscribe("a", broken)
    bus.subscribe("a", seen.append)
    bus.observe(told.append)
    delivery = bus.publish("a", 1)
    assert delivery == Delivery(2, (error,), ("handler",))
    assert not delivery.ok
    assert delivery.as_dict()["failed"] == ["handler"]
    assert kind.__name__ in delivery.as_dict()["errors"][0]
    assert len(seen) == 1
    (event,) = told
    assert (event.channel, event.handler, event.error) == ("a", "handler", error)
    assert (bus.stats().delivered, bus.stats().failed) == (1, 1)


def test_message_that_nobody_hears(bus: Bus) -> None:
    """An unheard message is an event only where somebody observes."""
    assert bus.publish("a").reached == 0
    seen: list[events.Event] = []
    with bus.observe(seen.append):
        bus.publish("b")
        bus.subscribe("b", lambda message: None)
        bus.publish("b")
    assert [str(event) for event in seen] == ["bus 'bus': nobody listens on 'b'"]


def test_hook_for_messages_that_nobody_hears(bus: Bus) -> None:
    """An observer of unheard messages gets the payload, to keep or to publish elsewhere; the log does not."""
    kept: list[object] = []

    def keep(event: events.Event) -> None:
        if isinstance(event, events.MessageUnheard):
            kept.append((event.channel, event.payload))
            assert "payload" not in event.as_dict()

    bus.observe(keep)
    bus.publish("order.lost", {"id": 7})
    assert kept == [("order.lost", {"id": 7})]


def test_message_whose_listeners_have_just_gone(bus: Bus) -> None:
    """A message is unheard also where those who listened were gone when it came to them."""
    unheard: list[object] = []
    bus.observe(lambda event: unheard.append(getattr(event, "payload", None)))

    def again(message: Message) -> None:
        if message.payload == 1:
            bus.publish("a", 2)

    bus.subscribe("a", again, once=True)
    routes = bus._subscriptions.listening_to("a")  # what a publish knows that looked before the other one claimed
    bus.publish("a", 1)
    bus._subscriptions._routes["a"] = routes
    assert bus.publish("a", 3).reached == 0
    assert unheard == [2, 3]


def test_failed_messages_leave_no_garbage(bus: Bus) -> None:
    """An error, and all that its traceback holds, goes with the answer; it does not wait for the garbage collector."""

    class Problem(Exception):
        pass

    def handler(_: object = None) -> None:
        raise Problem

    def publish() -> weakref.ref[BaseException]:
        return weakref.ref(bus.publish("a").errors[0])

    def call(call: Callable[[], object]) -> weakref.ref[BaseException | None]:
        try:
            call()
        except ActionError as error:
            return weakref.ref(error.__cause__)
        raise AssertionError("it did not fail")

    bus.subscribe("a", handler)
    bus.action("a")(handler)
    gc.collect()
    gc.disable()
    try:
        assert publish()() is None
        assert call(lambda: bus.call("a"))() is None
        assert call(lambda: bus.acall("a").send(None))() is None
    finally:
        gc.enable()


def test_remove(bus: Bus) -> None:
    """A removed subscriber is called no more, and removing it again says so."""
    seen: list[Message] = []
    subscription = bus.subscribe("a", seen.append)
    assert "append to 'a'" in repr(subscription)
    assert subscription.remove()
    assert not subscription.remove()
    assert "removed" in repr(subscription)
    assert bus.publish("a").reached == 0
    assert seen == []
    assert bus.stats().subscriptions == 0


def test_subscription_is_a_context_manager(bus: Bus) -> None:
    """Leaving the ``with`` block removes the subscriber."""
    with bus.subscribe("a", lambda message: None):
        assert bus.publish("a").reached == 1
    assert bus.publish("a").reached == 0


def test_once(bus: Bus) -> None:
    """A subscriber with ``once`` gets one message, also where its own call publishes again."""
    seen: list[object] = []

    def again(message: Message) -> None:
        seen.append(message.payload)
        bus.publish("a", "again")

    bus.subscribe("a", again, once=True)
    bus.publish("a", "first")
    bus.publish("a", "second")
    assert seen == ["first"]
    assert bus.stats().subscriptions == 0


def test_once_by_decorator(bus: Bus) -> None:
    """``@bus.on(channel, once=True)`` hears one message."""
    seen: list[object] = []
    bus.on("a", once=True)(lambda message: seen.append(message.payload))
    bus.publish("a", 1)
    bus.publish("a", 2)
    assert seen == [1]


def test_methods_and_partials(bus: Bus) -> None:
    """Methods and partials are subscribers like others, kept alive by the bus, and go by the function's name."""
    seen: list[object] = []

    class Index:
        def on_file(self, message: Message) -> None:
            seen.append(message.payload)

    def note(place: str, message: Message) -> None:
        seen.append((place, message.payload))

    method = bus.subscribe("a", Index().on_file)
    partial = bus.subscribe("a", functools.partial(note, "here"))
    gc.collect()
    bus.publish("a", 1)
    assert seen == [1, ("here", 1)]
    assert (method.handler, partial.handler) == ("on_file", "note")


def test_subscriber_that_ends_with_its_object(bus: Bus) -> None:
    """A finalizer may remove a subscriber, so that one that holds its object weakly ends with it."""
    seen: list[object] = []

    class Index:
        def on_file(self, message: Message) -> None:
            seen.append(message.payload)

    index = Index()
    on_file = weakref.WeakMethod(index.on_file)

    def forward(message: Message) -> None:
        if (method := on_file()) is not None:
            method(message)

    weakref.finalize(index, bus.subscribe("a", forward).remove)
    bus.publish("a", 1)
    del index
    assert bus.publish("a", 2).reached == 0
    assert seen == [1]


def test_bus_that_nobody_needs_is_freed() -> None:
    """A bus is garbage with its last reference, mailboxes included, also one that was in a lifecycle."""

    def used(bus: Bus) -> weakref.ref[Bus]:
        bus.subscribe("a", lambda message: bus.name)
        bus.action("b")(lambda: bus.name)
        bus.publish("a")
        bus.call("b", timeout=5)
        return weakref.ref(bus)

    with Lifecycle() as app:
        adopted = used(app.bus())
        assert app.remove("bus")
    buses = [adopted, used(Bus()), used(Bus(executor=InlineExecutor()))]
    gc.collect()
    assert [bus() for bus in buses] == [None] * 3


def test_callable_that_is_false(bus: Bus) -> None:
    """A subscriber whose truth value is False is called all the same."""

    class Empty(list[Message]):
        def __call__(self, message: Message) -> None:
            called.append(message)

    called: list[Message] = []
    bus.subscribe("a", Empty())
    assert bus.publish("a").reached == 1
    assert len(called) == 1


def test_changes_from_inside_handlers(bus: Bus) -> None:
    """A handler may subscribe, unsubscribe and publish; who comes during a publish hears the next one."""
    seen: list[str] = []

    def first(message: Message) -> None:
        seen.append("first")
        second.remove()
        bus.subscribe("a", lambda message: seen.append("third"))
        if len(seen) == 1:
            bus.publish("b")

    bus.subscribe("a", first)
    second = bus.subscribe("a", lambda message: seen.append("second"))
    bus.subscribe("b", lambda message: seen.append("nested"))
    assert bus.publish("a").reached == 1
    assert seen == ["first", "nested"]
    bus.publish("a")
    assert seen == ["first", "nested", "first", "third"]


def test_publish_from_a_finalizer(bus: Bus) -> None:
    """A finalizer that strikes inside a publish may publish, subscribe and unsubscribe."""
    seen: list[str] = []

    class Dying:
        def __del__(self) -> None:
            bus.publish("died", "object")
            bus.subscribe("other", print).remove()

    def make_garbage(message: Message) -> None:
        loop: list[object] = [Dying()]
        loop.append(loop)
        del loop
        gc.collect()

    bus.subscribe("work", make_garbage)
    bus.subscribe("died", lambda message: seen.append(message.channel))
    assert bus.publish("work").ok
    assert seen == ["died"]


def test_many_channels_do_not_fill_the_memory(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache of who hears what starts anew when it has grown large."""
    monkeypatch.setattr("threadkit._subscription._MOST_ROUTES", 10)
    bus.subscribe("job.*", lambda message: None)
    for number in range(35):
        assert bus.publish(f"job.{number}").reached == 1
    assert len(bus._subscriptions._routes) <= 10


def test_many_at_once(bus: Bus) -> None:
    """Of messages from many threads none is lost and none doubled, and the counts agree."""
    seen: list[object] = []
    bus.subscribe("n.*", lambda message: seen.append(message.payload))

    def publish(start: int) -> None:
        for number in range(start, start + 500):
            bus.publish("n.x", number)

    for background in [Background(lambda start=start: publish(start)) for start in range(0, 2000, 500)]:
        background.result()
    assert sorted(seen) == list(range(2000))  # type: ignore[type-var]  # they are numbers
    assert (bus.stats().published, bus.stats().delivered) == (2000, 2000)
