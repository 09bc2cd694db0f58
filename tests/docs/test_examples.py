"""Everything that README, docs and docstrings show is run, just as it stands there."""

from __future__ import annotations

import ast
import doctest
import importlib
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from sybil import Sybil
from sybil.parsers.myst import PythonCodeBlockParser

import threadkit

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)]
SCRIPTS = sorted((DOCS / "examples").glob("*.py"))
# A block of text that comes right after a block of code shows what the code prints.
OUTPUT = re.compile(r"\s*^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
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
def test_page_shows_what_happens(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The Python blocks of a page, run one after another in one namespace, do and print what the page says."""
    for example in READER.parse(page).examples():
        example.evaluate()
        printed = capsys.readouterr().out
        if shown := OUTPUT.match(example.document.text, example.end):
            agree = doctest.OutputChecker().check_output(shown[1], printed, doctest.ELLIPSIS)
            assert agree, f"{page}, line {example.line}: shown\n{shown[1]}\nprinted\n{printed}"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_example_file_runs(script: Path) -> None:
    """An example file, started as a person would start it, ends by itself with status 0 and a silent standard error."""
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, timeout=50, env=dict(os.environ)
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


def docstrings(module: ModuleType) -> Iterator[tuple[str, str, int]]:
    """Yield the name, text and line of each docstring in a module's source.

    The source tells whose an example is; ``__module__`` does not, for public things say that they live at the door.
    """
    for node in ast.walk(ast.parse(source_of(module))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False)
            if text is not None:
                yield getattr(node, "name", module.__name__), text, node.body[0].lineno - 1


def source_of(module: ModuleType) -> str:
    """Return the text of a module's file."""
    assert module.__file__ is not None
    return Path(module.__file__).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["threadkit", *MODULES])
def test_docstring_shows_what_happens(name: str) -> None:
    """The examples in a module's docstrings give what stands below them, with all that the door shows at hand."""
    module = importlib.import_module(name)
    shown = {public: getattr(threadkit, public) for public in threadkit.__all__}
    names = {**vars(module), **shown, "threadkit": threadkit}
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for owner, text, line in docstrings(module):
        runner.run(parser.get_doctest(text, names, owner, module.__file__, line))
    written = len(re.findall(r"^ *>>> ", source_of(module), re.MULTILINE))
    assert (runner.failures, runner.tries) == (0, written)
