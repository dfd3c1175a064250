"""Whether scores rise with how bad a part is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Concordance:
    """Agreement of scores with levels of severity."""

    index: float
    """Of pairs of different level, the share ordered alike, ties half: 1 perfect, 0.5 chance."""
    kendall_tau_b: float
    """-1 to 1, corrected for ties in either; 0 where all scores are equal."""


def severity_concordance(scores: Sequence[float], levels: Sequence[float]) -> Concordance:
    """Compare scores with levels, 0 being normal and more being worse.

    Args:
        scores: (N,) higher is worse; finite.
        levels: (N,) one a score.

    Raises:
        InputError: lengths differ, a value is not finite, or all levels are the same.
    """
    values, ranks = np.asarray(scores, np.float64), np.asarray(levels, np.float64)
    if values.shape != ranks.shape or values.ndim != 1:
        raise InputError(f"metrics: expected a level a score, got {len(ranks)} for {len(values)}")
    if not (np.isfinite(values).all() and np.isfinite(ranks).all()):
        raise InputError("metrics: a score or a level is not finite")
    alike = against = 0
    below = np.empty(0)
    distinct = np.unique(ranks)
    for level in distinct:
        mine = np.sort(values[ranks == level])
        alike += int(np.searchsorted(below, mine, side="left").sum())
        against += int((len(below) - np.searchsorted(below, mine, side="right")).sum())
        below = np.sort(np.concatenate([below, mine]))
    every = math.comb(len(values), 2)
    pairs = every - _tied(ranks)
    if len(distinct) < 2:
        raise InputError("metrics: concordance needs at least two levels of severity")
    untied = pairs * (every - _tied(values))
    return Concordance(
        index=(alike + (pairs - alike - against) / 2) / pairs,
        kendall_tau_b=(alike - against) / math.sqrt(untied) if untied else 0.0,
    )


def _tied(values: NDArray[np.float64]) -> int:
    counts = np.unique(values, return_counts=True)[1]
    return int((counts * (counts - 1) // 2).sum())
