"""The backbone of a training: what turns pictures into features, and is not trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edge_sdk.bundle.manifest import InputSpec
from edge_sdk.errors import EdgeError
from edge_sdk.pipeline import as_frame
from edge_sdk.preprocess import Preprocessor
from edge_sdk.records import UInt8Array
from export_tools.adaptclip.assemble import assemble
from export_tools.backbones.efficientnet_lite import (
    VARIANTS,
    EfficientNetLite,
    load_imagenet_weights,
)
from export_tools.backbones.joined import JoinedTokens
from export_tools.backbones.spec import BackboneSpec, clip_spec, efficientnet_spec
from export_tools.bundle_words import extractor_id, input_spec
from export_tools.clip.weights import LoadedClip
from export_tools.recipe import Recipe
from export_tools.training.feature_cache import Features, pack
from export_tools.training.step import FrozenText
from export_tools.weights import load_weights

_Encode = Callable[[Tensor], tuple[tuple[Tensor, ...], Tensor | None]]
"""(B, 3, H, W) normalised -> one (B, N, E) a layer, and (B, E) class features."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FrozenBackbone:
    """A backbone on the device that trains."""

    name: str
    spec: BackboneSpec
    """As the adapters see it: layers of one width and grid."""
    layers: tuple[int, ...]
    """Blocks or stages that its tokens come from."""
    input: InputSpec
    identity: dict[str, Any]
    """JSON values that say all that turns pixels into features."""
    weights_sha256: str
    licence: str
    text: FrozenText | None
    text_width: int | None
    device: torch.device
    encode_batch: _Encode

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of its picture in pixels."""
        return self.input.size

    def look(self, pixels: UInt8Array) -> UInt8Array:
        """(H, W, 3) of any size -> as the backbone is shown it, by the device's preprocessing."""
        return np.asarray(Preprocessor(self.input)(as_frame(pixels)).tensor[0], np.uint8)

    @torch.no_grad()
    def encode(self, picture: UInt8Array) -> Features:
        """Features of one picture at the input size.

        Raises:
            EdgeError: they are not finite, or there is no memory for them.
        """
        mean, std = (
            torch.tensor(values, device=self.device).reshape(3, 1, 1)
            for values in (self.input.mean, self.input.std)
        )
        planes = torch.from_numpy(picture.copy()).to(self.device).permute(2, 0, 1).float() / 255
        try:
            layers, class_features = self.encode_batch(((planes - mean) / std)[None])
        except RuntimeError as error:
            raise EdgeError(f"{self.name}: cannot encode a picture: {error}") from error
        return pack(
            tuple(layer[0] for layer in layers),
            None if class_features is None else class_features[0],
        )


def clip_backbone(clip: LoadedClip, device: torch.device) -> FrozenBackbone:
    """The towers of a CLIP."""
    parts = assemble(clip, None)
    vision, text = parts.vision.to(device), parts.text.to(device)
    for tower in (vision, text):
        tower.requires_grad_(requires_grad=False)

    def encode(pictures: Tensor) -> tuple[tuple[Tensor, ...], Tensor | None]:
        found = vision(pictures)
        return found.tokens, found.class_feature

    return FrozenBackbone(
        name=clip.name,
        spec=clip_spec(vision),
        layers=parts.layers,
        input=parts.input_spec(),
        identity={"extractor_id": parts.extractor_id()},
        weights_sha256=clip.sha256,
        licence=clip.licence,
        text=FrozenText(tower=text, static=parts.static_text.to(device)),
        text_width=clip.config.text.width,
        device=device,
        encode_batch=encode,
    )


def cnn_backbone(recipe: Recipe, device: torch.device) -> FrozenBackbone:
    """The built-in CNN: its stages joined, as its nearest neighbours compare them.

    Raises:
        InputError: its weights cannot be read.
    """
    model = EfficientNetLite(VARIANTS[recipe.backbone], recipe.layers, recipe.last_blocks)
    load_imagenet_weights(model, load_weights(recipe.weights))
    spec = efficientnet_spec(model, recipe.size)
    joined = JoinedTokens(model, spec, recipe.neighbourhood).eval().to(device)

    def encode(pictures: Tensor) -> tuple[tuple[Tensor, ...], Tensor | None]:
        return tuple(joined(pictures)), None

    return FrozenBackbone(
        name=recipe.backbone,
        spec=spec.joined(),
        layers=recipe.layers,
        input=input_spec(recipe),
        identity={"extractor_id": extractor_id(recipe), "neighbourhood": recipe.neighbourhood},
        weights_sha256=recipe.weights.sha256,
        licence=recipe.licence,
        text=None,
        text_width=None,
        device=device,
        encode_batch=encode,
    )
