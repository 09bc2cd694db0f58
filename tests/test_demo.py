"""The parts of the demo that a whole run, in ``integration/test_demo.py``, does not show."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from threadkit import StopToken, __main__, demo

STATUS = {"found": 4, "files": 2, "failed": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "one.py").write_text("def f(): ...\n")
    return folder


def test_command_line_in_this_process(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command can be called as a function, and prints only the summary where JSON is wanted."""
    index = str(tmp_path / "index.db")
    assert __main__.main(["demo", str(folder), "--json", "--index", index]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["files"], printed["bytes"], printed["failed"], printed["index"]) == (1, 13, 0, index)


def test_refusals_are_errors_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """What the demo refuses ends the command with status 2 and a sentence."""
    with pytest.raises(SystemExit) as refused:
        __main__.main(["demo", "/no/such/folder"])
    assert refused.value.code == 2
    assert "FOLDER must be a folder, but '/no/such/folder' is none" in capsys.readouterr().err


def test_a_walk_ends_when_it_is_told(folder: Path) -> None:
    """A walk yields nothing more once its token is set."""
    token = StopToken()
    assert [Path(path).name for path, _ in demo.walk(token, str(folder), frozenset())] == ["one.py"]
    token.set()
    assert list(demo.walk(token, str(folder), frozenset())) == []


def test_progress_in_plain_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without rich, progress is a plain line on standard error."""
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with demo._progress(quiet=False) as progress:
        progress.show(STATUS)
    line = capsys.readouterr().err
    assert line.startswith("2 of 4 files, ")
    assert line.endswith(" a second, 1 failed\n")


def test_progress_by_rich(capsys: pytest.CaptureFixture[str]) -> None:
    """With rich, progress is a status line that ends with the work; where nobody looks it leaves nothing."""
    pytest.importorskip("rich", reason="rich is an optional extra")
    with demo._progress(quiet=False) as progress:
        progress.show(STATUS)
    assert capsys.readouterr().out == ""


def test_no_progress_where_it_is_not_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    """Quiet progress prints nothing."""
    with demo._progress(quiet=True) as progress:
        progress.show(STATUS)
    assert capsys.readouterr() == ("", "")
