"""Everything an AdaptCLIP bundle is made of, and the same in the words of the bundle format."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from edge_sdk.bundle.canonical import canonical_json
from edge_sdk.bundle.manifest import GraphSpec, InputSpec, ModelSpec, ResizeSpec, TensorSpec
from export_tools.adaptclip.bundle_parts import BundleParts
from export_tools.adaptclip.graphs import STREAM
from export_tools.adaptclip.model import AdaptClip
from export_tools.clip.config import ClipConfig
from export_tools.clip.text import TextTower
from export_tools.clip.vision import PatchEncoder, VisionTower
from export_tools.graph import NORMALISED_INPUT

NORMALISED_PATH = "graphs/encoder_normalised_fp32.onnx"
GRAPH_REVISION = 1
"""Grows when the same weights and input would give other tokens."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AdaptClipParts(BundleParts):
    """Towers and adapters."""

    config: ClipConfig
    vision: VisionTower
    text: TextTower
    static_text: Tensor
    """(2, E) mean features of the prompt ensemble."""

    @property
    def layers(self) -> tuple[int, ...]:
        """Blocks of the vision tower."""
        return self.vision.settings.layers

    @property
    def stream(self) -> str:
        """Value-value."""
        return STREAM

    @property
    def size(self) -> tuple[int, int]:
        """A square."""
        return (self.vision.settings.image_size_px,) * 2

    @property
    def grid(self) -> tuple[int, int]:
        """Of the vision tower."""
        return self.vision.grid

    @property
    def dim(self) -> int:
        """Width of the space that pictures and texts share."""
        return self.config.embed_dim

    @property
    def has_texts(self) -> bool:
        """Always."""
        return True

    def encoder(self) -> nn.Module:
        """The vision tower."""
        return PatchEncoder(self.vision)

    @property
    def trained_branches(self) -> tuple[str, ...]:
        """Adapters that were trained."""
        if self.adapters is None or self.random_weights:
            return ()
        return ("textual", "visual", "prompt_query")

    @cached_property
    def model(self) -> AdaptClip:
        """Adapters, text features and fusion."""
        adapters = self.adapters
        textual = None if adapters is None else adapters.textual
        with torch.no_grad():
            learned = None if textual is None else textual(self.text)
        return AdaptClip(
            static_text=self.static_text,
            learned_text=learned,
            visual=None if adapters is None else adapters.visual,
            prompt_query=None if adapters is None else adapters.prompt_query,
            image_size=self.size,
            grid=self.vision.grid,
            sigma=self.sigma,
        ).eval()

    def input_spec(self) -> InputSpec:
        """Squashed by Pillow's bicubic, antialiased, as the towers were trained."""
        return InputSpec(
            size=self.size,
            color="rgb",
            resize=ResizeSpec(mode="squash", kernel="bicubic", antialias=True),
            mean=self.config.mean,
            std=self.config.std,
        )

    def model_spec(self) -> ModelSpec:
        """What the graphs were made from."""
        return ModelSpec(
            backbone=self.name,
            weights_source=self.weights_source,
            weights_sha256=self.weights_sha256,
            trained_branches=self.trained_branches,
            streams=(self.stream,),
            layers=self.layers,
            dims=(self.dim,) * len(self.layers),
            patch_size_px=self.config.vision.patch_size_px,
            random_weights=self.random_weights,
        )

    def extractor_id(self) -> str:
        """Name everything that turns pixels into tokens: ``sha256:`` and 64 hexadecimal digits."""
        settings = self.vision.settings
        identity = {
            "backbone": self.name,
            "weights_sha256": self.weights_sha256,
            "activation": self.config.activation,
            "streams": [self.stream],
            "layers": list(self.layers),
            "dual_path_layers": settings.dual_path_layers,
            "alias_quirk": settings.alias_quirk,
            "input": self.input_spec().model_dump(mode="json"),
            "graph_revision": GRAPH_REVISION,
        }
        return "sha256:" + hashlib.sha256(canonical_json(identity)).hexdigest()

    def normalised_spec(self) -> GraphSpec:
        """The tower in fp32 without its normalisation."""
        shape = (None, 3, *self.size)
        return self.encoder_spec().model_copy(
            update={
                "role": "encoder_normalised",
                "paths": (NORMALISED_PATH,),
                "inputs": (TensorSpec(name=NORMALISED_INPUT, shape=shape),),
            }
        )
