"""``edge-train``: adapters out of pictures whose defects are known, or out of good ones alone."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_sdk.console import add_common_arguments, print_json, run_command
from export_tools.adaptclip.command import add_tower_arguments
from export_tools.cli import RECIPE_OPTIONS, line, parse_layers, parse_size
from export_tools.clip.presets import PRESETS
from export_tools.recipe import RECIPES

_EXAMPLES = """examples:
  edge-train --clip ViT-L-14-336 --data mvtec --out adapters.safetensors
  edge-train --backbone efficientnet-lite1 --pairs boards --synthetic good --out pq.safetensors
  edge-train --backbone efficientnet-lite1 --synthetic good --out pq.safetensors --resume
"""
_DEFAULT_GIB = 8.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: without the program's name; None: from the command line.

    Returns:
        0 done · 1 unexpected, or the disk is full · 2 usage · 3 wrong place to write · 7 no such
        device · 11 weights, base data or a checkpoint that cannot be used, or a loss that is no
        number.
    """
    return run_command(_build_parser(), _run, arguments)


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-train",
        description="Train AdaptCLIP's adapters on a frozen backbone: textual, visual and "
        "prompt-query for a CLIP tower, prompt-query alone for a backbone without texts.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    backbone = parser.add_mutually_exclusive_group(required=True)
    backbone.add_argument(
        "--clip",
        metavar="TOWER",
        help=f"{', '.join(PRESETS)}, a folder or file, or owner/name of the hub",
    )
    backbone.add_argument("--backbone", choices=tuple(RECIPES), help="without texts")
    data = parser.add_argument_group(
        "base data", "at least one of the first three; each repeatable"
    )
    data.add_argument(
        "--data",
        action="append",
        default=[],
        type=Path,
        metavar="FOLDER",
        help="labelled categories with masks, in the layouts of edge-eval, or trees of them",
    )
    data.add_argument(
        "--pairs",
        action="append",
        default=[],
        type=Path,
        metavar="FOLDER",
        help="template/, tested/ and mask/ with pictures of equal names, aligned",
    )
    data.add_argument(
        "--synthetic",
        action="append",
        default=[],
        type=Path,
        metavar="FOLDER",
        help="good pictures, or categories of them, which defects are pasted on",
    )
    data.add_argument(
        "--variants", type=int, default=2, metavar="N", help="pasted defects a picture (default: 2)"
    )
    data.add_argument(
        "--validation", type=float, default=0.2, metavar="SHARE", help="held out (default: 0.2)"
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="FILE", help="adapters, .safetensors"
    )
    parser.add_argument(
        "--released-layout", type=Path, metavar="FILE", help="also as the published program's .pth"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the checkpoint beside --out"
    )
    training = parser.add_argument_group("training", "left out: as published")
    training.add_argument("--epochs", type=int, default=15, metavar="N")
    training.add_argument("--batch", type=int, default=8, metavar="N")
    training.add_argument("--learning-rate", type=float, default=1e-3, metavar="RATE")
    training.add_argument("--seed", type=int, default=10, metavar="N")
    training.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    training.add_argument(
        "--threads", type=int, metavar="N", help="of the CPU (default: all that may be used)"
    )
    training.add_argument(
        "--cache", type=Path, metavar="FOLDER", help="features of the backbone (default: below ~)"
    )
    training.add_argument(
        "--cache-gib", type=float, default=_DEFAULT_GIB, metavar="GIB", help="at most (default: 8)"
    )
    tower = parser.add_argument_group("backbone")
    tower.add_argument("--layers", type=parse_layers, metavar="N,...", help="blocks or stages")
    tower.add_argument("--size", type=parse_size, metavar="PX|HxW", help="of the model's picture")
    add_tower_arguments(tower)
    words = parser.add_argument_group(
        "provenance", "what the file says of itself, and a bundle of it"
    )
    words.add_argument("--licence", type=line, default="unknown", help="of the adapters")
    words.add_argument("--commercial-use", choices=("yes", "no", "unknown"), default="unknown")
    words.add_argument(
        "--training-data",
        type=line,
        metavar="TEXT",
        help="(default: names and counts of categories)",
    )
    add_common_arguments(parser, "json", "verbose")
    others = {name: None for name in RECIPE_OPTIONS if name not in ("layers", "size")}
    parser.set_defaults(refuse=parser.error, random_weights=None, **others)
    return parser


def _run(options: argparse.Namespace) -> int:
    if not (options.data or options.pairs or options.synthetic):
        options.refuse("expected --data, --pairs or --synthetic")
    if options.backbone:
        given = ("released_layout", "revision", "weights_sha256", "offline")
        for name in given:
            if getattr(options, name) is not None:
                options.refuse(f"--{name.replace('_', '-')}: expected only beside --clip")
    from export_tools.training.job import run_job

    cache = options.cache or _default_cache()
    answer = run_job(options, cache, table=sys.stderr if options.json else sys.stdout)
    if options.json:
        print_json(answer)
    return 0


def _default_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "edge-inspection-sdk" / "features"


if __name__ == "__main__":
    sys.exit(main())
