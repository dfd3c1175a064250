"""Teaching a camera what good looks like: choose frames, keep them, fit the threshold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Protocol

from edge_sdk.config import CameraConfig
from edge_sdk.errors import CaptureError, InputError
from edge_sdk.model import Model
from edge_sdk.picture_checks import Finding, check_pixels
from edge_sdk.pipeline import build_preprocessor, check_places
from edge_sdk.preprocess import mean_brightness
from edge_sdk.protocols import FrameSource
from edge_sdk.records import Frame

MAX_REFERENCES = 64


class Operator(Protocol):
    """Whoever puts the parts in place, and judges a picture that has something wrong."""

    def is_ready(self, number: int) -> bool:
        """Whether part ``number`` (from 1) is in place; asked at every frame until it is."""
        ...

    def keeps(self, number: int, findings: Sequence[Finding]) -> bool:
        """Whether picture ``number`` is kept although something was found; False: taken again."""
        ...

    def hears(self, number: int, frame: Frame) -> None:
        """Picture ``number`` was kept."""
        ...


def check_pictures(frames: Sequence[Frame], *, keeps_refused: bool = False) -> list[Finding]:
    """Refuse pictures that would spoil a set: what is enrolled is what good looks like.

    Args:
        frames: the pictures.
        keeps_refused: a person wants them all the same; those that show nothing stay refused.

    Returns:
        What is left for a person to judge.

    Raises:
        InputError: there are more than 64, one is black or over-exposed, or one is blurred or
            given twice and that was not allowed.
    """
    if len(frames) > MAX_REFERENCES:
        raise InputError(f"references: expected at most {MAX_REFERENCES}, got {len(frames)}")
    findings = check_pixels(frames)
    refused = [
        finding
        for finding in findings
        if finding.gravity == "refused"
        and not (keeps_refused and finding.fault not in ("black", "over_exposed"))
    ]
    if refused:
        lines = [describe_finding(finding, frames[finding.picture - 1]) for finding in refused]
        raise InputError("\n".join([*lines, "nothing was enrolled: take these pictures again"]))
    return findings


def describe_finding(finding: Finding, frame: Frame) -> str:
    """One line for people."""
    return f"picture {finding.picture} (frame {frame.frame_id}): {finding.detail}"


def score_fellows(model: Model, camera: CameraConfig, frames: Sequence[Frame]) -> list[float]:
    """Image score of each picture against the others: the odd one scores high.

    Args:
        model: the bundle in its engine.
        camera: for its crop and regions.
        frames: the pictures, at least two.

    Raises:
        ConfigError: the crop or a region does not lie in them.
        EngineError: the graph failed.
    """
    for size in sorted({frame.size for frame in frames}):
        check_places(camera, size)
    preprocess = build_preprocessor(model, camera)
    if model.matches_brightness:
        brightness = mean_brightness([preprocess(frame) for frame in frames])
        preprocess = preprocess.with_brightness(round(brightness, 2))
    features = [model.encoder.encode(preprocess(frame)) for frame in frames]
    scorer = model.factory.fit(features)
    return [
        scorer.without(index).score(picture).image_score for index, picture in enumerate(features)
    ]


def choose_frames(
    source: FrameSource,
    *,
    count: int,
    first_frame: int = 0,
    last_frame: int | None = None,
) -> list[Frame]:
    """Take evenly spaced frames of a file or folder.

    The length of a stream is not known beforehand: every 2^k-th frame is kept, and when too many
    have gathered every second of those is dropped.

    Args:
        source: read to its end, or to ``last_frame``.
        count: how many, 1 to 64.
        first_frame: number of the first frame to consider.
        last_frame: number of the last one; None: to the end.

    Raises:
        InputError: the source has fewer frames than that.
        CaptureError: the source failed.
    """
    kept: list[Frame] = []
    stride = 1
    for frame in _frames_between(source, first_frame, last_frame):
        if (frame.frame_id - first_frame) % stride:
            continue
        kept.append(frame)
        if len(kept) >= 8 * count:
            stride *= 2
            kept = kept[::2]
    if len(kept) < count:
        raise InputError(f"{source.source_id}: expected at least {count} frames, got {len(kept)}")
    # The middle of each of `count` equal stretches.
    return [kept[(2 * index + 1) * len(kept) // (2 * count)] for index in range(count)]


def pick_frames(source: FrameSource, frame_ids: Sequence[int]) -> list[Frame]:
    """Take the frames with these numbers from a file or folder.

    Raises:
        InputError: a number is beyond the end, or given twice.
        CaptureError: the source failed.
    """
    wanted = set(frame_ids)
    if len(wanted) != len(frame_ids):
        raise InputError(f"frames: expected different numbers, got {list(frame_ids)}")
    found = [frame for frame in _frames_between(source, 0, max(wanted)) if frame.frame_id in wanted]
    missing = sorted(wanted - {frame.frame_id for frame in found})
    if missing:
        raise InputError(f"{source.source_id}: has no frames {missing}")
    return found


def guide_frames(source: FrameSource, *, count: int, operator: Operator) -> list[Frame]:
    """Take pictures of a live camera, each when its part is in place, and again where need be.

    Args:
        source: a camera.
        count: how many, 1 to 64.
        operator: says when a part is there, and whether a doubtful picture is kept.

    Raises:
        CaptureError: the camera failed, or its stream ended.
    """
    taken: list[Frame] = []
    with closing(source):
        for frame in source.frames():
            number = len(taken) + 1
            if not operator.is_ready(number):
                continue
            found = [f for f in check_pixels([*taken, frame]) if f.picture == number]
            if found and not operator.keeps(number, found):
                continue
            taken.append(frame)
            operator.hears(number, frame)
            if len(taken) == count:
                return taken
    raise CaptureError(f"{source.source_id}: ended after {len(taken)} of {count} pictures")


def _frames_between(source: FrameSource, first: int, last: int | None) -> Iterator[Frame]:
    with closing(source):
        for frame in source.frames():
            if last is not None and frame.frame_id > last:
                return
            if frame.frame_id >= first:
                yield frame
