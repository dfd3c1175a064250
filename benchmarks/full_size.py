"""AdaptCLIP in full size with random weights on this machine: seconds, memory, size, parity.

    python benchmarks/full_size.py ViT-L-14-336:518 ViT-B-16-plus-240:240 ViT-B-16-plus-240:512

For each TOWER:PX, in processes of their own: torch (one zero-shot and one 4-shot frame, medians of
``--rounds``), the export to a bundle, and the bundle in each engine. Weights are random numbers by
seed: they say nothing of accuracy, and everything of time and memory. With ``--variants`` the
encoder in fewer bits, too, by the first recipe that ``edge-export`` tries (int8 of OpenVINO on few
calibration pictures); its map error is that of one 4-shot frame beside fp32 and no gate.
"""

# ruff: noqa: PLC0415 - each step is a process that imports only what it measures

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from export_tools.adaptclip.parts import AdaptClipParts

_Item = TypeVar("_Item")

SHOTS = 4
VARIANTS = (
    ("onnxruntime", "fp16"),
    ("openvino", "fp16"),
    ("onnxruntime", "int8"),
    ("openvino", "int8"),
)
CALIBRATION = 8
HEADER = (
    "| tower | px | what | load s | encoder ms | zero-shot ms | 4-shot ms | peak MiB | size MB | "
    "largest map error |\n|---|---|---|---|---|---|---|---|---|---|"
)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("towers", nargs="+", metavar="TOWER:PX")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--variants", action="store_true", help="the encoder in fewer bits, too")
    parser.add_argument("--step", choices=tuple(STEPS), help=argparse.SUPPRESS)
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    parser.add_argument("--precision", default="fp32", help=argparse.SUPPRESS)
    parser.add_argument("--bundle", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step is not None:
        tower, _, side = options.towers[0].partition(":")
        measured = STEPS[options.step](tower, int(side), options)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"peak_mib": round(peak), **measured}))
        return 0
    print(HEADER, flush=True)
    for tower in options.towers:
        with tempfile.TemporaryDirectory() as folder:
            bundle = Path(folder) / "bundle"
            _row(tower, "torch", _step(tower, "torch", options))
            exported = _step(tower, "export", options, "--bundle", bundle)
            _row(tower, "export", exported)
            for engine in ("onnxruntime", "openvino"):
                words = ("--bundle", bundle, "--engine", engine)
                _row(tower, engine, _step(tower, "engine", options, *words))
            for engine, precision in VARIANTS if options.variants else ():
                which = ("--bundle", bundle, "--engine", engine, "--precision", precision)
                made = _step(tower, "make", options, *which)
                run = _step(tower, "variant", options, *which)
                _row(tower, f"{engine} {precision}", {**run, "size_mb": made["size_mb"]})
    return 0


def _step(tower: str, step: str, options: argparse.Namespace, *words: object) -> dict[str, Any]:
    command = [sys.executable, __file__, tower, "--step", step, "--rounds", options.rounds, *words]
    done = subprocess.run(
        [str(word) for word in command], stdout=subprocess.PIPE, text=True, check=True
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _row(tower: str, what: str, found: dict[str, Any]) -> None:
    name, _, side = tower.partition(":")
    keys = ("load_s", "encode_ms", "zero_ms", "few_ms", "peak_mib", "size_mb", "max_abs_map")
    values = [found.get(key) for key in keys]
    cells = ["-" if value is None else f"{value:g}" for value in values]
    print(f"| {name} | {side} | {what} | {' | '.join(cells)} |", flush=True)


def _milliseconds(function: Callable[[], Any], rounds: int) -> float:
    """Median of some calls after one that warms up."""
    function()
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return round(1000 * median(taken), 1)


def _in_torch(tower: str, side: int, options: argparse.Namespace) -> dict[str, Any]:
    """The model itself, eager, as many threads as cores."""
    import torch

    from export_tools.adaptclip.prompt_query import build_memory

    start = time.perf_counter()
    parts = _parts(tower, side)
    model = parts.model
    loaded = time.perf_counter() - start
    pictures = torch.randn(1 + SHOTS, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        good = [parts.vision(pictures[i : i + 1]) for i in range(1, 1 + SHOTS)]
        memories = build_memory([layer[0] for layer in one.patches] for one in good)
        query = pictures[:1]
        encode = _milliseconds(lambda: parts.vision(query), options.rounds)
        found = parts.vision(query)
        head = {
            "zero_ms": lambda: model.zero_shot(found.class_feature, found.patches[-1]),
            "few_ms": lambda: model.few_shot(found.class_feature, found.patches, memories),
        }
        times = {
            name: round(encode + _milliseconds(run, options.rounds), 1)
            for name, run in head.items()
        }
    return {"load_s": round(loaded, 1), "encode_ms": encode, **times}


def _export(tower: str, side: int, options: argparse.Namespace) -> dict[str, Any]:
    """The bundle, compared with torch in every engine before it is written."""
    from export_tools.adaptclip.bundle import export_adaptclip
    from export_tools.pictures import ParityPictures, clip_pictures

    clip = clip_pictures()
    few = ParityPictures(
        references=clip.references, judged=clip.judged[:: len(clip.judged) // 3], source="clip"
    )
    start = time.perf_counter()
    exported = export_adaptclip(
        _parts(tower, side), options.bundle, pictures=few, listener=_Silent()
    )
    errors = [row.max_abs for row in exported.findings.rows if "maps" in row.compared]
    return {
        "load_s": round(time.perf_counter() - start, 1),
        "size_mb": round(exported.size_bytes / 1e6, 1),
        "max_abs_map": float(f"{max(errors):.1e}"),
    }


def _in_engine(tower: str, side: int, options: argparse.Namespace) -> dict[str, Any]:
    """The bundle as a device runs it, without torch."""
    del tower, side
    from edge_sdk.bundle import open_bundle
    from edge_sdk.config import EngineConfig
    from edge_sdk.imaging import decode_image
    from edge_sdk.model import load_model
    from edge_sdk.pipeline import as_frame
    from edge_sdk.preprocess import Preprocessor

    start = time.perf_counter()
    bundle = open_bundle(options.bundle)
    model = load_model(bundle, EngineConfig(name=options.engine))
    loaded = time.perf_counter() - start
    preprocess, golden = Preprocessor(bundle.manifest.input), bundle.manifest.golden
    pixels = [decode_image(bundle.read(path), name=path) for path in golden.frames]
    frames = [preprocess(as_frame(one)) for one in pixels]
    good = [model.encoder.encode(frames[i % len(frames)]) for i in range(SHOTS)]
    scorers = {"zero_ms": model.factory.fit([]), "few_ms": model.factory.fit(good)}
    encode = _milliseconds(lambda: model.encoder.encode(frames[0]), options.rounds)
    features = model.encoder.encode(frames[0])
    times = {
        name: round(encode + _milliseconds(partial(one.score, features), options.rounds), 1)
        for name, one in scorers.items()
    }
    return {"load_s": round(loaded, 1), "encode_ms": encode, **times}


def _make(tower: str, side: int, options: argparse.Namespace) -> dict[str, Any]:
    """The encoder in fewer bits, beside the bundle."""
    del tower, side
    from edge_sdk.bundle import open_bundle
    from edge_sdk.bundle.fields import GraphFormat
    from edge_sdk.pipeline import as_frame
    from edge_sdk.preprocess import Preprocessor
    from export_tools.candidates import NotMade, Workshop
    from export_tools.graph import PICTURE_INPUT
    from export_tools.quantize import Feed
    from export_tools.trial_pictures import clip_calibration

    bundle = open_bundle(options.bundle)
    encoder = next(graph for graph in bundle.manifest.graphs if graph.role == "encoder")
    preprocess = Preprocessor(bundle.manifest.input)

    def feed() -> Feed:
        pictures = clip_calibration().pictures
        chosen = pictures[:: len(pictures) // CALIBRATION]
        return [{PICTURE_INPUT: preprocess(as_frame(one)).tensor} for one in chosen]

    workshop = Workshop(graph=bundle.read_graph(encoder)[0], feed=feed)
    kind: GraphFormat = "onnx" if options.engine == "onnxruntime" else "openvino"
    made = next(workshop.candidates(options.precision, kind))
    if isinstance(made, NotMade):
        raise SystemExit(made.problem)
    for path, data in zip(_variant_files(options), made.files, strict=False):
        path.write_bytes(data)
    return {"size_mb": round(sum(map(len, made.files)) / 1e6, 1)}


def _variant_files(options: argparse.Namespace) -> list[Path]:
    folder = options.bundle.parent
    return [folder / "graph", *([folder / "weights"] if options.engine == "openvino" else [])]


def _variant(tower: str, side: int, options: argparse.Namespace) -> dict[str, Any]:
    """The encoder in fewer bits as a device runs it, and how far its map is from that of fp32."""
    del tower, side
    import numpy as np

    from edge_sdk.bundle import open_bundle
    from edge_sdk.config import EngineConfig
    from edge_sdk.encoder import GraphEncoder
    from edge_sdk.engines.selector import open_engine
    from edge_sdk.imaging import decode_image
    from edge_sdk.model import load_model
    from edge_sdk.pipeline import as_frame
    from edge_sdk.preprocess import Preprocessor
    from edge_sdk.records import FloatArray

    bundle = open_bundle(options.bundle)
    spec = next(graph for graph in bundle.manifest.graphs if graph.role == "encoder")
    preprocess, golden = Preprocessor(bundle.manifest.input), bundle.manifest.golden
    paths = (*golden.frames, *golden.references)
    frames = [preprocess(as_frame(decode_image(bundle.read(path), name=path))) for path in paths]
    start = time.perf_counter()
    files = [path.read_bytes() for path in _variant_files(options)]
    engine = open_engine(
        options.engine,
        model=files[0],
        weights=files[1] if len(files) > 1 else None,
        device="cpu",
        precision=options.precision,
        threads=EngineConfig().threads,
    )
    encoder = GraphEncoder(engine, spec, bundle.manifest.extractor_id)
    loaded = time.perf_counter() - start
    encode = _milliseconds(lambda: encoder.encode(frames[0]), options.rounds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    exact = load_model(bundle, EngineConfig(name=options.engine))

    def few_shot(encode_one: Callable[[Any], Any]) -> FloatArray:
        good = [encode_one(frames[1 + index % (len(frames) - 1)]) for index in range(SHOTS)]
        return exact.factory.fit(good).score(encode_one(frames[0])).anomaly_map

    error = float(np.abs(few_shot(encoder.encode) - few_shot(exact.encoder.encode)).max())
    return {
        "load_s": round(loaded, 1),
        "encode_ms": encode,
        "max_abs_map": float(f"{error:.1e}"),
        "peak_mib": round(peak),
    }


def _parts(tower: str, side: int) -> AdaptClipParts:
    from dataclasses import replace

    from export_tools.adaptclip.assemble import assemble
    from export_tools.clip.presets import PRESETS
    from export_tools.clip.weights import random_clip

    settings = replace(PRESETS[tower].settings, image_size_px=side)
    return assemble(random_clip(tower, settings, seed=1), None)


class _Silent:
    def stage(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def row(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def watch(self, label: str, items: Sequence[_Item]) -> Iterator[_Item]:
        del label
        return iter(items)


STEPS: dict[str, Callable[[str, int, argparse.Namespace], dict[str, Any]]] = {
    "torch": _in_torch,
    "export": _export,
    "engine": _in_engine,
    "make": _make,
    "variant": _variant,
}

if __name__ == "__main__":
    sys.exit(main())
