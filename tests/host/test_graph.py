from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from lite0 import MEAN, STD, bottles, lite0
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

import edge_sdk
from edge_sdk.bundle.onnx_guard import check_onnx
from edge_sdk.engines.selector import open_engine
from edge_sdk.errors import InputError
from export_tools.graph import OPSET, export_encoder, graph_io

NAMES = ("conv_1", "conv_2")
SIDE = 64
DATA = Path(__file__).parents[1] / "data"


def exported(model: nn.Module, **changes: Any) -> bytes:
    arguments: dict[str, Any] = {
        "input_size": (SIDE, SIDE),
        "mean": MEAN,
        "std": STD,
        "output_names": NAMES,
    }
    return export_encoder(model, **(arguments | changes))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return lite0(1, 2)


@pytest.fixture(scope="module")
def graph(model: nn.Module) -> bytes:
    return exported(model)


@pytest.fixture(scope="module")
def float_graph(model: nn.Module) -> bytes:
    return exported(model, float_input=True)


def run(graph: bytes, tensor: NDArray[Any], engine: str = "onnxruntime") -> list[NDArray[Any]]:
    loaded = open_engine(
        engine, model=graph, weights=None, device="cpu", precision="fp32", threads=1
    )
    return list(loaded.infer({next(iter(loaded.inputs)): tensor}).values())


def normalised(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
    channels = (batch / 255.0 - np.array(MEAN)) / np.array(STD)
    return np.ascontiguousarray(channels.transpose(0, 3, 1, 2)).astype(np.float32)


class Tokens(nn.Module):
    """Wraps layers into something that gives tokens, as a backbone does."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.body(x).flatten(2).transpose(1, 2)]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("count", [1, 3])
def test_pictures_give_the_tokens_that_torch_gives(graph: bytes, engine: str, count: int) -> None:
    batch = np.stack(bottles(count, SIDE))
    reference = lite0(1, 2).eval()
    with torch.inference_mode():
        expected = [tokens.numpy() for tokens in reference(torch.from_numpy(normalised(batch)))]

    for got, wanted in zip(run(graph, batch, engine), expected, strict=True):
        assert got.shape == wanted.shape
        assert np.abs(got - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_the_graph_with_float_input_is_the_same_but_for_its_normalisation(
    graph: bytes, float_graph: bytes
) -> None:
    batch = np.stack(bottles(2, SIDE))
    (spec,) = graph_io(float_graph).inputs

    assert (spec.name, spec.shape, spec.dtype) == ("normalised", (None, 3, SIDE, SIDE), "float32")
    for ours, theirs in zip(run(graph, batch), run(float_graph, normalised(batch)), strict=True):
        assert np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max()


def test_an_export_leaves_the_model_as_it_was() -> None:
    model = lite0(1).train()
    model.stages[0].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [module.training for module in model.modules()]

    exported(model, output_names=["conv_1"])

    assert [module.training for module in model.modules()] == flags
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_exports_are_the_same_bytes_again_and_in_either_order(
    graph: bytes, float_graph: bytes, model: nn.Module
) -> None:
    assert exported(model, float_input=True) == float_graph
    assert exported(model) == graph


FRESH = """
import hashlib, sys
from lite0 import MEAN, STD, lite0
from export_tools.graph import export_encoder
data = export_encoder(
    lite0(1, 2), input_size=(64, 64), mean=MEAN, std=STD, output_names=("conv_1", "conv_2")
)
print(hashlib.sha256(data).hexdigest())
"""


def test_a_fresh_process_in_another_folder_writes_the_same_bytes(
    graph: bytes, tmp_path: Path
) -> None:
    paths = [str(Path(edge_sdk.__file__).parents[1]), str(Path(__file__).parents[1])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", FRESH],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )

    assert done.stdout.strip() == hashlib.sha256(graph).hexdigest()
    assert done.stderr == ""


def test_nothing_of_the_exporting_machine_is_in_the_file(graph: bytes) -> None:
    proto = onnx.load_model_from_string(graph)

    assert not proto.producer_name
    assert not proto.producer_version
    assert not proto.metadata_props
    assert not proto.graph.value_info
    for part in (proto, proto.graph, *proto.graph.node, *proto.graph.initializer):
        assert not part.doc_string
        assert not part.metadata_props if hasattr(part, "metadata_props") else True
    for word in (b"torch", b".py", str(Path.cwd()).encode(), sys.version.split()[0].encode()):
        assert word not in graph


def test_names_say_which_operator_a_value_comes_from(graph: bytes) -> None:
    proto = onnx.load_model_from_string(graph).graph

    assert [node.name for node in proto.node] == [
        f"{node.op_type.lower()}_{index}" for index, node in enumerate(proto.node)
    ]
    given = {value for node in proto.node for value in node.output} - set(NAMES)
    assert all(value.rpartition("_out")[0] in {n.name for n in proto.node} for value in given)
    assert all("_in" in tensor.name for tensor in proto.initializer)


def test_a_bundle_takes_the_graph(graph: bytes) -> None:
    check_onnx(graph, name="encoder.onnx", opset=OPSET)
    onnx.checker.check_model(onnx.load_model_from_string(graph), full_check=True)


def test_inputs_and_outputs_are_read_from_the_file(graph: bytes) -> None:
    described = graph_io(graph)

    assert [str(spec) for spec in described.inputs] == ["picture (N, 64, 64, 3) uint8"]
    assert [str(spec) for spec in described.outputs] == [
        "conv_1 (N, 1024, 16) float32",
        "conv_2 (N, 256, 24) float32",
    ]


def test_batch_norms_are_folded_in_double_precision() -> None:
    convolution, norm = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5, eps=1e-3)
    generator = torch.Generator().manual_seed(0)
    state = {name: torch.rand(5, generator=generator) for name in ("weight", "bias")}
    norm.load_state_dict(
        state | {"running_mean": state["bias"] - 1, "running_var": state["weight"]}, strict=False
    )
    data = exported(Tokens(convolution, norm), output_names=["tokens"], float_input=True)

    weights = [
        numpy_helper.to_array(one) for one in onnx.load_model_from_string(data).graph.initializer
    ]
    weight = state["weight"].double().numpy()
    gain = weight / np.sqrt(weight + 1e-3)
    bias = state["bias"].double().numpy()
    kernel = convolution.weight.detach().double().numpy() * gain[:, None, None, None]
    assert isinstance(convolution.bias, Tensor)
    shift = (convolution.bias.detach().double().numpy() - (bias - 1)) * gain + bias
    np.testing.assert_array_equal(weights[0], kernel.astype(np.float32))
    np.testing.assert_allclose(weights[1], shift.astype(np.float32), rtol=1e-7)
    assert "BatchNormalization" not in {
        n.op_type for n in onnx.load_model_from_string(data).graph.node
    }


def test_padding_and_batch_norms_cost_no_operators(graph: bytes) -> None:
    operators = Counter(node.op_type for node in onnx.load_model_from_string(graph).graph.node)

    assert set(operators) == {"Transpose", "Cast", "Sub", "Mul", "Add", "Conv", "Clip", "Reshape"}


class Block(nn.Module):
    """A transformer's block, as far as operators go."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 16, 16)
        self.norm = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> list[Tensor]:
        tokens = self.norm(self.patches(x).flatten(2).transpose(1, 2))
        return [tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]]


def test_a_layer_norm_stays_one_operator_and_attention_runs_in_both_engines() -> None:
    torch.manual_seed(0)
    block = Block().eval()
    data = exported(block, output_names=["tokens"])
    batch = np.stack(bottles(2, SIDE))
    with torch.inference_mode():
        expected = block(torch.from_numpy(normalised(batch)))[0].numpy()

    operators = [node.op_type for node in onnx.load_model_from_string(data).graph.node]
    assert operators.count("LayerNormalization") == 1
    for engine in ("onnxruntime", "openvino"):
        np.testing.assert_allclose(run(data, batch, engine)[0], expected, atol=1e-5)


def poisoned() -> nn.Module:
    model = lite0(1)
    with torch.no_grad():
        next(model.parameters())[0, 0, 0, 0] = torch.nan
    return model


class FixedBatch(nn.Module):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [x.flatten(2) + torch.zeros(2, 1, 1)]


class Undecided(nn.Module):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [x.flatten(2) if x.sum() > 0 else -x.flatten(2)]


class Pooled(nn.Module):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [x.flatten(0, 1).flatten(1)[:, :, None]]


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        (poisoned, {}, "model: stem.0.weight: expected finite weights"),
        (
            lambda: Tokens(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)),
            {},
            "model: body.0: expected each BatchNorm to have statistics and to follow",
        ),
        (
            lambda: Tokens(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)),
            {},
            "without running statistics",
        ),
        (
            lambda: lite0(1),
            {"output_names": ["a", "b"]},
            r"output_names: expected 1 different names, got \['a', 'b'\]",
        ),
        (lambda: lite0(1), {"opset": 17}, "opset: expected 18 to 21, got 17"),
        (lambda: lite0(1), {"std": (1, 0, 1)}, r"mean, std: expected 3 values each, std above 0"),
        (FixedBatch, {}, "model: picture: expected the batch as its first axis"),
        (Undecided, {}, "model: torch cannot export it"),
        (Pooled, {}, "model: tokens: expected the batch as its first axis"),
    ],
)
def test_what_cannot_be_exported_faithfully_is_refused(
    model: Any, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        exported(model(), **({"output_names": ["tokens"]} | changes))


def test_the_newest_operator_set_of_a_bundle_can_be_written_too() -> None:
    data = exported(lite0(1), output_names=["conv_1"], opset=21)

    check_onnx(data, name="encoder.onnx", opset=21)
    (tokens,) = run(data, np.stack(bottles(1, SIDE)))
    assert np.isfinite(tokens).all()


def test_the_tiny_graph_of_the_device_tests_is_what_its_script_writes() -> None:
    spec = importlib.util.spec_from_file_location("make_tiny_graph", DATA / "make_tiny_graph.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)

    assert (DATA / "tiny_encoder.onnx").read_bytes() == script.tiny_graph()
