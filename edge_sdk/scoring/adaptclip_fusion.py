"""From what AdaptCLIP's heads say to one score; the formulas are with the scorer."""

from __future__ import annotations

from edge_sdk.imaging import resize_mask
from edge_sdk.records import FloatArray, PatchFeatures


def fuse(branches: float | None, peak: float, *, text_branches: int | None) -> float:
    """A head's mean score and its map's peak as one score.

    Args:
        branches: mean score of the head's branches; None: it has none.
        peak: largest value of the map, where it is inspected.
        text_branches: how many branches a zero-shot head has; None: a few-shot head.

    Returns:
        NaN where an argument is.
    """
    if branches is None:
        return peak
    if text_branches is not None:
        return (text_branches * branches + peak) / (text_branches + 1)
    # Both lie above 0 by construction; NaN goes through.
    return 2 / (1 / branches + 1 / peak) if branches and peak else 0.0


def peak_of(small: FloatArray, features: PatchFeatures) -> float:
    """Largest value of the head's own map, where it is inspected; NaN where any of it is NaN."""
    geometry = features.preprocessed.geometry
    if geometry.inspected is None:
        return float(small.max())
    window = geometry.window
    inside = geometry.inspected[
        window.y : window.y + window.height, window.x : window.x + window.width
    ]
    return float(small[resize_mask(inside, small.shape)].max())
