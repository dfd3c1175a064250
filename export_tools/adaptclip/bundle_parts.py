"""What a bundle of encoder and heads is made of, whatever encodes, in the words of the format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from torch import nn

from edge_sdk.bundle.manifest import (
    GraphSpec,
    InputSpec,
    ModelSpec,
    OutputSpec,
    ScorerSpec,
    TensorSpec,
)
from edge_sdk.scoring.adaptclip_heads import CLASS_TOKEN, DISTANCE, MAP, NAME, ROW, SCORE
from export_tools.adaptclip.adapters import Adapters
from export_tools.adaptclip.fusion import SIGMA
from export_tools.adaptclip.graphs import memory_name, token_name
from export_tools.adaptclip.model import AdaptClip
from export_tools.graph import OPSET, PICTURE_INPUT

ENCODER_PATH = "graphs/encoder_fp32.onnx"
ZERO_SHOT_PATH = "graphs/head_zero_shot_fp32.onnx"
FEW_SHOT_PATH = "graphs/head_few_shot_fp32.onnx"


@dataclass(frozen=True, kw_only=True, eq=False)
class BundleParts(ABC):
    """An encoder and what judges its tokens, and where they come from."""

    name: str
    """Of the backbone, such as ``ViT-L-14-336``."""
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
    @abstractmethod
    def layers(self) -> tuple[int, ...]:
        """Whose patches the heads read."""

    @property
    @abstractmethod
    def stream(self) -> str:
        """That the patches come from."""

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """(height, width) of the backbone's picture in pixels."""

    @property
    @abstractmethod
    def grid(self) -> tuple[int, int]:
        """(rows, cols) of patches."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """E."""

    @property
    @abstractmethod
    def has_texts(self) -> bool:
        """Whether there are a class feature and a zero-shot head."""

    @property
    @abstractmethod
    def model(self) -> AdaptClip:
        """Adapters, text features and fusion."""

    @abstractmethod
    def encoder(self) -> nn.Module:
        """Normalised picture -> patches of each layer, and the class feature where there is one."""

    @abstractmethod
    def input_spec(self) -> InputSpec:
        """How a picture is brought to the encoder."""

    @abstractmethod
    def model_spec(self) -> ModelSpec:
        """What the graphs were made from."""

    @abstractmethod
    def extractor_id(self) -> str:
        """Name everything that turns pixels into tokens: ``sha256:`` and 64 hexadecimal digits."""

    @property
    def token_names(self) -> tuple[str, ...]:
        """The encoder's outputs of patches."""
        return tuple(token_name(layer, self.stream) for layer in self.layers)

    @property
    def output_names(self) -> tuple[str, ...]:
        """All of the encoder's outputs."""
        return (*self.token_names, *((CLASS_TOKEN,) if self.has_texts else ()))

    def scorer_spec(self) -> ScorerSpec:
        """The bundle's one scorer."""
        branches = 2 if self.model.learned_text is not None else 1
        return ScorerSpec(
            name=NAME,
            fusion=NAME,
            sigma=self.sigma,
            parameters={
                "tokens": tuple(f"{self.stream}:{layer}" for layer in self.layers),
                "text_branches": branches if self.has_texts else 0,
            },
        )

    def encoder_spec(self) -> GraphSpec:
        """The backbone in fp32."""
        height, width = self.size
        class_token = OutputSpec(name=CLASS_TOKEN, shape=(None, self.dim))
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
                        name=name,
                        shape=self._tokens,
                        stream=self.stream,
                        layer=layer,
                        grid=self.grid,
                    )
                    for name, layer in zip(self.token_names, self.layers, strict=True)
                ),
                *((class_token,) if self.has_texts else ()),
            ),
        )

    def head_specs(self) -> tuple[GraphSpec, ...]:
        """The zero-shot head, where there are texts, and the few-shot head; always fp32."""
        height, width = self.size
        class_token = TensorSpec(name=CLASS_TOKEN, shape=(None, self.dim))
        tokens = [TensorSpec(name=name, shape=self._tokens) for name in self.token_names]
        memories = [
            TensorSpec(name=memory_name(layer), shape=(None, self.dim)) for layer in self.layers
        ]
        judged = (
            OutputSpec(name=MAP, shape=(None, height, width)),
            OutputSpec(name=SCORE, shape=(None,)),
        )
        matched = (
            OutputSpec(name=ROW, shape=(None, self._tokens[1])),
            OutputSpec(name=DISTANCE, shape=(None, self._tokens[1])),
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
        takes_class = has_adapter and self.has_texts
        few_shot = GraphSpec(
            role="head_few_shot",
            format="onnx",
            precision="fp32",
            paths=(FEW_SHOT_PATH,),
            opset=OPSET,
            inputs=(*tokens, *((class_token,) if takes_class else ()), *memories),
            outputs=(*(judged if has_adapter else judged[:1]), *matched),
        )
        return (zero_shot, few_shot) if self.has_texts else (few_shot,)

    @property
    def _tokens(self) -> tuple[int | None, int, int]:
        rows, cols = self.grid
        return (None, rows * cols, self.dim)
