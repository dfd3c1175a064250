"""The part of ``edge-export`` that makes AdaptCLIP bundles.

Torch is imported when a bundle is made, so that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edge_sdk.errors import InputError
from export_tools.clip.config import PictureTowerSettings
from export_tools.clip.presets import PRESETS

if TYPE_CHECKING:
    from export_tools.adaptclip.assemble import Provenance
    from export_tools.adaptclip.bundle_parts import BundleParts
    from export_tools.clip.weights import LoadedClip
    from export_tools.faithful import Listener
    from export_tools.package import Exported
    from export_tools.recipe import Recipe

OPTIONS = (
    "adapters",
    "adapters_sha256",
    "revision",
    "weights_sha256",
    "offline",
    "random_weights",
)
"""Options that belong to ``--clip`` alone."""
PARITY_PICTURES = 12
"""Pictures that a tower is compared on where none are given: a large one takes seconds for each."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``--clip`` takes."""
    group = parser.add_argument_group(
        "AdaptCLIP",
        "beside --clip; of the recipe it takes --size and --layers. Left out: no adapters, static "
        "prompts and nearest patches alone",
    )
    group.add_argument(
        "--adapters", type=Path, metavar="FILE", help=".pth as released, or .safetensors of ours"
    )
    # Of a backbone without texts: a prompt-query adapter of edge-train.
    group.add_argument("--adapters-sha256", metavar="HEX", help="expected of that file")
    add_tower_arguments(group)
    group.add_argument(
        "--random-weights",
        type=int,
        metavar="SEED",
        help="a preset's sizes with random numbers: for tests and timing",
    )


def add_tower_arguments(group: argparse._ArgumentGroup) -> None:
    """Add how the towers' weights are found."""
    group.add_argument("--revision", metavar="REV", help="of the hub's repository: pin a commit")
    group.add_argument("--weights-sha256", metavar="HEX", help="expected of the tower's file")
    group.add_argument(
        "--offline", action="store_true", default=None, help="use what was fetched before"
    )


def export_clip(options: argparse.Namespace, listener: Listener) -> Exported:
    """Make the bundle.

    Raises:
        EdgeError: as ``export_adaptclip``, ``load_clip`` and ``assemble``.
    """
    from export_tools.adaptclip.assemble import assemble

    listener.stage(f"loading {options.clip}")
    parts = assemble(
        load_tower(options),
        options.adapters,
        adapters_sha256=options.adapters_sha256,
        provenance=_provenance(options),
    )
    return _export(options, parts, listener)


def export_joined(options: argparse.Namespace, recipe: Recipe, listener: Listener) -> Exported:
    """Make the bundle of a backbone without texts and its prompt-query adapter.

    Raises:
        EdgeError: as ``export_adaptclip`` and ``assemble_joined``.
    """
    from export_tools.adaptclip.joined_parts import assemble_joined

    listener.stage(f"loading {recipe.weights.requirement}")
    parts = assemble_joined(
        recipe,
        options.adapters,
        adapters_sha256=options.adapters_sha256,
        provenance=_provenance(options),
    )
    return _export(options, parts, listener)


def _provenance(options: argparse.Namespace) -> Provenance:
    from export_tools.adaptclip.assemble import Provenance

    return Provenance(
        licence=options.licence,
        commercial_use=options.commercial_use,
        training_data=options.training_data,
    )


def _export(options: argparse.Namespace, parts: BundleParts, listener: Listener) -> Exported:
    from export_tools.adaptclip.bundle import export_adaptclip
    from export_tools.pictures import ParityPictures, clip_pictures, folder_pictures
    from export_tools.threads import use_cores
    from export_tools.variants import Wanted

    use_cores()
    pictures = clip_pictures() if options.pictures is None else folder_pictures(options.pictures)
    step = max(1, len(pictures.judged) // PARITY_PICTURES)
    fewer = ParityPictures(
        references=pictures.references, judged=pictures.judged[::step], source=pictures.source
    )
    return export_adaptclip(
        parts,
        options.out,
        pictures=fewer,
        listener=listener,
        wanted=Wanted(
            precisions=options.precision or ("fp32",), formats=options.format or ("onnx",)
        ),
        judged_on=options.pictures,
        calibration=options.calibration,
    )


def load_tower(options: argparse.Namespace) -> LoadedClip:
    """The towers that the command line names.

    Raises:
        InputError: as ``load_clip``, or a size or blocks that do not fit.
    """
    from export_tools.clip.weights import load_clip, random_clip

    if options.random_weights is not None:
        return random_clip(options.clip, _settings(options), seed=options.random_weights)
    return load_clip(
        options.clip,
        _settings(options),
        revision=options.revision,
        sha256=options.weights_sha256,
        offline=bool(options.offline),
    )


def _settings(options: argparse.Namespace) -> PictureTowerSettings | None:
    """The preset's, with what the command line says on top; None: the model's own."""
    preset = PRESETS.get(options.clip)
    size, layers = options.size, options.layers
    if size is None and layers is None:
        return None
    if size is not None and size[0] != size[1]:
        raise InputError(f"--size: a CLIP tower takes squares, got {size[0]}x{size[1]}")
    if preset is None:
        if size is None or layers is None:
            raise InputError(
                "--size and --layers: expected both or none, unless --clip names a preset"
            )
        return PictureTowerSettings(
            image_size_px=size[0], layers=layers, dual_path_layers=layers[-1] - layers[0] + 1
        )
    return replace(
        preset.settings,
        image_size_px=size[0] if size else preset.settings.image_size_px,
        layers=layers or preset.settings.layers,
    )
