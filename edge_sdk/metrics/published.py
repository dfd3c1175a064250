"""The metrics as the published AdaptCLIP evaluator computes them, quirks included.

They differ from the textbook, and so from ``standard``:

* AUROC, AUPR and AUPRO put the whole vector through a float32 sigmoid as soon as one value lies
  outside 0..1. F1-max does not.
* "AP" is the trapezoidal area under the precision-recall curve after a stable sort by recall,
  not average precision: up to 0.06 apart on a dozen pictures.
* F1 has 1e-10 in its denominator, and of equal maxima the lowest threshold counts.
* AUPRO takes a ROC curve a region over that region and all background, brings all of them to one
  number of points by index, and averages rates as well as overlaps.

Everything takes plain arrays; ``PixelCounts`` where the pixels of many pictures are meant
(``PixelTally`` makes one, for one picture or thousands).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.metrics.curves import Curve, Values, roc_area, score_curve, trapezoid
from edge_sdk.metrics.pixels import PixelCounts

FPR_LIMIT = 0.3


def squash(values: NDArray[Any]) -> NDArray[np.float32]:
    """The values as float32; through 1 / (1 + exp(-x)) if any of them lies outside 0..1."""
    single = np.asarray(values, np.float32)
    if single.size and (single.min() < 0 or single.max() > 1):
        # A correctly rounded exp, then float32 arithmetic: ties come out as torch's sigmoid has
        # them, and the published precision-recall area depends on ties.
        exponential = np.exp(-single.astype(np.float64)).astype(np.float32)
        return np.asarray(np.float32(1) / (np.float32(1) + exponential), np.float32)
    return single


def auroc(scores: Values, labels: Sequence[bool] | NDArray[Any]) -> float:
    """Area under the ROC curve of ``squash``-ed scores.

    Raises:
        InputError: a class is empty, or a score is not finite.
    """
    return roc_area(score_curve(squash(np.asarray(scores)), labels))


def aupr(scores: Values, labels: Sequence[bool] | NDArray[Any]) -> float:
    """What the evaluator calls AP: see the module.

    Raises:
        InputError: a class is empty, or a score is not finite.
    """
    return precision_recall_area(score_curve(squash(np.asarray(scores)), labels))


def f1_max(scores: Values, labels: Sequence[bool] | NDArray[Any]) -> tuple[float, float]:
    """The largest F1 and its threshold, on the scores as they are.

    Raises:
        InputError: a class is empty, or a score is not finite.
    """
    return curve_f1_max(score_curve(np.asarray(scores, np.float32), labels))


def overkill(scores: Values, labels: Sequence[bool] | NDArray[Any], percent: float) -> float:
    """Share of normal items alarmed when ``percent`` of the anomalous ones may escape.

    The threshold is the linear quantile percent / 100 of the anomalous scores; an item at or
    above it alarms.

    Raises:
        InputError: a class is empty, or a score is not finite.
    """
    values, is_bad = np.asarray(scores, np.float64), np.asarray(labels).astype(bool)
    score_curve(values, is_bad)  # refuses what the others refuse
    return float(np.mean(values[~is_bad] >= np.quantile(values[is_bad], percent / 100)))


def sample_maxima(
    scores: Values, labels: Sequence[bool] | NDArray[Any], samples: Sequence[Hashable]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """One score and label a sample: the largest over its views, in order of first appearance."""
    numbers = {name: index for index, name in enumerate(dict.fromkeys(samples))}
    owner = np.array([numbers[name] for name in samples], np.intp)
    best, is_bad = np.full(len(numbers), -np.inf), np.zeros(len(numbers), bool)
    np.maximum.at(best, owner, np.asarray(scores, np.float64))
    np.logical_or.at(is_bad, owner, np.asarray(labels).astype(bool))
    return best, is_bad


def pixel_auroc(counts: PixelCounts) -> float:
    """As ``auroc``, over all pixels."""
    return roc_area(squashed(counts).pixel_curve())


def pixel_aupr(counts: PixelCounts) -> float:
    """As ``aupr``, over all pixels."""
    return precision_recall_area(squashed(counts).pixel_curve())


def pixel_f1_max(counts: PixelCounts) -> tuple[float, float]:
    """As ``f1_max``, over all pixels."""
    return curve_f1_max(counts.pixel_curve())


def squashed(counts: PixelCounts) -> PixelCounts:
    """The same counts at the ``squash``-ed values."""
    every = squash(np.concatenate([counts.values, *counts.regions]))
    sizes = [len(counts.values), *(len(region) for region in counts.regions)]
    values, *regions = np.split(every, np.cumsum(sizes)[:-1])
    return counts.transformed(values, tuple(regions))


def precision_recall_area(curve: Curve) -> float:
    """Trapezoids over (recall, precision) listed by rising threshold, then (0, 1), stably sorted.

    Points of one recall keep the order of rising thresholds, so that each step joins the best
    precision at one recall to the worst at the next.
    """
    recall = np.append(curve.recall[::-1], 0.0)
    precision = np.append(curve.precision[::-1], 1.0)
    order = np.argsort(recall, kind="stable")
    return trapezoid(precision[order], recall[order])


def curve_f1_max(curve: Curve) -> tuple[float, float]:
    """Largest 2PR / (P + R + 1e-10), and the lowest threshold that reaches it."""
    precision, recall = curve.precision[::-1], curve.recall[::-1]
    values = 2 * precision * recall / (precision + recall + 1e-10)
    best = int(np.argmax(values))
    return float(values[best]), float(curve.thresholds[::-1][best])


def aupro(counts: PixelCounts) -> float:
    """Area under the averaged region curves of ``aupro_curve``, divided by its last rate.

    Raises:
        InputError: no picture has a mask, or there is no normal pixel.
    """
    rate, overlap = aupro_curve(counts)
    return trapezoid(overlap, rate) / float(rate[-1])


def aupro_curve(
    counts: PixelCounts,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(mean false positive rate, mean overlap) over regions, at equal steps of the point index.

    Raises:
        InputError: as ``aupro``.
    """
    single = squashed(counts)
    rate = np.append(0.0, single.pixel_curve().false_positive_rate)
    points = int(np.count_nonzero(rate <= FPR_LIMIT))
    # Only scores that the highest 30 % of the background reach matter, and the one after them.
    falling, background = _grouped(single.values[::-1], single.counts[::-1])
    total = float(background.sum())
    kept = int(np.searchsorted(np.cumsum(background) / total, FPR_LIMIT, side="right")) + 2
    falling, background = falling[:kept], background[:kept]
    mean_rate, mean_overlap = np.zeros(points), np.zeros(points)
    for region in single.regions:
        x, y = _region_curve(falling, background, total, region)
        at = np.linspace(0, points - 1, len(x))
        mean_rate += np.interp(np.arange(points), at, x)
        mean_overlap += np.interp(np.arange(points), at, y)
    return mean_rate / len(single.regions), mean_overlap / len(single.regions)


def _grouped(
    falling: NDArray[np.float32], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Neighbours of one value joined: a float32 sigmoid makes some equal."""
    first = np.flatnonzero(np.append(True, falling[1:] != falling[:-1]))
    return falling[first], np.add.reduceat(weights, first)


def _region_curve(
    falling: NDArray[np.float32],
    background: NDArray[np.float64],
    total: float,
    region: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """ROC of one region against the background, to a rate of 0.3, the last point interpolated."""
    own, pixels = np.unique(region, return_counts=True)
    thresholds = np.union1d(falling, own)[::-1]
    hits, alarms = np.zeros(len(thresholds)), np.zeros(len(thresholds))
    hits[np.searchsorted(-thresholds, -own)] = pixels
    alarms[np.searchsorted(-thresholds, -falling)] = background
    x = np.append(0.0, np.cumsum(alarms) / total)
    y = np.append(0.0, np.cumsum(hits) / len(region))
    inside = np.flatnonzero(x <= FPR_LIMIT)
    end = int(inside[-1]) + 1
    if x[end - 1] == 0 and end < len(x):
        end += 1  # all of them are 0: the first point above belongs to the curve
    if end == len(x) or x[end - 1] > FPR_LIMIT or np.isclose(x[end - 1], FPR_LIMIT):
        return x[:end], y[:end]
    last = float(np.interp(FPR_LIMIT, x[end - 1 : end + 1], y[end - 1 : end + 1]))
    return np.append(x[:end], FPR_LIMIT), np.append(y[:end], last)
