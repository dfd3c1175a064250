"""AdaptCLIP in torch behind the device's seams: what exported graphs are held against."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge_sdk.encoder import GraphEncoder
from edge_sdk.scoring.adaptclip import AdaptClipFactory
from edge_sdk.scoring.adaptclip_heads import CLASS_TOKEN, AdaptClipSettings
from export_tools.adaptclip.graphs import FewShotHead, NearestHead, ZeroShotHead, token_name
from export_tools.adaptclip.parts import AdaptClipParts
from export_tools.clip.vision import PatchEncoder
from export_tools.parity import TorchReference
from export_tools.torch_engine import ExactReference, Remembered, TorchEngine

MAX_BANK_BYTES = 2**33


class TorchHead:
    """An ``InferenceEngine`` over a head.

    Args:
        head: takes the inputs by their order.
        input_names: of them.
        output_names: of what it gives.
    """

    inputs: Mapping[str, tuple[int | None, ...]]
    outputs: Sequence[str]
    device: str

    def __init__(
        self, head: nn.Module, *, input_names: Sequence[str], output_names: Sequence[str]
    ) -> None:
        self._head = head.eval()
        self._dtype = next(iter(head.buffers())).dtype
        self.inputs = dict.fromkeys(input_names, (None,))
        self.outputs = tuple(output_names)
        self.device = "cpu"

    def infer(self, tensors: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Run the head."""
        given = [torch.from_numpy(np.array(tensors[name])).to(self._dtype) for name in self.inputs]
        with torch.inference_mode():
            values = self._head(*given)
        return {name: value.numpy() for name, value in zip(self.outputs, values, strict=True)}

    def close(self) -> None:
        """Nothing is held."""


def torch_encoder(parts: AdaptClipParts) -> tuple[Remembered, GraphEncoder]:
    """The tower; each picture goes through it once, however often it is asked for."""
    names = (*(token_name(layer) for layer in parts.layers), CLASS_TOKEN)
    remembered = Remembered(
        TorchReference(
            PatchEncoder(parts.vision),
            mean=parts.config.mean,
            std=parts.config.std,
            output_names=names,
        )
    )
    engine = TorchEngine(remembered, input_size=parts.size, output_names=names)
    return remembered, GraphEncoder(engine, parts.encoder_spec(), parts.extractor_id())


def exact_encoder(parts: AdaptClipParts) -> GraphEncoder:
    """The tower in float64: on every machine, with any number of threads, the same."""
    names = (*(token_name(layer) for layer in parts.layers), CLASS_TOKEN)
    reference = ExactReference(
        PatchEncoder(parts.vision),
        mean=parts.config.mean,
        std=parts.config.std,
        output_names=names,
    )
    engine = TorchEngine(reference, input_size=parts.size, output_names=names)
    return GraphEncoder(engine, parts.encoder_spec(), parts.extractor_id())


def torch_factory(parts: AdaptClipParts, *, exact: bool = False) -> AdaptClipFactory:
    """The device's scorer over heads in torch.

    Args:
        parts: left as they are.
        exact: in float64.
    """
    model = copy.deepcopy(parts.model).double() if exact else parts.model
    zero_shot, few_shot = parts.head_specs()
    references_head = NearestHead if parts.model.prompt_query is None else FewShotHead
    heads = {
        spec.role: TorchHead(
            head,
            input_names=[tensor.name for tensor in spec.inputs],
            output_names=[output.name for output in spec.outputs],
        )
        for spec, head in (
            (zero_shot, ZeroShotHead(model)),
            (few_shot, references_head(model, len(parts.layers))),
        )
    }
    return AdaptClipFactory(
        zero_shot=heads["head_zero_shot"],
        few_shot=heads["head_few_shot"],
        settings=AdaptClipSettings.from_spec(parts.scorer_spec()),
        max_bank_bytes=MAX_BANK_BYTES,
    )
