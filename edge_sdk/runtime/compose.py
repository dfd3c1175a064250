"""Puts a runtime together out of settings; the only place that knows every stage."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack

from edge_sdk.capture.reachability import find_probe
from edge_sdk.capture.selector import open_source
from edge_sdk.config import (
    CameraConfig,
    DeviceConfig,
    TriggerServerConfig,
    read_camera_password,
    read_secret,
)
from edge_sdk.config.source import is_camera_source
from edge_sdk.errors import CaptureError, EdgeError
from edge_sdk.inputs.selector import open_input
from edge_sdk.model import Model
from edge_sdk.outputs.line import OutputLine, OutputTiming
from edge_sdk.outputs.selector import open_output
from edge_sdk.pipeline import Pipeline, build_pipeline
from edge_sdk.protocols import FrameSource
from edge_sdk.records import Decision
from edge_sdk.references import ReferenceSet, ReferenceStore, TokenCache
from edge_sdk.runtime.dispatch import Dispatcher
from edge_sdk.runtime.drafts import DraftMaker
from edge_sdk.runtime.feed import FrameFeed
from edge_sdk.runtime.health import camera_settings
from edge_sdk.runtime.lines import LineWatch
from edge_sdk.runtime.listener import TriggerListener
from edge_sdk.runtime.station import Station
from edge_sdk.runtime.trigger_server import TriggerServer
from edge_sdk.runtime.triggers import TriggerDesk

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
            watches_pictures=True,
        )
        for camera in config.cameras
    }


def build_changed_pipeline(
    model: Model, config: DeviceConfig, camera_name: str, reference_set: str
) -> Pipeline:
    """A pipeline with another of the camera's sets.

    Raises:
        InputError: there is no such set, or it does not fit the crop and regions.
        EngineError: the graph failed.
    """
    (camera,) = (camera for camera in config.cameras if camera.name == camera_name)
    references = ReferenceStore(config.state_dir, camera.name).load(reference_set)
    cache = TokenCache(config.state_dir)
    return build_pipeline(model, camera, references, cache, watches_pictures=True)


def load_references(
    model: Model, camera: CameraConfig, store: ReferenceStore
) -> ReferenceSet | None:
    """The camera's set; None where nothing was enrolled nor asked for, and nothing need be.

    Raises:
        InputError: there is none, or its files are damaged.
    """
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
    desk: TriggerDesk,
    opened: ExitStack,
) -> list[Station]:
    """Open every camera, its lines and the trigger server; reading starts at once.

    Args:
        config: the device's settings.
        pipelines: by camera.
        drafts: makes messages.
        waits_for_camera: True: a camera that is not there is reported as blind and awaited.
        news: set when a station has something to do.
        on_decision: told of every decision.
        desk: where triggers of inputs and of the server are handed in.
        opened: closes all of it; output lines last.

    Raises:
        CaptureError: a camera is not there, and is not to be waited for.
        ConfigError: a driver, its address, the server's address or its token is wrong.
        LineError: an input or output line cannot be opened.
    """
    sources: dict[str, FrameSource | None] = {}
    opened.callback(_close_all, sources)
    for camera in config.cameras:
        sources[camera.name] = _open_or_await(camera, waits=waits_for_camera)
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
        output = _open_output(camera)
        if output is not None:
            opened.callback(output.close)
        opened.callback(feed.close)
        feed.adjust(camera_settings(pipelines[camera.name]))
        feed.start(sources.pop(camera.name))
        listener = _open_listener(camera, desk)
        if listener is not None:
            opened.callback(listener.close)
        errors: dict[str, Callable[[], EdgeError | None]] = {}
        if output is not None:
            errors["output"] = _error_of(output)
        if listener is not None:
            errors["trigger_input"] = _error_of(listener)
        picture_max_bytes = config.mqtt.picture_max_bytes if config.mqtt.pictures else None
        stations.append(
            Station(
                camera,
                pipelines[camera.name],
                feed,
                Dispatcher(drafts, camera.name, picture_max_bytes),
                on_decision=on_decision,
                output=output,
                lines=LineWatch(camera.name, drafts, errors),
            )
        )
    if config.trigger_server is not None:
        opened.callback(open_trigger_server(config.trigger_server, desk).close)
    return stations


def open_trigger_server(server: TriggerServerConfig, desk: TriggerDesk) -> TriggerServer:
    """Start to listen for triggers over HTTP.

    Raises:
        ConfigError: the token cannot be read, or the address cannot be listened on.
    """
    token = None
    if server.token_file is not None:
        secret = read_secret(
            "trigger_server", file=server.token_file, environment=None, kind="token"
        )
        token = secret.get_secret_value()
    return TriggerServer(server.host, server.port, token, desk)


def _open_output(camera: CameraConfig) -> OutputLine | None:
    settings = camera.output
    if settings is None:
        return None
    return OutputLine(
        camera.name,
        lambda: open_output(settings.driver, settings.address),
        OutputTiming(
            heartbeat_seconds=settings.heartbeat_seconds,
            pass_seconds=settings.pass_seconds,
            stall_seconds=settings.stall_seconds,
        ),
    )


def _open_listener(camera: CameraConfig, desk: TriggerDesk) -> TriggerListener | None:
    settings = camera.trigger.input
    if settings is None:
        return None
    return TriggerListener(camera.name, lambda: open_input(settings.driver, settings.address), desk)


def _error_of(line: OutputLine | TriggerListener) -> Callable[[], EdgeError | None]:
    return lambda: line.error


def _close_all(sources: Mapping[str, FrameSource | None]) -> None:
    """Release those that no feed has taken over."""
    for source in sources.values():
        if source is not None:
            source.close()


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
