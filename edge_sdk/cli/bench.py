"""``edge-bench``: how fast this box is, stage by stage."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edge_sdk.console import add_common_arguments, print_json, run_command
from edge_sdk.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from edge_sdk.pipeline import Pipeline
    from edge_sdk.records import Frame

LAST_GOOD_FRAME = 165
"""Of the clip that comes along: up to here nothing is wrong."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="edge-bench",
        description="Time every stage on real pictures. Several engines are measured in turn, "
        "frame by frame, so that they can be compared.",
    )
    parser.add_argument(
        "--camera",
        metavar="SOURCE",
        help="file:VIDEO or dir:FOLDER with pictures (default: the clip that comes along)",
    )
    parser.add_argument(
        "--engines",
        default="auto",
        metavar="NAME,...",
        help="engines to compare (default: auto); with --choose one, or auto for all",
    )
    parser.add_argument("--shots", type=int, default=4, metavar="K", help="references (default: 4)")
    parser.add_argument(
        "--frames", type=int, default=40, metavar="N", help="pictures (default: 40)"
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="times (default: 3)")
    parser.add_argument(
        "--choose",
        action="store_true",
        help="time every precision and engine that fits, keep the quickest faithful one for this "
        "box in the state folder, and say why; --precision auto then means it",
    )
    add_common_arguments(
        parser, "config", "bundle", "state", "device", "precision", "json", "verbose"
    )
    return run_command(parser, _run, arguments)


def _run(options: argparse.Namespace) -> int:
    if options.choose:
        return _choose(options)
    import tempfile
    from importlib.resources import files
    from pathlib import Path

    from edge_sdk.benchmark import describe_machine, measure_pipelines, peak_memory_megabytes
    from edge_sdk.capture.selector import open_source
    from edge_sdk.enrollment import choose_frames

    clip = files("edge_sdk") / "builtin" / "clip" / "bottle-detection.mp4"
    source = options.camera or f"file:{clip}"
    frames = choose_frames(open_source(source, pace="every"), count=options.frames)
    references = choose_frames(
        open_source(source, pace="every"),
        count=options.shots,
        last_frame=None if options.camera else LAST_GOOD_FRAME,
    )
    with tempfile.TemporaryDirectory() as folder:
        pipelines, load_seconds = {}, {}
        for name in options.engines.split(","):
            start = time.perf_counter()
            pipelines[name] = _pipeline(options, name, references, Path(folder) / name)
            load_seconds[name] = round(time.perf_counter() - start, 3)
        latency = measure_pipelines(pipelines, frames, rounds=options.rounds)
    height, width = frames[0].size
    answer = {
        "picture": f"{width}x{height}",
        "shots": options.shots,
        "samples": len(frames) * options.rounds,
        "engines": {
            name: {
                "latency_ms": stages,
                "frames_per_second": round(1000 / stages["total"]["p50"], 1),
                "load_and_enrol_seconds": load_seconds[name],
            }
            for name, stages in latency.items()
        },
        "peak_memory_megabytes": peak_memory_megabytes(),
        "machine": describe_machine(),
    }
    print_json(answer) if options.json else _print_table(answer)
    return 0


def _choose(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from edge_sdk.bundle.reader import open_bundle
    from edge_sdk.choice import choice_path, choose_encoder
    from edge_sdk.cli.settings import resolve_settings

    if "," in options.engines:
        raise ConfigError(f"--engines: with --choose expected one or auto, got {options.engines}")
    options.engine = None if options.engines == "auto" else options.engines
    config = resolve_settings(options)
    bundle = open_bundle(config.bundle_path)
    choice = choose_encoder(bundle, config.engine, config.state_dir)
    path = choice_path(bundle, config.engine, config.state_dir)
    if options.json:
        print_json({**asdict(choice), "bundle_id": bundle.manifest.bundle_id, "kept": str(path)})
        return 0
    print(f"{'engine':<12} {'precision':<9} {'format':<9} {'ms p50':>8} {'p95':>8}  self-test")
    for one in choice.measured:
        times = [f"{ms:8.2f}" if ms is not None else f"{'-':>8}" for ms in (one.p50_ms, one.p95_ms)]
        print(
            f"{one.engine:<12} {one.precision:<9} {one.format:<9} {' '.join(times)}  "
            f"{one.problem or 'passed'}"
        )
    print(f"chosen: {choice.engine} {choice.precision}: {choice.reason}\nkept in {path}")
    return 0


def _pipeline(
    options: argparse.Namespace, engine: str, frames: Sequence[Frame], state: Path
) -> Pipeline:
    from edge_sdk.bundle.reader import open_bundle
    from edge_sdk.config import default_config, override_config
    from edge_sdk.model import load_model
    from edge_sdk.pipeline import build_pipeline
    from edge_sdk.references import ReferenceStore, TokenCache

    changes: dict[tuple[str | int, ...], Any] = {("engine", "name"): engine}
    for key in ("device", "precision"):
        if getattr(options, key) is not None:
            changes["engine", key] = getattr(options, key)
    config = override_config(default_config(), changes)
    model = load_model(open_bundle(options.bundle), config.engine)
    camera = config.cameras[0]
    references = None
    if model.needs_references or model.bundle.manifest.threshold.value is None:
        references = ReferenceStore(state, camera.name).save("default", frames, source="benchmark")
    return build_pipeline(model, camera, references, TokenCache(state))


def _print_table(answer: dict[str, Any]) -> None:
    machine = answer["machine"]
    print(f"{machine['processor']}, {machine['usable_cores']} cores, {machine['features']}")
    print(f"{answer['picture']}, {answer['shots']} references, {answer['samples']} samples")
    print(f"{'ms p50 (p95)':14}", *(f"{name:>18}" for name in answer["engines"]))
    for stage in ("preprocess", "encode", "score", "decide", "total"):
        cells = [
            f"{numbers['latency_ms'][stage]['p50']:.2f} ({numbers['latency_ms'][stage]['p95']:.2f})"
            for numbers in answer["engines"].values()
        ]
        print(f"{stage:14}", *(f"{cell:>18}" for cell in cells))
    print(f"peak memory {answer['peak_memory_megabytes']} MB")


if __name__ == "__main__":
    sys.exit(main())
