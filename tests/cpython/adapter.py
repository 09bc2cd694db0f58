"""What it takes to ask ``BoundedExecutor`` what CPython's own tests ask of a ``ThreadPoolExecutor``.

Nothing is copied: the tests are those of the interpreter that runs this, or of Debian's ``libpythonX.Y-testsuite``, or
of the folder that ``CPYTHON_TESTS`` names. Where there are none, as in most builds, the module that imports this is
skipped. What those tests know of the inside of a pool, or of its words, is translated here.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import threading
import unittest
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from types import ModuleType
from typing import Any

import test

from threadkit import BoundedExecutor
from threadkit._lane import PoolLane

VERSION = ".".join(map(str, sys.version_info[:2]))
STANDARD = futures.ThreadPoolExecutor  # before anybody puts ours in its place
PLACES = [os.environ.get("CPYTHON_TESTS"), f"/usr/lib/python{VERSION}/test"]
PARTS = ["test_as_completed", "test_init", "test_shutdown", "test_thread_pool", "test_wait"]

DOES_NOT_APPLY = {
    "test_thread_names_default": "Threads are called after their executor, executor_0 and so on, not after its class.",
}
if sys.version_info < (3, 12):
    DOES_NOT_APPLY["test_cancel_futures_wait_false"] = (
        "It takes for granted that a call has begun when submit() returns, as CPython's own does no more: gh-116682."
    )


class Adapted(BoundedExecutor):
    """An executor that shows what CPython's tests look for inside, and speaks its words."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(*args, **kwargs)
        except ValueError as error:
            if str(error).startswith("max_workers"):
                raise ValueError("max_workers must be greater than 0") from error
            raise

    @property
    def _threads(self) -> set[threading.Thread]:
        assert isinstance(self._lane, PoolLane)
        while self._lane._pool._starting:  # a thread that is made is one of ours only when it has begun
            pass
        return set(self._lane._pool.threads())

    @property
    def _broken(self) -> BaseException | None:
        return self._lane.broken


def modules() -> list[ModuleType]:
    """Return the tests: a package of several modules from 3.12 on, one module before.

    Raises:
        ImportError: they are nowhere to be found.
    """
    test.__path__.extend(place for place in PLACES if place and Path(place).is_dir())
    package = importlib.import_module("test.test_concurrent_futures")
    if not hasattr(package, "__path__"):
        return [package]
    return [importlib.import_module(f"{package.__name__}.{part}") for part in PARTS]


def cases(module: ModuleType) -> Iterator[tuple[str, type[unittest.TestCase]]]:
    """Yield the test cases of a module that are about threads, asked of ours."""
    for name, case in list(vars(module).items()):
        if not isinstance(case, type) or getattr(case, "executor_type", None) is not STANDARD:
            continue
        if issubclass(case, unittest.TestCase):  # else it is one of the halves that cases are made of
            yield name, type(name, (case,), {"executor_type": Adapted, "__module__": __name__, **_changes(case)})


def _changes(case: type[unittest.TestCase]) -> dict[str, Any]:
    """Return what else is put in the place of a test case's own."""
    changes: dict[str, Any] = {
        name: unittest.skip(why)(lambda _: None) for name, why in DOES_NOT_APPLY.items() if hasattr(case, name)
    }
    if hasattr(case, "_assert_logged"):
        changes["_assert_logged"] = _assert_logged
    return changes


def translated(assert_python_ok: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``assert_python_ok`` for programs that are written for ``ThreadPoolExecutor``."""

    def run(option: str, source: str) -> tuple[int, bytes, bytes]:
        source = source.replace("from concurrent.futures import", "from threadkit import")
        source = source.replace("ThreadPoolExecutor", "BoundedExecutor").replace("Adapted", "BoundedExecutor")
        prelude = f"import sys, test; sys.path[:] = {sys.path!r}; test.__path__[:] = {list(test.__path__)!r}\n"
        status, out, err = assert_python_ok(option, prelude + source)
        return status, out, err.replace(b"Closed: ", b"RuntimeError: cannot schedule new futures: ")

    return run


@contextlib.contextmanager
def _assert_logged(self: Any, message: str) -> Iterator[None]:
    with self.assertLogs("threadkit", "ERROR") as logged:
        yield
        self.executor.join(5)  # it is told by the last thread
    self.assertTrue(any(message in line for line in logged.output), logged.output)
