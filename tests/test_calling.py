"""A parameter is passed only where it is asked for."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any, Optional, Union
from unittest.mock import Mock

import pytest

from threadkit import StopToken, _calling


class Methods:
    def asks(self, token: Any) -> None: ...

    def does_not(self) -> None: ...

    @classmethod
    def of_class(cls, token: Any) -> None: ...

    @staticmethod
    def static(token: Any) -> None: ...

    def __call__(self, token: Any) -> None: ...


class StopTokenLike:
    """A class that is not ours, though its name begins like ours."""


def plain(token: Any) -> None: ...
def default(token: Any = None) -> None: ...
def none() -> None: ...
def variable(*args: Any) -> None: ...
def keywords(**kwargs: Any) -> None: ...
def keyword_only(*, token: Any) -> None: ...
def keyword_default(*, token: Any = None) -> None: ...
def positional(token: Any, /) -> None: ...
def two(payload: Any, token: Any) -> None: ...
def text(token: StopToken | None = None) -> None: ...
def other(token: StopTokenLike | None = None) -> None: ...
def payload_and_text(payload: Any, token: StopToken | None = None) -> None: ...


# Their annotations are objects, not text, as in a module without the __future__ import.
def annotated(token=None) -> None: ...


def optional(token=None) -> None: ...


def union(token=None) -> None: ...


def bar(token=None) -> None: ...


def like(token=None) -> None: ...


def bare(token=None) -> None: ...


annotated.__annotations__["token"] = StopToken
optional.__annotations__["token"] = Optional[StopToken]  # noqa: UP045 - what users write
union.__annotations__["token"] = Union[None, StopToken]  # noqa: UP007 - what users write
bar.__annotations__["token"] = StopToken | None
like.__annotations__["token"] = StopTokenLike


@functools.wraps(plain)
def wrapped(*args: Any) -> None: ...


ASKS = [plain, positional, text, annotated, optional, union, bar, wrapped, Methods().asks, Methods.of_class]
ASKS += [Methods.static, Methods(), functools.partial(two, 1), [].append]
DOES_NOT = [default, none, variable, keywords, keyword_only, keyword_default, other, like, bare, Methods().does_not]
DOES_NOT += [
    functools.partial(plain, 1),
    functools.partial(plain, token=1),
    functools.partial(bare),
    print,
    dict.update,
    Mock(),
]


@pytest.mark.parametrize("func", ASKS)
def test_who_asks(func: Callable[..., object]) -> None:
    """A required positional parameter asks, and so does one that is annotated with our type."""
    assert _calling.asks_for(func, "StopToken")


@pytest.mark.parametrize("func", DOES_NOT)
def test_who_does_not_ask(func: Callable[..., object]) -> None:
    """Defaults, variable arguments, keywords and what cannot be read get nothing."""
    assert not _calling.asks_for(func, "StopToken")


def test_second_place() -> None:
    """The place that is looked at may be another than the first."""
    assert _calling.asks_for(two, "StopToken", position=1)
    assert _calling.asks_for(payload_and_text, "StopToken", position=1)
    assert not _calling.asks_for(plain, "StopToken", position=1)


@pytest.mark.parametrize(
    ("func", "counts"),
    [
        (plain, {1}),
        (default, {0, 1}),
        (none, {0}),
        (variable, {0, 1, 2, 3}),
        (two, {2}),
        (keyword_only, set()),
        (keyword_default, {0}),
        (Methods().asks, {1}),
        (functools.partial(two, 1), {1}),
        (functools.partial(keyword_only, token=1), {0}),
        (len, {1}),
        (Mock(), {0, 1, 2, 3}),
    ],
)
def test_accepts(func: Callable[..., object], counts: set[int]) -> None:
    """A function accepts as many arguments as a call of it could bring."""
    assert {count for count in range(4) if _calling.accepts(func, count)} == counts


def test_what_cannot_be_read() -> None:
    """A built-in without a signature is not asked, and is believed to accept anything."""

    class Unreadable:
        __signature__ = "nothing that inspect understands"

        def __call__(self) -> None: ...

    assert not _calling.asks_for(Unreadable(), "StopToken")
    assert _calling.accepts(Unreadable(), 7)


def test_is_async() -> None:
    """An async function, a partial of one and an object with an async ``__call__`` are async."""

    async def function() -> None: ...

    class Handler:
        async def __call__(self) -> None: ...

    assert _calling.is_async(function)
    assert _calling.is_async(functools.partial(function))
    assert _calling.is_async(Handler())
    assert not _calling.is_async(plain)
    assert not _calling.is_async(Methods())
    assert not _calling.is_async(Handler)


def test_is_on_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event loop's thread is told from others, also where nobody has loaded asyncio."""

    async def ask() -> bool:
        return _calling.is_on_event_loop()

    assert asyncio.run(ask())
    assert not _calling.is_on_event_loop()
    monkeypatch.setattr("sys.modules", {})
    assert not _calling.is_on_event_loop()


def test_event_loops_while_asyncio_is_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    """While another thread is just importing asyncio, nobody runs a loop yet."""
    monkeypatch.setattr("sys.modules", {"asyncio": ModuleType("asyncio")})
    assert not _calling.is_on_event_loop()
