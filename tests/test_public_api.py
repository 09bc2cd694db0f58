"""The door: what it lets in, and under which name."""

from __future__ import annotations

import ast
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import threadkit


def test_all_names_are_there() -> None:
    """Every name of __all__ can be had, each once and in order, and dir() shows them."""
    assert sorted(threadkit.__all__) == threadkit.__all__
    assert len(set(threadkit.__all__)) == len(threadkit.__all__)
    for name in threadkit.__all__:
        assert getattr(threadkit, name) is not None
    assert set(threadkit.__all__) <= set(dir(threadkit))


def test_type_checkers_and_programs_see_the_same() -> None:
    """The imports that type checkers read and the table that programs go by name the same things and homes."""
    tree = ast.parse(Path(threadkit.__file__).read_text(encoding="utf-8"))
    (static,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {}
    for node in static.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.name == alias.asname
            home = alias.name if node.module == "threadkit" else str(node.module).removeprefix("threadkit.")
            seen[alias.name] = home
    assert seen == threadkit._HOMES
    eager = {name for name in threadkit.__all__ if name not in seen}
    assert {getattr(threadkit, name).__name__ for name in eager} == eager


def test_public_names_look_public() -> None:
    """Classes and functions of the door say that they come from threadkit, not from a private module."""
    for name in threadkit.__all__:
        thing = getattr(threadkit, name)
        if not isinstance(thing, type(threadkit)):
            assert thing.__module__ == "threadkit", name


def test_unknown_names_are_refused() -> None:
    """A name that the door does not have is an AttributeError, as everywhere."""
    with pytest.raises(AttributeError, match="module 'threadkit' has no attribute 'Celery'"):
        threadkit.Celery  # noqa: B018 - looking is what is tested


def test_version_is_that_of_the_package() -> None:
    """__version__ is looked up in the installed package's metadata."""
    assert threadkit.__version__.count(".") == 2


def test_errors_survive_pickle_under_their_public_name() -> None:
    """An error can be sent to another process."""
    error = pickle.loads(pickle.dumps(threadkit.Full("queue", "jobs", 3)))
    assert isinstance(error, threadkit.Full)
    assert b"_errors" not in pickle.dumps(error)


def test_one_primitive_does_not_load_the_others() -> None:
    """Who uses a managed thread loads neither the queue nor the executor, and the bare import loads next to nothing."""
    source = """
import sys
import threadkit
bare = [name for name in sys.modules if name.startswith("threadkit.")]
threadkit.ManagedThread
one = {name for name in sys.modules if name.startswith("threadkit.")}
print(len(bare), "threadkit._workqueue" in one, "threadkit._executor" in one, "threadkit._thread" in one)
"""
    out = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True, timeout=60).stdout
    assert out.split() == ["2", "False", "False", "True"]
