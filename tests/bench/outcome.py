"""What the rounds of a row come to: medians, ratios of medians, and whether the goals are reached."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from attrs import field, frozen

from row import Case, Figures, Goal, Row
from trial import Failure


@frozen
class Spread:
    """What one figure was over the rounds."""

    median: float
    low: float
    high: float


@frozen
class Verdict:
    """How threadkit stands to one goal; ``value`` is None where something that it needs was not measured."""

    goal: Goal
    value: float | None
    is_reached: bool


@frozen
class Outcome:
    """One row with all that was measured."""

    row: Row
    size: int
    trials: dict[str, list[Figures]] = field(factory=dict)
    failures: dict[str, Failure] = field(factory=dict)

    def add(self, case: Case, found: Figures | Failure) -> None:
        """Book one trial. A case that has failed once is not measured: the trials before are void."""
        if isinstance(found, Failure):
            self.failures[case.name] = found
            self.trials.pop(case.name, None)
        else:
            self.trials.setdefault(case.name, []).append(found)

    def spread(self, case: str, figure: str) -> Spread | None:
        """Return what a figure of a case was; None where it was not measured."""
        values = [figures[figure] for figures in self.trials.get(case, ()) if figure in figures]
        return Spread(median(values), min(values), max(values)) if values else None

    def middle(self, case: str, figure: str) -> float | None:
        """Return the median of a figure of a case; None where it was not measured."""
        spread = self.spread(case, figure)
        return None if spread is None else spread.median

    def ratio(self, case: str, peer: str | None, figure: str) -> float | None:
        """Return how the median of a case stands to the median of a peer."""
        own, other = self.middle(case, figure), self.middle(peer or "", figure)
        return own / other if own is not None and other else None

    def verdicts(self) -> Iterator[Verdict]:
        """Judge threadkit by each goal."""
        for goal in self.row.goals:
            value = self.ratio(goal.case, goal.peer, goal.figure) if goal.peer else self.middle(goal.case, goal.figure)
            more_is_better = self.row.figure(goal.figure).more_is_better
            is_reached = value is not None and (value >= goal.limit if more_is_better else value <= goal.limit)
            yield Verdict(goal, value, is_reached)

    def own_failures(self) -> list[str]:
        """Return the names of threadkit's cases that could not be measured."""
        return [name for name in self.failures if self.row.case(name).is_own]
