from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_golden_set import make_golden_set

from export_tools.conformance.__main__ import main
from export_tools.conformance.check import check_golden_set


@pytest.fixture(scope="module")
def published(shared_data: Path) -> Path:
    folder = shared_data.parent / "goldens" / "adaptclip"
    if not folder.is_dir():
        pytest.skip("the golden arrays of the published method are not here")
    return folder


@pytest.fixture(scope="module")
def other_sizes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_golden_set(tmp_path_factory.mktemp("golden") / "set")


def altered(source: Path, copy: Path, file: str, key: str) -> Path:
    """A copy with one value of one array changed by a hundredth."""
    shutil.copytree(source, copy)
    arrays: dict[str, Any] = dict(np.load(copy / file))
    array = arrays[key].copy()
    array.flat[array.size // 2] += 0.01 if array.dtype.kind == "f" else 1
    np.savez(copy / file, **(arrays | {key: array}))
    return copy


def test_every_published_array_agrees(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(published)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 700
    assert lines[-1] == f"{len(lines) - 1} arrays compared, 0 failed"


def test_a_set_of_other_widths_depths_patches_and_shots_passes_unchanged(
    other_sizes: Path,
) -> None:
    rows = check_golden_set(other_sizes)
    assert [row for row in rows if not row.passed] == []
    names = {row.key for row in rows}
    assert {"3shot_score", "2shot_align_idx_L5", "1shot_noctx_map", "prompt_c_patch_L2"} <= names
    assert {"train_step2_after/pq_learner.sharebn.1.running_var", "aliasquirk_patch_L3"} <= names


@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("outputs.npz", "zero_score"),
        ("outputs.npz", "1shot_noctx_map"),
        ("outputs.npz", "3shot_align_idx_L2"),
        ("train.npz", "train_step2_grad/textual_learner.ctx_neg"),
        ("train.npz", "train_step1_after/visual_learner.local_adater.fc.1.running_mean"),
        ("weights.npz", "pq_learner/global_adapter.1.0.weight"),
        ("metrics.npz", "plain_aupro_curve_pro"),
        ("preprocess.npz", "gray_tensor"),
    ],
)
def test_one_altered_value_fails(other_sizes: Path, tmp_path: Path, file: str, key: str) -> None:
    rows = check_golden_set(altered(other_sizes, tmp_path / "copy", file, key))
    assert (file, key) in {(row.file, row.key) for row in rows if not row.passed}


def test_an_altered_input_fails_where_it_is_used(other_sizes: Path, tmp_path: Path) -> None:
    copy = altered(other_sizes, tmp_path / "copy", "inputs.npz", "query")
    arrays = dict(np.load(copy / "inputs.npz"))
    arrays["query"][0, 0, 0, 0] += 1
    np.savez(copy / "inputs.npz", **arrays)
    failed = {row.key for row in check_golden_set(copy) if not row.passed}
    assert "query_patch_L2" in failed


def test_an_array_that_no_check_claims_fails(
    other_sizes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(other_sizes, copy)
    arrays: dict[str, Any] = dict(np.load(copy / "outputs.npz"))
    np.savez(copy / "outputs.npz", **arrays, depth_map=np.zeros(3))
    assert main([str(copy), "--json"]) == 8
    document = json.loads(capsys.readouterr().out)
    (row,) = [row for row in document["rows"] if not row["passed"]]
    assert row["key"] == "depth_map"
    assert row["remark"] == "no check claims this array"
    assert document["failed"] == 1


def test_a_value_that_is_no_number_never_agrees(other_sizes: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(other_sizes, copy)
    arrays: dict[str, Any] = dict(np.load(copy / "outputs.npz"))
    spoilt = arrays["zero_map"].copy()
    spoilt[0, 0, 0] = np.nan
    np.savez(copy / "outputs.npz", **(arrays | {"zero_map": spoilt}))
    (row,) = [row for row in check_golden_set(copy) if not row.passed]
    assert (row.key, row.remark) == ("zero_map", "a value is not finite")


def test_a_folder_that_is_no_golden_set_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 11
    assert "config.json" in capsys.readouterr().err


def test_the_activation_is_that_of_the_configuration(other_sizes: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(other_sizes, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"activation": "gelu"}))
    failed = {row.key for row in check_golden_set(copy) if not row.passed}
    assert "query_cls" in failed
