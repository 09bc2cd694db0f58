"""``Row``: one thing that is measured, the cases that do it each in its way, and the goals of threadkit."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import frozen

Figures = Mapping[str, float]
"""What one measurement found, by the name of the figure."""

OWN = "threadkit"


@frozen
class Figure:
    """One number that every case of a row reports.

    Args:
        name: as in ``Figures``.
        unit: shown behind the number.
        more_is_better: True for rates, False for costs.
    """

    name: str
    unit: str
    more_is_better: bool = False


@frozen
class Goal:
    """How good one of threadkit's cases should be: at least this much where more is better, else at most.

    Args:
        figure: its name.
        limit: in the figure's unit; or, where there is a peer, as a multiple of the peer's.
        peer: the case to compare with; None means the number itself.
        case: the case that has to reach it.
    """

    figure: str
    limit: float
    peer: str | None = None
    case: str = OWN


@frozen
class Case:
    """One way to do the work of a row.

    Args:
        name: unique within the row.
        run: does the work so many times and returns the figures. It imports what it measures, and nothing else.
        requires: the distribution that has to be installed; None where the standard library is enough.
        rounds: at most so many, where the outcome is arithmetic and each round takes long.
    """

    name: str
    run: Callable[[int], Figures]
    requires: str | None = None
    rounds: int | None = None

    @property
    def is_own(self) -> bool:
        """Whether this is threadkit, in one of its ways."""
        return self.name.startswith(OWN)


@frozen
class Row:
    """What is measured.

    Args:
        name: what ``--only`` calls it by.
        title: what is done; ``{size}`` stands for how often.
        figures: what each case reports; the first is the one that is compared.
        cases: in the order in which they are shown, and run in turn.
        goals: none where the row only informs.
        size: how often the work is done; what it counts is the row's affair.
        quick: the same for a smoke run.
        baseline: the case that the others are compared with; None where there is no peer.
        note: what a reader has to know to judge the numbers.
    """

    name: str
    title: str
    figures: tuple[Figure, ...]
    cases: tuple[Case, ...]
    goals: tuple[Goal, ...]
    size: int
    quick: int
    baseline: str | None = None
    note: str = ""

    def figure(self, name: str) -> Figure:
        """Return the figure of this name."""
        return next(figure for figure in self.figures if figure.name == name)

    def case(self, name: str) -> Case:
        """Return the case of this name."""
        return next(case for case in self.cases if case.name == name)
