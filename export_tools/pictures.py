"""Real pictures to export with: the clip that comes along, or a folder."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np

import edge_sdk
from edge_sdk.errors import InputError
from edge_sdk.imaging import read_image
from edge_sdk.records import UInt8Array

REFERENCES = 4
"""Good pictures that the threshold for comparing verdicts is fitted on."""
CLIP_PICTURES = 24
FEWEST_PICTURES = 2 * REFERENCES
MOST_PICTURES = 64
"""Of a folder; more take longer and say nothing new."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ParityPictures:
    """What exported graphs are compared on. Pictures are (H, W, 3) uint8 RGB of any size."""

    references: Sequence[UInt8Array]
    judged: Sequence[UInt8Array]
    source: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GoldenPictures:
    """What a device tests itself with: (H, W, 3) uint8 RGB, all of one size."""

    references: Sequence[UInt8Array]
    frames: Sequence[UInt8Array]
    """A good one, and one where a bottle is missing."""
    source: str
    """Whose pictures they are, for the bundle's notice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A stretch of the clip and what is to be seen there; both frames belong to it."""

    first: int
    last: int
    label: str

    def at(self, share: float) -> int:
        """The frame at 0 (first) to 1 (last)."""
        return round(self.first + share * (self.last - self.first))


def clip_pictures() -> ParityPictures:
    """Frames of the clip: good ones as references, and what it shows from beginning to end.

    Raises:
        InputError: the clip or its labels cannot be read.
    """
    labels = read_labels()
    good = [
        index
        for interval in labels
        if interval.label == "normal"
        for index in range(interval.first, interval.last + 1)
    ]
    references = [good[place] for place in evenly(REFERENCES, len(good))]
    judged = evenly(CLIP_PICTURES, labels[-1].last + 1)
    frames = read_clip({*references, *judged})
    return ParityPictures(
        references=[frames[index] for index in references],
        judged=[frames[index] for index in judged],
        source=f"{CLIP_PICTURES} frames of bottle-detection.mp4",
    )


def folder_pictures(folder: Path) -> ParityPictures:
    """Pictures of a folder by name: the first four are the references, the rest is judged.

    Raises:
        InputError: not a folder, too few pictures, or one that does not decode.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder with pictures, found none")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if len(found) < FEWEST_PICTURES:
        raise InputError(
            f"{folder}: expected at least {FEWEST_PICTURES} pictures ({', '.join(SUFFIXES)}), "
            f"{REFERENCES} of them good ones that come first by name, got {len(found)}"
        )
    rest = found[REFERENCES:]
    chosen = [rest[place] for place in evenly(min(len(rest), MOST_PICTURES), len(rest))]
    return ParityPictures(
        references=[read_image(path) for path in found[:REFERENCES]],
        judged=[read_image(path) for path in chosen],
        source=f"{len(chosen)} pictures of a folder",
    )


def golden_pictures(input_size: tuple[int, int]) -> GoldenPictures:
    """Parts of frames of the clip, a little larger than the model's picture where the clip is.

    Cut out and not resized, so that they are the camera's own pixels. The factors make what a
    device then resizes exact: averages over 3/2 x 9/8 pixels are never half-way between two
    bytes, so that no device rounds them differently.

    Args:
        input_size: (height, width) of the model's picture in pixels.

    Raises:
        InputError: the clip or its labels cannot be read.
    """
    labels = read_labels()
    normal = [interval for interval in labels if interval.label == "normal"]
    missing = [interval for interval in labels if interval.label == "missing"]
    # Good in another stretch than the references: bottles were moved and set back in between.
    references = [normal[0].at(0.25), normal[0].at(0.75)]
    shown = [normal[2].at(0.5), missing[0].at(0.5)]
    frames = read_clip({*references, *shown})
    return GoldenPictures(
        references=[_cut(frames[index], input_size) for index in references],
        frames=[_cut(frames[index], input_size) for index in shown],
        source="bottle-detection.mp4 of github.com/intel-iot-devkit/sample-videos, CC BY 4.0",
    )


def _cut(pixels: UInt8Array, input_size: tuple[int, int]) -> UInt8Array:
    height = min(pixels.shape[0], input_size[0] * 9 // 8)
    width = min(pixels.shape[1], input_size[1] * 3 // 2)
    top = (pixels.shape[0] - height) // 2
    return np.ascontiguousarray(pixels[top : top + height, :width])  # the left: bottles come and go


def evenly(count: int, total: int) -> list[int]:
    """The middles of ``count`` equal stretches of ``total`` places."""
    return [(2 * index + 1) * total // (2 * count) for index in range(count)]


def _clip_file(name: str) -> Path:
    path = Path(str(files(edge_sdk))) / "builtin" / "clip" / name
    if not path.is_file():
        raise InputError(f"{path}: expected the clip that comes with the package, found none")
    return path


def read_labels() -> list[Interval]:
    """The clip's stretches, in order and without holes.

    Raises:
        InputError: the labels do not come along.
    """
    with _clip_file("labels.csv").open(encoding="utf-8", newline="") as stream:
        return [
            Interval(first=int(row["first_frame"]), last=int(row["last_frame"]), label=row["label"])
            for row in csv.DictReader(stream)
        ]


def read_clip(wanted: Collection[int]) -> Mapping[int, UInt8Array]:
    """Frames by number, read from the first on: seeking lands beside the frame asked for."""
    path = _clip_file("bottle-detection.mp4")
    capture = cv2.VideoCapture(str(path))
    frames: dict[int, UInt8Array] = {}
    try:
        for index in range(max(wanted) + 1):
            is_read = capture.grab()
            if is_read and index in wanted:
                is_read, picture = capture.retrieve()
                frames[index] = np.ascontiguousarray(picture[:, :, ::-1], dtype=np.uint8)
            if not is_read:
                raise InputError(f"{path}: frame {index} cannot be read")
    finally:
        capture.release()
    return frames
