"""What pictures of a fixed camera have in common: light, sharpness and place, as numbers.

A part in the picture changes them here and there; a lamp, a lens or a camera changes them all over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sdk.imaging import detail_energy, resize_grey
from edge_sdk.records import BoolArray, FloatArray, Preprocessed, UInt8Array

GRID = (9, 16)
"""(rows, columns) of the tiles over the window."""
SMALLEST_SIDE_PX = 96
"""A smaller window has too few pixels a tile to say anything."""
_TILE_PX = 64
"""Of a larger tile the middle is looked at, in the camera's own pixels: only there a lens that is
slightly out of focus shows."""
_BLOCKS = (3, 4)
_EDGES_PX = 320
_COARSE_PX = 128
_SAMPLED_PX = 1024
_PEAK = 0.1
"""Phase correlation, 0-1, from which a block's shift is believed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PictureStatistics:
    """One picture in numbers."""

    light: FloatArray
    """(9, 16) mean grey level of each tile, 0-255."""
    detail: FloatArray
    """(9, 16) energy of the Laplacian after a 3x3 mean, in each tile."""
    coarse: float
    """The same energy of the picture reduced to 128 px: what is left of one that is only a blur."""
    edges: FloatArray
    """(h, w) gradients of the picture reduced to at most 320 px."""
    scale: float
    """Frame pixels a pixel of ``edges``."""


def measure(preprocessed: Preprocessed) -> PictureStatistics:
    """Measure a frame as the camera gave it, in its green channel.

    Light and detail of the window, where they count; edges of the whole frame, for what lies around
    the part tells better than the part whether the camera was moved.
    """
    window, pixels = preprocessed.geometry.window, preprocessed.frame.pixels
    grey = pixels[:, :, pixels.shape[2] // 2]
    light, detail = _tiles(
        grey[window.y : window.y + window.height, window.x : window.x + window.width]
    )
    step = max(1, max(grey.shape) // _SAMPLED_PX)
    sampled = np.ascontiguousarray(grey[::step, ::step])
    coarse = resize_grey(sampled, _fitting(sampled.shape, _COARSE_PX))
    height, width = _fitting(sampled.shape, _EDGES_PX)
    small = resize_grey(sampled, (height, width))
    across, down = small[1:-1, 2:] - small[1:-1, :-2], small[2:, 1:-1] - small[:-2, 1:-1]
    return PictureStatistics(
        light=light,
        detail=detail,
        coarse=float(detail_energy(coarse).mean()),
        edges=np.hypot(across, down),
        scale=grey.shape[1] / width,
    )


def inspected_tiles(preprocessed: Preprocessed) -> BoolArray:
    """(9, 16) True where at least half of a tile's area counts."""
    mask, window = preprocessed.geometry.inspected, preprocessed.geometry.window
    if mask is None:
        return np.ones(GRID, bool)
    inside = mask[window.y : window.y + window.height, window.x : window.x + window.width]
    return resize_grey(inside.astype(np.uint8), GRID) >= 0.5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outline:
    """Edges in blocks, ready to be laid over those of another picture."""

    spectra: NDArray[np.complexfloating]
    """(12, h, w) Fourier transforms of the windowed blocks."""
    strength: FloatArray
    """(12,) how much there is to see in each block."""
    block: tuple[int, int]
    """(height, width) of a block in reduced pixels."""
    scale: float
    """Frame pixels a reduced pixel."""


def outline_of(statistics: PictureStatistics) -> Outline:
    """Cut the edges into 3 x 4 blocks."""
    rows, columns = _BLOCKS
    height, width = (
        side // count for side, count in zip(statistics.edges.shape, _BLOCKS, strict=True)
    )
    blocks = (
        statistics.edges[: rows * height, : columns * width]
        .reshape(rows, height, columns, width)
        .transpose(0, 2, 1, 3)
        .reshape(rows * columns, height, width)
    )
    taper = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
    centred = (blocks - blocks.mean((1, 2), keepdims=True)) * taper.astype(np.float32)
    return Outline(
        spectra=np.fft.rfft2(centred),
        strength=blocks.std((1, 2)),
        block=(height, width),
        scale=statistics.scale,
    )


def moved_share(before: Outline, after: Outline, least_px: float) -> float:
    """Share, 0-1, of the blocks with edges that moved together, by at least ``least_px``.

    By phase correlation (Kuglin and Hines, 1975), block by block: a part that lies elsewhere, or a
    hand, moves a few blocks; a camera that was touched moves all of them by as much. What is below
    two reduced pixels is not told from none.
    """
    product = np.conj(before.spectra) * after.spectra
    size = np.abs(product)
    surface = np.fft.irfft2(product / (size + 1e-3 * size.mean() + 1e-9), s=before.block)
    flat = surface.reshape(len(surface), -1)
    peaks = flat.argmax(1)
    shifts = np.stack(np.unravel_index(peaks, before.block), 1).astype(np.float32)
    blocks = np.asarray(before.block, np.float32)
    shifts = (shifts - np.where(shifts > blocks // 2, blocks, 0)) * before.scale
    is_clear = (before.strength > np.median(before.strength) / 2) & (flat.max(1) > _PEAK)
    if int(is_clear.sum()) < 4:
        return 0.0
    common = np.median(shifts[is_clear], 0)
    least_px = max(least_px, 2 * before.scale)
    if float(np.hypot(*common)) < least_px:
        return 0.0
    agrees = np.hypot(*(shifts - common).T) <= max(3.0, 1.5 * before.scale)
    has_moved = is_clear & agrees & (np.hypot(*shifts.T) >= least_px)
    return float(has_moved.sum() / is_clear.sum())


def _tiles(grey: UInt8Array) -> tuple[FloatArray, FloatArray]:
    """Light and detail of each tile."""
    rows, columns = GRID
    height, width = (
        min(side // count, _TILE_PX) for side, count in zip(grey.shape, GRID, strict=True)
    )
    tops, lefts = _middles(grey.shape[0], rows, height), _middles(grey.shape[1], columns, width)
    mosaic = grey[np.ix_(tops, lefts)]
    parts = (rows, height, columns, width)
    energy = detail_energy(mosaic).reshape(parts)[:, 2:-2, :, 2:-2]  # without the seams
    light = mosaic.reshape(parts).mean((1, 3), dtype=np.float32)
    return light, energy.mean((1, 3), dtype=np.float32)


def _middles(side: int, count: int, length: int) -> NDArray[np.intp]:
    """Indices of the middle ``length`` pixels of each of ``count`` equal parts of a side."""
    starts = [(2 * number + 1) * side // (2 * count) - length // 2 for number in range(count)]
    return np.concatenate([np.arange(start, start + length) for start in starts])


def _fitting(shape: Sequence[int], longest_px: int) -> tuple[int, int]:
    factor = min(1.0, longest_px / max(shape))
    return max(8, round(shape[0] * factor)), max(8, round(shape[1] * factor))
