"""From logits and distances to one map and one score. Section 3.4 of the paper."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

TEMPERATURE = 0.07
SIGMA = 4.0
"""Of the map's Gaussian, in pixels of the input."""
TRUNCATE = 4.0
"""Sigmas at which the Gaussian ends."""
SMALLEST_DISTANCE = 1e-6
"""A patch that equals a reference has a distance of 0 give or take a rounding error; a negative
one would turn the harmonic mean into nonsense. Nothing else is that near."""


def abnormal(logits: Tensor) -> Tensor:
    """(B, 2, ...) logits -> (B, ...) probability of the abnormal class."""
    return logits.softmax(dim=1)[:, 1]


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, h, w) -> (B, C, *size), bilinear, corners not aligned, not antialiased."""
    return functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def upsample_map(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, h, w) -> (B, *size)."""
    return upsample(maps.unsqueeze(1), size).squeeze(1)


def harmonic_mean(values: Sequence[Tensor]) -> Tensor:
    """``n / sum(1 / x)`` of tensors of one shape."""
    return len(values) / torch.stack(list(values)).reciprocal().sum(dim=0)


def arithmetic_mean(values: Sequence[Tensor]) -> Tensor:
    """Mean of tensors of one shape."""
    return torch.stack(list(values)).mean(dim=0)


class Smoothing(nn.Module):
    """Gaussian with a half-sample symmetric border, as two matrix products.

    Exact, and the same in every runtime: none of the two graph formats has a convolution with
    this border.

    Args:
        size: (height, width) of the maps in pixels.
        sigma: in pixels.
    """

    rows: Tensor
    cols: Tensor

    def __init__(self, size: tuple[int, int], sigma: float = SIGMA) -> None:
        super().__init__()
        for name, side in zip(("rows", "cols"), size, strict=True):
            self.register_buffer(
                name, torch.from_numpy(gaussian_matrix(side, sigma)), persistent=False
            )

    def forward(self, maps: Tensor) -> Tensor:
        """(B, H, W) -> (B, H, W)."""
        return self.rows @ maps @ self.cols.T


def gaussian_matrix(side: int, sigma: float) -> NDArray[np.float32]:
    """The matrix G with ``G x`` = x smoothed along its first axis.

    Taps ``exp(-i^2 / 2 sigma^2)``, normalised, up to ``TRUNCATE`` sigmas; beyond the border the
    signal is mirrored with its edge repeated (numpy's "symmetric").

    Returns:
        (side, side) float32.
    """
    radius = int(TRUNCATE * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    taps = np.exp(-0.5 * (offsets / sigma) ** 2)
    taps /= taps.sum()
    mirrored = np.pad(np.eye(side), ((radius, radius), (0, 0)), mode="symmetric")
    matrix = sum(tap * mirrored[i : i + side] for i, tap in enumerate(taps))
    return np.asarray(matrix, np.float32)
