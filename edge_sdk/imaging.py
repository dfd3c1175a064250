"""The one home of picture arithmetic: decode, encode, resize, blur.

OpenCV is named here, where pictures are drawn for people (``overlay``, ``sheet``) and in
``capture`` only, so that every part of the product that resizes a picture does it in the same way.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

# OpenCV reads this once, when it is imported: a second wall behind the header check below.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**25))

import cv2
import numpy as np

from edge_sdk.errors import EngineError, InputError
from edge_sdk.records import BoolArray, Box, FloatArray, UInt8Array

# Beside the inference runtime's pool a second one costs more than it gives (docs/performance.md).
cv2.setNumThreads(1)

MAX_PICTURE_SIDE_PX = 8192
MAX_PICTURE_PX = 2**25
MAX_PICTURE_BYTES = 32 * 2**20

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG_STANDALONE = {0x01, *range(0xD0, 0xD9)}
_JPEG_FRAME_HEADERS = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

_MAX_CHANNELS = 128
"""What OpenCV 5 takes in one picture (4.x: 512); a layer of a backbone has more."""
_KERNELS = {"area": cv2.INTER_AREA, "bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}


def read_image(path: Path) -> UInt8Array:
    """Read a PNG, JPEG or BMP file.

    Returns:
        (H, W, 3) uint8 RGB; grey pictures are replicated, transparency is dropped.

    Raises:
        InputError: the file is absent, not a regular file, too large, or does not decode.
    """
    if not path.is_file():  # also keeps a FIFO from blocking us
        raise InputError(f"{path}: expected a picture file, found none")
    size = path.stat().st_size
    if size > MAX_PICTURE_BYTES:
        raise InputError(f"{path}: expected at most {MAX_PICTURE_BYTES} bytes, got {size}")
    return decode_image(path.read_bytes(), name=str(path))


def decode_image(data: bytes, *, name: str) -> UInt8Array:
    """Decode a PNG, JPEG or BMP; its size is checked in the header, before anything is decoded.

    Args:
        data: the whole file.
        name: what an error message calls it.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        InputError: another format, a picture larger than the limits, or broken data.
    """
    if len(data) > MAX_PICTURE_BYTES:
        raise InputError(f"{name}: expected at most {MAX_PICTURE_BYTES} bytes, got {len(data)}")
    height, width = _header_size(data, name)
    if not (0 < height <= MAX_PICTURE_SIDE_PX and 0 < width <= MAX_PICTURE_SIDE_PX) or (
        height * width > MAX_PICTURE_PX
    ):
        raise InputError(
            f"{name}: expected at most {MAX_PICTURE_SIDE_PX} px a side and {MAX_PICTURE_PX} px in "
            f"all, its header says {width}x{height}"
        )
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise InputError(f"{name}: does not decode ({error.err})") from error
    if pixels is None:
        raise InputError(f"{name}: does not decode")
    return np.ascontiguousarray(pixels, dtype=np.uint8)


def _header_size(data: bytes, name: str) -> tuple[int, int]:
    """(height, width) out of the header of a PNG, JPEG or BMP."""
    if data.startswith(_PNG) and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return height, width
    if data.startswith(b"BM") and len(data) >= 26:
        width, height = struct.unpack("<ii", data[18:26])
        return abs(height), width
    if data.startswith(b"\xff\xd8"):
        return _jpeg_size(data, name)
    raise InputError(f"{name}: expected a PNG, JPEG or BMP picture, starts with {data[:8]!r}")


def _jpeg_size(data: bytes, name: str) -> tuple[int, int]:
    position = 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker in _JPEG_STANDALONE:
            position += 2
        elif marker in _JPEG_FRAME_HEADERS:
            height, width = struct.unpack(">HH", data[position + 5 : position + 9])
            return height, width
        else:
            position += 2 + int(struct.unpack(">H", data[position + 2 : position + 4])[0])
    raise InputError(f"{name}: a JPEG without a frame header")


def encode_png(pixels: UInt8Array) -> bytes:
    """Encode (H, W, 3) RGB or (H, W, 1) uint8 without loss."""
    return _encode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 3])


def encode_jpeg(pixels: UInt8Array, *, max_bytes: int) -> bytes | None:
    """Encode (H, W, 3) RGB uint8, stepping the quality down until it fits.

    Returns:
        The file, or None where no quality from 90 down to 30 fits ``max_bytes``.
    """
    for quality in (90, 75, 60, 45, 30):
        data = _encode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if len(data) <= max_bytes:
            return data
    return None


def _encode(suffix: str, pixels: UInt8Array, options: list[int]) -> bytes:
    picture = pixels[:, :, ::-1] if pixels.shape[2] == 3 else pixels
    is_encoded, data = cv2.imencode(suffix, np.ascontiguousarray(picture), options)
    if not is_encoded:
        raise InputError(f"cannot encode a picture of shape {pixels.shape} as {suffix}")
    return bytes(data)


def resize_picture(
    pixels: UInt8Array, size: tuple[int, int], *, kernel: str, antialias: bool
) -> UInt8Array:
    """Resize a picture to ``size``, ignoring its aspect.

    Args:
        pixels: (H, W, 3) uint8.
        size: (height, width) wanted, in pixels.
        kernel: ``area``, ``bilinear`` or ``bicubic``. ``area`` averages where it shrinks and
            interpolates linearly where it enlarges.
        antialias: True for ``area``. For the others: True widens the kernel where it shrinks, as
            Pillow does and by Pillow; False samples OpenCV's way.

    Raises:
        InputError: a kernel this runtime does not have.
        EngineError: Pillow is needed and not installed.
    """
    if kernel not in _KERNELS or (kernel == "area" and not antialias):
        raise InputError(f"resize: no kernel {kernel!r} with antialias={antialias}")
    height, width = size
    if (height, width) == pixels.shape[:2]:
        return pixels
    if antialias and kernel != "area":
        return _resize_as_pillow(pixels, size, kernel)
    if kernel == "area" and (height > pixels.shape[0] or width > pixels.shape[1]):
        kernel = "bilinear"
    resized = cv2.resize(pixels, (width, height), interpolation=_KERNELS[kernel])
    return np.asarray(resized, dtype=np.uint8)


def _resize_as_pillow(pixels: UInt8Array, size: tuple[int, int], kernel: str) -> UInt8Array:
    # Here, because only bundles of towers that were trained with it need it.
    try:
        from PIL import Image  # noqa: PLC0415
    except ImportError as error:
        raise EngineError(
            f"this bundle resizes as Pillow does ({kernel}, antialiased), and Pillow is not "
            "installed: pip install 'edge-inspection-sdk[clip]'"
        ) from error
    height, width = size
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling[kernel.upper()])
    return np.asarray(resized, dtype=np.uint8)


def to_rgb(pixels: UInt8Array) -> UInt8Array:
    """(H, W, 3) from (H, W, 3) or (H, W, 1)."""
    return pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)


def upsample_map(grid: FloatArray, size: tuple[int, int]) -> FloatArray:
    """Bilinear enlargement of a (rows, cols) map to (height, width); half-pixel centres."""
    height, width = size
    planes = grid.reshape(*grid.shape[:2], -1)
    parts = [
        cv2.resize(
            planes[:, :, first : first + _MAX_CHANNELS],
            (width, height),
            interpolation=cv2.INTER_LINEAR,
        ).reshape(height, width, -1)
        for first in range(0, planes.shape[2], _MAX_CHANNELS)
    ]
    large = np.concatenate(parts, axis=2).reshape(height, width, *grid.shape[2:])
    return np.asarray(large, grid.dtype)


def resize_mask(mask: BoolArray, size: tuple[int, int]) -> BoolArray:
    """(H, W) mask at ``size`` (height, width): true where at least half of the area is marked.

    A mask so small that nothing would be left keeps every pixel that it touches.
    """
    height, width = size
    share = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    is_marked = share >= 0.5
    return np.asarray(is_marked if is_marked.any() else share > 0)


def blur_map(grid: FloatArray, sigma: float) -> FloatArray:
    """Gaussian of ``sigma`` cells over a (rows, cols) map, edges mirrored half-sample."""
    if sigma <= 0:
        return grid
    radius = int(4 * sigma + 0.5)
    side = 2 * radius + 1
    return np.asarray(cv2.GaussianBlur(grid, (side, side), sigma, borderType=cv2.BORDER_REFLECT))


def polygon_mask(size: tuple[int, int], polygon: list[tuple[int, int]]) -> BoolArray:
    """(H, W) bool, True inside the polygon of (x, y) corners in pixels, its edge included."""
    mask = np.zeros(size, np.uint8)
    cv2.fillPoly(mask, [np.asarray(polygon, np.int32)], 1)
    return mask.astype(bool)


def connected_boxes(mask: BoolArray) -> list[tuple[Box, int, BoolArray]]:
    """8-connected parts of ``mask``: (bounding box, area in pixels, mask inside the box)."""
    marked_rows, marked_cols = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(marked_rows):
        return []
    # A picture is mostly good, and labelling all of it takes longer than resizing it.
    top, left = int(marked_rows[0]), int(marked_cols[0])
    mask = mask[top : marked_rows[-1] + 1, left : marked_cols[-1] + 1]
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=8
    )
    parts = []
    for label in range(1, count):
        x, y, width, height, area = (int(value) for value in statistics[label])
        inside = labels[y : y + height, x : x + width] == label
        parts.append((Box(x=left + x, y=top + y, width=width, height=height), area, inside))
    return parts


def box_average(tokens: FloatArray, side: int) -> FloatArray:
    """Mean over side x side neighbours of a (rows, cols, D) array; at an edge, of those inside.

    Separable shifted adds, because OpenCV's box filter takes few channels only.
    """
    radius = side // 2
    for axis in (0, 1):
        total = tokens.copy()
        count = np.ones(tokens.shape[axis], tokens.dtype)
        for shift in range(1, radius + 1):
            ahead, behind = [slice(None)] * 3, [slice(None)] * 3
            ahead[axis], behind[axis] = slice(shift, None), slice(None, -shift)
            total[tuple(behind)] += tokens[tuple(ahead)]
            total[tuple(ahead)] += tokens[tuple(behind)]
            count[:-shift] += 1
            count[shift:] += 1
        total /= count[:, None, None] if axis == 0 else count[None, :, None]
        tokens = total
    return tokens


def scale_brightness(pixels: UInt8Array, gain: float) -> UInt8Array:
    """Every channel times ``gain``, rounded, cut at 255: a lamp that ages or was just cleaned."""
    table = np.clip(np.arange(256) * gain + 0.5, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(pixels, table), dtype=np.uint8).reshape(pixels.shape)


def tilt_brightness(pixels: UInt8Array, change: float) -> UInt8Array:
    """Times 1 - change at the left edge to 1 + change at the right one: light from one side."""
    ramp = np.linspace(1 - change, 1 + change, pixels.shape[1], dtype=np.float32)[None, :, None]
    return np.asarray(np.clip(pixels * ramp + 0.5, 0, 255), dtype=np.uint8)


def shift_picture(pixels: UInt8Array, right_px: float, down_px: float) -> UInt8Array:
    """The picture moved, its edge repeated: a camera that was touched, a part set down beside."""
    matrix = np.array([[1, 0, right_px], [0, 1, down_px]], np.float32)
    size = (pixels.shape[1], pixels.shape[0])
    moved = cv2.warpAffine(pixels, matrix, size, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, dtype=np.uint8).reshape(pixels.shape)


def resize_grey(pixels: UInt8Array, size: tuple[int, int]) -> FloatArray:
    """(H, W) as float32 at ``size`` (height, width), each pixel the mean of the area it covers."""
    resized = cv2.resize(
        pixels.astype(np.float32), (size[1], size[0]), interpolation=cv2.INTER_AREA
    )
    return np.asarray(resized, np.float32)


def detail_energy(grey: UInt8Array | FloatArray) -> FloatArray:
    """(H, W) square of the Laplacian after a 3x3 mean, which takes most of the noise away."""
    smooth = cv2.blur(np.asarray(grey, np.float32), (3, 3))
    laplacian = cv2.Laplacian(smooth, cv2.CV_32F)
    return np.asarray(laplacian * laplacian, np.float32)
