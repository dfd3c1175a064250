"""Puts a runtime together out of settings; the only place that knows every stage."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from edge_sdk.capture.reachability import find_probe
from edge_sdk.capture.selector import open_source
from edge_sdk.config import CameraConfig, DeviceConfig, read_camera_password
from edge_sdk.config.source import is_camera_source
from edge_sdk.errors import CaptureError
from edge_sdk.model import Model
from edge_sdk.pipeline import Pipeline, build_pipeline
from edge_sdk.protocols import FrameSource
from edge_sdk.records import Decision
from edge_sdk.references import ReferenceSet, ReferenceStore, TokenCache
from edge_sdk.runtime.drafts import DraftMaker
from edge_sdk.runtime.feed import FrameFeed
from edge_sdk.runtime.station import Station

_USUAL_SET = CameraConfig.model_fields["reference_set"].default
_PROBED_PAUSE_SECONDS = (1.0, 30.0)
_BLIND_PAUSE_SECONDS = (1.0, 3.0)
"""(first, longest) pause between attempts at a camera. One that cannot be asked whether it is back
must be tried more often, to be seen within seconds of its return."""

DecisionListener = Callable[[str, Decision], None]
"""Told the camera's name and each decision."""


def build_pipelines(model: Model, config: DeviceConfig) -> dict[str, Pipeline]:
    """A pipeline for each camera, with the references enrolled for it.

    Raises:
        InputError: a camera has no references, or they do not fit its crop and regions.
    """
    cache = TokenCache(config.state_dir)
    return {
        camera.name: build_pipeline(
            model,
            camera,
            load_references(model, camera, ReferenceStore(config.state_dir, camera.name)),
            cache,
        )
        for camera in config.cameras
    }


def load_references(
    model: Model, camera: CameraConfig, store: ReferenceStore
) -> ReferenceSet | None:
    """The camera's set; None where nothing was enrolled nor asked for, and nothing need be."""
    name = camera.reference_set
    is_optional = not model.needs_references and name == _USUAL_SET
    return None if is_optional and not store.versions(name) else store.load(name)


def open_camera(camera: CameraConfig) -> FrameSource:
    """The camera's source.

    Raises:
        CaptureError: it is not there.
        ConfigError: its password cannot be had.
    """
    password = read_camera_password(camera)
    return open_source(
        camera.source,
        pace=camera.pace or "every",
        source_id=camera.name,
        username=camera.username,
        password=password.get_secret_value() if password is not None else None,
        transport=camera.rtsp_transport,
    )


def build_stations(
    config: DeviceConfig,
    pipelines: Mapping[str, Pipeline],
    drafts: DraftMaker,
    *,
    waits_for_camera: bool,
    news: threading.Event,
    on_decision: DecisionListener,
) -> list[Station]:
    """Open every camera and give it a station; reading starts at once.

    Args:
        config: the device's settings.
        pipelines: by camera.
        drafts: makes messages.
        waits_for_camera: True: a camera that is not there is reported as blind and awaited.
        news: set when a station has something to do.
        on_decision: told of every decision.

    Raises:
        CaptureError: a camera is not there, and is not to be waited for.
    """
    sources: dict[str, FrameSource | None] = {}
    try:
        for camera in config.cameras:
            sources[camera.name] = _open_or_await(camera, waits=waits_for_camera)
    except CaptureError:
        for source in sources.values():
            if source is not None:
                source.close()
        raise
    stations = []
    for camera in config.cameras:
        is_there = find_probe(camera.source)
        feed = FrameFeed(
            camera.name,
            _opener(camera),
            keeps="every" if camera.reads_every_frame else "newest",
            reopens=is_camera_source(camera.source),
            on_news=news.set,
            pause_seconds=_PROBED_PAUSE_SECONDS if is_there else _BLIND_PAUSE_SECONDS,
            is_there=is_there,
        )
        stations.append(
            Station(
                camera,
                pipelines[camera.name],
                feed,
                drafts,
                picture_max_bytes=config.mqtt.picture_max_bytes if config.mqtt.pictures else None,
                on_decision=on_decision,
            )
        )
        feed.start(sources[camera.name])
    return stations


def _opener(camera: CameraConfig) -> Callable[[], FrameSource]:
    return lambda: open_camera(camera)


def _open_or_await(camera: CameraConfig, *, waits: bool) -> FrameSource | None:
    """The source, or None for a camera that is to be waited for."""
    try:
        return open_camera(camera)
    except CaptureError:
        if waits and is_camera_source(camera.source):
            return None
        raise
