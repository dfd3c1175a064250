"""Counts over all thresholds, and what is read off them.

A threshold t calls every score >= t anomalous. All areas are worked out in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import InputError

Values = NDArray[np.floating[Any]] | Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """One point per distinct score, the highest first."""

    thresholds: NDArray[np.floating[Any]]
    """(N,) distinct scores, falling."""
    true_positives: NDArray[np.float64]
    """(N,) anomalous items scoring at least the threshold."""
    false_positives: NDArray[np.float64]
    """(N,) normal items scoring at least the threshold."""

    @property
    def positives(self) -> float:
        """Anomalous items in all."""
        return float(self.true_positives[-1])

    @property
    def negatives(self) -> float:
        """Normal items in all."""
        return float(self.false_positives[-1])

    @property
    def recall(self) -> NDArray[np.float64]:
        """(N,) true positives / positives, rising to 1."""
        return self.true_positives / self.positives

    @property
    def precision(self) -> NDArray[np.float64]:
        """(N,) true positives / items called anomalous."""
        return self.true_positives / (self.true_positives + self.false_positives)

    @property
    def false_positive_rate(self) -> NDArray[np.float64]:
        """(N,) false positives / negatives, rising to 1."""
        return self.false_positives / self.negatives


def score_curve(scores: Values, labels: Sequence[bool] | NDArray[Any]) -> Curve:
    """Count over every distinct score.

    Args:
        scores: (N,) higher is worse; finite.
        labels: (N,) true where anomalous.

    Raises:
        InputError: lengths differ, a class is empty, or a score is not finite.
    """
    values, is_bad = np.asarray(scores).ravel(), np.asarray(labels).ravel().astype(bool)
    if len(values) != len(is_bad):
        raise InputError(f"metrics: expected a label a score, got {len(is_bad)} for {len(values)}")
    return weighted_curve(values, is_bad, ~is_bad)


def weighted_curve(values: NDArray[Any], positive: NDArray[Any], negative: NDArray[Any]) -> Curve:
    """As ``score_curve``, each value standing for so many (or so much) of either class.

    Args:
        values: (N,) scores, in any order, repeats allowed.
        positive: (N,) weight among the anomalous.
        negative: (N,) weight among the normal.

    Raises:
        InputError: a class is empty, or a score is not finite.
    """
    if not np.isfinite(values).all():
        raise InputError("metrics: a score is not finite")
    if not positive.any() or not negative.any():
        raise InputError(
            "metrics: expected scores of good and of bad, "
            f"got {float(negative.sum()):g} and {float(positive.sum()):g}"
        )
    order = np.argsort(values, kind="stable")[::-1]
    ordered = values[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    return Curve(
        thresholds=ordered[last],
        true_positives=np.cumsum(positive[order], dtype=np.float64)[last],
        false_positives=np.cumsum(negative[order], dtype=np.float64)[last],
    )


def roc_area(curve: Curve) -> float:
    """Area under the ROC curve by trapezoids from (0, 0): 0 to 1, 0.5 where all scores are equal.

    Equal to the chance that an anomalous item scores above a normal one, ties half.
    """
    return trapezoid(np.append(0, curve.recall), np.append(0, curve.false_positive_rate))


def average_precision(curve: Curve) -> float:
    """Sum of precision times the rise of recall, without interpolation, as scikit-learn has it."""
    return float(np.sum(np.diff(curve.recall, prepend=0.0) * curve.precision))


def best_f1(curve: Curve) -> tuple[float, float]:
    """The largest F1 = 2 tp / (2 tp + fp + fn) over the distinct scores, and its threshold.

    Of equal ones the highest threshold: the fewest alarms.
    """
    called = curve.true_positives + curve.false_positives
    values = 2 * curve.true_positives / (called + curve.positives)
    best = int(np.argmax(values))
    return float(values[best]), float(curve.thresholds[best])


def trapezoid(y: NDArray[Any], x: NDArray[Any]) -> float:
    """The integral of y over x by trapezoids (``numpy.trapezoid`` needs numpy 2)."""
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))
