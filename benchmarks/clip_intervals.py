"""Which labelled intervals of the sample clip were alarmed, and which should have been."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

LABELS = Path(__file__).parents[1] / "edge_sdk" / "builtin" / "clip" / "labels.csv"
CLIP = LABELS.with_name("bottle-detection.mp4")
FIRST_GOOD = (0, 165)
"""Frames of the first normal interval, from which references are taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A labelled stretch of the clip, both ends included."""

    first_frame: int
    last_frame: int
    label: str

    def contains(self, frame: int) -> bool:
        """Whether the frame lies in it."""
        return self.first_frame <= frame <= self.last_frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Intervals found, of those there are, and alarms where all is well."""

    missing: tuple[int, int]
    hand: tuple[int, int]
    false_opens: int
    normal_intervals: int

    def __str__(self) -> str:
        """One line for a table."""
        return (
            f"missing {self.missing[0]}/{self.missing[1]}  hand {self.hand[0]}/{self.hand[1]}  "
            f"false alarms {self.false_opens} in {self.normal_intervals} normal intervals"
        )


def read_labels(path: Path = LABELS) -> list[Interval]:
    """The labelled intervals, in order."""
    with path.open(newline="") as file:
        return [
            Interval(
                first_frame=int(row["first_frame"]),
                last_frame=int(row["last_frame"]),
                label=row["label"],
            )
            for row in csv.DictReader(file)
        ]


def tally(intervals: Iterable[Interval], opens: Iterable[int], updates: Iterable[int]) -> Tally:
    """Count intervals that contain the frame of an open or update, and opens in normal ones.

    The first normal interval is where the references come from and does not count.
    """
    opened, alarmed = list(opens), [*opens, *updates]
    found = {"missing": [0, 0], "hand": [0, 0]}
    false_opens = normal = 0
    for interval in intervals:
        if interval.label == "normal":
            if interval.first_frame > FIRST_GOOD[1]:
                normal += 1
                false_opens += sum(interval.contains(frame) for frame in opened)
            continue
        counts = found[interval.label]
        counts[0] += any(interval.contains(frame) for frame in alarmed)
        counts[1] += 1
    return Tally(
        missing=(found["missing"][0], found["missing"][1]),
        hand=(found["hand"][0], found["hand"][1]),
        false_opens=false_opens,
        normal_intervals=normal,
    )
