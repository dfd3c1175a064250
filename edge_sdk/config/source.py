"""The words by which a device file names a camera, a video file or a folder of pictures."""

from __future__ import annotations

import re

from pydantic import ValidationInfo

from edge_sdk.config.base import absolute_path, refusal
from edge_sdk.config.redaction import may_hold_secret, show_value

_NUMBER = re.compile(r"[0-9]{1,3}")
_NODE = re.compile(r"/dev/(?!shm/)(?!.*\.\.)[A-Za-z0-9._:@+,/=-]+")
_FILE = re.compile(r"(?P<kind>file:|dir:)?(?P<path>.+)")
# Whatever else has a scheme would be taken for an address by a media library.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_KINDS = (
    'a camera ("0" or /dev/v4l/by-id/...), a video (file:part.mp4) or a folder of pictures '
    "(dir:pictures)"
)


def is_camera_source(source: str) -> bool:
    """True for a camera, False for a video file or a folder of pictures."""
    return _NUMBER.fullmatch(source) is not None or _NODE.fullmatch(source) is not None


def normalised_source(source: str, info: ValidationInfo) -> str:
    """Check a source and make the path in it absolute.

    Args:
        source: a camera's number or node, ``file:PATH``, ``dir:PATH``, or a path that shows as
            one by its ``/`` or ``.``.
        info: validation context with the folder of the device file.

    Raises:
        PydanticCustomError: it is none of these. An address with a password in it never passes.
    """
    if is_camera_source(source):
        return source
    match = _FILE.fullmatch(source)
    kind, path = (match["kind"] or "", match["path"]) if match is not None else ("", "")
    is_path = bool(kind) or (("/" in path or "." in path) and not may_hold_secret(path))
    is_address = _SCHEME.match(path) or path.startswith(("//", "/dev/../"))
    if not is_path or is_address:
        note = "; network cameras are not read by this version" if "://" in source else ""
        raise refusal(f"expected {_KINDS}, got {show_value(source)}{note}")
    return f"{kind}{absolute_path(path, info)}"
