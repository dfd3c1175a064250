"""One picture for the operator: the verdict, where it is, and what good looks like there."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import cv2
import numpy as np

from edge_sdk.imaging import to_rgb
from edge_sdk.overlay import Match, cut_around, draw_overlay, find_match
from edge_sdk.records import Box, Decision, UInt8Array, Verdict

_FRAME_PX = (660, 880)
"""(height, width) that the frame is fitted into, small frames enlarged."""
_TILES_PX = (200, 320)
"""Smallest and largest side of a tile; two and their labels are as high as the frame."""
_MARGIN_PX = 16
_HEADER_PX = 84
_LABEL_PX = 30
_LABEL_WIDTH_PX = 330
_FOOTER_PX = 50
_TILE_CELLS = 4
"""A tile shows at least so many patches a side: one alone is not recognised."""

_PAPER, _INK, _GREY = (245, 245, 245), (25, 25, 25), (105, 105, 105)
_BANNERS = {
    Verdict.NORMAL: (24, 120, 60),
    Verdict.ANOMALOUS: (190, 28, 28),
    Verdict.FAULT: (120, 60, 150),
}
_WORDS = {
    Verdict.NORMAL: "GOOD",
    Verdict.ANOMALOUS: "NOT GOOD",
    Verdict.FAULT: "CANNOT TELL",
}
_FRAMED = (255, 40, 40)
_MATCHED = (20, 160, 80)


def draw_inspection(
    pixels: UInt8Array,
    decision: Decision,
    references: Sequence[UInt8Array],
    *,
    title: str,
) -> UInt8Array:
    """Draw a sheet: verdict in words, frame with heatmap, worst place beside its good match.

    Args:
        pixels: (H, W, 3) RGB or (H, W, 1) of the frame.
        decision: on this frame.
        references: (H, W, 3) RGB each, in the order that the scorer was fitted with.
        title: what the picture is called; letters that the font lacks become ``?``.

    Returns:
        (height, width, 3) RGB.
    """
    plain = to_rgb(pixels)
    main = _draw_frame(plain, decision)
    match = None if decision.verdict is Verdict.FAULT else find_match(decision)
    side = (main.shape[0] - 2 * _LABEL_PX - _MARGIN_PX) // 2
    side = min(max(side, _TILES_PX[0]), _TILES_PX[1])
    tiles: list[tuple[str, UInt8Array]] = []
    if match is not None:
        tiles = _draw_tiles(plain, decision, references[match.reference], match, side)
    column = _LABEL_WIDTH_PX + _MARGIN_PX if tiles else 0
    column_px = sum(_LABEL_PX + tile.shape[0] for _, tile in tiles) + _MARGIN_PX * bool(tiles)
    body = max(main.shape[0], column_px)
    width = max(main.shape[1] + column + 2 * _MARGIN_PX, 640)
    sheet = np.full((_HEADER_PX + 2 * _MARGIN_PX + body + _FOOTER_PX, width, 3), _PAPER, np.uint8)
    _draw_banner(sheet, decision, title)
    top = _HEADER_PX + _MARGIN_PX
    _paste(sheet, main, _MARGIN_PX, top)
    left = main.shape[1] + 2 * _MARGIN_PX
    for label, tile in tiles:
        _write(sheet, label, (left, top + 18), 0.55)
        _paste(sheet, tile, left, top + _LABEL_PX)
        top += _LABEL_PX + tile.shape[0] + _MARGIN_PX
    if decision.result is not None and decision.verdict is not Verdict.FAULT:
        _draw_scale(sheet)
    return sheet


def _draw_frame(plain: UInt8Array, decision: Decision) -> UInt8Array:
    height, width = plain.shape[:2]
    scale = min(_FRAME_PX[0] / height, _FRAME_PX[1] / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    shown = np.asarray(cv2.resize(plain, size, interpolation=cv2.INTER_AREA), np.uint8)
    if decision.result is None or decision.verdict is Verdict.FAULT or decision.threshold is None:
        return shown
    level = cv2.resize(decision.result.anomaly_map, size, interpolation=cv2.INTER_LINEAR)
    boxes = [
        Box(
            x=round(region.x * scale),
            y=round(region.y * scale),
            width=max(2, round(region.width * scale)),
            height=max(2, round(region.height * scale)),
        )
        for region in decision.regions
    ]
    return draw_overlay(shown, np.asarray(level, np.float32), decision.threshold, boxes)


def _draw_tiles(
    plain: UInt8Array, decision: Decision, reference: UInt8Array, match: Match, tile_px: int
) -> list[tuple[str, UInt8Array]]:
    """The worst place, and the patch of the reference it was matched with, equally enlarged."""
    height, width = plain.shape[:2]
    # In shares of the picture, because a reference from a folder may have another size.
    wide = max(match.patch_size[0] * _TILE_CELLS, 0.02)
    high = max(match.patch_size[1] * _TILE_CELLS, 0.02)
    side = max(wide * width, high * height)
    if decision.regions:
        worst = decision.regions[0]
        side = max(side, min(1.2 * max(worst.width, worst.height), 0.5 * min(height, width)))
    span = (min(1.0, side / width), min(1.0, side / height))
    is_bad = decision.verdict is Verdict.ANOMALOUS
    cut = functools.partial(_cut, span=span, patch=match.patch_size, tile_px=tile_px)
    return [
        (
            "this picture: the worst place" if is_bad else "this picture: least alike",
            cut(plain, match.place, colour=_FRAMED if is_bad else _GREY),
        ),
        (
            f"good picture no. {match.reference + 1}: most alike there",
            cut(reference, match.reference_place, colour=_MATCHED),
        ),
    ]


def _cut(
    pixels: UInt8Array,
    place: tuple[float, float],
    *,
    span: tuple[float, float],
    patch: tuple[float, float],
    tile_px: int,
    colour: tuple[int, int, int],
) -> UInt8Array:
    """A square around a place, enlarged, with the patch framed; everything in shares."""
    height, width = pixels.shape[:2]
    part, (left, top) = cut_around(pixels, place, span)
    scale = tile_px / max(part.shape[:2])
    size = (max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale)))
    tile = np.ascontiguousarray(cv2.resize(part, size, interpolation=cv2.INTER_CUBIC))
    half = (patch[0] * width * scale / 2, patch[1] * height * scale / 2)
    centre = ((place[0] * width - left) * scale, (place[1] * height - top) * scale)
    corners = [
        (round(centre[0] + sign * half[0]), round(centre[1] + sign * half[1])) for sign in (-1, 1)
    ]
    cv2.rectangle(tile, corners[0], corners[1], colour, 2)
    cv2.rectangle(tile, (0, 0), (size[0] - 1, size[1] - 1), colour, 2)
    return np.asarray(tile, np.uint8)


def _draw_banner(sheet: UInt8Array, decision: Decision, title: str) -> None:
    sheet[:_HEADER_PX] = _BANNERS[decision.verdict]
    white = (255, 255, 255)
    _write(sheet, _WORDS[decision.verdict], (_MARGIN_PX, 38), 1.1, colour=white, weight=2)
    result, threshold = decision.result, decision.threshold
    if decision.verdict is Verdict.FAULT or result is None or threshold is None:
        said = f"{decision.reason}: {decision.detail}"
    else:
        said = f"score {result.image_score:.3f}, limit {threshold:.3f}"
        said += " (provisional)" if decision.provisional else ""
        count = len(decision.regions)
        said += f", {count} place{'s' if count > 1 else ''} over it" if count else ""
    _write(sheet, f"{title}   {said}", (_MARGIN_PX, 70), 0.55, colour=white)


def _draw_scale(sheet: UInt8Array) -> None:
    """The colours of the heatmap, and what they mean."""
    left, width, height = _MARGIN_PX, 240, 14
    top = sheet.shape[0] - _FOOTER_PX + 8
    ramp = np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1))
    _paste(sheet, np.asarray(cv2.applyColorMap(ramp, cv2.COLORMAP_JET)[:, :, ::-1]), left, top)
    cv2.line(sheet, (left + width // 2, top - 4), (left + width // 2, top + height + 4), _INK, 2)
    for text, x in (("same", left), ("limit", left + 102), ("2 x limit", left + 174)):
        _write(sheet, text, (x, top + height + 18), 0.45)
    _write(sheet, "white outline: over the limit", (left + width + 24, top + 11), 0.45)
    _write(sheet, "red box: where to look", (left + width + 24, top + height + 18), 0.45)


def _paste(sheet: UInt8Array, picture: UInt8Array, left: int, top: int) -> None:
    sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture


def _write(
    sheet: UInt8Array,
    text: str,
    place: tuple[int, int],
    size: float,
    *,
    colour: tuple[int, int, int] = _INK,
    weight: int = 1,
) -> None:
    """Write a line, shortened until it fits; the built-in font has ASCII only."""
    plain = text.encode("ascii", "replace").decode("ascii")
    font, room = cv2.FONT_HERSHEY_SIMPLEX, sheet.shape[1] - place[0] - 4
    while len(plain) > 4 and cv2.getTextSize(plain, font, size, weight)[0][0] > room:
        plain = plain[:-4] + "..."
    cv2.putText(sheet, plain, place, font, size, colour, weight, cv2.LINE_AA)
