from __future__ import annotations

import numpy as np
import pytest
from scenes import frame_of

from edge_sdk.imaging import to_rgb
from edge_sdk.overlay import cut_around, draw_outline, draw_overlay, find_match
from edge_sdk.records import (
    AnomalyResult,
    Box,
    Decision,
    FloatArray,
    Geometry,
    Nearest,
    PatchFeatures,
    Preprocessed,
    Reason,
    Region,
    Severity,
    UInt8Array,
    Verdict,
)

FRAME_SIZE = (40, 60)
WINDOW = Box(x=20, y=0, width=40, height=40)
GRID = (4, 4)
"""Patches of 10 pixels."""


def noise(height: int, width: int, channels: int = 3, *, seed: int = 0) -> UInt8Array:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def judged(anomaly_map: FloatArray, *regions: Region, nearest: Nearest | None) -> Decision:
    """A decision on a frame whose right part is inspected."""
    geometry = Geometry(frame_size=FRAME_SIZE, window=WINDOW, inspected=None)
    frame = frame_of(noise(*FRAME_SIZE))
    preprocessed = Preprocessed(
        tensor=np.zeros((1, 8, 8, 3), np.uint8), frame=frame, geometry=geometry
    )
    features = PatchFeatures(
        tokens={}, class_token=None, extractor_id="test", preprocessed=preprocessed
    )
    result = AnomalyResult(
        anomaly_map=anomaly_map,
        image_score=float(anomaly_map.max()),
        nearest=nearest,
        features=features,
    )
    return Decision(
        verdict=Verdict.ANOMALOUS,
        reason=Reason.OVER_THRESHOLD,
        severity=Severity.WARN,
        threshold=0.5,
        provisional=False,
        margin=1.0,
        normal_percentile=None,
        regions=regions,
        detail="test",
        frame=frame,
        result=result,
    )


def matched(patch: int, reference: int, reference_patch: int, distance: float) -> Nearest:
    """Every patch matched with patch 0 of picture 0, but one."""
    references, patches = np.zeros(16, np.int32), np.zeros(16, np.int32)
    distances = np.zeros(16, np.float32)
    references[patch], patches[patch], distances[patch] = reference, reference_patch, distance
    return Nearest(reference=references, patch=patches, distance=distances, grid=GRID)


def test_the_match_is_of_the_patch_under_the_highest_value_of_the_map() -> None:
    anomaly_map = np.zeros(FRAME_SIZE, np.float32)
    anomaly_map[27, 44] = 0.9  # row 2, column 2 of the window's patches
    decision = judged(anomaly_map, nearest=matched(10, 3, 7, 0.8))

    match = find_match(decision)

    assert match is not None
    assert match.place_px == (44, 27)
    assert match.reference == 3
    assert match.distance == pytest.approx(0.8)
    # Patch 7 is row 1, column 3: its middle lies at 15 down, 20 + 35 to the right.
    assert match.reference_place == pytest.approx((55 / 60, 15 / 40))
    assert match.patch_size == pytest.approx((10 / 60, 10 / 40))


def test_of_several_regions_the_worst_is_matched_even_beside_a_higher_speck() -> None:
    anomaly_map = np.zeros(FRAME_SIZE, np.float32)
    anomaly_map[5, 25] = 0.95  # outside of what counts as a region
    anomaly_map[31:35, 51:55] = 0.9
    region = Region(x=51, y=31, width=4, height=4, score=0.9, area_px=16)
    decision = judged(anomaly_map, region, nearest=matched(15, 1, 15, 0.7))

    match = find_match(decision)

    assert match is not None
    assert match.place_px == (51, 31)
    assert match.reference == 1


def test_there_is_no_match_where_nothing_was_compared_or_the_map_is_not_finite() -> None:
    anomaly_map = np.ones(FRAME_SIZE, np.float32)
    assert find_match(judged(anomaly_map, nearest=None)) is None
    anomaly_map = np.full(FRAME_SIZE, np.nan, np.float32)
    assert find_match(judged(anomaly_map, nearest=matched(0, 0, 0, 0.0))) is None


def test_what_is_cut_at_the_edge_is_moved_inside() -> None:
    pixels = noise(40, 60)
    for place, corner in {(0.5, 0.5): (20, 10), (0.0, 0.0): (0, 0), (1.0, 1.0): (40, 20)}.items():
        part, (left, top) = cut_around(pixels, place, (1 / 3, 0.5))
        assert (left, top) == corner
        assert np.array_equal(part, pixels[top : top + 20, left : left + 20])


def test_of_a_tiny_picture_all_is_cut() -> None:
    part, corner = cut_around(noise(5, 60), (0.5, 0.5), (0.01, 0.01))
    assert part.shape == (5, 8, 3)
    assert corner == (26, 0)


def test_an_outline_follows_the_edge_of_a_mask() -> None:
    black = np.zeros((20, 30, 3), np.uint8)
    mask = np.zeros((20, 30), bool)
    mask[5:12, 8:20] = True
    drawn = draw_outline(black, mask, (0, 255, 120)).any(axis=2)
    inside = np.zeros_like(mask)
    inside[6:11, 9:19] = True
    assert np.array_equal(drawn, mask & ~inside)
    assert not black.any()


@pytest.mark.parametrize("channels", [1, 3])
def test_an_overlay_leaves_cold_pixels_as_they_are_and_colours_hot_ones(channels: int) -> None:
    pixels = noise(20, 30, channels)
    before = pixels.copy()
    anomaly_map = np.full((20, 30), 0.49, np.float32)
    anomaly_map[5:9, 10:15] = 2.0
    picture = draw_overlay(pixels, anomaly_map, 1.0, [])
    is_hot = anomaly_map > 1
    assert np.array_equal(picture[~is_hot], to_rgb(before)[~is_hot])
    changed = (picture != to_rgb(before)).any(axis=2)
    assert changed[is_hot].all()
    outline = picture[5, 10:15]
    assert (outline == 255).all()
    assert np.array_equal(pixels, before)
    assert not np.shares_memory(picture, pixels)


def test_an_overlay_frames_the_boxes() -> None:
    black = np.zeros((20, 30, 3), np.uint8)
    box = Box(x=8, y=4, width=10, height=6)
    picture = draw_overlay(black, np.zeros((20, 30), np.float32), 1.0, [box])
    ys, xs = np.nonzero(picture.any(axis=2))
    assert abs(int(ys.min()) - 4) <= 1
    assert abs(int(ys.max()) - 9) <= 1
    assert abs(int(xs.min()) - 8) <= 1
    assert abs(int(xs.max()) - 17) <= 1
    assert not picture[7, 13].any()


def test_an_overlay_at_a_threshold_of_zero_shows_everything_above_it() -> None:
    anomaly_map = np.zeros((8, 8), np.float32)
    anomaly_map[2:5, 2:5] = 1e-6
    picture = draw_overlay(np.zeros((8, 8, 3), np.uint8), anomaly_map, 0.0, [])
    assert np.array_equal(picture.any(axis=2), anomaly_map > 0)
