"""Disks that lose what was not pushed to them: one that only remembers, and a real file system in a file."""

import fcntl
import os
import shutil
import stat
import struct
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

SHUTDOWN, NO_FLUSH = 0x8004587D, 2  # ext4's ioctl: the disk is gone this very moment, what it has not written is lost


class Moment(NamedTuple):
    """What is on the disk after a push: the content of files and the entries of folders, by inode."""

    contents: dict[int, bytes]
    entries: dict[int, dict[str, tuple[int, bool]]]


class Disk:
    """Remembers what `os.fsync` was called for, and writes down what a power cut would leave of the folder `root`.

    It is stricter than most: a file whose folder was not pushed after it got its name is lost, one that was not pushed
    itself is empty.
    """

    def __init__(self, root: Path, monkeypatch) -> None:
        self.root, self.moments = root, [Moment({}, {})]
        self._held = []  # open files, whose inodes are not used again for others
        self.on_push = lambda: None
        monkeypatch.setattr(os, "fsync", self._push)

    def _push(self, descriptor: int) -> None:
        last, status = self.moments[-1], os.fstat(descriptor)
        self._held.append(os.dup(descriptor))
        if stat.S_ISDIR(status.st_mode):
            found = {entry.name: (entry.inode(), entry.is_dir()) for entry in os.scandir(descriptor)}
            moment = Moment(last.contents, {**last.entries, status.st_ino: found})
        else:
            content = Path(f"/proc/self/fd/{descriptor}").read_bytes()
            moment = Moment({**last.contents, status.st_ino: content}, last.entries)
        self.moments.append(moment)
        self.on_push()

    def close(self) -> None:
        for descriptor in self._held:
            os.close(descriptor)

    def write(self, moment: Moment, target: Path) -> None:
        """Write what was on the disk at a moment into a new folder."""
        self._write(moment, self.root.stat().st_ino, target)

    def _write(self, moment: Moment, folder: int, target: Path) -> None:
        target.mkdir()
        for name, (inode, is_folder) in moment.entries.get(folder, {}).items():
            if is_folder:
                self._write(moment, inode, target / name)
            else:
                (target / name).write_bytes(moment.contents.get(inode, b""))


class Mounted:
    """An ext4 file system in a file, mounted at `place`, which writes nothing that it is not told to."""

    def __init__(self, image: Path, place: Path, megabytes: int) -> None:
        self.image, self.place = image, place
        place.mkdir()
        with image.open("wb") as file:
            file.truncate(megabytes * 2**20)
        _run("mkfs.ext4", "-q", image)
        self.mount()

    @staticmethod
    def missing() -> str | None:
        """Why there cannot be one here."""
        if os.geteuid():
            return "only root mounts file systems"
        if not shutil.which("mkfs.ext4") or not Path("/dev/loop-control").exists():
            return "there is no mkfs.ext4 or no loop device"
        return None

    def mount(self) -> None:
        _run("mount", "-o", "loop,noauto_da_alloc,commit=300", self.image, self.place)

    def cut(self) -> None:
        """Switch the power off: every write fails from now on, and what was not pushed never was."""
        folder = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, SHUTDOWN, struct.pack("I", NO_FLUSH))
        finally:
            os.close(folder)

    def close(self) -> None:
        with suppress(subprocess.CalledProcessError):
            _run("umount", "--lazy", self.place)  # at once, whoever still has a file open on it


def _run(*command) -> None:
    subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
