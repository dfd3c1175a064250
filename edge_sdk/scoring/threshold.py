"""Fits a threshold when only good pictures exist."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edge_sdk.errors import InputError
from edge_sdk.imaging import scale_brightness, shift_picture, tilt_brightness
from edge_sdk.protocols import ReferenceScorer
from edge_sdk.records import PatchFeatures, Threshold, UInt8Array

THRESHOLD_METHOD = "leave_one_out"
"""Name of the rule below; thresholds fitted by another one are fitted again."""
PROVISIONAL_BELOW_PICTURES = 20
"""Fewer good pictures than this cannot promise 5 false alarms per 100: 1 / (n + 1) > 0.05."""


def fit_threshold(
    scorer: ReferenceScorer,
    references: Sequence[PatchFeatures],
    views: Sequence[Sequence[PatchFeatures]],
) -> Threshold:
    """Leave one picture out, score it and its views against the others, take the highest score.

    Scoring a reference against itself would give 0, which is what makes in-sample thresholds
    lie. The views (a little light, a little shift) stand for tomorrow's good parts: four pictures
    taken in one minute resemble one another more than they resemble those.

    Args:
        scorer: fitted on all of them.
        references: the good pictures.
        views: per reference, varied copies of it.

    Returns:
        A threshold at the highest good score. By exchangeability another good part exceeds the
        highest of n with probability 1 / (n + 1), which is what it states as expected.

    Raises:
        InputError: fewer than two references, or a score that is not finite.
    """
    if len(references) < 2:
        raise InputError(
            f"threshold: leave-one-out needs at least 2 good pictures, got {len(references)}"
        )
    scores: list[float] = []
    for index, reference in enumerate(references):
        others = scorer.without(index)
        scores += [others.score(picture).image_score for picture in (reference, *views[index])]
    if not all(math.isfinite(score) for score in scores):
        raise InputError("threshold: a reference picture has a score that is not finite")
    return Threshold(
        value=max(scores),
        method=THRESHOLD_METHOD,
        good_scores=tuple(sorted(scores)),
        pictures=len(references),
        provisional=len(references) < PROVISIONAL_BELOW_PICTURES,
        expected_false_alarm_rate=1 / (len(references) + 1),
    )


def nuisance_views(pixels: UInt8Array) -> list[UInt8Array]:
    """Copies of a good picture that must still count as good.

    A lamp 15 % brighter or darker, light that comes up to 15 % more from the left or the right,
    and a part or camera 1 % of the width aside. Four pictures of one minute show none of these;
    the next shift does.

    Args:
        pixels: (H, W, 3) RGB.
    """
    step = 0.01 * pixels.shape[1]
    return [
        *(scale_brightness(pixels, gain) for gain in (0.85, 1.15)),
        *(tilt_brightness(pixels, change) for change in (-0.15, 0.15)),
        *(shift_picture(pixels, right, 0.0) for right in (-step, step)),
        *(shift_picture(pixels, 0.0, down) for down in (-step, step)),
    ]
