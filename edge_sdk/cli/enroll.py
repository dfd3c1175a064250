"""``edge-enroll``: teach a camera what good looks like."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from edge_sdk.cli import smallest_defect
from edge_sdk.cli.enroll_audit import audit_main, note
from edge_sdk.cli.enroll_review import review_main
from edge_sdk.cli.enroll_sets import list_main, undo_main
from edge_sdk.cli.enroll_use import use_main
from edge_sdk.cli.settings import resolve_settings, source_and_credentials
from edge_sdk.console import add_common_arguments, print_json, run_command

if TYPE_CHECKING:
    from edge_sdk.capture.settings import Settings
    from edge_sdk.config import CameraConfig, DeviceConfig
    from edge_sdk.model import Model
    from edge_sdk.picture_checks import Finding
    from edge_sdk.protocols import FrameSource
    from edge_sdk.records import Frame, Threshold

_EXAMPLES = """examples:
  edge-enroll --camera 0                               four good parts, one after the other
  edge-enroll --camera file:line.mp4 --last-frame 165  four frames of a recording's good stretch
  edge-enroll --camera 0 --from dir:good_parts         pictures taken before

also:
  edge-enroll list                                     the sets, their versions and thresholds
  edge-enroll append --camera 0 --count 2              two more pictures for the same set
  edge-enroll undo                                     back to the version before
  edge-enroll use night                                change to another set, also while it runs
  edge-enroll review                                   odd parts of a run-in: good or not?
  edge-enroll audit                                    who changed what, and when
  edge-enroll --smallest-defect --mm-per-px 0.1        from what size on defects are seen
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, or the subcommand that its first word names; returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    subcommands = {
        "list": list_main,
        "undo": undo_main,
        "append": _append_main,
        "review": review_main,
        "use": use_main,
        "audit": audit_main,
    }
    if words and words[0] in subcommands:
        return subcommands[words[0]](words[1:])
    parser = argparse.ArgumentParser(
        prog="edge-enroll",
        description="Keep pictures of good parts as a new version of a reference set, and fit "
        "the threshold to them.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_arguments(parser, fewest=2, count=4)
    smallest_defect.add_arguments(parser)
    return run_command(parser, _run, words)


def _append_main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="edge-enroll append",
        description="Add pictures to a reference set: a new version of it holds the old and the "
        "new ones.",
    )
    _add_arguments(parser, fewest=1, count=1)
    return run_command(parser, lambda options: _run(options, appends=True), words)


def _add_arguments(parser: argparse.ArgumentParser, *, fewest: int, count: int) -> None:
    def check_count(text: str) -> int:
        value = int(text)
        if not fewest <= value <= 64:
            raise ValueError(text)
        return value

    def numbers(text: str) -> list[int]:
        given = [int(part) for part in text.split(",")]
        if len(given) < fewest or min(given) < 0:
            raise ValueError(text)
        return given

    parser.add_argument(
        "--camera",
        metavar="SOURCE",
        help="0, /dev/v4l/by-id/..., rtsp://..., http://..., gst:PIPELINE, genicam:NAME, "
        "file:VIDEO, dir:FOLDER; beside --config also a camera's name",
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
    add_common_arguments(parser, "allow-untrained")
    parser.add_argument("--references", metavar="SET", help="name of the set (default: default)")
    parser.add_argument(
        "--count",
        type=check_count,
        default=count,
        metavar="N",
        help=f"pictures, {fewest} to 64 (default: {count})",
    )
    parser.add_argument(
        "--frames", type=numbers, metavar="N,N,...", help="files: exactly these frames"
    )
    parser.add_argument("--first-frame", type=int, default=0, metavar="N", help="files: from here")
    parser.add_argument("--last-frame", type=int, metavar="N", help="files: up to here")
    parser.add_argument(
        "--every",
        type=float,
        metavar="SECONDS",
        help="cameras: a picture every so often instead of at a key (without a terminal: 5)",
    )
    parser.add_argument(
        "--keep-refused",
        action="store_true",
        help="keep pictures that are blurred or given twice, too",
    )


def _run(options: argparse.Namespace, *, appends: bool = False) -> int:
    from edge_sdk.choice import open_model
    from edge_sdk.config.source import shown_source
    from edge_sdk.enrollment import check_pictures, describe_finding
    from edge_sdk.errors import EdgeError
    from edge_sdk.pipeline import build_pipeline
    from edge_sdk.references import ReferenceStore, TokenCache
    from edge_sdk.runtime.compose import open_camera
    from edge_sdk.selftest import run_self_test

    config = resolve_settings(options)
    camera = one_camera(config)
    if not appends and options.smallest_defect:
        return smallest_defect.examine(options, config, camera)
    store = ReferenceStore(config.state_dir, camera.name)
    older = store.load_frames(camera.reference_set) if appends else []
    wanted = store.load(camera.reference_set).camera_settings if appends else None
    origin = _origin(options, config)
    open_camera(origin).close()  # not there: said before the model is loaded
    model = open_model(config, allow_untrained=options.allow_untrained)
    run_self_test(model)
    taken, is_asked = _take_frames(options, _open(origin, wanted), origin)
    frames = [*older, *taken]
    findings = check_pictures(frames, keeps_refused=options.keep_refused or is_asked)
    frames, odd = _settle_odd(
        options, model, camera, frames, lambda: _open(origin, wanted), is_asked=is_asked
    )
    findings += odd
    for finding in findings if not is_asked else ():
        print(f"doubtful: {describe_finding(finding, frames[finding.picture - 1])}",
              file=sys.stderr)  # fmt: skip
    before = store.versions(camera.reference_set)
    references = store.save(
        camera.reference_set,
        frames,
        source=shown_source(origin.source),
        # What another camera, or a recording, was set to says nothing about this one.
        camera_settings=_common_settings(taken, wanted) if options.source is None else None,
    )
    try:
        pipeline = build_pipeline(
            model, camera, references, TokenCache(config.state_dir), watches_pictures=True
        )
    except EdgeError:
        shutil.rmtree(references.folder)  # the version before it stays the one in use
        raise
    threshold = pipeline.decider.threshold
    note(
        config,
        camera,
        "references.appended" if appends else "references.enrolled",
        old={"reference_set": f"{camera.reference_set}/{before[-1]}"} if before else None,
        new={"reference_set": references.label, "threshold": threshold.value},
        pictures=len(references.pictures),
        source=references.description["source"],
    )
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
        "findings": [asdict(finding) for finding in findings],
        "camera_settings": references.camera_settings,
    }
    print_json(answer) if options.json else _print_answer(answer, threshold)
    return 0


def one_camera(config: DeviceConfig) -> CameraConfig:
    """The only camera of the settings.

    Raises:
        ConfigError: there are several.
    """
    from edge_sdk.errors import ConfigError

    if len(config.cameras) != 1:
        names = ", ".join(camera.name for camera in config.cameras)
        raise ConfigError(f"--camera: the device file has several: choose one of {names}")
    return config.cameras[0]


def _origin(options: argparse.Namespace, config: DeviceConfig) -> CameraConfig:
    """Where the pictures come from: the camera, or what ``--from`` says in its place."""
    from edge_sdk.config import override_config

    camera = config.cameras[0].model_copy(update={"pace": None})
    if options.source is None:
        return camera
    values = camera.model_dump(mode="json")
    values.update(username=None, password_file=None, password_env=None)
    changed = source_and_credentials(values, options.source)
    return override_config(config, {("cameras",): [changed]}).cameras[0]


def _open(origin: CameraConfig, wanted: Settings | None) -> FrameSource:
    """The source, its camera to be set as for the pictures that there are already."""
    from edge_sdk.protocols import AdjustableSource
    from edge_sdk.runtime.compose import open_camera

    source = open_camera(origin)
    if isinstance(source, AdjustableSource):
        source.adjust(wanted)
    return source


def _common_settings(taken: Sequence[Frame], wanted: Settings | None) -> Settings | None:
    """How the camera was set for all pictures, those of the version before included."""
    from edge_sdk.capture.settings import common_settings

    told = [frame.camera_settings for frame in taken]
    return common_settings([wanted, *told] if wanted is not None else told)


def _take_frames(
    options: argparse.Namespace, opened: FrameSource, origin: CameraConfig
) -> tuple[list[Frame], bool]:
    """The pictures, and whether a person at the terminal judged them."""
    from edge_sdk.cli.operator import TerminalOperator, TimedOperator
    from edge_sdk.config.source import is_camera_source
    from edge_sdk.enrollment import choose_frames, guide_frames, pick_frames

    if is_camera_source(origin.source):
        if options.every is None and sys.stdin.isatty() and sys.stderr.isatty():
            asking = TerminalOperator(options.count)
            return guide_frames(opened, count=options.count, operator=asking), True
        seconds = 5.0 if options.every is None else options.every
        print(f"put the first good part in place: a picture every {seconds:g} s", file=sys.stderr)
        timed = TimedOperator(options.count, seconds, keeps_refused=options.keep_refused)
        return guide_frames(opened, count=options.count, operator=timed), False
    if options.frames:
        return pick_frames(opened, options.frames), False
    chosen = choose_frames(
        opened,
        count=options.count,
        first_frame=options.first_frame,
        last_frame=options.last_frame,
    )
    return chosen, False


def _settle_odd(
    options: argparse.Namespace,
    model: Model,
    camera: CameraConfig,
    frames: list[Frame],
    open_again: Callable[[], FrameSource],
    *,
    is_asked: bool,
) -> tuple[list[Frame], list[Finding]]:
    """Find pictures unlike their fellows; at a terminal, each is taken again until it is kept."""
    from edge_sdk.cli.operator import TerminalOperator
    from edge_sdk.enrollment import guide_frames, score_fellows
    from edge_sdk.picture_checks import check_fellows

    kept: set[int] = set()
    while True:
        odd = check_fellows(score_fellows(model, camera, frames))
        open_questions = [finding for finding in odd if finding.picture not in kept]
        if not is_asked or not open_questions:
            return frames, odd
        finding = open_questions[0]
        operator = TerminalOperator(options.count)
        operator.subject = finding.picture
        if operator.keeps(1, [finding]):
            kept.add(finding.picture)
            continue
        (again,) = guide_frames(open_again(), count=1, operator=operator)
        frames = [*frames[: finding.picture - 1], again, *frames[finding.picture :]]


def _print_answer(answer: dict[str, Any], threshold: Threshold) -> None:
    from edge_sdk.capture.settings import automatic_settings
    from edge_sdk.cli.enroll_sets import describe_threshold

    print(
        f"{answer['camera']}: {answer['pictures']} good pictures kept as "
        f"{answer['reference_set']} (frames {', '.join(map(str, answer['frames']))})"
    )
    print(describe_threshold(threshold))
    settings = answer["camera_settings"] or {}
    if settings:
        print("camera settings kept: " + ", ".join(f"{k} {v}" for k, v in settings.items()))
    if automatic := automatic_settings(settings):
        print(
            f"automatic: {', '.join(automatic)}: a large or shiny part changes how the next one "
            "looks; better fix it and enrol again",
            file=sys.stderr,
        )


if __name__ == "__main__":
    sys.exit(main())
