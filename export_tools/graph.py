"""A torch backbone as one ONNX file whose bytes depend on its weights and shapes alone.

The file takes uint8 pictures, so that a device cannot normalise differently from the exporter, and
gives raw patch tokens. Nothing of the exporting machine is left in it: no producer, no source
lines, no names that come from a tracer's counters. Two exports of the same weights by the same
versions of the tools are therefore the same file, on any machine.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from torch import Tensor, nn

from edge_sdk.bundle.onnx_guard import MAX_OPSET
from edge_sdk.engines.tensors import TensorSpec
from edge_sdk.errors import InputError
from export_tools.canonical import BATCH, canonical_graph, tensor_spec

OPSET = 18
"""Lowest operator set torch's exporter writes, and so the one the oldest runtimes read."""
PICTURE_INPUT = "picture"
"""Input of a graph that takes (N, H, W, 3) uint8 RGB."""
NORMALISED_INPUT = "normalised"
"""Input of a graph that takes (N, 3, H, W) float32, already normalised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphIO:
    """What a graph takes and gives, in the order of the file."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class PictureEncoder(nn.Module):
    """(N, H, W, 3) uint8 -> tokens: ``(x / 255 - mean) / std`` as ``(x - 255 mean) / (255 std)``.

    Subtracting first keeps the rounding error below 2.4e-7 for every byte; the other order of one
    multiply and one add has up to 3.4e-7.
    """

    offset: Tensor
    scale: Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.model = model
        offset = 255.0 * np.asarray(mean, np.float64).reshape(3, 1, 1)
        scale = 1.0 / (255.0 * np.asarray(std, np.float64).reshape(3, 1, 1))
        self.register_buffer("offset", torch.from_numpy(offset.astype(np.float32)))
        self.register_buffer("scale", torch.from_numpy(scale.astype(np.float32)))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        # Bytes are transposed, not floats: measured 15-20 % off the whole graph in onnxruntime.
        planes = x.permute(0, 3, 1, 2).to(torch.float32)
        return tuple(self.model((planes - self.offset) * self.scale))


class NormalisedEncoder(nn.Module):
    """(N, 3, H, W) float32 -> tokens."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        return tuple(self.model(x))


def export_encoder(
    model: nn.Module,
    *,
    input_size: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    output_names: Sequence[str],
    opset: int = OPSET,
    float_input: bool = False,
) -> bytes:
    """Write a backbone as ONNX; ``model`` itself is left as it is.

    Args:
        model: (N, 3, H, W) float32 normalised RGB -> one (N, P, D) token tensor per layer.
        input_size: (height, width) in pixels, fixed in the graph; the batch stays dynamic.
        mean: three channel means, of a picture in 0..1; not used where ``float_input``.
        std: three channel deviations above 0, of a picture in 0..1; likewise.
        output_names: one a token tensor, in the model's order.
        opset: ONNX operator set, from ``OPSET`` to the newest that a bundle may have.
        float_input: take ``NORMALISED_INPUT`` instead of ``PICTURE_INPUT``: the same graph without
            its normalisation, to compare a backbone with its publication apart from preprocessing.

    Returns:
        An ONNX file: outputs (N, P, D) float32, weights inside.

    Raises:
        InputError: the model cannot be exported, has weights that are not finite or a BatchNorm
            that cannot be folded, or an argument does not fit.
    """
    height, width = input_size
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise InputError(f"mean, std: expected 3 values each, std above 0, got {mean}, {std}")
    if not OPSET <= opset <= MAX_OPSET:
        raise InputError(f"opset: expected {OPSET} to {MAX_OPSET}, got {opset}")
    frozen = copy.deepcopy(model).cpu().float().eval().requires_grad_(requires_grad=False)
    _fold_batch_norms(frozen)
    for name, parameter in frozen.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise InputError(f"model: {name}: expected finite weights")
    encoder: nn.Module
    # Two pictures, because the tracer takes an axis of length 1 for a constant.
    if float_input:
        encoder, example = NormalisedEncoder(frozen), torch.zeros(2, 3, height, width)
    else:
        encoder = PictureEncoder(frozen, mean, std)
        example = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    traced = trace(
        encoder.eval(),
        [example],
        input_names=[NORMALISED_INPUT if float_input else PICTURE_INPUT],
        output_names=output_names,
        opset=opset,
    )
    canonical = canonical_graph(traced, opset)
    onnx.checker.check_model(canonical, full_check=True)
    return bytes(canonical.SerializeToString(deterministic=True))


def graph_io(model_bytes: bytes) -> GraphIO:
    """Read names, types and shapes of an ONNX file's inputs and outputs.

    Raises:
        InputError: an input or output is not a tensor of a known type and rank.
    """
    graph = onnx.load_model_from_string(model_bytes).graph
    return GraphIO(
        inputs=tuple(tensor_spec(value) for value in graph.input),
        outputs=tuple(tensor_spec(value) for value in graph.output),
    )


def _fold_batch_norms(model: nn.Module) -> None:
    """Put every BatchNorm into the convolution before it.

    In float64 and here rather than in an exporter's optimiser, so that the folded weights are the
    same on every machine and with every version of the exporter.
    """
    for container in list(model.modules()):
        if not isinstance(container, nn.Sequential):
            continue
        for index in range(len(container) - 1):
            convolution, norm = container[index], container[index + 1]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                _fold(convolution, norm)
                container[index + 1] = nn.Identity()
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 - torch names the common base of BatchNorms only so
            raise InputError(
                f"model: {name}: expected each BatchNorm to have statistics and to follow its "
                "convolution inside one nn.Sequential; this one cannot be folded"
            )


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    if norm.running_mean is None or norm.running_var is None:
        raise InputError("model: a BatchNorm without running statistics cannot be exported")
    gain = np.ones(norm.num_features) if norm.weight is None else _float64(norm.weight)
    shift = np.zeros(norm.num_features) if norm.bias is None else _float64(norm.bias)
    bias = np.zeros(norm.num_features) if convolution.bias is None else _float64(convolution.bias)
    gain = gain / np.sqrt(_float64(norm.running_var) + norm.eps)
    weight = _float64(convolution.weight) * gain[:, None, None, None]
    bias = (bias - _float64(norm.running_mean)) * gain + shift
    convolution.weight = _constant(weight)
    convolution.bias = _constant(bias)


def _float64(tensor: Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = tensor.detach().numpy().astype(np.float64)
    return array


def _constant(array: NDArray[np.float64]) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(array.astype(np.float32)), requires_grad=False)


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Hold back what torch's exporter says about itself; what it says of the model passes."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)  # otherwise: four lines that torchvision is absent
    try:
        with warnings.catch_warnings():
            # torch copies its own tree specs through a class that it has deprecated itself.
            warnings.filterwarnings("ignore", r".*LeafSpec.*is deprecated", FutureWarning)
            # Said of every input but the first of those that share an axis.
            warnings.filterwarnings("ignore", r"# The axis name: .* will not be used", UserWarning)
            yield
    finally:
        registration.setLevel(level)


class _Positional(nn.Module):
    """A model whose inputs are told by their order, however many there are."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model(*tensors))


def trace(
    model: nn.Module,
    examples: Sequence[Tensor],
    *,
    input_names: Sequence[str],
    output_names: Sequence[str],
    opset: int = OPSET,
    axes: Sequence[str] = (BATCH,),
) -> ModelProto:
    """Run torch's exporter.

    Args:
        model: takes the examples, gives a tuple of tensors.
        examples: of more than one item along the first axis, as the tracer takes an axis of
            length 1 for a constant.
        input_names: one an example.
        output_names: one an output.
        opset: ONNX operator set.
        axes: name of each input's first axis, which stays dynamic.

    Raises:
        InputError: torch cannot export it, or the names do not fit.
    """
    shared = {axis: torch.export.Dim(axis) for axis in axes}
    try:
        with torch.no_grad():
            count = len(model(*examples))
        if count != len(output_names) or len(set(output_names)) != count:
            raise InputError(f"output_names: expected {count} different names, got {output_names}")
        with _quiet_exporter():
            program = torch.onnx.export(
                _Positional(model).eval(),
                tuple(examples),
                input_names=list(input_names),
                output_names=list(output_names),
                opset_version=opset,
                dynamo=True,
                dynamic_shapes=(tuple({0: shared[axis]} for axis in axes),),
                external_data=False,
                optimize=True,
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        raise InputError(f"model: torch cannot export it: {error}") from error
    if program is None:
        raise InputError("model: torch's exporter returned no program")
    return program.model_proto
