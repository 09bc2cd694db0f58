"""How long each stage of a stop may take: one deadline for all, shared so that stops never add up. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple

from threadkit import _arguments
from threadkit._report import LimitName


class Limit(NamedTuple):
    """A moment of the clock until which something is waited for, and which limit that comes from.

    Of several limits ``min()`` is the one that counts.
    """

    at: float
    name: LimitName


class Budget:
    """Shares a deadline among stages.

    A stage may use the time that remains, less a tenth of the whole for each later one. The time-out of a phase counts
    from the beginning of its first stage, and only ever shortens.

    Args:
        now: when the stop begins.
        deadline: when it must be over.
        stages: how many stages there are.
        phase_timeouts: seconds that phases may take.
    """

    def __init__(self, now: float, deadline: float, stages: int, phase_timeouts: Mapping[int, float]) -> None:
        self._whole = deadline - now
        self._deadline = deadline
        self._later = stages
        self._phase_timeouts = phase_timeouts
        self._phase: int | None = None
        self._end_of_phase = math.inf

    def begin_stage(self, now: float, phase: int) -> Limit:
        """Go on to the next stage, and return until when its components are waited for.

        Args:
            now: when the stage begins.
            phase: the highest phase of a component in it. What a component of a later phase requires stops with that.
        """
        if self._phase is None or phase > self._phase:
            self._phase = phase
            self._end_of_phase = now + self._phase_timeouts.get(phase, math.inf)
        self._later -= 1
        share = min(self._whole / 10, (self._deadline - now) / (self._later + 1))
        return min(Limit(self._deadline - share * self._later, "deadline"), Limit(self._end_of_phase, "phase_timeouts"))


def phase_timeouts(value: Mapping[int, float | timedelta] | None) -> dict[int, float]:
    """Return what the user said about phases in seconds.

    Raises:
        TypeError: it is no mapping from whole numbers to durations.
        ValueError: a duration is negative or ``nan``.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"phase_timeouts must map phases to seconds, as {{Phase.WORK: 5.0}} does, not {value!r}")
    seconds: dict[int, float] = {}
    for phase, limit in value.items():
        if isinstance(phase, bool) or not isinstance(phase, int):
            raise TypeError(f"phase_timeouts must have whole numbers for phases, not {phase!r}")
        seconds[phase] = _arguments.seconds(limit, f"phase_timeouts[{int(phase)}]", infinite=True)
    return seconds
