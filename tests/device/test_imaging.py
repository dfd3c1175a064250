from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import textwrap
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scenes import child_environment, enlarge

from edge_sdk.errors import InputError
from edge_sdk.imaging import (
    MAX_PICTURE_BYTES,
    blur_map,
    box_average,
    connected_boxes,
    decode_image,
    encode_jpeg,
    encode_png,
    polygon_mask,
    read_image,
    resize_picture,
    scale_brightness,
    shift_picture,
    to_rgb,
    upsample_map,
)
from edge_sdk.records import Box, UInt8Array

FORMATS = ["png", "jpg", "bmp"]


def noise(height: int, width: int, channels: int = 3, *, seed: int = 0) -> UInt8Array:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def encoded(suffix: str, pixels: NDArray[Any]) -> bytes:
    """What another program would write of (H, W[, C]) pixels in OpenCV's order of colours."""
    done, data = cv2.imencode(f".{suffix}", pixels)
    assert done
    return bytes(data)


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_of_size(width: int, height: int) -> bytes:
    """A whole, valid black-and-white PNG."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = b"\0" * (1 + (width + 7) // 8)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    chunks = (png_chunk(b"IHDR", header), png_chunk(b"IDAT", data), png_chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def jpeg_of_size(width: int, height: int) -> bytes:
    """A JPEG that says it is this large, with 100 kB behind its header."""
    data = bytearray(encoded("jpg", noise(16, 16)))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data[:-2]) + b"\x55" * 100_000 + b"\xff\xd9"


def bmp_of_size(width: int, height: int) -> bytes:
    """A run-length encoded BMP: a whole picture of any size needs a few bytes only."""
    palette = b"\0" * 1024
    body = b"\xff\x00" * 50_000 + b"\0\x01"
    start = 14 + 40 + len(palette)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 0, 0, 256, 0)
    return struct.pack("<2sIHHI", b"BM", start + len(body), 0, 0, start) + info + palette + body


MEASURE = """
import json, sys, time
from pathlib import Path
from edge_sdk.errors import InputError
from edge_sdk.imaging import decode_image

def peak_kb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))

data = Path(sys.argv[1]).read_bytes()
before, start = peak_kb(), time.perf_counter()
try:
    decode_image(data, name="bomb")
    said = "decoded"
except InputError as error:
    said = str(error)
seconds = time.perf_counter() - start
print(json.dumps({"said": said, "seconds": seconds, "grown_kb": peak_kb() - before}))
"""


@pytest.mark.parametrize("make", [png_of_size, jpeg_of_size, bmp_of_size])
def test_a_small_file_that_promises_a_giant_picture_costs_neither_time_nor_memory(
    make: Any, tmp_path: Path
) -> None:
    bomb = tmp_path / "bomb"
    bomb.write_bytes(make(30000, 30000))
    assert 80_000 < bomb.stat().st_size < 200_000
    answer = json.loads(
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(MEASURE), str(bomb)],
            env=child_environment(),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
    )
    assert "its header says 30000x30000" in answer["said"]
    assert answer["seconds"] < 0.5
    assert answer["grown_kb"] < 4096


@pytest.mark.parametrize("make", [png_of_size, jpeg_of_size, bmp_of_size])
@pytest.mark.parametrize(("width", "height"), [(8193, 1), (1, 8193), (8192, 4097), (0, 8), (8, 0)])
def test_a_side_or_an_area_beyond_the_limits_is_refused(make: Any, width: int, height: int) -> None:
    with pytest.raises(InputError, match=f"its header says {width}x{height}"):
        decode_image(make(width, height), name="large")


def test_a_picture_at_the_limits_is_read() -> None:
    assert decode_image(png_of_size(8192, 4096), name="largest").shape == (4096, 8192, 3)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("share", [0.01, 0.3, 0.9, 0.99])
def test_a_truncated_picture_is_refused_by_name(suffix: str, share: float) -> None:
    data = encoded(suffix, noise(60, 80))
    with pytest.raises(InputError, match=r"^cut\.file: "):
        decode_image(data[: int(share * len(data))], name="cut.file")


@settings(max_examples=150)
@given(
    suffix=st.sampled_from(FORMATS),
    places=st.lists(st.floats(0, 0.999), min_size=1, max_size=4),
    value=st.integers(0, 255),
)
def test_a_damaged_picture_is_decoded_or_refused_and_nothing_else(
    suffix: str, places: list[float], value: int
) -> None:
    data = bytearray(encoded(suffix, noise(12, 20)))
    for place in places:
        data[int(place * len(data))] = value
    try:
        pixels = decode_image(bytes(data), name="damaged")
    except InputError:
        return  # refused; anything else that is raised fails the test
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert pixels.dtype == np.uint8


@given(st.binary(max_size=64), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"BM", b"\xff\xd8\xff"]))
def test_bytes_that_are_no_picture_are_refused(data: bytes, start: bytes) -> None:
    with pytest.raises(InputError):
        decode_image(start + data, name="no picture")


ONE_PIXEL_GIF = bytes.fromhex(
    "47494638396101000100800000000000ffffff2c00000000010001000002024401003b"
)


@pytest.mark.parametrize("suffix", ["gif", "webp", "tiff"])
def test_formats_without_a_header_check_are_refused(suffix: str) -> None:
    # OpenCV before 4.12 cannot write a GIF.
    data = ONE_PIXEL_GIF if suffix == "gif" else encoded(suffix, noise(16, 16))
    with pytest.raises(InputError, match="expected a PNG, JPEG or BMP picture, starts with"):
        decode_image(data, name="other")


def test_what_is_no_regular_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, tmp_path / "absent.png"):
        with pytest.raises(InputError, match="expected a picture file, found none"):
            read_image(path)


def test_a_file_beyond_the_size_limit_is_not_even_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate(MAX_PICTURE_BYTES + 1)
    with pytest.raises(InputError, match=f"at most {MAX_PICTURE_BYTES} bytes, got"):
        read_image(path)


@pytest.mark.parametrize("suffix", FORMATS)
def test_red_stays_red_and_the_file_is_read_whole(suffix: str, tmp_path: Path) -> None:
    red = np.zeros((24, 40, 3), np.uint8)
    red[:, :, 2] = 200  # OpenCV's order is blue, green, red
    path = tmp_path / f"red.{suffix}"
    path.write_bytes(encoded(suffix, red))
    pixels = read_image(path)
    assert pixels.shape == (24, 40, 3)
    assert np.abs(pixels.astype(int) - (200, 0, 0)).max() <= 3


def test_a_grey_picture_is_replicated() -> None:
    grey = noise(9, 7, 1)
    for suffix in ("png", "bmp"):
        pixels = decode_image(encoded(suffix, grey), name="grey")
        assert np.array_equal(pixels, np.repeat(grey, 3, axis=2))


def test_transparency_is_dropped_and_the_colour_below_it_kept() -> None:
    picture = noise(9, 7, 4)
    pixels = decode_image(encoded("png", picture), name="glass")
    assert np.array_equal(pixels, picture[:, :, 2::-1])


def test_a_bmp_written_from_the_top_is_read_the_right_way_up() -> None:
    picture = noise(8, 8)
    data = bytearray(encoded("bmp", picture))
    data[22:26] = struct.pack("<i", -8)
    pixels = decode_image(bytes(data), name="top-down")
    assert np.array_equal(pixels, picture[::-1, :, ::-1])


def test_a_camera_that_was_held_on_its_side_gives_an_upright_picture() -> None:
    picture = np.zeros((16, 48, 3), np.uint8)
    picture[:, :16] = 255
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    plain = encoded("jpg", picture)
    turned = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]
    pixels = decode_image(turned, name="turned")
    assert pixels.shape == (48, 16, 3)  # orientation 6: a quarter turn to the right
    assert pixels[:12].min() > 200
    assert pixels[20:].max() < 50


@given(
    height=st.integers(1, 20), width=st.integers(1, 20), channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_png_is_lossless(height: int, width: int, channels: int, seed: int) -> None:
    pixels = noise(height, width, channels, seed=seed)
    assert np.array_equal(decode_image(encode_png(pixels), name="png"), to_rgb(pixels))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_fits_the_limit_in_the_best_quality_that_does(channels: int) -> None:
    pixels = noise(96, 96, channels)
    best = encode_jpeg(pixels, max_bytes=10**6)
    assert best is not None
    assert encode_jpeg(pixels, max_bytes=len(best)) == best
    smaller = encode_jpeg(pixels, max_bytes=len(best) - 1)
    assert smaller is not None
    assert len(smaller) < len(best)
    assert decode_image(smaller, name="smaller").shape == (96, 96, 3)


@given(st.integers(0, 12_000))
def test_a_jpeg_never_exceeds_the_limit_and_is_none_where_nothing_fits(max_bytes: int) -> None:
    pixels = noise(48, 48)
    smallest = len(encoded("jpg", pixels[:, :, ::-1]))
    data = encode_jpeg(pixels, max_bytes=max_bytes)
    if data is None:
        assert max_bytes < smallest
    else:
        assert len(data) <= max_bytes


@pytest.mark.parametrize(
    ("kernel", "antialias"),
    [("area", False), ("lanczos", True), ("", False)],
)
def test_a_way_of_resizing_that_is_not_built_is_refused(kernel: str, antialias: bool) -> None:
    with pytest.raises(InputError, match="resize: no kernel"):
        resize_picture(noise(8, 8), (4, 4), kernel=kernel, antialias=antialias)


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(7, 40), (90, 31)])
def test_antialiased_kernels_are_those_of_pillow(kernel: str, size: tuple[int, int]) -> None:
    image = pytest.importorskip("PIL.Image", reason="the extra clip is not installed")
    pixels = noise(24, 60)
    expected = image.fromarray(pixels).resize(size[::-1], image.Resampling[kernel.upper()])
    resized = resize_picture(pixels, size, kernel=kernel, antialias=True)
    assert (resized == np.asarray(expected)).all()


def test_shrinking_by_area_is_the_mean_of_each_block() -> None:
    pixels = noise(24, 40)
    small = resize_picture(pixels, (6, 8), kernel="area", antialias=True)
    blocks = pixels.reshape(6, 4, 8, 5, 3).mean(axis=(1, 3))
    assert np.abs(small - blocks).max() <= 0.5


@given(
    grid=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    factor=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    channels=st.sampled_from([1, 2, 5, 120]),
    seed=st.integers(0, 9),
)
def test_maps_are_enlarged_bilinearly_between_the_centres_of_cells(
    grid: tuple[int, int], factor: tuple[int, int], channels: int, seed: int
) -> None:
    values = np.random.default_rng(seed).random((*grid, channels)).astype(np.float32)
    size = (grid[0] * factor[0], grid[1] * factor[1])
    large = upsample_map(values, size).reshape(*size, channels)
    assert np.abs(large - enlarge(values, size)).max() < 1e-5


@pytest.mark.parametrize("channels", [129, 320, 1280])
def test_layers_of_many_channels_are_enlarged_too(channels: int) -> None:
    values = np.random.default_rng(0).random((3, 4, channels)).astype(np.float32)
    large = upsample_map(values, (6, 8))
    assert large.shape == (6, 8, channels)
    assert np.abs(large - enlarge(values, (6, 8))).max() < 1e-5


def test_a_blur_keeps_a_level_and_the_total_and_is_left_out_at_zero() -> None:
    level = np.full((5, 9), 0.7, np.float32)
    assert np.abs(blur_map(level, 2.0) - 0.7).max() < 1e-5
    spot = np.zeros((5, 9), np.float32)
    spot[0, 8] = 1
    blurred = blur_map(spot, 1.5)
    assert blurred.sum() == pytest.approx(1, abs=1e-5)
    assert blurred.max() < 0.5
    assert blur_map(spot, 0) is spot


@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 3)),
    side=st.sampled_from([1, 3, 5, 9]),
    seed=st.integers(0, 99),
)
def test_a_box_average_is_the_mean_over_the_neighbours_inside(
    shape: tuple[int, int, int], side: int, seed: int
) -> None:
    tokens = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    before = tokens.copy()
    averaged = box_average(tokens, side)
    reach = side // 2
    for y in range(shape[0]):
        for x in range(shape[1]):
            square = before[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
            expected = square.astype(np.float64).mean(axis=(0, 1))
            assert np.abs(averaged[y, x] - expected).max() < 1e-5
    assert np.array_equal(tokens, before)


def test_a_token_that_is_not_a_number_spoils_its_neighbours_and_nobody_else() -> None:
    tokens = np.ones((5, 5, 2), np.float32)
    tokens[0, 0, 0] = np.nan
    bad = np.isnan(box_average(tokens, 3))
    expected = np.zeros((5, 5, 2), bool)
    expected[:2, :2, 0] = True
    assert np.array_equal(bad, expected)


def test_a_polygon_has_its_edge_inside() -> None:
    mask = polygon_mask((10, 12), [(2, 3), (6, 3), (6, 8), (2, 8)])
    expected = np.zeros((10, 12), bool)
    expected[3:9, 2:7] = True
    assert np.array_equal(mask, expected)


def test_parts_that_touch_at_a_corner_are_one() -> None:
    mask = np.zeros((8, 9), bool)
    mask[1, 1] = mask[2, 2] = mask[3, 2] = True
    mask[6, 7] = True
    first, second = connected_boxes(mask)
    assert first[:2] == (Box(x=1, y=1, width=2, height=3), 3)
    assert np.array_equal(first[2], [[True, False], [False, True], [False, True]])
    assert second[:2] == (Box(x=7, y=6, width=1, height=1), 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_light_is_scaled_rounded_and_cut_at_white(channels: int) -> None:
    pixels = noise(6, 8, channels)
    expected = np.clip(np.floor(pixels * 1.5 + 0.5), 0, 255)
    assert np.array_equal(scale_brightness(pixels, 1.5), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_shift_moves_to_the_right_and_down_and_repeats_the_edge(channels: int) -> None:
    pixels = noise(8, 10, channels)
    moved = shift_picture(pixels, 2, 3)
    assert moved.shape == pixels.shape
    assert np.array_equal(moved[3:, 2:], pixels[:-3, :-2])
    assert np.array_equal(moved[0, 2:], pixels[0, :-2])
    assert np.array_equal(moved[3:, 0], pixels[:-3, 0])
