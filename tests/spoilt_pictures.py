"""What befalls a lamp, a lens and a camera, done to real pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_sdk.records import UInt8Array


def defocused(pixels: UInt8Array, radius_px: float) -> UInt8Array:
    """Seen through a lens out of focus: each point is a disc of this radius."""
    side = int(np.ceil(radius_px)) + 1
    y, x = np.mgrid[-side : side + 1, -side : side + 1]
    disc = np.clip(radius_px + 0.5 - np.hypot(x, y), 0, 1).astype(np.float32)
    blurred = cv2.filter2D(pixels, -1, disc / disc.sum(), borderType=cv2.BORDER_REFLECT)
    return np.asarray(blurred, np.uint8)


def bumped(pixels: UInt8Array, right_px: int, down_px: int) -> UInt8Array:
    """Taken by a camera that was pushed; what comes in at the edge repeats it."""
    height, width = pixels.shape[:2]
    matrix = np.array([[1, 0, right_px], [0, 1, down_px]], np.float32)
    moved = cv2.warpAffine(pixels, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8)


def exposed(pixels: UInt8Array, gain: float) -> UInt8Array:
    """All of it brighter or darker."""
    return _as_pixels(pixels.astype(np.float32) * gain)


def half_lit(pixels: UInt8Array, share: float) -> UInt8Array:
    """One of two lamps gives this share of its light: the left half is darker."""
    width = pixels.shape[1]
    ramp = 1 / (1 + np.exp(-(np.arange(width) - width / 2) / (0.06 * width)))
    return _as_pixels(pixels * (share + (1 - share) * ramp)[None, :, None])


def dirty(pixels: UInt8Array, spots: int, seed: int) -> UInt8Array:
    """Grease and dust on the lens: soft, greyish spots in which little detail is left."""
    random = np.random.default_rng(seed)
    height, width = pixels.shape[:2]
    y, x = np.mgrid[0:height, 0:width]
    cover = np.zeros((height, width))
    for _ in range(spots):
        middle = random.uniform(0.1, 0.9, 2) * (width, height)
        radius = random.uniform(0.06, 0.13) * width
        distance = np.hypot(x - middle[0], y - middle[1]) / radius
        cover = np.maximum(cover, 1 / (1 + np.exp((distance - 1) * 8)))
    soft = cv2.GaussianBlur(pixels, (0, 0), max(3.0, 0.012 * width)).astype(np.float32)
    share = cover[:, :, None]
    return _as_pixels(pixels * (1 - share) + (0.75 * soft + 20) * share)


SPOILT: Mapping[str, tuple[str, Callable[[UInt8Array], UInt8Array]]] = {
    "lens covered": ("black_frame", lambda pixels: exposed(pixels, 0.02)),
    "exposure far too long": ("saturated_frame", lambda pixels: exposed(pixels, 30.0)),
    "out of focus, 8 px": ("blurred_out", lambda pixels: defocused(pixels, 8)),
    "out of focus, 2 px": ("defocused", lambda pixels: defocused(pixels, 2)),
    "camera pushed 10 px right": ("camera_moved", lambda pixels: bumped(pixels, 10, 0)),
    "camera pushed 7 px left, 7 down": ("camera_moved", lambda pixels: bumped(pixels, -7, 7)),
    "one of two lamps at half": ("lamp_failed", lambda pixels: half_lit(pixels, 0.5)),
    "five spots on the lens": ("dirty_lens", lambda pixels: dirty(pixels, 5, 0)),
    "eight spots on the lens": ("dirty_lens", lambda pixels: dirty(pixels, 8, 1)),
    "exposure x 0.6": ("exposure_drift", lambda pixels: exposed(pixels, 0.6)),
    "exposure x 1.5": ("exposure_drift", lambda pixels: exposed(pixels, 1.5)),
}
"""What happened -> the fault that it is, and how it looks."""


def _as_pixels(values: NDArray[np.floating]) -> UInt8Array:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)
