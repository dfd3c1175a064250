"""Sheets of really judged pictures, looked at by their colours."""

from __future__ import annotations

import numpy as np
import pytest
from scenes import camera_config, engine_config, fixture_part, flat, frame_of, make_bundle

from edge_sdk.model import load_model
from edge_sdk.pipeline import Pipeline, build_pipeline
from edge_sdk.records import UInt8Array, Verdict
from edge_sdk.references import ReferenceStore, TokenCache
from edge_sdk.sheet import draw_inspection

GREEN, RED, VIOLET = (24, 120, 60), (190, 28, 28), (120, 60, 150)
FRAMED, MATCHED = (255, 40, 40), (20, 160, 80)
GOOD = [fixture_part(seed) for seed in range(4)]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """The golden encoder behind a folder source, which takes pictures of any size."""
    folder = tmp_path_factory.mktemp("sheet")
    model = load_model(make_bundle(folder / "bundle"), engine_config())
    camera = camera_config(source=f"dir:{folder}")
    frames = [frame_of(pixels) for pixels in GOOD]
    references = ReferenceStore(folder, camera.name).save("default", frames, source="test")
    return build_pipeline(model, camera, references, TokenCache(folder))


def sheet_of(pipeline: Pipeline, pixels: UInt8Array, title: str = "part.png") -> UInt8Array:
    return draw_inspection(pixels, pipeline.inspect(frame_of(pixels)), GOOD, title=title)


def count(sheet: UInt8Array, colour: tuple[int, int, int]) -> int:
    return int((sheet == np.array(colour, np.uint8)).all(axis=2).sum())


def test_a_good_part_is_shown_green_and_without_red(pipeline: Pipeline) -> None:
    pixels = fixture_part(50)
    assert pipeline.inspect(frame_of(pixels)).verdict is Verdict.NORMAL
    sheet = sheet_of(pipeline, pixels)
    assert count(sheet[:84], GREEN) > 0.8 * sheet[:84].shape[0] * sheet.shape[1]
    assert count(sheet, FRAMED) == 0
    assert count(sheet, MATCHED) > 0  # what it was compared with is shown all the same


def test_a_bad_part_is_shown_red_with_the_worst_place_beside_its_good_match(
    pipeline: Pipeline,
) -> None:
    pixels = fixture_part(50, is_complete=False)
    decision = pipeline.inspect(frame_of(pixels))
    assert decision.verdict is Verdict.ANOMALOUS
    sheet = sheet_of(pipeline, pixels)
    assert count(sheet[:84], RED) > 0.8 * sheet[:84].shape[0] * sheet.shape[1]
    assert count(sheet, FRAMED) > 200  # box in the frame, tile, patch
    assert count(sheet, MATCHED) > 200
    # The frame is enlarged to 660 rows; under the box of the worst region lies the label's place.
    scale, worst = 660 / pixels.shape[0], decision.regions[0]
    left, top = 16 + round(worst.x * scale), 84 + 16 + round(worst.y * scale)
    assert (sheet[top, left + 3 : left + 20] == FRAMED).all()


def test_a_fault_is_shown_neither_good_nor_bad_and_without_a_heatmap(pipeline: Pipeline) -> None:
    black = flat(0)
    assert pipeline.inspect(frame_of(black)).verdict is Verdict.FAULT
    sheet = sheet_of(pipeline, black)
    assert count(sheet[:84], VIOLET) > 0.5 * sheet[:84].shape[0] * sheet.shape[1]
    body = sheet[100:-50, 16:-16]
    assert set(np.unique(body)) <= {0, 245}  # the black picture on the paper, nothing else


@pytest.mark.parametrize(
    "pixels",
    [
        fixture_part(1)[:, :, :1],
        flat(90, (16, 16)),
        flat(90, (16, 1200)),
        flat(90, (1200, 16)),
        np.tile(fixture_part(1), (40, 60, 1)),
    ],
    ids=["grey", "tiny", "very wide", "very high", "of a camera"],
)
def test_pictures_of_every_shape_find_room(pipeline: Pipeline, pixels: UInt8Array) -> None:
    sheet = sheet_of(pipeline, np.ascontiguousarray(pixels))
    assert sheet.dtype == np.uint8
    assert 300 <= sheet.shape[0] <= 900
    assert 600 <= sheet.shape[1] <= 1400


def test_a_title_of_any_letters_and_length_fits(pipeline: Pipeline) -> None:
    plain = sheet_of(pipeline, fixture_part(1))
    odd = sheet_of(pipeline, fixture_part(1), title="größer 部品 " + "x" * 500)
    assert odd.shape == plain.shape
    assert (odd[:84, -4:] == GREEN).all()  # it ends before the edge
    assert np.array_equal(odd[84:], plain[84:])
