"""From what the user writes (``0``, ``dir:parts/``, ``line.mp4``) to a source of frames."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Literal

from edge_sdk.capture.camera_nodes import camera_node, check_camera_node, stable_path
from edge_sdk.capture.introspection import ARAVIS_PACKAGES, GSTREAMER_PACKAGES, check_gi
from edge_sdk.capture.live import ChildProcessSource
from edge_sdk.capture.pacing import Pace
from edge_sdk.capture.reachability import check_reachable
from edge_sdk.capture.readers import build_reader
from edge_sdk.capture.spec import SourceSpec
from edge_sdk.config.address import is_address, parse_address
from edge_sdk.config.source import is_offered
from edge_sdk.errors import CaptureError, ConfigError
from edge_sdk.protocols import FrameSource

_log = logging.getLogger(__name__)

UNDERSTOOD = (
    "a camera (0, /dev/video0, /dev/v4l/by-id/...), a network camera (rtsp://HOST/PATH, "
    "http://HOST/PATH), gst:PIPELINE, genicam:NAME, a video (file:PATH or its path), a folder of "
    "pictures (dir:PATH or its path)"
)
_FILE_KINDS = frozenset({"file", "dir"})
_ADDRESS_KINDS = frozenset({"rtsp", "http"})
_LIBRARY_KINDS = {"gst": GSTREAMER_PACKAGES, "genicam": ARAVIS_PACKAGES}
"""Kinds that need a library of the system's, and what brings it."""
_KINDS = {
    "gst": "gst",
    "genicam": "genicam",
    "aravis": "genicam",
    **{kind: kind for kind in _FILE_KINDS},
}
"""What the user writes before a colon, and the kind that it is."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_SOURCE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def open_source(
    spec: str,
    *,
    pace: Pace = "every",
    source_id: str | None = None,
    frames_per_second: float | None = None,
    stale_seconds: float = 3.0,
    isolate: bool = False,
    username: str | None = None,
    password: str | None = None,
    transport: Literal["tcp", "udp"] = "tcp",
) -> FrameSource:
    """Make the source that a user asked for; reading starts with its ``frames``.

    Args:
        spec: ``0``, ``/dev/video0``, ``/dev/v4l/by-id/...``: a V4L2 camera. ``file:PATH`` or the
            path of a file: a video. ``dir:PATH`` or the path of a folder: its pictures, sorted by
            name. ``rtsp://...``, ``http://...``: a network camera. ``gst:PIPELINE``: GStreamer's.
            ``genicam:NAME``, ``aravis:NAME``: a GigE or USB3 Vision camera, by its address or
            name; without one: the first. ``NAME:WHAT``: a source that another package offers,
            read as cameras are.
        pace: for files: ``every`` frame, or ``realtime``: the newest, as a camera would give it.
            Cameras are always read in real time.
        source_id: 1 to 63 letters, digits, ``.``, ``_``, ``-``; None: made of the spec.
        frames_per_second: rate of files under ``realtime``; None: the video's own, or 10.
        stale_seconds: for what is read in a child process: the newest frame may be this old.
        isolate: read a file in a child process too, as cameras are; needs ``realtime``.
        username: at a network camera; instead of one in its address.
        password: likewise. It is in no message, and in no process's arguments.
        transport: how an rtsp camera sends its pictures.

    Returns:
        The source. A camera is one that can be given up at any moment (``ChildProcessSource``).

    Raises:
        ConfigError: ``spec`` or ``source_id`` is malformed, or not supported by this version.
        CaptureError: no such file, folder or camera, or it may not be opened.
    """
    kind, place = _kind_of(spec)
    is_file = kind in _FILE_KINDS
    if is_file and isolate and pace != "realtime":
        raise ConfigError(f"isolate: expected pace realtime, got {pace}: a child drops old frames")
    if kind in _ADDRESS_KINDS:
        address = parse_address(place)
        username = address.username if username is None else username
        password = address.password if password is None else password
        place = address.location
    described = SourceSpec(
        kind=kind,
        place=str(camera_node(place)) if kind == "camera" else place,
        source_id=_checked_source_id(source_id, kind, place),
        pace=pace if is_file else "realtime",
        frames_per_second=frames_per_second,
        username=username,
        password=password,
        transport=transport,
    )
    _check_place(described)
    if is_file and not isolate:
        return build_reader(described)
    return ChildProcessSource(described, stale_seconds=stale_seconds)


def _kind_of(spec: str) -> tuple[str, str]:
    """(``SourceSpec.kind``, ``place`` as it was written). Never repeats a URL."""
    if spec.isdecimal() or (spec.startswith("/dev/") and not spec.startswith("/dev/shm/")):  # noqa: S108 - a user's own path
        return "camera", spec
    if is_address(spec):
        return "rtsp" if spec[:4].lower() == "rtsp" else "http", spec
    scheme = _SCHEME.match(spec)
    place = spec[scheme.end() :] if scheme else spec
    kind = _KINDS.get(scheme[1]) if scheme else None
    if kind is not None and (place or kind == "genicam"):
        return kind, place.strip() if kind in _LIBRARY_KINDS else place
    return _unmarked_kind(spec, scheme[1] if scheme else None, place)


def _unmarked_kind(spec: str, scheme: str | None, place: str) -> tuple[str, str]:
    """What a spec is that does not begin with a word of ours."""
    if not spec:
        raise ConfigError(f"camera: expected {UNDERSTOOD}, got nothing")
    if Path(spec).is_dir():
        return "dir", spec
    if Path(spec).exists():
        return "file", spec
    if scheme and is_offered(spec):
        return scheme, place
    if scheme:  # what follows may hold a password
        raise ConfigError(f"{scheme}: is not supported by this version: expected {UNDERSTOOD}")
    if "/" in spec or Path(spec).suffix:
        raise CaptureError(f"{spec}: no such file or folder; expected {UNDERSTOOD}")
    raise ConfigError(f"{spec!r}: expected {UNDERSTOOD}")


def _checked_source_id(source_id: str | None, kind: str, place: str) -> str:
    if source_id is None:
        if kind == "camera" and place.isdecimal():
            return f"video{int(place)}"
        # What a third party's source is told may hold a password.
        stem = Path(place).stem if kind in {"camera", *_FILE_KINDS} else kind
        return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("._-")[:63] or "camera"
    if not _SOURCE_ID.fullmatch(source_id):  # a URL with a password in it does not pass either
        raise ConfigError("source_id: expected 1 to 63 letters, digits, '.', '_' or '-'")
    return source_id


def _check_place(spec: SourceSpec) -> None:
    """Say at once what is wrong, and not only when the first frame is asked for."""
    path = Path(spec.place)
    if spec.kind == "camera":
        check_camera_node(path)
        stable = stable_path(path)
        if stable is not None and stable != path:
            _log.warning("%s may be another camera after a restart: use %s", path, stable)
    elif spec.kind in _ADDRESS_KINDS:
        check_reachable(parse_address(spec.place))
    elif spec.kind in _LIBRARY_KINDS:
        check_gi(f"a {spec.kind}: camera", _LIBRARY_KINDS[spec.kind])
    elif spec.kind in _FILE_KINDS:
        _check_file(spec.kind, path)


def _check_file(kind: str, path: Path) -> None:
    from edge_sdk.capture.folder import PICTURE_SUFFIXES, picture_paths  # noqa: PLC0415 - cv2

    if kind == "dir":
        picture_paths(path)
    elif not path.is_file():
        raise CaptureError(f"{path}: expected a video file, found none")
    elif path.suffix.lower() in PICTURE_SUFFIXES:  # OpenCV would read it and its neighbours
        raise CaptureError(f"{path}: expected a video file, got a picture: give its folder")
