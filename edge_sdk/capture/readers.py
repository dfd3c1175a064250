"""Readers by the kind of their source; the same in this process and in a child."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path

from edge_sdk.capture.spec import SourceSpec
from edge_sdk.config.address import Address, parse_address
from edge_sdk.config.source import ENTRY_POINT_GROUP
from edge_sdk.errors import ConfigError
from edge_sdk.protocols import FrameSource

_FOLDER_FRAMES_PER_SECOND = 10.0


def build_reader(spec: SourceSpec) -> FrameSource:
    """Make what reads a source in the process that calls this; reading starts with ``frames``.

    Raises:
        ConfigError: no installed package offers this kind, or it cannot be loaded.
    """
    if spec.kind in {"file", "dir"}:
        return _build_file_reader(spec)
    if spec.kind in {"camera", "rtsp", "http", "gst", "genicam"}:
        return _build_camera_reader(spec)
    return _third_party(spec.kind)(spec)


# Imported in the arms, so that only what is asked for is loaded.


def _build_file_reader(spec: SourceSpec) -> FrameSource:
    if spec.kind == "file":
        from edge_sdk.capture.video import VideoSource  # noqa: PLC0415 - above

        return VideoSource(
            Path(spec.place),
            source_id=spec.source_id,
            pace=spec.pace,
            frames_per_second=spec.frames_per_second,
        )
    from edge_sdk.capture.folder import FolderSource  # noqa: PLC0415 - above

    rate = spec.frames_per_second
    return FolderSource(
        Path(spec.place),
        source_id=spec.source_id,
        pace=spec.pace,
        frames_per_second=_FOLDER_FRAMES_PER_SECOND if rate is None else rate,
    )


def _build_camera_reader(spec: SourceSpec) -> FrameSource:
    match spec.kind:
        case "rtsp":
            from edge_sdk.capture.rtsp import RtspSource  # noqa: PLC0415 - above

            return RtspSource(_address(spec), source_id=spec.source_id, transport=spec.transport)
        case "http":
            from edge_sdk.capture.http_camera import HttpSource  # noqa: PLC0415 - above

            return HttpSource(_address(spec), source_id=spec.source_id)
        case "gst":
            from edge_sdk.capture.gstreamer import GStreamerSource  # noqa: PLC0415 - above

            return GStreamerSource(
                spec.place,
                source_id=spec.source_id,
                username=spec.username,
                password=spec.password,
            )
        case "genicam":
            from edge_sdk.capture.genicam import GenicamSource  # noqa: PLC0415 - above

            return GenicamSource(spec.place, source_id=spec.source_id, settings=spec.settings)
        case _:
            from edge_sdk.capture.webcam import WebcamSource  # noqa: PLC0415 - above

            return WebcamSource(Path(spec.place), source_id=spec.source_id, settings=spec.settings)


def _address(spec: SourceSpec) -> Address:
    address = parse_address(spec.place)
    return replace(address, username=spec.username, password=spec.password)


def _third_party(name: str) -> Callable[[SourceSpec], FrameSource]:
    found = tuple(entry_points(group=ENTRY_POINT_GROUP, name=name))
    if len(found) != 1:
        problem = "is offered by several packages" if found else "is not offered by any package"
        raise ConfigError(f"source {name}: {problem}")
    try:
        factory: Callable[[SourceSpec], FrameSource] = found[0].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"source {name}: {found[0].value} cannot load: {error}") from error
    return factory
