"""What a threshold at one of the highest good scores promises, exactly.

Of n good parts that were scored, let the threshold be the score of rank k from above. Whatever the
scores' distribution, the share of further good parts above it follows a Beta(k, n - k + 1) law
(Wilks, "Determination of sample sizes for setting tolerance limits", 1941), if all of them come
from one process and none was part of what they are compared with. Its mean is k / (n + 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """False alarms to be expected, as shares of good parts, 0 to 1."""

    expected: float
    lowest: float
    """With ``CONFIDENCE`` the true share lies between this one and the next, either tail alike."""
    highest: float


def limiting_rank(parts: int, rate: float) -> int:
    """Which of the highest of so many scores has at most this expected false alarm rate.

    Args:
        parts: good parts, at least 1.
        rate: share of good parts, above 0 to 1.

    Returns:
        The largest rank k from above (1: the highest score) with k / (parts + 1) <= rate; 1 where
        there is none.
    """
    return max(1, math.floor((parts + 1) * rate + 1e-9))


def promise_at(parts: int, rank: int) -> Promise:
    """What a threshold at the score of this rank promises.

    Args:
        parts: good parts that were scored.
        rank: of the threshold, 1 (the highest score) to ``parts``.
    """
    tail = (1 - CONFIDENCE) / 2
    return Promise(
        expected=rank / (parts + 1),
        lowest=_share_at(tail, parts, rank),
        highest=_share_at(1 - tail, parts, rank),
    )


def _share_at(probability: float, parts: int, rank: int) -> float:
    """Quantile of the Beta(rank, parts - rank + 1) law, by halving an interval.

    A share is at most p just when at least ``rank`` of ``parts`` trials of chance p succeed.
    """
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        fewer = sum(
            math.exp(_log_binomial(parts, count, middle)) for count in range(rank)
        )  # successes below the rank
        if 1 - fewer < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _log_binomial(trials: int, successes: int, chance: float) -> float:
    ways = math.lgamma(trials + 1) - math.lgamma(successes + 1)
    ways -= math.lgamma(trials - successes + 1)
    return ways + successes * math.log(chance) + (trials - successes) * math.log1p(-chance)
