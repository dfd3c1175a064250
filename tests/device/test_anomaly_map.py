from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scenes import enlarge, features_of, flat, preprocessed_of

from edge_sdk.records import AnomalyResult, Box
from edge_sdk.scoring.anomaly_map import build_result

GRID = (4, 8)
FRAME = (60, 100)
CROP = Box(x=30, y=10, width=64, height=32)


def result_of(
    distances: Any,
    *,
    window: Box | None = None,
    inspected: NDArray[np.bool_] | None = None,
    blur_sigma: float = 0.0,
) -> AnomalyResult:
    prepared = preprocessed_of(flat(128), frame_size=FRAME, window=window, inspected=inspected)
    features = features_of(np.ones((32, 2)), GRID, preprocessed=prepared)
    values = np.array(distances, np.float32).ravel()
    return build_result(values, GRID, features, nearest=None, blur_sigma=blur_sigma)


def one_hot(row: int, col: int, value: float = 1.0) -> NDArray[np.float32]:
    distances = np.zeros(GRID, np.float32)
    distances[row, col] = value
    return distances


def centre_of(row: int, col: int, window: Box) -> tuple[float, float]:
    """(y, x) in frame pixels, between pixel centres."""
    y = window.y + (row + 0.5) * window.height / GRID[0] - 0.5
    x = window.x + (col + 0.5) * window.width / GRID[1] - 0.5
    return y, x


@pytest.mark.parametrize("window", [None, CROP])
@pytest.mark.parametrize(("row", "col"), [(0, 0), (1, 6), (2, 3), (3, 7)])
def test_a_hot_patch_lands_at_its_place_in_the_frame(
    window: Box | None, row: int, col: int
) -> None:
    result = result_of(one_hot(row, col), window=window)
    lies_in = window or Box(x=0, y=0, width=FRAME[1], height=FRAME[0])
    assert result.anomaly_map.shape == FRAME
    assert result.anomaly_map.dtype == np.float32
    ys, xs = np.nonzero(result.anomaly_map == result.anomaly_map.max())
    y, x = centre_of(row, col, lies_in)
    assert abs(ys.mean() - y) <= lies_in.height / GRID[0] / 2
    assert abs(xs.mean() - x) <= lies_in.width / GRID[1] / 2


@given(seed=st.integers(0, 99))
def test_the_map_is_the_enlarged_distances_inside_the_crop_and_zero_outside(seed: int) -> None:
    distances = np.random.default_rng(seed).random(GRID).astype(np.float32)
    result = result_of(distances, window=CROP)
    expected = np.zeros(FRAME)
    expected[10:42, 30:94] = enlarge(distances, (32, 64))
    assert np.abs(result.anomaly_map - expected).max() < 1e-6
    assert result.image_score == result.anomaly_map.max()


@given(
    seed=st.integers(0, 99),
    corner=st.tuples(st.integers(0, 55), st.integers(0, 95)),
    is_cropped=st.booleans(),
)
def test_the_score_is_the_hottest_pixel_that_is_inspected(
    seed: int, corner: tuple[int, int], is_cropped: bool
) -> None:
    distances = np.random.default_rng(seed).random(GRID).astype(np.float32)
    inspected = np.zeros(FRAME, bool)
    inspected[corner[0] :, corner[1] :] = True
    window = CROP if is_cropped else None
    everywhere = result_of(distances, window=window).anomaly_map
    result = result_of(distances, window=window, inspected=inspected)
    assert result.image_score == everywhere[inspected].max()
    assert np.array_equal(result.anomaly_map[inspected], everywhere[inspected])
    assert not result.anomaly_map[~inspected].any()


def test_heat_that_is_excluded_counts_neither_in_the_map_nor_in_the_score() -> None:
    inspected = np.ones(FRAME, bool)
    inspected[:, :50] = False
    distances = one_hot(1, 1, 0.9) + one_hot(2, 6, 0.2)
    result = result_of(distances, inspected=inspected)
    assert result.image_score == pytest.approx(0.2, abs=0.02)
    assert result.anomaly_map[:, :50].max() == 0


@pytest.mark.parametrize("blur_sigma", [0.0, 1.0])
@pytest.mark.parametrize("window", [None, CROP])
def test_a_patch_without_a_number_inside_makes_the_score_no_number(
    blur_sigma: float, window: Box | None
) -> None:
    distances = one_hot(2, 5, np.nan)
    inspected = np.zeros(FRAME, bool)
    inspected[20:40, 40:90] = True
    for mask in (None, inspected):
        result = result_of(distances, window=window, inspected=mask, blur_sigma=blur_sigma)
        assert np.isnan(result.image_score)


def test_a_patch_without_a_number_far_outside_does_not_stop_the_inspection() -> None:
    inspected = np.zeros(FRAME, bool)
    inspected[:, 60:] = True
    distances = one_hot(1, 0, np.nan) + one_hot(2, 7, 0.3)
    distances[1, 0] = np.nan
    result = result_of(distances, inspected=inspected)
    assert result.image_score == pytest.approx(0.3, abs=0.03)
    assert np.isfinite(result.anomaly_map).all()


def test_a_blur_spreads_a_hot_patch_over_its_neighbours() -> None:
    sharp = result_of(one_hot(2, 3))
    soft = result_of(one_hot(2, 3), blur_sigma=1.0)
    assert soft.image_score < 0.5 * sharp.image_score
    y, x = centre_of(2, 5, Box(x=0, y=0, width=FRAME[1], height=FRAME[0]))
    assert sharp.anomaly_map[round(y), round(x)] == 0
    assert soft.anomaly_map[round(y), round(x)] > 0


def test_a_map_cannot_be_changed_afterwards() -> None:
    result = result_of(one_hot(0, 0))
    with pytest.raises(ValueError, match="read-only"):
        result.anomaly_map[0, 0] = 0
