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


def overkill_at(good: Sequence[float], bad: Sequence[float], escapes: float) -> float:
    """Share of good parts alarmed at the highest threshold that lets at most that share escape.

    Args:
        good: scores of good parts.
        bad: scores of bad parts.
        escapes: share of bad parts that may pass, 0 to 1; with n bad parts, floor(n * escapes).

    Raises:
        InputError: one of the classes is empty, or a score is not finite.
    """
    _check(good, bad)
    ascending = np.sort(np.asarray(bad, np.float64))
    allowed = math.floor(len(ascending) * escapes)
    if allowed >= len(ascending):
        return 0.0
    return float(np.mean(np.asarray(good, np.float64) >= ascending[allowed]))


def share_interval(count: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's 95 % interval of a share seen as ``count`` of ``total``.

    Unlike the normal approximation it says something at 0 of n, too.

    Raises:
        InputError: nothing was counted, or more than there was.
    """
    if not 0 <= count <= total or total == 0:
        raise InputError(f"metrics: expected a count of at least one item, got {count} of {total}")
    share = count / total
    middle = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def _check(good: Sequence[float], bad: Sequence[float]) -> None:
    if not good or not bad:
        raise InputError(
            f"metrics: expected scores of good and of bad parts, got {len(good)} and {len(bad)}"
        )
    if not (np.isfinite(good).all() and np.isfinite(bad).all()):
        raise InputError("metrics: a score is not finite")
