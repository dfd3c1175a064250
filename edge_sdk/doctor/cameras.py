"""What belongs to one camera: its pictures, its references, its lines."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from edge_sdk.doctor.findings import Finding, fail, ok, warn
from edge_sdk.errors import CaptureError, ConfigError, EdgeError, InputError, LineError

if TYPE_CHECKING:
    from edge_sdk.config import CameraConfig, DeviceConfig
    from edge_sdk.model import Model
    from edge_sdk.references import ReferenceSet


def check_camera(
    camera: CameraConfig, *, running: int | None
) -> Iterator[Finding | tuple[int, int]]:
    """Read one picture, and see whether crop and regions lie in it.

    Yields:
        The picture's (height, width) once there is one, and findings.
    """
    from edge_sdk.config.source import is_camera_source, shown_source  # noqa: PLC0415 - as above
    from edge_sdk.picture_checks import check_pixels  # noqa: PLC0415 - as above
    from edge_sdk.pipeline import check_places  # noqa: PLC0415 - as above
    from edge_sdk.runtime.compose import open_camera  # noqa: PLC0415 - as above

    name, shown = f"camera {camera.name}", shown_source(camera.source)
    try:
        with closing(open_camera(camera)) as source:
            frame = next(iter(source.frames()), None)
    except CaptureError as error:
        if running is not None and is_camera_source(camera.source):
            yield warn(
                name,
                f"not tested, process {running} uses this box's cameras ({error})",
                "stop edge-run and ask again, if you doubt this camera",
            )
            return
        yield fail(name, str(error), _camera_fix(camera), exit_code=error.exit_code)
        return
    if frame is None:
        said = f"{shown}: ended before its first picture"
        yield fail(name, said, _camera_fix(camera), exit_code=CaptureError.exit_code)
        return
    yield frame.size
    try:
        check_places(camera, frame.size)
    except EdgeError as error:
        yield fail(name, str(error), "correct it in the device file", exit_code=error.exit_code)
        return
    said = f"{shown}: {frame.size[1]}x{frame.size[0]}"
    findings = check_pixels([frame])
    if findings:
        yield warn(name, f"{said}; {findings[0].detail}", "look at light, lens and focus")
    else:
        yield ok(name, said)


def check_references(
    config: DeviceConfig,
    camera: CameraConfig,
    model: Model | None,
    size: tuple[int, int] | None,
    *,
    enroll: str,
) -> Iterator[Finding]:
    """Whether the camera's good parts are enrolled, whole, and of the camera's size.

    Args:
        config: for the state folder.
        camera: whose set.
        model: the bundle, where it loads.
        size: (height, width) of the camera's pictures, where one could be had.
        enroll: the command that shows this camera good parts.
    """
    from edge_sdk.config.source import is_camera_source  # noqa: PLC0415 - as above
    from edge_sdk.references import ReferenceStore  # noqa: PLC0415 - as above
    from edge_sdk.runtime.compose import load_references  # noqa: PLC0415 - as above
    from edge_sdk.thresholds import known_threshold  # noqa: PLC0415 - as above

    name = f"references {camera.name}"
    store = ReferenceStore(config.state_dir, camera.name)
    if model is None:
        references: ReferenceSet | None = store.load(camera.reference_set)
    else:
        references = load_references(model, camera, store)
    said = "none, nor does this bundle need any"
    if references is not None:
        said = f"{references.label}, {len(references.pictures)} pictures"
        sizes = {picture.pixels.shape[:2] for picture in references.pictures}
        is_fixed = camera.crop or camera.regions or is_camera_source(camera.source)
        if size is not None and is_fixed and sizes != {size}:
            shown = ", ".join(f"{width}x{height}" for height, width in sorted(sizes))
            yield fail(
                name,
                f"{said} of {shown}, but the camera gives {size[1]}x{size[0]}: all would be faults",
                f"enrol again with this camera: {enroll}",
                exit_code=InputError.exit_code,
            )
            return
    threshold = None if model is None else known_threshold(model, camera, references)
    if threshold is not None and threshold.provisional:
        yield warn(
            name,
            f"{said}; the threshold, of {threshold.pictures} pictures, is provisional: expect "
            "false alarms",
            _learn(references, enroll),
        )
    else:
        yield ok(name, said)


def _learn(references: ReferenceSet | None, enroll: str) -> str:
    """How a provisional threshold becomes one that promises something."""
    from edge_sdk.run_in.folder import find_run_ins  # noqa: PLC0415 - as above

    if references is None:
        return f"{enroll}, then let it learn from good parts: edge-run --run-in 100"
    waiting = [len(run_in.standing.waiting) for run_in in find_run_ins(references.folder)]
    if waiting and waiting[-1]:
        return (
            f"say of {waiting[-1]} odd parts whether they are good: edge-enroll review, with the "
            "same --config, --camera and --state"
        )
    return "let it learn from good parts: edge-run --run-in 100, with the same options"


def check_lines(camera: CameraConfig) -> Iterator[Finding]:
    """Whether the drivers of output and trigger input load and their device is there.

    Neither is opened: an output would move the line, and a running ``edge-run`` holds both.
    """
    from edge_sdk.inputs.selector import find_input  # noqa: PLC0415 - as above
    from edge_sdk.outputs.selector import find_output  # noqa: PLC0415 - as above

    lines = (
        ("output", camera.output, find_output),
        ("trigger input", camera.trigger.input, find_input),
    )
    for what, settings, find in lines:
        if settings is None:
            continue
        name = f"{what} {camera.name}"
        said = f"{settings.driver} {settings.address}"
        try:
            find(settings.driver)
        except ConfigError as error:
            fix = "install what is said, or correct it in the device file"
            yield fail(name, str(error), fix, exit_code=error.exit_code)
            continue
        node = Path(settings.address.partition(":")[0])
        if settings.driver == "gpio" and not os.access(node, os.R_OK | os.W_OK):
            problem = "may not be used by this user" if node.exists() else "does not exist"
            fix = "ls -l /dev/gpiochip*; sudo usermod -aG gpio $USER, then log in again"
            yield fail(name, f"{said}: {node} {problem}", fix, exit_code=LineError.exit_code)
            continue
        yield ok(name, f"{said}: the driver loads; the line itself was not touched")


def _camera_fix(camera: CameraConfig) -> str:
    """What to try where a source gives no picture; the error before it says what was found."""
    from edge_sdk.config.address import is_address  # noqa: PLC0415 - as above
    from edge_sdk.config.source import is_camera_source  # noqa: PLC0415 - as above

    source = camera.source
    if is_address(source):
        return (
            "check its power, network and address, and username and password of this camera "
            "(docs/cameras.md: Passwords)"
        )
    if source.lower().startswith("gst:"):
        return "try the pipeline: gst-launch-1.0 -v ... ! fakesink"
    if source.startswith(("genicam:", "aravis:")):
        return "list what answers: arv-tool-0.8; the camera must be in this box's own network"
    if is_camera_source(source):
        return "check cable, power and name: ls -l /dev/v4l/by-id; this user in group video: id"
    return f"put pictures or a video there, or correct cameras.source of {camera.name}"
