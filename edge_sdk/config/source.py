"""The words by which a device file names a camera, a video file or a folder of pictures."""

from __future__ import annotations

import re
from importlib.metadata import entry_points

from pydantic import ValidationInfo

from edge_sdk.config.address import is_address, parse_address
from edge_sdk.config.base import absolute_path, refusal
from edge_sdk.config.redaction import may_hold_secret, show_value
from edge_sdk.errors import ConfigError

ENTRY_POINT_GROUP = "edge_sdk.sources"
"""Entry points of this group name a function ``SourceSpec -> FrameSource``. It is called in a
child process, where it may block, and may raise ``EdgeError``s only."""

_NUMBER = re.compile(r"[0-9]{1,3}")
_NODE = re.compile(r"/dev/(?!shm/)(?!.*\.\.)[A-Za-z0-9._:@+,/=-]+")
_FILE = re.compile(r"(?P<kind>file:|dir:)?(?P<path>.+)")
_PIPELINE = re.compile(r"gst:\s*[a-z].*", re.IGNORECASE | re.DOTALL)
_GENICAM = re.compile(r"(aravis|genicam):[A-Za-z0-9 ._:()-]{0,120}")
_OFFERED = re.compile(r"(?!(file|dir|gst)$)[a-z][a-z0-9_-]{1,62}")
# What says where a secret goes, and is none.
_PLACE = re.compile(r"[A-Za-z_-]+\s*=\s*\"?\{(password|username)\}\"?")
# Whatever else has a scheme would be taken for an address by a media library.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_KINDS = (
    'a camera ("0" or /dev/v4l/by-id/...), a network camera (rtsp://HOST/PATH, http://HOST/PATH), '
    "gst:PIPELINE, genicam:NAME, a video (file:part.mp4) or a folder of pictures (dir:pictures)"
)
_CREDENTIALS = (
    "expected an address without user and password: set username, and password_file or "
    "password_env, beside it ({password} stands for it where it belongs inside)"
)


def is_camera_source(source: str) -> bool:
    """True for a camera, False for a video file or a folder of pictures."""
    return (
        _NUMBER.fullmatch(source) is not None
        or _NODE.fullmatch(source) is not None
        or takes_credentials(source)
        or _GENICAM.fullmatch(source) is not None
        or is_offered(source)
    )


def is_offered(source: str) -> bool:
    """Whether ``NAME:WHAT`` is a kind that an installed package offers; nothing of it is loaded."""
    name, separator, _ = source.partition(":")
    is_name = separator and _OFFERED.fullmatch(name) is not None
    return bool(is_name and entry_points(group=ENTRY_POINT_GROUP, name=name))


def takes_credentials(source: str) -> bool:
    """True for a source that may need a user and a password."""
    return is_address(source) or _PIPELINE.fullmatch(source) is not None


def shown_source(source: str) -> str:
    """A source as a message may say it, without what may be secret in it.

    Of an address the query is left out, of another package's source all but its kind.
    """
    if is_offered(source):
        return source.partition(":")[0]
    return parse_address(source).shown if is_address(source) else source


def normalised_source(source: str, info: ValidationInfo) -> str:
    """Check a source and make the path in it absolute.

    Args:
        source: a camera's number or node, an address, ``gst:PIPELINE``, ``genicam:NAME``,
            ``NAME:WHAT`` of another package, ``file:PATH``, ``dir:PATH``, or a path that shows as
            one by its ``/`` or ``.``.
        info: validation context with the folder of the device file.

    Raises:
        PydanticCustomError: it is none of these. An address with a password in it never passes.
    """
    if takes_credentials(source):
        return _without_secret(source)
    if is_camera_source(source):
        return source
    match = _FILE.fullmatch(source)
    kind, path = (match["kind"] or "", match["path"]) if match is not None else ("", "")
    is_path = bool(kind) or (("/" in path or "." in path) and not may_hold_secret(path))
    is_other_address = _SCHEME.match(path) or path.startswith(("//", "/dev/../"))
    if not is_path or is_other_address:
        raise refusal(f"expected {_KINDS}, got {show_value(source)}")
    return f"{kind}{absolute_path(path, info)}"


def _without_secret(source: str) -> str:
    if may_hold_secret(_PLACE.sub("", source)):
        raise refusal(_CREDENTIALS)
    if is_address(source):
        try:
            parse_address(source)
        except ConfigError as error:
            problem = str(error).removeprefix("camera: ")
        else:
            return source
        raise refusal(problem)
    return source
