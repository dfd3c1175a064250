"""A disk of one's own, whose power can be cut and that can stall: ext4 in a file, for root alone.

The shutdown of ext4 without a flush of its log is what is left of a power cut when the machine goes
on: whatever was not synced is gone. It does not tear sectors, and this disk does not lie.

Of those who write to it none may do anything after the cut, as after a real one: a sync that is
under way at that moment is told that all went well.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, final

import pytest

_SHUTDOWN: Final = 0x8004587D
_WITHOUT_FLUSH: Final = 2
_FREEZE: Final = 0xC0045877
_THAW: Final = 0xC0045878


class NoDiskError(Exception):
    """This machine lets nobody make a disk; the text says why."""


@contextmanager
def disk_or_skip(folder: Path, place: Path) -> Iterator[Disk]:
    """A mounted disk; skips the test where this machine allows none."""
    try:
        disk = Disk(folder, place)
        disk.mount()
    except NoDiskError as error:
        pytest.skip(f"no disk of one's own: {error}")
    try:
        yield disk
    finally:
        disk.__exit__(None, None, None)


@final
class Disk:
    """An ext4 file system in a file, mounted while the ``with`` lasts.

    Args:
        folder: where its file is kept.
        place: where it is mounted; made where it is not there.
        megabytes: its size.

    Raises:
        NoDiskError: not root, no loop device, or a program is missing.
    """

    def __init__(self, folder: Path, place: Path, *, megabytes: int = 128) -> None:
        self.place = place
        self._image = folder / "disk.ext4"
        if os.geteuid() != 0:
            raise NoDiskError("mounting a disk needs root")
        if shutil.which("mkfs.ext4", path=_PATH) is None:
            raise NoDiskError(
                "mkfs.ext4 is missing (Debian, Ubuntu: sudo apt-get install e2fsprogs)"
            )
        with self._image.open("wb") as file:
            file.truncate(megabytes * 1_000_000)
        _run("mkfs.ext4", "-q", "-F", str(self._image))
        place.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Disk:
        self.mount()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self.thaw()
        with suppress(NoDiskError):
            self.unmount()
        self._image.unlink()

    def mount(self) -> None:
        """Mount it; after a cut the journal is replayed, as at the next start of a machine."""
        _run("mount", "-o", "loop", str(self._image), str(self.place))

    def unmount(self) -> None:
        """Unmount it; nobody may use it any more."""
        _run("umount", str(self.place))

    def cut(self, *processes: subprocess.Popen[Any]) -> None:
        """Cut the power of the disk and of those who use it: what was not synced is lost."""
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        self._ask(_SHUTDOWN, _WITHOUT_FLUSH)
        for process in processes:
            process.kill()
            process.wait(30)

    def freeze(self) -> None:
        """Let everything wait that writes."""
        self._ask(_FREEZE, 0)

    def thaw(self) -> None:
        """Let it go on."""
        self._ask(_THAW, 0)

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """Everything that writes waits meanwhile."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def _ask(self, request: int, value: int) -> None:
        descriptor = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, request, struct.pack("I", value))
        finally:
            os.close(descriptor)


_PATH: Final = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))


def _run(*command: str) -> None:
    program = shutil.which(command[0], path=_PATH)
    if program is None:
        raise NoDiskError(f"{command[0]} is missing")
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NoDiskError(f"{' '.join(command)}: {done.stderr.strip()}")
