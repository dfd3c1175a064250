"""A picture as CLIP's towers read it: section 1.3 of the method, by Pillow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from edge_sdk.errors import InputError
from export_tools.clip.config import CLIP_MEAN, CLIP_STD

MASK_THRESHOLD = 0.5


def load_picture(
    path: Path,
    size_px: int,
    *,
    mean: tuple[float, float, float] = CLIP_MEAN,
    std: tuple[float, float, float] = CLIP_STD,
) -> NDArray[np.float32]:
    """Read and normalise a picture.

    Grey pictures are replicated to three channels before the resize; every other mode becomes
    RGB after it, as published, which matters for transparency and palettes.

    Args:
        path: of the picture.
        size_px: side of the square that it is squashed to, bicubic, antialiased when shrinking.
        mean: channel means, of 0..1.
        std: channel deviations, of 0..1.

    Returns:
        (3, size, size) float32.

    Raises:
        InputError: the picture cannot be decoded.
    """
    picture = _open(path)
    if picture.mode == "L":
        picture = picture.convert("RGB")
    resized = picture.resize((size_px, size_px), Image.Resampling.BICUBIC).convert("RGB")
    pixels = np.asarray(resized, np.float32) / 255
    normalised = (pixels - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1), np.float32)


def load_mask(path: Path, size_px: int) -> NDArray[np.float32]:
    """Read a mask: everything above 0 is a defect, resized bilinearly, antialiased.

    Returns:
        (size, size) float32, 0..1; ``> MASK_THRESHOLD`` is the binary mask.

    Raises:
        InputError: the picture cannot be decoded.
    """
    binary = _open(path).convert("L").point(lambda value: 255 if value > 0 else 0)
    resized = binary.resize((size_px, size_px), Image.Resampling.BILINEAR)
    return np.asarray(np.asarray(resized, np.float32) / np.float32(255), np.float32)


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture.copy()
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise InputError(f"{path}: expected a picture: {error}") from error
