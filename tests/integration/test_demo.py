"""The main job, as a person runs it: ``python -m threadkit demo``. Every figure is checked against other tools."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

import pytest
from programs import unmeasured

pytestmark = pytest.mark.integration

PATIENCE = 240.0
COMMAND = [sys.executable, "-m", "threadkit", "demo"]


def run(*arguments: str, measured: bool = True) -> subprocess.CompletedProcess[str]:
    # Looking at the coverage of some hundred million bytes' work takes five times as long.
    environment = None if measured else unmeasured()
    command = [*COMMAND, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, env=environment)


def rows(index: str) -> dict[str, tuple[Any, ...]]:
    connection = sqlite3.connect(index)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return {row[0]: row[1:] for row in connection.execute("SELECT * FROM files")}
    finally:
        connection.close()


def expected(path: Path) -> tuple[Any, ...]:
    """Work a row out without threadkit."""
    content = path.read_bytes()
    functions = classes = None
    if path.suffix == ".py":
        try:
            nodes = [type(node).__name__ for node in ast.walk(ast.parse(content))]
        except (SyntaxError, ValueError):
            pass
        else:
            functions = nodes.count("FunctionDef") + nodes.count("AsyncFunctionDef")
            classes = nodes.count("ClassDef")
    return (len(content), content.count(b"\n"), hashlib.sha256(content).hexdigest(), functions, classes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a small folder with everything in it that is out of the ordinary."""
    folder = tmp_path / "folder"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "good.py").write_text("class A:\n    def f(self): ...\nasync def g(): ...\n")
    (folder / "bad.py").write_text("def f(:\n")
    (folder / "null.py").write_bytes(b"x = 1\0\n")
    (folder / "empty").touch()
    (folder / "deep" / "er" / "no newline.txt").write_text("one\ntwo")
    (folder / "big.bin").write_bytes(bytes(range(256)) * 10_000)
    (folder / "link").symlink_to(folder / "good.py")
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe")
    return folder


def test_every_row_is_true(folder: Path, tmp_path: Path) -> None:
    """The index has one row for each regular file, and each row says what other tools say."""
    index = tmp_path / "index.db"
    done = run(str(folder), "--index", str(index), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    files = [
        path for path in folder.rglob("*") if path.is_file() and not path.is_symlink() and "loop" not in path.parts
    ]
    assert rows(str(index)) == {str(path): expected(path) for path in files}
    assert result.keys() == {"files", "bytes", "failed", "index", "seconds"}
    assert (result["files"], result["failed"], result["index"]) == (len(files), 0, str(index))
    assert result["bytes"] == sum(path.stat().st_size for path in files)


@pytest.mark.slow
@pytest.mark.timeout(PATIENCE)
def test_the_standard_library() -> None:
    """By default the interpreter's own standard library is indexed, and every file agrees with hashlib."""
    done = run("--json", measured=False)
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    table = rows(result["index"])
    assert result["files"] == len(table)
    assert result["failed"] == 0
    library = sysconfig.get_path("stdlib")
    assert os.path.join(library, "threading.py") in table
    wrong = []
    for name, (size, lines, digest, *_) in table.items():
        if "__pycache__" in name:
            continue  # other processes may be writing those
        content = Path(name).read_bytes()
        if (len(content), content.count(b"\n"), hashlib.sha256(content).hexdigest()) != (size, lines, digest):
            wrong.append(name)
    assert wrong == []
    assert not [name for name in table if f"{os.sep}site-packages{os.sep}" in name]
    Path(result["index"]).unlink()


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files_become_dead_letters(folder: Path, tmp_path: Path) -> None:
    """A file that cannot be read is counted as failed, and the rest goes on."""
    (folder / "secret").write_text("x")
    (folder / "secret").chmod(0)
    result = json.loads(run(str(folder), "--json", "--index", str(tmp_path / "index.db")).stdout)
    assert result["failed"] == 1
    assert result["files"] == len(rows(result["index"]))


WRITE_ONLY = "/proc/sys/net/ipv4/route"  # holds a file that even root cannot read


@pytest.mark.skipif(not os.path.exists(f"{WRITE_ONLY}/flush"), reason="needs a file that nobody can read")
def test_a_file_that_nobody_can_read_becomes_a_dead_letter(tmp_path: Path) -> None:
    """A file that cannot be read, whoever runs the demo, is retried and then counted as failed; the rest goes on."""
    done = run(WRITE_ONLY, "--json", "--index", str(tmp_path / "index.db"))
    result = json.loads(done.stdout)
    assert done.returncode == 0
    assert result["failed"] == 1
    assert result["files"] == len(rows(result["index"])) == len(os.listdir(WRITE_ONLY)) - 1
    assert "failed for good after 3 attempt(s): PermissionError" in done.stderr


def test_names_that_are_no_text(tmp_path: Path) -> None:
    """A file whose name is no valid text is kept under the bytes of its name."""
    folder = os.fsencode(tmp_path / "folder")
    os.mkdir(folder)
    name = os.path.join(folder, b"\xff\xfe")
    Path(os.fsdecode(name)).write_bytes(b"one\n")
    result = json.loads(run(os.fsdecode(folder), "--json").stdout)
    assert rows(result["index"]) == {name: expected(Path(os.fsdecode(name)))}


def test_the_index_may_lie_in_the_folder(folder: Path) -> None:
    """An index that lies in the folder does not index itself, and a second run replaces it."""
    for _ in range(2):
        done = run(str(folder), "--json", "--index", str(folder / "index.db"))
        assert str(folder / "index.db") not in rows(str(folder / "index.db"))
    assert json.loads(done.stdout)["files"] == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/no/such/folder"], "FOLDER must be a folder, but '/no/such/folder' is none"),
        (["--workers", "0"], "--workers must be at least 1, but is 0"),
        (["--workers", "many"], "invalid int value: 'many'"),
        (["--index", "/no/such/folder/index.db"], "--index '/no/such/folder/index.db' cannot be used"),
        (["--index", __file__], "cannot be used: file is not a database"),
    ],
)
def test_bad_arguments_are_refused(arguments: list[str], message: str) -> None:
    """What makes no sense is refused with exit status 2 and a sentence, and nothing is touched."""
    before = Path(__file__).read_bytes()
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert Path(__file__).read_bytes() == before


def test_summary_and_report_for_people(folder: Path) -> None:
    """Without --json a table and the shutdown report are printed; no progress where nobody looks."""
    done = run(str(folder), "--workers", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert "files  6" in done.stdout
    assert "demo stopped well in" in done.stdout
    assert "walker: stopped after" in done.stdout


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_in_mid_run(signum: int, code: int, tmp_path: Path) -> None:
    """A signal in mid-run ends the demo in time, says what was left, and leaves a consistent index."""
    index = tmp_path / "index.db"
    process = subprocess.Popen(
        [*COMMAND, "--index", str(index), "--workers", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:  # the work is in full swing when there are committed rows
            time.sleep(0.1)
            try:
                if index.exists() and rows(str(index)):
                    break
            except sqlite3.OperationalError:  # the table is being made, or written
                continue
        began = time.monotonic()
        process.send_signal(signum)
        out, err = process.communicate(timeout=30)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert (process.returncode, err) == (code, "")
    assert time.monotonic() - began < 10
    assert f"(signal {signal.Signals(signum).name})" in out
    assert "left undone" in out
    table = rows(str(index))
    assert table
    for name, row in list(table.items())[:50]:
        if "__pycache__" not in name:
            assert expected(Path(name)) == row


def test_watching_sees_changes(folder: Path, tmp_path: Path) -> None:
    """With --watch the index follows what is added, changed and removed, until a signal comes."""
    index = tmp_path / "index.db"
    process = subprocess.Popen(
        [*COMMAND, str(folder), "--watch", "--json", "--index", str(index)], stdout=subprocess.PIPE, text=True
    )

    def wait_for(state: dict[str, tuple[Any, ...]]) -> None:
        deadline = time.monotonic() + 30
        seen = None
        while time.monotonic() < deadline:
            time.sleep(0.1)
            try:
                seen = rows(str(index))
            except sqlite3.OperationalError:
                continue
            if seen == state:
                return
        raise AssertionError(f"the index never became {state}, but is {seen}")

    def truth() -> dict[str, tuple[Any, ...]]:
        paths = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        return {str(path): expected(path) for path in paths if "loop" not in path.parts}

    try:
        wait_for(truth())
        (folder / "new.py").write_text("def f(): ...\n")
        (folder / "good.py").write_text("pass\n")
        (folder / "empty").unlink()
        wait_for(truth())
    finally:
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 143
    assert json.loads(out)["files"] == len(truth())


def test_progress_on_a_terminal(folder: Path) -> None:
    """On a terminal the progress is shown while it works."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*COMMAND, str(folder), "--watch"], stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        deadline = time.monotonic() + 30
        while b"of 6 files" not in shown and time.monotonic() < deadline:
            shown += os.read(ours, 4096)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        os.close(ours)
    assert b"6 of 6 files" in shown or b"of 6 files" in shown
