"""Writes ``golden_bundle_v1``: a tiny bundle of format version 1 that every version must read.

Made once and committed; making it again is for a new format version only. Needs the ``export``
extra: ``python tests/data/make_golden_bundle.py tests/data/golden_bundle_v1``
"""

from __future__ import annotations

import hashlib
import io
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import openvino
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_sdk.bundle import ManifestDraft, canonical_json, write_bundle

SIZE, CELL, DIM, GRID = 32, 8, 6, 4
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
OPSET, IR_VERSION = 17, 8
CREATED = datetime(2026, 11, 20, 12, 0, tzinfo=timezone.utc)


def floats(name: str, values: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, np.float32), name)


def integers(name: str, values: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, np.int64), name)


def finish(
    name: str,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: list[onnx.TensorProto],
) -> bytes:
    graph = helper.make_graph(nodes, name, inputs, outputs, constants)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def make_encoder() -> bytes:
    """One strided convolution: a token for each cell of the picture."""
    weight = np.random.default_rng(0).normal(size=(DIM, 3, CELL, CELL)).astype(np.float32) / CELL
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["pixels", "full"], ["unit"]),
        helper.make_node("Sub", ["unit", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["normal"]),
        helper.make_node("Transpose", ["normal"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "weight"], ["cells"], strides=[CELL, CELL]),
        helper.make_node("Reshape", ["cells", "flat"], ["columns"]),
        helper.make_node("Transpose", ["columns"], ["conv_1"], perm=[0, 2, 1]),
    ]
    return finish(
        "encoder",
        nodes,
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("conv_1", TensorProto.FLOAT, ["batch", GRID**2, DIM])],
        [
            floats("full", 255),
            floats("mean", MEAN),
            floats("std", STD),
            floats("weight", weight),
            integers("flat", [0, DIM, GRID**2]),
        ],
    )


def make_head() -> bytes:
    """Squared distance of each token to the nearest row of the memory."""
    nodes = [
        helper.make_node("Unsqueeze", ["tokens", "second"], ["each"]),
        helper.make_node("Unsqueeze", ["memory", "first"], ["all"]),
        helper.make_node("Sub", ["each", "all"], ["apart"]),
        helper.make_node("ReduceSumSquare", ["apart"], ["distances"], axes=[2], keepdims=0),
        helper.make_node("ReduceMin", ["distances"], ["distance"], axes=[1], keepdims=0),
        helper.make_node("ArgMin", ["distances"], ["nearest"], axis=1, keepdims=0),
        helper.make_node("Reshape", ["distance", "square"], ["cells"]),
        helper.make_node("Resize", ["cells", "", "scales"], ["large"], mode="nearest"),
        helper.make_node("Squeeze", ["large", "leading"], ["map"]),
        helper.make_node("ReduceMax", ["distance"], ["score"], keepdims=0),
    ]
    return finish(
        "head",
        nodes,
        [
            helper.make_tensor_value_info("tokens", TensorProto.FLOAT, [GRID**2, DIM]),
            helper.make_tensor_value_info("memory", TensorProto.FLOAT, ["rows", DIM]),
        ],
        [
            helper.make_tensor_value_info("map", TensorProto.FLOAT, [SIZE, SIZE]),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, []),
            helper.make_tensor_value_info("nearest", TensorProto.INT64, [GRID**2]),
        ],
        [
            integers("first", [0]),
            integers("second", [1]),
            integers("square", [1, 1, GRID, GRID]),
            floats("scales", [1, 1, CELL, CELL]),
            integers("leading", [0, 1]),
        ],
    )


def as_openvino(graph: bytes) -> tuple[bytes, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "graph.onnx"), Path(folder, "graph.xml")
        source.write_bytes(graph)
        openvino.save_model(openvino.convert_model(source), target, compress_to_fp16=False)
        return target.read_bytes(), target.with_suffix(".bin").read_bytes()


def as_npy(values: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=False)
    return stream.getvalue()


def as_png(pixels: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".png", pixels[..., ::-1])[1])


def make_pictures() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A good part, and the same with a scratch."""
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    good = np.stack([rows * 6, columns * 6, (rows + columns) * 3], axis=-1).astype(np.uint8)
    bad = good.copy()
    bad[18:22, 8:30] = (250, 20, 20)
    return good, bad


def expect(
    encoder: bytes, head: bytes, good: NDArray[np.uint8], bad: NDArray[np.uint8]
) -> dict[str, bytes]:
    encode = onnxruntime.InferenceSession(encoder, providers=["CPUExecutionProvider"])
    score = onnxruntime.InferenceSession(head, providers=["CPUExecutionProvider"])
    memory = encode.run(None, {"image": good[None]})[0][0]
    tokens = encode.run(None, {"image": bad[None]})[0][0]
    anomaly_map, image_score, _ = score.run(None, {"tokens": tokens, "memory": memory})
    return {
        "golden/expected/0/tokens_conv_1.npy": as_npy(tokens),
        "golden/expected/0/map.npy": as_npy(anomaly_map),
        "golden/expected/0/score.npy": as_npy(np.float32(image_score)),
    }


def describe(encoder: bytes) -> ManifestDraft:
    inputs = [{"name": "image", "shape": [None, SIZE, SIZE, 3]}]
    tokens = {
        "name": "conv_1",
        "shape": [None, GRID**2, DIM],
        "stream": "conv",
        "layer": 1,
        "grid": [GRID, GRID],
    }
    head_inputs = [
        {"name": "tokens", "shape": [GRID**2, DIM]},
        {"name": "memory", "shape": [None, DIM]},
    ]
    head_outputs = [
        {"name": "map", "shape": [SIZE, SIZE]},
        {"name": "score", "shape": []},
        {"name": "nearest", "shape": [GRID**2]},
    ]
    near = {"tokens": 1e-3, "map": 1e-3, "score": 1e-3}
    document = {
        "format_version": 1,
        "requires_runtime": "0.1.0",
        "serial": 1,
        "device_class": "any",
        "expires": "2099-12-31T23:59:59Z",
        "key_id": "none",
        "licence": "Apache-2.0",
        "commercial_use": "yes",
        "training_data": "none; the weights are random",
        "model": {
            "backbone": "one_convolution",
            "weights_source": "numpy.random.default_rng(0)",
            "weights_sha256": hashlib.sha256(encoder).hexdigest(),
            "trained_branches": [],
            "streams": ["conv"],
            "layers": [1],
            "dims": [DIM],
            "patch_size_px": CELL,
        },
        "extractor_id": "sha256:" + hashlib.sha256(encoder + b"fp32").hexdigest(),
        "input": {
            "size": [SIZE, SIZE],
            "color": "rgb",
            "resize": {"mode": "squash", "kernel": "area", "antialias": True},
            "mean": MEAN,
            "std": STD,
        },
        "graphs": [
            {
                "role": "encoder",
                "format": "onnx",
                "precision": "fp32",
                "paths": ["graphs/encoder_fp32.onnx"],
                "opset": OPSET,
                "min_runtime": "1.19",
                "inputs": inputs,
                "outputs": [tokens],
                "tolerance": {"conv_1": 1e-4},
            },
            {
                "role": "encoder",
                "format": "openvino",
                "precision": "fp32",
                "paths": ["graphs/encoder_fp32.xml", "graphs/encoder_fp32.bin"],
                "min_runtime": "2024.4",
                "inputs": inputs,
                "outputs": [tokens],
            },
            {
                "role": "head_few_shot",
                "format": "onnx",
                "precision": "fp32",
                "paths": ["graphs/head_few_shot_fp32.onnx"],
                "opset": OPSET,
                "inputs": head_inputs,
                "outputs": head_outputs,
            },
        ],
        "scorers": [
            {
                "name": "few_shot",
                "text_features": "tables/text_features.npy",
                "fusion": "mean",
                "sigma": 1.5,
                "parameters": {"tokens": ["conv:1"], "neighbourhood": 1, "blur": False},
            }
        ],
        "threshold": {"value": 0.5, "method": "by_hand", "n": 0},
        "quantization": {
            "method": "none",
            "calibration_source": "none",
            "calibration_pictures": 0,
            "parameters": {"per_channel": True},
        },
        "parity": [
            {
                "graph": "encoder",
                "precision": "fp32",
                "engine": "openvino",
                "compared": "onnxruntime",
                "pictures": 1,
                "weights": "random",
                "max_abs_map": 1e-06,
                "mean_abs_map": 1e-07,
                "rank_correlation": None,
                "verdict_flips": 0,
                "verdict": "ok",
            }
        ],
        "golden": {
            "frames": ["golden/frames/0.png"],
            "references": ["golden/references/0.png"],
            "expected": "golden/expected",
            "tolerance": {"fp32": near},
        },
        "x_note": {"written_by": "tests/data/make_golden_bundle.py"},
    }
    return ManifestDraft.model_validate_json(canonical_json(document))


def main(destination: Path) -> None:
    encoder, head = make_encoder(), make_head()
    xml, weights = as_openvino(encoder)
    good, bad = make_pictures()
    files = {
        "graphs/encoder_fp32.onnx": encoder,
        "graphs/encoder_fp32.xml": xml,
        "graphs/encoder_fp32.bin": weights,
        "graphs/head_few_shot_fp32.onnx": head,
        "tables/text_features.npy": as_npy(np.eye(2, DIM, dtype=np.float32)),
        "golden/frames/0.png": as_png(bad),
        "golden/references/0.png": as_png(good),
        "NOTICE.txt": b"Random weights; made for tests.\n",
        **expect(encoder, head, good, bad),
    }
    print(write_bundle(destination, describe(encoder), files, CREATED).bundle_id)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
