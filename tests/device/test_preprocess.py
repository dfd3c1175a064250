from __future__ import annotations

import numpy as np
import pytest
from scenes import fixture_part, flat, frame_of, input_spec

from edge_sdk.bundle import ResizeSpec
from edge_sdk.errors import ConfigError, InputError
from edge_sdk.imaging import scale_brightness
from edge_sdk.preprocess import BRIGHTNESS_GAINS, Preprocessor, mean_brightness
from edge_sdk.records import Box, UInt8Array


def noise(height: int, width: int, channels: int = 3) -> UInt8Array:
    return np.random.default_rng(1).integers(0, 256, (height, width, channels), np.uint8)


def test_a_frame_is_squashed_to_the_model_size_by_averaging() -> None:
    pixels = noise(64, 96)
    prepared = Preprocessor(input_spec((16, 32)))(frame_of(pixels))
    assert prepared.tensor.shape == (1, 16, 32, 3)
    assert prepared.tensor.dtype == np.uint8
    means = pixels.reshape(16, 4, 32, 3, 3).mean(axis=(1, 3))
    assert np.abs(prepared.tensor[0] - means).max() <= 0.5


def test_a_frame_of_the_model_size_is_passed_on_untouched() -> None:
    pixels = noise(32, 32)
    prepared = Preprocessor(input_spec())(frame_of(pixels))
    assert np.array_equal(prepared.tensor[0], pixels)
    assert not prepared.tensor.flags.writeable


def test_a_mono_camera_gives_three_equal_channels() -> None:
    pixels = noise(32, 32, 1)
    prepared = Preprocessor(input_spec())(frame_of(pixels))
    assert np.array_equal(prepared.tensor[0], np.repeat(pixels, 3, axis=2))
    assert prepared.frame.pixels.shape == (32, 32, 1)


def test_only_the_crop_is_seen_and_the_geometry_says_where_it_lies() -> None:
    pixels = flat(10, (100, 200))
    pixels[20:52, 40:104] = (50, 60, 70)
    crop = Box(x=40, y=20, width=64, height=32)
    prepared = Preprocessor(input_spec((16, 16)), crop=crop)(frame_of(pixels))
    assert (prepared.tensor == (50, 60, 70)).all()
    assert prepared.geometry.window == crop
    assert prepared.geometry.frame_size == (100, 200)
    assert prepared.geometry.inspected is None


@pytest.mark.parametrize(
    "crop",
    [
        Box(x=1, y=0, width=64, height=48),
        Box(x=0, y=1, width=64, height=48),
        Box(x=0, y=0, width=48, height=64),
    ],
)
def test_a_crop_that_does_not_lie_in_the_frame_is_refused(crop: Box) -> None:
    preprocess = Preprocessor(input_spec(), crop=crop)
    with pytest.raises(InputError, match=r"crop: expected to lie in the 64x48 frame, got x="):
        preprocess(frame_of(flat(9, (48, 64))))


def test_a_crop_may_touch_every_edge_of_the_frame() -> None:
    crop = Box(x=0, y=0, width=64, height=48)
    preprocess = Preprocessor(input_spec(), crop=crop)
    assert preprocess(frame_of(flat(9, (48, 64)))).geometry.window == crop


def test_what_is_inspected_is_the_included_without_the_excluded_inside_the_crop() -> None:
    left = [(0, 0), (19, 0), (19, 29), (0, 29)]
    right = [(30, 0), (39, 0), (39, 29), (30, 29)]
    hole = [(5, 10), (9, 10), (9, 14), (5, 14)]
    preprocess = Preprocessor(
        input_spec(),
        crop=Box(x=0, y=0, width=35, height=25),
        include=[left, right],
        exclude=[hole],
    )
    expected = np.zeros((30, 40), bool)
    expected[:25, :20] = True
    expected[:25, 30:35] = True
    expected[10:15, 5:10] = False
    mask = preprocess(frame_of(flat(9, (30, 40)))).geometry.inspected
    assert mask is not None
    assert np.array_equal(mask, expected)
    assert not mask.flags.writeable


def test_an_exclusion_alone_leaves_everything_else() -> None:
    corner = [(0, 0), (9, 0), (9, 9), (0, 9)]
    preprocess = Preprocessor(input_spec(), exclude=[corner])
    mask = preprocess(frame_of(flat(9, (30, 40)))).geometry.inspected
    assert mask is not None
    assert not mask[:10, :10].any()
    assert mask.sum() == 30 * 40 - 100


@pytest.mark.parametrize("corner", [(41, 5), (5, 31)])
@pytest.mark.parametrize("mode", ["include", "exclude"])
def test_a_region_beyond_the_frame_is_refused(corner: tuple[int, int], mode: str) -> None:
    polygon = [(0, 0), (4, 0), corner]
    preprocess = Preprocessor(
        input_spec(),
        include=[polygon] if mode == "include" else [],
        exclude=[polygon] if mode == "exclude" else [],
    )
    with pytest.raises(InputError, match=r"regions: expected corners in the 40x30 frame, got \("):
        preprocess(frame_of(flat(9, (30, 40))))


def test_regions_that_leave_nothing_to_inspect_are_refused() -> None:
    square = [(0, 0), (9, 0), (9, 9), (0, 9)]
    preprocess = Preprocessor(input_spec(), include=[square], exclude=[square])
    with pytest.raises(InputError, match="nothing is left to inspect"):
        preprocess(frame_of(flat(9, (30, 40))))


@pytest.mark.parametrize("mode", ["letterbox", "crop"])
def test_a_bundle_that_wants_another_way_of_fitting_is_refused(mode: str) -> None:
    resize = ResizeSpec.model_validate({"mode": mode, "kernel": "area", "antialias": True})
    with pytest.raises(ConfigError, match=f"this runtime has 'squash', got '{mode}'"):
        Preprocessor(input_spec(resize=resize))


def test_a_bundle_that_wants_grey_pictures_is_refused_rather_than_fed_with_colours() -> None:
    with pytest.raises(ConfigError, match="gray"):
        Preprocessor(input_spec(color="gray"))


def test_a_picture_is_brought_to_the_brightness_of_the_references() -> None:
    reference = frame_of(fixture_part(5))
    plain = Preprocessor(input_spec())
    level = mean_brightness([plain(reference)])
    matched = plain.with_brightness(level)
    dim = frame_of(scale_brightness(reference.pixels, 0.85))
    assert abs(float(matched(dim).tensor.mean()) - level) < 1.0
    assert np.array_equal(matched(reference).tensor, plain(reference).tensor)


def test_brightness_is_matched_only_as_far_as_a_lamp_may_drift() -> None:
    reference = frame_of(fixture_part(5))
    plain = Preprocessor(input_spec())
    level = mean_brightness([plain(reference)])
    night = frame_of(scale_brightness(reference.pixels, 0.4))
    lowest, highest = BRIGHTNESS_GAINS
    assert lowest < 1 < highest
    assert float(plain.with_brightness(level)(night).tensor.mean()) < 0.6 * level
