"""Whether a memory of good parts can work for a part at all, told from good pictures alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_sdk.pipeline import as_frame
from edge_sdk.preprocess import Preprocessor
from edge_sdk.protocols import Encoder, ScorerFactory
from edge_sdk.records import UInt8Array
from edge_sdk.scoring.threshold import nuisance_views

MOST_VARIETY = 13.0
"""Above it a part is called not suitable. On real categories with 4 references and the built-in
bundle: 1.3 to 11 where it works, 15 to 17 on circuit boards that all have another layout."""
_MOST_PICTURES = 8


def measure_variety(
    pictures: Sequence[UInt8Array],
    *,
    preprocess: Preprocessor,
    encoder: Encoder,
    factory: ScorerFactory,
) -> float | None:
    """How many times more good parts differ from one another than a part from itself.

    The mean patch distance of each good picture to the others, divided by that of a picture
    seen in other light or a little aside (``nuisance_views``) to pictures that include it. Where
    every part is another one, nothing that is remembered of good ones helps.

    Args:
        pictures: (H, W, 3) RGB, good; the first eight are used.
        preprocess: as it runs on the line.
        encoder: of the bundle.
        factory: of the bundle's scorer.

    Returns:
        None where there are fewer than two pictures, or the scorer matches no patches.

    Raises:
        InputError: the pictures cannot be used.
        EngineError: the graph failed.
    """
    used = pictures[:_MOST_PICTURES]
    if len(used) < 2:
        return None
    features = [encoder.encode(preprocess(as_frame(pixels))) for pixels in used]
    scorer = factory.fit(features)
    others, itself = [], []
    for index, (pixels, own) in enumerate(zip(used, features, strict=True)):
        result = scorer.without(index).score(own)
        if result.nearest is None:
            return None
        others.append(float(result.nearest.distance.mean()))
        for view in nuisance_views(pixels):
            nearest = scorer.score(encoder.encode(preprocess(as_frame(view)))).nearest
            if nearest is None:
                return None
            itself.append(float(nearest.distance.mean()))
    spread = float(np.mean(itself))
    return float(np.mean(others)) / spread if spread > 0 else None
