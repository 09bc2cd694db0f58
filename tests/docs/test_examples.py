"""Everything that README, docs and docstrings show is run, just as it stands there."""

from __future__ import annotations

import doctest
import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.myst import PythonCodeBlockParser

import threadkit

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)]
SCRIPTS = sorted((DOCS / "examples").glob("*.py"))
# No parser for "skip": a block that must not run is not marked as Python.
READER = Sybil(parsers=[PythonCodeBlockParser(doctest_optionflags=doctest.ELLIPSIS)], path=str(ROOT))

MODULES = [
    module.name
    for module in pkgutil.walk_packages(threadkit.__path__, "threadkit.")
    if not module.name.endswith("__main__")  # To import it is to run it.
]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let examples leave their files where nobody trips over them."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_shows_what_happens(page: Path) -> None:
    """The Python blocks of a page, run one after another in one namespace, do what the page says."""
    for example in READER.parse(page).examples():
        example.evaluate()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_example_file_runs(script: Path) -> None:
    """An example file, started as a person would start it, ends by itself with status 0 and a silent standard error."""
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, timeout=50, env=dict(os.environ)
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("name", ["threadkit", *MODULES])
def test_docstring_shows_what_happens(name: str) -> None:
    """The examples in a module's docstrings give what stands below them, with all that the door shows at hand."""
    module = importlib.import_module(name)
    shown = {public: getattr(threadkit, public) for public in threadkit.__all__}
    failed, _ = doctest.testmod(module, extraglobs={**shown, "threadkit": threadkit}, optionflags=doctest.ELLIPSIS)
    assert failed == 0
