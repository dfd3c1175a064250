"""Answers for the published evaluator's metrics: ``metrics.npz`` and ``metrics.json``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from edge_sdk.errors import InputError
from edge_sdk.imaging import connected_boxes
from edge_sdk.metrics import overlap, published
from edge_sdk.metrics.curves import average_precision, score_curve
from edge_sdk.metrics.pixels import PixelCounts, PixelTally
from export_tools.conformance.golden_set import GoldenSet
from export_tools.conformance.ledger import EXACT, METRIC, SQUASHED_CURVE, Answer, Array

_ARRAYS, _VALUES = "metrics.npz", "metrics.json"
_OVERKILL = (2, 5, 10)
_CURVE_STEP = 10
_SETTINGS = re.compile(r"num_thresholds=(\d+), fpr_bounds=\(([^,]+),([^)]+)\)")
_AUPIMO_SETTINGS = "AUPIMO_settings"


def metric_answers(golden: GoldenSet) -> Iterator[Answer]:
    """Every figure of every case, and the connected regions.

    Raises:
        InputError: an array is missing or cannot be scored.
    """
    masks = golden.array(_ARRAYS, "gt_masks")
    regions = _numbered_regions(masks)
    # What the cases are made of says itself what it may be; its values show in every figure.
    labels = (masks > 0).any(axis=(1, 2)).astype(int)
    samples = golden.array(_ARRAYS, "sample_ids")
    yield Answer(file=_ARRAYS, key="gt_masks", value=(masks > 0).astype(int), tolerance=EXACT)
    yield Answer(file=_ARRAYS, key="gt_labels", value=labels, tolerance=EXACT)
    yield Answer(file=_ARRAYS, key="sample_ids", value=samples, tolerance=EXACT)
    yield Answer(file=_ARRAYS, key="components_cpu", value=regions, tolerance=EXACT)
    yield Answer(file=_ARRAYS, key="components_kornia_count", value=regions.max(), tolerance=EXACT)
    for case, expected in golden.metrics.items():
        yield from _case(golden, case, expected)


def expected_values(golden: GoldenSet) -> dict[tuple[str, str], Array]:
    """The figures of ``metrics.json`` as arrays, by file and key."""
    return {
        (_VALUES, f"{case}/{name}"): np.asarray(value)
        for case, values in golden.metrics.items()
        for name, value in values.items()
    }


def _case(golden: GoldenSet, case: str, expected: Mapping[str, Any]) -> Iterator[Answer]:
    maps, scores = golden.array(_ARRAYS, f"{case}_maps"), golden.array(_ARRAYS, f"{case}_scores")
    labels = golden.array(_ARRAYS, "gt_labels")
    for key, value in ((f"{case}_maps", maps), (f"{case}_scores", scores)):
        yield Answer(file=_ARRAYS, key=key, value=value, tolerance=EXACT)
    tally = PixelTally()
    for one, mask in zip(maps, golden.array(_ARRAYS, "gt_masks"), strict=True):
        tally.add(one, mask > 0)
    counts = tally.counts()
    samples = published.sample_maxima(scores, labels, list(golden.array(_ARRAYS, "sample_ids")))
    figures = _figures("I", scores, labels) | _figures("S", *samples) | _pixel_figures(counts)
    figures["_sklearn_I-average_precision(for contrast)"] = average_precision(
        score_curve(scores, labels)
    )
    figures["_sklearn_P-average_precision(for contrast)"] = average_precision(counts.pixel_curve())
    if _AUPIMO_SETTINGS in expected:
        found = _aupimo(counts, str(expected[_AUPIMO_SETTINGS]))
        figures["AUPIMO_mean_over_anomalous"] = found.mean
        yield _value(f"{case}/{_AUPIMO_SETTINGS}", np.asarray(expected[_AUPIMO_SETTINGS]))
        yield Answer(
            file=_ARRAYS, key=f"{case}_aupimo_per_image", value=found.per_picture, tolerance=METRIC
        )
    for name, figure in figures.items():
        yield _value(f"{case}/{name}", np.asarray(figure))
    rate, mean_overlap = published.aupro_curve(counts)
    is_squashed = bool(maps.min() < 0 or maps.max() > 1)
    for name, curve in (("fpr", rate), ("pro", mean_overlap)):
        yield Answer(
            file=_ARRAYS,
            key=f"{case}_aupro_curve_{name}",
            value=curve[::_CURVE_STEP],
            tolerance=SQUASHED_CURVE if is_squashed else METRIC,
        )


def _value(key: str, value: Array) -> Answer:
    return Answer(file=_VALUES, key=key, value=value, tolerance=METRIC)


def _figures(prefix: str, scores: Array, labels: Array) -> dict[str, float]:
    figures = {
        "AUROC": published.auroc(scores, labels),
        "AP": published.aupr(scores, labels),
        "F1max": published.f1_max(scores, labels)[0],
    }
    for percent in _OVERKILL:
        figures[f"Overkill@{percent}"] = published.overkill(scores, labels, percent)
    return {f"{prefix}-{name}": figure for name, figure in figures.items()}


def _pixel_figures(counts: PixelCounts) -> dict[str, float]:
    f1, threshold = published.pixel_f1_max(counts)
    return {
        "P-AUROC": published.pixel_auroc(counts),
        "P-AP": published.pixel_aupr(counts),
        "P-F1max": f1,
        "P-F1max_threshold": threshold,
        "P-AUPRO": published.aupro(counts),
    }


def _aupimo(counts: PixelCounts, settings: str) -> overlap.Aupimo:
    found = _SETTINGS.fullmatch(settings)
    if found is None:
        raise InputError(
            f"{_VALUES}: {_AUPIMO_SETTINGS}: expected num_thresholds=N, fpr_bounds=(L,U), "
            f"got {settings!r}"
        )
    return overlap.aupimo(counts, (float(found[2]), float(found[3])), int(found[1]))


def _numbered_regions(masks: Array) -> Array:
    """8-connected regions, numbered from 1 on through all pictures."""
    numbered, count = np.zeros(masks.shape, np.int32), 0
    for picture, mask in zip(numbered, masks, strict=True):
        for box, _, inside in connected_boxes(mask > 0):
            count += 1
            picture[box.y : box.y + box.height, box.x : box.x + box.width][inside] = count
    return numbered
