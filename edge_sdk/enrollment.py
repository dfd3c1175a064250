"""Teaching a camera what good looks like: choose frames, keep them, fit the threshold."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

import numpy as np

from edge_sdk.errors import CaptureError, InputError
from edge_sdk.protocols import FrameSource
from edge_sdk.records import Frame

MAX_REFERENCES = 64
BLACK_BELOW, SATURATED_FROM = 16, 250
"""Grey levels, 0-255, as the faults of running frames have them by default."""


def check_pictures(frames: Sequence[Frame]) -> None:
    """Refuse pictures that show nothing: what is enrolled is what good looks like from then on.

    Raises:
        InputError: there are more than 64, or 99 % of a picture is black or over-exposed: a lens
            cap, a lamp in the lens.
    """
    if len(frames) > MAX_REFERENCES:
        raise InputError(f"references: expected at most {MAX_REFERENCES}, got {len(frames)}")
    for number, frame in enumerate(frames, start=1):
        dark, bright = np.percentile(frame.pixels, (1, 99))
        if bright < BLACK_BELOW or dark >= SATURATED_FROM:
            what = "black" if bright < BLACK_BELOW else "over-exposed"
            raise InputError(
                f"picture {number} (frame {frame.frame_id}) is {what}: grey levels {dark:.0f} to "
                f"{bright:.0f}; uncover the lens, mind the light, and enrol again"
            )


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


def watch_frames(
    source: FrameSource,
    *,
    count: int,
    interval_seconds: float,
    on_taken: Callable[[int, Frame], None],
) -> list[Frame]:
    """Take a picture of a live camera every so often, the first after one interval.

    Args:
        source: a camera.
        count: how many, 1 to 64.
        interval_seconds: between two pictures: time to change the part.
        on_taken: told the number (from 1) and the frame as each is taken.

    Raises:
        CaptureError: the camera failed, or its stream ended.
    """
    taken: list[Frame] = []
    due = time.monotonic() + interval_seconds
    with closing(source):
        for frame in source.frames():
            if time.monotonic() < due:
                continue
            taken.append(frame)
            on_taken(len(taken), frame)
            if len(taken) == count:
                return taken
            due = time.monotonic() + interval_seconds
    raise CaptureError(f"{source.source_id}: ended after {len(taken)} of {count} pictures")


def _frames_between(source: FrameSource, first: int, last: int | None) -> Iterator[Frame]:
    with closing(source):
        for frame in source.frames():
            if last is not None and frame.frame_id > last:
                return
            if frame.frame_id >= first:
                yield frame
