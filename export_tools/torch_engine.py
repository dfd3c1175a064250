"""The torch model behind the engine seam, so that it takes the device's own way to a score."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge_sdk.records import UInt8Array
from export_tools.graph import PICTURE_INPUT

Encode = Callable[[UInt8Array], Mapping[str, NDArray[Any]]]
"""(H, W, 3) uint8 RGB of the input size -> output name -> (P, D)."""


class TorchEngine:
    """An ``InferenceEngine`` over a function; one picture at a time.

    Args:
        encode: one picture -> tokens.
        input_size: (height, width) in pixels.
        output_names: what ``encode`` returns.
    """

    inputs: Mapping[str, tuple[int | None, ...]]
    outputs: Sequence[str]
    device: str

    def __init__(
        self, encode: Encode, *, input_size: tuple[int, int], output_names: Sequence[str]
    ) -> None:
        self.inputs = {PICTURE_INPUT: (1, *input_size, 3)}
        self.outputs = tuple(output_names)
        self.device = "cpu"
        self._encode = encode

    def infer(self, tensors: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Encode one picture, (1, H, W, 3) uint8."""
        (picture,) = tensors[PICTURE_INPUT]
        return {name: value[None] for name, value in self._encode(picture).items()}

    def close(self) -> None:
        """Nothing is held."""


class ExactReference:
    """The torch model in float64: what all engines are close to, on every machine the same.

    Args:
        model: (N, 3, H, W) normalised RGB -> one (N, P, D) token tensor per layer; it is copied.
        mean: three channel means, of a picture in 0..1.
        std: three channel deviations, of a picture in 0..1.
        output_names: one a token tensor.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        output_names: Sequence[str],
    ) -> None:
        self._model = copy.deepcopy(model).cpu().double().eval()
        self._mean = np.asarray(mean, np.float64)
        self._std = np.asarray(std, np.float64)
        self._names = tuple(output_names)

    def __call__(self, picture: UInt8Array) -> Mapping[str, NDArray[np.float64]]:
        """Encode one (H, W, 3) uint8 RGB picture of the input size."""
        normalised = (picture / 255.0 - self._mean) / self._std
        batch = torch.from_numpy(normalised).permute(2, 0, 1)[None]
        with torch.inference_mode():
            values = self._model(batch.contiguous())
        return {name: value[0].numpy() for name, value in zip(self._names, values, strict=True)}


class Remembered:
    """A function of pictures that works out each one once."""

    def __init__(self, encode: Encode) -> None:
        self._encode = encode
        self._known: dict[bytes, Mapping[str, NDArray[Any]]] = {}

    def __call__(self, picture: UInt8Array) -> Mapping[str, NDArray[Any]]:
        """Encode one picture, or remember it."""
        key = picture.tobytes()
        if key not in self._known:
            self._known[key] = self._encode(picture)
        return self._known[key]
