"""Graphs of fewer bits: int8 for OpenVINO and onnxruntime, fp16 for onnxruntime.

A graph is made here and judged elsewhere: see ``gates``.
"""

from __future__ import annotations

import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_sdk.engines.openvino import without_telemetry
from edge_sdk.errors import InputError
from export_tools.canonical import canonical_graph
from export_tools.openvino_ir import IR, WEIGHTED, read_graph, write_ir

Feed: TypeAlias = Sequence[Mapping[str, NDArray[Any]]]
"""One mapping a picture: input name -> array with the batch axis, as the engine takes it."""

_FP32_ISLANDS = (
    "LayerNormalization", "Softmax", "ReduceMean", "ReduceSum", "ReduceL2", "Pow", "Sqrt", "Exp",
    "Reciprocal",
)  # fmt: skip
"""ONNX operators that sum many values or divide by small ones."""
_MOST_WEIGHTS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Recipe:
    """One way of quantizing by NNCF."""

    name: str
    exact_first: int = 0
    """How many of the first convolutions and matrix products with weights stay in fp32."""
    exact_types: tuple[str, ...] = ("Add", "Subtract", "Multiply")
    """OpenVINO's types of operators that stay in fp32."""
    exact_patterns: tuple[str, ...] = ()
    """Regular expressions over OpenVINO's friendly names (those of the ONNX nodes): the same."""
    is_transformer: bool = False
    """Know attention and norms, and move what is hard to quantize from tokens into weights."""
    smooth: float | None = None
    """SmoothQuant's alpha for matrix products; None: NNCF's own; -1: off."""


CONVOLUTIONS = (
    Int8Recipe(name="whole"),
    Int8Recipe(name="first 4 fp32", exact_first=4),
    Int8Recipe(name="first 8 fp32", exact_first=8),
    Int8Recipe(name="first 12 fp32", exact_first=12),
)
"""For convolutional networks, the fastest first: the first layers see the widest range of values,
and whatever is lost there is lost to all that follow."""
TRANSFORMERS = (
    Int8Recipe(name="transformer", exact_types=(), is_transformer=True),
    Int8Recipe(name="transformer a=.5", exact_types=(), is_transformer=True, smooth=0.5),
    Int8Recipe(name="transformer a=-1", exact_types=(), is_transformer=True, smooth=-1),
    Int8Recipe(name="transf. 8 fp32", exact_types=(), is_transformer=True, exact_first=8),
)
"""For vision transformers."""


def quantize(graph: bytes, feed: Feed, recipe: Int8Recipe) -> IR:
    """Quantize by NNCF, after training, with what the graph does on calibration pictures.

    Weights keep to 7 bits where 8 could overflow on processors without VNNI: one file for all.

    Args:
        graph: the ONNX file, fp32.
        feed: calibration pictures, through the runtime's own preprocessing.
        recipe: what stays in fp32.

    Raises:
        InputError: no calibration pictures, or NNCF cannot quantize the graph.
    """
    if not feed:
        raise InputError("calibration: expected at least one picture, got none")
    model = read_graph(graph)
    first = [
        node.get_friendly_name()
        for node in model.get_ordered_ops()
        if node.get_type_name() in WEIGHTED and _has_weights(node)
    ][: recipe.exact_first]
    nncf = _nncf()
    smooth = nncf.AdvancedSmoothQuantParameters()
    if recipe.smooth is not None:
        smooth = nncf.AdvancedSmoothQuantParameters(matmul=recipe.smooth)
    with _quiet():
        try:
            quantized = nncf.quantize(
                model,
                nncf.Dataset(list(feed)),
                subset_size=len(feed),
                preset=nncf.QuantizationPreset.MIXED,
                model_type=nncf.ModelType.TRANSFORMER if recipe.is_transformer else None,
                ignored_scope=nncf.IgnoredScope(
                    names=first,
                    types=list(recipe.exact_types),
                    patterns=list(recipe.exact_patterns),
                    validate=False,
                ),
                advanced_parameters=nncf.AdvancedQuantizationParameters(
                    overflow_fix=nncf.OverflowFix.ENABLE, smooth_quant_alphas=smooth
                ),
            )
        except (RuntimeError, nncf.ValidationError) as error:
            raise InputError(f"graph: NNCF cannot quantize it: {error}") from error
        return write_ir(quantized)


def is_of_products(graph: bytes) -> bool:
    """Whether most of an ONNX graph's weights are in matrix products, as in a transformer."""
    model = onnx.load_model_from_string(graph).graph
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.initializer}
    products = {name for node in model.node if node.op_type == "MatMul" for name in node.input}
    total = sum(sizes.values())
    return sum(sizes[name] for name in products & set(sizes)) > _MOST_WEIGHTS * total


def quantize_products(graph: bytes) -> bytes:
    """Write an ONNX graph whose matrix products onnxruntime works out in u8 x s8, by channel.

    What comes in is scaled anew for each picture, so no calibration is needed. Weights have 7 bits,
    because with 8 a processor without VNNI overflows, and a bundle does not know where it will run.

    Raises:
        InputError: onnxruntime cannot quantize the graph.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415 - slow

    with tempfile.TemporaryDirectory() as folder, _quiet():
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        before.write_bytes(graph)
        try:
            quantize_dynamic(
                before,
                after,
                op_types_to_quantize=["MatMul"],
                per_channel=True,
                reduce_range=True,
                weight_type=QuantType.QInt8,
            )
        except (RuntimeError, ValueError) as error:
            raise InputError(f"graph: onnxruntime cannot quantize it: {error}") from error
        return _written(onnx.load_model(after), graph)


def halve(graph: bytes) -> bytes:
    """Write an ONNX graph in fp16, with fp32 inputs, outputs and islands.

    In fp32 stay: what is done to the picture before the first convolution or matrix product, sums
    over many values, and norms.

    Raises:
        InputError: the graph has operators that are not of the standard.
    """
    from onnxruntime.transformers.float16 import (  # noqa: PLC0415 - slow
        DEFAULT_OP_BLOCK_LIST,
        convert_float_to_float16,
    )

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of each weight too small for fp16: the gates see it
        converted = convert_float_to_float16(
            onnx.load_model_from_string(graph),
            keep_io_types=True,
            op_block_list=[*DEFAULT_OP_BLOCK_LIST, *_FP32_ISLANDS],
            node_block_list=_before_weights(graph),
        )
    return _written(converted, graph)


def _written(model: onnx.ModelProto, original: bytes) -> bytes:
    opset = onnx.load_model_from_string(original).opset_import[0].version
    ordered = _in_order(model.graph)
    del model.graph.node[:]
    model.graph.node.extend(ordered)
    canonical = canonical_graph(model, opset)
    onnx.checker.check_model(canonical, full_check=True)
    return bytes(canonical.SerializeToString(deterministic=True))


def _in_order(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes, each after those that it takes from: the tools append theirs at the end."""
    maker = {name: node.name for node in graph.node for name in node.output}
    nodes = {node.name: node for node in graph.node}
    needs = {
        name: [maker[one] for one in node.input if one in maker] for name, node in nodes.items()
    }
    return [nodes[name] for name in TopologicalSorter(needs).static_order()]


def _before_weights(graph: bytes) -> list[str]:
    """Names of the nodes that follow the inputs, up to the first with weights."""
    model = onnx.load_model_from_string(graph).graph
    reached = {value.name for value in model.input}
    names = []
    for node in model.node:
        if node.op_type in ("Conv", "MatMul", "Gemm") or not reached & set(node.input):
            continue
        reached |= set(node.output)
        names.append(node.name)
    return names


def _has_weights(node: Any) -> bool:  # noqa: ANN401 - openvino has no types
    source = node.input_value(1).get_node()
    while source.get_type_name() in ("Reshape", "Convert", "Transpose") and source.inputs():
        source = source.input_value(0).get_node()
    return bool(source.get_type_name() == "Constant")


@cache
def _nncf() -> Any:  # noqa: ANN401 - nncf has no types
    """The library, which takes seconds to import and is needed for int8 alone."""
    with without_telemetry(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries that it looks for
        import nncf  # noqa: PLC0415 - slow
    nncf.set_log_level(logging.ERROR)
    return nncf


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the bars and notes that the tools print on standard output."""
    root, level = logging.getLogger(), logging.getLogger().level
    root.setLevel(logging.ERROR)  # onnxruntime's quantizer says "consider pre-processing" there
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
