"""The five-line method that any inspection model has to beat: difference to the good pictures."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from edge_sdk.records import FloatArray, UInt8Array


def difference_map(pixels: UInt8Array, references: Sequence[UInt8Array]) -> FloatArray:
    """Smallest blurred grey difference to any reference, per pixel, (H, W) float32, 0 to 255."""
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (pixels, *references)]
    soft = [cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 2.0) for picture in grey]
    return np.asarray(np.min([np.abs(soft[0] - other) for other in soft[1:]], axis=0))


def difference_score(pixels: UInt8Array, references: Sequence[UInt8Array]) -> float:
    """The largest value of ``difference_map``."""
    return float(difference_map(pixels, references).max())
