"""AdaptCLIP as graphs: an encoder, and two heads that take what it gives.

Heads are made of few operators and always fp32: cosine distances, harmonic means and the softmax
over 0.07 do not survive fewer bits. The reference memory is an input whose number of rows is
dynamic, so that enrolment needs no export. A head says the map and the mean of its branches'
scores; the device fuses them with the map's peak, which depends on what it is told to look at.
"""

from __future__ import annotations

import copy

import onnx
import torch
from torch import Tensor, nn

from edge_sdk.errors import InputError
from edge_sdk.scoring.adaptclip_heads import CLASS_TOKEN, DISTANCE, MAP, ROW, SCORE
from export_tools.adaptclip.fusion import (
    SMALLEST_DISTANCE,
    arithmetic_mean,
    harmonic_mean,
    upsample_map,
)
from export_tools.adaptclip.model import AdaptClip
from export_tools.adaptclip.prompt_query import match
from export_tools.adaptclip.prompts import unit
from export_tools.canonical import BATCH, ROWS, canonical_graph
from export_tools.graph import OPSET, trace

STREAM = "vv"
"""The value-value stream, which patch tokens are read from."""


def token_name(layer: int, stream: str = STREAM) -> str:
    """The encoder's output of a layer, and the heads' input."""
    return f"{stream}_{layer}"


def memory_name(layer: int) -> str:
    """A few-shot head's input: (rows, E) unit rows of the references."""
    return f"memory_{layer}"


class ZeroShotHead(nn.Module):
    """(B, L, E) patches of the last layer, (B, E) class feature -> map, score."""

    def __init__(self, model: AdaptClip) -> None:
        super().__init__()
        self.model = model

    def forward(self, patches: Tensor, class_feature: Tensor) -> tuple[Tensor, Tensor]:
        """See the module."""
        found = self.model.zero_shot(class_feature, patches)
        return found.map, arithmetic_mean(found.scores)


class FewShotHead(nn.Module):
    """Patches of each layer, class feature, memory of each layer -> map, score, row, distance.

    Without texts there is no class feature.
    """

    def __init__(self, model: AdaptClip, layers: int) -> None:
        super().__init__()
        self.model = model
        self.layers = layers

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See the module."""
        patches, rest = tensors[: self.layers], tensors[self.layers :]
        class_feature = None
        if self.model.static_text is not None:
            class_feature, rest = rest[0], rest[1:]
        found = self.model.few_shot(class_feature, patches, rest)
        last = found.prompt_query.matches[-1]
        return found.map, found.mean_score, last.row, last.distance


class NearestHead(nn.Module):
    """Patches of each layer, memory of each layer -> map, row, distance.

    For a tower without a prompt-query adapter: the smoothed distance to the nearest good patch.
    """

    def __init__(self, model: AdaptClip, layers: int) -> None:
        super().__init__()
        self.model = model
        self.layers = layers

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See the module."""
        matches = [
            match(unit(layer), memory)
            for layer, memory in zip(tensors[: self.layers], tensors[self.layers :], strict=True)
        ]
        align_maps = [
            upsample_map(
                one.distance.clamp(min=SMALLEST_DISTANCE).reshape(-1, *self.model.grid),
                self.model.image_size,
            )
            for one in matches
        ]
        smoothed = self.model.smoothing(harmonic_mean(align_maps))
        return smoothed, matches[-1].row, matches[-1].distance


def export_zero_shot(model: AdaptClip, *, layer: int, dim: int) -> bytes:
    """The zero-shot head as ONNX.

    Args:
        model: left as it is.
        layer: whose patches it reads.
        dim: E.

    Raises:
        InputError: torch cannot export it, or weights are not finite.
    """
    patches = model.grid[0] * model.grid[1]
    return _export(
        ZeroShotHead(_frozen(model)),
        [torch.zeros(2, patches, dim), torch.zeros(2, dim)],
        input_names=[token_name(layer), CLASS_TOKEN],
        output_names=[MAP, SCORE],
        axes=[BATCH, BATCH],
        name="head_zero_shot",
    )


def export_few_shot(
    model: AdaptClip, *, layers: tuple[int, ...], dim: int, stream: str = STREAM
) -> bytes:
    """The few-shot head as ONNX.

    Without a prompt-query adapter it has no score and no class token, without texts no class
    token.

    Args:
        model: left as it is.
        layers: whose patches it reads.
        dim: E.
        stream: that the patches come from.

    Raises:
        InputError: torch cannot export it, or weights are not finite.
    """
    patches = model.grid[0] * model.grid[1]
    count = len(layers)
    tokens = [torch.randn(2, patches, dim) for _ in layers]
    memories = [torch.randn(3, dim) for _ in layers]
    names = [token_name(layer, stream) for layer in layers], [*map(memory_name, layers)]
    if model.prompt_query is None:
        return _export(
            NearestHead(_frozen(model), count),
            [*tokens, *memories],
            input_names=[*names[0], *names[1]],
            output_names=[MAP, ROW, DISTANCE],
            axes=[BATCH] * count + [ROWS] * count,
            name="head_few_shot",
        )
    texts = [] if model.static_text is None else [CLASS_TOKEN]
    return _export(
        FewShotHead(_frozen(model), count),
        [*tokens, *(torch.zeros(2, dim) for _ in texts), *memories],
        input_names=[*names[0], *texts, *names[1]],
        output_names=[MAP, SCORE, ROW, DISTANCE],
        axes=[BATCH] * (count + len(texts)) + [ROWS] * count,
        name="head_few_shot",
    )


def _frozen(model: AdaptClip) -> AdaptClip:
    frozen = copy.deepcopy(model).cpu().float().eval().requires_grad_(requires_grad=False)
    for name, value in frozen.state_dict().items():
        if not bool(torch.isfinite(value).all()):
            raise InputError(f"model: {name}: expected finite weights")
    return frozen


def _export(
    head: nn.Module,
    examples: list[Tensor],
    *,
    input_names: list[str],
    output_names: list[str],
    axes: list[str],
    name: str,
) -> bytes:
    traced = trace(
        head.eval(), examples, input_names=input_names, output_names=output_names, axes=axes
    )
    canonical = canonical_graph(traced, OPSET, name)
    onnx.checker.check_model(canonical, full_check=True)
    return bytes(canonical.SerializeToString(deterministic=True))
