"""A parameter is passed only where it is asked for.

User code may want a token, a run, a context or a request, or may not. It is asked by its signature: a *required*
positional parameter in that place, or one annotated with our type. What has a default, ``*args``, and what cannot be
read gets nothing: passing something there would change the meaning of code that works today.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def asks_for(func: Callable[..., object], kind: str, *, position: int = 0) -> bool:
    """Tell whether ``func`` wants an object of ours as its positional argument number ``position``.

    Args:
        func: the user's function, method, partial or callable object.
        kind: the name of our type, such as ``"StopToken"``.
        position: 0 for the first argument.
    """
    try:
        parameters = list(inspect.signature(func).parameters.values())
    except (TypeError, ValueError):  # some built-ins have no signature to read
        return False
    places = [parameter for parameter in parameters if parameter.kind in _POSITIONAL]
    if position >= len(places):
        return False
    place = places[position]
    return place.default is inspect.Parameter.empty or _is_annotated(place.annotation, kind)


def accepts(func: Callable[..., object], count: int) -> bool:
    """Tell whether ``func`` can be called with ``count`` positional arguments; what cannot be read, can."""
    try:
        signature = inspect.signature(func)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def is_async(func: Callable[..., object]) -> bool:
    """Tell whether calling ``func`` gives something that has to be awaited."""
    return inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(type(func).__call__)


def is_on_event_loop() -> bool:
    """Tell whether this thread runs an event loop, which must not wait; where nobody has loaded asyncio, none does."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None


def _is_annotated(annotation: object, kind: str) -> bool:
    # Annotations are often strings ("StopToken | None"); names of the user's own scope cannot be resolved from here.
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    return re.search(rf"\b{kind}\b", text) is not None
