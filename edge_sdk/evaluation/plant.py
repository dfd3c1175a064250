"""What a plant asks, answered from rows of scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_sdk.evaluation.conditions import CONDITIONS
from edge_sdk.evaluation.scores import AS_IT_IS, ScoreRow
from edge_sdk.metrics import Definition, auroc, escapes_at, image_figures, overkill_at

RUN_IN_LENGTHS = (20, 50, 100)
RUN_IN_FALSE_ALARMS = 0.05
SUITABLE_FROM_AUROC = 0.65
"""Below it a bad part hardly ranks above a good one: in truth not suitable."""


def split(rows: Sequence[ScoreRow], condition: str = AS_IT_IS) -> tuple[list[float], list[float]]:
    """Scores of the judged good and bad test pictures under a condition."""
    chosen = [
        row
        for row in rows
        if row.part == "test" and row.condition == condition and row.score is not None
    ]
    good = [float(row.score or 0.0) for row in chosen if not row.is_bad]
    return good, [float(row.score or 0.0) for row in chosen if row.is_bad]


def ranking_figures(rows: Sequence[ScoreRow], definition: Definition) -> dict[str, float]:
    """Image metrics, and escapes and overkill at given rates, of one draw.

    Raises:
        InputError: a class has no judged picture.
    """
    good, bad = split(rows)
    labels = np.array([False] * len(good) + [True] * len(bad))
    return {
        **image_figures(np.array([*good, *bad]), labels, definition),
        "escapes_at_1_percent": escapes_at(good, bad, 0.01),
        "escapes_at_5_percent": escapes_at(good, bad, 0.05),
        "overkill_at_5_percent_escapes": overkill_at(good, bad, 0.05),
    }


def rates(rows: Sequence[ScoreRow], threshold: float, condition: str = AS_IT_IS) -> dict[str, Any]:
    """False alarms and escapes at a threshold, as counts and shares."""
    good, bad = split(rows, condition)
    alarms = sum(score > threshold for score in good)
    missed = sum(score <= threshold for score in bad)
    return {
        "false_alarms": {"count": alarms, "total": len(good), "share": alarms / len(good)},
        "escapes": {"count": missed, "total": len(bad), "share": missed / len(bad)},
    }


def run_in_threshold(scores: Sequence[float], false_alarms: float = RUN_IN_FALSE_ALARMS) -> float:
    """The score that at most that share of further good parts will exceed.

    With n exchangeable good parts, another one exceeds the k-th lowest of them with probability
    at most (n + 1 - k) / (n + 1): k is the lowest for which that is ``false_alarms`` or less.
    Of fewer than 19 parts none is enough for 5 %, and the highest is taken.

    Args:
        scores: of good parts seen during the run-in; at least one.
        false_alarms: the share wanted.
    """
    ordered = sorted(scores)
    rank = math.ceil((len(ordered) + 1) * (1 - false_alarms) - 1e-9)
    return ordered[min(rank, len(ordered)) - 1]


def after_run_in(rows: Sequence[ScoreRow]) -> list[dict[str, Any]]:
    """False alarms and escapes with the threshold of a simulated run-in, per length reached."""
    seen = [row.score for row in rows if row.part == "run_in" and row.score is not None]
    answer = []
    for parts in RUN_IN_LENGTHS:
        if len(seen) >= parts:
            threshold = run_in_threshold(seen[:parts])
            answer.append({"parts": parts, "threshold": threshold, **rates(rows, threshold)})
    return answer


def under_nuisance(rows: Sequence[ScoreRow], threshold: float | None) -> list[dict[str, Any]]:
    """Ranking, and false alarms and escapes at the fitted threshold, per condition measured."""
    measured = {row.condition for row in rows}
    answer = []
    for condition in (AS_IT_IS, *CONDITIONS):
        good, bad = split(rows, condition)
        if condition in measured and good and bad:
            entry: dict[str, Any] = {"condition": condition, "image_auroc": auroc(good, bad)}
            if threshold is not None:
                entry.update(rates(rows, threshold, condition))
            answer.append(entry)
    return answer if len(answer) > 1 else []


def suitability(variety: Sequence[float], most: float, image_auroc: float) -> dict[str, Any]:
    """The verdict told from good pictures alone, and whether the bad ones bear it out."""
    typical = float(np.median(variety)) if variety else None
    called = None if typical is None else typical <= most
    truly = image_auroc >= SUITABLE_FROM_AUROC
    return {
        "variety": typical,
        "limit": most,
        "is_suitable": called,
        "truly_suitable": truly,
        "was_right": None if called is None else called == truly,
    }
