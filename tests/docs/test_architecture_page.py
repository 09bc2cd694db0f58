"""The page on the architecture shows the plan of the house as it is."""

from __future__ import annotations

import re
from pathlib import Path

from test_architecture import DOOR, EDGES, FLOORS

PAGE = Path(__file__).parent.parent.parent / "docs" / "explanation" / "architecture.md"


def shown_floors() -> dict[int, list[str]]:
    """Return the modules that the page names in the table below each floor's heading."""
    floors: dict[int, list[str]] = {}
    below: list[str] = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"#+ Floor (\d+)", line):
            below = floors.setdefault(int(heading[1]), [])
        elif line.startswith("#"):
            below = []  # the tables of other sections are nobody's floor
        elif row := re.match(r"\| `(\w+)` \|", line):
            below.append(row[1])
    return floors


def test_page_names_every_module_on_its_floor() -> None:
    """The tables of the page have the modules of ``FLOORS``, each on its floor, and none beside them."""
    shown = shown_floors()
    for floor, names in FLOORS.items():
        planned = sorted(set(names.split()) - {DOOR})
        assert sorted(shown.get(floor, [])) == planned, f"floor {floor} of {PAGE.name} is not that of FLOORS"
    assert shown.keys() <= FLOORS.keys(), f"{PAGE.name} shows floors that FLOORS does not have"


def test_page_names_the_edges_there_are() -> None:
    """Each edge that exists is named on the page."""
    package = PAGE.parent.parent.parent / "threadkit"
    text = PAGE.read_text(encoding="utf-8")
    for edge in sorted(EDGES):
        exists = (package / edge).is_dir() or (package / f"{edge}.py").exists()
        assert not exists or f"`{edge}`" in text, f"{PAGE.name} does not name the edge {edge}"
