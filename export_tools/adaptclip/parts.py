"""Everything an AdaptCLIP bundle is made of, and the same in the words of the bundle format."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from edge_sdk.bundle.canonical import canonical_json
from edge_sdk.bundle.manifest import (
    GraphSpec,
    InputSpec,
    ModelSpec,
    OutputSpec,
    ResizeSpec,
    ScorerSpec,
    TensorSpec,
)
from edge_sdk.scoring.adaptclip_heads import CLASS_TOKEN, DISTANCE, MAP, NAME, ROW, SCORE
from export_tools.adaptclip.adapters import Adapters
from export_tools.adaptclip.fusion import SIGMA
from export_tools.adaptclip.graphs import STREAM, memory_name, token_name
from export_tools.adaptclip.model import AdaptClip
from export_tools.clip.config import ClipConfig
from export_tools.clip.text import TextTower
from export_tools.clip.vision import VisionTower
from export_tools.graph import NORMALISED_INPUT, OPSET, PICTURE_INPUT

ENCODER_PATH = "graphs/encoder_fp32.onnx"
NORMALISED_PATH = "graphs/encoder_normalised_fp32.onnx"
ZERO_SHOT_PATH = "graphs/head_zero_shot_fp32.onnx"
FEW_SHOT_PATH = "graphs/head_few_shot_fp32.onnx"
GRAPH_REVISION = 1
"""Grows when the same weights and input would give other tokens."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AdaptClipParts:
    """Towers, adapters, and where they come from."""

    name: str
    """Of the tower, such as ``ViT-L-14-336``."""
    config: ClipConfig
    vision: VisionTower
    text: TextTower
    static_text: Tensor
    """(2, E) mean features of the prompt ensemble."""
    adapters: Adapters | None
    """None: the static prompts and the nearest good patch alone."""
    weights_source: str
    weights_sha256: str
    random_weights: bool
    licence: str
    commercial_use: Literal["yes", "no", "unknown"]
    training_data: str
    sigma: float = SIGMA
    """Of the map's Gaussian, in pixels."""

    @property
    def layers(self) -> tuple[int, ...]:
        """Whose patches the heads read."""
        return self.vision.settings.layers

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the tower's picture in pixels."""
        return (self.vision.settings.image_size_px,) * 2

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

    def scorer_spec(self) -> ScorerSpec:
        """The bundle's one scorer."""
        return ScorerSpec(
            name=NAME,
            fusion=NAME,
            sigma=self.sigma,
            parameters={
                "tokens": tuple(f"{STREAM}:{layer}" for layer in self.layers),
                "text_branches": 1 if self.model.learned_text is None else 2,
            },
        )

    def model_spec(self) -> ModelSpec:
        """What the graphs were made from."""
        return ModelSpec(
            backbone=self.name,
            weights_source=self.weights_source,
            weights_sha256=self.weights_sha256,
            trained_branches=self.trained_branches,
            streams=(STREAM,),
            layers=self.layers,
            dims=(self.config.embed_dim,) * len(self.layers),
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
            "streams": [STREAM],
            "layers": list(self.layers),
            "dual_path_layers": settings.dual_path_layers,
            "alias_quirk": settings.alias_quirk,
            "input": self.input_spec().model_dump(mode="json"),
            "graph_revision": GRAPH_REVISION,
        }
        return "sha256:" + hashlib.sha256(canonical_json(identity)).hexdigest()

    def encoder_spec(self) -> GraphSpec:
        """The tower in fp32."""
        height, width = self.size
        return GraphSpec(
            role="encoder",
            format="onnx",
            precision="fp32",
            paths=(ENCODER_PATH,),
            opset=OPSET,
            inputs=(TensorSpec(name=PICTURE_INPUT, shape=(None, height, width, 3)),),
            outputs=(
                *(
                    OutputSpec(
                        name=token_name(layer),
                        shape=self._tokens,
                        stream=STREAM,
                        layer=layer,
                        grid=self.vision.grid,
                    )
                    for layer in self.layers
                ),
                OutputSpec(name=CLASS_TOKEN, shape=(None, self.config.embed_dim)),
            ),
        )

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

    def head_specs(self) -> tuple[GraphSpec, GraphSpec]:
        """The zero-shot and the few-shot head; fp32 whatever the encoder is."""
        height, width = self.size
        dim, patches = self.config.embed_dim, self._tokens[1]
        class_token = TensorSpec(name=CLASS_TOKEN, shape=(None, dim))
        tokens = [TensorSpec(name=token_name(layer), shape=self._tokens) for layer in self.layers]
        memories = [TensorSpec(name=memory_name(layer), shape=(None, dim)) for layer in self.layers]
        judged = (
            OutputSpec(name=MAP, shape=(None, height, width)),
            OutputSpec(name=SCORE, shape=(None,)),
        )
        matched = (
            OutputSpec(name=ROW, shape=(None, patches)),
            OutputSpec(name=DISTANCE, shape=(None, patches)),
        )
        zero_shot = GraphSpec(
            role="head_zero_shot",
            format="onnx",
            precision="fp32",
            paths=(ZERO_SHOT_PATH,),
            opset=OPSET,
            inputs=(tokens[-1], class_token),
            outputs=judged,
        )
        has_adapter = self.model.prompt_query is not None
        few_shot = GraphSpec(
            role="head_few_shot",
            format="onnx",
            precision="fp32",
            paths=(FEW_SHOT_PATH,),
            opset=OPSET,
            inputs=(*tokens, *((class_token,) if has_adapter else ()), *memories),
            outputs=(*(judged if has_adapter else judged[:1]), *matched),
        )
        return zero_shot, few_shot

    @property
    def _tokens(self) -> tuple[int | None, int, int]:
        rows, cols = self.vision.grid
        return (None, rows * cols, self.config.embed_dim)
