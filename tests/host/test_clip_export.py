"""From files as they are published to an evaluated bundle, through the documents' commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from clip_repository import SETTINGS, make_repository
from labelled_parts import write_mvtec

from edge_sdk.bundle import open_bundle
from edge_sdk.cli import evaluate
from export_tools.adaptclip.adapters import Adapters, AdapterSettings
from export_tools.adaptclip.checkpoint import save_released
from export_tools.backbones.spec import clip_spec
from export_tools.cli import main
from export_tools.clip.weights import load_clip

SIZES = ("--size", "64", "--layers", "2,3")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tower in open_clip's layout, and adapters in the released one."""
    root = tmp_path_factory.mktemp("published")
    tower = make_repository(root / "tower")
    clip = load_clip(str(tower), SETTINGS)
    adapters = Adapters(
        clip_spec(clip.vision), text_width=64, settings=AdapterSettings(mid=8), seed=2
    )
    save_released(adapters, clip.text, root / "epoch_15.pth")
    return tower, root / "epoch_15.pth"


def test_published_files_become_a_bundle_that_edge_eval_judges_as_published(
    published: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tower, adapters = published
    out = tmp_path / "bundle"
    command = ["--clip", str(tower), *SIZES, "--adapters", str(adapters), "--out", str(out)]
    assert main([*command, "--licence", "mine", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["trained_branches"] == ["textual", "visual", "prompt_query"]
    assert answer["licence"] == "mine"
    assert answer["commercial_use"] == "unknown"
    model = open_bundle(out).manifest.model
    assert not model.random_weights
    assert "epoch_15.pth, sha256 " in model.weights_source

    data = write_mvtec(tmp_path / "part")
    figures = tmp_path / "figures.json"
    words = ["--bundle", str(out), "--data", str(data), "--shots", "0,1,2", "--seeds", "10,20"]
    words += ["--sampling", "adaptclip", "--definitions", "adaptclip", "--no-nuisance"]
    assert evaluate.main([*words, "--json", str(figures)]) == 0
    (category,) = json.loads(figures.read_text())["categories"]
    assert [entry["shots"] for entry in category["shots"]] == ["0", "1", "2"]


@pytest.mark.slow
def test_fewer_bits_of_published_weights_are_proven_or_left_out(
    published: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tower, adapters = published
    out = tmp_path / "bundle"
    command = ["--clip", str(tower), *SIZES, "--adapters", str(adapters), "--out", str(out)]
    command += ["--precision", "fp32,fp16,int8", "--format", "onnx,openvino"]
    assert main([*command, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["variants"]
    assert {(row["format"], row["precision"]) for row in rows} == {
        ("openvino", "fp32"),
        ("onnx", "fp16"),
        ("openvino", "fp16"),
        ("onnx", "int8"),
        ("openvino", "int8"),
    }
    assert {row["judged"] for row in rows} == {"few-shot", "zero-shot"}
    parity = open_bundle(out).manifest.parity
    assert {(row.weights, row.verdict) for row in parity} == {("real", "ok")}
    written = {
        (graph.format, graph.precision)
        for graph in open_bundle(out).manifest.graphs
        if graph.role == "encoder"
    }
    passed = {(row["format"], row["precision"]) for row in rows} - {
        (row["format"], row["precision"]) for row in rows if row["failures"]
    }
    assert written >= passed | {("onnx", "fp32"), ("openvino", "fp32")}


@pytest.mark.slow
def test_a_tower_alone_says_that_no_adapter_is_trained(
    published: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tower, _ = published
    out = tmp_path / "bundle"
    assert main(["--clip", str(tower), *SIZES, "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trained_branches"] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--adapters-sha256", "00" * 32], "expected sha256 00"),
        (["--weights-sha256", "00" * 32], "expected sha256 00"),
        (["--size", "70"], "multiple of the patch of 16 px, got 70 px"),
        (["--size", "64x48"], "takes squares, got 64x48"),
        (["--layers", "2"], "expected it listed for 1 layers"),
        (["--layers", "2,9"], r"expected ascending blocks out of 1..3, got [2, 9]"),
    ],
)
def test_what_cannot_be_exported_is_exit_11(
    published: tuple[Path, Path],
    tmp_path: Path,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tower, adapters = published
    command = ["--clip", str(tower), *SIZES, "--adapters", str(adapters)]
    assert main([*command, *words, "--out", str(tmp_path / "b")]) == 11
    assert message in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_an_unknown_tower_names_the_known_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in ([], ["--random-weights", "1"]):
        assert main(["--clip", "ViT-X", *more, "--out", str(tmp_path / "b")]) == 11
        assert "expected one of ViT-L-14-336, ViT-B-16-plus-240" in capsys.readouterr().err


def test_options_of_other_ways_are_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, said in (
        (["--clip", "ViT-B-32", "--kernel", "area"], "--kernel"),
        (["--backbone", "efficientnet-lite0", "--revision", "1"], "--revision"),
        (["--backbone", "efficientnet-lite0", "--adapters", "a", "--offline"], "--offline"),
    ):
        with pytest.raises(SystemExit) as ended:
            main([*words, "--out", str(tmp_path / "b")])
        assert ended.value.code == 2
        assert said in capsys.readouterr().err


@pytest.mark.slow
def test_a_preset_with_random_numbers_is_exported_in_full_size_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bundle"
    command = ["--clip", "TinyCLIP-ViT-8M-16", "--random-weights", "3", "--out", str(out)]
    assert main([*command, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["trained_branches"] == []
    assert open_bundle(out).manifest.model.random_weights
