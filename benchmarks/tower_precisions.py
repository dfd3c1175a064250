"""What fewer bits cost and gain on a CLIP tower, with and without injected outlier channels.

    python benchmarks/tower_precisions.py ViT-B-16:240 [--pictures 24] [--rounds 5]

Every recipe that ``edge-export --clip`` tries, SmoothQuant on and off, is judged as the exporter
judges it (few-shot, on frames of the clip), though on fewer pictures; times are taken in turns with
the fp32 graph in the same engine. Weights are random by seed, once as they are and once with
outliers in what every block's products read (``export_tools/clip/outliers.py``), which change
nothing in fp32.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

from edge_sdk.config import EngineConfig
from edge_sdk.encoder import GraphEncoder
from edge_sdk.engines.selector import open_engine
from edge_sdk.pipeline import as_frame
from edge_sdk.preprocess import Preprocessor
from edge_sdk.records import Preprocessed
from export_tools.adaptclip.assemble import assemble
from export_tools.adaptclip.bundle import subject_of
from export_tools.adaptclip.parts import AdaptClipParts
from export_tools.bundle_variants import Subject, judge_graph
from export_tools.candidates import NotMade, Workshop
from export_tools.clip.outliers import inject_outliers
from export_tools.clip.presets import PRESETS
from export_tools.clip.weights import random_clip
from export_tools.faithful import Samples, prepare
from export_tools.gates import GraphFile, compare
from export_tools.graph import PICTURE_INPUT
from export_tools.quantize import Feed
from export_tools.trial_pictures import clip_calibration, clip_trial
from export_tools.variants import Wanted

TRIED = Wanted(precisions=("fp32", "fp16", "int8"), formats=("onnx", "openvino"))
CALIBRATION = 32
HEADER = (
    "| tower | px | weights | engine | precision | recipe | rank | map min | map mean | flips | "
    "largest map error / range | MB | speed-up over fp32 |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What all graphs of one tower are judged on."""

    subject: Subject
    samples: Samples
    is_bad: Sequence[bool | None]
    rounds: int


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("towers", nargs="+", metavar="TOWER:PX")
    parser.add_argument("--pictures", type=int, default=24, help="judged (default: 24)")
    parser.add_argument("--rounds", type=int, default=5, help="timed (default: 5)")
    options = parser.parse_args()
    print(HEADER, flush=True)
    for one in options.towers:
        tower, _, side = one.partition(":")
        settings = replace(PRESETS[tower].settings, image_size_px=int(side))
        plain = assemble(random_clip(tower, settings, seed=1), None)
        spoilt = replace(plain, vision=inject_outliers(plain.vision))
        for weights, parts in (("random", plain), ("with outliers", spoilt)):
            for row in measure(parts, options.pictures, options.rounds):
                print(f"| {tower} | {side} | {weights} | {row} |", flush=True)
    return 0


def measure(parts: AdaptClipParts, pictures: int, rounds: int) -> Iterator[str]:
    """Rows of the table for one set of weights."""
    subject = subject_of(parts)
    whole = clip_trial()
    step = max(1, len(whole.pictures.judged) // pictures)
    fewer = replace(whole.pictures, judged=whole.pictures.judged[::step])
    trial = Trial(
        subject=subject,
        samples=prepare(subject.input_spec, fewer),
        is_bad=whole.is_bad[::step],
        rounds=rounds,
    )
    preprocess = Preprocessor(subject.input_spec)

    def feed() -> Feed:
        shown = clip_calibration().pictures
        chosen = shown[:: max(1, len(shown) // CALIBRATION)]
        return [{PICTURE_INPUT: preprocess(as_frame(one)).tensor} for one in chosen]

    workshop = Workshop(graph=subject.graph, feed=feed)
    (exact, *_) = judge_graph(subject, workshop.exact, trial.samples)
    for precision, kind in TRIED.pairs():
        for graph in workshop.candidates(precision, kind):
            if isinstance(graph, NotMade):
                made = graph.graph
                yield f"{made.engine} | {precision} | {made.recipe} | not made: {graph.problem}"
                continue
            (judged, *_) = judge_graph(subject, graph, trial.samples)
            row = compare(exact, judged, graph, is_bad=trial.is_bad)
            error = None
            if row.max_abs_map is not None and row.map_range:
                error = row.max_abs_map / row.map_range
            cells = [
                graph.engine,
                precision,
                graph.recipe,
                *map(_number, (row.rank_correlation, row.map_correlation)),
                _number(row.mean_map_correlation),
                str(row.verdict_flips),
                _number(error),
                f"{row.size_bytes / 1e6:.0f}",
                f"{_speed_up(trial, workshop.exact, graph):.2f}",
            ]
            yield " | ".join(cells)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _speed_up(trial: Trial, exact: GraphFile, graph: GraphFile) -> float:
    """Median ratio of the times of fp32 and of this one, measured in turns."""
    picture = trial.samples.judged[0]
    sides = [_encoder(trial, graph.engine, exact), trial.subject.encoder(graph)]
    ratios = []
    for turn in range(trial.rounds + 1):
        before, after = (_seconds(encoder, picture) for encoder in sides)
        if turn:  # the first one warms up
            ratios.append(before / after)
    return median(ratios)


def _encoder(trial: Trial, engine: str, graph: GraphFile) -> GraphEncoder:
    loaded = open_engine(
        engine,
        model=graph.files[0],
        weights=None,
        device="cpu",
        precision="fp32",
        threads=EngineConfig().threads,
    )
    return GraphEncoder(loaded, trial.subject.spec, trial.subject.extractor_id)


def _seconds(encoder: GraphEncoder, picture: Preprocessed) -> float:
    start = time.perf_counter()
    encoder.encode(picture)
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
