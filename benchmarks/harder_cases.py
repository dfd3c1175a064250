"""Cases on the sample clip where a frame difference fails: small defects, lamp, shift.

    python benchmarks/harder_cases.py [--bundle B] [--seeds 5]

Defects of 1, 2 and 3 % of the width are pasted on frames of the later normal intervals, with
exact masks. Good and bad pictures are seen as filmed, with the lamp at -15 % and +15 %, and with
the camera moved by 4 px. References: four frames of the first normal interval, as filmed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from clip_intervals import CLIP, FIRST_GOOD
from frame_difference import difference_map

from edge_sdk.bundle.reader import open_bundle
from edge_sdk.capture.selector import open_source
from edge_sdk.config import default_config
from edge_sdk.defects import paste_defect
from edge_sdk.evaluation.conditions import CONDITIONS as NUISANCES
from edge_sdk.metrics import auroc, escapes_at
from edge_sdk.model import load_model
from edge_sdk.pipeline import as_frame, build_pipeline
from edge_sdk.records import BoolArray, FloatArray, Frame, UInt8Array
from edge_sdk.references import ReferenceStore, TokenCache

# Later normal intervals, without the frames in which the next hand already throws its shadow.
GOOD_STRETCHES = ((414, 456), (880, 898), (1106, 1186))
DEFECT_SHARES = (0.01, 0.02, 0.03)
CONDITIONS = ("as filmed", "lamp -15 %", "lamp +15 %", "shift 4 px")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """One picture to judge."""

    condition: str
    share: float | None
    """Size of the defect as a share of the width; None: a good picture."""
    pixels: UInt8Array
    mask: BoolArray | None


def under(condition: str, pixels: UInt8Array, rng: np.random.Generator) -> UInt8Array:
    """The picture under a condition; a shift goes to one of the four sides."""
    if condition not in NUISANCES:
        return pixels
    side = int(rng.integers(4)) if condition.startswith("shift") else 0
    return NUISANCES[condition](pixels, side)


def cases(frames: Sequence[Frame], seed: int) -> Iterator[Case]:
    """Each frame good, and with each size of defect, under each condition."""
    rng = np.random.default_rng(seed)
    for frame in frames:
        for condition in CONDITIONS:
            yield Case(
                condition=condition,
                share=None,
                pixels=under(condition, frame.pixels, rng),
                mask=None,
            )
            for share in DEFECT_SHARES:
                spoilt, mask = paste_defect(frame.pixels, share, rng)
                yield Case(
                    condition=condition,
                    share=share,
                    pixels=under(condition, spoilt, rng),
                    mask=mask,
                )


def is_found_there(anomaly_map: FloatArray, mask: BoolArray) -> bool:
    """Whether the hottest pixel lies on the defect, or within 16 px of it."""
    near = cv2.dilate(mask.astype(np.uint8), np.ones((33, 33), np.uint8))
    return bool(near[np.unravel_index(int(anomaly_map.argmax()), anomaly_map.shape)])


def read_frames() -> tuple[list[Frame], list[Frame]]:
    """(frames of the first normal interval, every third frame of the later ones)."""
    first, later = [], []
    with closing(open_source(f"file:{CLIP}")) as source:
        for frame in source.frames():
            if frame.frame_id <= FIRST_GOOD[1]:
                first.append(frame)
            elif any(a <= frame.frame_id <= b for a, b in GOOD_STRETCHES) and (
                frame.frame_id % 3 == 0
            ):
                later.append(frame)
    return first, later


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    first, later = read_frames()
    config = default_config()
    model = load_model(open_bundle(options.bundle), config.engine)
    methods = ("ours", "frame difference")
    found: dict[tuple[str, str, float | None], list[list[float]]] = {}
    places: dict[tuple[str, str, float | None], list[bool]] = {}
    for seed in range(options.seeds):
        chosen = np.random.default_rng(seed).choice(len(first), 4, replace=False)
        references = [first[index] for index in sorted(chosen)]
        with tempfile.TemporaryDirectory() as folder:
            store = ReferenceStore(Path(folder), "cam1")
            kept = store.save("default", references, source="clip")
            pipeline = build_pipeline(model, config.cameras[0], kept, TokenCache(Path(folder)))
        for case in cases(later, seed):
            frame = replace(as_frame(case.pixels), monotonic_ns=time.monotonic_ns())
            result = pipeline.inspect(frame).result
            if result is None:
                raise SystemExit("a frame was not scored")
            maps = {
                "ours": result.anomaly_map,
                "frame difference": difference_map(
                    case.pixels, [reference.pixels for reference in references]
                ),
            }
            for method in methods:
                key = (method, case.condition, case.share)
                by_seed = found.setdefault(key, [[] for _ in range(options.seeds)])
                by_seed[seed].append(float(maps[method].max()))
                if case.mask is not None:
                    places.setdefault(key, []).append(is_found_there(maps[method], case.mask))
    print_table(found, places, methods, options.seeds)


def print_table(
    found: dict[tuple[str, str, float | None], list[list[float]]],
    places: dict[tuple[str, str, float | None], list[bool]],
    methods: Sequence[str],
    seeds: int,
) -> None:
    """Mean and spread over seeds; in `all` good pictures of all conditions are one class."""
    print("condition", "defect", "method", "AUROC", "escapes at 1 % false alarms",
          "hottest pixel on it", sep="\t")  # fmt: skip
    for condition in (*CONDITIONS, "all"):
        members = CONDITIONS if condition == "all" else (condition,)
        for share in DEFECT_SHARES:
            for method in methods:
                areas, escapes = [], []
                for seed in range(seeds):
                    good = [s for c in members for s in found[method, c, None][seed]]
                    bad = [s for c in members for s in found[method, c, share][seed]]
                    areas.append(auroc(good, bad))
                    escapes.append(escapes_at(good, bad, 0.01))
                hits = [hit for c in members for hit in places[method, c, share]]
                print(
                    condition, f"{share:.0%}", method,
                    f"{np.mean(areas):.3f}±{np.std(areas):.3f}",
                    f"{np.mean(escapes):.2f}±{np.std(escapes):.2f}",
                    f"{np.mean(hits):.2f}", sep="\t", flush=True,
                )  # fmt: skip


if __name__ == "__main__":
    main()
