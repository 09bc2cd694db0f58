"""A trial is one measurement, in a process of its own: nothing that a case leaves behind weighs on the next one."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from attrs import frozen

from row import Case, Figures, Row

TIME_LIMIT = 180.0  # seconds; a trial that hangs is killed, and listed as failed
_PROGRAM = Path(__file__).parent


@frozen
class Failure:
    """Why a case has no figures."""

    reason: str


def installed_version(case: Case) -> str | None:
    """Return the version of what the case measures: "" for the standard library, None where it is not installed."""
    if case.requires is None:
        return ""
    try:
        return version(case.requires)
    except PackageNotFoundError:
        return None


def measure(row: Row, case: Case, size: int) -> Figures | Failure:
    """Run one trial in a new process."""
    command = [sys.executable, str(_PROGRAM), "--trial", row.name, case.name, str(size)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired:
        return Failure(f"did not end within {TIME_LIMIT:g} s")
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        return Failure(lines[-1] if lines else f"exit status {done.returncode}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def perform(case: Case, size: int) -> None:
    """Be the new process: do the work and print the figures."""
    gc.collect()
    print(json.dumps(dict(case.run(size))))
