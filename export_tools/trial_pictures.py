"""Real pictures that graphs of fewer bits are made and judged with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_sdk.errors import InputError
from edge_sdk.imaging import read_image
from edge_sdk.records import UInt8Array
from export_tools.gates import FEWEST_JUDGED
from export_tools.pictures import (
    REFERENCES,
    SUFFIXES,
    Interval,
    ParityPictures,
    evenly,
    read_clip,
    read_labels,
)

JUDGED = 120
MOST_JUDGED = 300
CALIBRATION = 100
MOST_CALIBRATION = 300


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trial:
    """Pictures that a graph is judged on."""

    pictures: ParityPictures
    is_bad: Sequence[bool | None]
    """Of each judged picture; None: not known."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """Pictures that show a quantizer what values occur: (H, W, 3) uint8 RGB of any size."""

    pictures: Sequence[UInt8Array]
    source: str


def check_folders(pictures: Path | None, calibration: Path | None) -> None:
    """Say at once what would otherwise be found when minutes are spent.

    Args:
        pictures: folder to judge on; None: the clip.
        calibration: folder to calibrate int8 on; None: the clip.

    Raises:
        InputError: not a folder, or too few pictures in it.
    """
    if pictures is not None:
        _trial_files(pictures)
    if calibration is not None:
        _calibration_files(calibration)


def clip_trial() -> Trial:
    """Frames of the clip that comes along, from its beginning to its end, with its labels.

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
    judged = evenly(JUDGED, labels[-1].last + 1)
    frames = read_clip({*references, *judged})
    return Trial(
        pictures=ParityPictures(
            references=[frames[index] for index in references],
            judged=[frames[index] for index in judged],
            source=f"{JUDGED} frames of bottle-detection.mp4",
        ),
        is_bad=[_is_bad(labels, index) for index in judged],
    )


def folder_trial(folder: Path) -> Trial:
    """Pictures of a folder by name: the first four are the references, the rest is judged.

    Raises:
        InputError: not a folder, too few pictures, or one that does not decode.
    """
    references, rest = _trial_files(folder)
    chosen = [rest[place] for place in evenly(min(len(rest), MOST_JUDGED), len(rest))]
    return Trial(
        pictures=ParityPictures(
            references=[read_image(path) for path in references],
            judged=[read_image(path) for path in chosen],
            source=f"{len(chosen)} pictures of a folder",
        ),
        is_bad=[None] * len(chosen),
    )


def clip_calibration() -> Calibration:
    """Frames of the clip beside those that are judged.

    Raises:
        InputError: the clip or its labels cannot be read.
    """
    total = read_labels()[-1].last + 1
    judged = set(evenly(JUDGED, total))
    free = [index for index in range(total) if index not in judged]
    chosen = [free[place] for place in evenly(CALIBRATION, len(free))]
    frames = read_clip(set(chosen))
    return Calibration(
        pictures=[frames[index] for index in chosen],
        source=f"{CALIBRATION} other frames of bottle-detection.mp4",
    )


def folder_calibration(folder: Path) -> Calibration:
    """All pictures of a folder, or as many evenly spread over it as help.

    Raises:
        InputError: not a folder, no pictures in it, or one that does not decode.
    """
    found = _calibration_files(folder)
    chosen = [found[place] for place in evenly(min(len(found), MOST_CALIBRATION), len(found))]
    return Calibration(
        pictures=[read_image(path) for path in chosen],
        source=f"{len(chosen)} pictures of a folder",
    )


def _trial_files(folder: Path) -> tuple[list[Path], list[Path]]:
    found = _pictures_in(folder)
    references, rest = found[:REFERENCES], found[REFERENCES:]
    if len(rest) < FEWEST_JUDGED:
        raise InputError(
            f"{folder}: other precisions than fp32 are judged on at least {FEWEST_JUDGED} "
            f"pictures besides the {REFERENCES} references, got {len(rest)}"
        )
    return references, rest


def _calibration_files(folder: Path) -> list[Path]:
    found = _pictures_in(folder)
    if not found:
        raise InputError(
            f"{folder}: expected pictures to calibrate int8 on ({', '.join(SUFFIXES)}), found none"
        )
    return found


def _pictures_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder with pictures, found none")
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def _is_bad(labels: Sequence[Interval], frame: int) -> bool | None:
    for interval in labels:
        if interval.first <= frame <= interval.last:
            return interval.label != "normal"
    return None
