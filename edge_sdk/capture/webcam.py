"""A USB or built-in camera through V4L2 and OpenCV. Made to be run in a child process."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import cv2

from edge_sdk.capture.camera_nodes import check_camera_node, describe_busy, processes_holding
from edge_sdk.capture.opencv_io import rgb_from_bgr, silent_opencv
from edge_sdk.capture.settings import Settings, SettingsKeeper
from edge_sdk.capture.webcam_controls import WebcamControls
from edge_sdk.errors import CaptureError
from edge_sdk.records import Frame


class WebcamSource:
    """Reads a V4L2 camera, each frame as it comes.

    Args:
        node: for example ``/dev/video0`` or a path under ``/dev/v4l/by-id``.
        source_id: what the frames are said to come from.
        read_timeout_seconds: how long one frame may take.
        settings: how it is to be set; None: as it is.
    """

    def __init__(
        self,
        node: Path,
        *,
        source_id: str,
        read_timeout_seconds: float = 5.0,
        settings: Settings | None = None,
    ) -> None:
        self.source_id = source_id
        self._node = node
        self._read_timeout_seconds = read_timeout_seconds
        self._settings = settings
        self._closed = threading.Event()

    @property
    def dropped(self) -> int:
        """Always 0: what the driver overwrites before it is read cannot be seen from here."""
        return 0

    def frames(self) -> Iterator[Frame]:
        """Yield frames until closed.

        Raises:
            CaptureError: the node cannot be opened, is no camera, or gave no frame in time.
        """
        if self._closed.is_set():
            raise CaptureError(f"{self._node}: the source is closed")
        check_camera_node(self._node)
        # OpenCV waits 10 s for a frame unless told otherwise before the first wait.
        os.environ["OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"] = str(math.ceil(self._read_timeout_seconds))
        with silent_opencv():
            capture = cv2.VideoCapture(str(self._node), cv2.CAP_V4L2)
            try:
                yield from self._read(capture)
            finally:
                capture.release()

    def close(self) -> None:
        """End the iteration before its next frame."""
        self._closed.set()

    def _read(self, capture: cv2.VideoCapture) -> Iterator[Frame]:
        if not capture.isOpened():
            raise CaptureError(self._describe_refusal("is not a camera that V4L2 can read"))
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # a deeper queue is latency
        keeper = SettingsKeeper(WebcamControls(capture), self._settings)
        keeper.look()
        frame_id = 0
        while not self._closed.is_set():
            started = time.monotonic()
            is_read, picture = capture.read()
            moment_ns = time.monotonic_ns()
            if not is_read:
                raise CaptureError(self._describe_refusal(f"gave no frame after {frame_id}"))
            if moment_ns / 1e9 - started > self._read_timeout_seconds:
                raise CaptureError(
                    f"{self._node}: a frame took {moment_ns / 1e9 - started:.1f} s (limit "
                    f"{self._read_timeout_seconds:g} s)"
                )
            settings = keeper.look()
            if keeper.is_settling:
                continue
            yield Frame(
                pixels=rgb_from_bgr(picture, name=str(self._node)),
                frame_id=frame_id,
                source_id=self.source_id,
                captured_at=datetime.now(timezone.utc),
                monotonic_ns=moment_ns,
                camera_settings=settings,
            )
            frame_id += 1

    def _describe_refusal(self, otherwise: str) -> str:
        check_camera_node(self._node)  # unplugged meanwhile: says so itself
        if processes_holding(self._node):
            return describe_busy(self._node)
        return f"{self._node} {otherwise}"
