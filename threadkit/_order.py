"""In which order things start, and in which stages they stop. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Protocol, TypeVar

from threadkit._errors import DependencyCycle


class Placed(Protocol):
    """What has a place in the order."""

    name: str
    phase: int
    requires: tuple[str, ...]
    number: int


P = TypeVar("P", bound=Placed)


def start_order(things: Iterable[P]) -> list[P]:
    """Return the things in the order of their start.

    The highest phase first, in a phase by number; what is required comes before what requires it, whatever their
    phases. Requirements that are not among the things are left out of account.

    Raises:
        DependencyCycle: there is no such order.
    """
    named = {thing.name: thing for thing in things}
    missing = dict.fromkeys(named, 0)
    dependents = _dependents(named.values())
    for required in named:
        for name in dependents.get(required, ()):
            missing[name] += 1
    ready = [_rank(thing) for thing in named.values() if not missing[thing.name]]
    heapq.heapify(ready)
    ordered: list[P] = []
    while ready:
        thing = named[heapq.heappop(ready)[2]]
        ordered.append(thing)
        for name in dependents.get(thing.name, ()):
            missing[name] -= 1
            if not missing[name]:
                heapq.heappush(ready, _rank(named[name]))
    if len(ordered) < len(named):
        raise DependencyCycle(_cycle({name: named[name].requires for name in missing if missing[name]}))
    return ordered


def stop_stages(ordered: list[P]) -> list[list[P]]:
    """Return what may be told to stop at the same time, stage after stage: a phase, or a part of one.

    Args:
        ordered: the things in the order of their start.
    """
    dependents = _dependents(ordered)
    place: dict[str, tuple[int, int]] = {}  # phase, and depth in it
    stages: dict[tuple[int, int], list[P]] = {}
    for thing in reversed(ordered):  # whoever requires something comes before it here
        after = [place[name] for name in dependents.get(thing.name, ())]
        place[thing.name] = max([(thing.phase, 0), *((phase, depth + 1) for phase, depth in after)])
        stages.setdefault(place[thing.name], []).append(thing)
    return [stages[key] for key in sorted(stages)]


def _dependents(things: Iterable[Placed]) -> dict[str, list[str]]:
    dependents: dict[str, list[str]] = {}
    for thing in things:
        for required in dict.fromkeys(thing.requires):  # named twice is required once
            dependents.setdefault(required, []).append(thing.name)
    return dependents


def _rank(thing: Placed) -> tuple[int, int, str]:
    return (-thing.phase, thing.number, thing.name)


def _cycle(waiting: dict[str, tuple[str, ...]]) -> list[str]:
    """Follow the requirements of those that wait for each other until one comes again."""
    path = [next(iter(waiting))]
    while True:
        following = next(name for name in waiting[path[-1]] if name in waiting)
        if following in path:
            return path[path.index(following) :]
        path.append(following)
