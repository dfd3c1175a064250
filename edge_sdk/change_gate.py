"""A watched scene that has not changed is not encoded again.

Each picture is compared with the one that was last *judged*, not with the one before: what drifts
slowly adds up until it is judged. Compared are averages of small cells, in which the noise of a
sensor vanishes and a small defect does not. Whatever stays below that is judged all the same once
an interval is over.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edge_sdk.config.camera import ChangeGateConfig
from edge_sdk.imaging import resize_picture
from edge_sdk.records import AnomalyResult, Preprocessed, UInt8Array

CELL_PX = 4
"""Side of a cell, in pixels of the model's picture."""


class ChangeGate:
    """Of one camera that is watched; never for parts, each of which is judged.

    Args:
        settings: what counts as a change, and how long nothing may go unjudged.
    """

    def __init__(self, settings: ChangeGateConfig) -> None:
        self._settings = settings
        self._cells: UInt8Array | None = None
        self._result: AnomalyResult | None = None
        self._judged_ns = 0

    def known(self, preprocessed: Preprocessed) -> AnomalyResult | None:
        """What was said of the same scene, for this frame; None: it has to be judged.

        Args:
            preprocessed: as the encoder would take it.
        """
        if self._result is None or self._cells is None:
            return None
        age_ns = preprocessed.frame.scene_ns - self._judged_ns
        if not 0 <= age_ns < self._settings.every_seconds * 1e9:
            return None
        if preprocessed.geometry is not self._result.features.preprocessed.geometry:
            return None
        cells = _cells(preprocessed)
        change = np.maximum(cells, self._cells) - np.minimum(cells, self._cells)
        if int(change.max()) > self._settings.level:
            return None
        features = replace(self._result.features, preprocessed=preprocessed)
        return replace(self._result, features=features)

    def keep(self, result: AnomalyResult) -> None:
        """Remember what was just judged; what is no number is judged again."""
        if not np.isfinite(result.image_score):
            self._result = None
            return
        preprocessed = result.features.preprocessed
        self._cells, self._result = _cells(preprocessed), result
        self._judged_ns = preprocessed.frame.scene_ns


def _cells(preprocessed: Preprocessed) -> UInt8Array:
    pixels = preprocessed.tensor[0]
    height, width = pixels.shape[:2]
    size = (max(1, height // CELL_PX), max(1, width // CELL_PX))
    return resize_picture(pixels, size, kernel="area", antialias=True)
