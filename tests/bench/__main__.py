"""Measures threadkit beside its peers: ``python tests/bench``, or ``nox -s bench`` which also installs them.

Per row, round after round, every case takes its turn (A B C A B C ...), each in a process of its own that warms up
first where that makes a difference. The table shows medians over the rounds, ratios of medians, and whether threadkit's
goals are reached. A peer that is not installed is said to be not measured. The same goes into ``bench.json``, and the
ratios into ``bench.svg``. The exit status is 1 where a case of threadkit's own failed; to miss a goal is no failure.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import chart
import machine
import record
import table
from outcome import Outcome
from row import Row
from rows import ROWS
from trial import Failure, installed_version, measure, perform

FOLDER = Path(__file__).parents[2] / ".nox" / ".bench"


def main() -> int:
    """Run what the command line asks for; return the exit status."""
    rows = {row.name: row for row in ROWS}
    options = arguments(list(rows)).parse_args()
    if options.trial:
        row, case, size = options.trial
        perform(rows[row].case(case), int(size))
        return 0
    rounds = options.rounds or (1 if options.quick else 5)
    found = machine.description()
    subtitle = "{date}, {implementation} {python}, {system}, {processor}, {cores} cores".format_map(found)
    print(subtitle, f"rounds: {rounds}", sep="; ")
    if options.quick:
        print("This is a smoke run: its figures mean nothing.")
    print()
    outcomes = []
    for name in options.only or rows:
        outcome = run(rows[name], rounds, quick=options.quick)
        print(*table.lines(outcome), "", sep="\n", flush=True)
        outcomes.append(outcome)
    options.output.mkdir(parents=True, exist_ok=True)
    kept = record.record(outcomes, found, rounds)
    (options.output / "bench.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    (options.output / "bench.svg").write_text(chart.svg(outcomes, subtitle), encoding="utf-8")
    print(f"Written: bench.json and bench.svg in {options.output}")
    return 1 if any(outcome.own_failures() for outcome in outcomes) else 0


def arguments(rows: list[str]) -> argparse.ArgumentParser:
    """Return what reads the command line."""
    parser = argparse.ArgumentParser("bench", description="Measure threadkit beside its peers.")
    parser.add_argument("--rounds", type=positive, help="how often each case is measured (5)")
    parser.add_argument("--quick", action="store_true", help="see that it works: little work, one round")
    parser.add_argument("--only", action="append", choices=rows, help="measure this row only; can be repeated")
    parser.add_argument("--output", type=Path, default=FOLDER, help="the folder for bench.json and bench.svg")
    parser.add_argument("--trial", nargs=3, help=argparse.SUPPRESS)
    return parser


def positive(text: str) -> int:
    """Read a number of rounds."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def run(row: Row, rounds: int, *, quick: bool) -> Outcome:
    """Measure one row."""
    outcome = Outcome(row, row.quick if quick else row.size)
    for case in row.cases:
        if installed_version(case) is None:
            outcome.add(case, Failure(f"{case.requires} is not installed"))
    for done in range(rounds):
        for case in row.cases:
            if case.name not in outcome.failures and (case.rounds is None or done < case.rounds):
                outcome.add(case, measure(row, case, outcome.size))
    return outcome


if __name__ == "__main__":
    sys.exit(main())
