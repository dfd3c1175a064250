"""ONNX graphs and OpenVINO IR in OpenVINO."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from edge_sdk.engines.compiled import CompiledCache
from edge_sdk.engines.tensors import TensorSpec, check_tensors, one_line
from edge_sdk.errors import EngineError


@contextmanager
def without_telemetry() -> Iterator[None]:
    """Let an import (openvino, NNCF) find no ``openvino_telemetry`` and take its own stub.

    With the package present the import itself reports to Google Analytics and writes a client
    number to the home directory, unless the user has opted out beforehand. An inspection box
    talks to its plant and to nobody else.
    """
    name = "openvino_telemetry"
    loaded = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]  # how Python spells "not importable"
    try:
        yield
    finally:
        del sys.modules[name]
        if loaded is not None:
            sys.modules[name] = loaded


with without_telemetry():
    import openvino

_DEVICES: Mapping[str, str] = MappingProxyType({"cpu": "CPU", "gpu": "GPU", "npu": "NPU"})
# Left alone, OpenVINO computes an fp32 graph in bf16 or fp16 where the chip is quicker with it. In
# an int8 graph the hint rules the operators that were not quantized.
_PRECISION_HINTS: Mapping[str, str] = MappingProxyType(
    {"fp32": "f32", "fp16": "f16", "int8": "f32"}
)


class OpenVinoEngine:
    """An ``InferenceEngine`` over OpenVINO; not for several threads at once.

    Args:
        model: an ONNX file, or an IR's ``.xml``.
        weights: an IR's ``.bin``; None for ONNX.
        device: ``cpu``, ``gpu`` or ``npu``.
        precision: what the graph was written in: ``fp32``, ``fp16`` or ``int8``; OpenVINO is held
            to it, save that a processor without fp16 computes in fp32, which holds all of it.
        threads: compute threads; means nothing on ``gpu`` and ``npu``.
        cache: where the compiled graph is kept; None: nowhere.

    Raises:
        EngineError: the file is no graph that this OpenVINO can run, or the device is not there,
            or device or precision would not be used.
    """

    inputs: Mapping[str, tuple[int | None, ...]]
    outputs: Sequence[str]
    device: str

    def __init__(
        self,
        *,
        model: bytes,
        weights: bytes | None,
        device: str,
        precision: str,
        threads: int,
        cache: CompiledCache | None = None,
    ) -> None:
        if device not in _DEVICES:
            raise EngineError(
                f"engine openvino: device: expected one of {sorted(_DEVICES)}, got {device}"
            )
        core = openvino.Core()
        plugin, available = _DEVICES[device], core.available_devices
        if plugin not in {one.partition(".")[0] for one in available}:
            raise EngineError(
                f"engine openvino: device {device}: this machine has no {plugin}, "
                f"only {', '.join(available)}"
            )
        capabilities = core.get_property(plugin, "OPTIMIZATION_CAPABILITIES")
        hint = _PRECISION_HINTS[precision]
        if hint == "f16" and "FP16" not in capabilities:
            # Left to itself such a processor takes bf16, with 8 bits of a number's 11: an fp16
            # graph is computed in fp32 instead, which holds everything that fp16 does.
            hint = "f32"
        properties = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
        if plugin == "CPU":  # the other plugins refuse these keys
            properties |= {"INFERENCE_NUM_THREADS": str(threads), "NUM_STREAMS": "1"}
        try:
            kept = cache if "EXPORT_IMPORT" in capabilities else None
            compiled = _compile(
                core, model, weights, plugin=plugin, properties=properties, cache=kept
            )
            used_devices = compiled.get_property("EXECUTION_DEVICES")
            used_precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
            self._specs = tuple(_spec(port) for port in compiled.inputs)
            self.outputs = tuple(port.get_any_name() for port in compiled.outputs)
            self._request: openvino.InferRequest | None = compiled.create_infer_request()
        except RuntimeError as error:
            raise EngineError(f"engine openvino: cannot load: {one_line(error)}") from error
        if {one.partition(".")[0] for one in used_devices} != {plugin}:
            raise EngineError(
                f"engine openvino: device {device}: asked for {plugin}, "
                f"but {', '.join(used_devices)} would be used"
            )
        if used_precision != hint:
            raise EngineError(
                f"engine openvino: precision {precision}: asked for {hint}, "
                f"but {used_precision} would be used"
            )
        self.inputs = MappingProxyType({spec.name: spec.shape for spec in self._specs})
        self.device = device

    def infer(self, tensors: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Run the graph once; the arrays returned belong to the caller.

        Raises:
            EngineError: a name, shape or type does not fit, OpenVINO failed, or the engine is
                closed.
        """
        if self._request is None:
            raise EngineError("engine openvino: is closed")
        check_tensors(self._specs, tensors)
        try:
            # Inputs are only read, so they need no copy; outputs are OpenVINO's own buffers.
            values = self._request.infer(dict(tensors), share_inputs=True, share_outputs=False)
        except RuntimeError as error:
            raise EngineError(f"engine openvino: cannot run: {one_line(error)}") from error
        return {name: values[index] for index, name in enumerate(self.outputs)}

    def close(self) -> None:
        """Free the graph; may be called twice."""
        self._request = None


def _compile(
    core: openvino.Core,
    model: bytes,
    weights: bytes | None,
    *,
    plugin: str,
    properties: Mapping[str, str],
    cache: CompiledCache | None,
) -> openvino.CompiledModel:
    """Compile a graph, or take it as it was compiled at an earlier start."""
    key = ""
    if cache is not None:
        key = cache.key(
            model, weights, library="openvino", version=openvino.__version__,
            device=plugin, **properties,
        )  # fmt: skip
        compiled_before = cache.read(key)
        if compiled_before is not None:
            try:
                return core.import_model(compiled_before, plugin, dict(properties))
            except RuntimeError:
                cache.discard(key)
    graph = core.read_model(model, b"" if weights is None else weights)
    compiled = core.compile_model(graph, plugin, dict(properties))
    if cache is not None:
        stream = BytesIO()  # without one, some versions return bytes and others a stream
        compiled.export_model(stream)
        cache.write(key, stream.getvalue())
    return compiled


def _spec(port: openvino.ConstOutput) -> TensorSpec:
    return TensorSpec(
        name=port.get_any_name(),
        dtype=port.get_element_type().to_dtype().name,
        shape=tuple(
            None if size.is_dynamic else size.get_length() for size in port.get_partial_shape()
        ),
    )
