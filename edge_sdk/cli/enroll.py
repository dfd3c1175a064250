"""``edge-enroll``: teach a camera what good looks like."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edge_sdk.cli.settings import resolve_settings
from edge_sdk.console import add_common_arguments, print_json, run_command

if TYPE_CHECKING:
    from edge_sdk.config import CameraConfig, DeviceConfig
    from edge_sdk.records import Frame
    from edge_sdk.references import ReferenceSet

_EXAMPLES = """examples:
  edge-enroll --camera 0                               four good parts, one every 5 seconds
  edge-enroll --camera file:line.mp4 --last-frame 165  four frames of a recording's good stretch
  edge-enroll --camera 0 --from dir:good_parts         pictures taken before
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="edge-enroll",
        description="Keep pictures of good parts as a new version of a reference set, and fit "
        "the threshold to them.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--camera",
        metavar="SOURCE",
        help="0, /dev/v4l/by-id/..., file:VIDEO, dir:FOLDER; beside --config also a camera's name",
    )
    parser.add_argument(
        "--from",
        dest="source",
        metavar="SOURCE",
        help="take the pictures from here instead (default: from the camera itself)",
    )
    add_common_arguments(
        parser, "config", "bundle", "state", "engine", "device", "precision", "json", "verbose"
    )
    parser.add_argument("--references", metavar="SET", help="name of the set (default: default)")
    parser.add_argument(
        "--count", type=_count, default=4, metavar="N", help="pictures, 2 to 64 (default: 4)"
    )
    parser.add_argument(
        "--frames", type=_numbers, metavar="N,N,...", help="files: exactly these frames"
    )
    parser.add_argument("--first-frame", type=int, default=0, metavar="N", help="files: from here")
    parser.add_argument("--last-frame", type=int, metavar="N", help="files: up to here")
    parser.add_argument(
        "--every",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="cameras: time to put the next part in place (default: 5)",
    )
    return run_command(parser, _run, arguments)


def _count(text: str) -> int:
    value = int(text)
    if not 2 <= value <= 64:
        raise ValueError(text)
    return value


def _numbers(text: str) -> list[int]:
    numbers = [int(part) for part in text.split(",")]
    if len(numbers) < 2 or min(numbers) < 0:
        raise ValueError(text)
    return numbers


def _run(options: argparse.Namespace) -> int:
    from edge_sdk.bundle.reader import open_bundle
    from edge_sdk.capture.selector import open_source
    from edge_sdk.enrollment import check_pictures
    from edge_sdk.errors import ConfigError, EdgeError
    from edge_sdk.model import load_model
    from edge_sdk.pipeline import build_pipeline
    from edge_sdk.references import ReferenceStore, TokenCache
    from edge_sdk.selftest import run_self_test

    config = resolve_settings(options)
    if len(config.cameras) != 1:
        names = ", ".join(camera.name for camera in config.cameras)
        raise ConfigError(f"--camera: the device file has several: choose one of {names}")
    camera = config.cameras[0]
    source = _source(options, config)
    open_source(source, pace="every").close()  # not there: said before the model is loaded
    model = load_model(open_bundle(config.bundle_path), config.engine)
    run_self_test(model)
    frames = _take_frames(options, source)
    check_pictures(frames)
    store = ReferenceStore(config.state_dir, camera.name)
    references = store.save(camera.reference_set, frames, source=source)
    try:
        pipeline = build_pipeline(model, camera, references, TokenCache(config.state_dir))
    except EdgeError:
        shutil.rmtree(references.folder)  # the version before it stays the one in use
        raise
    threshold = pipeline.decider.threshold
    answer = {
        "camera": camera.name,
        "reference_set": references.label,
        "folder": str(references.folder),
        "pictures": len(references.pictures),
        "frames": [frame.frame_id for frame in frames],
        "threshold": threshold.value,
        "method": threshold.method,
        "provisional": threshold.provisional,
        "expected_false_alarm_rate": threshold.expected_false_alarm_rate,
    }
    print_json(answer) if options.json else _print_answer(answer, camera, references)
    return 0


def _source(options: argparse.Namespace, config: DeviceConfig) -> str:
    """Where the pictures come from; checked as a camera's source is."""
    from edge_sdk.config import override_config

    if options.source is None:
        return config.cameras[0].source
    checked = override_config(config, {("cameras", 0, "source"): options.source})
    return checked.cameras[0].source


def _take_frames(options: argparse.Namespace, source: str) -> list[Frame]:
    from edge_sdk.capture.selector import open_source
    from edge_sdk.config.source import is_camera_source
    from edge_sdk.enrollment import choose_frames, pick_frames, watch_frames

    opened = open_source(source, pace="every")
    if is_camera_source(source):
        print(
            f"put the first good part in place: a picture every {options.every:g} s",
            file=sys.stderr,
        )
        return watch_frames(
            opened,
            count=options.count,
            interval_seconds=options.every,
            on_taken=lambda number, _: print(
                f"picture {number} of {options.count} taken", file=sys.stderr
            ),
        )
    if options.frames:
        return pick_frames(opened, options.frames)
    return choose_frames(
        opened,
        count=options.count,
        first_frame=options.first_frame,
        last_frame=options.last_frame,
    )


def _print_answer(answer: dict[str, Any], camera: CameraConfig, references: ReferenceSet) -> None:
    print(
        f"{camera.name}: {answer['pictures']} good pictures kept as {references.label} "
        f"(frames {', '.join(map(str, answer['frames']))})"
    )
    print(f"threshold {answer['threshold']:.4f}, fitted by {answer['method']}", end="")
    rate = answer["expected_false_alarm_rate"]
    if answer["provisional"] and rate is not None:
        print(
            f"; provisional: at the highest of {answer['pictures']} good scores, expect about "
            f"{100 * rate:.0f} false alarms per 100 good parts"
        )
    else:
        print()


if __name__ == "__main__":
    sys.exit(main())
