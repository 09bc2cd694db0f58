"""The plan of the house, and the inspector who compares it with the house.

Read the floors in order and you never meet a name that is not yet defined. The rule that makes it so, "an import goes
strictly down", is also the order of locks, so the proof that threadkit cannot deadlock with itself stands on this file.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import attrs
import pytest
from programs import unmeasured

# The table. A lower number is a lower floor, and an import goes to a lower number.
FLOORS: dict[int, str] = {
    0: "_errors _override _fork _arguments _chance _clock _calling _agenda _stacks _frozen _whereabouts",
    1: "_verdicts _durations _calendar events health _waiting _stamps _lease _systemd _tally _request _unread "
    "_codec _commit _owners _wakeup _sqlite_schema _keep _retry_after _meter _quotas",
    2: "backoff triggers _order _report _delivery _records _timer _stopper _future _permits _pool _attendant",
    3: "_stop _observe _exit _action _subscription _mailbox _due _map _ledger _limits "
    "_restarts _pulse _budget _checkup _pace _storing _room _transaction _lost _timed_call "
    "_retrying _clerk",
    4: "_component _resources _run _setback _postoffice _lane _job _handlers "
    "_plant _engine_call _steward _body _coroutines _jobtimes _memory _sqlite_file _sqlite_rows",
    5: "_supervised _member _scheduler _bus _loop _signals _entry _engine _intake _crew _waitlist _dask "
    "_jobfile _sqlite_line _sqlite_steps _sqlite_retention _as_completed _overtime",
    6: "_thread _supervisor _submitter _recurrence _dispatcher _reception _ending _roster _sqlite_upkeep _sqlite_pick",
    7: "_group _interval _executor _workqueue _registry _sqlite_view",
    8: "_makers executors _directory _runner _sqlite",
    9: "_composite stores",
    10: "_leader",
    11: "_lifecycle",
    12: "__init__",  # The door.
}
# Above the door: modules and folders that are threadkit's first users, and see of it what users see.
EDGES = frozenset({"__main__", "demo", "ext", "monitor", "testing"})
# Modules of the table that are still to be written. Empty when the house is finished.
NOT_YET: frozenset[str] = frozenset()

MOST_LINES = 400
DEPENDENCIES = frozenset({"attrs", "typing_extensions"})
# What an optional feature needs is imported in the function that needs it, and in these modules only.
OPTIONAL = {"executors": frozenset({"dask", "distributed", "loky"}), "_calendar": frozenset({"cronsim"})}
# Parts of the standard library that take long to load and that most programs never need.
LOADED_ON_FIRST_USE = frozenset({"asyncio", "sqlite3", "zoneinfo"})

DOOR = "__init__"


@attrs.frozen
class Import:
    """One import as it stands in a module.

    Args:
        line: where it stands.
        target: the module of ours that it reaches, ``__init__`` being the door; None for anybody else's.
        package: the top-level package that it reaches.
        late: whether it stands in a function.
        typing: whether it stands under ``TYPE_CHECKING``.
    """

    line: int
    target: str | None
    package: str
    late: bool
    typing: bool


@attrs.frozen
class Plan:
    """The table in a form that can be asked, so that the inspector can be tried on other houses."""

    floors: Mapping[str, int]
    edges: frozenset[str]
    not_yet: frozenset[str] = frozenset()

    @classmethod
    def of(cls, table: Mapping[int, str], edges: frozenset[str], not_yet: frozenset[str] = frozenset()) -> Plan:
        """Read the table; a module that stands on two floors is refused."""
        floors: dict[str, int] = {}
        for floor, names in table.items():
            for name in names.split():
                assert name not in floors, f"FLOORS puts {name} on two floors, {floors[name]} and {floor}."
                floors[name] = floor
        return cls(floors, edges, not_yet)

    def is_edge(self, module: str) -> bool:
        """Tell whether a module stands above the door."""
        return module.partition(".")[0] in self.edges

    def place(self, module: str) -> str:
        """Name a module and where it stands, for a sentence."""
        return "the door" if module == DOOR else f"{module} (floor {self.floors[module]})"


def modules_of(package: Path) -> dict[str, Path]:
    """Return every module of a package by its dotted name inside it; a folder goes by its own name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        found[".".join(parts[:-1] if len(parts) > 1 and parts[-1] == DOOR else parts)] = path
    return found


def ours(dotted: str, package: Path, modules: Mapping[str, Path]) -> str | None:
    """Return the module of ours that a dotted name reaches, None when it is not ours."""
    first, *inside = dotted.split(".")
    if first != package.name:
        return None
    while inside and ".".join(inside) not in modules:
        inside.pop()
    return ".".join(inside) or DOOR


def names_in(node: ast.Import | ast.ImportFrom, folder: tuple[str, ...]) -> Iterator[str]:
    """Yield the dotted names that an import statement in this folder brings in."""
    base: tuple[str, ...] = ()
    if isinstance(node, ast.ImportFrom):
        above = folder[: len(folder) - node.level + 1] if node.level else ()
        base = (*above, *filter(None, [node.module]))
    yield from (".".join([*base, alias.name]) for alias in node.names)


def imports_of(path: Path, package: Path, modules: Mapping[str, Path]) -> Iterator[Import]:
    """Yield every import of a module: those in functions and under ``TYPE_CHECKING`` too."""
    folder = (package.name, *path.relative_to(package).parent.parts)

    def walk(node: ast.AST, *, late: bool, typing: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name in names_in(node, folder):
                yield Import(node.lineno, ours(name, package, modules), name.partition(".")[0], late, typing)
        elif isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            yield from chain.from_iterable(walk(child, late=late, typing=True) for child in node.body)
            yield from chain.from_iterable(walk(child, late=late, typing=typing) for child in node.orelse)
        else:
            late = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for child in ast.iter_child_nodes(node):
                yield from walk(child, late=late, typing=typing)

    return walk(ast.parse(path.read_text(encoding="utf-8")), late=False, typing=False)


def faults_of_table(plan: Plan, modules: Mapping[str, Path]) -> Iterator[str]:
    """Yield what the table and the folder do not agree about."""
    for module, path in modules.items():
        if module not in plan.floors and not plan.is_edge(module):
            yield f"{path.name} stands on no floor: give {module} a floor in FLOORS."
    for module in plan.floors:
        if module not in modules and module not in plan.not_yet:
            yield f"FLOORS names {module}, but there is no such module: write it, or take the name out."
    for module in sorted(plan.not_yet - plan.floors.keys()):
        yield f"NOT_YET names {module}, which FLOORS does not know: take it out."


def faults_of_core(plan: Plan, module: str, found: Import) -> Iterator[str]:
    """Yield what is wrong with an import of a module below or at the door."""
    at = f"{module}, line {found.line},"
    if found.target is not None:
        if plan.is_edge(found.target):
            yield f"{at} imports {found.target}, an edge: edges use threadkit, threadkit does not use them."
        elif found.target not in plan.floors:
            return  # It stands on no floor, which has been said.
        elif plan.floors[found.target] >= plan.floors[module]:
            yield (
                f"{plan.place(module)}, line {found.line}, imports {plan.place(found.target)}, which is not below it: "
                "an import goes strictly down, under TYPE_CHECKING and in functions too."
            )
        if found.late:
            yield f"{at} imports {found.target} in a function: that hides a knot, so untie it and import at the top."
    elif found.package not in sys.stdlib_module_names | DEPENDENCIES:
        if found.package not in OPTIONAL.get(module, ()):
            yield f"{at} imports {found.package}: the core needs nothing beside attrs and typing-extensions."
        elif not (found.late or found.typing):
            yield f"{at} imports {found.package} at the top: it is optional, so import it where it is needed."
    elif found.package in LOADED_ON_FIRST_USE and not (found.late or found.typing):
        yield f"{at} imports {found.package} at the top: it is slow to load, so import it on first use."


def faults_of_edge(module: str, found: Import, edges: frozenset[str]) -> Iterator[str]:
    """Yield what is wrong with an import of a module above the door."""
    target = found.target
    if target is None or target == DOOR:
        return
    # A folder's inside is its own affair, and edges that are single files stand side by side in the package's folder.
    own, theirs = module.partition(".")[0], target.partition(".")[0]
    neighbours = own == theirs or (theirs in edges and "." not in module + target)
    public = not any(part.startswith("_") for part in target.split("."))
    if not neighbours and not public:
        yield f"{module}, line {found.line}, imports {target}: an edge uses what the door threadkit shows, and no more."


def faults(package: Path, plan: Plan) -> list[str]:
    """Inspect a package, and return a sentence for everything that is not as planned."""
    modules = modules_of(package)
    found = list(faults_of_table(plan, modules))
    for module, path in modules.items():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > MOST_LINES:
            found.append(
                f"{module} has {lines} lines, more than {MOST_LINES}: find its second noun and give it a file."
            )
        for each in imports_of(path, package, modules):
            if plan.is_edge(module):
                found += faults_of_edge(module, each, plan.edges)
            elif module in plan.floors:
                found += faults_of_core(plan, module, each)
    return found


PACKAGE = Path(next(iter(find_spec("threadkit").submodule_search_locations)))


def test_house_is_built_as_planned() -> None:
    """Every module stands on its floor, is small, and imports only what is below it."""
    assert not (found := faults(PACKAGE, Plan.of(FLOORS, EDGES, NOT_YET))), "\n".join(found)


def test_map_at_the_door_shows_the_table() -> None:
    """The docstring of the package names every module of the table, on the floor where the table has it."""
    shown = ast.get_docstring(ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))) or ""
    lines: dict[str, list[str]] = {}
    for line in shown.splitlines():
        if (words := line.split())[:1] == ["floor"]:  # a floor may take several lines
            lines.setdefault(words[1], []).extend(words)
    for floor, names in FLOORS.items():
        missing = set(names.split()) - {DOOR} - set(lines.get(str(floor), ()))
        assert not missing, f"The map at the door does not show {sorted(missing)} on floor {floor}."


def test_door_opens_fast() -> None:
    """Importing threadkit loads none of the slow parts of the standard library, not by a detour either."""
    script = f"import sys, threadkit; print(*sorted(sys.modules.keys() & {set(LOADED_ON_FIRST_USE)!r}))"
    # A child that coverage measures has loaded sqlite3 by itself.
    done = subprocess.run(
        [sys.executable, "-c", script], env=unmeasured(), capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.split() == []


# The inspector on trial. Each fake house has one fault, and he has to say which.

SMALL = Plan.of({0: "_errors _clock", 1: "_stop", 2: "executors", 3: DOOR}, frozenset({"__main__", "demo", "testing"}))
SOUND = {
    "__init__": "from threadkit._stop import StopToken\n",
    "__main__": "from threadkit import StopToken, executors, demo\n",
    "_clock": "import time\n",
    "_errors": "import attrs\nfrom typing_extensions import Self\n",
    "_stop": "import threading\nfrom threadkit import _errors\nfrom threadkit._clock import Clock\n",
    "demo": "import threadkit\nimport rich\n",
    "executors": "from threadkit._stop import StopToken\ndef loky():\n    import loky\n",
    "testing/__init__": "from threadkit.testing._leaks import no_thread_leaks\n",
    "testing/_leaks": "from threadkit import StopToken\n",
}


def build(folder: Path, changes: Mapping[str, str]) -> Path:
    """Build the sound house with changes."""
    for name, text in {**SOUND, **changes}.items():
        path = folder / "threadkit" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / "threadkit"


def test_inspector_finds_no_fault_with_a_sound_house(tmp_path: Path) -> None:
    """A house without faults gets no sentence."""
    assert faults(build(tmp_path, {}), SMALL) == []


@pytest.mark.parametrize(
    ("module", "text", "sentence"),
    [
        pytest.param(
            "_helpers",
            "",
            "_helpers.py stands on no floor: give _helpers a floor in FLOORS.",
            id="module without a floor",
        ),
        pytest.param(
            "_clock",
            "from threadkit._stop import StopToken",
            "_clock (floor 0), line 1, imports _stop (floor 1), which is not below it: "
            "an import goes strictly down, under TYPE_CHECKING and in functions too.",
            id="up",
        ),
        pytest.param(
            "_clock",
            "import threadkit._errors",
            "_clock (floor 0), line 1, imports _errors (floor 0), which is not below it: "
            "an import goes strictly down, under TYPE_CHECKING and in functions too.",
            id="sideways",
        ),
        pytest.param(
            "_clock",
            "from . import _errors",
            "_clock (floor 0), line 1, imports _errors (floor 0), which is not below it: "
            "an import goes strictly down, under TYPE_CHECKING and in functions too.",
            id="sideways and relative",
        ),
        pytest.param(
            "_clock",
            "if TYPE_CHECKING:\n    from threadkit._stop import StopToken",
            "_clock (floor 0), line 2, imports _stop (floor 1), which is not below it: "
            "an import goes strictly down, under TYPE_CHECKING and in functions too.",
            id="up while type checking",
        ),
        pytest.param(
            "_stop",
            "from threadkit import StopToken",
            "_stop (floor 1), line 1, imports the door, which is not below it: "
            "an import goes strictly down, under TYPE_CHECKING and in functions too.",
            id="through the door",
        ),
        pytest.param(
            "_clock",
            "x = 1\n" * 401,
            "_clock has 401 lines, more than 400: find its second noun and give it a file.",
            id="large",
        ),
        pytest.param(
            "_stop",
            "def f():\n    import rich",
            "_stop, line 2, imports rich: the core needs nothing beside attrs and typing-extensions.",
            id="somebody else's",
        ),
        pytest.param(
            "executors",
            "import loky",
            "executors, line 1, imports loky at the top: it is optional, so import it where it is needed.",
            id="optional at the top",
        ),
        pytest.param(
            "_stop",
            "try:\n    import asyncio.tasks\nfinally:\n    pass",
            "_stop, line 2, imports asyncio at the top: it is slow to load, so import it on first use.",
            id="slow at the top",
        ),
        pytest.param(
            "_stop",
            "async def f():\n    from threadkit import _errors",
            "_stop, line 2, imports _errors in a function: that hides a knot, so untie it and import at the top.",
            id="late",
        ),
        pytest.param(
            "_stop",
            "from threadkit.testing import no_thread_leaks",
            "_stop, line 1, imports testing, an edge: edges use threadkit, threadkit does not use them.",
            id="edge used by the core",
        ),
        pytest.param(
            "testing/_leaks",
            "from threadkit._stop import StopToken",
            "testing._leaks, line 1, imports _stop: an edge uses what the door threadkit shows, and no more.",
            id="edge that looks behind the door",
        ),
        pytest.param(
            "demo",
            "from .testing import _leaks",
            "demo, line 1, imports testing._leaks: an edge uses what the door threadkit shows, and no more.",
            id="edge that looks into another edge",
        ),
    ],
)
def test_inspector_finds_the_fault(tmp_path: Path, module: str, text: str, sentence: str) -> None:
    """A house with one fault gets one sentence, and it says which and what to do."""
    assert faults(build(tmp_path, {module: text}), SMALL) == [sentence]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("def f():\n    import asyncio", id="slow part loaded on first use"),
        pytest.param("if TYPE_CHECKING:\n    import asyncio", id="slow part named in annotations"),
        pytest.param("if TYPE_CHECKING:\n    import sqlite3\nelse:\n    import threading", id="fast part instead"),
    ],
)
def test_inspector_lets_slow_parts_in_late(tmp_path: Path, text: str) -> None:
    """A slow part of the standard library may be imported where it is not loaded at once."""
    assert faults(build(tmp_path, {"_stop": text}), SMALL) == []


def test_inspector_misses_a_module_that_is_only_planned(tmp_path: Path) -> None:
    """A module that only the table knows gets a sentence, unless it is said to be still unwritten."""
    table = {0: "_errors _clock", 1: "_stop _bus", 2: "executors", 3: DOOR}
    house = build(tmp_path, {})
    sentence = "FLOORS names _bus, but there is no such module: write it, or take the name out."
    assert faults(house, Plan.of(table, SMALL.edges)) == [sentence]
    assert faults(house, Plan.of(table, SMALL.edges, frozenset({"_bus"}))) == []
    unknown = Plan.of(table, SMALL.edges, frozenset({"_bus", "_car"}))
    assert faults(house, unknown) == ["NOT_YET names _car, which FLOORS does not know: take it out."]


def test_inspector_reads_no_table_with_a_module_twice() -> None:
    """A table that puts a module on two floors is refused."""
    with pytest.raises(AssertionError, match="FLOORS puts _stop on two floors, 1 and 2"):
        Plan.of({1: "_stop", 2: "_stop"}, EDGES)
