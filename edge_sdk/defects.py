"""Defects made up and pasted on pictures of good parts, to find out what would be seen.

A help to judge a station by, not a substitute for real defects: a stain, a scratch or a piece of
somewhere else differs from what a process really does to a part.
"""

from __future__ import annotations

from typing import Literal, get_args

import cv2
import numpy as np

from edge_sdk.records import BoolArray, FloatArray, UInt8Array

DefectKind = Literal["stain", "scratch", "patch"]
KINDS: tuple[DefectKind, ...] = get_args(DefectKind)


def paste_defect(
    pixels: UInt8Array, share: float, rng: np.random.Generator
) -> tuple[UInt8Array, BoolArray]:
    """Paste a defect of any kind at a random place of the middle.

    Args:
        pixels: (H, W, 3), wider and higher than about 200.
        share: its size as a share of the width.
        rng: chooses place, kind and look.

    Returns:
        The picture, and (H, W) True where it is the defect's.
    """
    height, width = pixels.shape[:2]
    side = max(3, round(share * width))
    x = int(rng.integers(width // 20, width - width // 20 - side))
    y = int(rng.integers(height // 5, height - height // 10 - side))
    return draw_defect(pixels, rng.choice(list(KINDS)), (x, y), side, rng)


def draw_defect(
    pixels: UInt8Array,
    kind: DefectKind,
    corner: tuple[int, int],
    side_px: int,
    rng: np.random.Generator,
) -> tuple[UInt8Array, BoolArray]:
    """Draw one defect.

    Args:
        pixels: (H, W, 3).
        kind: ``stain``: the part itself, darker or brighter. ``scratch``: a thin line, dark or
            bright. ``patch``: a piece of another place of the picture.
        corner: (x, y) of its upper left.
        side_px: its width, and about its height.
        rng: chooses its look.

    Returns:
        The picture, and (H, W) True where it is the defect's.
    """
    height, width = pixels.shape[:2]
    x, y = corner
    canvas = np.zeros((height, width), np.uint8)
    picture = pixels.astype(np.float32)
    if kind == "scratch":
        end = (x + side_px, y + int(rng.integers(-side_px, side_px)))
        cv2.line(canvas, (x, y), end, 255, max(1, side_px // 6), cv2.LINE_AA)
        filling: FloatArray = np.full_like(picture, np.float32(rng.choice([30, 225])))
    else:
        radius = side_px // 2
        cv2.ellipse(
            canvas, (x + radius, y + radius), (radius, max(1, int(radius * 0.7))),
            float(rng.uniform(0, 180)), 0, 360, 255, -1, cv2.LINE_AA,
        )  # fmt: skip
        if kind == "stain":
            filling = picture * np.float32(rng.choice([0.55, 1.5]))
        else:
            right, down = (int(value) for value in rng.integers(60, 200, 2))
            filling = np.roll(picture, (down, right), axis=(0, 1))
    weight = canvas[:, :, None].astype(np.float32) / 255
    mixed = picture * (1 - weight) + np.clip(filling, 0, 255) * weight
    return mixed.round().astype(np.uint8), canvas > 127
