"""The bench runs: a smoke run of its cheapest row, through its command line."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow]

BENCH = Path(__file__).parent / "bench"


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the bench as a user does."""
    command = [sys.executable, str(BENCH), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)


def is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any], Path]:
    """Return what a smoke run of the bus has printed and written, and where."""
    folder = tmp_path_factory.mktemp("bench")
    done = bench("--quick", "--only", "bus", "--output", str(folder))
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads((folder / "bench.json").read_text(encoding="utf-8")), folder


def test_bench_measures_threadkit(smoke: tuple[str, dict[str, Any], Path]) -> None:
    """A smoke run measures threadkit, compares it with its peers' baseline and judges it by its goals."""
    table, record, _ = smoke
    row = record["rows"]["bus"]
    assert list(record["rows"]) == ["bus"]
    assert row["cases"]["threadkit"]["figures"]["microseconds"]["median"] > 0
    assert [goal["case"] for goal in row["goals"]] == ["threadkit"]
    assert row["goals"][0]["value"] == row["cases"]["threadkit"]["figures"]["microseconds"]["median"]
    assert "goal: threadkit at most 1 us/delivery" in table


@pytest.mark.parametrize("peer", ["pyee", "blinker"])
def test_bench_leaves_no_peer_out(peer: str, smoke: tuple[str, dict[str, Any], Path]) -> None:
    """A peer that is not installed is listed as not measured, and one that is installed is measured."""
    table, record, _ = smoke
    found = record["rows"]["bus"]["cases"][peer]
    if is_installed(peer):
        assert found["figures"]["microseconds"]["median"] > 0
    else:
        assert found == {"not_measured": f"{peer} is not installed"}
        assert f"not measured: {peer} is not installed" in table


def test_bench_draws_a_chart(smoke: tuple[str, dict[str, Any], Path]) -> None:
    """The chart is an SVG file."""
    *_, folder = smoke
    assert ET.parse(folder / "bench.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314 - our own


def test_bench_refuses_unknown_row() -> None:
    """A row that does not exist is refused, and those that exist are named."""
    done = bench("--only", "nonsense")
    assert done.returncode == 2
    assert "nonsense" in done.stderr
    assert "'bus'" in done.stderr
