"""The rules of a run-in: who counts, who waits for a person, where the threshold comes to lie."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_sdk.metrics.false_alarms import limiting_rank, promise_at
from edge_sdk.records import Threshold

RUN_IN_METHOD = "run_in"
ODD_FROM_PARTS = 20
"""Of fewer, none can be told to be the odd one."""
ODD_SPREADS = 5.0
"""How far above the median a score is odd, in distances from median to third quartile: 3.4 standard
deviations of a normal law; one part in 60 of an exponential one. Bad parts move neither quartile
much, unless they are a quarter of all."""
KEPT_PICTURES = 32
"""Pictures of the highest scores are kept, for those may come to set the threshold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInPlan:
    """How much is to be learned."""

    parts: int
    """Good parts, 20 to 10 000."""
    false_alarms_per_100: float
    """Wanted of further good parts, above 0 to 50."""
    highest_score: float | None = None
    """What the model cuts scores off at; a threshold there would never be exceeded. None: nothing.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedPart:
    """One part of a run-in."""

    number: int
    """From 1, in the order they were judged."""
    score: float
    captured_at: str
    """UTC, ISO 8601."""
    frame_id: int | None
    part_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far a run-in is."""

    plan: RunInPlan
    kept: tuple[LearnedPart, ...]
    """Parts that count: the first ones of the plan's number that nobody rejected."""
    waiting: tuple[LearnedPart, ...]
    """Those of them that a person has to look at, the highest score first."""
    rejected: int
    threshold: Threshold | None
    """None until there are enough parts and none waits."""
    refusal: str | None = None
    """Why there is no threshold although all was learned."""

    @property
    def is_learned(self) -> bool:
        """Whether no further part is wanted."""
        return len(self.kept) >= self.plan.parts


def settle(parts: Sequence[LearnedPart], answers: Mapping[int, bool], plan: RunInPlan) -> Standing:
    """Work out where a run-in stands; the same parts and answers give the same threshold.

    Args:
        parts: in the order they were judged.
        answers: number of a part to whether a person called it good.
        plan: how many are wanted, for which rate.
    """
    good = [part for part in parts if answers.get(part.number) is not False]
    kept = tuple(good[: plan.parts])
    by_score = sorted(kept, key=lambda part: (-part.score, part.number))
    rank = limiting_rank(plan.parts, plan.false_alarms_per_100 / 100)
    is_learned = len(kept) >= plan.parts
    limit = _odd_above([part.score for part in kept])
    suspects = [
        part
        for place, part in enumerate(by_score, start=1)
        if part.score > limit or (is_learned and place <= rank)
    ]
    waiting = tuple(part for part in suspects if part.number not in answers)
    threshold, refusal = None, None
    if is_learned and not waiting:
        threshold = _fit([part.score for part in by_score], rank)
        if plan.highest_score is not None and threshold.value >= plan.highest_score:
            refusal = (
                f"good parts score up to {threshold.value:g}, where this model's scores end "
                f"({plan.highest_score:g}): no threshold could ever be exceeded"
            )
            threshold = None
    return Standing(
        plan=plan,
        kept=kept,
        waiting=waiting,
        rejected=len(parts) - len(good),
        threshold=threshold,
        refusal=refusal,
    )


def _odd_above(scores: Sequence[float]) -> float:
    if len(scores) < ODD_FROM_PARTS:
        return math.inf
    _, median, upper = statistics.quantiles(scores, n=4)
    return median + ODD_SPREADS * (upper - median)


def _fit(descending: Sequence[float], rank: int) -> Threshold:
    promise = promise_at(len(descending), rank)
    return Threshold(
        value=descending[rank - 1],
        method=RUN_IN_METHOD,
        good_scores=tuple(reversed(descending)),
        pictures=len(descending),
        provisional=False,
        expected_false_alarm_rate=promise.expected,
        false_alarm_interval=(promise.lowest, promise.highest),
    )


def worth_showing(parts: Sequence[LearnedPart], answers: Mapping[int, bool]) -> set[int]:
    """Numbers of the parts whose pictures a person may want: odd, highest, or answered."""
    limit = _odd_above([part.score for part in parts if answers.get(part.number) is not False])
    highest = sorted(parts, key=lambda part: -part.score)
    numbers = [
        part.number
        for place, part in enumerate(highest)
        if place < KEPT_PICTURES + len(answers) or part.score > limit
    ]
    return {*numbers, *answers}
