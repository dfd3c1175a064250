"""What a camera and a lamp do to a good part: it stays good."""

from __future__ import annotations

import numpy as np

from edge_sdk.imaging import scale_brightness, shift_picture
from edge_sdk.records import BoolArray, UInt8Array

MOST_GAIN = 0.12
"""Of the lamp, up or down."""
MOST_SHIFT = 0.01
"""Of the camera, as a share of the picture's sides."""
MOST_NOISE = 4.0
"""Standard deviation in grey levels."""


def spoil_harmlessly(
    pixels: UInt8Array, mask: BoolArray, rng: np.random.Generator
) -> tuple[UInt8Array, BoolArray]:
    """The same piece, photographed once more.

    Args:
        pixels: (H, W, 3) uint8.
        mask: (H, W) bool, of what is bad on it; moves along.
        rng: where chance comes from.

    Returns:
        (H, W, 3) uint8, (H, W) bool.
    """
    height, width = pixels.shape[:2]
    right, down = (float(value) for value in rng.uniform(-MOST_SHIFT, MOST_SHIFT, 2))
    right, down = right * width, down * height
    changed = shift_picture(pixels, right, down)
    changed = scale_brightness(changed, float(rng.uniform(1 - MOST_GAIN, 1 + MOST_GAIN)))
    # The same grain in all channels: a grey picture stays grey.
    grain = rng.normal(0, rng.uniform(0, MOST_NOISE), (height, width, 1))
    grey = np.asarray(mask[:, :, None], np.uint8) * np.uint8(255)
    moved = shift_picture(grey, right, down)[:, :, 0] > 127
    return np.asarray(np.clip(changed + grain + 0.5, 0, 255), np.uint8), np.asarray(moved, bool)
