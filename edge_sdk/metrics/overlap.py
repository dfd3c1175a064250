"""How much of each defect is seen at few false alarms: AUPRO and AUPIMO."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import InputError
from edge_sdk.metrics.curves import trapezoid
from edge_sdk.metrics.pixels import PixelCounts

AUPRO_LIMIT = 0.3
AUPIMO_BOUNDS = (1e-5, 1e-4)
AUPIMO_THRESHOLDS = 300_000
_AUPIMO_FEWEST_POINTS = 30


def overlap_points(
    counts: PixelCounts, limit: float = AUPRO_LIMIT
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The PRO curve up to ``limit``: (false positive rate, mean overlap over regions).

    Every distinct score is a threshold; the last point is interpolated to lie at the limit. The
    rate is over the normal pixels of all pictures; regions are 8-connected.

    Raises:
        InputError: no picture has a mask, or there is no normal pixel.
    """
    curve = counts.overlap_curve()
    rate = np.append(0.0, curve.false_positive_rate)
    overlap = np.append(0.0, curve.recall)
    inside = rate <= limit
    last = float(np.interp(limit, rate, overlap))
    return np.append(rate[inside], limit), np.append(overlap[inside], last)


def aupro(counts: PixelCounts, limit: float = AUPRO_LIMIT) -> float:
    """Area under the PRO curve to ``limit``, divided by it: 0 to 1.

    The definition of Bergmann et al. (MVTec AD) with every distinct score as a threshold.

    Raises:
        InputError: as ``overlap_points``.
    """
    rate, overlap = overlap_points(counts, limit)
    return trapezoid(overlap, rate) / limit


def aupro_200_steps(counts: PixelCounts, limit: float = AUPRO_LIMIT) -> float:
    """AUPRO as much of the CLIP literature computes it: not comparable with ``aupro``.

    200 equal steps from the lowest to the highest score; only points with a rate below the
    limit; no interpolation; the rate is then stretched to 0..1 over the points that are left.

    Raises:
        InputError: no picture has a mask, or fewer than two points lie below the limit.
    """
    curve = counts.overlap_curve()
    low, high = float(curve.thresholds[-1]), float(curve.thresholds[0])
    rising = curve.thresholds[::-1]
    rate, overlap = [], []
    for step in range(200):
        cut = low + step * (high - low) / 200
        above = len(rising) - int(np.searchsorted(rising, cut, side="right"))
        if above and curve.false_positive_rate[above - 1] < limit:
            rate.append(curve.false_positive_rate[above - 1])
            overlap.append(curve.recall[above - 1])
    if len(rate) < 2 or rate[0] == rate[-1]:
        raise InputError(f"metrics: fewer than two of 200 steps lie below a rate of {limit}")
    stretched = (np.array(rate) - rate[-1]) / (rate[0] - rate[-1])
    return trapezoid(np.array(overlap)[::-1], stretched[::-1])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Aupimo:
    """Per-picture overlap at almost no false alarms."""

    per_picture: NDArray[np.float64]
    """(pictures,) 0 to 1; NaN for normal pictures."""
    mean: float
    """Over the anomalous pictures."""
    points: int
    """Thresholds between the bounds that were integrated over."""
    bounds: tuple[float, float]


def aupimo(
    counts: PixelCounts,
    bounds: tuple[float, float] = AUPIMO_BOUNDS,
    thresholds: int = AUPIMO_THRESHOLDS,
) -> Aupimo:
    """Area under the per-picture overlap (Bertoldo et al., arXiv 2401.01984).

    Thresholds are spaced evenly over the values of the normal pictures. F(t) is the mean over
    normal pictures of their false positive rate, T_i(t) the recall on anomalous picture i;
    AUPIMO_i is the integral of T_i over ln F between the bounds, divided by ln(upper / lower).

    Args:
        counts: of normal and anomalous pictures.
        bounds: of F; 1e-5 needs some 1e5 normal pixels or more.
        thresholds: how many.

    Raises:
        InputError: no normal or no anomalous picture, or at most 30 thresholds between the
            bounds: too few normal pixels for bounds that low.
    """
    is_normal = counts.normal_share > 0
    if not is_normal.any() or not counts.regions:
        raise InputError("metrics: AUPIMO needs normal pictures, and others with masks")
    values, share = counts.values[is_normal], counts.normal_share[is_normal]
    cuts = np.linspace(values[0], values[-1], thresholds, dtype=values.dtype)
    tail = np.append(np.cumsum(share[::-1])[::-1], 0.0) / counts.normal_pictures
    shared = tail[np.searchsorted(values, cuts, side="left")]
    lower, upper = bounds
    first, last = _nearest(shared, upper), _nearest(shared, lower)
    inside = slice(first, last + 1)
    points = last + 1 - first
    if points <= _AUPIMO_FEWEST_POINTS:
        raise InputError(
            f"metrics: AUPIMO between {lower:g} and {upper:g}: only {max(points, 0)} thresholds; "
            "too few normal pixels for bounds that low"
        )
    log_rate = np.log(shared[inside])
    per_picture = np.full(counts.pictures, np.nan)
    for picture in sorted(set(counts.region_picture)):
        mine = [
            region
            for region, owner in zip(counts.regions, counts.region_picture, strict=True)
            if owner == picture
        ]
        anomalous = np.sort(np.concatenate(mine))
        seen = len(anomalous) - np.searchsorted(anomalous, cuts[inside], side="left")
        area = trapezoid((seen / len(anomalous))[::-1], log_rate[::-1])
        per_picture[picture] = min(max(area / math.log(upper / lower), 0.0), 1.0)
    return Aupimo(
        per_picture=per_picture,
        mean=float(np.nanmean(per_picture)),
        points=points,
        bounds=bounds,
    )


def _nearest(falling: NDArray[Any], wanted: float) -> int:
    """Index of the positive value nearest to ``wanted``; of equal ones the first."""
    distance = np.where(falling > 0, np.abs(falling - wanted), np.inf)
    return int(np.argmin(distance))
