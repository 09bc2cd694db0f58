"""Everything that a change has to pass. `nox` runs the default sessions, `nox --list` shows all of them.

The wheel is what is tested, not the checkout: `build` makes it once, and every session that runs code installs it.
With a flat layout this needs two things more, or `import threadkit` would find the folder beside this file:
PYTHONSAFEPATH=1 keeps the current directory off sys.path, and importlib mode (see pyproject.toml) the tests' folders.
"""

from __future__ import annotations

import shutil
from itertools import chain
from pathlib import Path

import nox

# Older ones take a version manager's shim that cannot run for an interpreter, or do not know `requires`.
nox.needs_version = ">=2026.10"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.error_on_external_run = True
# A Python that is not there is skipped, and `coverage` says so; CI, where each has to be there, asks for an error.
nox.options.error_on_missing_interpreters = False
nox.options.download_python = "never"

PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PYPROJECT)
DIST = Path("dist")
COVERAGE = Path(".nox", ".coverage")
# What tests/test_packaging.py and the imports of all programs started here go by.
INSTALLED = {"PYTHONSAFEPATH": "1", "THREADKIT_TESTED_AS": "wheel"}
TESTED: list[str] = []
# The tests of one file stay together: some share a server or a cluster.
PARALLEL = ("--numprocesses=auto", "--maxprocesses=4", "--dist=loadfile")


def install(session: nox.Session, *groups: str, extras: str = "[cron,dask,loky,rich]") -> None:
    """Install dependency groups and the wheel that `build` has made."""
    wheels = list(DIST.glob("*.whl"))
    if len(wheels) != 1:
        session.error(f"Need exactly one wheel in {DIST}/, found {len(wheels)}: run `nox -s build`.")
    requirements = (requirement for group in groups for requirement in nox.project.dependency_groups(PYPROJECT, group))
    session.install(*requirements, f"{wheels[0]}{extras}")
    # Venvs are kept, and the version stays the same while the code changes: without force the old wheel would stay.
    session.install("--no-deps", "--force-reinstall", str(wheels[0]))


def existing(*paths: str) -> list[str]:
    """Return the paths that are there: a part of the tests or docs may be empty."""
    return [path for path in paths if Path(path).exists()]


@nox.session
def lint(session: nox.Session) -> None:
    """Look for mistakes in code, format and spelling."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("codespell")


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """Build the wheel that all other sessions test."""
    session.install(*PYPROJECT["build-system"]["requires"])
    shutil.rmtree(DIST, ignore_errors=True)
    session.run("hatchling", "build", "--target", "wheel", "--directory", str(DIST), silent=True)


@nox.session(python=PYTHONS, requires=["build"])
def tests(session: nox.Session) -> None:
    """Run the tests, measuring coverage, and what CPython's own tests ask of a thread pool. Arguments go to pytest."""
    install(session, "tests")
    data = COVERAGE / str(session.python)
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)
    env = {**INSTALLED, "COVERAGE_FILE": str((data / ".coverage").resolve())}
    rest = ("--ignore=tests/docs", "--ignore=tests/races")
    session.run("coverage", "run", "-m", "pytest", *rest, *(session.posargs or PARALLEL), env=env)
    if not session.posargs:
        # 5 says that there was nothing to run: most interpreters come without these tests, and the summary says so.
        session.run("pytest", "tests/cpython", env=INSTALLED, success_codes=[0, 5])
    TESTED.append(str(session.python))


@nox.session(requires=["build"])
def races(session: nox.Session) -> None:
    """Explore the interleavings of real threads, on nox's own Python: chance need not seek on all what it finds on one.

    Without coverage, since both want to be the one who traces. frontrun replaces the locks of `threading` when pytest
    is configured; our own plugin is left out, since pytest would import threadkit, which makes some locks while it is
    imported, before that. From Python 3.12 on a traced step costs three times as much, hence the patience.
    """
    install(session, "tests")
    if not any(Path(session.bin).glob("frontrun*")):
        session.skip("NOT explored: the races. There is no frontrun for this Python.")
    arguments = session.posargs or [*PARALLEL[:2], "tests/races"]
    patience = ("--timeout=600", "-o", "faulthandler_timeout=500")
    session.run("frontrun", "pytest", "-p", "no:threadkit", *patience, *arguments, env=INSTALLED)


@nox.session(requires=["tests"])
def coverage(session: nox.Session) -> None:
    """Combine what the tests on all Pythons have covered, and fail below 100 %."""
    versions = TESTED or sorted(path.name for path in COVERAGE.glob("3.*"))
    if not versions:
        session.skip("No Python ran the tests, so there is nothing to measure.")
    session.install(*(req for req in nox.project.dependency_groups(PYPROJECT, "tests") if req.startswith("coverage")))
    env = {"COVERAGE_FILE": str((COVERAGE / ".coverage").resolve())}
    data = [str(COVERAGE / version) for version in versions]
    session.run("coverage", "combine", "--keep", *data, env=env, silent=True)
    try:
        session.run("coverage", "report", env=env)
    finally:
        tell_pythons(session, versions)


def tell_pythons(session: nox.Session, tested: list[str]) -> None:
    """Say which Pythons these results speak of, and which they do not."""
    session.log(f"Tested on Python {', '.join(tested)}.")
    for version in PYTHONS:
        if version not in tested:
            shim = shutil.which(f"python{version}")
            why = f"{shim} cannot run (a shim of a version not selected?)" if shim else "none was found"
            session.warn(f"NOT tested on Python {version}: {why}.")


@nox.session(requires=["build"])
def typing(session: nox.Session) -> None:
    """Check the types of the package, its examples, the bench and this file, and that users see all of them."""
    install(session, "typing")
    checked = existing("threadkit", "tests/typing", "tests/bench", "docs/examples", "noxfile.py")
    session.run("mypy", *checked)
    session.run("pyright", *existing("threadkit", "tests/typing", "docs/examples"))
    session.run("pyright", "--verifytypes", "threadkit", "--ignoreexternal", env=INSTALLED)


@nox.session(requires=["build"])
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning or a name that leads nowhere is an error."""
    install(session, "docs")
    arguments = session.posargs or ["-b", "html", "docs", "docs/_build/html"]
    session.run("sphinx-build", "--fail-on-warning", "--nitpicky", "--keep-going", "-q", *arguments, env=INSTALLED)


@nox.session(requires=["build"])
def examples(session: nox.Session) -> None:
    """Run every block of README and docs, every example file and every example of a docstring."""
    install(session, "examples")
    session.run("pytest", "tests/docs", *session.posargs, env=INSTALLED)


@nox.session(default=False, requires=["build"])
def stress(session: nox.Session) -> None:
    """Repeat what races, many thousand times, under a tiny switch interval."""
    install(session, "tests")
    env = {**INSTALLED, "PYTHONDEVMODE": "1"}
    session.run("pytest", "-m", "stress", "--timeout=600", *(session.posargs or ["tests/stress"]), env=env)


@nox.session(default=False, requires=["build"])
def lowest(session: nox.Session) -> None:
    """Run the tests on the lowest versions that the dependencies allow."""
    install(session, "tests", extras="")
    project = PYPROJECT["project"]
    wanted = chain(project["dependencies"], *project["optional-dependencies"].values())
    session.install(*(requirement.replace(">=", "==") for requirement in wanted))
    rest = ("--ignore=tests/docs", "--ignore=tests/races")
    session.run("pytest", *rest, *(session.posargs or PARALLEL), env=INSTALLED)


@nox.session(default=False, requires=["build"])
def bench(session: nox.Session) -> None:
    """Measure threadkit beside its peers. Arguments go to the bench: try --help."""
    install(session, "bench")
    session.run("python", "tests/bench", *session.posargs, env=INSTALLED)
