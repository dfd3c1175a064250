"""What is found wrong with a picture, and what is left alone."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from scenes import flat, frame_of

from edge_sdk.imaging import read_image, scale_brightness
from edge_sdk.picture_checks import (
    ODD_FACTOR,
    blur_metric,
    check_fellows,
    check_pixels,
    sharpness,
)
from edge_sdk.records import UInt8Array

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def part(seed: int) -> UInt8Array:
    """(96, 128, 3) edges that no other seed has, and a little noise."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(40, 200, (12, 16, 3)).repeat(8, axis=0).repeat(8, axis=1)
    noisy = blocks + rng.integers(-4, 5, blocks.shape)
    return noisy.astype(np.uint8)


def faults(*pictures: UInt8Array) -> list[tuple[int, str, str]]:
    findings = check_pixels([frame_of(pixels) for pixels in pictures])
    return [(finding.picture, finding.fault, finding.gravity) for finding in findings]


def blurred(pixels: UInt8Array, sigma: float = 4) -> UInt8Array:
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma), np.uint8)


def test_good_pictures_have_nothing_wrong() -> None:
    assert faults(*(part(seed) for seed in range(6))) == []


def test_a_picture_blurred_beside_its_fellows_is_refused() -> None:
    assert faults(part(0), part(1), blurred(part(2)), part(3)) == [(3, "blurred", "refused")]


def test_a_lens_out_of_focus_is_noticed_without_a_sharp_fellow() -> None:
    steps = np.random.default_rng(0).integers(0, 256, (12, 16, 1)).repeat(24, 0).repeat(24, 1)
    sharp = steps.astype(np.uint8).repeat(3, axis=2)
    assert faults(sharp) == []
    assert faults(blurred(sharp, 6)) == [(1, "blurred", "refused")]


def test_a_bare_part_is_not_called_blurred() -> None:
    bare = np.clip(150 + np.random.default_rng(5).normal(0, 2, (96, 128, 3)), 0, 255)
    assert faults(part(0), part(1), part(2), bare.astype(np.uint8)) == []


def test_the_same_file_twice_is_refused_and_an_unmoved_part_doubtful() -> None:
    again = np.clip(part(0) + np.random.default_rng(1).normal(0, 3, part(0).shape), 0, 255)
    assert faults(part(0), part(1), part(0)) == [(3, "duplicate", "refused")]
    assert faults(part(0), part(1), again.astype(np.uint8)) == [(3, "duplicate", "doubtful")]


def test_a_lamp_that_was_off_is_doubtful() -> None:
    dark = scale_brightness(part(2), 0.4)
    assert faults(part(0), part(1), dark) == [(3, "exposure", "doubtful")]


def test_of_a_picture_that_shows_nothing_that_alone_is_said() -> None:
    assert faults(flat(0), part(1), part(2)) == [(1, "black", "refused")]


def test_grey_pictures_and_pictures_of_several_sizes_are_looked_at_too() -> None:
    grey = part(1)[:, :, :1]
    assert faults(part(0), grey, part(2)[:48, :48]) == []
    assert faults(grey, part(2), grey.copy()) == [(3, "duplicate", "refused")]


def test_the_odd_one_among_its_fellows_is_named_with_the_figures() -> None:
    (finding,) = check_fellows([0.1, 0.12, 0.1 * ODD_FACTOR + 0.1, 0.1])
    assert (finding.picture, finding.fault, finding.gravity) == (3, "odd", "doubtful")
    assert "score 0.400, theirs about 0.100" in finding.detail
    assert check_fellows([0.1, 0.12, 0.2, 0.1]) == []
    assert check_fellows([0.1, 9.0]) == [], "of two, none is the odd one"


def test_sharpness_falls_and_the_metric_rises_with_every_blur() -> None:
    grey = part(0)[:, :, 0]
    series = [grey, *(blurred(grey, sigma) for sigma in (1, 2, 4))]
    values = [sharpness(picture) for picture in series]
    metrics = [blur_metric(picture) for picture in series]
    assert values == sorted(values, reverse=True)
    assert metrics == sorted(metrics)


@pytest.mark.parametrize(
    "folder",
    ["magnetic_tile/tile", "commutator/kolektor", "pcb/deeppcb", "bottle_line/bottles"],
)
def test_real_good_pictures_pass_and_one_blurred_by_three_pixels_does_not(folder: str) -> None:
    if not SHARED.is_dir():
        pytest.skip("no real pictures here")
    files = sorted((SHARED / folder / "train" / "good").iterdir())[::5][:4]
    pictures = [read_image(file) for file in files]
    assert [found for found in faults(*pictures) if found[2] == "refused"] == []
    spoilt = [*pictures[:3], blurred(pictures[3], 3)]
    assert [found[:2] for found in faults(*spoilt) if found[2] == "refused"] == [(4, "blurred")]
