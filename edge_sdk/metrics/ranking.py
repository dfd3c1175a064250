"""How well scores tell good from bad."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edge_sdk.errors import InputError


def auroc(good: Sequence[float], bad: Sequence[float]) -> float:
    """Area under the ROC curve: the chance that a bad part scores above a good one, ties half.

    The Mann-Whitney statistic divided by the number of pairs, which is what trapezoidal
    integration of the ROC curve gives.

    Raises:
        InputError: one of the classes is empty, or a score is not finite.
    """
    _check(good, bad)
    ordered = np.sort(np.asarray(good, np.float64))
    values = np.asarray(bad, np.float64)
    below = np.searchsorted(ordered, values, side="left")
    not_above = np.searchsorted(ordered, values, side="right")
    return float((below + not_above).sum() / (2 * len(ordered) * len(values)))


def escapes_at(good: Sequence[float], bad: Sequence[float], false_alarms: float) -> float:
    """Share of bad parts missed at the lowest threshold with at most that share of false alarms.

    Args:
        good: scores of good parts.
        bad: scores of bad parts.
        false_alarms: share of good parts that may score above the threshold, 0 to 1; with n good
            parts, floor(n * false_alarms) of them.

    Raises:
        InputError: one of the classes is empty, or a score is not finite.
    """
    _check(good, bad)
    descending = np.sort(np.asarray(good, np.float64))[::-1]
    allowed = math.floor(len(descending) * false_alarms)
    if allowed >= len(descending):
        return 0.0
    return float(np.mean(np.asarray(bad, np.float64) <= descending[allowed]))


def _check(good: Sequence[float], bad: Sequence[float]) -> None:
    if not good or not bad:
        raise InputError(
            f"metrics: expected scores of good and of bad parts, got {len(good)} and {len(bad)}"
        )
    if not (np.isfinite(good).all() and np.isfinite(bad).all()):
        raise InputError("metrics: a score is not finite")
