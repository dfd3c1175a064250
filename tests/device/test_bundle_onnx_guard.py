"""What an ONNX graph may hold; wherever a tensor can hide, its external data is found."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bundle_samples import ENCODER, GOLDEN, field, onnx_model

from edge_sdk.bundle import onnx_guard
from edge_sdk.bundle.onnx_guard import check_onnx
from edge_sdk.errors import BundleError

LOCATION = field(1, b"location") + field(2, b"../secret.bin")
EXTERNAL = field(1, 4) + field(2, 1) + field(8, b"w") + field(13, LOCATION) + field(14, 1)
MARKED_ONLY = field(8, b"w") + field(14, 1)
NAMED_ONLY = field(8, b"w") + field(13, LOCATION) + field(14, 0)
NEGATIVE = EXTERNAL + field(13, field(1, b"offset") + field(2, b"-1"))

SUBGRAPH = field(5, field(6, field(5, EXTERNAL)))
"""Node field: an attribute with a graph that has a tensor."""


def check(data: bytes, *, opset: int = 17) -> None:
    check_onnx(data, name="bundle: a.onnx", opset=opset)


def refuse(data: bytes, message: str, *, opset: int = 17) -> None:
    with pytest.raises(BundleError, match=f"^bundle: a.onnx: .*{message}") as caught:
        check(data, opset=opset)
    assert caught.value.exit_code == 4


def test_a_real_graph_passes() -> None:
    check((GOLDEN / ENCODER).read_bytes())
    check(onnx_model())


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(onnx_model(field(5, EXTERNAL)), id="initializer"),
        pytest.param(onnx_model(field(5, MARKED_ONLY)), id="location without a name"),
        pytest.param(onnx_model(field(5, NAMED_ONLY)), id="name without a location"),
        pytest.param(onnx_model(field(5, NEGATIVE)), id="negative offset"),
        pytest.param(onnx_model(field(15, field(1, EXTERNAL))), id="sparse values"),
        pytest.param(onnx_model(field(15, field(2, EXTERNAL))), id="sparse indices"),
        pytest.param(onnx_model(field(1, field(5, field(5, EXTERNAL)))), id="attribute tensor"),
        pytest.param(onnx_model(field(1, field(5, field(10, EXTERNAL)))), id="attribute tensors"),
        pytest.param(
            onnx_model(field(1, field(5, field(22, field(1, EXTERNAL))))), id="attribute sparse"
        ),
        pytest.param(
            onnx_model(field(1, field(5, field(23, field(2, EXTERNAL))))), id="attribute sparses"
        ),
        pytest.param(onnx_model(field(1, SUBGRAPH)), id="subgraph"),
        pytest.param(
            onnx_model(field(1, field(5, field(11, field(1, SUBGRAPH))))), id="subgraph's subgraph"
        ),
        pytest.param(onnx_model(rest=field(20, field(1, field(5, EXTERNAL)))), id="training start"),
        pytest.param(onnx_model(rest=field(20, field(2, field(5, EXTERNAL)))), id="training step"),
        pytest.param(onnx_model(rest=field(25, field(7, SUBGRAPH))), id="function"),
        pytest.param(
            onnx_model(rest=field(25, field(11, field(5, EXTERNAL)))), id="function's default"
        ),
        pytest.param(onnx_model() + field(7, field(5, EXTERNAL)), id="graph given twice"),
        pytest.param(
            onnx_model(field(5, EXTERNAL.replace(field(14, 1), b"\xf0\x80\x80\x00\x01"))),
            id="tag spelled long",
        ),
        pytest.param(
            onnx_model(field(5, field(8, b"w") + field(14, b"\x01"))), id="location of another type"
        ),
    ],
)
def test_external_data_is_refused_wherever_it_hides(model: bytes) -> None:
    refuse(model, "external data")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        pytest.param(onnx_model(opset=22), "opset 22 of '', expected 1 to 21", id="too new"),
        pytest.param(onnx_model(opset=0), "opset 0 of ''", id="none"),
        pytest.param(onnx_model(opset=2**63), "opset 9223372036854775808", id="2^63"),
        pytest.param(onnx_model(opset=16), "opset 16, the manifest declares 17", id="another"),
        pytest.param(field(7, b""), "no operator set is named", id="not named"),
        pytest.param(
            field(7, b"") + field(8, field(1, b"com.microsoft") + field(2, 1)),
            "no operator set is named",
            id="only a vendor's",
        ),
        pytest.param(
            onnx_model(rest=field(8, field(1, b"com.microsoft") + field(2, 2))),
            "opset 2 of 'com.microsoft'",
            id="vendor's too new",
        ),
        pytest.param(
            onnx_model(rest=field(8, field(1, b"evil.ops") + field(2, 1))),
            "operator domain 'evil.ops', expected one of",
            id="domain imported",
        ),
        pytest.param(
            onnx_model(field(1, field(4, b"Run") + field(7, b"evil.ops"))),
            "operator domain 'evil.ops'",
            id="domain of a node",
        ),
        pytest.param(
            onnx_model(field(1, field(5, field(6, field(1, field(7, b"\xff\x1b")))))),
            r"operator domain '\\ufffd\\x1b'",
            id="domain in a subgraph",
        ),
        pytest.param(
            onnx_model(rest=field(25, field(10, b"mine"))), "domain 'mine'", id="own function"
        ),
        pytest.param(onnx_model() + field(1, 13), "IR version 13, expected at most 10", id="IR"),
        pytest.param(b"", "it holds none", id="empty"),
        pytest.param(onnx_model()[:-1], "beyond its message|middle of a field", id="cut off"),
        pytest.param(b"\x3a\xff\xff\xff\xff\x7f", "without an end|beyond", id="huge length"),
        pytest.param(b"\x08" + b"\xff" * 11, "a number without an end", id="endless number"),
        pytest.param(b"\x3b\x3c", "wire type 3", id="group"),
        pytest.param(b"\x02\x00", "beyond its message", id="field 0"),
        pytest.param(field(7, 1), "field 7 of a model has type 0", id="number for a graph"),
        pytest.param(
            onnx_model(field(1, field(5, b"\x2a\x10abc"))), "beyond its message", id="lying length"
        ),
    ],
)
def test_graphs_for_other_runtimes_and_broken_ones_are_refused(model: bytes, message: str) -> None:
    refuse(model, message)


def test_microsoft_operators_and_the_long_name_of_the_standard_are_allowed() -> None:
    node = field(1, field(4, b"QGemm") + field(7, b"com.microsoft"))
    vendor = field(8, field(1, b"com.microsoft") + field(2, 1))
    check(onnx_model(node + field(1, field(7, b"ai.onnx")), rest=vendor))
    check(field(7, b"") + field(8, field(1, b"ai.onnx") + field(2, 17)))


def test_depth_and_size_are_bounded() -> None:
    graph = b""
    for _ in range(100):
        graph = field(1, field(5, field(6, graph)))
    refuse(onnx_model(graph), "nested deeper than")
    refuse(onnx_model(field(1, b"") * (onnx_guard.MAX_FIELDS + 1)), "more than 1000000 fields")


def test_every_place_that_onnx_has_for_tensors_and_operators_is_walked() -> None:
    onnx = pytest.importorskip("onnx", reason="the device half runs without onnx")
    kinds = {
        "ModelProto": "model",
        "GraphProto": "graph",
        "NodeProto": "node",
        "AttributeProto": "attribute",
        "SparseTensorProto": "sparse",
        "FunctionProto": "function",
        "TrainingInfoProto": "training",
        "TensorProto": "tensor",
        "OperatorSetIdProto": "opset",
    }

    def places(name: str) -> Iterator[tuple[int, str]]:
        for entry in getattr(onnx, name).DESCRIPTOR.fields:
            if entry.message_type is not None and entry.message_type.name in kinds:
                yield entry.number, kinds[entry.message_type.name]

    real = {kind: dict(places(name)) for name, kind in kinds.items()}
    assert real == onnx_guard._MESSAGES
