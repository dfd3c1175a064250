"""``edge-export``: make a bundle out of a backbone, or of a model that anomalib exported."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edge_sdk.console import add_common_arguments, print_json, run_command
from export_tools.adaptclip import command
from export_tools.clip.presets import PRESETS
from export_tools.output import Terminal, answer, print_summary
from export_tools.recipe import RECIPES, Recipe

if TYPE_CHECKING:
    from export_tools.package import Exported, GraphMaker

RECIPE_OPTIONS = (
    "layers",
    "last_blocks",
    "size",
    "kernel",
    "neighbourhood",
    "blur_sigma",
    "reach",
    "stillness",
)
_NEAREST_OPTIONS = ("blur_sigma", "reach", "stillness")
"""Of the recipe, those that belong to the nearest neighbours alone."""
_IMPORT_OPTIONS = ("name", "licence", "commercial_use", "training_data")
_VARIANT_OPTIONS = ("precision", "format", "calibration")
_SHARED_OPTIONS = ("size", "kernel")
"""Of the two groups of options above, those that both ways of making a bundle take."""
_EXAMPLES = """examples:
  edge-export --backbone efficientnet-lite0 --out bundle
  edge-export --backbone efficientnet-lite1 --size 320 --layers 2,3,5 --out bundle
  edge-export --backbone efficientnet-lite0 --pictures parts --out bundle
  edge-export --backbone efficientnet-lite1 --adapters pq.safetensors --out bundle
  edge-export --from-anomalib weights/onnx/model.onnx --pictures parts --out bundle
  edge-export --clip ViT-L-14-336 --adapters epoch_15.pth --out bundle
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
        description="Export a backbone, or wrap a model that anomalib exported, as a bundle: prove "
        "on real pictures that the graph says what the original says, and pack it with golden "
        "answers for the device's self-test.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--backbone", choices=tuple(RECIPES), help="what to export")
    source.add_argument(
        "--from-anomalib",
        type=Path,
        metavar="MODEL",
        help="an .onnx or .xml that anomalib 2.x exported; its weights lie beside it",
    )
    source.add_argument(
        "--clip",
        metavar="TOWER",
        help=f"AdaptCLIP on {', '.join(PRESETS)}, a folder or file, or owner/name of the hub",
    )
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
    parser.add_argument(
        "--precision",
        type=_precisions,
        metavar="P,...",
        help="fp32 (default), fp16, bf16, int8: each is proven on real pictures or left out",
    )
    parser.add_argument(
        "--format",
        type=_formats,
        metavar="F,...",
        help="onnx (default), openvino; beside --clip also torch, which alone knows bf16",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FOLDER",
        help="pictures that int8 is calibrated on (default: the clip that comes along)",
    )
    recipe = parser.add_argument_group(
        "recipe", "left out: the backbone's own; each changes the id"
    )
    recipe.add_argument("--layers", type=parse_layers, metavar="N,...", help="stages, ascending")
    recipe.add_argument(
        "--size", type=parse_size, metavar="PX|HxW", help="model's picture in pixels"
    )
    recipe.add_argument(
        "--last-blocks", type=int, metavar="N", help="blocks of the last stage (all of --layers)"
    )
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
    command.add_arguments(parser)
    imported = parser.add_argument_group(
        "anomalib and AdaptCLIP",
        "what files of others do not say; of the recipe --from-anomalib takes --size and --kernel",
    )
    imported.add_argument("--name", type=_name, help="of an imported model (default: the file's)")
    imported.add_argument("--licence", type=line, help="of the weights (default: unknown)")
    imported.add_argument("--commercial-use", choices=("yes", "no", "unknown"))
    imported.add_argument("--training-data", type=line, metavar="TEXT", help="where it came from")
    add_common_arguments(parser, "json", "verbose")
    parser.set_defaults(refuse=parser.error)
    return parser


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,80}", text):
        raise ValueError(text)
    return text


def line(text: str) -> str:
    """A line of text for a manifest."""
    if not text.isprintable() or len(text) > 2000:
        raise ValueError(text)
    return text


def _precisions(text: str) -> tuple[str, ...]:
    return _among(text, ("fp32", "fp16", "bf16", "int8"))


def _formats(text: str) -> tuple[str, ...]:
    return _among(text, ("onnx", "openvino", "torch"))


def _among(text: str, known: Sequence[str]) -> tuple[str, ...]:
    said = text.split(",")
    if len(set(said)) < len(said) or not set(said) <= set(known):
        raise argparse.ArgumentTypeError(f"expected some of {','.join(known)}, got {text!r}")
    return tuple(one for one in known if one in said)


def parse_layers(text: str) -> tuple[int, ...]:
    """``3,5``."""
    return tuple(int(part) for part in text.split(","))


def parse_size(text: str) -> tuple[int, int]:
    """``256`` or ``192x256``: (height, width)."""
    height, separator, width = text.partition("x")
    return int(height), int(width if separator else height)


def recipe_of(options: argparse.Namespace) -> Recipe:
    """The backbone's recipe with what the command line says on top.

    Raises:
        InputError: a value that no bundle can be made with.
    """
    said = {name: getattr(options, name) for name in RECIPE_OPTIONS}
    changes = {name: value for name, value in said.items() if value is not None}
    if "layers" in changes:
        changes.setdefault("last_blocks", None)  # the preset's is of its own last stage
    return replace(RECIPES[options.backbone], **changes)


def _run(options: argparse.Namespace, graph_maker: GraphMaker | None) -> None:
    # With --json the one object is all there is on standard output.
    listener = Terminal(table=sys.stderr if options.json else sys.stdout)
    if options.from_anomalib is not None:
        exported = _import(options, listener)
    elif options.backbone is not None and options.adapters is not None:
        clip_alone = [name for name in command.OPTIONS if not name.startswith("adapters")]
        _refuse_others(options, [*clip_alone, *_NEAREST_OPTIONS], "--backbone without --adapters")
        _refuse_others(options, ["name"], "--from-anomalib")
        _check_pairs(options)
        if options.format and "torch" in options.format:
            options.refuse("--format torch: expected only beside --clip")
        exported = command.export_joined(options, recipe_of(options), listener)
    elif options.clip is not None:
        others = [name for name in RECIPE_OPTIONS if name not in ("size", "layers")]
        _refuse_others(options, [*others, "name"], "--backbone and --from-anomalib")
        _check_pairs(options)
        exported = command.export_clip(options, listener)
    else:
        exported = _export(options, listener, graph_maker)
    if options.json:
        print_json(answer(options.out, exported))
    else:
        print_summary(options.out, exported)


def _export(
    options: argparse.Namespace, listener: Terminal, graph_maker: GraphMaker | None
) -> Exported:
    _refuse_others(options, _IMPORT_OPTIONS, "--from-anomalib")
    _refuse_others(options, command.OPTIONS, "--clip")
    _check_pairs(options)
    if options.format and "torch" in options.format:
        options.refuse("--format torch: expected only beside --clip")
    recipe = recipe_of(options)
    from export_tools.package import export_bundle, make_graph
    from export_tools.variants import Wanted

    return export_bundle(
        recipe,
        options.out,
        pictures=options.pictures,
        listener=listener,
        graph_maker=graph_maker or make_graph,
        wanted=Wanted(
            precisions=options.precision or ("fp32",), formats=options.format or ("onnx",)
        ),
        calibration=options.calibration,
    )


def _import(options: argparse.Namespace, listener: Terminal) -> Exported:
    others = [name for name in RECIPE_OPTIONS if name not in _SHARED_OPTIONS]
    _refuse_others(options, [*others, *command.OPTIONS], "--backbone or --clip")
    _refuse_others(options, _VARIANT_OPTIONS, "--backbone and --clip")
    from export_tools.anomalib.importer import import_bundle
    from export_tools.anomalib.words import ImportOptions

    said = {name: getattr(options, name) for name in (*_IMPORT_OPTIONS, *_SHARED_OPTIONS)}
    stem = re.sub(r"[^A-Za-z0-9._+-]+", "-", options.from_anomalib.stem).strip("-._+")[:80]
    return import_bundle(
        options.from_anomalib,
        options.out,
        ImportOptions(
            **{"name": stem or "model"}
            | {name: value for name, value in said.items() if value is not None}
        ),
        pictures=options.pictures,
        listener=listener,
    )


def _check_pairs(options: argparse.Namespace) -> None:
    """Each precision needs a format that knows it."""
    formats = set(options.format or ("onnx",))
    for precision in options.precision or ():
        if precision == "bf16" and "torch" not in formats:
            options.refuse("--precision bf16: expected --format torch beside it")
        if precision == "int8" and formats == {"torch"}:
            options.refuse("--precision int8: expected --format onnx or openvino beside it")


def _refuse_others(options: argparse.Namespace, names: Sequence[str], belongs: str) -> None:
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(options, name) is not None]
    if given:
        options.refuse(f"{', '.join(given)}: expected only beside {belongs}")


if __name__ == "__main__":
    sys.exit(main())
