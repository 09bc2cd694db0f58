"""The bus: what it costs to hand a message to a subscriber."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from row import Case, Figure, Figures, Goal, Row

SUBSCRIBERS = 10

Publish = Callable[[object], object]


def listener() -> Callable[[object], None]:
    """Make a subscriber that does nothing. Each is a function of its own, for some peers tell them apart by that."""

    def listen(message: object) -> None:
        pass

    return listen


def per_delivery(publish: Publish, subscribers: int, size: int) -> Figures:
    """Deliver so many messages, after a tenth for warming up."""
    payload = object()
    for number in (size // subscribers // 10, size // subscribers):
        began = perf_counter()
        for _ in range(number):
            publish(payload)
        seconds = perf_counter() - began
    return {"microseconds": seconds / (number * subscribers) * 1e6}


def own(subscribers: int, size: int) -> Figures:
    from threadkit import Bus

    bus = Bus()
    for _ in range(subscribers):
        bus.subscribe("file.indexed", listener())
    with bus:
        return per_delivery(lambda payload: bus.publish("file.indexed", payload), subscribers, size)


def plain(subscribers: int, size: int) -> Figures:
    listeners = [listener() for _ in range(subscribers)]

    def publish(payload: object) -> None:
        for listen in listeners:
            listen(payload)

    return per_delivery(publish, subscribers, size)


def isolated(subscribers: int, size: int) -> Figures:
    """Do what a bus has to do at the least: go on where one fails, and make a message and an answer."""
    listeners = [listener() for _ in range(subscribers)]

    def publish(payload: object) -> tuple[int, list[Exception]]:
        message = ("file.indexed", payload)
        reached = 0
        errors = []
        for listen in listeners:
            try:
                listen(message)
                reached += 1
            except Exception as error:
                errors.append(error)
        return reached, errors

    return per_delivery(publish, subscribers, size)


def pyee_emitter(subscribers: int, size: int) -> Figures:
    from pyee.base import EventEmitter

    emitter = EventEmitter()
    for _ in range(subscribers):
        emitter.on("file.indexed", listener())
    return per_delivery(lambda payload: emitter.emit("file.indexed", payload), subscribers, size)


def blinker_signal(subscribers: int, size: int) -> Figures:
    """Keep the listeners alive, for blinker holds them weakly."""
    from blinker import Signal

    signal = Signal()
    listeners = [listener() for _ in range(subscribers)]
    for listen in listeners:
        signal.connect(listen)
    return per_delivery(signal.send, subscribers, size)


def cases(subscribers: int) -> tuple[Case, ...]:
    return (
        Case("threadkit", lambda size: own(subscribers, size), "threadkit"),
        Case("plain call", lambda size: plain(subscribers, size)),
        Case("loop with try, by hand", lambda size: isolated(subscribers, size)),
        Case("pyee", lambda size: pyee_emitter(subscribers, size), "pyee"),
        Case("blinker", lambda size: blinker_signal(subscribers, size), "blinker"),
    )


COST = Figure("microseconds", "us/delivery")

BUS = Row(
    name="bus",
    title="publish to 10 subscribers, {size} deliveries",
    figures=(COST,),
    cases=cases(SUBSCRIBERS),
    goals=(Goal("microseconds", 1.0),),
    size=500_000,
    quick=1_000,
    baseline="pyee",
    note="threadkit isolates the subscribers' errors from each other and counts; pyee and blinker stop at the first.",
)

BUS_ALONE = Row(
    name="bus-alone",
    title="publish to a single subscriber, {size} deliveries",
    figures=(COST,),
    cases=cases(1),
    goals=(),
    size=200_000,
    quick=1_000,
    baseline="pyee",
    note="Here what a publish costs by itself is not shared by anybody.",
)
