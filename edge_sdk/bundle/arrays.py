"""``.npy`` files, read without trusting their header and without unpickling.

The header is checked against the size of the file before anything is made of it, so a header
that promises terabytes costs nothing, and the array is a view of the bytes that were hashed.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from edge_sdk.errors import BundleError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAGIC = b"\x93NUMPY\x01\x00"
_MAX_HEADER_BYTES = 1024
_MAX_AXES = 8
_HEADER = re.compile(
    rb"\{'descr': '([^']{1,20})', 'fortran_order': (True|False), "
    rb"'shape': \((|\d{1,10},|\d{1,10}(?:, \d{1,10})+)\), \} *\n"
)
_ITEM_BYTES = {
    "|b1": 1,
    "|i1": 1,
    "|u1": 1,
    "<i2": 2,
    "<u2": 2,
    "<f2": 2,
    "<i4": 4,
    "<u4": 4,
    "<f4": 4,
    "<i8": 8,
    "<f8": 8,
}


def check_npy(data: bytes, *, name: str) -> tuple[str, tuple[int, ...], int]:
    """Read the header of a ``.npy`` file and hold it against the file's size.

    Args:
        data: the whole file.
        name: the file, for messages.

    Returns:
        (type as numpy writes it, shape, where the values start).

    Raises:
        BundleError: another format version, objects, another byte or axis order, an empty array,
            or a shape that is not what the file holds.
    """
    start = 10 + int.from_bytes(data[8:10], "little")
    header = data[10:start]
    if not data.startswith(_MAGIC) or len(header) > _MAX_HEADER_BYTES or len(data) < start:
        raise BundleError(f"{name}: expected a .npy file of version 1.0 with a short header")
    match = _HEADER.fullmatch(header)
    if match is None:
        raise BundleError(f"{name}: cannot read the .npy header {header[:80]!r}")
    dtype = match[1].decode("ascii", errors="replace")
    item_bytes = _ITEM_BYTES.get(dtype)
    if item_bytes is None:
        raise BundleError(
            f"{name}: values of type {dtype!a} (objects and big-endian numbers are not allowed), "
            f"expected one of {', '.join(_ITEM_BYTES)}"
        )
    if match[2] == b"True":
        raise BundleError(f"{name}: the array is in Fortran order, expected C order")
    shape = tuple(int(axis) for axis in match[3].split(b",") if axis)
    expected_bytes = math.prod(shape) * item_bytes
    if len(shape) > _MAX_AXES or expected_bytes == 0 or expected_bytes != len(data) - start:
        raise BundleError(
            f"{name}: shape {shape} of {dtype} needs {expected_bytes} bytes, "
            f"the file holds {len(data) - start}"
        )
    return dtype, shape, start


def load_npy(data: bytes, *, name: str) -> NDArray[Any]:
    """Read a ``.npy`` file.

    Returns:
        A read-only view of ``data``.

    Raises:
        BundleError: as ``check_npy``.
    """
    dtype, shape, start = check_npy(data, name=name)
    import numpy as np  # noqa: PLC0415 - manifests are read, and shown, without numpy

    return np.frombuffer(data, dtype=np.dtype(dtype), offset=start).reshape(shape)
