"""Figures of merit, each with its definition; used by both halves.

``image_figures`` and ``pixel_figures`` give them all at once, under one name each, by definition:
``standard`` (the textbook's, as scikit-learn has them) or ``adaptclip`` (the published
evaluator's, quirks included: ``edge_sdk.metrics.published``). ``PixelTally`` takes maps and masks
picture by picture, so that hundreds of large maps need bounded memory::

    tally = PixelTally()
    for anomaly_map, mask in pictures:          # (H, W) float32, (H, W) bool or None
        tally.add(anomaly_map, mask)
    figures = pixel_figures(tally.counts(), "standard")

All scores: higher is worse. All figures: 0 to 1, ``InputError`` where they are not defined.
"""

from edge_sdk.metrics.overlap import aupimo, aupro, aupro_200_steps
from edge_sdk.metrics.pixels import PixelCounts, PixelTally
from edge_sdk.metrics.ranking import auroc, escapes_at, overkill_at, share_interval
from edge_sdk.metrics.severity import Concordance, severity_concordance
from edge_sdk.metrics.suites import DEFINITIONS, Definition, image_figures, pixel_figures

__all__ = [
    "DEFINITIONS",
    "Concordance",
    "Definition",
    "PixelCounts",
    "PixelTally",
    "aupimo",
    "aupro",
    "aupro_200_steps",
    "auroc",
    "escapes_at",
    "image_figures",
    "overkill_at",
    "pixel_figures",
    "severity_concordance",
    "share_interval",
]
