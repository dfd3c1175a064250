"""ONNX graphs in onnxruntime."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from edge_sdk.engines.compiled import CompiledCache
from edge_sdk.engines.tensors import TensorSpec, check_tensors, one_line
from edge_sdk.errors import EngineError
from edge_sdk.machine import gpu_driver

# From 1.29 on, onnxruntime's packages report sessions to Microsoft and keep a device number in the
# home directory, on Linux too. It reads this once, while it is being imported; its function
# ``disable_telemetry_events`` comes too late for that. An inspection box talks to its plant only.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

_CPU, _CUDA, _TENSORRT = (
    "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
)  # fmt: skip
_PROVIDERS: Mapping[str, str] = MappingProxyType(
    {"cpu": _CPU, "cuda": _CUDA, "tensorrt": _TENSORRT}
)
# TF32 keeps 10 bits of a float's 23: an fp32 graph is to be computed as written.
_WITHOUT_TF32: Mapping[str, str] = MappingProxyType({"use_tf32": "0"})
_DTYPES: Mapping[str, str] = MappingProxyType(
    {
        "tensor(uint8)": "uint8",
        "tensor(int8)": "int8",
        "tensor(int32)": "int32",
        "tensor(int64)": "int64",
        "tensor(bool)": "bool",
        "tensor(float16)": "float16",
        "tensor(float)": "float32",
        "tensor(double)": "float64",
    }
)
_FATAL_ONLY = 4  # errors reach the caller as exceptions; printing them as well helps nobody
# onnxruntime's own exceptions have no base class but Exception; the rest come from its binding.
_RUNTIME_ERRORS = (
    runtime.EPFail,
    runtime.EngineError,
    runtime.Fail,
    runtime.InvalidArgument,
    runtime.InvalidGraph,
    runtime.InvalidProtobuf,
    runtime.NoModel,
    runtime.NotImplemented,
    runtime.RuntimeException,
    RuntimeError,
    ValueError,
)


class OnnxRuntimeEngine:
    """An ``InferenceEngine`` over onnxruntime; not for several threads at once.

    Args:
        model: an ONNX file.
        weights: None; an ONNX file has its weights inside.
        device: ``cpu``, ``cuda`` or ``tensorrt``, which builds an engine for this GPU at first.
        precision: what the graph was written in; onnxruntime computes a graph as written.
        threads: compute threads, the calling one included.
        cache: where the optimized graph, or TensorRT's engine, is kept; None: nowhere.

    Raises:
        EngineError: the file is no graph that this onnxruntime can run, or the device is not
            there or would not be used.
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
        if weights is not None:
            raise EngineError(
                f"engine onnxruntime: expected one {precision} ONNX file with its weights inside, "
                f"got {len(weights)} bytes of weights beside it"
            )
        if device not in _PROVIDERS:
            raise EngineError(
                f"engine onnxruntime: device: expected one of {sorted(_PROVIDERS)}, got {device}"
            )
        provider = _PROVIDERS[device]
        onnxruntime.disable_telemetry_events()  # for an application that imported it before us
        onnxruntime.set_default_logger_severity(_FATAL_ONLY)
        available = onnxruntime.get_available_providers()
        if provider not in available:
            raise EngineError(
                f"engine onnxruntime: device {device}: this build has no {provider}, "
                f"only {', '.join(available)}"
            )
        providers = provider_options(
            device, model, precision=precision, cache=cache, version=onnxruntime.__version__
        )
        try:
            # Other providers compile for themselves; their graphs cannot be written down.
            if cache is None or device != "cpu":
                options = _session_options(threads)
                session = onnxruntime.InferenceSession(model, options, providers=providers)
            else:
                session = _open_cached(model, threads, providers, cache)
        except _RUNTIME_ERRORS as error:
            raise EngineError(f"engine onnxruntime: cannot load: {one_line(error)}") from error
        # onnxruntime goes on with the CPU where a provider does not start, or fails later.
        session.disable_fallback()
        if session.get_providers()[0] != provider:
            raise EngineError(
                f"engine onnxruntime: device {device}: asked for {provider}, "
                f"but {session.get_providers()[0]} would be used"
            )
        self._specs = tuple(_spec(argument) for argument in session.get_inputs())
        self._session: onnxruntime.InferenceSession | None = session
        self.inputs = MappingProxyType({spec.name: spec.shape for spec in self._specs})
        self.outputs = tuple(argument.name for argument in session.get_outputs())
        self.device = device

    def infer(self, tensors: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Run the graph once; the arrays returned belong to the caller.

        Raises:
            EngineError: a name, shape or type does not fit, onnxruntime failed, or the engine is
                closed.
        """
        if self._session is None:
            raise EngineError("engine onnxruntime: is closed")
        check_tensors(self._specs, tensors)
        try:
            values = self._session.run(list(self.outputs), dict(tensors))
        except _RUNTIME_ERRORS as error:
            raise EngineError(f"engine onnxruntime: cannot run: {one_line(error)}") from error
        return dict(zip(self.outputs, values, strict=True))

    def close(self) -> None:
        """Free the graph; may be called twice."""
        self._session = None


def provider_options(
    device: str, model: bytes, *, precision: str, cache: CompiledCache | None, version: str
) -> list[tuple[str, dict[str, str]]]:
    """Providers of a session, the one that was asked for first.

    Beside TensorRT stands CUDA, for operators that TensorRT does not have. What TensorRT builds is
    kept under a name made of the graph, the precision, onnxruntime and the driver.

    Args:
        device: ``cpu``, ``cuda`` or ``tensorrt``.
        model: an ONNX file.
        precision: ``fp16`` lets TensorRT compute in it.
        cache: where TensorRT's engine is kept; None: nowhere.
        version: of onnxruntime.
    """
    if device != "tensorrt":
        return [(_PROVIDERS[device], dict(_WITHOUT_TF32) if device == "cuda" else {})]
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"  # TensorRT has no option of its own for it
    options = {"trt_fp16_enable": str(int(precision == "fp16"))}
    folder = None
    if cache is not None:
        key = cache.key(
            model, None, library="onnxruntime", version=version, device=device,
            precision=precision, driver=gpu_driver(),
        )  # fmt: skip
        folder = cache.folder(key)
    if folder is not None:
        options |= {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(folder),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(folder),
        }
    return [(_TENSORRT, options), (_CUDA, dict(_WITHOUT_TF32))]


def _open_cached(
    model: bytes, threads: int, providers: list[tuple[str, dict[str, str]]], cache: CompiledCache
) -> onnxruntime.InferenceSession:
    """A session over the graph as it was optimized for this processor at an earlier start."""
    key = cache.key(model, None, library="onnxruntime", version=onnxruntime.__version__)
    optimized = cache.read(key)
    if optimized is not None:
        options = _session_options(threads)
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            return onnxruntime.InferenceSession(optimized, options, providers=providers)
        except _RUNTIME_ERRORS:
            cache.discard(key)
    options = _session_options(threads)
    scratch = cache.scratch(key)
    if scratch is None:
        return onnxruntime.InferenceSession(model, options, providers=providers)
    options.optimized_model_filepath = str(scratch)
    try:
        session = onnxruntime.InferenceSession(model, options, providers=providers)
        if scratch.is_file():
            cache.write(key, scratch.read_bytes())
    finally:
        scratch.unlink(missing_ok=True)
    return session


def _session_options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = _FATAL_ONLY
    # Threads that wait by spinning take the cores that capture and scoring need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _spec(argument: onnxruntime.NodeArg) -> TensorSpec:
    if argument.type not in _DTYPES:
        raise EngineError(
            f"engine onnxruntime: input {argument.name}: expected a tensor, got {argument.type}"
        )
    return TensorSpec(
        name=argument.name,
        dtype=_DTYPES[argument.type],
        shape=tuple(size if isinstance(size, int) else None for size in argument.shape),
    )
