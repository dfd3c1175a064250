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
from edge_sdk.scoring.adaptclip_heads import AdaptClipSettings
from export_tools.adaptclip.bundle_parts import BundleParts
from export_tools.adaptclip.graphs import FewShotHead, NearestHead, ZeroShotHead
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


def torch_encoder(parts: BundleParts) -> tuple[Remembered, GraphEncoder]:
    """The backbone; each picture goes through it once, however often it is asked for."""
    spec = parts.input_spec()
    remembered = Remembered(
        TorchReference(
            parts.encoder(),
            mean=spec.mean,
            std=spec.std,
            output_names=parts.output_names,
        )
    )
    engine = TorchEngine(remembered, input_size=parts.size, output_names=parts.output_names)
    return remembered, GraphEncoder(engine, parts.encoder_spec(), parts.extractor_id())


def exact_encoder(parts: BundleParts) -> GraphEncoder:
    """The backbone in float64: on every machine, with any number of threads, the same."""
    spec = parts.input_spec()
    reference = ExactReference(
        parts.encoder(),
        mean=spec.mean,
        std=spec.std,
        output_names=parts.output_names,
    )
    engine = TorchEngine(reference, input_size=parts.size, output_names=parts.output_names)
    return GraphEncoder(engine, parts.encoder_spec(), parts.extractor_id())


def torch_factory(parts: BundleParts, *, exact: bool = False) -> AdaptClipFactory:
    """The device's scorer over heads in torch.

    Args:
        parts: left as they are.
        exact: in float64.
    """
    model = copy.deepcopy(parts.model).double() if exact else parts.model
    references_head = NearestHead if model.prompt_query is None else FewShotHead
    modules: dict[str, nn.Module] = {
        "head_zero_shot": ZeroShotHead(model),
        "head_few_shot": references_head(model, len(parts.layers)),
    }
    heads = {
        spec.role: TorchHead(
            modules[spec.role],
            input_names=[tensor.name for tensor in spec.inputs],
            output_names=[output.name for output in spec.outputs],
        )
        for spec in parts.head_specs()
    }
    return AdaptClipFactory(
        zero_shot=heads.get("head_zero_shot"),
        few_shot=heads["head_few_shot"],
        settings=AdaptClipSettings.from_spec(parts.scorer_spec()),
        max_bank_bytes=MAX_BANK_BYTES,
    )
