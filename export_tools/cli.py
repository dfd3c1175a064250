"""``edge-export``: make a bundle out of a backbone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from edge_sdk.console import Progress, add_common_arguments, print_json, run_command
from export_tools.recipe import RECIPES, Recipe

if TYPE_CHECKING:
    from export_tools.package import Exported, GraphMaker

_Item = TypeVar("_Item")

_RECIPE_OPTIONS = ("layers", "size", "kernel", "neighbourhood", "blur_sigma", "reach", "stillness")
_EXAMPLES = """examples:
  edge-export --backbone efficientnet-lite0 --out bundle
  edge-export --backbone efficientnet-lite1 --size 320 --layers 2,3,5 --out bundle
  edge-export --backbone efficientnet-lite0 --pictures parts --out bundle
"""


def main(arguments: Sequence[str] | None = None, *, graph_maker: GraphMaker | None = None) -> int:
    """Run the command.

    Args:
        arguments: without the program's name; None: from the command line.
        graph_maker: how the graph is made; None: by torch's exporter.

    Returns:
        0 done · 1 unexpected · 2 usage · 3 wrong place to write · 7 an engine cannot run the
        graph · 8 the graph is not faithful · 9 its self-test failed · 11 weights, pictures or a
        recipe that cannot be used.
    """

    def body(options: argparse.Namespace) -> int:
        _run(options, graph_maker)
        return 0

    return run_command(_build_parser(), body, arguments)


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-export",
        description="Export a backbone as a bundle: prove on real pictures that the graph says "
        "what the torch model says, and pack it with golden answers for the device's self-test.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--backbone", required=True, choices=tuple(RECIPES), help="what to export")
    parser.add_argument(
        "--out", required=True, type=Path, metavar="FOLDER", help="where the bundle is written"
    )
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="FOLDER",
        help="real pictures to compare on, the first four by name known-good "
        "(default: the clip that comes along)",
    )
    recipe = parser.add_argument_group(
        "recipe", "left out: the backbone's own; each changes the id"
    )
    recipe.add_argument("--layers", type=_layers, metavar="N,...", help="stages, ascending")
    recipe.add_argument("--size", type=_size, metavar="PX|HxW", help="model's picture in pixels")
    recipe.add_argument("--kernel", choices=("area", "bilinear", "bicubic"), help="of the resize")
    recipe.add_argument(
        "--neighbourhood", type=int, metavar="N", help="side of the square of tokens averaged"
    )
    recipe.add_argument("--blur-sigma", type=float, metavar="CELLS", help="Gaussian over the map")
    recipe.add_argument(
        "--reach", type=float, metavar="SHARE", help="how far aside a match may lie"
    )
    recipe.add_argument(
        "--stillness", type=float, metavar="DISTANCE", help="below it nothing is taken to move"
    )
    add_common_arguments(parser, "json", "verbose")
    return parser


def _layers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _size(text: str) -> tuple[int, int]:
    height, separator, width = text.partition("x")
    return int(height), int(width if separator else height)


def recipe_of(options: argparse.Namespace) -> Recipe:
    """The backbone's recipe with what the command line says on top.

    Raises:
        InputError: a value that no bundle can be made with.
    """
    said = {name: getattr(options, name) for name in _RECIPE_OPTIONS}
    changes = {name: value for name, value in said.items() if value is not None}
    return replace(RECIPES[options.backbone], **changes)


def _run(options: argparse.Namespace, graph_maker: GraphMaker | None) -> None:
    recipe = recipe_of(options)
    from export_tools.package import export_bundle, make_graph

    exported = export_bundle(
        recipe,
        options.out,
        pictures=options.pictures,
        # With --json the one object is all there is on standard output.
        listener=_Terminal(table=sys.stderr if options.json else sys.stdout),
        graph_maker=graph_maker or make_graph,
    )
    if options.json:
        print_json(_answer(options.out, exported))
    else:
        _print_summary(options.out, exported)


class _Terminal:
    """Progress on standard error, the table where results go."""

    def __init__(self, table: TextIO) -> None:
        self._table = table

    def stage(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def row(self, line: str) -> None:
        print(line, file=self._table, flush=True)

    def watch(self, label: str, items: Sequence[_Item]) -> Iterator[_Item]:
        with Progress(label, len(items)) as progress:
            for item in items:
                yield item
                progress.advance()


def _answer(out: Path, exported: Exported) -> dict[str, Any]:
    manifest, findings = exported.manifest, exported.findings
    return {
        "out": str(out),
        "bundle_id": manifest.bundle_id,
        "extractor_id": manifest.extractor_id,
        "bytes": exported.size_bytes,
        "files": len(manifest.files),
        "backbone": manifest.model.backbone,
        "layers": list(manifest.model.layers),
        "size": list(manifest.input.size),
        "trained_branches": list(manifest.model.trained_branches),
        "licence": manifest.licence,
        "commercial_use": manifest.commercial_use,
        "training_data": manifest.training_data,
        "parity": [{"compared": row.compared, **asdict(row)} for row in findings.rows],
        "threshold_compared_at": findings.threshold,
        "self_test": {name: asdict(report) for name, report in exported.self_tests.items()},
        "seconds": dict(exported.seconds),
    }


def _print_summary(out: Path, exported: Exported) -> None:
    manifest = exported.manifest
    height, width = manifest.input.size
    layers = ", ".join(map(str, manifest.model.layers))
    trained = ", ".join(manifest.model.trained_branches) or "no adapter, weights as published"
    print(
        f"\n{out}: {exported.size_bytes / 1e6:.2f} MB in {len(manifest.files)} files, "
        f"{sum(exported.seconds.values()):.0f} s\n"
        f"id            {manifest.bundle_id}\n"
        f"model         {manifest.model.backbone}, layers {layers}, {width} x {height}\n"
        f"trained       {trained}\n"
        f"training data {manifest.training_data}\n"
        f"licence       {manifest.licence}, commercial use: {manifest.commercial_use}"
    )
    for name, found in exported.self_tests.items():
        print(
            f"self-test     {name}: {found.frames} frames, largest difference of tokens "
            f"{found.tokens:.1e}, maps {found.map:.1e}, scores {found.score:.1e}"
        )


if __name__ == "__main__":
    sys.exit(main())
