"""What an export takes and gives, read out of the file itself and checked.

anomalib puts its pre- and post-processing into the graph: normalisation of the picture, and of the
scores, so that its own threshold comes to lie at 0.5 and everything is cut off at 0 and 1. Which of
that a file really does is not written down in it, so the operators are looked at. Both formats are
read through OpenVINO, which shows them in the same operators.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from edge_sdk.engines.tensors import TensorSpec, one_line
from edge_sdk.errors import InputError
from export_tools.anomalib.files import ModelFile
from export_tools.recipe import LARGEST_SIDE_PX, SMALLEST_SIDE_PX

SCORE, MAP, LABEL = "pred_score", "anomaly_map", "pred_label"
_PASSES = frozenset({"Convert", "Reshape", "Squeeze", "Unsqueeze"})
_BEFORE_NORMALISING = frozenset({"Convert", "Interpolate"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """The input and outputs of one export."""

    input: TensorSpec
    """(None or 1, 3, H, W) float32 RGB from 0 to 1, with the size that pictures are brought to."""
    outputs: tuple[TensorSpec, ...]
    mean: tuple[float, ...] | None
    """What the graph takes off each colour first; None: no such operator was found."""
    std: tuple[float, ...] | None
    """What it then divides by; None: not found, or folded into weights."""
    is_normalised: bool
    """Whether scores are brought to 0..1 and cut off there."""
    label_above: float | None
    """The score above which the file itself says anomalous; None: it does not say."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the model's picture in pixels."""
        height, width = self.input.shape[2:]
        assert height is not None  # noqa: S101 - the reader put it there
        assert width is not None  # noqa: S101 - likewise
        return height, width

    @property
    def threshold(self) -> float | None:
        """The file's own cut; None where it has none, or compares it with scores as they come.

        Without normalisation anomalib compares raw distances with 0.5, which means nothing.
        """
        return self.label_above if self.is_normalised else None


def read_contract(file: ModelFile, *, size: tuple[int, int] | None) -> Contract:
    """Read a file's contract.

    Args:
        file: the export.
        size: (height, width) to use where the file takes any; None: the file's own.

    Raises:
        InputError: a contract that cannot be kept; names the input or output, and what to do.
    """
    try:
        model = openvino.Core().read_model(file.model, file.weights or b"")
    except RuntimeError as error:
        raise InputError(f"{file.path}: OpenVINO cannot read it: {one_line(error)}") from error
    quantized = sorted({one.get_type_name() for one in model.get_ops()} & {"FakeQuantize"})
    if quantized:
        raise InputError(
            f"{file.path}: computes in 8 bits, which is not supported yet: expected an export "
            "without compression_type, or with FP16 or INT8, which compress the weights only"
        )
    outputs = {port.get_any_name(): port for port in model.outputs}
    missing = sorted({SCORE, MAP} - set(outputs))
    if missing:
        raise InputError(
            f"{file.path}: expected outputs {SCORE} and {MAP}, as anomalib 2.x names them, got "
            f"{', '.join(outputs)}"
        )
    mean, std = _read_normalisation(model)
    return Contract(
        input=_read_input(file, model, size),
        outputs=tuple(_spec(port) for port in model.outputs),
        mean=mean,
        std=std,
        is_normalised=_is_cut_off(_source(outputs[SCORE].get_node().input(0))),
        label_above=_read_cut(outputs[LABEL]) if LABEL in outputs else None,
    )


def _read_input(file: ModelFile, model: openvino.Model, size: tuple[int, int] | None) -> TensorSpec:
    if len(model.inputs) != 1:
        names = [port.get_any_name() for port in model.inputs]
        raise InputError(f"{file.path}: expected one input, a picture, got {names}")
    spec = _spec(model.inputs[0])
    what = f"{file.path}: input {spec.name!r}"
    if len(spec.shape) != 4 or spec.shape[1] != 3 or spec.dtype != "float32":
        raise InputError(
            f"{what}: expected (N, 3, H, W) float32, as anomalib exports it, got {spec}"
        )
    batch, _, *sides = spec.shape
    if batch not in (None, 1):
        raise InputError(
            f"{what}: expected a batch of any size, or of 1, for each picture is judged when it "
            f"comes; got a fixed batch of {batch}, {spec.shape}. anomalib exports PatchCore so "
            "unless it is told otherwise: export it again with to_onnx(..., dynamic_axes=None) or "
            'to_openvino(..., onnx_kwargs={"dynamic_axes": None}), which fixes the batch at 1'
        )
    height, width = (_side(what, at, size, index) for index, at in enumerate(sides))
    return TensorSpec(name=spec.name, dtype=spec.dtype, shape=(batch, 3, height, width))


def _side(what: str, own: int | None, size: tuple[int, int] | None, index: int) -> int:
    wanted = size[index] if size else own
    if wanted is None:
        raise InputError(
            f"{what}: takes pictures of any size: say with --size which one it was trained with"
        )
    if own not in (None, wanted):
        raise InputError(f"{what}: --size: expected the file's own size, got {size}")
    if not SMALLEST_SIDE_PX <= wanted <= LARGEST_SIDE_PX:
        raise InputError(f"{what}: expected sides of {SMALLEST_SIDE_PX} to {LARGEST_SIDE_PX} px")
    return wanted


def _read_normalisation(
    model: openvino.Model,
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Follow the picture through ``gain * x + offset`` per colour, as far as that goes."""
    port = model.inputs[0].get_node().output(0)
    gain, offset = np.ones(3), np.zeros(3)
    has_gain = has_offset = False
    while True:
        readers = list(port.get_target_inputs())
        if len(readers) != 1:
            break
        node = readers[0].get_node()
        kind = node.get_type_name()
        if kind in _BEFORE_NORMALISING and readers[0].get_index() == 0:
            port = node.output(0)
            continue
        if kind not in ("Subtract", "Add", "Divide", "Multiply"):
            break
        value = _constant(_source(node.input(1 - readers[0].get_index())))
        if value is None or value.size not in (1, 3):
            break
        if kind in ("Subtract", "Add"):
            offset = offset + (value if kind == "Add" else -value)
            has_offset = True
        else:
            factor = value if kind == "Multiply" else 1 / value
            gain, offset, has_gain = gain * factor, offset * factor, True
        port = node.output(0)
    mean = _rounded(-offset / gain) if has_offset else None
    return mean, _rounded(1 / gain) if has_gain else None


def _is_cut_off(node: openvino.Node) -> bool:
    """Whether what comes out here was cut off at 0 and 1."""
    kind = node.get_type_name()
    if kind == "Select":
        # anomalib chooses at run time whether it knows a range; exported, it is a constant.
        condition = _constant(_source(node.input(0)))
        if condition is None or condition.size != 1:
            return False
        return _is_cut_off(_source(node.input(1 if condition.item() else 2)))
    if kind in _PASSES:
        return _is_cut_off(_source(node.input(0)))
    if kind == "Clamp":
        limits = node.get_attributes()
        return (float(limits["min"]), float(limits["max"])) == (0.0, 1.0)
    if kind != "Minimum":
        return False
    inner = [one for one in _sources(node) if one.get_type_name() == "Maximum"]
    return _limits(node) == [1.0] and len(inner) == 1 and _limits(inner[0]) == [0.0]


def _limits(node: openvino.Node) -> list[float]:
    values = [_constant(one) for one in _sources(node)]
    return [float(value.item()) for value in values if value is not None and value.size == 1]


def _read_cut(port: openvino.Output) -> float | None:
    """The constant that the score is compared with to give the label."""
    node = _source(port.get_node().input(0))
    while node.get_type_name() in _PASSES:
        node = _source(node.input(0))
    if node.get_type_name() != "Greater":
        return None
    cut = _constant(_source(node.input(1)))
    return float(cut.item()) if cut is not None and cut.size == 1 and np.isfinite(cut) else None


def _constant(node: openvino.Node) -> NDArray[np.float64] | None:
    """The value of a constant, also of one whose weights are compressed to 16 bits."""
    while node.get_type_name() in _PASSES:
        node = _source(node.input(0))
    if node.get_type_name() != "Constant":
        return None
    value: NDArray[Any] = node.data
    return value.astype(np.float64).ravel()


def _source(port: openvino.Input) -> openvino.Node:
    return port.get_source_output().get_node()


def _sources(node: openvino.Node) -> list[openvino.Node]:
    return [_source(port) for port in node.inputs()]


def _rounded(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(f"{value:.3g}") for value in np.broadcast_to(values, 3))


def _spec(port: openvino.Output) -> TensorSpec:
    return TensorSpec(
        name=port.get_any_name(),
        dtype=port.get_element_type().to_dtype().name,
        shape=tuple(
            None if side.is_dynamic else side.get_length() for side in port.get_partial_shape()
        ),
    )
