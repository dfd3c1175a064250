"""The reference path: a bundle's full-precision model in torch, on the CPU or on CUDA.

An engine like the others, which ``edge-run --engine torch`` finds by its entry point; whoever
installs the device half alone does not have it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType
from typing import Any, cast
from weakref import ref

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_sdk.engines.tensors import check_tensors, one_line
from edge_sdk.errors import EngineError, InputError
from export_tools.adaptclip.torch_files import load_part

_DEVICES = ("cpu", "cuda")
_DTYPES: Mapping[str, torch.dtype | None] = MappingProxyType(
    {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}
)
_MOST_CAPTURED = 8
"""Combinations of shapes that are kept as CUDA graphs; a set of references is one."""
_WARM_UP = 3


class TorchEngine:
    """An ``InferenceEngine`` over torch; not for several threads at once.

    fp32 is fp32, with TF32 off. fp16 and bf16 are autocast: products in few bits with the weights
    stored so, norms and sums in fp32. What the engine gave and what cannot change (memories) stays
    on the device and is not sent again; on CUDA each combination of shapes becomes a CUDA graph.

    Args:
        model: a file of format ``torch``.
        weights: None; they are inside.
        device: ``cpu`` or ``cuda``.
        precision: ``fp32``, ``fp16`` or ``bf16``.
        threads: compute threads of the CPU.

    Raises:
        EngineError: the file is none, or device or precision are not to be had.
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
    ) -> None:
        if weights is not None:
            raise EngineError("engine torch: expected one file with its weights inside, got two")
        if device not in _DEVICES:
            raise EngineError(
                f"engine torch: device: expected one of {list(_DEVICES)}, got {device}"
            )
        if device == "cuda" and not torch.cuda.is_available():
            raise EngineError(
                f"engine torch: device cuda: torch {torch.__version__} finds no CUDA device here"
            )
        if precision not in _DTYPES:
            raise EngineError(
                f"engine torch: precision: expected one of {list(_DTYPES)}, got {precision}"
            )
        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        try:
            part = load_part(model)
            self._dtype = _DTYPES[precision]
            self._module: nn.Module | None = _stored(part.module, self._dtype).to(device)
        except (InputError, RuntimeError) as error:
            raise EngineError(f"engine torch: cannot load: {one_line(error)}") from error
        self._specs = part.inputs
        self._resident = _RESIDENT[device]
        self._captured: dict[tuple[Any, ...], _Captured] = {}
        self.inputs = MappingProxyType({spec.name: spec.shape for spec in part.inputs})
        self.outputs = part.outputs
        self.device = device

    def infer(self, tensors: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Run the module once; what it returns is read-only.

        Raises:
            EngineError: a name, shape or type does not fit, torch failed, or the engine is closed.
        """
        if self._module is None:
            raise EngineError("engine torch: is closed")
        check_tensors(self._specs, tensors)
        try:
            with torch.inference_mode():
                given = [self._resident.tensor(tensors[name]) for name in self.inputs]
                values = self._run(given)
                return {
                    name: self._resident.array(value)
                    for name, value in zip(self.outputs, values, strict=True)
                }
        except (RuntimeError, InputError) as error:
            raise EngineError(f"engine torch: cannot run: {one_line(error)}") from error

    def close(self) -> None:
        """Free the module; may be called twice."""
        self._module = None
        self._captured.clear()

    def _run(self, given: list[Tensor]) -> Sequence[Tensor]:
        if self.device != "cuda":
            return self._compute(given)
        key = tuple(tuple(one.shape) for one in given)
        if key not in self._captured:
            if len(self._captured) >= _MOST_CAPTURED:
                self._captured.pop(next(iter(self._captured)))
            self._captured[key] = _Captured(self._compute, given)
        return self._captured[key](given)

    def _compute(self, given: list[Tensor]) -> Sequence[Tensor]:
        module = cast("nn.Module", self._module)
        with self._autocast():
            values: Sequence[Tensor] = module(*given)
        return [value.float() if value.is_floating_point() else value for value in values]

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._dtype is None:
            return nullcontext()
        # Weights are stored in few bits already; a cache of casts would not survive a CUDA graph.
        return torch.autocast(self.device, dtype=self._dtype, cache_enabled=False)


class _Captured:
    """One combination of shapes as a CUDA graph: launched as a whole, without Python between."""

    def __init__(self, compute: Any, given: Sequence[Tensor]) -> None:  # noqa: ANN401 - a method
        self._given = [one.clone() for one in given]
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's stub
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UP):
                compute(self._given)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._values = compute(self._given)

    def __call__(self, given: Sequence[Tensor]) -> Sequence[Tensor]:
        for kept, new in zip(self._given, given, strict=True):
            kept.copy_(new)
        self._graph.replay()
        return [value.clone() for value in self._values]


class Resident:
    """Arrays of the host whose numbers lie on a device, too, found by the array's identity.

    Only arrays that cannot be written to are known again.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._known: dict[int, tuple[ref[NDArray[Any]], Tensor]] = {}

    def __len__(self) -> int:
        """Arrays that are remembered."""
        return len(self._known)

    def tensor(self, array: NDArray[Any]) -> Tensor:
        """The array on the device; sent there unless it lies there."""
        root = array
        while isinstance(root.base, np.ndarray):
            root = root.base
        is_whole = array.size == root.size and array.flags.c_contiguous
        if root.flags.writeable or not is_whole:
            return self._sent(array)
        known = self._known.get(id(root))
        if known is None or known[0]() is not root:
            self._keep(root, self._sent(root))
        return self._known[id(root)][1].reshape(array.shape)

    def array(self, tensor: Tensor) -> NDArray[Any]:
        """The tensor on the host, read-only, and remembered."""
        array: NDArray[Any] = tensor.cpu().numpy()
        array.flags.writeable = False
        self._keep(array, tensor)
        return array

    def _keep(self, array: NDArray[Any], tensor: Tensor) -> None:
        key = id(array)
        self._known[key] = (ref(array, lambda _: self._known.pop(key, None)), tensor)

    def _sent(self, array: NDArray[Any]) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it cannot be written to; nobody does
            tensor = torch.from_numpy(np.ascontiguousarray(array))
        return tensor.to(self._device)


_RESIDENT = {device: Resident(device) for device in _DEVICES}


def _stored(module: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    """Keep the weights of products in few bits; norms, positions and biases stay in fp32."""
    if dtype is None:
        return module
    for name, parameter in module.named_parameters():
        if parameter.ndim >= 2 and not name.endswith("positional_embedding"):
            parameter.data = parameter.data.to(dtype)
    return module
