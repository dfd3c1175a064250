"""Milliseconds of several bundles on the same frames of the clip, in turn, frame by frame.

    python benchmarks/bundles_in_turn.py FOLDER FOLDER [--frames 60]

On a busy machine only ratios mean something; the lower quartile is the least disturbed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
from harder_cases import read_frames

from edge_sdk.bundle.reader import open_bundle
from edge_sdk.config import default_config
from edge_sdk.model import load_model
from edge_sdk.pipeline import Pipeline, build_pipeline
from edge_sdk.references import ReferenceStore, TokenCache

STAGES = ("preprocess", "encode", "score", "decide")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--frames", type=int, default=60)
    options = parser.parse_args()
    first, later = read_frames()
    config = default_config()
    pipelines: dict[Path, Pipeline] = {}
    for bundle in options.bundles:
        model = load_model(open_bundle(bundle), config.engine)
        with tempfile.TemporaryDirectory() as folder:
            store = ReferenceStore(Path(folder), "cam1")
            kept = store.save("default", first[::40][:4], source="clip")
            camera = config.cameras[0]
            pipelines[bundle] = build_pipeline(model, camera, kept, TokenCache(Path(folder)))
    took: dict[Path, list[list[float]]] = defaultdict(list)
    for frame in later[: options.frames]:
        for bundle, pipeline in pipelines.items():
            now = replace(frame, monotonic_ns=time.monotonic_ns())
            latency = pipeline.inspect(now).latency_ms
            took[bundle].append([latency[stage] for stage in STAGES])
    print("bundle", *STAGES, "total", sep="\t")
    for bundle, rows in took.items():
        values = np.array(rows[2:])
        cells = [*np.quantile(values, 0.25, axis=0), np.quantile(values.sum(axis=1), 0.25)]
        print(bundle, *(f"{cell:.2f}" for cell in cells), sep="\t")


if __name__ == "__main__":
    main()
