"""``Lease`` inside one process. What other processes see of it is in ``integration/test_leader.py``."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sys
from pathlib import Path

import pytest

from threadkit import LeaseError, _lease
from threadkit._lease import Lease


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.lock"


@pytest.fixture(autouse=True)
def _nothing_stays_held() -> object:
    yield
    for lease in list(_lease._held.values()):
        lease.release()


def descriptors() -> list[os.stat_result]:
    """Return what the descriptors of this process are open on."""
    found = []
    for number in range(256):
        with contextlib.suppress(OSError):
            found.append(os.fstat(number))
    return found


def open_descriptors(path: Path) -> int:
    """Count the descriptors of this process that are open on a file."""
    return sum(os.path.samestat(status, path.stat()) for status in descriptors())


def test_one_at_a_time(path: Path) -> None:
    """Of two leases on one path in one process one is held, and the other one gets it when that is released."""
    one, other = Lease(path), Lease(str(path))
    assert one.acquire()
    assert one.acquire()  # it has it already
    assert not other.acquire()
    assert (one.is_held(), other.is_held()) == (True, False)
    one.release()
    assert other.acquire()
    assert (one.is_held(), other.is_held()) == (False, True)


def test_the_same_file_under_another_name(tmp_path: Path, path: Path) -> None:
    """Files are compared by device and inode, so a second name of the file is the same lease."""
    one, other = Lease(path), Lease(tmp_path / "link")
    assert one.acquire()
    (tmp_path / "link").hardlink_to(path)
    assert not other.acquire()


def test_a_held_file_is_never_opened_again(path: Path) -> None:
    """However often another lease asks for it, the holder's descriptor is the only one on the file."""
    one, other = Lease(path), Lease(path)
    one.acquire()
    assert not any(other.acquire() for _ in range(10))
    assert one.confirm()
    assert open_descriptors(path) == 1
    one.release()
    assert open_descriptors(path) == 0


def test_the_file_says_who_leads(path: Path) -> None:
    """The file holds pid and host while the lease is held, is empty afterwards, and stays."""
    lease = Lease(path)
    lease.acquire()
    assert path.read_text() == f"{os.getpid()} {os.uname().nodename}\n"
    assert lease.holder == path.read_text().strip()
    lease.release()
    assert path.read_text() == ""


def test_releasing_what_is_not_held_does_nothing(path: Path) -> None:
    """release() without a lease, and a second one, leave the holder alone."""
    one, other = Lease(path), Lease(path)
    other.release()
    one.acquire()
    other.release()
    assert one.is_held()
    one.release()
    one.release()
    assert not one.confirm()


def test_a_deleted_file_is_made_and_taken_anew(path: Path) -> None:
    """Where the file was deleted, confirm() takes a new one, and the lease is held without a break."""
    lease = Lease(path)
    lease.acquire()
    path.unlink()
    assert lease.confirm()
    assert path.read_text().startswith(str(os.getpid()))
    assert not Lease(path).acquire()
    assert open_descriptors(path) == 1
    assert len(_lease._held) == 1


def test_a_replaced_file_that_somebody_else_has(path: Path) -> None:
    """Where the file was replaced, and another lease is on the new one, confirm() says that this one is lost."""
    one, other = Lease(path), Lease(path)
    one.acquire()
    path.unlink()
    assert other.acquire()
    assert not one.confirm()
    one.release()
    assert other.confirm()
    assert path.read_text() != ""


def test_a_file_that_is_replaced_between_opening_and_locking(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock on a file that is not the path's any more is worth nothing, and is given back."""
    lease = Lease(path)

    def replace(descriptor: int, operation: int) -> None:
        fcntl.lockf(descriptor, operation)
        path.unlink()
        path.touch()

    monkeypatch.setattr(lease, "_lockf", replace)
    assert not lease.acquire()
    assert _lease._held == {}
    monkeypatch.undo()
    assert lease.acquire()


def test_a_held_file_that_comes_to_the_name_before_it_is_opened(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A descriptor of a held file is closed with the lease, not before, for that would unlock the file."""
    one, other = Lease(tmp_path / "other name"), Lease(path)
    one.acquire()
    (tmp_path / "other name").rename(path)
    monkeypatch.setattr(other, "_find", lambda: None)  # it looked before the renaming
    assert not other.acquire()
    assert open_descriptors(path) == 2
    one.release()
    assert open_descriptors(path) == 0


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        pytest.param(lambda path: path.mkdir(), "this is a folder; give the path of a file in it", id="a folder"),
        pytest.param(lambda path: path.symlink_to("elsewhere"), "this is a symbolic link", id="a symbolic link"),
        pytest.param(os.mkfifo, "this is no regular file; give the path of one", id="a pipe"),
        pytest.param(lambda path: path.write_text("Dear Ada,"), "it holds something else", id="a letter"),
        pytest.param(lambda path: path.parent.rmdir(), "its folder does not exist", id="no folder"),
        pytest.param(
            lambda path: (path.parent.rmdir(), path.parent.touch()), "its folder is no folder", id="a file as a folder"
        ),
    ],
)
def test_paths_that_cannot_be_locked(tmp_path: Path, make: object, problem: str) -> None:
    """A path that cannot be locked is refused by an error that names it and says what to do; nothing stays open."""
    path = tmp_path / "folder" / "app.lock"
    path.parent.mkdir()
    make(path)  # type: ignore[operator]  # it is one of the above
    before = len(descriptors())
    with pytest.raises(LeaseError, match=problem) as caught:
        Lease(path).acquire()
    assert caught.value.path == str(path)
    assert str(path) in str(caught.value)
    assert len(descriptors()) == before


def test_something_else_in_the_file_is_left_alone(path: Path) -> None:
    """A file that belongs to somebody else is not written to."""
    path.write_text("Dear Ada,")
    with pytest.raises(LeaseError):
        Lease(path).acquire()
    assert path.read_text() == "Dear Ada,"


@pytest.mark.parametrize("content", ["", "4711", "4711 web", "4711 web\n", "4711\n"])
def test_what_a_dead_holder_left_is_no_obstacle(path: Path, content: str) -> None:
    """The signature of a holder that died, be it half written, is replaced."""
    path.write_text(content)
    assert Lease(path).acquire()
    assert path.read_text() == f"{os.getpid()} {os.uname().nodename}\n"


@pytest.mark.parametrize(
    ("number", "problem"),
    [
        (errno.EACCES, "this process may not write it"),
        (errno.EROFS, "the file system is read-only"),
        (errno.ENOSPC, os.strerror(errno.ENOSPC)),
        (None, "the system refuses it"),
    ],
)
def test_what_the_system_refuses(path: Path, monkeypatch: pytest.MonkeyPatch, number: int | None, problem: str) -> None:
    """What the system refuses becomes a LeaseError that says what to do, with the system's error as its cause."""

    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number)) if number else OSError

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(LeaseError, match=problem) as caught:
        Lease(path).acquire()
    assert isinstance(caught.value.__cause__, OSError)


def test_a_file_system_without_locks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system gives no locks the error says so; when it ceases to, confirm() says so."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    lease = Lease(path)
    monkeypatch.setattr(lease, "_lockf", refuse)
    with pytest.raises(LeaseError, match="the file system gives no locks; give a path on a local one"):
        lease.acquire()
    monkeypatch.undo()
    assert lease.acquire()
    monkeypatch.setattr(lease, "_lockf", refuse)
    with pytest.raises(LeaseError, match="the file system gives no locks"):
        lease.confirm()
    lease.release()  # all the same
    assert not lease.is_held()


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    """Where the folder is deleted under the holder, confirm() raises, since no new file can be made."""
    folder = tmp_path / "folder"
    folder.mkdir()
    lease = Lease(folder / "app.lock")
    lease.acquire()
    (folder / "app.lock").unlink()
    folder.rmdir()
    with pytest.raises(LeaseError, match="its folder does not exist"):
        lease.confirm()


def test_a_system_without_record_locks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a system without record locks a lease is refused when it is made."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(LeaseError, match="this system has no record locks"):
        Lease(path)


@pytest.mark.parametrize("wrong", [None, 7, b"bytes", ""])
def test_what_is_no_path(wrong: object) -> None:
    """What is no path is refused by an error that names the parameter."""
    with pytest.raises((TypeError, ValueError), match="path must"):
        Lease(wrong)  # type: ignore[arg-type]  # that is the point


def test_a_relative_path_stays_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path means the folder in which the process was when the lease was made."""
    monkeypatch.chdir(tmp_path)
    lease = Lease("app.lock")
    monkeypatch.chdir("/")
    assert lease.path == str(tmp_path / "app.lock")
    assert lease.acquire()


@pytest.mark.parametrize("refusal", [BlockingIOError, PermissionError])
def test_another_process_has_it(path: Path, monkeypatch: pytest.MonkeyPatch, refusal: type[OSError]) -> None:
    """Where the system says that another process has the lock, nothing is taken or kept, and its signature is read."""

    def refuse(*_: object) -> None:
        raise refusal

    path.write_text("4711 web\n")
    lease = Lease(path)
    monkeypatch.setattr(lease, "_lockf", refuse)
    assert not lease.acquire()
    assert lease.holder == "4711 web"
    assert path.read_text() == "4711 web\n"
    assert open_descriptors(path) == 0


def test_a_lock_that_was_lost_to_another_process(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another process has the lock by now, confirm() says so, and its signature is not wiped out."""

    def refuse(*_: object) -> None:
        raise BlockingIOError

    lease = Lease(path)
    lease.acquire()
    monkeypatch.setattr(lease, "_lockf", refuse)
    path.write_text("4711 web\n")
    assert not lease.confirm()
    lease.release()
    assert path.read_text() == "4711 web\n"


def test_a_full_disk_is_no_obstacle(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the signature cannot be written the lease is held all the same."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", refuse)
    assert Lease(path).acquire()
    assert path.read_text() == ""


def test_a_forked_child_has_nothing(path: Path) -> None:
    """What is called in a forked child closes the parent's descriptors there, and leaves no lease held."""
    lease = Lease(path)
    lease.acquire()
    _lease._forget_parent()
    assert not lease.is_held()
    assert not lease.confirm()
    lease.release()
    assert open_descriptors(path) == 0
    assert path.read_text() != ""
