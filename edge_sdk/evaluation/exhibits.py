"""The worst pictures of a draw, shown: heatmap, mask, and the good patch that was matched."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_sdk.config import CameraConfig
from edge_sdk.evaluation.draw import DrawPlan, read_mask, teach
from edge_sdk.evaluation.layouts import Picture
from edge_sdk.evaluation.scores import AS_IT_IS, ScoreRow
from edge_sdk.imaging import draw_outline, draw_overlay, encode_jpeg, read_image, resize_picture
from edge_sdk.model import Model
from edge_sdk.pipeline import Pipeline, as_frame
from edge_sdk.records import AnomalyResult, UInt8Array

_SIDE_PX = 168
_PATCH_PX = 84
_MASK_COLOUR = (0, 255, 120)
_MAX_BYTES = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibit:
    """One picture with what is to be seen on it, as data URIs."""

    file: str
    kind: str
    score: float
    plain: str
    """The picture, its mask outlined."""
    heatmap: str
    patch: str | None
    """Around the hottest place."""
    matched: str | None
    """The good patch it was compared with."""
    matched_file: str | None


def worst_rows(rows: Sequence[ScoreRow], count: int) -> tuple[list[ScoreRow], list[ScoreRow]]:
    """(bad pictures with the lowest scores, good pictures with the highest ones)."""
    judged = [
        row
        for row in rows
        if row.part == "test" and row.condition == AS_IT_IS and row.score is not None
    ]
    ordered = sorted(judged, key=lambda row: (row.score or 0.0, row.file))
    bad = [row for row in ordered if row.is_bad]
    good = [row for row in reversed(ordered) if not row.is_bad]
    return bad[:count], good[:count]


def show(
    model: Model,
    camera: CameraConfig,
    plan: DrawPlan,
    rows: Sequence[ScoreRow],
    threshold: float | None,
) -> list[Exhibit]:
    """Judge these pictures again and draw what the pipeline saw.

    Args:
        model: the bundle, loaded.
        camera: its settings.
        plan: the draw that the rows come from.
        rows: what to show.
        threshold: half of the colour scale; None: the highest score shown.
    """
    level = threshold or max((row.score or 0.0 for row in rows), default=0.0) or 1.0
    known = camera.model_copy(update={"threshold_override": level})  # it need not be fitted again
    pipeline, references, _ = teach(model, known, plan)
    pictures = {plan.category.file_name(picture.path): picture for picture in plan.category.test}
    return [_exhibit(pipeline, plan, references, pictures[row.file], level=level) for row in rows]


def _exhibit(
    pipeline: Pipeline,
    plan: DrawPlan,
    references: Sequence[int],
    picture: Picture,
    *,
    level: float,
) -> Exhibit:
    pixels = read_image(picture.path)
    result = pipeline.inspect(as_frame(pixels)).result
    mask = read_mask(picture, pixels)
    outlined = pixels if mask is None else draw_outline(pixels, mask, _MASK_COLOUR)
    heatmap = pixels
    patch = matched = matched_file = None
    if result is not None:
        heatmap = draw_overlay(pixels, result.anomaly_map, level, ())
        heatmap = heatmap if mask is None else draw_outline(heatmap, mask, _MASK_COLOUR)
        found = _hottest_match(result)
        if found is not None and pipeline.references is not None:
            place, reference, other = found
            patch = _data_uri(_cut(pixels, place), _PATCH_PX)
            known = pipeline.references.pictures[reference].pixels
            matched = _data_uri(_cut(known, other), _PATCH_PX)
            matched_file = plan.category.file_name(plan.category.train[references[reference]])
    return Exhibit(
        file=plan.category.file_name(picture.path),
        kind=picture.kind,
        score=result.image_score if result else 0.0,
        plain=_data_uri(outlined, _SIDE_PX),
        heatmap=_data_uri(heatmap, _SIDE_PX),
        patch=patch,
        matched=matched,
        matched_file=matched_file,
    )


def _hottest_match(
    result: AnomalyResult,
) -> tuple[tuple[float, float], int, tuple[float, float]] | None:
    """(place of the hottest patch, its reference, place in that), places as shares of the sides."""
    nearest = result.nearest
    if nearest is None:
        return None
    index = int(np.argmax(nearest.distance))
    rows, cols = nearest.grid

    def place(patch: int) -> tuple[float, float]:
        return (patch // cols + 0.5) / rows, (patch % cols + 0.5) / cols

    return place(index), int(nearest.reference[index]), place(int(nearest.patch[index]))


def _cut(pixels: UInt8Array, place: tuple[float, float]) -> UInt8Array:
    """A square around a place: a fifth of the shorter side."""
    height, width = pixels.shape[:2]
    side = max(8, min(height, width) // 5)
    top = min(max(0, round(place[0] * height) - side // 2), max(0, height - side))
    left = min(max(0, round(place[1] * width) - side // 2), max(0, width - side))
    return pixels[top : top + side, left : left + side]


def _data_uri(pixels: UInt8Array, longest_px: int) -> str:
    scale = longest_px / max(pixels.shape[:2])
    size = (max(1, round(pixels.shape[0] * scale)), max(1, round(pixels.shape[1] * scale)))
    kernel = "area" if scale < 1 else "bicubic"
    resized = resize_picture(
        np.ascontiguousarray(pixels), size, kernel=kernel, antialias=kernel == "area"
    )
    data = encode_jpeg(resized, max_bytes=_MAX_BYTES)
    return f"data:image/jpeg;base64,{base64.b64encode(data or b'').decode()}"
