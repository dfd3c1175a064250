"""Which reference set a camera uses: as configured, or as it was changed to since.

A change must outlast a power cut: a station that forgot it would judge the new product by the old
set. ``state_dir/cameras/<camera>/active_set.json`` notes it. Beside it lie what a person at the
terminal asks of a station that is running, and its answer.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edge_sdk.durable_files import read_json, replace_json
from edge_sdk.errors import InputError


class ActiveSet:
    """The set in use of one camera."""

    def __init__(self, state_dir: Path, camera: str) -> None:
        folder = state_dir / "cameras" / camera
        self._note = folder / "active_set.json"
        self._wish = folder / "wanted_set.json"
        self._answer = folder / "wanted_set_answer.json"

    def name(self, configured: str) -> str:
        """Name of the set in use.

        Args:
            configured: what the settings say. A change counts as long as they say what they said
                when it was made.

        Raises:
            InputError: the note cannot be read, so that nobody knows which part is on the line.
        """
        if not self._note.is_file():
            return configured
        noted = read_json(self._note)
        name, was_configured = noted.get("reference_set"), noted.get("configured")
        if not (isinstance(name, str) and isinstance(was_configured, str)):
            raise InputError(f"{self._note}: not a note of the set in use; see edge-enroll use")
        return name if was_configured == configured else configured

    def use(self, name: str, current: str) -> None:
        """Note durably which set is in use.

        Args:
            name: of the set.
            current: the one in use until now; where it came by no change, the settings name it.

        Raises:
            OSError: the disk refuses; the note before this one still holds.
            InputError: the note before cannot be read.
        """
        configured = current
        if self._note.is_file():
            noted = read_json(self._note)
            if noted.get("reference_set") == current:
                configured = str(noted.get("configured"))
        since = datetime.now(timezone.utc).isoformat()
        value = {"reference_set": name, "configured": configured, "since": since}
        replace_json(self._note, value)

    def ask(self, name: str, command_id: str) -> None:
        """Ask a running station to change.

        Raises:
            OSError: the disk refuses.
        """
        replace_json(self._wish, {"reference_set": name, "command_id": command_id})

    def take_wish(self) -> tuple[str, str] | None:
        """What was asked for since the last call: the set's name, and the command's id."""
        if not self._wish.is_file():
            return None
        try:
            wish = read_json(self._wish)
        except InputError:
            wish = {}
        self._wish.unlink(missing_ok=True)
        name, command_id = wish.get("reference_set"), wish.get("command_id")
        return (name, command_id) if isinstance(name, str) and isinstance(command_id, str) else None

    def answer(self, command_id: str, value: Mapping[str, Any]) -> None:
        """Tell whoever asked.

        Raises:
            OSError: the disk refuses.
        """
        replace_json(self._answer, {"command_id": command_id, **value})

    def answer_to(self, command_id: str) -> Mapping[str, Any] | None:
        """What a station has answered; None: nothing yet."""
        if not self._answer.is_file():
            return None
        answer = read_json(self._answer)
        return answer if answer.get("command_id") == command_id else None


def is_station_running(state_dir: Path) -> bool:
    """Whether a process holds this state folder, as ``edge-run`` does that publishes."""
    path = state_dir / "spool" / "spool.lock"
    if not path.is_file():
        return False
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
