"""How payloads and results become something that a file can hold: the protocol ``Codec``, and ``JSON``.

JSON is the default since what it reads can do no harm. It changes some values on the way, though: a tuple comes back as
a list, a key that is a number as text. A job must see what was submitted, so such values are refused.
"""

from __future__ import annotations

import json
import math
from typing import Any, Protocol, cast

_encode = json.JSONEncoder(separators=(",", ":")).encode
_PLAIN = frozenset({str, int, bool, type(None)})


class Codec(Protocol):
    """Turns payloads and results into text or bytes, and back.

    Example:
        >>> class Reversed:
        ...     def encode(self, value):
        ...         return value[::-1]
        ...     def decode(self, data):
        ...         return data[::-1]
        >>> codec: Codec = Reversed()
        >>> codec.decode(codec.encode("abc"))
        'abc'
    """

    def encode(self, value: Any) -> str | bytes:
        """Return what is to be kept.

        Raises:
            TypeError: the value cannot be kept.
            ValueError: the value cannot be kept.
        """
        ...

    def decode(self, data: Any) -> Any:
        """Return what was encoded."""
        ...


class JSON:
    """Keeps what JSON can carry unchanged: None, text, numbers, truth values, lists, and dicts with text as keys.

    Example:
        >>> JSON().decode(JSON().encode({"to": ["ada@example.org"]}))
        {'to': ['ada@example.org']}
        >>> JSON().encode({"to": ("ada", "bob")})
        Traceback (most recent call last):
            ...
        TypeError: value['to'] is a tuple, which JSON would change; use another value, or another codec
    """

    def encode(self, value: Any) -> str:
        """Return the value as text of the ASCII alphabet.

        Raises:
            TypeError: it holds something that JSON cannot carry unchanged; the message says where.
            ValueError: it holds a number that JSON does not know; or it is nested too deeply, or holds itself.
        """
        if type(value) not in _PLAIN:
            try:
                _check(value, "value")
            except RecursionError:
                raise ValueError("value is nested too deeply, or holds itself") from None
        return _encode(value)

    def decode(self, data: Any) -> Any:
        """Return what was encoded."""
        return json.loads(data)

    def __repr__(self) -> str:
        return "JSON()"


def _check(value: object, path: str) -> None:
    """Look for what JSON would change in a value that is not plain."""
    kind = type(value)
    if kind is float:
        if not math.isfinite(cast("float", value)):
            raise ValueError(f"{path} is {value!r}, a number that JSON does not know")
    elif kind is list:
        for index, item in enumerate(cast("list[object]", value)):
            if type(item) not in _PLAIN:
                _check(item, f"{path}[{index}]")
    elif kind is dict:
        for key, item in cast("dict[object, object]", value).items():
            if type(key) is not str:
                raise TypeError(f"{path} has {key!r} for a key, which JSON would bring back as text; use text")
            if type(item) not in _PLAIN:
                _check(item, f"{path}[{key!r}]")
    else:
        article = "an" if kind.__name__[:1] in "aeiouAEIOU" else "a"
        raise TypeError(
            f"{path} is {article} {kind.__name__}, which JSON would change; use another value, or another codec"
        )
