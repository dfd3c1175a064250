"""``edge-run``: the camera loop."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from edge_sdk.cli.settings import resolve_settings
from edge_sdk.console import add_common_arguments, print_json, report_error, run_command

if TYPE_CHECKING:
    import threading

    from edge_sdk.alerting.payload import DeviceFlag
    from edge_sdk.config import DeviceConfig
    from edge_sdk.errors import SelfTestError
    from edge_sdk.model import Model
    from edge_sdk.pipeline import Pipeline
    from edge_sdk.records import Decision, Message
    from edge_sdk.runtime.auditor import Auditor
    from edge_sdk.runtime.learning import Learner
    from edge_sdk.runtime.loop import MessageListener

_EXAMPLES = """examples:
  edge-run --camera 0                                  first camera, built-in bundle, local broker
  edge-run --camera rtsp://admin@10.0.0.9/stream       password in $EDGE_CAMERA_PASSWORD
  edge-run --camera file:line.mp4 --pace realtime      a recording, as a camera would give it
  edge-run --config press.yaml --wait-camera           as a service
  edge-run --camera dir:parts --once --json            one picture, one answer
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="edge-run",
        description="Watch cameras, score every frame against the enrolled good parts, and "
        "publish anomalies over MQTT.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--camera",
        metavar="SOURCE",
        help="0, /dev/v4l/by-id/..., rtsp://..., http://..., gst:PIPELINE, genicam:NAME, "
        "file:VIDEO, dir:FOLDER; beside --config also a camera's name",
    )
    add_common_arguments(
        parser, "config", "bundle", "state", "engine", "device", "precision", "json", "verbose"
    )
    add_common_arguments(parser, "allow-untrained")
    parser.add_argument("--mqtt", metavar="HOST[:PORT]", help="broker (default: localhost:1883)")
    parser.add_argument("--references", metavar="SET", help="reference set (default: default)")
    parser.add_argument(
        "--pace", choices=("every", "realtime"), help="files: each frame, or as a camera would"
    )
    parser.add_argument(
        "--trigger",
        metavar="MODE",
        help="continuous (default); interval:SECONDS; or one part, one result: mqtt, http, "
        "http:PORT, input:DRIVER:ADDRESS",
    )
    parser.add_argument(
        "--run-in",
        type=_positive,
        nargs="?",
        const=150,
        metavar="PARTS",
        help="learn the threshold from so many good parts (150); see edge-enroll review",
    )
    parser.add_argument("--once", action="store_true", help="judge one frame of each camera")
    parser.add_argument(
        "--exit-status", action="store_true", help="with --once: exit 10 where it is anomalous"
    )
    parser.add_argument("--max-frames", type=_positive, metavar="N", help="stop after N frames")
    parser.add_argument(
        "--log-format",
        choices=("auto", "plain", "json"),
        help="of standard error; auto: json in systemd's journal, else plain",
    )
    parser.add_argument(
        "--wait-camera", action="store_true", help="wait for a camera that is not there"
    )
    parser.add_argument("--dry-run", action="store_true", help="inspect, but publish nothing")
    parser.add_argument(
        "--validate-config", action="store_true", help="check the settings and stop"
    )
    parser.add_argument(
        "--prepare",
        action="store_true",
        help="compile the graphs for this box, test it and stop, so that the next start is quick",
    )
    return run_command(parser, _run, arguments, report=_report)


def _report(program: str, text: str, *, verbose: bool) -> None:
    """In the log where one is kept for machines, else as every command does."""
    import logging

    from edge_sdk.logs import keeps_json

    if keeps_json():
        logging.getLogger(program).critical("%s", text, exc_info=verbose)
    else:
        report_error(program, text, verbose=verbose)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _run(options: argparse.Namespace) -> int:
    _start_logging(options.log_format or "auto", "info")
    config = resolve_settings(options, keeps_changes=not options.once)
    level = "debug" if options.verbose else config.logging.level
    _start_logging(options.log_format or config.logging.format, level)
    if options.validate_config:
        print_json(config.model_dump(mode="json")) if options.json else print("settings: fine")
        return 0
    if options.prepare:
        from edge_sdk.cli.prepare import prepare

        return prepare(config, allow_untrained=options.allow_untrained, as_json=options.json)
    if not options.wait_camera:
        _check_cameras(config)
    model, pipelines, failure = _prepare(
        config, may_refuse=not options.once, allow_untrained=options.allow_untrained
    )
    if options.once:
        from edge_sdk.cli.run_once import run_once

        return run_once(options, config, pipelines)
    status = _run_loop(options, config, model, pipelines, failure)
    return failure.exit_code if failure and status == 0 else status


def _start_logging(wanted: Literal["auto", "plain", "json"], level: str) -> None:
    from edge_sdk.logs import service_format, start_logging

    start_logging(level, service_format() if wanted == "auto" else wanted)


def _check_cameras(config: DeviceConfig) -> None:
    """A camera that is not there is said at once: before the model is loaded or a broker asked."""
    from edge_sdk.runtime.compose import open_camera

    for camera in config.cameras:
        open_camera(camera).close()


def _prepare(
    config: DeviceConfig, *, may_refuse: bool, allow_untrained: bool
) -> tuple[Model, Mapping[str, Pipeline], SelfTestError | None]:
    """Load the bundle, show that it computes rightly here, and fit it to the references.

    Where it does not and ``may_refuse``, the pipelines answer every frame with a fault.
    """
    from edge_sdk.choice import open_model
    from edge_sdk.errors import SelfTestError
    from edge_sdk.runtime.compose import build_pipelines
    from edge_sdk.runtime.refusal import build_refusing_pipelines
    from edge_sdk.selftest import run_self_test

    model = open_model(config, allow_untrained=allow_untrained)
    try:
        run_self_test(model)
    except SelfTestError as error:
        if not may_refuse:
            raise
        print(f"edge-run: error: {error}; every frame is a fault", file=sys.stderr)
        return model, build_refusing_pipelines(model, config, str(error)), error
    return model, build_pipelines(model, config), None


def _run_loop(
    options: argparse.Namespace,
    config: DeviceConfig,
    model: Model,
    pipelines: Mapping[str, Pipeline],
    failure: SelfTestError | None,
) -> int:
    import threading
    from contextlib import ExitStack

    from edge_sdk.audit import AuditLog
    from edge_sdk.cli.run_report import announce, print_summary
    from edge_sdk.runtime.attendants import attend_stations
    from edge_sdk.runtime.auditor import Auditor
    from edge_sdk.runtime.compose import build_changed_pipeline, build_stations
    from edge_sdk.runtime.drafts import DraftMaker
    from edge_sdk.runtime.loop import Runtime
    from edge_sdk.runtime.outbox import DryOutbox, DurableOutbox
    from edge_sdk.runtime.service_manager import ServiceManager
    from edge_sdk.runtime.summary import CameraSummary
    from edge_sdk.runtime.triggers import TriggerDesk
    from edge_sdk.runtime.watchdog import watch_service

    manager = ServiceManager.from_environment(os.environ)
    bundle_id = model.bundle.manifest.bundle_id
    drafts = DraftMaker(device=config.device.name, bundle_id=bundle_id)
    summaries = {camera.name: CameraSummary() for camera in config.cameras}
    news, stop = threading.Event(), threading.Event()
    caught = _stop_on_signals(stop)
    desk = TriggerDesk(news.set)
    outbox = (
        DryOutbox()
        if options.dry_run
        else DurableOutbox(
            config, bundle_id=bundle_id, flags=_flags(model, failure), on_news=news.set
        )
    )
    auditor = None if options.dry_run else Auditor(AuditLog(config.state_dir))
    waiting: list[int] = []
    learners: list[Learner] = []

    def on_decision(camera: str, decision: Decision) -> None:
        summaries[camera].count(decision)
        for learner in learners:
            learner.offer(camera, decision)

    def build(camera: str, reference_set: str) -> Pipeline:
        if failure is not None:
            raise failure  # a box that computes wrongly judges by no set
        return build_changed_pipeline(model, config, camera, reference_set)

    with ExitStack() as opened:
        opened.callback(lambda: waiting.append(outbox.close()))
        stations = build_stations(
            config,
            pipelines,
            drafts,
            waits_for_camera=options.wait_camera,
            news=news,
            on_decision=on_decision,
            desk=desk,
            opened=opened,
        )
        attendants, learner = attend_stations(
            config,
            stations,
            drafts,
            outbox,
            auditor=auditor,
            build=build,
            on_news=news.set,
            opened=opened,
        )
        if learner is not None:
            learners.append(learner)
        if auditor is not None:
            auditor.begin(config, pipelines)
        runtime = Runtime(
            stations,
            outbox,
            drafts,
            news=news,
            summaries=summaries,
            max_frames=options.max_frames,
            on_message=_listener(auditor, prints=not options.json),
            desk=desk,
            attendants=(*attendants, *watch_service(manager, stations, outbox, opened)),
        )
        announce(config, pipelines, is_dry=options.dry_run)
        runtime.run(stop)
        summary = runtime.summary()
    if options.json:
        print_json({"cameras": summary, "waiting_messages": waiting[0]})
    else:
        print_summary(summary, waiting[0])
    return 128 + caught[0] if caught else 0


def _flags(model: Model, failure: SelfTestError | None) -> list[DeviceFlag]:
    """What ``state`` says of this run for as long as it lasts."""
    from edge_sdk.alerting.payload import DeviceFlag

    found = {
        DeviceFlag.UNTRAINED_BUNDLE: model.bundle.manifest.model.random_weights,
        DeviceFlag.SAFE_MODE: failure is not None,
    }
    return [flag for flag, is_raised in found.items() if is_raised]


def _listener(auditor: Auditor | None, *, prints: bool) -> MessageListener:
    """Told of every message when it is durable."""
    from edge_sdk.cli.run_report import log_message, print_message
    from edge_sdk.logs import keeps_json

    show = log_message if keeps_json() else print_message if prints else None

    def listen(message: Message) -> None:
        if auditor is not None:
            auditor.take(message)
        if show is not None:
            show(message)

    return listen


def _stop_on_signals(stop: threading.Event) -> list[int]:
    """Ask for a clean stop at SIGINT and SIGTERM; which one came is put into the list."""
    caught: list[int] = []

    def handle(number: int, _frame: object) -> None:
        caught.append(number)
        stop.set()

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
    return caught


if __name__ == "__main__":
    sys.exit(main())
