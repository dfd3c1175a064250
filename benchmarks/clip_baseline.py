"""The frame difference over the sample clip, given every advantage: a threshold with hindsight."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from clip_intervals import CLIP, Tally, read_labels, tally
from frame_difference import difference_score

from edge_sdk.capture.selector import open_source
from edge_sdk.imaging import read_image

HOLD_FRAMES, CLEAR_FRAMES, UPDATE_FRAMES, HYSTERESIS = 3, 5, 30, 0.1


def run_baseline(pictures: Path) -> Tally:
    """Alarm by frame difference, with the product's own rules for incidents.

    The threshold is the one, of fifty, that suits the labels best: nobody on a line has that, but
    a baseline shall not lose because its threshold was fitted badly.

    Args:
        pictures: folder of the references, PNG files.
    """
    references = [read_image(path) for path in sorted(pictures.glob("*.png"))]
    with closing(open_source(f"file:{CLIP}")) as source:
        scores = [difference_score(frame.pixels, references) for frame in source.frames()]
    limits = np.quantile(scores, np.linspace(0.02, 0.99, 50))
    return max((_alarm(scores, float(limit)) for limit in limits), key=_goodness)


def _goodness(result: Tally) -> int:
    return result.missing[0] + result.hand[0] - 20 * result.false_opens


def _alarm(scores: Sequence[float], limit: float) -> Tally:
    opens, updates = [], []
    over = clear = 0
    last = None
    for number, score in enumerate(scores):
        over = over + 1 if score > limit else 0
        clear = clear + 1 if score <= limit * (1 - HYSTERESIS) else 0
        if last is None and over >= HOLD_FRAMES:
            opens.append(number)
            last = number
        elif last is not None and clear >= CLEAR_FRAMES:
            last = None
        elif last is not None and clear == 0 and number - last >= UPDATE_FRAMES:
            updates.append(number)
            last = number
    return tally(read_labels(), opens, updates)
