"""``edge-inspect``: judge single pictures and folders of them."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_sdk.cli.settings import resolve_settings
from edge_sdk.console import Progress, add_common_arguments, print_json, run_command

if TYPE_CHECKING:
    from edge_sdk.inspection import Inspected
    from edge_sdk.pipeline import Pipeline

EXIT_ANOMALY = 10
UNREADABLE = "unreadable"
"""Beside the reasons of ``Reason``: a file that is no picture."""

_EXAMPLES = """examples:
  edge-inspect part.png                                against what was enrolled for cam1
  edge-inspect parts/ --references good_parts/         against a folder of good pictures
  edge-inspect parts/ --config press.yaml --camera top --out sheets/
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="edge-inspect",
        description="Judge pictures one by one, and draw where and why.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "pictures", nargs="+", type=Path, metavar="PICTURE", help="pictures, folders of pictures"
    )
    parser.add_argument(
        "--references",
        metavar="SET|FOLDER",
        help="enrolled set (default: default), or a folder of 2 to 64 good pictures (dir:FOLDER, "
        "or a path)",
    )
    parser.add_argument(
        "--camera",
        metavar="NAME",
        help="whose references, crop and regions: a camera of the device file, or the source "
        "that was enrolled",
    )
    add_common_arguments(
        parser, "config", "bundle", "state", "engine", "device", "precision", "json", "verbose"
    )
    add_common_arguments(parser, "allow-untrained")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write a sheet for each picture (PNG)"
    )
    parser.add_argument(
        "--exit-status", action="store_true", help="exit 10 where a picture is not normal"
    )
    return run_command(parser, _run, arguments)


def _run(options: argparse.Namespace) -> int:
    import tempfile

    from edge_sdk.choice import open_model
    from edge_sdk.errors import ConfigError, EngineError, InputError
    from edge_sdk.inspection import (
        build_inspection,
        find_pictures,
        judge_pictures,
        reference_folder,
    )
    from edge_sdk.references import ReferenceStore
    from edge_sdk.selftest import run_self_test

    given, options.references = options.references, None
    config = resolve_settings(options)
    if len(config.cameras) != 1:
        names = ", ".join(camera.name for camera in config.cameras)
        raise ConfigError(f"--camera: the device file has several: choose one of {names}")
    store = ReferenceStore(config.state_dir, config.cameras[0].name)
    if reference_folder(given, store) is None:  # the name of a set, checked as in a device file
        options.references = given
        config = resolve_settings(options)
    paths = find_pictures(options.pictures)
    model = open_model(config, allow_untrained=options.allow_untrained)
    run_self_test(model)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        pipeline, doubts = build_inspection(model, config, references=given, scratch=Path(scratch))
        for doubt in doubts:
            print(f"reference {doubt}", file=sys.stderr)
        with Progress("inspect", len(paths)) as progress:
            for inspected in judge_pictures(pipeline, paths):
                rows.append(_row(inspected))
                if options.out is not None:
                    rows[-1]["sheet"] = _write_sheet(options.out, len(rows), inspected, pipeline)
                progress.advance()
    answer = _answer(pipeline, rows)
    print_json(answer) if options.json else _print_table(answer)
    reasons = {row["reason"] for row in rows}
    if "engine_error" in reasons:
        return EngineError.exit_code
    if UNREADABLE in reasons:
        return InputError.exit_code
    is_clean = answer["counts"]["normal"] == len(rows)
    return EXIT_ANOMALY if options.exit_status and not is_clean else 0


def _row(inspected: Inspected) -> dict[str, Any]:
    from dataclasses import asdict

    from edge_sdk.overlay import find_match

    decision = inspected.decision
    if decision is None:
        return {
            "picture": str(inspected.path),
            "verdict": "fault",
            "reason": UNREADABLE,
            "detail": inspected.problem,
            "score": None,
            "margin": None,
            "regions": [],
            "match": None,
        }
    is_fault = decision.verdict == "fault"
    match = None if is_fault else find_match(decision)
    return {
        "picture": str(inspected.path),
        "verdict": str(decision.verdict),
        "reason": str(decision.reason),
        "detail": decision.detail,
        "score": decision.result.image_score if decision.result and not is_fault else None,
        "margin": decision.margin,
        "regions": [asdict(region) for region in decision.regions],
        "match": None
        if match is None
        else {
            "x": match.place_px[0],
            "y": match.place_px[1],
            "reference": match.reference,
            "distance": match.distance,
        },
    }


def _write_sheet(folder: Path, number: int, inspected: Inspected, pipeline: Pipeline) -> str | None:
    """Write the sheet; its name starts with the picture's number, as two may share a name."""
    from edge_sdk.errors import ConfigError
    from edge_sdk.imaging import encode_png
    from edge_sdk.sheet import draw_inspection

    if inspected.decision is None or inspected.pixels is None:
        return None
    found = pipeline.references
    references = [picture.pixels for picture in found.pictures] if found else []
    sheet = draw_inspection(
        inspected.pixels, inspected.decision, references, title=inspected.path.name
    )
    path = folder / f"{number:04d}_{inspected.path.stem}.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(sheet))
    except OSError as error:
        raise ConfigError(f"--out: {path}: cannot be written: {error.strerror}") from error
    return str(path)


def _answer(pipeline: Pipeline, rows: list[dict[str, Any]]) -> dict[str, Any]:
    threshold, references = pipeline.decider.threshold, pipeline.references
    counts = Counter(row["verdict"] for row in rows)
    return {
        "references": references.label if references else None,
        "reference_pictures": len(references.pictures) if references else 0,
        "threshold": threshold.value,
        "method": threshold.method,
        "provisional": threshold.provisional,
        "bundle": pipeline.bundle_id,
        "counts": {name: counts[name] for name in ("normal", "anomalous", "fault")},
        "pictures": rows,
    }


def _print_table(answer: dict[str, Any]) -> None:
    rows = answer["pictures"]
    wide = max(len("PICTURE"), *(len(_name(row)) for row in rows))
    print(f"{'PICTURE':{wide}}  {'VERDICT':9}  {'SCORE':>7}  {'MARGIN':>7}  WORST PLACE")
    for row in rows:
        score = "-" if row["score"] is None else f"{row['score']:.4f}"
        margin = "-" if row["margin"] is None else f"{100 * row['margin']:+.0f} %"
        print(f"{_name(row):{wide}}  {row['verdict']:9}  {score:>7}  {margin:>7}  {_place(row)}")
    state = ", provisional" if answer["provisional"] else ""
    label, count = answer["references"], answer["reference_pictures"]
    shown = "no references" if label is None else f"{count} references {label}"
    print(
        f"{len(rows)} pictures: {answer['counts']['normal']} normal, "
        f"{answer['counts']['anomalous']} anomalous, {answer['counts']['fault']} fault; "
        f"threshold {answer['threshold']:.4f} ({answer['method']}{state}), "
        f"{shown}"
    )
    if any("sheet" in row for row in rows):
        print(f"sheets: {sum(row.get('sheet') is not None for row in rows)} written")


def _name(row: dict[str, Any]) -> str:
    return Path(row["picture"]).name


def _place(row: dict[str, Any]) -> str:
    if row["verdict"] == "fault":
        return f"{row['reason']}: {row['detail']}"
    if not row["regions"]:
        return "-"
    worst, more = row["regions"][0], len(row["regions"]) - 1
    rest = f" and {more} more" if more else ""
    return f"{worst['width']}x{worst['height']} at {worst['x']},{worst['y']}{rest}"


if __name__ == "__main__":
    sys.exit(main())
