"""A folder of pictures as a source of frames."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from edge_sdk.capture.pacing import Pace, make_schedule, wall_clock_at
from edge_sdk.errors import CaptureError
from edge_sdk.imaging import read_image
from edge_sdk.records import Frame

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp"})


def picture_paths(folder: Path) -> list[Path]:
    """Pictures directly in ``folder``, by suffix and sorted by name; hidden files are left out.

    Raises:
        CaptureError: it is not a folder, may not be read, or holds no picture.
    """
    try:
        paths = sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")
        )
    except OSError as error:
        raise CaptureError(f"{folder}: expected a folder of pictures ({error.strerror})") from error
    if not paths:
        expected = ", ".join(sorted(PICTURE_SUFFIXES))
        raise CaptureError(f"{folder}: expected pictures ({expected}), found none")
    return paths


class FolderSource:
    """Reads the pictures of a folder in the order of their names.

    Args:
        folder: the folder; pictures added while it is read are not seen.
        source_id: what the frames are said to come from.
        pace: ``every`` picture, or ``realtime``: the newest due.
        frames_per_second: rate under ``realtime``.
    """

    def __init__(
        self, folder: Path, *, source_id: str, pace: Pace, frames_per_second: float
    ) -> None:
        self.source_id = source_id
        self._folder = folder
        self._pace = pace
        self._frames_per_second = frames_per_second
        self._closed = threading.Event()
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """Pictures overtaken under ``realtime``, never decoded."""
        return self._dropped

    def frames(self) -> Iterator[Frame]:
        """Yield the pictures; ``frame_id`` is the place in the sorted folder.

        Raises:
            CaptureError: no such folder, no pictures in it, or the source is closed.
            InputError: a picture does not decode; the message names its file.
        """
        if self._closed.is_set():
            raise CaptureError(f"{self._folder}: the source is closed")
        paths = picture_paths(self._folder)
        schedule = make_schedule(self._pace, self._frames_per_second, self._closed)
        index = 0
        while index < len(paths):
            due = schedule.wait(index)
            if due is None:
                return
            due = min(due, len(paths) - 1)
            self._dropped += due - index
            moment_ns = schedule.moment_ns(due)
            yield Frame(
                pixels=read_image(paths[due]),
                frame_id=due,
                source_id=self.source_id,
                captured_at=wall_clock_at(moment_ns),
                monotonic_ns=moment_ns,
                media_ns=(
                    round(due * 1e9 / self._frames_per_second) if self._pace == "every" else None
                ),
            )
            index = due + 1

    def close(self) -> None:
        """End the iteration before its next picture."""
        self._closed.set()
