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
from edge_sdk.imaging import encode_jpeg, read_image, resize_picture
from edge_sdk.model import Model
from edge_sdk.overlay import cut_around, draw_outline, draw_overlay, find_match
from edge_sdk.pipeline import Pipeline, as_frame
from edge_sdk.records import UInt8Array

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
    decision = pipeline.inspect(as_frame(pixels))
    result = decision.result
    mask = read_mask(picture, pixels)
    outlined = pixels if mask is None else draw_outline(pixels, mask, _MASK_COLOUR)
    heatmap = pixels
    patch = matched = matched_file = None
    if result is not None:
        heatmap = draw_overlay(pixels, result.anomaly_map, level, ())
        heatmap = heatmap if mask is None else draw_outline(heatmap, mask, _MASK_COLOUR)
        found = find_match(decision)
        if found is not None and pipeline.references is not None:
            patch = _data_uri(_cut(pixels, found.place), _PATCH_PX)
            known = pipeline.references.pictures[found.reference].pixels
            matched = _data_uri(_cut(known, found.reference_place), _PATCH_PX)
            number = references[found.reference]
            matched_file = plan.category.file_name(plan.category.train[number])
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


def _cut(pixels: UInt8Array, place: tuple[float, float]) -> UInt8Array:
    """A square around a place: a fifth of the shorter side."""
    height, width = pixels.shape[:2]
    side = min(height, width) / 5
    return cut_around(pixels, place, (side / width, side / height))[0]


def _data_uri(pixels: UInt8Array, longest_px: int) -> str:
    scale = longest_px / max(pixels.shape[:2])
    size = (max(1, round(pixels.shape[0] * scale)), max(1, round(pixels.shape[1] * scale)))
    kernel = "area" if scale < 1 else "bicubic"
    resized = resize_picture(
        np.ascontiguousarray(pixels), size, kernel=kernel, antialias=kernel == "area"
    )
    data = encode_jpeg(resized, max_bytes=_MAX_BYTES)
    return f"data:image/jpeg;base64,{base64.b64encode(data or b'').decode()}"
