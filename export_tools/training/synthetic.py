"""Defects pasted on pictures of good parts, with exact masks.

Perlin-masked textures are the idea of DRAEM (arXiv 2108.07610), cut and paste that of CutPaste
(arXiv 2104.04015). What is pasted comes from noise or from the picture itself, so that adapters
trained on it saw nobody else's pictures. A mask marks what has visibly changed, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import cv2
import numpy as np

from edge_sdk.errors import InputError
from edge_sdk.records import BoolArray, FloatArray, UInt8Array
from export_tools.training.noise import fractal, perlin, texture

SMALLEST_SHARE, LARGEST_SHARE = 0.0006, 0.06
"""Of the picture's area, where the kind says nothing else."""
VISIBLE = 8
"""Grey levels in one channel from which a pixel counts as changed."""
_CLEAR = 14.0
"""Mean grey levels of change, over the mask, from which a defect can be seen."""
_FEWEST_PX = 12
_ATTEMPTS = 12

_Pasted = tuple[FloatArray, FloatArray]
"""(H, W, 3) what the defect looks like, (H, W) how much of it shows, 0 to 1."""


def paste_defect(
    pixels: UInt8Array, rng: np.random.Generator, *, kind: str | None = None
) -> tuple[UInt8Array, BoolArray]:
    """Spoil a good part.

    Args:
        pixels: (H, W, 3) uint8.
        rng: where chance comes from; the same state gives the same defect.
        kind: one of ``KINDS``; None: chance decides.

    Returns:
        (H, W, 3) uint8 and (H, W) bool, true where it has changed.

    Raises:
        InputError: nothing that was tried can be seen, as on a picture of a few pixels.
    """
    is_grey = bool((pixels == pixels[:, :, :1]).all())
    names = tuple(KINDS)
    for _ in range(_ATTEMPTS):
        # Drawn anew: a blurred spot cannot be seen on a plain surface.
        name = kind or names[rng.integers(len(names))]
        look, share = KINDS[name](pixels, rng)
        if is_grey:
            look = np.repeat(look.mean(axis=2, keepdims=True), 3, axis=2)
        mixed = pixels + (look - pixels) * share[:, :, None]
        spoilt = np.asarray(np.clip(mixed + 0.5, 0, 255), np.uint8)
        mask = _changed(pixels, spoilt, share)
        difference = np.abs(spoilt.astype(np.int16) - pixels).max(axis=2)
        if mask.sum() >= _FEWEST_PX and difference[mask].mean() >= _CLEAR:
            # What is too faint to be marked is not left in the picture either.
            return np.where(mask[:, :, None], spoilt, pixels), mask
    raise InputError(
        f"synthetic defects: none of {_ATTEMPTS} attempts shows on a picture of "
        f"{pixels.shape[1]}x{pixels.shape[0]} px"
    )


def _changed(before: UInt8Array, after: UInt8Array, share: FloatArray) -> BoolArray:
    visible = np.abs(after.astype(np.int16) - before).max(axis=2) >= VISIBLE
    # Here and there a pasted texture has the part's own colour: no hole in the defect.
    closed = cv2.morphologyEx(visible.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    return np.asarray((closed > 0) & (share > 0.02), bool)


def _blob(size: tuple[int, int], rng: np.random.Generator, *, soft: float = 1.0) -> FloatArray:
    """(H, W) 0 to 1: a spot of chance form, place and size."""
    area = np.exp(rng.uniform(np.log(SMALLEST_SHARE), np.log(LARGEST_SHARE)))
    shape = rng.integers(3)
    aspect = float(np.exp(rng.uniform(-0.9, 0.9)))
    side = float(np.sqrt(area * size[0] * size[1]))
    half_width, half_height = max(2.0, side * aspect / 1.8), max(2.0, side / aspect / 1.8)
    y, x = _around(size, rng)
    angle = rng.uniform(0, np.pi)
    u = (x * np.cos(angle) + y * np.sin(angle)) / half_width
    v = (y * np.cos(angle) - x * np.sin(angle)) / half_height
    if shape == 0:
        distance = np.maximum(np.abs(u), np.abs(v))
    else:
        distance = np.sqrt(u * u + v * v)
        # Ragged, by noise of the spot's own scale.
        cells = (size[0] / max(half_height, 4), size[1] / max(half_width, 4))
        distance = distance + (0.6 if shape == 2 else 0.25) * perlin(size, cells, rng)
    edge = soft / min(half_width, half_height)
    return np.asarray(np.clip((1 - distance) / edge + 0.5, 0, 1), np.float32)


def _around(size: tuple[int, int], rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Pixels down and right of a place in the picture."""
    height, width = size
    down, right = rng.uniform(0.06, 0.94, 2)
    y, x = np.mgrid[:height, :width]
    return np.asarray(y - down * height, np.float32), np.asarray(x - right * width, np.float32)


def _texture(pixels: UInt8Array, rng: np.random.Generator) -> _Pasted:
    """Another surface where smooth noise is high."""
    size = (pixels.shape[0], pixels.shape[1])
    cells = float(2 ** rng.uniform(1, 4.5))
    noise = perlin(size, (cells, cells), rng)
    spot = _blob(size, rng)
    spots = np.clip((noise - np.quantile(noise, rng.uniform(0.92, 0.995))) * 20, 0, 1)
    share = spot if rng.random() < 0.6 else np.asarray(spots, np.float32)
    opacity = rng.uniform(0.4, 1.0)
    return np.asarray(texture(size, rng), np.float32), np.asarray(share * opacity, np.float32)


def _cut_paste(pixels: UInt8Array, rng: np.random.Generator) -> _Pasted:
    """A patch of the same picture, turned, a little lighter or darker, somewhere else."""
    turned = np.rot90(pixels, int(rng.integers(4)))
    turned = np.resize(turned, pixels.shape) if turned.shape == pixels.shape else pixels[::-1, ::-1]
    down, right = (int(rng.integers(side // 8, side - side // 8)) for side in pixels.shape[:2])
    moved = np.roll(turned, (down, right), axis=(0, 1)).astype(np.float32)
    look = moved * rng.uniform(0.8, 1.2) + rng.uniform(-15, 15)
    return np.asarray(look, np.float32), _blob((pixels.shape[0], pixels.shape[1]), rng)


def _scratch(pixels: UInt8Array, rng: np.random.Generator) -> _Pasted:
    """A thin bent line, or a few, bright or dark."""
    height, width = pixels.shape[:2]
    share = np.zeros((height, width), np.uint8)
    side = min(height, width)
    for _ in range(int(rng.integers(1, 4))):
        point = rng.uniform(0.05, 0.95, 2) * (width, height)
        heading, bend = rng.uniform(0, 2 * np.pi), rng.uniform(-0.15, 0.15)
        steps = int(rng.integers(4, 16))
        line = [point]
        for _ in range(steps):
            heading += bend + rng.normal(0, 0.08)
            point = point + side * rng.uniform(0.01, 0.03) * np.array(
                [np.cos(heading), np.sin(heading)]
            )
            line.append(point)
        thickness = max(1, round(side * float(rng.uniform(0.002, 0.012))))
        corners = np.round(np.stack(line)).astype(np.int32)
        cv2.polylines(share, [corners], False, 255, thickness, cv2.LINE_AA)
    level = rng.choice([rng.uniform(0, 60), rng.uniform(190, 255)])
    look = np.full(pixels.shape, level, np.float32) + np.asarray(rng.normal(0, 8, (1, 1, 3)))
    return np.asarray(look, np.float32), np.asarray(
        share / np.float32(255) * rng.uniform(0.5, 1), np.float32
    )


def _blur(pixels: UInt8Array, rng: np.random.Generator) -> _Pasted:
    """A spot without detail: smeared, worn, molten."""
    side = min(pixels.shape[:2])
    look = cv2.GaussianBlur(pixels, (0, 0), float(rng.uniform(0.015, 0.06)) * side)
    size = (pixels.shape[0], pixels.shape[1])
    return np.asarray(look, np.float32), _blob(size, rng, soft=3)


def _stain(pixels: UInt8Array, rng: np.random.Generator) -> _Pasted:
    """Something that soaked in: darker or tinted, cloudy, its detail still there."""
    size = (pixels.shape[0], pixels.shape[1])
    tint = rng.uniform(0.2, 1.0, 3) if rng.random() < 0.7 else rng.uniform(1.2, 2.2, 3)
    cloud = 0.75 + 0.25 * fractal(size, float(rng.uniform(2, 10)), rng)
    share = _blob(size, rng, soft=4) * np.clip(cloud, 0, 1)
    return np.asarray(pixels * tint, np.float32), np.asarray(share, np.float32)


def _missing(pixels: UInt8Array, rng: np.random.Generator) -> _Pasted:
    """A piece that is gone: filled from around it, or by the picture's most common colour."""
    size = (pixels.shape[0], pixels.shape[1])
    share = _blob(size, rng)
    hole = np.asarray(share > 0, np.uint8)
    if rng.random() < 0.5 and hole.mean() < 0.02:
        look = cv2.inpaint(np.ascontiguousarray(pixels), hole, 3, cv2.INPAINT_TELEA)
        return np.asarray(look, np.float32), np.asarray(hole, np.float32)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    colour = np.median(border, axis=0) + rng.normal(0, 4, 3)
    grain = rng.normal(0, 3, (*size, 1))
    return np.asarray(colour + grain, np.float32), share


KINDS: Mapping[str, Callable[[UInt8Array, np.random.Generator], _Pasted]] = MappingProxyType(
    {
        "texture": _texture,
        "cut-paste": _cut_paste,
        "scratch": _scratch,
        "blur": _blur,
        "stain": _stain,
        "missing": _missing,
    }
)
"""What can go wrong with a part."""
