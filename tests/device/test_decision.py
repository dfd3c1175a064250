from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scenes import features_of, flat, preprocessed_of, threshold_of

from edge_sdk.decision import MAX_REGIONS, Decider, FaultLimits, fit_fault_limits
from edge_sdk.records import (
    AnomalyResult,
    Preprocessed,
    Reason,
    Region,
    Severity,
    Threshold,
    UInt8Array,
    Verdict,
)

LIMITS = FaultLimits(
    max_frame_age_seconds=3.0, black_below=16, saturated_above=250, saturated_share=0.6
)
SIZE = (64, 64)


def result_of(
    score: float,
    *,
    picture: UInt8Array | None = None,
    age_seconds: float = 0.0,
    anomaly_map: NDArray[np.float32] | None = None,
) -> AnomalyResult:
    pixels = flat(128, SIZE) if picture is None else picture
    prepared = preprocessed_of(pixels, age_seconds=age_seconds)
    return AnomalyResult(
        anomaly_map=np.full(SIZE, score, np.float32) if anomaly_map is None else anomaly_map,
        image_score=score,
        nearest=None,
        features=features_of(np.ones((1, 1)), (1, 1), preprocessed=prepared),
    )


def decider(value: float = 0.5, *, limits: FaultLimits = LIMITS, **changes: Any) -> Decider:
    return Decider(threshold_of(value, **changes), limits=limits, critical_margin=1.0)


def partly(level: int, share: float, rest: int = 128) -> UInt8Array:
    """A picture with this share of it at one level."""
    picture = flat(rest, SIZE)
    picture.reshape(-1, 3)[: round(share * SIZE[0] * SIZE[1])] = level
    return picture


@given(score=st.floats(0, 2, width=32), limit=st.floats(0.015625, 2, width=32))
def test_a_score_above_the_threshold_is_anomalous_and_any_other_normal(
    score: float, limit: float
) -> None:
    decision = decider(limit).decide(result_of(score))
    expected = Verdict.ANOMALOUS if score > limit else Verdict.NORMAL
    assert decision.verdict is expected
    assert decision.margin == pytest.approx(score / limit - 1)
    assert decision.threshold == limit
    assert decision.reason is (
        Reason.OVER_THRESHOLD if expected is Verdict.ANOMALOUS else Reason.BELOW_THRESHOLD
    )


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_a_fault(score: float) -> None:
    decision = decider().decide(result_of(score))
    assert decision.verdict is Verdict.FAULT
    assert decision.reason is Reason.NON_FINITE_SCORE
    assert decision.severity is Severity.CRITICAL
    assert decision.margin is None
    assert decision.result is not None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_against_a_threshold_that_is_not_finite_nothing_is_normal(value: float) -> None:
    for score in (0.0, 0.1, 100.0):
        assert decider(value).decide(result_of(score)).verdict is not Verdict.NORMAL


FAULTS: list[tuple[str, dict[str, Any], Reason]] = [
    ("stale", {"age_seconds": 5.0}, Reason.STALE_FRAME),
    ("black", {"picture": flat(3, SIZE)}, Reason.BLACK_FRAME),
    ("saturated", {"picture": flat(255, SIZE)}, Reason.SATURATED_FRAME),
    ("no number", {"score": math.nan}, Reason.NON_FINITE_SCORE),
]


@pytest.mark.parametrize(("name", "changes", "reason"), FAULTS, ids=[fault[0] for fault in FAULTS])
@pytest.mark.parametrize("score", [0.0, 0.1, 1.9])
def test_each_fault_is_found_whatever_the_score(
    name: str, changes: dict[str, Any], reason: Reason, score: float
) -> None:
    decision = decider().decide(result_of(**({"score": score} | changes)))
    assert (decision.verdict, decision.reason) == (Verdict.FAULT, reason), name
    assert decision.severity is Severity.CRITICAL
    assert decision.regions == ()
    assert decision.frame is not None
    assert decision.detail


# A picture cannot be black and saturated at once.
PAIRS = [pair for pair in itertools.combinations(FAULTS, 2) if pair != (FAULTS[1], FAULTS[2])]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_of_two_faults_the_one_that_is_nearer_to_the_camera_is_told(
    first: tuple[str, dict[str, Any], Reason], second: tuple[str, dict[str, Any], Reason]
) -> None:
    changes = {"score": 0.1} | first[1] | second[1]
    assert decider().decide(result_of(**changes)).reason is first[2]


def test_a_frame_just_young_enough_is_judged() -> None:
    assert decider().decide(result_of(0.1, age_seconds=2.5)).verdict is Verdict.NORMAL


@pytest.mark.parametrize(
    ("bright_share", "level", "is_fault"),
    [(0.0, 15, True), (0.0, 16, False), (0.008, 15, True), (0.02, 15, False)],
)
def test_a_picture_is_black_where_its_brightest_percent_is(
    bright_share: float, level: int, is_fault: bool
) -> None:
    picture = partly(200, bright_share, rest=level)
    decision = decider().decide(result_of(0.1, picture=picture))
    assert (decision.reason is Reason.BLACK_FRAME) is is_fault


@pytest.mark.parametrize(
    ("share", "level", "is_fault"),
    [(0.59, 250, False), (0.61, 250, True), (0.61, 249, False), (1.0, 255, True)],
)
def test_a_picture_is_saturated_where_too_much_of_it_is(
    share: float, level: int, is_fault: bool
) -> None:
    decision = decider().decide(result_of(0.1, picture=partly(level, share)))
    assert (decision.reason is Reason.SATURATED_FRAME) is is_fault


def prepared(picture: UInt8Array) -> Preprocessed:
    return preprocessed_of(picture)


def verdict_with(references: list[UInt8Array], picture: UInt8Array) -> Reason:
    limits = fit_fault_limits(LIMITS, [prepared(reference) for reference in references])
    return decider(limits=limits).decide(result_of(0.1, picture=picture)).reason


def test_a_dark_field_station_is_judged_and_a_dead_camera_there_is_not() -> None:
    good = [partly(9, 0.05, rest=2), partly(12, 0.05, rest=2)]
    for reference in good:
        assert verdict_with(good, reference) is Reason.BELOW_THRESHOLD
    assert verdict_with(good, partly(7, 0.05, rest=2)) is Reason.BELOW_THRESHOLD
    assert verdict_with(good, flat(0, SIZE)) is Reason.BLACK_FRAME
    assert verdict_with(good, flat(3, SIZE)) is Reason.BLACK_FRAME


@pytest.mark.parametrize("share", [0.5, 0.7, 0.85, 0.95])
def test_a_white_background_is_judged_and_a_picture_that_is_nothing_but_white_is_not(
    share: float,
) -> None:
    good = [partly(255, share - 0.02), partly(255, share)]
    for reference in good:
        assert verdict_with(good, reference) is Reason.BELOW_THRESHOLD
    assert verdict_with(good, partly(255, share + 0.01)) is Reason.BELOW_THRESHOLD
    assert verdict_with(good, flat(255, SIZE)) is Reason.SATURATED_FRAME


@given(
    dark=st.integers(0, 255),
    shares=st.lists(st.floats(0, 1), min_size=1, max_size=4),
    bright=st.integers(0, 255),
)
def test_no_reference_is_ever_called_black_or_saturated(
    dark: int, shares: list[float], bright: int
) -> None:
    references = [partly(bright, share, rest=dark) for share in shares]
    for reference in references:
        assert verdict_with(references, reference) is Reason.BELOW_THRESHOLD


def test_ordinary_references_leave_the_limits_as_they_were_set() -> None:
    assert fit_fault_limits(LIMITS, [prepared(flat(128, SIZE))]) == LIMITS


@pytest.mark.parametrize(
    ("score", "severity"),
    [(0.5, Severity.INFO), (0.75, Severity.WARN), (0.99, Severity.WARN), (1.0, Severity.CRITICAL)],
)
def test_an_anomaly_is_critical_from_the_critical_margin_on(
    score: float, severity: Severity
) -> None:
    assert decider(0.5).decide(result_of(score)).severity is severity


def test_the_percentile_counts_the_good_scores_below() -> None:
    good = (0.1, 0.2, 0.2, 0.4)
    for score, percent in ((0.05, 0.0), (0.2, 25.0), (0.3, 75.0), (0.4, 75.0), (0.9, 100.0)):
        decision = decider(0.4, good_scores=good).decide(result_of(score))
        assert decision.normal_percentile == percent


def test_a_given_threshold_has_no_percentile_and_is_not_provisional() -> None:
    given_by_name = Threshold(
        value=0.5,
        method="override",
        good_scores=(),
        pictures=0,
        provisional=False,
        expected_false_alarm_rate=None,
    )
    decision = Decider(given_by_name, limits=LIMITS).decide(result_of(0.7))
    assert decision.normal_percentile is None
    assert not decision.provisional


@pytest.mark.parametrize("is_provisional", [True, False])
def test_a_provisional_threshold_is_said_with_every_verdict(is_provisional: bool) -> None:
    for score in (0.1, 0.9, math.nan):
        decision = decider(provisional=is_provisional).decide(result_of(score))
        assert decision.provisional is is_provisional


def test_a_threshold_of_zero_has_no_margin_above_it() -> None:
    assert decider(0.0).decide(result_of(0.0)).verdict is Verdict.NORMAL
    decision = decider(0.0).decide(result_of(0.1))
    assert decision.verdict is Verdict.ANOMALOUS
    assert decision.margin is None
    assert decision.severity is Severity.CRITICAL


def test_regions_are_the_connected_parts_above_the_threshold_the_worst_first() -> None:
    anomaly_map = np.full(SIZE, 0.4, np.float32)
    anomaly_map[10:14, 20:26] = 0.6
    anomaly_map[12, 22] = 0.7
    anomaly_map[50, 5:8] = 0.9
    anomaly_map[51, 8] = 0.8  # touches at a corner
    decision = decider(0.5).decide(result_of(0.9, anomaly_map=anomaly_map))
    hot, warm = (float(np.float32(value)) for value in (0.9, 0.7))
    assert decision.regions == (
        Region(x=5, y=50, width=4, height=2, score=hot, area_px=4),
        Region(x=20, y=10, width=6, height=4, score=warm, area_px=24),
    )


def test_a_hotter_region_inside_the_box_of_another_does_not_lend_it_its_score() -> None:
    anomaly_map = np.zeros(SIZE, np.float32)
    anomaly_map[10:21, 10] = anomaly_map[20, 10:21] = 0.6  # an L around a spot
    anomaly_map[12, 18] = 0.9
    spot, corner = decider(0.5).decide(result_of(0.9, anomaly_map=anomaly_map)).regions
    assert (spot.x, spot.y, corner.width, corner.height) == (18, 12, 11, 11)
    assert spot.score == pytest.approx(0.9)
    assert corner.score == pytest.approx(0.6)


def test_at_most_sixteen_regions_are_told_and_they_are_the_worst() -> None:
    anomaly_map = np.zeros(SIZE, np.float32)
    spots = [(y, x) for y in range(0, 64, 10) for x in range(0, 64, 10)]
    for number, (y, x) in enumerate(spots):
        anomaly_map[y, x] = 0.6 + 0.01 * number
    decision = decider(0.5).decide(result_of(float(anomaly_map.max()), anomaly_map=anomaly_map))
    assert len(decision.regions) == MAX_REGIONS == 16
    told = [(region.y, region.x) for region in decision.regions]
    assert told == spots[: -MAX_REGIONS - 1 : -1]


def test_a_normal_picture_has_no_regions() -> None:
    assert decider(0.5).decide(result_of(0.5)).regions == ()


def test_a_fault_without_a_picture_can_be_said() -> None:
    decision = decider().fault(Reason.NO_FRAME, "camera is gone")
    assert (decision.verdict, decision.reason) == (Verdict.FAULT, Reason.NO_FRAME)
    assert (decision.frame, decision.result) == (None, None)
    assert decision.detail == "camera is gone"
