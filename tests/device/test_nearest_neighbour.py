from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes import NumpyEngine, cell_tokens, numpy_encoder
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scenes import (
    COARSE,
    DIGEST,
    FINE,
    LABEL,
    NN_PARAMETERS,
    SIDE,
    cosine_distances,
    enlarge,
    features_of,
    fixture_part,
    frame_of,
    input_spec,
    settings,
)

from edge_sdk.bundle import ScorerSpec
from edge_sdk.errors import BundleError, InputError
from edge_sdk.preprocess import Preprocessor
from edge_sdk.records import PatchFeatures, UInt8Array
from edge_sdk.scoring.nearest_neighbour import (
    NearestNeighbourFactory,
    NearestNeighbourScorer,
    NearestNeighbourSettings,
    embed,
)
from edge_sdk.scoring.selector import build_scorer_factory

PREPROCESS = Preprocessor(input_spec())
ENCODER = numpy_encoder(NumpyEngine(), DIGEST)


def features(picture: UInt8Array) -> PatchFeatures:
    return ENCODER.encode(PREPROCESS(frame_of(picture)))


def fit(pictures: list[UInt8Array], **changes: Any) -> NearestNeighbourScorer:
    factory = NearestNeighbourFactory(settings(**changes))
    return factory.fit([features(picture) for picture in pictures])


def random_features(seed: int, **changes: Any) -> PatchFeatures:
    random = np.random.default_rng(seed)
    return features_of(random.normal(size=(12, 5)), (3, 4), **changes)


GOOD = [fixture_part(seed) for seed in range(4)]
MISSING = fixture_part(99, is_complete=False)


def test_references_that_lie_still_are_compared_place_by_place() -> None:
    assert fit(GOOD).is_still


def test_the_very_same_picture_twice_lies_still() -> None:
    assert fit([GOOD[0], GOOD[0], GOOD[0]]).is_still


def test_references_of_parts_that_move_about_are_compared_anywhere() -> None:
    moved = [
        np.roll(picture, (shift_y, shift_x), axis=(0, 1))
        for picture, (shift_y, shift_x) in zip(
            GOOD, [(0, 0), (12, 8), (8, 16), (16, 20)], strict=True
        )
    ]
    assert not fit(moved).is_still


def test_one_reference_shows_nothing_of_movement() -> None:
    assert not fit(GOOD[:1]).is_still


def test_stillness_can_be_ruled_out() -> None:
    assert not fit(GOOD, stillness=0.0).is_still


def test_a_missing_part_is_seen_where_nothing_moves_and_missed_where_anything_may() -> None:
    still, anywhere = fit(GOOD), fit(GOOD, stillness=0.0)
    good = features(fixture_part(50))
    gap = features(MISSING)
    worst_good = still.score(good).image_score
    assert still.score(gap).image_score > 1000 * worst_good
    # Beside the label there is plate that looks like the gap.
    assert anywhere.score(gap).image_score < 5 * worst_good
    y, x = np.unravel_index(still.score(gap).anomaly_map.argmax(), (SIDE, SIDE))
    assert LABEL[0].start <= y < LABEL[0].stop
    assert LABEL[1].start <= x < LABEL[1].stop


def test_a_stain_is_seen_in_both_ways() -> None:
    stained = fixture_part(51)
    stained[4:12, 20:28] = (30, 250, 40)
    for scorer in (fit(GOOD), fit(GOOD, stillness=0.0)):
        worst_good = scorer.score(features(fixture_part(52))).image_score
        result = scorer.score(features(stained))
        assert result.image_score > 10 * worst_good
        y, x = np.unravel_index(result.anomaly_map.argmax(), (SIDE, SIDE))
        assert 4 <= y < 12
        assert 20 <= x < 28


def test_where_a_patch_found_its_like_is_told() -> None:
    pictures = [random_features(seed) for seed in range(3)]
    scorer = NearestNeighbourFactory(settings(stillness=0.0)).fit(pictures)
    rows = np.array(pictures[2].tokens[FINE].rows)[::-1]
    result = scorer.score(features_of(rows, (3, 4)))
    assert result.nearest is not None
    assert result.nearest.reference.tolist() == [2] * 12
    assert result.nearest.patch.tolist() == list(range(11, -1, -1))
    assert result.nearest.grid == (3, 4)
    assert np.abs(result.nearest.distance).max() < 1e-6


@given(seed=st.integers(0, 999), references=st.integers(1, 4))
def test_the_score_of_a_picture_is_what_a_loop_makes_of_it(seed: int, references: int) -> None:
    pictures = [random_features(seed + number) for number in range(references)]
    query = random_features(seed + 5000)
    scorer = NearestNeighbourFactory(settings(stillness=0.0)).fit(pictures)
    stored = np.concatenate([picture.tokens[FINE].rows for picture in pictures])
    nearest = cosine_distances(query.tokens[FINE].rows, stored).min(axis=1)
    expected = enlarge(nearest.reshape(3, 4), (SIDE, SIDE))
    result = scorer.score(query)
    assert np.abs(result.anomaly_map - expected).max() < 1e-5
    assert result.image_score == pytest.approx(expected.max(), abs=1e-5)


def test_a_reference_is_at_distance_zero_of_itself_and_not_without_it() -> None:
    scorer = fit(GOOD)
    itself = features(GOOD[1])
    assert 0 <= scorer.score(itself).image_score < 1e-6
    assert scorer.without(1).score(itself).image_score > 1e-5
    assert scorer.without(0).score(itself).image_score < 1e-6
    assert scorer.without(1).is_still


def hand_joined(picture: PatchFeatures) -> NDArray[np.float64]:
    """What ``embed`` says it does, for a neighbourhood of 1."""
    parts = []
    for key in (FINE, COARSE):
        layer = picture.tokens[key]
        rows = np.asarray(layer.rows, np.float64)
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        parts.append(enlarge(rows.reshape(*layer.grid, -1), (8, 8)).reshape(64, -1))
    joined = np.concatenate(parts, axis=1)
    return np.asarray(joined / np.linalg.norm(joined, axis=1, keepdims=True))


def test_layers_are_joined_on_the_finest_grid_each_with_the_same_weight() -> None:
    picture = features(GOOD[0])
    embedding = embed(picture, settings(tokens=(FINE, COARSE)))
    assert embedding.grid == (8, 8)
    assert np.abs(embedding.rows - hand_joined(picture)).max() < 1e-5


@pytest.mark.parametrize("dim", [112, 320])
def test_layers_of_a_real_backbones_width_are_joined(dim: int) -> None:
    random = np.random.default_rng(0)
    picture = features_of(
        random.normal(size=(16, 40)), (4, 4), layer_2=(random.normal(size=(4, dim)), (2, 2))
    )
    embedding = embed(picture, settings(tokens=(FINE, COARSE)))
    assert embedding.rows.shape == (16, 40 + dim)
    assert np.abs(np.linalg.norm(embedding.rows, axis=1) - 1).max() < 1e-6


def test_a_layer_that_is_scaled_up_says_no_more_than_before() -> None:
    plain = features(GOOD[0])
    fine, coarse = plain.tokens[FINE], plain.tokens[COARSE]
    scaled = features_of(fine.rows, fine.grid, layer_2=(1000 * coarse.rows, coarse.grid))
    joined = settings(tokens=(FINE, COARSE))
    assert np.abs(embed(plain, joined).rows - embed(scaled, joined).rows).max() < 1e-5


def test_neighbours_are_averaged_before_a_patch_is_compared() -> None:
    rows = np.zeros((9, 2))
    rows[:, 0] = 1
    rows[4] = (0, 9)
    embedding = embed(features_of(rows, (3, 3)), settings(neighbourhood=3))
    corner = np.array([3 / 4, 9 / 4])
    assert embedding.rows[0] == pytest.approx(corner / np.linalg.norm(corner))
    centre = np.array([8 / 9, 9 / 9])
    assert embedding.rows[4] == pytest.approx(centre / np.linalg.norm(centre))


def test_features_of_another_extractor_are_refused() -> None:
    scorer = NearestNeighbourFactory(settings()).fit([random_features(0), random_features(1)])
    other = "sha256:" + "0e" * 32
    with pytest.raises(InputError, match=f"encoded by {DIGEST}, this picture by {other}"):
        scorer.score(random_features(2, extractor_id=other))


def test_references_of_several_extractors_are_refused() -> None:
    other = "sha256:" + "0e" * 32
    pictures = [random_features(0), random_features(1, extractor_id=other)]
    with pytest.raises(InputError, match="encoded by one extractor, got"):
        NearestNeighbourFactory(settings()).fit(pictures)


def test_no_references_are_refused() -> None:
    with pytest.raises(InputError, match="got none"):
        NearestNeighbourFactory(settings()).fit([])


def test_features_without_the_layer_that_is_compared_are_refused() -> None:
    with pytest.raises(InputError, match=r"expected tokens \('conv', 2\), got \[\('conv', 1\)\]"):
        NearestNeighbourFactory(settings(tokens=(COARSE,))).fit([random_features(0)])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("stillness", [0.0, 0.05])
@pytest.mark.parametrize("neighbourhood", [1, 3])
def test_a_picture_with_a_token_that_is_not_finite_has_no_score(
    value: float, stillness: float, neighbourhood: int
) -> None:
    scorer = fit(GOOD, stillness=stillness, neighbourhood=neighbourhood, blur_sigma=0.5)
    tokens = cell_tokens(GOOD[0], 4)
    tokens[17, 3] = value
    broken = features_of(tokens, (8, 8))
    assert np.isnan(scorer.score(broken).image_score)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_reference_with_a_token_that_is_not_finite_is_refused(value: float) -> None:
    tokens = cell_tokens(GOOD[0], 4)
    tokens[17, 3] = value
    with pytest.raises(InputError, match="not finite"):
        NearestNeighbourFactory(settings()).fit([features(GOOD[1]), features_of(tokens, (8, 8))])


def scorer_spec(**changes: Any) -> ScorerSpec:
    parameters = {key: value for key, value in (NN_PARAMETERS | changes).items() if value != ()}
    parameters["tokens"] = tuple(parameters.get("tokens", ()))
    return ScorerSpec(name="nearest_neighbour", parameters=parameters)


def test_the_manifest_says_how_to_score() -> None:
    spec = scorer_spec(tokens=("conv:2", "vv:24"), neighbourhood=3, blur_sigma=1.5)
    assert NearestNeighbourSettings.from_spec(spec) == NearestNeighbourSettings(
        tokens=(("conv", 2), ("vv", 24)),
        neighbourhood=3,
        blur_sigma=1.5,
        reach=0.25,
        stillness=0.05,
    )
    assert build_scorer_factory(spec).name == "nearest_neighbour"


@pytest.mark.parametrize(
    "changes",
    [
        {"neighbourhood": 2},
        {"neighbourhood": 0},
        {"neighbourhood": "wide"},
        {"neighbourhood": ()},
        {"tokens": ()},
        {"tokens": ("conv",)},
        {"tokens": ("conv:x",)},
        {"blur_sigma": None},
        {"reach": ()},
        {"colour": 1},
    ],
)
def test_parameters_that_make_no_sense_are_refused_with_the_scorers_name(
    changes: dict[str, Any],
) -> None:
    with pytest.raises(BundleError, match="scorer nearest_neighbour"):
        build_scorer_factory(scorer_spec(**changes))


def test_a_scorer_that_this_runtime_lacks_is_refused() -> None:
    with pytest.raises(BundleError, match="no scorer 'crystal_ball'"):
        build_scorer_factory(ScorerSpec(name="crystal_ball"))
