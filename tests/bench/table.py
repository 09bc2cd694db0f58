"""The outcome of a row as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from outcome import Outcome, Verdict
from row import Case

NAMES, CELL = 42, 16  # how wide the columns are


def lines(outcome: Outcome) -> Iterator[str]:
    """Return the lines that show one row."""
    row = outcome.row
    heads = "".join(f"{figure.unit:>{CELL}}" for figure in row.figures)
    yield f"{row.name}: {row.title.format(size=f'{outcome.size:,}')}"
    yield f"  {'':{NAMES}}{heads}   of baseline   least .. most{' of the first' if len(row.figures) > 1 else ''}"
    for case in row.cases:
        yield f"  {case.name:{NAMES}}{found(outcome, case)}"
    for verdict in outcome.verdicts():
        yield f"  goal: {wanted(outcome, verdict)}: {reached(outcome, verdict)}"
    if row.note:
        yield f"  {row.note}"


def found(outcome: Outcome, case: Case) -> str:
    """Return what was found for one case, or why nothing was."""
    if case.name in outcome.failures:
        return f"  not measured: {outcome.failures[case.name].reason}"
    spreads = [outcome.spread(case.name, figure.name) for figure in outcome.row.figures]
    cells = "".join(f"{'-' if spread is None else number(spread.median):>{CELL}}" for spread in spreads)
    ratio = outcome.ratio(case.name, outcome.row.baseline, outcome.row.figures[0].name)
    between = "" if spreads[0] is None else f"{number(spreads[0].low)} .. {number(spreads[0].high)}"
    return f"{cells}   {'' if ratio is None else f'{ratio:.2f}x':>11}   {between}"


def wanted(outcome: Outcome, verdict: Verdict) -> str:
    """Say what the goal is."""
    goal = verdict.goal
    figure = outcome.row.figure(goal.figure)
    bound = "at least" if figure.more_is_better else "at most"
    limit = f"{goal.limit:g}x {goal.peer}" if goal.peer else f"{number(goal.limit)} {figure.unit}"
    return f"{goal.case} {bound} {limit}"


def reached(outcome: Outcome, verdict: Verdict) -> str:
    """Say whether it is reached."""
    if verdict.value is None:
        return "not measured"
    unit = "x" if verdict.goal.peer else f" {outcome.row.figure(verdict.goal.figure).unit}"
    return f"{'reached' if verdict.is_reached else 'MISSED'}, {number(verdict.value)}{unit}"


def number(value: float) -> str:
    """Write a number with three digits that count, or all before the point."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
