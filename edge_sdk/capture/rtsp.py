"""An RTSP camera, or a video stream over HTTP, through OpenCV's FFmpeg. For a child process.

What FFmpeg says of a stream is not believed: stalled, it waits out its timeout and then returns an
old picture as a new one. A read that took as long as its limit is therefore a failure, and the age
of a frame is what its presentation time says, as far as that can be known.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Literal

import cv2

from edge_sdk.capture.opencv_io import rgb_from_bgr, silent_opencv
from edge_sdk.capture.pacing import wall_clock_at
from edge_sdk.capture.reachability import check_reachable, describe_rtsp_refusal
from edge_sdk.config.address import Address
from edge_sdk.errors import CaptureError
from edge_sdk.records import Frame

_LATE_SECONDS = 0.25
"""A frame that lags more is dropped for the next one ..."""
_SHOWN_EVERY_SECONDS = 0.2
"""... but not more than this long: a slow box still shows pictures, with their true age."""
_CATCH_UP_SECONDS = 5.0
"""At most so long after it was opened a stream gives pictures that have waited since."""
_DRIFT = 1e-3
"""How fast, in seconds a second, two clocks may run apart without being taken for a lag."""


class RtspSource:
    """Reads a stream that FFmpeg understands.

    Args:
        address: with its credentials.
        source_id: what the frames are said to come from.
        transport: how an rtsp camera sends its pictures.
        open_seconds: how long the camera may take to describe itself and give a first picture.
        read_seconds: how long one frame may take.
    """

    def __init__(
        self,
        address: Address,
        *,
        source_id: str,
        transport: Literal["tcp", "udp"] = "tcp",
        open_seconds: float = 5.0,
        read_seconds: float = 2.5,
    ) -> None:
        self.source_id = source_id
        self._address = address
        self._transport = transport
        self._open_seconds = open_seconds
        self._read_seconds = read_seconds
        self._closed = threading.Event()
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """Frames left out because they were late."""
        return self._dropped

    def frames(self) -> Iterator[Frame]:
        """Yield frames until closed.

        Raises:
            CaptureError: the camera is not there, refuses, gave no frame in time, or ended.
        """
        if self._closed.is_set():
            raise CaptureError(f"{self._address.shown}: the source is closed")
        check_reachable(self._address, timeout_seconds=self._open_seconds)
        if self._address.scheme.startswith("rtsp"):
            # Of the timeouts FFmpeg has had here, "stimeout" is silently ignored since FFmpeg 5.
            microseconds = round(self._read_seconds * 1e6)
            os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = (
                f"rtsp_transport;{self._transport}|timeout;{microseconds}|allowed_media_types;video"
            )
        with silent_opencv():
            # Limits count only here: set() after opening is refused. One thread: each further one
            # of the decoder holds back a frame.
            capture = cv2.VideoCapture(
                self._address.with_credentials_inside(),
                cv2.CAP_FFMPEG,
                [
                    cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
                    round(self._open_seconds * 1000),
                    cv2.CAP_PROP_READ_TIMEOUT_MSEC,
                    round(self._read_seconds * 1000),
                    cv2.CAP_PROP_N_THREADS,
                    1,
                ],
            )
            try:
                yield from self._read(capture)
            finally:
                capture.release()

    def close(self) -> None:
        """End the iteration before its next frame."""
        self._closed.set()

    def _read(self, capture: cv2.VideoCapture) -> Iterator[Frame]:
        if not capture.isOpened():
            raise CaptureError(f"{self._address.shown}: {self._refusal()}")
        clock = StreamClock()
        opened = time.monotonic()
        frame_id = 0
        shown = 0.0
        while not self._closed.is_set():
            started = time.monotonic()
            is_read = capture.grab()
            now_ns = time.monotonic_ns()
            self._check(is_read, now_ns / 1e9 - started, frame_id)
            lag = clock.lag_seconds(capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3, now_ns / 1e9)
            is_old = not clock.is_live and now_ns / 1e9 - opened < _CATCH_UP_SECONDS
            if is_old or (lag > _LATE_SECONDS and now_ns / 1e9 - shown < _SHOWN_EVERY_SECONDS):
                self._dropped += 1
                frame_id += 1
                continue
            shown = now_ns / 1e9
            is_read, picture = capture.retrieve()
            if not is_read:
                raise CaptureError(f"{self._address.shown}: a picture could not be decoded")
            moment_ns = now_ns - round(lag * 1e9)
            yield Frame(
                pixels=rgb_from_bgr(picture, name=self._address.shown),
                frame_id=frame_id,
                source_id=self.source_id,
                captured_at=wall_clock_at(moment_ns),
                monotonic_ns=moment_ns,
            )
            frame_id += 1

    def _check(self, is_read: bool, took_seconds: float, count: int) -> None:
        if took_seconds >= 0.9 * self._read_seconds:  # also where FFmpeg says that all is well
            raise CaptureError(
                f"{self._address.shown}: no frame for {took_seconds:.1f} s, after {count} frames"
            )
        if not is_read:
            raise CaptureError(f"{self._address.shown}: the stream ended after {count} frames")

    def _refusal(self) -> str:
        if self._address.scheme == "rtsp":
            return describe_rtsp_refusal(self._address)
        return "expected a video stream or pictures (multipart or image/jpeg), got neither"


class StreamClock:
    """How far a stream is behind the best it has been, by the times that its frames carry.

    A reader that cannot keep up gets older and older frames, one by one, and no error. The frame
    that came fastest sets the measure; it is forgotten slowly, since two clocks never run alike.
    """

    def __init__(self) -> None:
        self.is_live = False
        """False while pictures come faster than they were taken: FFmpeg has kept them since it
        opened the stream, and nothing in them tells for how long."""
        self._best: float | None = None
        self._last = 0.0
        self._presented = 0.0

    def lag_seconds(self, presented: float, now: float) -> float:
        """Lag of a frame.

        Args:
            presented: its time in the stream, seconds from any moment on.
            now: monotonic seconds.

        Returns:
            Seconds, 0 or more.
        """
        offset = now - presented
        if self._best is None:
            self._best = offset
        else:
            gained = self._best - offset
            self.is_live |= gained <= 0.1 * max(0.0, presented - self._presented)
            self._best = min(offset, self._best + _DRIFT * (now - self._last))
        self._last, self._presented = now, presented
        return offset - self._best
