"""What tomorrow does to a good picture: lamp, position, focus."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from edge_sdk.imaging import blur_map, scale_brightness, shift_picture
from edge_sdk.records import UInt8Array

_SIDES = ((4, 0), (-4, 0), (0, 4), (0, -4))

CONDITIONS: Mapping[str, Callable[[UInt8Array, int], UInt8Array]] = {
    "lamp -15 %": lambda pixels, _: scale_brightness(pixels, 0.85),
    "lamp +15 %": lambda pixels, _: scale_brightness(pixels, 1.15),
    "shift 4 px": lambda pixels, number: shift_picture(pixels, *_SIDES[number % 4]),
    "defocus": lambda pixels, _: defocus(pixels),
}
"""Name -> (picture, its number) -> the altered picture; shifts go to the four sides in turn."""


def defocus(pixels: UInt8Array, sigma_px: float = 1.0) -> UInt8Array:
    """The picture through a Gaussian of that many pixels: slightly out of focus."""
    soft = blur_map(pixels.astype(np.float32), sigma_px)
    return np.asarray(np.clip(np.rint(soft), 0, 255), np.uint8).reshape(pixels.shape)
