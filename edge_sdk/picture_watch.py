"""Faults of lamp, lens and camera, judged against the pictures of known-good parts.

The limits are the same everywhere, and wider where the references themselves differ by more: where
parts lie anyhow, nobody can tell from one picture that the camera was moved.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_sdk.durable_files import sync_folder, write_durably
from edge_sdk.errors import InputError
from edge_sdk.picture_statistics import (
    GRID,
    SMALLEST_SIDE_PX,
    Outline,
    PictureStatistics,
    inspected_tiles,
    measure,
    moved_share,
    outline_of,
)
from edge_sdk.records import BoolArray, Preprocessed, Reason

BASE_LIMITS: Mapping[Reason, float] = {
    Reason.EXPOSURE_DRIFT: 0.415,
    Reason.LAMP_FAILED: 0.5,
    Reason.DEFOCUSED: 0.75,
    Reason.BLURRED_OUT: 1.1,
    Reason.CAMERA_MOVED: 0.3,
    Reason.DIRTY_LENS: 0.3,
}
"""Of the measures in ``Measures``; reached by benchmarks/image_faults.py with what it prints."""
_SPREAD_FACTOR = 1.5
"""How far beyond the largest difference among the references a limit lies at least."""
_MOST_REFERENCES = 12
_MOVED_PX = 5.0
_LOST_DETAIL = 1.5
"""Binary orders of magnitude of energy that a tile has lost under dirt."""
_LEAST_DETAIL = 2.0
_FEWEST_TILES = 6

Measures = Mapping[Reason, float]
"""How far a picture is off, by the fault that it would be; 0 or less: not at all.

``exposure_drift``: log2 of the brightness against the references', the median of all tiles, either
way. ``lamp_failed``: by how much two halves of the picture differ in it. ``defocused``: log2 of the
energy of fine detail that is lost, in the quarter of the tiles that lost least. ``blurred_out``:
the same of coarse detail, where fine detail is lost too. ``camera_moved``: share of the blocks that
moved together. ``dirty_lens``: share of the tiles with detail that have lost most of it.
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PictureWatch:
    """Measures pictures of one camera against its references."""

    references: tuple[PictureStatistics, ...]
    outlines: tuple[Outline, ...]
    counting: BoolArray
    """(9, 16) True where tiles are looked at."""
    frame_size: tuple[int, int]
    """(height, width) of whole frames."""
    limits: Mapping[Reason, float]
    """From which measure on a picture is a fault."""

    def measures(self, preprocessed: Preprocessed) -> Measures:
        """Measure a frame; takes some milliseconds. Empty where it is of another size."""
        if preprocessed.frame.size != self.frame_size:
            return {}
        return self.compare(measure(preprocessed))

    def compare(self, statistics: PictureStatistics) -> Measures:
        """Measure what was measured of a picture against the references."""
        counting = self.counting
        usual = np.median([one.light for one in self.references], 0)
        light = np.log2((statistics.light + 4) / (usual + 4))
        exposure = float(np.median(light[counting]))
        usual_detail = np.median([one.detail for one in self.references], 0)
        lost = np.log2((usual_detail + 0.5) / (statistics.detail + 0.5)) + 2 * light
        floor = max(float(np.median(usual_detail[counting])), _LEAST_DETAIL)
        lost = lost[counting & (usual_detail >= floor)]
        has_detail = lost.size >= _FEWEST_TILES
        usual_coarse = float(np.median([one.coarse for one in self.references]))
        coarse = float(np.log2((usual_coarse + 0.1) / (statistics.coarse + 0.1))) + 2 * exposure
        defocused = float(np.percentile(lost, 25)) if has_detail else 0.0
        return {
            Reason.EXPOSURE_DRIFT: abs(exposure),
            Reason.LAMP_FAILED: _difference_of_halves(light, counting),
            Reason.DEFOCUSED: defocused,
            Reason.BLURRED_OUT: min(coarse, defocused),
            Reason.CAMERA_MOVED: self._moved(statistics),
            Reason.DIRTY_LENS: float(np.mean(lost > _LOST_DETAIL)) if has_detail else 0.0,
        }

    def _moved(self, statistics: PictureStatistics) -> float:
        outline = outline_of(statistics)
        least = 1.0
        for reference in self.outlines:
            least = min(least, moved_share(reference, outline, _MOVED_PX))
            if least == 0.0:  # it lies as one of the references does
                break
        return least


def fit_watch(references: Sequence[Preprocessed]) -> PictureWatch | None:
    """Learn how much pictures of good parts differ from one another.

    Args:
        references: the pictures.

    Returns:
        None where there is none, their sizes differ, or what is looked at of them is too small.
    """
    sizes = {picture.frame.size for picture in references}
    if len(sizes) != 1 or _shortest_side(references[0]) < SMALLEST_SIDE_PX:
        return None
    (frame_size,) = sizes
    step = -(-len(references) // _MOST_REFERENCES)
    measured = tuple(measure(picture) for picture in references[::step])
    counting = inspected_tiles(references[0])
    if int(counting.sum()) < _FEWEST_TILES:
        return None
    watch = _watch(measured, counting, frame_size, BASE_LIMITS)
    limits = dict(BASE_LIMITS)
    for index, one in enumerate(measured if len(measured) > 1 else ()):
        others = (*measured[:index], *measured[index + 1 :])
        for reason, value in _watch(others, counting, frame_size, BASE_LIMITS).compare(one).items():
            limits[reason] = max(limits[reason], _SPREAD_FACTOR * value)
    return _watch(watch.references, counting, frame_size, limits)


def stored_watch(path: Path, references: Sequence[Preprocessed]) -> PictureWatch | None:
    """What was learned at enrolment; learned now, and kept, where it was not.

    Args:
        path: of the file, beside the references and named after their window and regions.
        references: them.

    Raises:
        InputError: the file does not read as one.
    """
    if path.is_file():
        return _read(path)
    watch = fit_watch(references)
    if watch is not None:
        _write(path, watch)
    return watch


def _watch(
    measured: tuple[PictureStatistics, ...],
    counting: BoolArray,
    frame_size: tuple[int, int],
    limits: Mapping[Reason, float],
) -> PictureWatch:
    return PictureWatch(
        references=measured,
        outlines=tuple(outline_of(one) for one in measured),
        counting=counting,
        frame_size=frame_size,
        limits=limits,
    )


def _difference_of_halves(light: np.ndarray, counting: BoolArray) -> float:
    rows, columns = GRID
    worst = 0.0
    for first, second in (
        (np.s_[:, : columns // 2], np.s_[:, columns // 2 :]),
        (np.s_[: rows // 2], np.s_[rows // 2 :]),
    ):
        halves = [light[half][counting[half]] for half in (first, second)]
        if all(half.size >= _FEWEST_TILES for half in halves):
            worst = max(worst, abs(float(np.median(halves[0]) - np.median(halves[1]))))
    return worst


def _shortest_side(picture: Preprocessed) -> int:
    return min(picture.geometry.window.height, picture.geometry.window.width)


def _write(path: Path, watch: PictureWatch) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        allow_pickle=False,
        light=np.stack([one.light for one in watch.references]),
        detail=np.stack([one.detail for one in watch.references]),
        coarse=np.array([one.coarse for one in watch.references]),
        edges=np.stack([one.edges for one in watch.references]).astype(np.float16),
        scale=np.array([one.scale for one in watch.references]),
        counting=watch.counting,
        frame_size=np.array(watch.frame_size),
        limits=np.array([watch.limits[reason] for reason in BASE_LIMITS]),
    )
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    write_durably(partial, buffer.getvalue())
    partial.rename(path)
    sync_folder(path.parent)


def _read(path: Path) -> PictureWatch:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            measured = tuple(
                PictureStatistics(
                    light=light,
                    detail=detail,
                    coarse=float(coarse),
                    edges=edges.astype(np.float32),
                    scale=float(scale),
                )
                for light, detail, coarse, edges, scale in zip(
                    stored["light"],
                    stored["detail"],
                    stored["coarse"],
                    stored["edges"],
                    stored["scale"],
                    strict=True,
                )
            )
            height, width = map(int, stored["frame_size"])
            limits = dict(zip(BASE_LIMITS, map(float, stored["limits"]), strict=True))
            return _watch(measured, stored["counting"], (height, width), limits)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: not statistics of references ({error}); delete it to measure again"
        ) from error
