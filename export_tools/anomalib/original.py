"""The exported file itself, in the library it was made for: the measure of everything else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnxruntime
import openvino
from numpy.typing import NDArray

from edge_sdk.engines.tensors import check_tensors
from export_tools.anomalib.contract import Contract
from export_tools.anomalib.files import ModelFile

_THREADS = 2


class OriginalFile:
    """An ``InferenceEngine`` over the file where it lies, opened by its path.

    ONNX runs in onnxruntime, an IR in OpenVINO, both with their own settings but for the number
    of threads and, in OpenVINO, arithmetic in 32 bits: nothing of the bundle's way is shared.

    Args:
        file: the export.
        contract: its input and outputs.
    """

    inputs: Mapping[str, tuple[int | None, ...]]
    outputs: Sequence[str]
    device: str

    def __init__(self, file: ModelFile, contract: Contract) -> None:
        self.inputs = {contract.input.name: contract.input.shape}
        self.outputs = tuple(output.name for output in contract.outputs)
        self.device = "cpu"
        self._contract = contract
        self._session: Any = None
        self._compiled: Any = None
        if file.format == "onnx":
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = _THREADS
            self._session = onnxruntime.InferenceSession(
                str(file.path), options, providers=["CPUExecutionProvider"]
            )
        else:
            core = openvino.Core()
            properties = {
                "INFERENCE_PRECISION_HINT": "f32",
                "INFERENCE_NUM_THREADS": str(_THREADS),
            }
            self._compiled = core.compile_model(core.read_model(file.path), "CPU", properties)

    def infer(self, tensors: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Run the file once."""
        check_tensors((self._contract.input,), tensors)
        if self._session is not None:
            values = self._session.run(list(self.outputs), dict(tensors))
            return dict(zip(self.outputs, values, strict=True))
        answer = self._compiled(dict(tensors))
        return {name: answer[name] for name in self.outputs}

    def close(self) -> None:
        """Let go of the file."""
        self._session = self._compiled = None
