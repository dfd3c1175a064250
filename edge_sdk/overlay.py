"""What people are shown of a judged picture: heatmap, outlines, the good patch that was matched.

The one home of drawing on pictures: for the plant's messages, for evaluation reports, for sheets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from edge_sdk.imaging import to_rgb
from edge_sdk.records import AnomalyResult, BoolArray, Box, Decision, FloatArray, UInt8Array

_OUTLINE = (255, 255, 255)
_FRAMED = (255, 40, 40)


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The worst place of a picture and the good patch it was compared with."""

    place_px: tuple[int, int]
    """(x, y) in frame pixels."""
    place: tuple[float, float]
    """The same, as shares 0 to 1 of the frame's width and height."""
    distance: float
    """Between the two patches, as the scorer measures it; 0 = same."""
    reference: int
    """Index of the reference picture."""
    reference_place: tuple[float, float]
    """(x, y) of the matched patch, as shares 0 to 1 of the reference's width and height."""
    patch_size: tuple[float, float]
    """(width, height) of a patch, as shares of the frame."""


def find_match(decision: Decision) -> Match | None:
    """The worst place of a judged frame, and its nearest good patch.

    Returns:
        None where nothing was scored, or the scorer compares with no patches.
    """
    result = decision.result
    if result is None or result.nearest is None or not np.isfinite(result.anomaly_map).all():
        return None
    nearest, geometry = result.nearest, result.features.preprocessed.geometry
    x, y = _worst_place(result, decision)
    height, width = geometry.frame_size
    window = geometry.window
    rows, cols = nearest.grid
    row = min(rows - 1, max(0, int((y - window.y) * rows / window.height)))
    col = min(cols - 1, max(0, int((x - window.x) * cols / window.width)))
    patch = row * cols + col
    matched_row, matched_col = divmod(int(nearest.patch[patch]), cols)
    return Match(
        place_px=(x, y),
        place=((x + 0.5) / width, (y + 0.5) / height),
        distance=float(nearest.distance[patch]),
        reference=int(nearest.reference[patch]),
        reference_place=(
            (window.x + (matched_col + 0.5) * window.width / cols) / width,
            (window.y + (matched_row + 0.5) * window.height / rows) / height,
        ),
        patch_size=(window.width / cols / width, window.height / rows / height),
    )


def _worst_place(result: AnomalyResult, decision: Decision) -> tuple[int, int]:
    """(x, y) of the highest value, of the worst region where there are regions."""
    left, top, part = 0, 0, result.anomaly_map
    if decision.regions:
        worst = decision.regions[0]
        left, top = worst.x, worst.y
        part = part[top : top + worst.height, left : left + worst.width]
    y, x = divmod(int(part.argmax()), part.shape[1])
    return left + x, top + y


def draw_overlay(
    pixels: UInt8Array, anomaly_map: FloatArray, threshold: float, boxes: Sequence[Box]
) -> UInt8Array:
    """The frame with its heatmap: transparent below half the threshold, outlined above it.

    Args:
        pixels: (H, W, 3) RGB or (H, W, 1).
        anomaly_map: (H, W) in the same pixels.
        threshold: the map's value shown as half of the colour scale.
        boxes: rectangles to frame, the worst first.

    Returns:
        (H, W, 3) RGB, a new array.
    """
    level = np.clip(anomaly_map / (2 * threshold), 0, 1) if threshold > 0 else anomaly_map > 0
    colours = cv2.applyColorMap((level * 255).astype(np.uint8), cv2.COLORMAP_JET)[:, :, ::-1]
    weight = np.clip((level - 0.25) * 2, 0, 0.6).astype(np.float32)[:, :, None]
    blended = to_rgb(pixels) * (1 - weight) + colours * weight
    picture = np.ascontiguousarray(blended.astype(np.uint8))
    above = (anomaly_map > threshold).astype(np.uint8)
    outlines, _ = cv2.findContours(above, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(picture, outlines, -1, _OUTLINE, 1)
    for box in boxes:
        corner = (box.x + box.width - 1, box.y + box.height - 1)
        cv2.rectangle(picture, (box.x, box.y), corner, _FRAMED, 2)
    return picture


def draw_outline(pixels: UInt8Array, mask: BoolArray, colour: tuple[int, int, int]) -> UInt8Array:
    """A copy of the (H, W, 3) RGB picture with the edges of the (H, W) mask drawn on it."""
    picture = np.array(pixels, np.uint8, order="C")
    edges, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, edges, -1, colour, max(1, round(min(mask.shape) / 200)))
    return picture


def cut_around(
    pixels: UInt8Array, place: tuple[float, float], span: tuple[float, float]
) -> tuple[UInt8Array, tuple[int, int]]:
    """Cut the part around a place; where it would stick out it is moved inside.

    Shares rather than pixels, so that the same is cut of a good picture of another size.

    Args:
        pixels: (H, W, C).
        place: (x, y) of its middle, as shares 0 to 1 of width and height.
        span: (width, height), likewise; at least 8 pixels are cut.

    Returns:
        The part, a view, and (left, top) of it in pixels.
    """
    height, width = pixels.shape[:2]
    wide = min(width, max(8, round(span[0] * width)))
    high = min(height, max(8, round(span[1] * height)))
    left = min(max(0, round(place[0] * width - wide / 2)), width - wide)
    top = min(max(0, round(place[1] * height - high / 2)), height - high)
    return pixels[top : top + high, left : left + wide], (left, top)
