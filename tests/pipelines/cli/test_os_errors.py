"""What the system refuses is told with its file and a remedy, and exit code 6; bugs keep their tracebacks."""

import errno
import os
import re
import resource
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from cnn_keras.data.files import durable
from cnn_keras.errors import Fault
from pipelines.cli import os_errors
from pipelines.engine import recipe as recipes
from tests.conftest import RECIPE, cnn, write_digits

CODES = [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.ENAMETOOLONG, errno.EDQUOT, errno.EIO, errno.EMFILE]


@pytest.mark.parametrize("code", CODES, ids=[errno.errorcode[code] for code in CODES])
def test_a_command_that_the_system_refuses_a_file_says_which_and_exits_6(tmp_path, monkeypatch, capsys, code):
    def refused(*arguments):
        raise OSError(code, os.strerror(code), str(tmp_path / "runs"))

    monkeypatch.setattr(durable, "mkdir", refused)
    assert cnn("prepare", "classify/digits-lenet5", "--runs", tmp_path / "runs") == Fault.STORAGE == 6
    said = capsys.readouterr().err
    assert f"{tmp_path / 'runs'}: {os.strerror(code)}; {os_errors.REMEDIES[code]}" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("place", ["a file", "a folder in a file", "a long name"])
def test_runs_that_cannot_be_there(tmp_path, capsys, place):
    (tmp_path / "file").write_text("")
    root = {"a file": "file", "a folder in a file": "file/runs", "a long name": "x" * 300}[place]
    assert cnn("prepare", "classify/digits-lenet5", "--runs", tmp_path / root) == Fault.STORAGE
    said = capsys.readouterr().err
    assert root.split("/")[0] in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (sqlite3.OperationalError("database or disk is full"), "free space"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "elsewhere"),
        (RuntimeError("Can't write data (errno = 28, error message = 'No space left on device')"), "free space"),
        (RuntimeError("/runs/train-00000.tfrecord; Permission denied"), "permission"),
    ],
)
def test_libraries_that_quote_the_system_are_understood(error, remedy):
    assert remedy in str(os_errors.fault(error))
    outer = ValueError("a wrapper")
    outer.__cause__ = error
    assert os_errors.fault(outer).code == Fault.STORAGE


@pytest.mark.parametrize(
    "error",
    [
        KeyError("a"),
        OSError("without a number"),
        ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
        ValueError("a"),
    ],
)
def test_a_bug_is_no_fault_of_the_storage(error):
    assert os_errors.fault(error) is None


def test_a_bug_keeps_its_traceback(monkeypatch):
    def broken(*arguments):
        raise KeyError("a bug")

    monkeypatch.setattr(recipes, "load", broken)
    with pytest.raises(KeyError, match="a bug"):
        cnn("prepare", "classify/digits-lenet5")


def test_an_error_of_an_open_file_names_it_and_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "state"
    durable.write_text(path, "old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as error:
        durable.write_text(path, "new")
    assert str(error.value.filename).startswith(str(tmp_path))
    assert path.read_text() == "old"
    assert [inner.name for inner in tmp_path.iterdir()] == ["state"]


class Tmpfs:
    """A file system in memory, of a size in kilobytes that can change, and that can become read-only."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", place], check=True)

    def remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", self.place], check=True)

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", self.place], check=True)


@pytest.fixture
def disk(tmp_path):
    if os.geteuid():
        pytest.skip("only root mounts file systems")
    mounted = Tmpfs(tmp_path / "disk")
    yield mounted
    mounted.close()


def test_room_is_asked_for_with_the_bytes_that_the_system_would_give(tmp_path, monkeypatch):
    durable.require_space(tmp_path, 10**6)
    with pytest.raises(OSError, match="No space"):
        durable.require_space(tmp_path, 2**60)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, limits[1]))  # what is free does not tell it, like a quota
    try:
        with pytest.raises(OSError, match=re.escape(str(tmp_path))) as error:
            durable.require_space(tmp_path, 10**6)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert error.value.errno == errno.EFBIG
    assert not list(tmp_path.iterdir())

    def unable(*arguments):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", unable)
    durable.require_space(tmp_path, 10**6)


@pytest.mark.slow
def test_a_run_on_a_disk_that_is_full_or_read_only_goes_on_when_there_is_room(tmp_path, disk, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_digits(tmp_path / "photos", each=12)
    recipe = tmp_path / "small.yaml"
    recipe.write_text(RECIPE)

    def run() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pipelines", "run", recipe, "--runs", disk.place / "runs"]
        return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)

    for size in (16, 128, 512, 1024):
        disk.remount(f"size={size}k")
        full = run()
        assert (full.returncode, "Traceback" in full.stderr) == (Fault.STORAGE, False), full.stderr
        assert str(disk.place) in full.stderr
    disk.remount("size=200m")
    disk.remount("ro")
    assert run().returncode == Fault.STORAGE
    disk.remount("rw")
    whole = run()
    assert whole.returncode == 0, whole.stderr
    assert "skipped" in whole.stderr + whole.stdout  # what was finished before the disk was full
