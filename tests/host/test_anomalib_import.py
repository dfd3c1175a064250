"""Exports of anomalib as bundles: real files, trained on real boards, against themselves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from anomalib_exports import EXPORTS, PICTURES, board_pictures, file_answer
from onnx import ModelProto, TensorProto, helper, numpy_helper
from scenes import camera_config, frame_of

from edge_sdk.bundle import Bundle, open_bundle
from edge_sdk.config import EngineConfig
from edge_sdk.errors import InputError, SelfTestError
from edge_sdk.imaging import encode_png
from edge_sdk.model import load_model
from edge_sdk.pipeline import build_pipeline
from edge_sdk.records import Verdict
from edge_sdk.references import TokenCache
from edge_sdk.selftest import run_self_test
from export_tools.cli import main

PADIM = EXPORTS / "padim.onnx"
NORMALISED = ("padim.onnx", "padim_fp16.xml", "patchcore_fp16.xml")
RAW = "padim_raw_fp16.xml"


def convert(file: Path, out: Path, *options: str) -> Bundle:
    arguments = ["--from-anomalib", str(file), "--pictures", str(PICTURES), "--out", str(out)]
    assert main([*arguments, *options]) == 0
    return open_bundle(out)


def engine_of(file: str) -> EngineConfig:
    return EngineConfig(name="openvino" if file.endswith(".xml") else "onnxruntime", threads=1)


@pytest.fixture(scope="module", params=[*NORMALISED, RAW])
def converted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Bundle]:
    file: str = request.param
    return file, convert(EXPORTS / file, tmp_path_factory.mktemp("bundles") / "bundle")


def test_the_contract_of_an_export_is_in_the_manifest(converted: tuple[str, Bundle]) -> None:
    file, bundle = converted
    manifest = bundle.manifest
    (graph,), (scorer,) = manifest.graphs, manifest.scorers
    assert (graph.role, graph.precision) == ("end_to_end", "fp32")
    assert graph.format == ("onnx" if file.endswith(".onnx") else "openvino")
    assert (graph.inputs[0].name, graph.inputs[0].shape[1:]) == ("input", (3, 96, 96))
    assert {output.name for output in graph.outputs} >= {"pred_score", "anomaly_map"}
    is_raw = file == RAW
    assert manifest.threshold.value == (None if is_raw else 0.5)
    assert scorer.parameters["highest_score"] == (None if is_raw else 1.0)
    assert (manifest.model_extra or {})["x_anomalib"]["mean"] == [0.485, 0.456, 0.406]
    assert (manifest.licence, manifest.commercial_use) == ("unknown", "unknown")
    assert manifest.golden.references == ()


def test_parity_with_the_files_own_outputs_is_measured_in_each_engine(
    converted: tuple[str, Bundle],
) -> None:
    file, bundle = converted
    engines = ["onnxruntime", "openvino"] if file.endswith(".onnx") else ["openvino"]
    rows = bundle.manifest.parity
    assert [row.engine for row in rows] == engines
    for row in rows:
        assert (row.graph, row.verdict, row.verdict_flips) == ("end_to_end", "ok", 0)
        assert row.pictures == len(board_pictures()) - 4
        assert row.max_abs_map is not None
        assert row.max_abs_map < 1e-2


def test_a_device_gives_each_picture_the_files_own_score_and_label(
    converted: tuple[str, Bundle], tmp_path: Path
) -> None:
    file, bundle = converted
    model = load_model(bundle, engine_of(file))
    camera = camera_config(
        source="dir:boards",
        faults={"saturated_share": 1.0},
        threshold_override=5.0 if file == RAW else None,
    )
    pipeline = build_pipeline(model, camera, None, TokenCache(tmp_path))
    verdicts = set()
    for pixels in board_pictures():
        decision = pipeline.inspect(frame_of(pixels))
        expected = file_answer(EXPORTS / file, pixels)
        assert decision.result is not None
        assert decision.result.image_score == pytest.approx(expected["pred_score"], rel=1e-5)
        assert decision.result.nearest is None
        assert decision.result.anomaly_map.shape == pixels.shape[:2]
        if "pred_label" in expected:
            assert (decision.verdict is Verdict.ANOMALOUS) == bool(expected["pred_label"])
        verdicts.add(decision.verdict)
    assert verdicts == {Verdict.NORMAL, Verdict.ANOMALOUS}, "both are seen in these pictures"


def test_a_bundle_of_an_export_tests_itself(converted: tuple[str, Bundle]) -> None:
    file, bundle = converted
    report = run_self_test(load_model(bundle, engine_of(file)))
    assert report.frames == 2
    limits = bundle.manifest.golden.tolerance["fp32"]
    assert 0 <= report.map <= limits.map / 10
    assert 0 <= report.score <= limits.score / 10


def test_a_box_that_resizes_differently_fails_the_self_test(tmp_path: Path) -> None:
    bundle = convert(PADIM, tmp_path / "bundle")
    resize = bundle.manifest.input.resize.model_copy(
        update={"kernel": "bilinear", "antialias": False}
    )
    changed = bundle.manifest.input.model_copy(update={"resize": resize})
    spoilt = Bundle(
        manifest=bundle.manifest.model_copy(update={"input": changed}), files=bundle.files
    )
    with pytest.raises(SelfTestError, match="this box must not judge parts"):
        run_self_test(load_model(spoilt, engine_of("padim.onnx")))


def test_two_imports_give_the_same_bundle_and_other_settings_another(tmp_path: Path) -> None:
    first, second = (convert(PADIM, tmp_path / name).manifest for name in ("one", "two"))
    assert first.bundle_id == second.bundle_id
    other = convert(PADIM, tmp_path / "other", "--kernel", "bilinear").manifest
    assert other.extractor_id != first.extractor_id
    said = ("--name", "board-7", "--licence", "MIT", "--commercial-use", "yes")
    named = convert(PADIM, tmp_path / "named", *said, "--training-data", "DeepPCB").manifest
    assert (named.model.backbone, named.licence) == ("anomalib/board-7", "MIT")
    assert (named.commercial_use, named.training_data) == ("yes", "DeepPCB")
    assert named.extractor_id == first.extractor_id


def test_json_is_one_object_with_the_contract(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    convert(PADIM, tmp_path / "bundle", "--json")
    answer = json.loads(capsys.readouterr().out)
    assert answer["anomalib"]["scores_normalised"] is True
    assert answer["anomalib"]["label_above"] == 0.5
    assert [row["engine"] for row in answer["parity"]] == ["onnxruntime", "openvino"]


# --- refusals


def refused(
    file: Path, out: Path, capsys: pytest.CaptureFixture[str], *options: str, code: int = 11
) -> str:
    """What the command says when it refuses; it leaves nothing behind."""
    pictures = () if "--pictures" in options else ("--pictures", str(PICTURES))
    assert (
        main(["--from-anomalib", str(file), "--out", str(out / "bundle"), *pictures, *options])
        == code
    )
    assert not (out / "bundle").exists()
    said = capsys.readouterr().err.splitlines()[-1]
    assert str(file.name) in said
    return said


def spoilt(folder: Path, change: Callable[[ModelProto], object]) -> Path:
    """PaDiM with its weights inside, changed."""
    model = onnx.load(PADIM)
    change(model)
    onnx.save(model, folder / "changed.onnx")
    return folder / "changed.onnx"


def test_a_fixed_batch_of_two_is_refused_with_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(EXPORTS / "patchcore_batch2_fp16.xml", tmp_path, capsys)
    assert "input 'input'" in said
    assert "got a fixed batch of 2, (2, 3, 96, 96)" in said
    assert '{"dynamic_axes": None}' in said


def test_an_onnx_file_with_a_fixed_batch_is_told_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fix_batch(model: ModelProto) -> None:
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 2

    assert "fixed batch of 2" in refused(spoilt(tmp_path, fix_batch), tmp_path, capsys)


def test_files_that_are_missing_or_something_else_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = Path(shutil.copy(PADIM, tmp_path / "alone.onnx"))
    said = refused(alone, tmp_path, capsys)
    assert "padim.onnx.data: expected the weights of alone.onnx, found none" in said
    no_bin = Path(shutil.copy(EXPORTS / RAW, tmp_path / "model.xml"))
    assert main(["--from-anomalib", str(no_bin), "--out", str(tmp_path / "bundle")]) == 11
    assert "model.bin: expected a file of the exported model" in capsys.readouterr().err
    assert "found none" in refused(tmp_path / "nothing.onnx", tmp_path, capsys)
    (tmp_path / "model.pt").write_bytes(b"PK")
    assert "expected an .onnx or an .xml" in refused(tmp_path / "model.pt", tmp_path, capsys)
    (tmp_path / "cut.onnx").write_bytes(PADIM.read_bytes()[:5000])
    assert "not an ONNX file" in refused(tmp_path / "cut.onnx", tmp_path, capsys)


@pytest.mark.parametrize("location", ["../weights.data", "/etc/hostname", "inner/weights.data"])
def test_weights_in_another_folder_are_refused_unread(
    location: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def move(model: ModelProto) -> None:
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location

    model = onnx.load(PADIM, load_external_data=False)
    move(model)
    (tmp_path / "moved.onnx").write_bytes(model.SerializeToString())
    said = refused(tmp_path / "moved.onnx", tmp_path, capsys)
    assert f"said to be in {location!r}: expected a file beside it" in said


def test_an_entity_in_an_ir_is_refused_before_a_library_reads_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    xml = (EXPORTS / RAW).read_text("utf-8").replace("<net ", "<!DOCTYPE net []><net ", 1)
    (tmp_path / "model.xml").write_text(xml, "utf-8")
    shutil.copy((EXPORTS / RAW).with_suffix(".bin"), tmp_path / "model.bin")
    assert "model.xml" in refused(tmp_path / "model.xml", tmp_path, capsys)


def drop_map(model: ModelProto) -> None:
    kept = [output for output in model.graph.output if output.name != "anomaly_map"]
    del model.graph.output[:]
    model.graph.output.extend(kept)


def take_bytes(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    model.graph.input[0].name = "picture"
    model.graph.node.insert(0, helper.make_node("Cast", ["picture"], ["input"], to=1))


def add_operator_of_others(model: ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.example", 1))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (drop_map, "expected outputs pred_score and anomaly_map"),
        (
            take_bytes,
            "expected (N, 3, H, W) float32, as anomalib exports it, got picture (N, 3, 96",
        ),
        (add_operator_of_others, "operator domain 'com.example'"),
    ],
)
def test_a_graph_with_another_contract_is_refused(
    change: Callable[[ModelProto], None],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert said in refused(spoilt(tmp_path, change), tmp_path, capsys)


def test_an_export_that_computes_in_eight_bits_is_refused_for_now(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def quantize(model: ModelProto) -> None:
        constants = {"scale": np.float32(1 / 255), "zero": np.uint8(0)}
        for name, value in constants.items():
            model.graph.initializer.append(numpy_helper.from_array(np.array(value), name))
        first = model.graph.node[0]
        first.input[0] = "rounded"
        for kind, names in (
            ("DequantizeLinear", ["quantized", "rounded"]),
            ("QuantizeLinear", ["input", "quantized"]),
        ):
            node = helper.make_node(kind, [names[0], "scale", "zero"], [names[1]])
            model.graph.node.insert(0, node)

    said = refused(spoilt(tmp_path, quantize), tmp_path, capsys)
    assert "computes in 8 bits, which is not supported yet" in said


def test_a_label_that_is_not_the_scores_own_is_a_failed_gate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def label_raw_scores(model: ModelProto) -> None:
        (label,) = [node for node in model.graph.node if "pred_label" in node.output]
        (score,) = [node for node in model.graph.node if "pred_score" in node.output]
        label.input[0] = score.input[2]  # the distance before it is normalised

    said = refused(spoilt(tmp_path, label_raw_scores), tmp_path, capsys, code=8)
    assert "pred_label is True where the score is" in said


def test_normalisation_that_is_switched_off_leaves_no_threshold_to_trust(tmp_path: Path) -> None:
    def never_validated(model: ModelProto) -> None:
        """As exported of a model that has seen no range of scores: the graph passes them on."""
        (score,) = [node for node in model.graph.node if "pred_score" in node.output]
        for tensor in model.graph.initializer:
            if tensor.name == score.input[0]:
                tensor.CopyFrom(numpy_helper.from_array(np.array(False), tensor.name))

    bundle = convert(spoilt(tmp_path, never_validated), tmp_path / "bundle")
    assert bundle.manifest.threshold.value is None
    assert bundle.manifest.scorers[0].parameters["highest_score"] is None
    model = load_model(bundle, engine_of("padim.onnx"))
    with pytest.raises(InputError, match="no threshold and nothing is enrolled"):
        build_pipeline(model, camera_config(), None, TokenCache(tmp_path))


def test_pictures_on_which_nothing_could_differ_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "same").mkdir()
    for index in range(8):
        (tmp_path / "same" / f"{index}.png").write_bytes(encode_png(board_pictures()[0]))
    said = refused(PADIM, tmp_path, capsys, "--pictures", str(tmp_path / "same"))
    assert "nothing can be compared" in said
    assert "--pictures" in said


def any_size(model: ModelProto) -> None:
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"side{axis}"


def test_a_file_of_any_size_needs_to_be_told_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = spoilt(tmp_path, any_size)
    assert "say with --size which one it was trained with" in refused(file, tmp_path, capsys)
    assert "expected sides of 16 to 4096 px" in refused(file, tmp_path, capsys, "--size", "8")
    assert convert(file, tmp_path / "told", "--size", "96").manifest.input.size == (96, 96)


def test_a_size_that_is_not_the_files_own_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(PADIM, tmp_path, capsys, "--size", "128")
    assert "--size: expected the file's own size, got (128, 128)" in said


def test_paths_of_the_exporting_machine_do_not_reach_the_bundle(tmp_path: Path) -> None:
    def leave_traces(model: ModelProto) -> None:
        for node in model.graph.node:
            node.doc_string = "/home/somebody/model.py:17"
            node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value="/home/somebody/x.py")

    bundle = convert(spoilt(tmp_path, leave_traces), tmp_path / "bundle")
    assert b"somebody" not in bundle.read(bundle.manifest.graphs[0].paths[0])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--from-anomalib", "m.onnx", "--layers", "3"), "--layers: expected only beside"),
        (("--from-anomalib", "m.onnx", "--backbone", "efficientnet-lite0"), "not allowed with"),
        (("--backbone", "efficientnet-lite0", "--licence", "MIT"), "--licence: expected only"),
        (("--from-anomalib", "m.onnx", "--name", "a b"), "--name"),
        (("--from-anomalib", "m.onnx", "--licence", "M\x1bIT"), "--licence"),
        ((), "one of the arguments --backbone --from-anomalib --clip is required"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(
    options: Sequence[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*options, "--out", str(tmp_path / "out")])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_the_exports_checked_in_are_small_and_carry_no_paths() -> None:
    files: list[Any] = [path for path in EXPORTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2e6
    for path in files:
        assert b"site-packages" not in path.read_bytes(), path
