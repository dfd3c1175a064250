"""From what size on a station sees defects, and what it says when it does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from runtime_fakes import CellEncoder, make_camera, make_pipeline

from edge_sdk.decision import Decider, FaultLimits
from edge_sdk.defects import KINDS, draw_defect
from edge_sdk.records import Threshold
from edge_sdk.smallest_defect import SizeResult, measure_smallest_defect, seen_from


def result(size_px: int, found: int) -> SizeResult:
    return SizeResult(size_px=size_px, found=found, of=10, by_kind={"stain": (found, 10)})


@pytest.mark.parametrize(
    ("found", "smallest"),
    [((0, 9, 10), 8), ((10, 5, 10), 16), ((9, 9, 9), 4), ((10, 10, 8), None)],
)
def test_a_size_counts_as_seen_only_where_all_larger_ones_are(
    found: tuple[int, ...], smallest: int | None
) -> None:
    results = [result(size, n) for size, n in zip((4, 8, 16), found, strict=True)]
    assert seen_from(results) == smallest


@pytest.mark.parametrize("kind", KINDS)
def test_a_drawn_defect_changes_its_place_and_nothing_else(kind: str) -> None:
    picture = np.random.default_rng(1).integers(60, 180, (240, 320, 3)).astype(np.uint8)
    spoilt, mask = draw_defect(picture, kind, (100, 80), 24, np.random.default_rng(2))  # type: ignore[arg-type]  # one of KINDS
    changed = (spoilt != picture).any(axis=2)
    assert mask.any()
    assert changed[mask].mean() > 0.9
    ys, xs = np.nonzero(changed)
    assert xs.min() >= 96
    assert xs.max() <= 128
    assert ys.min() >= 52
    assert ys.max() <= 108


def test_a_lower_threshold_sees_more_and_a_hopeless_one_nothing(tmp_path: Path) -> None:
    pipeline = make_pipeline(tmp_path, make_camera(), CellEncoder())
    found = []
    for value in (1e-7, 0.05, 1.9):
        pipeline.decider = Decider(
            Threshold(
                value=value,
                method="override",
                good_scores=(),
                pictures=0,
                provisional=False,
                expected_false_alarm_rate=None,
            ),
            limits=FaultLimits(),
        )
        found.append(measure_smallest_defect(pipeline, must_see_px=16))
    sums = [sum(size.found for size in answer.sizes) for answer in found]
    assert sums[0] > sums[1] >= sums[2] == 0
    assert not found[2].is_suitable
    assert found[2].seen_from_px is None
    assert [size.size_px for size in found[0].sizes] == [4, 6, 8, 12, 16]
    assert measure_smallest_defect(pipeline, must_see_px=16) == found[2], "the same every time"
