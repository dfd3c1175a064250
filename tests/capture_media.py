"""Videos whose frames tell their own number, and sources that misbehave as real cameras do."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np

from edge_sdk.capture.spec import SourceSpec
from edge_sdk.config.source import ENTRY_POINT_GROUP
from edge_sdk.errors import CaptureError
from edge_sdk.records import Frame, UInt8Array

_BITS = 12
_BLOCK_PX = 16
WIDTH, HEIGHT = _BITS * _BLOCK_PX, 64


def numbered_picture(number: int) -> UInt8Array:
    """(64, 192, 3) RGB: the number in black and white blocks above a pure red band."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for bit in range(_BITS):
        if number >> bit & 1:
            picture[:32, bit * _BLOCK_PX : (bit + 1) * _BLOCK_PX] = 255
    picture[32:, :, 0] = 255
    return picture


def number_of(pixels: UInt8Array) -> int:
    """The number painted in a picture, after any compression."""
    centres = pixels[16, _BLOCK_PX // 2 :: _BLOCK_PX].mean(axis=1)
    return sum(1 << bit for bit, value in enumerate(centres) if value > 127)


def write_video(
    path: Path, *, frames: int, frames_per_second: float = 25.0, codec: str = "MJPG"
) -> Path:
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter.fourcc(*codec), frames_per_second, (WIDTH, HEIGHT)
    )
    assert writer.isOpened()
    for number in range(frames):
        writer.write(cv2.cvtColor(numbered_picture(number), cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def write_picture(path: Path, pixels: UInt8Array) -> Path:
    assert cv2.imwrite(str(path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    return path


def frame_now(pixels: UInt8Array, frame_id: int) -> Frame:
    return Frame(
        pixels=pixels,
        frame_id=frame_id,
        source_id="test",
        captured_at=datetime.now(timezone.utc),
        monotonic_ns=time.monotonic_ns(),
    )


class SteadySource:
    """A camera without end at about 50 frames a second; its place: a file made when released."""

    def __init__(self, spec: SourceSpec) -> None:
        self.source_id = spec.source_id
        self.dropped = 0
        self._place = spec.place

    def frames(self) -> Iterator[Frame]:
        for frame_id in range(100_000):
            yield frame_now(numbered_picture(frame_id % 4096), frame_id)
            time.sleep(0.02)

    def close(self) -> None:
        if self._place:
            Path(self._place).touch()


class HangingSource(SteadySource):
    """A camera whose driver hangs, holding the interpreter's lock; place: its good frames."""

    def frames(self) -> Iterator[Frame]:
        for frame_id in range(int(self._place)):
            yield frame_now(numbered_picture(frame_id), frame_id)
        while True:
            ctypes.PyDLL(None).pause()

    def close(self) -> None:
        """Never reached."""


class OldPicturesSource(SteadySource):
    """A camera that goes on returning pictures, all of them from long ago."""

    def frames(self) -> Iterator[Frame]:
        for frame in super().frames():
            yield Frame(
                pixels=frame.pixels,
                frame_id=frame.frame_id,
                source_id=frame.source_id,
                captured_at=frame.captured_at,
                monotonic_ns=frame.monotonic_ns - 60_000_000_000,
            )


class UnpluggedSource(SteadySource):
    """A camera that is unplugged after three frames."""

    def frames(self) -> Iterator[Frame]:
        for frame in super().frames():
            if frame.frame_id == 3:
                raise CaptureError("steady: unplugged")
            yield frame


class DefectiveSource(SteadySource):
    """A source with a programming error in it."""

    def frames(self) -> Iterator[Frame]:
        yield frame_now(numbered_picture(0), 0)
        raise ZeroDivisionError


def install_sources(folder: Path) -> None:
    """Install the sources above as another distribution would offer them: by entry points."""
    about = folder / "edge_test_sources-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: edge-test-sources\nVersion: 1.0\n"
    )
    (about / "entry_points.txt").write_text(
        f"""[{ENTRY_POINT_GROUP}]
steady = capture_media:SteadySource
hanging = capture_media:HangingSource
old-pictures = capture_media:OldPicturesSource
unplugged = capture_media:UnpluggedSource
defective = capture_media:DefectiveSource
not-there = capture_media:NotThere
"""
    )


def start_python(script: str, *arguments: object) -> subprocess.Popen[str]:
    """Run a script in a fresh interpreter that finds the same modules; both outputs are pipes."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
