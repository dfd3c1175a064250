from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from fakes import NumpyEngine, numpy_encoder
from hypothesis import given
from hypothesis import strategies as st
from scenes import DIGEST, features_of, fixture_part, frame_of, input_spec, settings

from edge_sdk.errors import InputError
from edge_sdk.preprocess import Preprocessor
from edge_sdk.records import AnomalyResult, PatchFeatures, UInt8Array
from edge_sdk.scoring.nearest_neighbour import NearestNeighbourFactory
from edge_sdk.scoring.threshold import fit_threshold, nuisance_views


def marked(number: float) -> PatchFeatures:
    """Features whose only token is a number, by which a scorer below knows them."""
    return features_of([[number]], (1, 1))


class ScoreByNumber:
    """Scores a picture with its number; against itself, with a score that gives it away."""

    def __init__(self, left_out: int | None = None) -> None:
        self._left_out = left_out
        self.asked: list[tuple[int, float]] = []

    def without(self, reference: int) -> ScoreByNumber:
        other = ScoreByNumber(reference)
        other.asked = self.asked
        return other

    def score(self, features: PatchFeatures) -> AnomalyResult:
        assert self._left_out is not None, "scored against all references, itself among them"
        number = float(features.tokens["conv", 1].rows[0, 0])
        self.asked.append((self._left_out, number))
        return AnomalyResult(
            anomaly_map=np.full((2, 2), number, np.float32),
            image_score=number,
            nearest=None,
            features=features,
        )


def test_every_picture_and_its_views_are_scored_without_that_picture() -> None:
    scorer = ScoreByNumber()
    references = [marked(0), marked(10), marked(20)]
    views = [[marked(1), marked(2)], [marked(11)], []]
    fit_threshold(scorer, references, views)
    assert scorer.asked == [(0, 0), (0, 1), (0, 2), (1, 10), (1, 11), (2, 20)]


@given(
    st.lists(st.lists(st.floats(0, 2, width=32), min_size=1, max_size=4), min_size=2, max_size=25)
)
def test_the_threshold_is_the_highest_of_all_good_scores(scores: list[list[float]]) -> None:
    references = [marked(first) for first, *_ in scores]
    views = [[marked(other) for other in others] for _, *others in scores]
    threshold = fit_threshold(ScoreByNumber(), references, views)
    every = sorted(score for row in scores for score in row)
    assert threshold.value == every[-1]
    assert list(threshold.good_scores) == every
    assert threshold.pictures == len(scores)
    assert threshold.method == "leave_one_out"
    assert threshold.expected_false_alarm_rate == pytest.approx(1 / (len(scores) + 1))


@pytest.mark.parametrize(("count", "is_provisional"), [(2, True), (19, True), (20, False)])
def test_a_threshold_is_provisional_below_twenty_pictures(count: int, is_provisional: bool) -> None:
    references = [marked(0.1 * number) for number in range(count)]
    threshold = fit_threshold(ScoreByNumber(), references, [[]] * count)
    assert threshold.provisional is is_provisional


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_pictures_are_refused(count: int) -> None:
    with pytest.raises(InputError, match=f"at least 2 good pictures, got {count}"):
        fit_threshold(ScoreByNumber(), [marked(1)] * count, [[]] * count)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("is_in_a_view", [True, False])
def test_a_good_picture_without_a_finite_score_is_refused(value: float, is_in_a_view: bool) -> None:
    references = [marked(0.1), marked(0.2 if is_in_a_view else value)]
    views = [[marked(value)] if is_in_a_view else [], []]
    with pytest.raises(InputError, match="not finite"):
        fit_threshold(ScoreByNumber(), references, views)


def encoded(picture: UInt8Array) -> PatchFeatures:
    return numpy_encoder(NumpyEngine(), DIGEST).encode(
        Preprocessor(input_spec())(frame_of(picture))
    )


def real_threshold(pictures: Sequence[UInt8Array], *, has_views: bool) -> float:
    references = [encoded(picture) for picture in pictures]
    views = [
        [encoded(view) for view in nuisance_views(picture)] if has_views else []
        for picture in pictures
    ]
    scorer = NearestNeighbourFactory(settings()).fit(references)
    return fit_threshold(scorer, references, views).value


def test_good_parts_in_another_light_or_set_down_aside_stay_below_the_threshold() -> None:
    pictures = [fixture_part(seed) for seed in range(4)]
    plain = real_threshold(pictures, has_views=False)
    varied = real_threshold(pictures, has_views=True)
    scorer = NearestNeighbourFactory(settings()).fit([encoded(picture) for picture in pictures])
    tomorrow = [
        scorer.score(encoded(view)).image_score for view in nuisance_views(fixture_part(77))
    ]
    assert 0 < plain < varied
    assert max(tomorrow) > plain
    assert max(tomorrow) < 1.2 * varied


def test_views_are_brighter_darker_lit_from_one_side_and_moved_to_all_four_sides() -> None:
    picture = np.full((40, 500, 3), 100, np.uint8)
    picture[20, 250] = 200
    darker, brighter, from_right, from_left, *moved = nuisance_views(picture)
    assert [int(view[0, 0, 0]) for view in (darker, brighter)] == [85, 115]
    assert [int(from_left[0, x, 0]) for x in (0, 499)] == [85, 115]
    assert [int(from_right[0, x, 0]) for x in (0, 499)] == [115, 85]
    places = [np.unravel_index(view[:, :, 0].argmax(), (40, 500)) for view in moved]
    assert [(int(y), int(x)) for y, x in places] == [(20, 245), (20, 255), (15, 250), (25, 250)]
    assert all(view.shape == picture.shape and view.dtype == np.uint8 for view in moved)
