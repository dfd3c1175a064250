"""The audit log: who changed what this box judges by, when, from what to what.

``state_dir/audit.jsonl``, a JSON object a line, only ever appended to, each line on the disk before
the next is written. A full file becomes ``audit.1.jsonl`` in the place of the one before it.
"""

from __future__ import annotations

import fcntl
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edge_sdk.alerting.identity import time_quality
from edge_sdk.durable_files import append_line, read_lines, sync_folder

MAX_BYTES = 4_000_000
"""Size at which a file is full: some ten thousand entries. Two are kept."""


class AuditLog:
    """Thresholds, references, overrides and challenges of a box, as they changed.

    Args:
        state_dir: the device's.
        max_bytes: size of a file, after which the next begins.
    """

    def __init__(self, state_dir: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self._folder = state_dir
        self._path = state_dir / "audit.jsonl"
        self._older = state_dir / "audit.1.jsonl"
        self._max_bytes = max_bytes

    def append(
        self,
        what: str,
        *,
        by: str,
        camera: str | None,
        old: object = None,
        new: object = None,
        **details: object,
    ) -> None:
        """Add an entry, and wait until it is on the disk.

        Several processes may do so at once.

        Args:
            what: kind of entry, such as ``references.enrolled``.
            by: the program or command that did it; the user is noted besides.
            camera: its name; None: the whole device.
            old: what held before.
            new: what holds now.
            details: more JSON values, such as ``command_id``.

        Raises:
            OSError: the disk refuses.
        """
        entry: dict[str, Any] = {
            "at": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "time_quality": str(time_quality()),
            "what": what,
            "by": by,
            "user": _user(),
            "camera": camera,
            "old": old,
            "new": new,
            **details,
        }
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            if self._path.is_file() and self._path.stat().st_size >= self._max_bytes:
                self._path.rename(self._older)
                sync_folder(self._folder)
            append_line(self._path, entry)

    def read(self, *, camera: str | None = None) -> list[dict[str, Any]]:
        """Entries, the oldest first; lines that a power cut tore are left out.

        Args:
            camera: only of this one, and of the whole device.
        """
        entries = [*read_lines(self._older), *read_lines(self._path)]
        return [one for one in entries if camera is None or one.get("camera") in (camera, None)]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self._folder / "audit.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _user() -> str:
    """Who runs this process, and who asked for it where that was done with sudo."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    asking = os.environ.get("SUDO_USER")
    return f"{asking} as {name}" if asking and asking != name else name
