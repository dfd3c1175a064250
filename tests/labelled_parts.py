"""Small labelled data sets of the fixture part, in the layouts that ``edge-eval`` reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scenes import LABEL, SIDE, fixture_part

from edge_sdk.imaging import encode_png
from edge_sdk.records import UInt8Array


def save(path: Path, pixels: UInt8Array) -> Path:
    """Write a PNG, its folders too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(pixels))
    return path


def bad_mask() -> UInt8Array:
    """(32, 32, 1) 255 where the label is missing."""
    mask = np.zeros((SIDE, SIDE, 1), np.uint8)
    mask[LABEL] = 255
    return mask


def spoilt_part(seed: int, size: int) -> UInt8Array:
    """The part with a green square of ``size`` pixels on its label."""
    picture: UInt8Array = fixture_part(seed).copy()
    picture[10 : 10 + size, 18 : 18 + size] = (10, 200, 60)
    return picture


def write_mvtec(root: Path, *, train: int = 6, good: int = 5, bad: int = 4) -> Path:
    """``train/good``, ``test/good``, ``test/missing`` with masks and ``test/stain`` without."""
    for index in range(train):
        save(root / "train" / "good" / f"{index:03d}.png", fixture_part(index))
    for index in range(good):
        save(root / "test" / "good" / f"{index:03d}.png", fixture_part(100 + index))
    for index in range(bad):
        name = f"Teil {index} ü.png"
        save(root / "test" / "missing" / name, fixture_part(200 + index, is_complete=False))
        mask = root / "ground_truth" / "missing" / f"Teil {index} ü_mask.png"
        save(mask, bad_mask())
        save(root / "test" / "stain" / name, spoilt_part(300 + index, 1 + index % 3))
    return root
