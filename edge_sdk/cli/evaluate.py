"""``edge-eval``: how well a bundle tells good parts from bad ones, on labelled pictures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_sdk.console import Progress, add_common_arguments, print_json, run_command

if TYPE_CHECKING:
    from edge_sdk.evaluation.run import Plan

_EXAMPLES = """examples:
  edge-eval --data pictures --shots 4 --seeds 0-4            every category below the folder
  edge-eval --data parts/screw --shots 1,4,full --report out  with an HTML page
  edge-eval --data VisA/split_csv/1cls.csv --scores all.csv   one row a picture

pictures: train/good and test/<kind> with ground_truth (MVTec), train/good and test/Ungood (BMAD),
a csv with object,split,label,image,mask (VisA), or good and bad.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="edge-eval",
        description="Judge labelled pictures as the line would, several times with other "
        "references, and say what a paper and what a plant wants to know.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, metavar="FOLDER", help="pictures, see below"
    )
    parser.add_argument(
        "--shots",
        type=_shots,
        default=(4,),
        metavar="K,...",
        help="references: numbers, 0 where the bundle needs none, full for all (default: 4)",
    )
    parser.add_argument(
        "--seeds", type=_seeds, default=(0, 1, 2, 3, 4), metavar="N-M", help="draws (default: 0-4)"
    )
    parser.add_argument(
        "--sampling",
        choices=("without_replacement", "adaptclip"),
        default="without_replacement",
        help="adaptclip: as published, with replacement (default: without_replacement)",
    )
    parser.add_argument(
        "--definitions",
        choices=("standard", "adaptclip"),
        default="standard",
        help="of the metrics: the textbook's, or the published evaluator's (default: standard)",
    )
    parser.add_argument(
        "--scorer",
        default="bundle",
        metavar="NAME",
        help="bundle, or a baseline: nearest_neighbour_plain, frame_difference (default: bundle)",
    )
    parser.add_argument(
        "--severity",
        default="",
        metavar="KIND,...",
        help="kinds of defect from least to most severe, for severity concordance",
    )
    parser.add_argument(
        "--no-nuisance", action="store_true", help="leave out lamp, shift and defocus"
    )
    parser.add_argument(
        "--pixels",
        choices=("input", "picture"),
        default="input",
        help="size at which pixel metrics are counted: the model's input, or each picture's own",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the figures; - prints them"
    )
    parser.add_argument("--scores", type=Path, metavar="FILE", help="write one row a picture (csv)")
    parser.add_argument("--report", type=Path, metavar="FOLDER", help="write an HTML page")
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="keep finished draws here; the same command then goes on where it was stopped",
    )
    parser.add_argument(
        "--workers", type=_workers, default=1, metavar="N", help="processes (default: 1)"
    )
    add_common_arguments(parser, "bundle", "engine", "device", "precision", "verbose")
    return run_command(parser, _run, arguments)


def _shots(text: str) -> tuple[int | None, ...]:
    shots = tuple(None if word == "full" else int(word) for word in text.split(","))
    if any(number is not None and number < 0 for number in shots) or len(set(shots)) < len(shots):
        raise ValueError(text)
    return shots


def _seeds(text: str) -> tuple[int, ...]:
    seeds: list[int] = []
    for word in text.split(","):
        first, dash, last = word.partition("-")
        seeds += range(int(first), int(last) + 1) if dash else [int(first)]
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(text)
    return tuple(seeds)


def _workers(text: str) -> int:
    if not 1 <= int(text) <= 256:
        raise ValueError(text)
    return int(text)


def _run(options: argparse.Namespace) -> int:
    from edge_sdk.evaluation.run import evaluate, pictures_of
    from edge_sdk.evaluation.scores import write_scores
    from edge_sdk.evaluation.summary import rows_of, summarize

    plan = _plan(options)
    _check_writable(options)
    total = sum(pictures_of(draw) for draw in plan.draws())
    with Progress("pictures", total) as progress:
        results = evaluate(
            plan, workers=options.workers, kept=options.keep, advance=progress.advance
        )
    summary = summarize(
        plan.categories,
        results,
        definition=plan.definition,
        severity=[kind for kind in options.severity.split(",") if kind],
        setting=_setting(plan),
    )
    if options.scores:
        write_scores(options.scores, [row for result in results for row in rows_of(result)])
    if options.json and options.json != Path("-"):
        _write_json(options.json, summary)
    if options.report:
        from edge_sdk.evaluation.report import write_report

        page = write_report(options.report, plan, results, summary)
        print(f"report: {page}", file=sys.stderr)
    print_json(summary) if options.json == Path("-") else _print_tables(summary)
    return 0


def _plan(options: argparse.Namespace) -> Plan:
    from edge_sdk.config import default_config, override_config
    from edge_sdk.evaluation.layouts import find_categories
    from edge_sdk.evaluation.run import Plan

    changes: dict[tuple[str | int, ...], Any] = {
        ("engine", key): getattr(options, name)
        for name, key in (("engine", "name"), ("device", "device"), ("precision", "precision"))
        if getattr(options, name) is not None
    }
    return Plan(
        config=override_config(default_config(), changes),
        bundle=options.bundle,
        scorer=options.scorer,
        categories=tuple(find_categories(options.data)),
        shots=options.shots,
        seeds=options.seeds,
        sampling=options.sampling,
        definition=options.definitions,
        with_nuisance=not options.no_nuisance,
        native_size=options.pixels == "picture",
    )


def _setting(plan: Plan) -> dict[str, Any]:
    from edge_sdk.evaluation.run import load

    model = load(plan)
    return {
        "bundle_id": model.bundle.manifest.bundle_id,
        "scorer": plan.scorer,
        "engine": plan.config.engine.name,
        "precision": model.precision,
        "sampling": plan.sampling,
        "pixel_size": None if plan.native_size else list(model.bundle.manifest.input.size),
    }


def _check_writable(options: argparse.Namespace) -> None:
    """Before hours of work, not after them."""
    from edge_sdk.errors import ConfigError

    for name in ("json", "scores"):
        path = getattr(options, name)
        if path and path != Path("-") and not path.absolute().parent.is_dir():
            raise ConfigError(f"--{name}: {path.absolute().parent}: expected a folder, found none")
    for name in ("report", "keep"):
        path = getattr(options, name)
        if path and path.exists() and not path.is_dir():
            raise ConfigError(f"--{name}: {path}: expected a folder, found a file")


def _write_json(path: Path, summary: dict[str, Any]) -> None:
    import json

    path.write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n", encoding="utf-8")


_SHOWN = (
    ("AUROC", "image_auroc"),
    ("AP", "image_ap"),
    ("P-AUROC", "pixel_auroc"),
    ("AUPRO", "aupro"),
    ("esc@1", "escapes_at_1_percent"),
    ("esc@5", "escapes_at_5_percent"),
)


def _print_tables(summary: dict[str, Any]) -> None:
    """Per number of shots: categories, mean and worst, as a person reads them."""
    width = max(len(entry["category"]) for entry in summary["categories"]) + 2
    for overall in summary["overall"]:
        word = overall["shots"]
        print(f"shots {word} ({summary['definition']} definitions; mean±std over seeds)")
        heads = "".join(f"{head:>14}" for head, _ in _SHOWN)
        print(f"{'':{width}}{heads}{'false alarms':>14}{'promised':>10}{'escapes':>10}  suitable")
        for entry in summary["categories"]:
            for shots in entry["shots"]:
                if shots["shots"] == word:
                    print(f"{entry['category']:{width}}{_cells(shots)}")
        for row in ("mean", "worst"):
            cells = [_number(overall["figures"].get(name, {}).get(row)) for _, name in _SHOWN]
            fitted = overall["figures"]
            alarms, escapes = (
                _number(fitted[f"fitted_{what}"][row]) for what in ("false_alarms", "escapes")
            )
            line = "".join(f"{cell:>14}" for cell in cells)
            print(f"{row:{width}}{line}{alarms:>14}{'':>10}{escapes:>10}")
        print()


def _cells(shots: dict[str, Any]) -> str:
    cells = []
    for _, name in _SHOWN:
        figure = shots["figures"].get(name)
        text = _number(figure["mean"] if figure else None)
        if figure and figure["std"] is not None:
            text += f"±{figure['std']:.3f}"
        cells.append(f"{text:>14}")
    fitted = shots["fitted"]
    if fitted:
        cells += [
            f"{fitted['false_alarms']['mean']:>14.3f}",
            f"{_number(fitted['promised_false_alarms']):>10}",
            f"{fitted['escapes']['mean']:>10.3f}",
        ]
    else:
        cells += [f"{'-':>14}", f"{'-':>10}", f"{'-':>10}"]
    verdict = shots["suitability"]
    said = {True: "yes", False: "NO", None: "-"}[verdict["is_suitable"]]
    wrong = " (wrong)" if verdict["was_right"] is False else ""
    return "".join(cells) + f"  {said}{wrong}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    sys.exit(main())
