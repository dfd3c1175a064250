"""The box itself: Python, libraries, state folder, disk, clock."""

from __future__ import annotations

import fcntl
import importlib
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_sdk.doctor.findings import Finding, fail, ok, warn

if TYPE_CHECKING:
    from edge_sdk.config import DeviceConfig

_OLDEST_PYTHON: Final = (3, 10)
_LIBRARIES: Final = {
    "numpy": "numpy",
    "cv2": "opencv-python-headless",
    "pydantic": "pydantic",
    "yaml": "pyyaml",
    "paho.mqtt.client": "paho-mqtt",
}
"""Module -> distribution; the engines have checks of their own."""
_MEGABYTE: Final = 1_000_000
_SQLITE_SHARE: Final = 1.25
"""SQLite takes about a quarter more than what it holds."""
_LITTLE_MEGABYTES: Final = 200
_NO_ROOM_MEGABYTES: Final = 50
_EARLIEST_YEAR: Final = 2025


def check_python() -> Iterator[Finding]:
    """The interpreter."""
    found = f"{platform.python_version()}, {platform.machine()}, {sys.executable}"
    if sys.version_info[:2] < _OLDEST_PYTHON:
        yield fail("python", found, "install Python 3.10 or later")
    else:
        yield ok("python", found)


def check_libraries() -> Iterator[Finding]:
    """Every library that the device half cannot do without, really imported."""
    found = []
    for module, distribution in _LIBRARIES.items():
        problem = _import_problem(module)
        if problem is None:
            found.append(f"{distribution} {_version(distribution)}")
        else:
            yield fail(
                f"library {distribution}",
                f"does not load: {problem}",
                f"pip install --force-reinstall {distribution}",
            )
    if found:
        yield ok("libraries", ", ".join(found))


def _import_problem(module: str) -> str | None:
    try:
        importlib.import_module(module)
    except ImportError as error:
        return str(error)
    return None


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "(of the system)"  # for example Debian's python3-opencv


def running_process(state_dir: Path) -> int | None:
    """Process that holds the state folder's spool; None where nobody does."""
    lock = state_dir / "spool" / "spool.lock"
    try:
        descriptor = os.open(lock, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 20).decode("ascii", "replace").strip()
        return int(holder) if holder.isdecimal() else 0
    finally:
        os.close(descriptor)
    return None


def check_state(config: DeviceConfig) -> Iterator[Finding]:
    """Whether the state folder can be written; a file is, and taken away again."""
    folder = config.state_dir
    place = _existing(folder)
    fix = f"give it to this user: sudo install -d -o {os.getuid()} {folder}"
    try:
        if not place.is_dir():
            raise NotADirectoryError(f"{place} is a file")
        with tempfile.NamedTemporaryFile(dir=place, prefix=".edge-doctor-") as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        yield fail("state", f"{folder}: cannot be written: {error}", fix, exit_code=3)
        return
    holder = running_process(folder)
    if place != folder:
        yield ok("state", f"{folder}: will be made at the first enrolment")
    elif holder is not None:
        yield ok("state", f"{folder}: in use by process {holder}")
    else:
        yield ok("state", f"{folder}: can be written")


def check_disk(config: DeviceConfig) -> Iterator[Finding]:
    """Room for the spool at its largest."""
    place = _existing(config.state_dir)
    free = shutil.disk_usage(place).free / _MEGABYTE
    spool = config.spool.max_megabytes
    wanted = _SQLITE_SHARE * spool + _LITTLE_MEGABYTES
    said = f"{free:.0f} MB free at {place}, the spool may take {_SQLITE_SHARE * spool:.0f} MB"
    fix = "make room, or lower spool.max_megabytes in the device file"
    if free < _NO_ROOM_MEGABYTES:
        yield fail("disk", said, fix)
    elif free < wanted:
        yield warn("disk", said, fix)
    else:
        yield ok("disk", said)


def check_clock() -> Iterator[Finding]:
    """Whether times in messages can be believed, and certificates be checked."""
    from edge_sdk.alerting.identity import time_quality  # noqa: PLC0415 - needs numpy

    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    fix = "turn a time service on: sudo timedatectl set-ntp true (or chrony)"
    quality = time_quality()
    if time.gmtime().tm_year < _EARLIEST_YEAR:
        yield fail("clock", f"{now}: cannot be right; TLS will fail", fix)
    elif quality == "synced":
        yield ok("clock", f"{now}, {quality}")
    else:
        yield warn("clock", f"{now}, {quality}: messages say so", fix)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(place for place in (folder, *folder.parents) if place.exists())
