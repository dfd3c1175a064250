"""A video file as a source of frames."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import cv2

from edge_sdk.capture.opencv_io import rgb_from_bgr, silent_opencv
from edge_sdk.capture.pacing import MAX_FRAMES_PER_SECOND, Pace, make_schedule, wall_clock_at
from edge_sdk.errors import CaptureError
from edge_sdk.records import Frame

_TOLERATED_MISSING_SHARE = 0.02
_TOLERATED_MISSING_FRAMES = 2
"""Some containers round the number of frames, or count ones that an edit list hides."""


class VideoSource:
    """Reads a video file with OpenCV.

    Args:
        path: the file.
        source_id: what the frames are said to come from.
        pace: ``every`` frame, or ``realtime``: the newest due.
        frames_per_second: rate under ``realtime``; None: the file's own.
    """

    def __init__(
        self, path: Path, *, source_id: str, pace: Pace, frames_per_second: float | None = None
    ) -> None:
        self.source_id = source_id
        self._path = path
        self._pace = pace
        self._frames_per_second = frames_per_second
        self._closed = threading.Event()
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """Frames overtaken under ``realtime``, never converted."""
        return self._dropped

    def frames(self) -> Iterator[Frame]:
        """Yield frames from the first on; ``frame_id`` is the number within the file.

        Raises:
            CaptureError: no such file, not a video, no frame in it, it ends long before its
                header says, or the source is closed.
        """
        if self._closed.is_set():
            raise CaptureError(f"{self._path}: the source is closed")
        if not self._path.is_file():  # also keeps a FIFO from blocking us
            raise CaptureError(f"{self._path}: expected a video file, found none")
        _check_name(str(self._path))
        with silent_opencv():
            capture = cv2.VideoCapture(str(self._path))
        try:
            yield from self._read(capture)
        finally:
            capture.release()

    def close(self) -> None:
        """End the iteration before its next frame."""
        self._closed.set()

    def _read(self, capture: cv2.VideoCapture) -> Iterator[Frame]:
        if not capture.isOpened():
            raise CaptureError(f"{self._path}: expected a video, its header cannot be read")
        declared = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        rate = self._rate(capture)
        schedule = make_schedule(self._pace, rate, self._closed)
        index = 0
        while (due := schedule.wait(index)) is not None:
            last = max(index, declared - 1 if declared > 0 else due)
            while index < min(due, last) and capture.grab():
                index += 1
                self._dropped += 1
            is_read, picture = capture.read()
            if not is_read:
                self._check_end(index, declared)
                return
            moment_ns = schedule.moment_ns(index)
            yield Frame(
                pixels=rgb_from_bgr(picture, name=str(self._path)),
                frame_id=index,
                source_id=self.source_id,
                captured_at=wall_clock_at(moment_ns),
                monotonic_ns=moment_ns,
                media_ns=round(index * 1e9 / rate) if self._pace == "every" and rate else None,
            )
            index += 1

    def _rate(self, capture: cv2.VideoCapture) -> float:
        """Frames per second; 0 where the file tells none and every frame is read."""
        if self._frames_per_second is not None:
            return self._frames_per_second
        rate = float(capture.get(cv2.CAP_PROP_FPS))
        if not 0 < rate <= MAX_FRAMES_PER_SECOND:  # files without one say 0, NaN or their time base
            if self._pace == "every":
                return 0.0
            raise CaptureError(
                f"{self._path}: the file tells no frame rate: give one, or read every frame"
            )
        return rate

    def _check_end(self, count: int, declared: int) -> None:
        """OpenCV says "no more" alike at the end and where it cannot decode any further."""
        if count == 0:
            raise CaptureError(f"{self._path}: expected a video, found no frame that decodes")
        tolerated = max(_TOLERATED_MISSING_FRAMES, declared * _TOLERATED_MISSING_SHARE)
        if declared - count > tolerated:
            raise CaptureError(
                f"{self._path}: expected {declared} frames, {count} could be decoded: the file is "
                "damaged or cut short"
            )


def _check_name(name: str) -> None:
    """OpenCV takes the whole process down over a name that is not UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise CaptureError(f"{name!a}: expected a name in UTF-8: rename the file") from error
