"""How well a component is: five words, from best to worst, and the worst one speaks for the whole."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import attrs


class Status(enum.IntEnum):
    """The state of health; a higher number is worse.

    Example:
        >>> max(Status.READY, Status.DEGRADED).name
        'DEGRADED'
    """

    READY = 0
    """Up and doing its work."""
    STARTING = 1
    """Not ready yet."""
    STOPPING = 2
    """On its way out, or out: it takes nothing new."""
    DEGRADED = 3
    """It works, but something is wrong."""
    FAILED = 4
    """It does not work any more."""


@attrs.frozen
class Health:
    """The health of one component, or of a whole application.

    Attributes:
        status: the word.
        detail: why, in a few words; empty where there is nothing to say.
        parts: the health of the parts by name, for a whole.

    Example:
        >>> Health(Status.READY).is_ready
        True
        >>> print(Health(Status.FAILED, "ValueError: bad feed"))
        failed: ValueError: bad feed
    """

    status: Status
    detail: str = ""
    parts: Mapping[str, Health] = attrs.field(factory=dict[str, "Health"])

    @property
    def is_ready(self) -> bool:
        """True where work may be sent to it: ready or degraded."""
        return self.status in {Status.READY, Status.DEGRADED}

    @property
    def is_live(self) -> bool:
        """True where there is no need to replace it: anything but failed."""
        return self.status is not Status.FAILED

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: ``status``, ``detail`` and, where there are any, ``parts``."""
        plain: dict[str, Any] = {"status": self.status.name.lower(), "detail": self.detail}
        if self.parts:
            plain["parts"] = {name: part.as_dict() for name, part in self.parts.items()}
        return plain

    def __str__(self) -> str:
        word = self.status.name.lower()
        return f"{word}: {self.detail}" if self.detail else word


def worst(parts: dict[str, Health]) -> Health:
    """Return the health of a whole: its worst part's status, with the names of the parts that have it.

    Example:
        >>> print(worst({"feed": Health(Status.READY), "jobs": Health(Status.FAILED, "no disk")}))
        failed: jobs (no disk)
    """
    status = max((part.status for part in parts.values()), default=Status.READY)
    if status is Status.READY:
        return Health(status, parts=parts)
    return Health(status, _blame(parts, status), parts)


def _blame(parts: dict[str, Health], status: Status) -> str:
    guilty = [(name, part.detail) for name, part in parts.items() if part.status is status]
    return ", ".join(f"{name} ({detail})" if detail else name for name, detail in guilty)
