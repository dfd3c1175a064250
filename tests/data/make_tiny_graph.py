"""Writes ``tiny_encoder.onnx``: a graph small enough to be computed by hand, checked in beside.

Input ``picture`` (N, 4, 6, 3) uint8. Output ``sums`` (N, 6, 2) float32: over the 2 x 2 patches,
row-major, the plain sum of the pixels and their sum weighted 1, 10, 100 by channel. Output ``half``
(N, 6, 2) float32 is half of it.

Run with the export extra installed: ``python tests/data/make_tiny_graph.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, checker, helper, numpy_helper

PATH = Path(__file__).with_name("tiny_encoder.onnx")


def tiny_graph() -> bytes:
    """Return the file's bytes."""
    kernel = np.ones((2, 3, 2, 2), np.float32)
    kernel[1] *= np.array([1, 10, 100], np.float32)[:, None, None]
    constants: dict[str, NDArray[Any]] = {
        "kernel": kernel,
        "shape": np.array([0, 2, 6], np.int64),
        "factor": np.array(0.5, np.float32),
    }
    nodes = [
        helper.make_node("Transpose", ["picture"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["floats", "kernel"], ["grid"], strides=[2, 2]),
        helper.make_node("Reshape", ["grid", "shape"], ["columns"]),
        helper.make_node("Transpose", ["columns"], ["sums"], perm=[0, 2, 1]),
        helper.make_node("Mul", ["sums", "factor"], ["half"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny_encoder",
        [helper.make_tensor_value_info("picture", TensorProto.UINT8, ["batch", 4, 6, 3])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 6, 2])
            for name in ("sums", "half")
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    PATH.write_bytes(tiny_graph())
