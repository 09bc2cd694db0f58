"""The outcome of all rows as JSON: everything that was measured, so that others can judge it anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import asdict

from outcome import Outcome
from trial import installed_version


def record(outcomes: list[Outcome], machine: Mapping[str, str | int], rounds: int) -> dict[str, Any]:
    """Return all that was found, in types that JSON knows."""
    return {
        "machine": dict(machine),
        "rounds": rounds,
        "rows": {outcome.row.name: row_record(outcome) for outcome in outcomes},
    }


def row_record(outcome: Outcome) -> dict[str, Any]:
    """Return what was found for one row."""
    row = outcome.row
    return {
        "title": row.title.format(size=f"{outcome.size:,}"),
        "baseline": row.baseline,
        "cases": {case.name: case_record(outcome, case.name) for case in row.cases},
        "goals": [
            {**asdict(verdict.goal), "value": verdict.value, "reached": verdict.is_reached}
            for verdict in outcome.verdicts()
        ],
    }


def case_record(outcome: Outcome, case: str) -> dict[str, Any]:
    """Return what was found for one case, or why nothing was."""
    if case in outcome.failures:
        return {"not_measured": outcome.failures[case].reason}
    spreads = {figure.name: outcome.spread(case, figure.name) for figure in outcome.row.figures}
    return {
        "version": installed_version(outcome.row.case(case)),
        "trials": outcome.trials.get(case, []),
        "figures": {name: asdict(spread) for name, spread in spreads.items() if spread is not None},
        "of_baseline": outcome.ratio(case, outcome.row.baseline, outcome.row.figures[0].name),
    }
