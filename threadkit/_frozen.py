"""``frozen``: what makes a class of records that cost little to define."""

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
