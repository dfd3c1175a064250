"""What our readers through OpenCV share: a silent library, and its BGR turned into RGB."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

# FFmpeg prints each broken packet to stderr; we raise instead. OpenCV reads this at its first use.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np
from cv2.typing import MatLike

from edge_sdk.errors import CaptureError
from edge_sdk.records import UInt8Array

# A reading process must not take cores from inference.
cv2.setNumThreads(1)

_SILENT = 0  # LOG_LEVEL_SILENT, which OpenCV 4 does not name in Python


@contextmanager
def silent_opencv() -> Iterator[None]:
    """Keep OpenCV's own lines off stderr: our errors say the same, with the cause."""
    # OpenCV 4 has these functions at its top, OpenCV 5 in a module of their own.
    logging = cv2.utils.logging if hasattr(cv2.utils, "logging") else cv2
    level = logging.getLogLevel()
    logging.setLogLevel(_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(level)


def rgb_from_bgr(picture: MatLike, *, name: str) -> UInt8Array:
    """Turn a picture as ``cv2.VideoCapture`` gives it into ours.

    Args:
        picture: (H, W, 3) uint8 BGR.
        name: what an error message calls its source.

    Returns:
        (H, W, 3) uint8 RGB, contiguous.

    Raises:
        CaptureError: another shape or depth.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise CaptureError(
            f"{name}: expected (H, W, 3) uint8 pictures, got {picture.shape} {picture.dtype}"
        )
    return np.ascontiguousarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8)
