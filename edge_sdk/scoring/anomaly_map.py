"""Distances per patch to a map in frame pixels: the one place that does it, for every scorer."""

from __future__ import annotations

import numpy as np

from edge_sdk.imaging import blur_map, upsample_map
from edge_sdk.records import AnomalyResult, FloatArray, Nearest, PatchFeatures


def build_result(
    distances: FloatArray,
    grid: tuple[int, int],
    features: PatchFeatures,
    *,
    nearest: Nearest | None,
    blur_sigma: float,
) -> AnomalyResult:
    """Blur the small map, enlarge it once, lay it into the frame, and take its hottest pixel.

    Args:
        distances: (P,) row-major over ``grid``; larger is worse.
        grid: (rows, cols) of the scoring grid, which covers the crop window.
        features: what was scored; its geometry says where the window lies.
        nearest: which reference patch each patch was matched with.
        blur_sigma: of the Gaussian, in cells of the grid.

    Returns:
        The map is 0 outside the inspected region. ``image_score`` is the largest value inside;
        NaN where any value inside is NaN, so that a broken graph cannot look normal.
    """
    geometry = features.preprocessed.geometry
    window = geometry.window
    small = blur_map(distances.reshape(grid), blur_sigma)
    patch = upsample_map(small, (window.height, window.width))
    if (window.height, window.width) == geometry.frame_size:
        anomaly_map = patch
    else:
        anomaly_map = np.zeros(geometry.frame_size, patch.dtype)
        anomaly_map[window.y : window.y + window.height, window.x : window.x + window.width] = patch
    if geometry.inspected is not None:
        anomaly_map = np.where(geometry.inspected, anomaly_map, 0).astype(patch.dtype)
    return AnomalyResult(
        anomaly_map=anomaly_map,
        image_score=float(anomaly_map.max()),
        nearest=nearest,
        features=features,
    )
