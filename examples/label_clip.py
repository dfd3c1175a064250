"""Turn the sample clip and its labels into folders that ``edge-eval`` reads.

    python examples/label_clip.py FOLDER

The first normal interval is what references are drawn from, the later ones are judged; frames
with a missing bottle or a hand are bad.
"""

from __future__ import annotations

import csv
import sys
from contextlib import closing
from importlib.resources import files
from pathlib import Path

from edge_sdk.capture.selector import open_source
from edge_sdk.imaging import encode_png

CLIP = Path(str(files("edge_sdk"))) / "builtin" / "clip"
EVERY = 6  # neighbouring frames look alike


def read_intervals() -> list[tuple[int, int, str]]:
    with (CLIP / "labels.csv").open(newline="") as file:
        return [
            (int(row["first_frame"]), int(row["last_frame"]), row["label"])
            for row in csv.DictReader(file)
        ]


def main(folder: Path) -> None:
    intervals = read_intervals()
    places = {"normal": "test/good", "missing": "test/missing", "hand": "test/hand"}
    with closing(open_source(f"file:{CLIP / 'bottle-detection.mp4'}", pace="every")) as source:
        for frame in source.frames():
            for number, (first, last, label) in enumerate(intervals):
                if first <= frame.frame_id <= last and frame.frame_id % EVERY == 0:
                    place = folder / ("train/good" if number == 0 else places[label])
                    place.mkdir(parents=True, exist_ok=True)
                    path = place / f"{frame.frame_id:04d}.png"
                    path.write_bytes(encode_png(frame.pixels))
    for place in sorted(folder.glob("*/*")):
        print(f"{place.relative_to(folder)}: {sum(1 for _ in place.iterdir())} pictures")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
