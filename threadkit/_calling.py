"""A parameter is passed only where it is asked for.

User code may want a token, a run, a context or a request, or may not. It is asked by its signature: a *required*
positional parameter in that place, or one annotated with our type. What has a default, ``*args``, and what cannot be
read gets nothing: passing something there would change the meaning of code that works today.
"""

from __future__ import annotations

import inspect
import re
import sys
import threading
from collections.abc import Callable
from types import FunctionType
from typing import NamedTuple

_P = inspect.Parameter
_POSITIONAL = (_P.POSITIONAL_ONLY, _P.POSITIONAL_OR_KEYWORD)


class _Shape(NamedTuple):
    """What a call of a function has to bring."""

    annotations: tuple[object, ...]  # one for each positional parameter, in order
    required: int  # positional parameters without a default
    is_open: bool  # there is *args
    needs_keyword: bool  # there is a keyword-only parameter without a default


def asks_for(func: Callable[..., object], kind: str, *, position: int = 0) -> bool:
    """Tell whether ``func`` wants an object of ours as its positional argument number ``position``.

    Args:
        func: the user's function, method, partial or callable object.
        kind: the name of our type, such as ``"StopToken"``.
        position: 0 for the first argument.
    """
    shape = _shape_of(func)
    if shape is None or position >= len(shape.annotations):
        return False
    return position < shape.required or _is_annotated(shape.annotations[position], kind)


def accepts(func: Callable[..., object], count: int) -> bool:
    """Tell whether ``func`` can be called with ``count`` positional arguments; what cannot be read, can."""
    shape = _shape_of(func)
    if shape is None:
        return True
    return shape.required <= count <= (count if shape.is_open else len(shape.annotations)) and not shape.needs_keyword


def is_async(func: Callable[..., object]) -> bool:
    """Tell whether calling ``func`` gives something that has to be awaited."""
    return inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(type(func).__call__)


def is_on_event_loop() -> bool:
    """Tell whether this thread runs an event loop, which must not wait; where nobody has loaded asyncio, none does."""
    asyncio = sys.modules.get("asyncio")
    running = getattr(asyncio, "_get_running_loop", None)  # absent also where another thread is just importing it
    return running is not None and running() is not None


def is_ctrl_c(error: BaseException) -> bool:
    """Tell whether an error is the program's Ctrl-C, which arrives in the main thread only."""
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


def _shape_of(func: Callable[..., object]) -> _Shape | None:
    """Read a signature; None where it cannot be read, as with some built-ins."""
    if type(func) is FunctionType and not func.__dict__:
        # A plain function, neither wrapped nor given another signature. What inspect would say stands in its code;
        # asking there takes a fiftieth of the time, which is most of what it costs to make a managed thread.
        code = func.__code__
        names = code.co_varnames[: code.co_argcount]
        return _Shape(
            tuple(func.__annotations__.get(name) for name in names),
            len(names) - len(func.__defaults__ or ()),
            bool(code.co_flags & inspect.CO_VARARGS),
            code.co_kwonlyargcount > len(func.__kwdefaults__ or ()),
        )
    try:
        parameters = inspect.signature(func).parameters.values()
    except (TypeError, ValueError):
        return None
    places = [one for one in parameters if one.kind in _POSITIONAL]
    return _Shape(
        tuple(place.annotation for place in places),
        sum(place.default is _P.empty for place in places),
        any(one.kind is _P.VAR_POSITIONAL for one in parameters),
        any(one.kind is _P.KEYWORD_ONLY and one.default is _P.empty for one in parameters),
    )


def _is_annotated(annotation: object, kind: str) -> bool:
    if annotation is None or annotation is _P.empty:
        return False
    # Annotations are often strings ("StopToken | None"); names of the user's own scope cannot be resolved from here.
    # A class goes by its name; of what is built of classes, such as Optional[StopToken], only the text tells all.
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return re.search(rf"\b{kind}\b", text) is not None


def describe_function(fn: object) -> str:
    """Return a function's name, also where it is wrapped in ``functools.partial``."""
    return str(getattr(getattr(fn, "func", fn), "__qualname__", None) or repr(fn))
