"""Judging stored pictures one by one, against an enrolled set or a folder of good pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edge_sdk.capture.folder import picture_paths
from edge_sdk.config import CameraConfig, DeviceConfig
from edge_sdk.config.source import is_camera_source
from edge_sdk.enrollment import MAX_REFERENCES
from edge_sdk.errors import CaptureError, InputError
from edge_sdk.imaging import read_image
from edge_sdk.model import Model
from edge_sdk.picture_checks import check_pixels
from edge_sdk.pipeline import Pipeline, as_frame, build_pipeline
from edge_sdk.records import Decision, Frame, UInt8Array
from edge_sdk.references import ReferenceSet, ReferenceStore, TokenCache
from edge_sdk.runtime.compose import load_references

_FOLDER_SET = "folder"
_SHOWS_NOTHING = ("black", "over_exposed")
_SET_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inspected:
    """One picture and what was said of it."""

    path: Path
    pixels: UInt8Array | None
    """(H, W, 3) RGB; None where the file cannot be read."""
    decision: Decision | None
    """None where the file cannot be read: ``problem`` then says why."""
    problem: str | None = None


def find_pictures(places: Sequence[Path]) -> list[Path]:
    """The pictures that were named, and those directly in the folders that were named.

    Raises:
        InputError: a place does not exist, or a folder has no pictures or cannot be read.
    """
    found: list[Path] = []
    for place in places:
        if place.is_dir():
            found += _pictures_in(place)
        elif place.exists():
            found.append(place)
        else:
            raise InputError(f"{place}: expected a picture or a folder of pictures, found nothing")
    return found


def _pictures_in(folder: Path) -> list[Path]:
    try:
        return picture_paths(folder)
    except CaptureError as error:  # to whoever hands in pictures no camera is to blame
        raise InputError(str(error)) from error


def reference_folder(given: str | None, store: ReferenceStore) -> Path | None:
    """The folder meant by what a user wrote for ``--references``.

    Args:
        given: ``dir:FOLDER``, a path, or the name of a set; None: the set of the settings.
        store: of the camera; a set that is enrolled goes before a folder of the same name.

    Returns:
        None where a set is meant.
    """
    if given is None:
        return None
    path = Path(given.removeprefix("dir:"))
    if _SET_NAME.fullmatch(given) and (store.versions(given) or not path.is_dir()):
        return None
    return path


def build_inspection(
    model: Model, config: DeviceConfig, *, references: str | None, scratch: Path
) -> tuple[Pipeline, list[str]]:
    """The pipeline of the settings' one camera, for pictures that were taken before.

    Pictures of several sizes can be judged where nothing is said in pixels (no crop, no regions)
    and the references come from a folder or differ in size themselves. Otherwise a picture of
    another size than the references' is a fault, as it is at the line.

    Args:
        model: the bundle, loaded.
        config: settings with one camera.
        references: as ``reference_folder`` takes it; a set's name is in the settings, too.
        scratch: a folder that is thrown away afterwards.

    Returns:
        The pipeline, and what is doubtful about the good pictures of a folder, a line each.

    Raises:
        ConfigError: the crop or a region does not lie in the good pictures.
        InputError: no such set or folder, or pictures that cannot be references.
    """
    camera = config.cameras[0]
    store = ReferenceStore(config.state_dir, camera.name)
    folder = reference_folder(references, store)
    doubts: list[str] = []
    state = config.state_dir
    if folder is None:
        found = load_references(model, camera, store)
        is_free = len({picture.pixels.shape for picture in found.pictures}) > 1 if found else True
    else:
        found, doubts = _take_folder(folder, scratch, camera)
        is_free, state = True, scratch
    if is_free and is_camera_source(camera.source) and not (camera.crop or camera.regions):
        # Not the pictures of the one camera that the settings name.
        camera = camera.model_copy(update={"source": f"dir:{scratch}"})
    return build_pipeline(model, camera, found, TokenCache(state)), doubts


def _take_folder(
    folder: Path, scratch: Path, camera: CameraConfig
) -> tuple[ReferenceSet, list[str]]:
    paths = _pictures_in(folder)
    if not 2 <= len(paths) <= MAX_REFERENCES:
        raise InputError(
            f"{folder}: expected 2 to {MAX_REFERENCES} good pictures to compare with, "
            f"got {len(paths)}"
        )
    frames = [_frame(read_image(path), index, path) for index, path in enumerate(paths)]
    findings = check_pixels(frames)
    lines = {
        finding: f"{paths[finding.picture - 1]} (no. {finding.picture}): {finding.detail}"
        for finding in findings
    }
    blind = [lines[finding] for finding in findings if finding.fault in _SHOWS_NOTHING]
    if blind:
        raise InputError("\n".join(blind))
    store = ReferenceStore(scratch, camera.name)
    return store.save(_FOLDER_SET, frames, source=f"dir:{folder}"), list(lines.values())


def judge_pictures(pipeline: Pipeline, paths: Sequence[Path]) -> Iterator[Inspected]:
    """Judge one picture after another; one that cannot be read does not end the series."""
    for index, path in enumerate(paths):
        try:
            pixels = read_image(path)
        except (InputError, OSError) as error:
            yield Inspected(path=path, pixels=None, decision=None, problem=str(error))
            continue
        decision = pipeline.inspect(_frame(pixels, index, path))
        yield Inspected(path=path, pixels=pixels, decision=decision)


def _frame(pixels: UInt8Array, index: int, path: Path) -> Frame:
    return replace(as_frame(pixels), frame_id=index, source_id=path.name)
