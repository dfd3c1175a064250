"""What the change gate spares, and whether it makes any alert later.

    python benchmarks/change_gate.py [--bundle B] [--level 10] [--every 1.0]

The sample clip goes through two pipelines that differ in the gate alone, frame by frame in turn,
and both through the rules of incidents: which opened where, how many frames were encoded, how many
verdicts differ. Then a frame of a good stretch is shown again and again, with a sensor's noise
(sigma 2), and frames of the moving clip between: what a still scene costs beside a changing one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
from clip_intervals import CLIP, FIRST_GOOD, read_labels, tally
from image_faults import frame_at, read_clip

from edge_sdk.alerting.incidents import IncidentSettings, IncidentTracker
from edge_sdk.bundle.reader import open_bundle
from edge_sdk.capture.selector import open_source
from edge_sdk.config import default_config
from edge_sdk.config.camera import CameraConfig, ChangeGateConfig
from edge_sdk.enrollment import choose_frames
from edge_sdk.model import load_model
from edge_sdk.pipeline import Pipeline, build_pipeline
from edge_sdk.records import Decision, MessageKind, UInt8Array
from edge_sdk.references import ReferenceStore, TokenCache

STILL_FRAME = 430
STILL_FRAMES = 120


class Watched:
    """A pipeline, and the incidents that came of it."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.tracker = IncidentTracker(IncidentSettings())
        self.opens: list[int] = []
        self.updates: list[int] = []
        self.encoded = 0

    def take(self, pixels: UInt8Array, number: int) -> Decision:
        """Judge a frame and follow it."""
        frame = frame_at(pixels, number)
        decision = self.pipeline.inspect(frame)
        self.encoded += "encode" in decision.latency_ms
        for change in self.tracker.observe(decision, frame.scene_ns):
            if change.kind is MessageKind.ANOMALY_OPEN:
                self.opens.append(number)
            elif change.kind is MessageKind.ANOMALY_UPDATE:
                self.updates.append(number)
        return decision


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--level", type=int, default=ChangeGateConfig().level)
    parser.add_argument("--every", type=float, default=ChangeGateConfig().every_seconds)
    options = parser.parse_args()
    gate = ChangeGateConfig(level=options.level, every_seconds=options.every)
    model = load_model(open_bundle(options.bundle), default_config().engine)
    references = choose_frames(
        open_source(f"file:{CLIP}", pace="every"), count=4, last_frame=FIRST_GOOD[1]
    )
    plain: CameraConfig = default_config().cameras[0]
    with tempfile.TemporaryDirectory() as folder:
        kept = ReferenceStore(Path(folder), plain.name).save("default", references, source="clip")
        cache = TokenCache(Path(folder))
        sides = [
            Watched(build_pipeline(model, camera, kept, cache))
            for camera in (plain, plain.model_copy(update={"change_gate": gate}))
        ]
        pictures = read_clip()
        differing = 0
        for number, pixels in enumerate(pictures):
            before, after = (side.take(pixels, number) for side in sides)
            differing += before.verdict != after.verdict
        labels = read_labels()
        print("| | encoded | opened at | |\n|---|---|---|---|")
        for name, side in zip(("every frame", "with the gate"), sides, strict=True):
            found = tally(labels, side.opens, side.updates)
            print(f"| {name} | {side.encoded} of {len(pictures)} | {side.opens} | {found} |")
        print(f"\nframes whose verdict differs: {differing} of {len(pictures)}")
        _still(sides, pictures)
    return 0


def _still(sides: Sequence[Watched], pictures: Sequence[UInt8Array]) -> None:
    """Cost of a frame of a still scene, in turn with frames of the clip that moves."""
    noise = np.random.default_rng(0)
    spent: dict[str, list[float]] = {"still, with the gate": [], "changing": []}
    encoded = 0
    for count in range(STILL_FRAMES):
        still = pictures[STILL_FRAME] + noise.normal(0, 2, pictures[STILL_FRAME].shape)
        shown = np.clip(still, 0, 255).astype(np.uint8)
        number = len(pictures) + count
        gated = sides[1].take(shown, number)
        encoded += "encode" in gated.latency_ms
        plain = sides[0].take(pictures[(7 * count) % len(pictures)], number)
        spent["still, with the gate"].append(_total(gated))
        spent["changing"].append(_total(plain))
    mean = {name: float(np.mean(values)) for name, values in spent.items()}
    print(
        f"\nstill scene: {encoded} of {STILL_FRAMES} frames encoded; a frame costs on average "
        f"{mean['still, with the gate'] / mean['changing']:.0%} of one of a changing scene "
        f"(medians {median(spent['still, with the gate']):.2f} and "
        f"{median(spent['changing']):.2f} ms)"
    )


def _total(decision: Decision) -> float:
    return sum(value for name, value in decision.latency_ms.items() if name != "capture")


if __name__ == "__main__":
    sys.exit(main())
