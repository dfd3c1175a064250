"""Every figure against an independent program: brute force here, golden arrays where present."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk.errors import InputError
from edge_sdk.metrics import (
    DEFINITIONS,
    PixelTally,
    aupimo,
    aupro,
    aupro_200_steps,
    image_figures,
    overkill_at,
    pixel_figures,
    published,
    severity_concordance,
    share_interval,
)
from edge_sdk.metrics.overlap import overlap_points
from edge_sdk.metrics.pixels import PixelCounts

RNG = np.random.default_rng(7)
NAMES = {
    "image_auroc": "I-AUROC",
    "image_ap": "I-AP",
    "image_f1_max": "I-F1max",
    "pixel_auroc": "P-AUROC",
    "pixel_ap": "P-AP",
    "pixel_f1_max": "P-F1max",
    "aupro": "P-AUPRO",
}


@pytest.fixture(scope="session")
def goldens(shared_data: Path) -> Path:
    folder = shared_data.parent / "goldens"
    if not folder.is_dir():
        pytest.skip(f"no golden arrays: {folder} is absent")
    return folder


def tallied(maps: np.ndarray, masks: np.ndarray, **options: int) -> PixelCounts:
    tally = PixelTally(**options)
    for anomaly_map, mask in zip(maps, masks, strict=True):
        tally.add(anomaly_map, mask.astype(bool))
    return tally.counts()


@pytest.mark.parametrize("case", ["plain", "ties", "outside01"])
def test_the_published_definition_gives_the_published_evaluators_numbers(
    goldens: Path, case: str
) -> None:
    expected = json.loads((goldens / "adaptclip" / "metrics.json").read_text())[case]
    arrays = np.load(goldens / "adaptclip" / "metrics.npz")
    scores, labels = arrays[f"{case}_scores"], arrays["gt_labels"]
    counts = tallied(arrays[f"{case}_maps"], arrays["gt_masks"])
    figures = {
        **image_figures(scores, labels, "adaptclip"),
        **pixel_figures(counts, "adaptclip"),
    }
    for ours, theirs in NAMES.items():
        assert figures[ours] == pytest.approx(expected[theirs], abs=1e-6), ours
    views = published.sample_maxima(scores, labels, list(arrays["sample_ids"]))
    for name, (values, truth) in {"I": (scores, labels), "S": views}.items():
        assert published.auroc(values, truth) == pytest.approx(expected[f"{name}-AUROC"], abs=1e-6)
        assert published.aupr(values, truth) == pytest.approx(expected[f"{name}-AP"], abs=1e-6)
        assert published.f1_max(values, truth)[0] == pytest.approx(
            expected[f"{name}-F1max"], abs=1e-6
        )
        for percent in (2, 5, 10):
            assert published.overkill(values, truth, percent) == pytest.approx(
                expected[f"{name}-Overkill@{percent}"], abs=1e-6
            )
    threshold = published.pixel_f1_max(counts)[1]
    assert threshold == pytest.approx(expected["P-F1max_threshold"], abs=1e-6)
    rate, overlap = (values[::10] for values in published.aupro_curve(counts))
    steps = len(arrays[f"{case}_aupro_curve_fpr"])
    assert rate[:steps] == pytest.approx(arrays[f"{case}_aupro_curve_fpr"], abs=2e-4)
    assert overlap[:steps] == pytest.approx(arrays[f"{case}_aupro_curve_pro"], abs=2e-4)
    # scikit-learn's figures of the same case are the other definition's.
    standard = {**image_figures(scores, labels, "standard"), **pixel_figures(counts, "standard")}
    for figure, prefix in (("image_ap", "I"), ("pixel_ap", "P")):
        theirs = expected[f"_sklearn_{prefix}-average_precision(for contrast)"]
        assert standard[figure] == pytest.approx(theirs, abs=1e-9)


def test_regions_are_those_of_the_published_evaluator(goldens: Path) -> None:
    arrays = np.load(goldens / "adaptclip" / "metrics.npz")
    counts = tallied(arrays["plain_maps"], arrays["gt_masks"])
    assert len(counts.regions) == int(arrays["components_kornia_count"])
    sizes = np.bincount(arrays["components_cpu"].ravel())[1:]
    assert sorted(len(region) for region in counts.regions) == sorted(sizes)


def test_overlap_agrees_with_the_exact_and_the_200_step_programs(goldens: Path) -> None:
    arrays = np.load(goldens / "systems" / "aupro.npz")
    counts = tallied(arrays["anomaly_maps"], arrays["masks"])
    for limit in (0.05, 0.3, 1.0):
        expected = float(arrays[f"exact_fpr{limit}"])
        assert aupro(counts, limit) == pytest.approx(expected, abs=1e-6)
    for limit in (0.05, 0.3):
        expected = float(arrays[f"step200_fpr{limit}"])
        assert aupro_200_steps(counts, limit) == pytest.approx(expected, abs=1e-9)
    rate, overlap = overlap_points(counts)
    assert rate == pytest.approx(arrays["exact_curve_fpr"], abs=1e-6)
    assert overlap == pytest.approx(arrays["exact_curve_pro"], abs=1e-6)
    # 1000 strips instead of every score: close, and not the same.
    assert aupro(counts) == pytest.approx(arrays["adeval_auroc_aupr_aupro"][2], abs=1e-4)
    figures = pixel_figures(counts, "standard")
    found = [figures[name] for name in ("pixel_auroc", "pixel_f1_max", "pixel_ap")]
    assert found == pytest.approx(arrays["pixel_auroc_f1max_ap_aupro"][:3], abs=1e-9)


def test_aupimo_agrees_with_its_authors_program(goldens: Path) -> None:
    arrays = np.load(goldens / "systems" / "aupimo.npz")
    counts = tallied(arrays["anomaly_maps"], arrays["masks"])
    for name in ("wide", "mid"):
        low, high = (float(bound) for bound in arrays[f"{name}_fpr_bounds"])
        found = aupimo(counts, (low, high), int(arrays[f"{name}_num_threshs"]))
        assert found.points == int(arrays[f"{name}_num_points"])
        assert found.per_picture == pytest.approx(arrays[f"{name}_aupimo"], abs=1e-9, nan_ok=True)
    case = np.load(goldens / "adaptclip" / "metrics.npz")
    found = aupimo(tallied(case["plain_maps"], case["gt_masks"]), (1e-3, 1e-1), 5000)
    assert found.per_picture == pytest.approx(case["plain_aupimo_per_image"], abs=1e-9, nan_ok=True)


def sample_pictures(count: int = 8, side: int = 30) -> tuple[np.ndarray, np.ndarray]:
    masks = np.zeros((count, side, side), bool)
    masks[0, 3:9, 4:12] = masks[2, side - 5 :, 5:9] = masks[2, 1:3, 1:3] = masks[3, 9, 9] = True
    maps = RNG.gamma(2.0, 0.1, masks.shape) + 0.2 * masks
    return maps.astype(np.float32).round(2), masks


def test_pixel_figures_are_scikit_learns() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    maps, masks = sample_pictures()
    figures = pixel_figures(tallied(maps, masks), "standard")
    flat, truth = maps.ravel(), masks.ravel()
    precision, recall, _ = sklearn.precision_recall_curve(truth, flat)
    best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
    assert figures["pixel_auroc"] == pytest.approx(sklearn.roc_auc_score(truth, flat))
    assert figures["pixel_ap"] == pytest.approx(sklearn.average_precision_score(truth, flat))
    assert figures["pixel_f1_max"] == pytest.approx(best)


def test_overlap_is_what_thresholding_every_score_by_hand_gives() -> None:
    maps, masks = sample_pictures(4, 12)
    regions = [(0, slice(3, 9), slice(4, 12)), (1, slice(0, 3), slice(0, 3))]
    masks[:] = False
    for picture, down, right in regions:
        masks[picture, down, right] = True
    rate, overlap = [0.0], [0.0]
    for cut in np.unique(maps)[::-1]:
        called = maps >= cut
        rate.append(float(called[~masks].mean()))
        overlap.append(float(np.mean([called[p, d, r].mean() for p, d, r in regions])))
    grid = np.linspace(0, 0.3, 300_001)
    area = float(np.interp(grid, rate, overlap).mean())
    assert aupro(tallied(maps, masks)) == pytest.approx(area, abs=1e-4)


def test_coarsened_counts_change_no_figure_that_anyone_would_notice() -> None:
    masks = np.zeros((6, 60, 60), bool)
    masks[0, 3:19, 4:22] = masks[3, 30:41, 5:19] = True
    maps = (RNG.gamma(2.0, 0.1, masks.shape) + 0.2 * masks).astype(np.float32)
    exact, coarse = tallied(maps, masks), tallied(maps, masks, max_distinct=6000)
    assert exact.dropped_bits == 0 < coarse.dropped_bits
    assert len(coarse.values) <= 6000
    for definition in DEFINITIONS:
        ours, theirs = pixel_figures(coarse, definition), pixel_figures(exact, definition)
        for name in ("pixel_auroc", "pixel_ap", "aupro"):
            assert ours[name] == pytest.approx(theirs[name], abs=2e-3), (definition, name)


def test_the_order_of_pictures_and_how_often_they_are_merged_do_not_matter() -> None:
    maps, masks = sample_pictures()
    order = RNG.permutation(len(maps))
    one, other = tallied(maps, masks), tallied(maps[order], masks[order], max_distinct=500)
    assert other.dropped_bits == 0
    assert np.array_equal(one.values, other.values)
    assert np.array_equal(one.counts, other.counts)
    assert one.counts.sum() == (~masks).sum()


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_every_figure_carries_its_definition(definition: Any) -> None:
    maps, masks = sample_pictures()
    scores, labels = maps.reshape(8, -1).max(axis=1), np.any(masks.reshape(8, -1), axis=1)
    figures = {
        **image_figures(scores, labels, definition),
        **pixel_figures(tallied(maps, masks), definition),
    }
    assert set(figures) == set(DEFINITIONS[definition])


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_equal_scores_everywhere_rank_nothing(definition: Any) -> None:
    figures = image_figures(np.full(6, 0.5), np.array([1, 0, 0, 1, 0, 0]), definition)
    assert figures["image_auroc"] == 0.5
    maps, masks = sample_pictures()
    flat = pixel_figures(tallied(np.full_like(maps, 0.5), masks), definition)
    assert flat["pixel_auroc"] == 0.5
    assert flat["aupimo"] is None


def test_a_map_with_a_nan_or_a_mask_of_another_size_names_the_picture() -> None:
    tally = PixelTally()
    broken = np.zeros((4, 4), np.float32)
    broken[1, 1] = np.nan
    with pytest.raises(InputError, match=r"Teil 7 ü\.png: its map has values that are not finite"):
        tally.add(broken, None, name="Teil 7 ü.png")
    with pytest.raises(InputError, match=r"x\.png: expected a mask of \(4, 4\).*got \(4, 5\)"):
        tally.add(np.zeros((4, 4), np.float32), np.ones((4, 5), bool), name="x.png")


def test_pixel_figures_without_a_mask_or_without_a_picture_are_an_error() -> None:
    with pytest.raises(InputError, match="expected maps, got none"):
        PixelTally().counts()
    maps, masks = sample_pictures()
    with pytest.raises(InputError, match="no picture has a mask"):
        pixel_figures(tallied(maps, np.zeros_like(masks)), "standard")
    with pytest.raises(InputError, match="good and of bad"):
        pixel_figures(tallied(maps, np.ones_like(masks)), "standard")


def test_concordance_is_what_counting_pairs_gives() -> None:
    stats = pytest.importorskip("scipy.stats")
    scores = RNG.normal(size=60).round(1)
    levels = RNG.integers(0, 4, 60)
    good = ties = pairs = 0
    for i in range(60):
        for j in range(60):
            if levels[i] > levels[j]:
                pairs += 1
                good += scores[i] > scores[j]
                ties += scores[i] == scores[j]
    found = severity_concordance(list(scores), list(levels))
    assert found.index == pytest.approx((good + ties / 2) / pairs)
    assert found.kendall_tau_b == pytest.approx(stats.kendalltau(scores, levels).statistic)
    with pytest.raises(InputError, match="two levels"):
        severity_concordance([0.1, 0.2], [1, 1])


def test_overkill_is_at_the_highest_threshold_that_lets_few_enough_escape() -> None:
    good, bad = [0.1, 0.2, 0.3, 0.4], [0.15, 0.35, 0.5, 0.6]
    assert overkill_at(good, bad, 0.0) == 0.75
    assert overkill_at(good, bad, 0.25) == 0.25
    assert overkill_at(good, bad, 0.5) == 0.0
    assert overkill_at(good, bad, 1.0) == 0.0


def test_an_interval_says_something_even_where_nothing_was_seen() -> None:
    low, high = share_interval(0, 30)
    assert low == 0
    assert high == pytest.approx(0.1135, abs=1e-3)
    low, high = share_interval(15, 30)
    assert (low, high) == pytest.approx((0.3315, 0.6685), abs=1e-3)
    with pytest.raises(InputError, match="0 of 0"):
        share_interval(0, 0)
