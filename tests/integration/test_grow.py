"""The program of the how-to, on every engine that it names, by the one line that it says."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

PROGRAM = Path(__file__).parents[2] / "docs" / "examples" / "grow.py"
LINE = "ENGINE = executors.threads(2)"


@pytest.mark.parametrize(
    ("engine", "package"),
    [("threads(2)", None), ("processes(2)", None), ("loky(2)", "loky"), ("dask()", "distributed")],
)
def test_one_line_changes(engine: str, package: str | None, tmp_path: Path) -> None:
    """The same program gives the same answer on threads, in processes and on a cluster."""
    if package is not None and importlib.util.find_spec(package) is None:
        pytest.skip(f"the package {package} is not installed")
    source = PROGRAM.read_text(encoding="utf-8")
    assert LINE in source
    source = source.replace(LINE, f"ENGINE = executors.{engine}")
    program = tmp_path / "grow.py"
    program.write_text(source, encoding="utf-8")
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=150, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["168", "303", "430", "550"]), done.stderr
