"""What is said about the code, and about the tests."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType

import pytest

import threadkit

TESTS = Path(__file__).parent
# Public names that need no example of their own, with the reason. A star stands for all names of a module.
EXEMPT = {
    "events.*": "records of what has happened, all read in one way, which the module's own docstring shows",
}


def each_test(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield the test functions of a file, those in classes too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node


def is_sentence(text: str | None) -> bool:
    """Tell whether a docstring opens with a sentence: a paragraph that ends with a full stop."""
    paragraph = (text or "").partition("\n\n")[0].strip()
    return paragraph.endswith(".") and len(paragraph.split()) > 2


@pytest.mark.parametrize("path", sorted(TESTS.rglob("test_*.py")), ids=lambda path: str(path.relative_to(TESTS)))
def test_every_test_opens_with_a_sentence(path: Path) -> None:
    """A test says in one sentence what is true when it passes."""
    silent = [
        f"{node.name} (line {node.lineno})" for node in each_test(path) if not is_sentence(ast.get_docstring(node))
    ]
    assert not silent, f"{path.name} has tests that do not open with a sentence: {', '.join(silent)}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, False),
        ("", False),
        ("TODO.", False),
        ("A full queue refuses", False),
        ("A full queue refuses.", True),
        ("A full queue\nrefuses.\n\n1. How", True),
    ],
)
def test_what_a_sentence_is(text: str | None, *, expected: bool) -> None:
    """A sentence has more than two words and ends with a full stop; what comes after it is free."""
    assert is_sentence(text) is expected


def public_names() -> Iterator[tuple[str, object]]:
    """Yield everything that users can reach from the door, families with what they define."""
    for name in threadkit.__all__:
        value = getattr(threadkit, name)
        yield name, value
        if isinstance(value, ModuleType):
            for inner in getattr(value, "__all__", ()) or vars(value):
                held = getattr(value, inner)
                if not inner.startswith("_") and getattr(held, "__module__", None) == value.__name__:
                    yield f"{name}.{inner}", held


PUBLIC = [pytest.param(name, value, id=name) for name, value in public_names()]


@pytest.mark.parametrize(("name", "value"), PUBLIC)
def test_every_public_name_is_explained(name: str, value: object) -> None:
    """A public class, function or module has a docstring of its own that opens with a sentence."""
    if isinstance(value, ModuleType | type) or inspect.isroutine(value):
        assert is_sentence(value.__doc__), f"{name} is not explained: {value.__doc__!r}"


@pytest.mark.parametrize(("name", "value"), PUBLIC)
def test_every_public_name_has_an_example(name: str, value: object) -> None:
    """A public class or function shows how it is used, unless the reason why not is written down."""
    if isinstance(value, type) or inspect.isroutine(value):
        exempt = any(fnmatch(name, pattern) for pattern in EXEMPT)
        assert exempt or ">>>" in (value.__doc__ or ""), f"{name} has no example"


def test_every_exemption_is_needed() -> None:
    """No reason is kept for a name that is gone."""
    names = [name for name, _ in public_names()]
    assert not [pattern for pattern in EXEMPT if not any(fnmatch(name, pattern) for name in names)]
