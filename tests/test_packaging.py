"""What is inside the wheel, and what it says about itself."""

from __future__ import annotations

import os
import re
import sysconfig
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# nox says so; elsewhere the package may be absent or an editable install.
TESTED_AS_WHEEL = os.environ.get("THREADKIT_TESTED_AS") == "wheel"


@pytest.fixture(scope="module")
def installed() -> Distribution:
    """Return what is installed as threadkit."""
    try:
        return Distribution.from_name("threadkit")
    except PackageNotFoundError:
        if TESTED_AS_WHEEL:
            raise
        pytest.skip("threadkit is not installed here, only importable")


@pytest.fixture(scope="module")
def project() -> dict[str, object]:
    """Return what pyproject.toml says."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.skipif(not TESTED_AS_WHEEL, reason="only nox promises to test the wheel")
def test_wheel_is_what_is_tested() -> None:
    """The threadkit that these tests import lies in site-packages and not in the checkout."""
    origin = Path(find_spec("threadkit").origin).resolve()
    assert origin.is_relative_to(Path(sysconfig.get_path("purelib")).resolve())
    assert not origin.is_relative_to(ROOT / "threadkit")


def test_two_dependencies_and_no_more(installed: Distribution) -> None:
    """Whoever installs threadkit without extras gets attrs and typing-extensions, and nothing else."""
    needed = [re.match(r"[\w.-]+", line)[0] for line in installed.requires if "extra ==" not in line]
    assert sorted(needed) == ["attrs", "typing-extensions"]


def test_every_dependency_has_a_lower_bound_and_no_upper(installed: Distribution) -> None:
    """A requirement says from which version on it works and does not forbid what is not yet out."""
    for line in installed.requires:
        assert re.fullmatch(r"[\w.-]+>=[\d.]+", line.partition(";")[0].strip()), line


def test_oldest_python(installed: Distribution) -> None:
    """The wheel installs on Python 3.11 and newer."""
    assert installed.metadata["Requires-Python"] == ">=3.11"


def test_extras_are_those_whose_code_exists(installed: Distribution) -> None:
    """An extra is offered for the cron triggers, for two engines and for the demo's display."""
    assert sorted(installed.metadata.get_all("Provides-Extra")) == ["cron", "dask", "loky", "rich"]


def test_type_checkers_are_invited(installed: Distribution) -> None:
    """The marker that tells type checkers to look at threadkit's own annotations is installed."""
    assert Path(str(installed.locate_file("threadkit/py.typed"))).is_file()


def test_pytest_finds_the_plugin(installed: Distribution) -> None:
    """The fixtures are there for every pytest that runs beside an installed threadkit."""
    (entry,) = installed.entry_points.select(group="pytest11")
    assert (entry.name, entry.value) == ("threadkit", "threadkit.testing.plugin")


@pytest.mark.skipif(not TESTED_AS_WHEEL, reason="an editable install has no such list")
def test_wheel_brings_the_package_and_nothing_beside_it(installed: Distribution) -> None:
    """Neither tests nor docs are installed into the environment of users."""
    tops = {path.parts[0] for path in installed.files if not path.parts[0].endswith(".dist-info")}
    assert tops == {"threadkit"}


def test_nothing_is_claimed_of_free_threading(project: dict[str, object]) -> None:
    """No classifier speaks of free-threaded builds, since no test has run on one."""
    assert not [line for line in project["classifiers"] if "Free Threading" in line]


def test_every_python_that_is_claimed_is_tested(project: dict[str, object]) -> None:
    """The CI workflow tests exactly the Pythons of the classifiers, the oldest being the one that is required."""
    claimed = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert re.findall(r"3\.\d+", re.search(r"python: \[(.*)\]", workflow)[1]) == claimed
    assert project["requires-python"] == f">={claimed[0]}"
