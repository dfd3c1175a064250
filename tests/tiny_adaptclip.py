"""A tiny AdaptCLIP with random but fixed weights: real towers and adapters, 1.5 MB."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from export_tools.adaptclip.adapters import Adapters, AdapterSettings
from export_tools.adaptclip.bundle import export_adaptclip
from export_tools.adaptclip.parts import AdaptClipParts
from export_tools.adaptclip.prompts import encode_static_prompts
from export_tools.backbones.spec import clip_spec
from export_tools.clip.config import ClipConfig, PictureTowerSettings, TextConfig, VisionConfig
from export_tools.clip.text import TextTower
from export_tools.clip.tokenizer import build_clip_tokenizer
from export_tools.clip.vision import VisionTower
from export_tools.package import Exported
from export_tools.pictures import ParityPictures, clip_pictures
from export_tools.variants import Wanted

_Item = TypeVar("_Item")
SIDE_PX = 96
CONFIG = ClipConfig(
    embed_dim=32,
    vision=VisionConfig(width=64, layers=4, heads=1, patch_size_px=16, native_size_px=96),
    text=TextConfig(width=64, layers=1, heads=1),
    activation="quick_gelu",
)


class Silent:
    """A listener that does not speak."""

    def stage(self, text: str) -> None: ...

    def row(self, line: str) -> None: ...

    def watch(self, label: str, items: Sequence[_Item]) -> Iterator[_Item]:
        del label
        return iter(items)


@functools.cache
def tiny_parts(*, with_adapters: bool = True) -> AdaptClipParts:
    """The same every time."""
    settings = PictureTowerSettings(image_size_px=SIDE_PX, layers=(2, 4), dual_path_layers=2)
    vision, text = VisionTower(CONFIG, settings), TextTower(CONFIG)
    generator = torch.Generator().manual_seed(11)
    for tower in (vision, text):
        _draw(tower, generator)
    adapters = None
    if with_adapters:
        adapters = Adapters(
            clip_spec(vision),
            text_width=CONFIG.text.width,
            settings=AdapterSettings(mid=16),
            seed=11,
        ).eval()
    return AdaptClipParts(
        name="tiny",
        config=CONFIG,
        vision=vision.eval(),
        text=text.eval(),
        static_text=encode_static_prompts(text, build_clip_tokenizer()),
        adapters=adapters,
        weights_source="random numbers, seed 11",
        weights_sha256="0" * 64,
        random_weights=True,
        licence="Apache-2.0",
        commercial_use="yes",
        training_data="nothing",
    )


def few_pictures(count: int = 12) -> ParityPictures:
    """Some of the clip's."""
    clip = clip_pictures()
    return ParityPictures(
        references=clip.references, judged=clip.judged[:: len(clip.judged) // count], source="clip"
    )


def export_tiny(folder: Path, *, with_adapters: bool = True) -> Exported:
    """Write the bundle, its torch part included."""
    return export_adaptclip(
        tiny_parts(with_adapters=with_adapters),
        folder,
        pictures=few_pictures(),
        listener=Silent(),
        wanted=Wanted(formats=("onnx", "torch")),
    )


def _draw(module: nn.Module, generator: torch.Generator) -> None:
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if ".ln_" in f".{name}" and name.endswith("weight"):
                parameter.fill_(1.0)
            elif parameter.ndim < 2:
                parameter.normal_(std=0.02, generator=generator)
            else:
                parameter.normal_(std=parameter[0].numel() ** -0.5, generator=generator)
