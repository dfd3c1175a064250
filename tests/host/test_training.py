"""``edge-train`` from base data to adapters that ``edge-export`` takes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clip_repository import make_repository
from commands import Box
from labelled_parts import save
from lite0 import bottles
from scenes import fixture_part
from training_data import empty_masks, write_category, write_good, write_pairs

from edge_sdk.bundle import open_bundle
from edge_sdk.cli import evaluate
from edge_sdk.pipeline import as_frame
from edge_sdk.preprocess import Preprocessor
from edge_sdk.records import PatchFeatures, TokenGrid
from edge_sdk.scoring.nearest_neighbour import NearestNeighbourSettings, embed
from export_tools.adaptclip.checkpoint import read_notes
from export_tools.bundle_words import input_spec, scorer_spec
from export_tools.cli import main as edge_export
from export_tools.recipe import RECIPES
from export_tools.tensors import read_tensors
from export_tools.training.checkpoint import checkpoint_of
from export_tools.training.command import main
from export_tools.training.examples import collect
from export_tools.training.feature_cache import FeatureCache, Features
from export_tools.training.frozen import cnn_backbone
from export_tools.training.train import batches
from export_tools.training.validation import split_examples

CNN = ("--backbone", "efficientnet-lite0", "--size", "64", "--layers", "5")
SIZES = ("--size", "64", "--layers", "2,3")


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_repository(tmp_path_factory.mktemp("published") / "tower")


@pytest.fixture(scope="module")
def category(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_category(tmp_path_factory.mktemp("base") / "part")


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def train(words: Sequence[str]) -> int:
    """On one thread: several that wait for one another are slow on a machine that has others."""
    return main([*words, "--threads", "1"])


def bytes_of(out: Path, *words: object) -> bytes:
    assert train([*map(str, words), "--out", str(out)]) == 0
    assert not checkpoint_of(out).exists(), "a finished training leaves nothing to go on with"
    return out.read_bytes()


def last_row(answer: dict[str, Any]) -> dict[str, Any]:
    row = answer["history"][-1]
    assert isinstance(row, dict)
    return row


@pytest.mark.slow
def test_adapters_of_a_clip_tower_are_trained_exported_and_say_what_they_saw(
    tower: Path, category: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, released = tmp_path / "adapters.safetensors", tmp_path / "epoch_2.pth"
    words = ["--clip", str(tower), *SIZES, "--data", str(category), "--epochs", "2"]
    words += ["--licence", "mine", "--commercial-use", "no", "--released-layout", str(released)]
    assert train([*words, "--out", str(out), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [row["epoch"] for row in answer["history"]] == [0, 1, 2]
    assert last_row(answer).keys() >= {"visual", "textual", "prompt_query", "zero_shot", "image"}
    assert answer["notes"]["training_data"] == "part (6 good, 6 bad)"

    bundle = tmp_path / "bundle"
    export = ["--clip", str(tower), *SIZES, "--out", str(bundle), "--json"]
    assert edge_export([*export, "--adapters", str(out)]) == 0
    capsys.readouterr()
    manifest = open_bundle(bundle).manifest
    assert manifest.model.trained_branches == ("textual", "visual", "prompt_query")
    assert manifest.training_data.endswith("adapters: part (6 good, 6 bad)")
    assert manifest.licence.endswith("adapters: mine")
    assert manifest.commercial_use == "no"

    ours, _ = read_tensors(out)
    theirs, _ = read_tensors(released)
    assert torch.equal(theirs["textual_learner.ctx_pos"], ours["textual.ctx_pos"])
    shared = theirs["pq_learner.local_adapter.1.0.weight"]
    assert torch.equal(shared, ours["prompt_query.local_head.0.weight"])


def test_adapters_are_refused_beside_another_tower_of_the_same_sizes(
    tower: Path, category: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "adapters.safetensors"
    bytes_of(out, "--clip", tower, *SIZES, "--data", category, "--epochs", 1)
    from clip_repository import make_state

    other = make_repository(tmp_path / "other", state=make_state(seed=4))
    for source, layers in ((other, "2,3"), (tower, "1,3")):
        export = ["--clip", str(source), "--size", "64", "--layers", layers]
        assert edge_export([*export, "--adapters", str(out), "--out", str(tmp_path / "b")]) == 11
        assert "trained with" in capsys.readouterr().err


@pytest.mark.slow
def test_without_any_defect_the_adapter_learns_to_see_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write_good(tmp_path / "good", 16)
    words = ["--backbone", "efficientnet-lite0", "--size", "64", "--layers", "3,5"]
    words += ["--synthetic", str(good), "--epochs", "12", "--validation", "0.3"]
    assert train([*words, "--out", str(tmp_path / "pq.safetensors"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert set(answer["counts"]) == {"pq"}, "there are no texts to train"
    first, last = answer["history"][1], last_row(answer)
    assert last["prompt_query"] < 0.7 * first["prompt_query"]
    assert last["pixel"] > 0.9
    assert last["image"] > 0.75


@pytest.mark.slow
def test_aligned_pairs_train_a_prompt_query_adapter_that_a_device_judges_by(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs, out = write_pairs(tmp_path / "boards"), tmp_path / "pq.safetensors"
    bytes_of(out, *CNN, "--pairs", pairs, "--epochs", 1, "--commercial-use", "yes")
    assert read_notes(out)["backbone"] == "efficientnet-lite0"
    capsys.readouterr()

    bundle = tmp_path / "bundle"
    assert edge_export([*CNN, "--adapters", str(out), "--out", str(bundle), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["trained_branches"] == ["prompt_query"]
    assert answer["training_data"].endswith("adapters: pairs:boards (5 good, 5 bad)")
    assert answer["commercial_use"] == "yes"
    assert {row["compared"] for row in answer["parity"]} == {"tokens joined_5", "few-shot maps"}

    figures = tmp_path / "figures.json"
    words = ["--bundle", str(bundle), "--data", str(write_category(tmp_path / "part"))]
    words += ["--shots", "2", "--seeds", "0", "--no-nuisance", "--json", str(figures)]
    assert evaluate.main(words) == 0
    (category,) = json.loads(figures.read_text())["categories"]
    assert [entry["shots"] for entry in category["shots"]] == ["2"]


def test_adapters_of_a_clip_tower_are_refused_beside_a_backbone_without_texts(
    tower: Path, category: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "adapters.safetensors"
    bytes_of(out, "--clip", tower, *SIZES, "--data", category, "--epochs", 1)
    assert edge_export([*CNN, "--adapters", str(out), "--out", str(tmp_path / "b")]) == 11
    assert "adapters.safetensors: expected" in capsys.readouterr().err
    words = [*CNN, "--adapters", str(out), "--reach", "0.1", "--out", str(tmp_path / "b")]
    with pytest.raises(SystemExit) as ended:
        edge_export(words)
    assert ended.value.code == 2
    assert "--reach" in capsys.readouterr().err


@pytest.mark.slow
def test_a_seed_decides_every_bit_and_the_cache_none(category: Path, tmp_path: Path) -> None:
    words = (*CNN, "--data", category, "--epochs", 2)
    first = bytes_of(tmp_path / "a.safetensors", *words)
    assert bytes_of(tmp_path / "b.safetensors", *words) == first
    nowhere = (*words, "--cache", tmp_path / "none", "--cache-gib", 0)
    assert bytes_of(tmp_path / "c.safetensors", *nowhere) == first
    assert bytes_of(tmp_path / "d.safetensors", *words, "--seed", 11) != first


@pytest.mark.slow
def test_a_killed_training_is_gone_on_with_as_if_it_had_not_been(
    category: Path, tmp_path: Path
) -> None:
    box = Box(tmp_path / "box")
    words = [*CNN, "--data", str(category), "--epochs", "6"]
    unbroken = tmp_path / "unbroken.safetensors"
    assert train([*words, "--out", str(unbroken)]) == 0
    out = tmp_path / "killed.safetensors"
    program = "import sys; from export_tools.training.command import main; sys.exit(main())"
    command = [sys.executable, "-c", program, *words, "--threads", "1", "--out", str(out)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=box.environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.split()[:1] == ["2"]:
                process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not out.exists()
    assert checkpoint_of(out).exists()
    assert bytes_of(out, *words, "--resume") == unbroken.read_bytes()


def test_a_training_that_was_broken_off_is_not_begun_anew_by_mistake(
    category: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, out = broken_off(category, tmp_path)
    assert train([*words, "--out", str(out)]) == 3
    assert "--resume goes on with it" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--seed", "11"], "seed: expected 10, as the training was begun with, got 11"),
        (["--batch", "4"], "batch: expected 64"),
        (["--size", "80"], "data: expected"),
        (["--data", "MORE"], "data: expected"),
    ],
)
def test_another_configuration_is_not_gone_on_with(
    category: Path,
    tmp_path: Path,
    change: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words, out = broken_off(category, tmp_path)
    kept = checkpoint_of(out).read_bytes()
    if "MORE" in change:
        change = ["--data", str(write_category(tmp_path / "more"))]
    assert train([*words, *change, "--resume", "--out", str(out)]) == 11
    assert message in capsys.readouterr().err
    assert checkpoint_of(out).read_bytes() == kept


def broken_off(category: Path, tmp_path: Path) -> tuple[list[str], Path]:
    """A training whose second step is no number: its first is kept."""
    out = tmp_path / "broken.safetensors"
    words = [*CNN, "--data", str(category), "--batch", "64", "--validation", "0"]
    words += ["--learning-rate", "1e30"]
    assert train([*words, "--out", str(out)]) == 11
    return words, out


def test_a_loss_that_is_no_number_ends_the_training_and_keeps_the_last_good_checkpoint(
    category: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out = broken_off(category, tmp_path)
    said = capsys.readouterr().err
    assert "epoch 2: training: expected a finite loss, got nan" in said
    assert (
        f"the last good checkpoint is kept, --resume goes on from it: {checkpoint_of(out)}" in said
    )
    assert not out.exists()
    tensors, _ = read_tensors(checkpoint_of(out).rename(tmp_path / "kept.safetensors"))
    assert tensors, "every number in it is finite, or it would not be read"


def test_there_must_be_something_to_go_on_with(
    category: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new.safetensors"
    words = [*CNN, "--data", str(category), "--out", str(out), "--resume"]
    assert train(words) == 11
    assert "expected the checkpoint of a training to go on with" in capsys.readouterr().err
    checkpoint_of(out).write_bytes(b"no tensors")
    assert train(words) == 11
    assert "expected a checkpoint of edge-train" in capsys.readouterr().err


@pytest.mark.slow
def test_a_full_disk_in_the_feature_cache_says_so_and_keeps_the_checkpoint(
    category: Path, tmp_path: Path
) -> None:
    words, out = broken_off(category, tmp_path)
    kept = checkpoint_of(out).read_bytes()
    program = (
        "import resource, signal, sys\n"
        "from export_tools.training.command import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "sys.exit(main())"
    )
    cache = tmp_path / "full"
    ended = subprocess.run(
        [sys.executable, "-c", program, *words, "--out", out, "--resume", "--cache", cache],
        capture_output=True,
        text=True,
        check=False,
        env=Box(tmp_path / "box").environment,
    )
    assert ended.returncode == 1, ended.stderr
    assert f"{cache}: the feature cache cannot be used: " in ended.stderr
    assert "File too large" in ended.stderr
    assert "choose another place with --cache" in ended.stderr
    assert f"--resume goes on from it: {checkpoint_of(out)}" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(cache.iterdir()) == [], "no torn file is left"
    assert checkpoint_of(out).read_bytes() == kept


def without_masks(root: Path) -> list[str]:
    (write_category(root) / "ground_truth").rename(root / "elsewhere")
    return ["--data", str(root)]


def masks_all_empty(root: Path) -> list[str]:
    empty_masks(write_category(root))
    return ["--data", str(root)]


def mask_of_another_size(root: Path) -> list[str]:
    write_category(root)
    mask = root / "ground_truth" / "missing" / "000_mask.png"
    save(mask, np.full((8, 8, 1), 255, np.uint8))
    return ["--data", str(root)]


def good_alone(root: Path) -> list[str]:
    write_category(root, bad=0)
    return ["--data", str(root)]


def bad_alone(root: Path) -> list[str]:
    write_category(root, good=0)
    return ["--data", str(root)]


def a_single_good_picture(root: Path) -> list[str]:
    return ["--synthetic", str(write_good(root, 1))]


def nothing(root: Path) -> list[str]:
    root.mkdir()
    return ["--synthetic", str(root)]


def a_pair_without_template(root: Path) -> list[str]:
    (write_pairs(root) / "template" / "003.png").unlink()
    return ["--pairs", str(root)]


def a_picture_that_is_none(root: Path) -> list[str]:
    (write_good(root) / "004.png").write_bytes(b"not a picture")
    return ["--synthetic", str(root)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (without_masks, "expected masks of its 6 bad pictures, found none"),
        (masks_all_empty, "000_mask.png: the mask of a bad picture marks nothing"),
        (mask_of_another_size, "000_mask.png: expected the size of its picture, 32x32, got 8x8"),
        (good_alone, "expected bad test pictures, found none"),
        (bad_alone, "expected good test pictures, found none"),
        (a_single_good_picture, "expected at least 2 good pictures, got 1"),
        (nothing, "expected pictures (.bmp, .jpeg, .jpg, .png), or categories with train/good"),
        (a_pair_without_template, "template: expected a picture for each of the 5 tested ones"),
        (a_picture_that_is_none, "004.png: expected a PNG, JPEG or BMP picture"),
    ],
)
def test_base_data_that_cannot_be_trained_on_is_exit_11(
    tmp_path: Path, make: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pq.safetensors"
    assert train([*CNN, *make(tmp_path / "base"), "--out", str(out)]) == 11
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.glob("*pq*")) == []


def test_bad_pictures_without_a_mask_beside_others_are_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_category(tmp_path / "part")
    for index in range(3):
        save(root / "test" / "stain" / f"{index}.png", fixture_part(index))
    words = [*CNN, "--data", str(root), "--epochs", "1", "--json"]
    assert train([*words, "--out", str(tmp_path / "pq.safetensors")]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["left_out"] == 3
    assert "3 bad pictures without a mask are left out" in said.err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([*CNN, "--out", "a.safetensors"], 2, "expected --data, --pairs or --synthetic"),
        (
            [*CNN, "--data", "x", "--released-layout", "a.pth", "--out", "a.safetensors"],
            2,
            "--released-layout: expected only beside --clip",
        ),
        ([*CNN, "--data", "x", "--out", "a.pth"], 3, "expected a file that ends in .safetensors"),
        ([*CNN, "--data", "x", "--out", "no/a.safetensors"], 3, "in a folder that is there"),
        ([*CNN, "--data", "x", "--epochs", "0", "--out", "a.safetensors"], 11, "at least 1 epoch"),
        ([*CNN, "--data", "x", "--out", "a.safetensors"], 11, "x: expected a folder of pictures"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_read(
    words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        got = train(words)
    except SystemExit as ended:
        got = int(ended.code or 0)
    assert got == code
    assert message in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_exit_7(
    category: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*CNN, "--data", str(category), "--device", "cuda"]
    assert train([*words, "--out", str(tmp_path / "a.safetensors")]) == 7
    assert "expected a CUDA device" in capsys.readouterr().err


def test_a_piece_is_on_one_side_of_the_split_and_never_beside_the_other(tmp_path: Path) -> None:
    data = collect(
        labelled=[write_category(tmp_path / "part")],
        pairs=[write_pairs(tmp_path / "boards")],
        good=[write_good(tmp_path / "screws")],
        variants=2,
        seed=1,
    )
    training, held_out = split_examples(data.examples, 0.25, seed=3)
    assert len(training) + len(held_out) == len(data.examples)
    shown = {prompt.path for example in training for prompt in example.prompts}
    for example in held_out:
        assert example.source.path not in {one.source.path for one in training}
        assert example.source.path not in shown or example.category == "pairs:boards"
    for category in ("part", "pairs:boards", "synthetic:screws"):
        sides = {one.is_bad for one in held_out if one.category == category}
        assert sides == {True, False}, f"{category} is held out of with both classes"
    boards = {one.group for one in held_out if one.category == "pairs:boards"}
    assert boards.isdisjoint(one.group for one in training if one.category == "pairs:boards")


def test_a_single_picture_never_makes_a_batch() -> None:
    assert batches(17, 8) == [(0, 8), (8, 17)]
    assert batches(18, 8) == [(0, 8), (8, 16), (16, 18)]
    assert batches(3, 8) == [(0, 3)]


def features(value: float) -> Features:
    return Features((torch.full((10, 8), value).half(),), None)


def test_the_cache_is_bounded_and_gives_up_first_what_nobody_has_asked_for(tmp_path: Path) -> None:
    size = 0
    first = FeatureCache(tmp_path, 10**6)
    for name in ("a", "b", "c"):
        first.write(name, features(1))
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    second = FeatureCache(tmp_path, size)
    assert second.has("a")
    second.write("d", features(2))
    assert not second.has("b"), "the oldest that this run has not asked for"
    assert second.has("a")
    second.write("e", features(3))
    second.write("f", features(4))
    assert second.left_out == 1, "what is in use is not pushed out by what comes later"
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= size


def test_a_damaged_file_of_features_is_as_good_as_none(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, 10**6)
    cache.write("a", features(1))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-7])
    assert cache.read("a") is None


def test_joined_stages_are_what_the_nearest_neighbours_of_the_device_compare() -> None:
    recipe = RECIPES["efficientnet-lite1"]
    backbone = cnn_backbone(recipe, torch.device("cpu"))
    (picture,) = bottles(1, 256)
    joined = backbone.encode(picture).tokens[0].float().numpy()

    frame = Preprocessor(input_spec(recipe))(as_frame(picture))
    mean, std = (np.asarray(value, np.float32) for value in (recipe.mean, recipe.std))
    planes = torch.from_numpy((frame.tensor / np.float32(255) - mean) / std).permute(0, 3, 1, 2)
    from export_tools.backbones.efficientnet_lite import (
        VARIANTS,
        EfficientNetLite,
        load_imagenet_weights,
    )
    from export_tools.weights import load_weights

    model = EfficientNetLite(VARIANTS[recipe.backbone], recipe.layers, recipe.last_blocks)
    load_imagenet_weights(model, load_weights(recipe.weights))
    with torch.no_grad():
        tokens = model.eval()(planes.float())
    grids = {5: (16, 16), 6: (8, 8)}
    given = PatchFeatures(
        tokens={
            ("conv", layer): TokenGrid(rows=rows[0].numpy(), grid=grids[layer])
            for layer, rows in zip(recipe.layers, tokens, strict=True)
        },
        class_token=None,
        extractor_id="sha256:" + "0" * 64,
        preprocessed=frame,
    )
    expected = embed(given, NearestNeighbourSettings.from_spec(scorer_spec(recipe))).rows
    assert np.abs(joined - expected).max() < 5e-4, "half a step of float16 near 1"
