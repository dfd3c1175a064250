"""All figures of merit at once, by definition, each under one name and with its words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from numpy.typing import NDArray

from edge_sdk.errors import InputError
from edge_sdk.metrics import published
from edge_sdk.metrics.curves import average_precision, best_f1, roc_area, score_curve
from edge_sdk.metrics.overlap import aupimo, aupro
from edge_sdk.metrics.pixels import PixelCounts

Definition: TypeAlias = Literal["standard", "adaptclip"]

_AUPIMO_WORDS = (
    "mean over anomalous pictures of the overlap integrated over ln(mean false positive rate of "
    "the normal pictures) between 1e-5 and 1e-4, 300000 thresholds (arXiv 2401.01984)"
)
DEFINITIONS: Mapping[Definition, Mapping[str, str]] = {
    "standard": {
        "image_auroc": "area under the ROC curve, trapezoids, ties half",
        "image_ap": "average precision: sum of precision x rise of recall, no interpolation",
        "image_f1_max": "largest 2tp/(2tp+fp+fn) over the distinct scores",
        "pixel_auroc": "image_auroc over all pixels of all test pictures",
        "pixel_ap": "image_ap over all pixels of all test pictures",
        "pixel_f1_max": "image_f1_max over all pixels of all test pictures",
        "aupro": "area under mean overlap of 8-connected regions over the rate on all normal "
        "pixels, every distinct score a threshold, interpolated at 0.3, divided by 0.3",
        "aupimo": _AUPIMO_WORDS,
    },
    "adaptclip": {
        "image_auroc": "as standard, after a float32 sigmoid if any score lies outside 0..1",
        "image_ap": "trapezoidal area under the precision-recall curve after a stable sort by "
        "recall (not average precision), sigmoid as image_auroc",
        "image_f1_max": "largest 2PR/(P+R+1e-10)",
        "pixel_auroc": "image_auroc over all pixels",
        "pixel_ap": "image_ap over all pixels",
        "pixel_f1_max": "image_f1_max over all pixels",
        "aupro": "one ROC curve a region, resampled by point index, rates and overlaps averaged, "
        "to a rate of 0.3, divided by the last mean rate; sigmoid as image_auroc",
        "aupimo": _AUPIMO_WORDS,
    },
}
"""What each figure is, by definition: stored beside every number, for there are several."""


def image_figures(
    scores: NDArray[Any], labels: NDArray[Any], definition: Definition
) -> dict[str, float]:
    """``image_auroc``, ``image_ap`` and ``image_f1_max``, each 0 to 1.

    Args:
        scores: (N,) higher is worse.
        labels: (N,) true where anomalous.
        definition: which of ``DEFINITIONS``.

    Raises:
        InputError: a class is empty, or a score is not finite.
    """
    if definition == "adaptclip":
        return {
            "image_auroc": published.auroc(scores, labels),
            "image_ap": published.aupr(scores, labels),
            "image_f1_max": published.f1_max(scores, labels)[0],
        }
    curve = score_curve(scores, labels)
    return {
        "image_auroc": roc_area(curve),
        "image_ap": average_precision(curve),
        "image_f1_max": best_f1(curve)[0],
    }


def pixel_figures(counts: PixelCounts, definition: Definition) -> dict[str, float | None]:
    """``pixel_auroc``, ``pixel_ap``, ``pixel_f1_max``, ``aupro`` and ``aupimo``, each 0 to 1.

    Args:
        counts: of all test pictures.
        definition: which of ``DEFINITIONS``.

    Returns:
        ``aupimo`` is None where there are too few normal pixels for its bounds.

    Raises:
        InputError: no picture has a mask, or there is no normal pixel.
    """
    figures: dict[str, float | None]
    if definition == "adaptclip":
        figures = {
            "pixel_auroc": published.pixel_auroc(counts),
            "pixel_ap": published.pixel_aupr(counts),
            "pixel_f1_max": published.pixel_f1_max(counts)[0],
            "aupro": published.aupro(counts),
        }
    else:
        curve = counts.pixel_curve()
        figures = {
            "pixel_auroc": roc_area(curve),
            "pixel_ap": average_precision(curve),
            "pixel_f1_max": best_f1(curve)[0],
            "aupro": aupro(counts),
        }
    return {**figures, "aupimo": _or_none(lambda: aupimo(counts).mean)}


def _or_none(figure: Callable[[], float]) -> float | None:
    try:
        return figure()
    except InputError:
        return None
