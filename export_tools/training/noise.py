"""Gradient noise, and textures made of it: own patterns, so that nobody's pictures are needed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_sdk.records import FloatArray, UInt8Array


def perlin(
    size: tuple[int, int], cells: tuple[float, float], rng: np.random.Generator
) -> FloatArray:
    """Gradient noise (Perlin, "Improving Noise", 2002): smooth, of one scale.

    Args:
        size: (height, width) in pixels.
        cells: how many cells of the lattice lie along each side.
        rng: where chance comes from.

    Returns:
        (H, W) float32, about -1 to 1.
    """
    (rows, row), (cols, col) = (
        _along(side, count) for side, count in zip(size, cells, strict=True)
    )
    lattice = (int(rows.max()) + 2, int(cols.max()) + 2)
    angles = rng.uniform(0, 2 * np.pi, lattice)
    down, right = (np.asarray(f(angles), np.float32) for f in (np.sin, np.cos))

    def corner(below: int, beside: int) -> FloatArray:
        at = np.ix_(rows + below, cols + beside)
        value: FloatArray = down[at] * (row - below)[:, None] + right[at] * (col - beside)[None, :]
        return value

    fade_down, fade_right = _fade(row)[:, None], _fade(col)[None, :]
    above = corner(0, 0) * (1 - fade_right) + corner(0, 1) * fade_right
    under = corner(1, 0) * (1 - fade_right) + corner(1, 1) * fade_right
    return np.asarray(np.sqrt(2) * (above * (1 - fade_down) + under * fade_down), np.float32)


def fractal(size: tuple[int, int], cells: float, rng: np.random.Generator) -> FloatArray:
    """Perlin noise of four scales, each half as strong as the one before: (H, W), about -1 to 1."""
    octaves = (perlin(size, (cells * 2**i, cells * 2**i), rng) * 0.5**i for i in range(4))
    return np.asarray(sum(octaves), np.float32)


def texture(size: tuple[int, int], rng: np.random.Generator) -> UInt8Array:
    """A surface of nothing in particular: cloudy, grained, striped, checked or plain.

    Returns:
        (H, W, 3) uint8.
    """
    height, width = size
    kind = rng.integers(5)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), rng.uniform(3, 24)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    if kind == 0:
        values = fractal(size, float(rng.uniform(2, 12)), rng)
    elif kind == 1:
        values = np.asarray(rng.normal(0, 0.5, size), np.float32)
    elif kind == 2:
        values = np.sin(2 * np.pi * along / period + 2 * fractal(size, 3, rng))
    elif kind == 3:
        values = np.sign(np.sin(2 * np.pi * along / period) * np.sin(2 * np.pi * across / period))
    else:
        values = 0.15 * fractal(size, 4, rng)
    dark, bright = rng.uniform(0, 255, (2, 3))
    share = np.clip(0.5 + 0.5 * values, 0, 1)[:, :, None]
    return np.asarray(dark + (bright - dark) * share + 0.5, np.uint8)


def _along(side: int, cells: float) -> tuple[NDArray[np.intp], FloatArray]:
    place = np.arange(side) * (cells / side)
    whole = np.floor(place).astype(np.intp)
    return whole, np.asarray(place - whole, np.float32)


def _fade(t: FloatArray) -> FloatArray:
    return t * t * t * (t * (t * 6 - 15) + 10)
