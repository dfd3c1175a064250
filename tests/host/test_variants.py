"""``edge-export --precision --format``: each graph is proven on real pictures, or left out."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from lite0 import bottles

from edge_sdk.bundle import Bundle, open_bundle
from edge_sdk.config import EngineConfig
from edge_sdk.engines.selector import open_engine
from edge_sdk.errors import GateError
from edge_sdk.imaging import encode_png
from edge_sdk.model import load_model
from edge_sdk.selftest import run_self_test
from export_tools.candidates import Workshop
from export_tools.cli import main
from export_tools.gates import GraphFile, Judged
from export_tools.openvino_ir import convert
from export_tools.quantize import halve, is_of_products, quantize_products
from export_tools.variants import Wanted, make_variants

EXPORT = (
    sys.executable, "-m", "export_tools.cli", "--backbone", "efficientnet-lite1",
    "--layers", "3,5", "--neighbourhood", "3",
)  # fmt: skip
SMALL = ("--backbone", "efficientnet-lite0", "--layers", "2", "--size", "64")


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str]]:
    """All that the document asks for, in two orders; folder and what was said."""
    folder = tmp_path_factory.mktemp("variants")
    orders = (("fp32,fp16,int8", "onnx,openvino"), ("int8,fp16,fp32", "openvino,onnx"))
    running = [
        subprocess.Popen(
            [*EXPORT, "--precision", precision, "--format", kind, "--out", folder / str(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, (precision, kind) in enumerate(orders)
    ]
    finished = []
    for number, process in enumerate(running):
        said, errors = process.communicate(timeout=900)
        assert process.returncode == 0, errors
        finished.append((folder / str(number), said))
    return finished


@pytest.mark.slow
def test_the_order_of_asking_makes_no_other_bundle(exports: list[tuple[Path, str]]) -> None:
    first, second = (open_bundle(folder).manifest for folder, _ in exports)
    assert first.bundle_id == second.bundle_id


@pytest.mark.slow
def test_the_table_has_a_row_for_each_and_the_bundle_what_passed(
    exports: list[tuple[Path, str]],
) -> None:
    folder, said = exports[0]
    bundle = open_bundle(folder)
    lines = said.splitlines()
    start = next(place for place, line in enumerate(lines) if "recipe" in line and "rank" in line)
    rows = [line for line in lines[start + 1 :] if line.split()[:1] in ENGINE_WORDS]
    asked = [(row.split()[0], row.split()[1]) for row in rows]
    assert list(dict.fromkeys(asked)) == [
        ("openvino", "fp32"),
        ("onnxruntime", "fp16"),
        ("openvino", "fp16"),
        ("onnxruntime", "int8"),
        ("openvino", "int8"),
    ]
    passed = {key for key, row in zip(asked, rows, strict=True) if row.endswith(" ok")}
    kept = {
        ("openvino" if graph.format == "openvino" else "onnxruntime", graph.precision)
        for graph in bundle.manifest.graphs
    }
    assert kept == passed | {("onnxruntime", "fp32")}
    assert ("onnxruntime", "int8") not in kept, "a convolutional graph has no dynamic int8"
    report = json.loads((folder / "report.json").read_bytes())
    assert len(report["variants"]) == len(rows)


ENGINE_WORDS = (["onnxruntime"], ["openvino"])


@pytest.mark.slow
def test_every_graph_that_was_written_passes_its_self_test_on_the_device(
    exports: list[tuple[Path, str]],
) -> None:
    bundle = open_bundle(exports[0][0])
    assert {graph.precision for graph in bundle.manifest.graphs} == {"fp32", "fp16", "int8"}
    for graph in bundle.manifest.graphs:
        name = "openvino" if graph.format == "openvino" else "onnxruntime"
        model = load_model(bundle, EngineConfig(name=name, precision=graph.precision))
        assert run_self_test(model).frames == 2


@pytest.mark.slow
def test_int8_says_what_it_was_calibrated_on_and_how(exports: list[tuple[Path, str]]) -> None:
    manifest = open_bundle(exports[0][0]).manifest
    assert manifest.quantization is not None
    assert manifest.quantization.method == "nncf_post_training"
    assert manifest.quantization.calibration_pictures == 100
    assert set(manifest.quantization.parameters) == {"openvino"}


def refused(arguments: tuple[str, ...], out: Path, capsys: pytest.CaptureFixture[str]) -> str:
    exit_code = main([*arguments, "--out", str(out)])
    assert not out.exists()
    return f"{exit_code} {capsys.readouterr().err.splitlines()[-1]}"


def test_a_precision_asked_for_alone_that_cannot_be_made_is_an_error_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused((*SMALL, "--precision", "int8"), tmp_path / "out", capsys)
    assert said == (
        "8 edge-export: error: int8 was asked for and does not pass: "
        "onnx (dynamic u8s8): not made: the graph is not of matrix products"
    )


def test_among_others_it_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main([*SMALL, "--precision", "int8,fp16", "--out", str(out), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [row["precision"] for row in answer["variants"]] == ["fp16", "int8"]
    assert answer["variants"][1]["failures"]
    written = [(one.format, one.precision) for one in open_bundle(out).manifest.graphs]
    assert written == [("onnx", "fp32"), ("onnx", "fp16")]


def test_a_calibration_folder_without_pictures_is_said_before_anything_is_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    options = (*SMALL, "--precision", "fp32,int8", "--calibration", str(empty))
    said = refused(options, tmp_path / "out", capsys)
    assert said.startswith(f"11 edge-export: error: {empty}: expected pictures to calibrate int8")


def test_too_few_pictures_to_prove_anything_are_said_before_anything_is_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, pixels in enumerate(bottles(8, 96)):
        (folder / f"{index}.png").write_bytes(encode_png(pixels))
    options = (*SMALL, "--precision", "fp16", "--pictures", str(folder))
    said = refused(options, tmp_path / "out", capsys)
    assert "at least 100 pictures besides the 4 references, got 4" in said


@pytest.mark.parametrize("option", [("--precision", "int4"), ("--format", "onnx,onnx")])
def test_what_is_not_known_is_wrong_usage(
    option: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*SMALL, *option, "--out", str(tmp_path / "out")])
    assert stopped.value.code == 2
    assert "expected some of" in capsys.readouterr().err


def test_a_variant_whose_answers_are_wrong_is_not_kept() -> None:
    graph = products_graph()

    def judge(one: GraphFile) -> list[Judged]:
        shown = np.random.default_rng(int(one.precision == "fp16"))
        judged = Judged(
            maps=[shown.random((4, 4), dtype=np.float32) for _ in range(100)],
            scores=[float(value) for value in shown.random(100)],
            threshold=0.5,
        )
        return [judged]

    said: list[str] = []
    found = make_variants(
        Workshop(graph=graph, feed=list),
        Wanted(precisions=("fp32", "fp16", "int8")),
        judge=judge,
        is_bad=[None] * 100,
        show=said.append,
    )
    assert [one.precision for one in found.graphs] == ["int8"]
    assert [row.precision for row in found.rows] == ["fp16", "int8"]
    assert any("map correlation" in failure for failure in found.rows[0].failures)
    assert len(said) == 3

    with pytest.raises(GateError, match="fp16 was asked for and does not pass"):
        make_variants(
            Workshop(graph=graph, feed=list),
            Wanted(precisions=("fp16",)),
            judge=judge,
            is_bad=[None] * 100,
            show=said.append,
        )


def products_graph() -> bytes:
    """Two matrix products with a softmax between them."""
    generator = np.random.default_rng(0)
    weights = [
        onnx.numpy_helper.from_array(generator.normal(size=shape).astype(np.float32), name)
        for name, shape in (("a", (16, 32)), ("b", (32, 8)))
    ]
    make = onnx.helper.make_node
    nodes = [
        make("MatMul", ["x", "a"], ["xa"], name="first"),
        make("Softmax", ["xa"], ["soft"], name="soft", axis=-1),
        make("MatMul", ["soft", "b"], ["y"], name="second"),
    ]
    real = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes,
        "products",
        [onnx.helper.make_tensor_value_info("x", real, ["batch", 16])],
        [onnx.helper.make_tensor_value_info("y", real, ["batch", 8])],
        weights,
    )
    opset = [onnx.helper.make_opsetid("", 18)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=9)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("make", [halve, quantize_products])
def test_a_graph_made_twice_is_the_same_file_and_says_nearly_the_same(
    make: Callable[[bytes], bytes],
) -> None:
    graph = products_graph()
    assert is_of_products(graph)
    lesser = make(graph)
    assert lesser == make(graph)
    assert len(lesser) < len(graph)
    x = np.random.default_rng(1).normal(size=(3, 16)).astype(np.float32)
    answers = [
        open_engine(
            "onnxruntime", model=one, weights=None, device="cpu", precision="fp32", threads=1
        ).infer({"x": x})["y"]
        for one in (graph, lesser)
    ]
    np.testing.assert_allclose(answers[1], answers[0], atol=0.05)
    assert not np.array_equal(answers[1], answers[0])


def test_softmax_stays_in_fp32() -> None:
    model = onnx.load_model_from_string(halve(products_graph()))
    kinds = [node.op_type for node in model.graph.node]
    at = kinds.index("Softmax")
    casts = [kinds[at - 1], kinds[at + 1]]
    assert casts == ["Cast", "Cast"]


@pytest.mark.parametrize("half", [False, True])
def test_an_ir_is_the_same_whatever_was_converted_before(half: bool) -> None:
    graph = products_graph()
    first = convert(graph, half=half)
    convert(graph)
    assert convert(graph, half=half) == first
    assert b"fused_names" not in first.xml


def test_the_device_opens_what_was_written(tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = (*SMALL, "--precision", "fp32,fp16", "--format", "openvino", "--out", str(out))
    assert main(options) == 0
    bundle: Bundle = open_bundle(out)
    written = [(one.format, one.precision) for one in bundle.manifest.graphs]
    assert written == [("onnx", "fp32"), ("openvino", "fp32"), ("openvino", "fp16")]
    model = load_model(bundle, EngineConfig(name="openvino", precision="fp16"))
    assert run_self_test(model).frames == 2
