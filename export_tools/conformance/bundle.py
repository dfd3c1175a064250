"""A golden set's weights as a bundle, so that the device half can be checked against it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from edge_sdk.bundle import BundleManifest
from export_tools.adaptclip.bundle import export_adaptclip
from export_tools.adaptclip.parts import AdaptClipParts
from export_tools.adaptclip.prompts import encode_static_prompts
from export_tools.conformance.encoded import tokenizer_of
from export_tools.conformance.golden_set import (
    build_adapters,
    build_towers,
    clip_config,
    read_golden_set,
)
from export_tools.pictures import ParityPictures, clip_pictures
from export_tools.tensors import file_sha256
from export_tools.variants import Wanted

_Item = TypeVar("_Item")
_PICTURES = 12


def export_golden_set(folder: Path, destination: Path) -> BundleManifest:
    """Export a golden set's weights through the exporter of every AdaptCLIP bundle.

    Raises:
        InputError: the set cannot be read.
        GateError: a graph is not faithful to the torch model.
        ConfigError: nothing can be written at the destination.
    """
    golden = read_golden_set(folder)
    towers = build_towers(golden)
    parts = AdaptClipParts(
        name="golden-set",
        config=clip_config(golden),
        vision=towers.vision,
        text=towers.text,
        static_text=encode_static_prompts(towers.text, tokenizer_of(golden)),
        adapters=build_adapters(golden, towers),
        weights_source="random weights of a golden set",
        weights_sha256=file_sha256(folder / "weights.npz"),
        random_weights=True,
        licence="Apache-2.0",
        commercial_use="unknown",
        training_data="nothing",
        sigma=float(golden.number("sigma")),
    )
    clip = clip_pictures()
    pictures = ParityPictures(
        references=clip.references,
        judged=clip.judged[:: max(1, len(clip.judged) // _PICTURES)],
        source=clip.source,
    )
    return export_adaptclip(
        parts,
        destination,
        pictures=pictures,
        listener=_OnStandardError(),
        with_normalised=True,
        wanted=Wanted(formats=("onnx", "torch")),
    ).manifest


class _OnStandardError:
    """Says how far it is, beside the rows on standard output."""

    def stage(self, text: str) -> None:
        print(text, file=sys.stderr)  # noqa: T201

    def row(self, line: str) -> None:
        print(line, file=sys.stderr)  # noqa: T201

    def watch(self, label: str, items: Sequence[_Item]) -> Iterator[_Item]:
        del label
        return iter(items)
