"""``frozen``: what makes a class of records that cost little to define; and how their values are told."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime
from typing import Any, NoReturn, TypeVar, dataclass_transform

E = TypeVar("E")


class _Now:
    """The default of a field: the time when the event is made."""

    def __repr__(self) -> str:
        return "now"


NOW: Any = _Now()


@dataclass_transform(kw_only_default=True, frozen_default=True, eq_default=False)
def frozen(cls: type[E]) -> type[E]:
    """Make the annotated names of a class its fields, and its instances frozen.

    It is ``attrs.frozen(kw_only=True, eq=False, repr=False)``, but that compiles an ``__init__`` for each class
    whenever this module is imported, and took as long as all other modules. One ``__init__`` for all is as good here.
    """
    missing = inspect.Parameter.empty
    shape = dict(getattr(cls, "__signature__", inspect.Signature()).parameters)
    for name, kind in inspect.get_annotations(cls).items():
        if not kind.startswith("ClassVar"):
            default = getattr(cls, name, missing)
            shape[name] = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
    made: Any = cls
    made.__signature__ = inspect.Signature(list(shape.values()))  # what help() and the documentation show
    made._defaults = {name: each.default for name, each in shape.items()}
    made._required = {name for name, default in made._defaults.items() if default is missing}
    made.__init__ = _fill
    made.__setattr__ = made.__delattr__ = _refuse
    return cls


def _fill(self: Any, **given: Any) -> None:
    kind: Any = self.__class__
    if not kind._required <= given.keys() <= kind._defaults.keys():
        raise TypeError(f"{kind.__name__}() takes {', '.join(kind._defaults)}, but was given {', '.join(given)}")
    fields = self.__dict__
    fields.update(kind._defaults)  # in the order of the annotations
    fields.update(given)
    if fields["at"] is NOW:
        fields["at"] = datetime.now(UTC)


def _refuse(self: object, name: str, *_: object) -> NoReturn:
    raise AttributeError(f"{name!r} of {self!r} cannot be changed: it has happened")


class Sentence(dict[str, Any]):
    """Looks the names of a sentence up among a record's fields."""

    def __init__(self, record: object) -> None:
        self._record = record

    def __missing__(self, name: str) -> Any:
        value = getattr(self._record, name)
        return describe(value) if isinstance(value, BaseException) else value


def describe(error: BaseException) -> str:
    """Return an error as one line: its class and its message, if it can tell that."""
    try:
        text = str(error)
    except Exception:  # an error of the user's class is user code as well
        text = "(its message cannot be read)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def plain(value: object) -> object:
    """Return a value as it goes into a plain dict: an error as its line, a moment in ISO 8601."""
    if isinstance(value, BaseException):
        return describe(value)
    return value.isoformat() if isinstance(value, datetime) else value
