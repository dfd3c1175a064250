"""From what size on a station sees defects: pasted on its own references, at its own threshold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edge_sdk.defects import KINDS, draw_defect
from edge_sdk.errors import InputError
from edge_sdk.imaging import to_rgb
from edge_sdk.pipeline import Pipeline, as_frame
from edge_sdk.records import AnomalyResult, BoolArray, FloatArray

SIZES_PX = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
SEEN_SHARE = 0.9
"""Of the defects of a size that must be found for the size to count as seen."""
LARGEST_SHARE = 0.1
"""Of the picture's shorter side: what must be seen at the latest, where nothing else is asked."""
_PICTURES = 4
_PLACES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeResult:
    """What was found of the defects of one size."""

    size_px: int
    found: int
    of: int
    by_kind: dict[str, tuple[int, int]]
    """Kind to (found, of)."""

    @property
    def share(self) -> float:
        """Found, 0 to 1."""
        return self.found / self.of


@dataclass(frozen=True, slots=True, kw_only=True)
class Suitability:
    """What a station sees, and whether that is enough."""

    sizes: tuple[SizeResult, ...]
    """Ascending."""
    seen_from_px: int | None
    """From this size on at least 90 % were found of every size tried; None: of none."""
    must_see_px: float

    @property
    def is_suitable(self) -> bool:
        """Whether what must be seen is seen."""
        return self.seen_from_px is not None and self.seen_from_px <= self.must_see_px


def measure_smallest_defect(
    pipeline: Pipeline,
    *,
    must_see_px: float | None = None,
    seed: int = 0,
    on_size: Callable[[], None] = lambda: None,
) -> Suitability:
    """Paste defects of growing size on the references and count those that would be reported.

    Each reference is scored against the others only: against itself anything that differs would
    stand out. Places lie within the camera's crop and regions.

    Args:
        pipeline: fitted; its threshold is what decides.
        must_see_px: what must be seen; None: a tenth of the shorter side of what is looked at.
        seed: of places and looks; the same seed gives the same answer.
        on_size: told when a size is finished, for progress.

    Raises:
        InputError: fewer than two references, or the picture is too small to paste on.
        EngineError: the graph failed.
    """
    references = pipeline.references
    pictures = references.pictures if references else ()
    if len(pictures) < 2:
        raise InputError(f"smallest defect: expected at least 2 references, got {len(pictures)}")
    chosen = np.unique(np.linspace(0, len(pictures) - 1, _PICTURES).round().astype(int))
    scorers = [pipeline.leave_out(int(index)) for index in chosen]
    frames = [as_frame(to_rgb(pictures[int(index)].pixels)) for index in chosen]
    inspected = [inspected_area(score(frame)) for score, frame in zip(scorers, frames, strict=True)]
    shorter = min(shorter_side(mask) for mask in inspected)
    sizes = [size for size in SIZES_PX if size <= shorter / 3]
    if not sizes:
        raise InputError(f"smallest defect: the inspected area is only {shorter} px high or wide")
    rng = np.random.default_rng(seed)
    results = []
    for size in sizes:
        counts = {kind: [0, 0] for kind in KINDS}
        for score, frame, mask in zip(scorers, frames, inspected, strict=True):
            for kind in KINDS:
                for _ in range(_PLACES):
                    corner = _random_corner(mask, size, rng)
                    spoilt, drawn = draw_defect(frame.pixels, kind, corner, size, rng)
                    highest = _highest_near(score(as_frame(spoilt)).anomaly_map, drawn, size)
                    counts[kind][0] += highest > pipeline.decider.threshold.value
                    counts[kind][1] += 1
        results.append(
            SizeResult(
                size_px=size,
                found=sum(found for found, _ in counts.values()),
                of=sum(tried for _, tried in counts.values()),
                by_kind={kind: (found, tried) for kind, (found, tried) in counts.items()},
            )
        )
        on_size()
    return Suitability(
        sizes=tuple(results),
        seen_from_px=seen_from(results),
        must_see_px=LARGEST_SHARE * shorter if must_see_px is None else must_see_px,
    )


def seen_from(results: Sequence[SizeResult]) -> int | None:
    """The smallest size from which on every size is seen; None: not even the largest."""
    smallest = None
    for result in reversed(results):
        if result.share < SEEN_SHARE:
            break
        smallest = result.size_px
    return smallest


def inspected_area(result: AnomalyResult) -> BoolArray:
    """(H, W) True where the map counts."""
    geometry = result.features.preprocessed.geometry
    window = geometry.window
    inside = np.zeros(geometry.frame_size, bool)
    inside[window.y : window.y + window.height, window.x : window.x + window.width] = True
    return inside if geometry.inspected is None else inside & geometry.inspected


def shorter_side(mask: BoolArray) -> int:
    """Of the rectangle around what is inspected, in pixels."""
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise InputError("smallest defect: the regions leave nothing to inspect")
    return int(min(rows[-1] - rows[0], cols[-1] - cols[0])) + 1


def _random_corner(mask: BoolArray, size_px: int, rng: np.random.Generator) -> tuple[int, int]:
    """(x, y) of a square whose middle lies where the map counts, pushed into the picture."""
    rows, cols = np.nonzero(mask)
    place = int(rng.integers(len(rows)))
    height, width = mask.shape
    x = min(max(0, int(cols[place]) - size_px // 2), max(0, width - size_px))
    y = min(max(0, int(rows[place]) - size_px // 2), max(0, height - size_px))
    return x, y


def _highest_near(anomaly_map: FloatArray, drawn: BoolArray, size_px: int) -> float:
    """Of the map on a defect and once its size around it; 0 where nothing was drawn."""
    ys, xs = np.nonzero(drawn)
    if not len(ys):
        return 0.0
    top, left = max(0, int(ys.min()) - size_px), max(0, int(xs.min()) - size_px)
    near = anomaly_map[top : int(ys.max()) + size_px + 1, left : int(xs.max()) + size_px + 1]
    return float(near.max())
