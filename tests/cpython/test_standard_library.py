"""CPython's own tests of ``concurrent.futures``, those about threads, asked of ``BoundedExecutor``.

Left out are those of ``Future`` by itself, which make futures that belong to no executor, and those of processes.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator

import adapter
import pytest

try:
    MODULES = adapter.modules()
except ImportError as error:
    pytest.skip(
        f"Python {adapter.VERSION} comes without its tests of concurrent.futures: {error}", allow_module_level=True
    )

# A name in a test module is a class that pytest collects.
for _module in MODULES:
    globals().update(adapter.cases(_module))


@pytest.fixture(autouse=True)
def _in_the_place_of_the_standard_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(concurrent.futures, "ThreadPoolExecutor", adapter.Adapted)
    for module in MODULES:
        if hasattr(module, "assert_python_ok"):
            monkeypatch.setattr(module, "assert_python_ok", adapter.translated(module.assert_python_ok))
    return


def test_they_are_found() -> None:
    """There are at least as many of CPython's tests as CPython 3.11 has."""
    found = [
        name for module in MODULES for _, case in adapter.cases(module) for name in dir(case) if name[:5] == "test_"
    ]
    assert len(found) >= 40
