"""Figures of an evaluation against what its own table of scores says, worked out by others."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import validate
from labelled_parts import save, write_mvtec
from scenes import SIDE, fixture_part, make_bundle

import edge_sdk.evaluation
from edge_sdk.config import default_config, override_config
from edge_sdk.errors import BundleError, InputError
from edge_sdk.evaluation.draw import read_mask
from edge_sdk.evaluation.layouts import Picture, find_categories
from edge_sdk.evaluation.plant import rates, run_in_threshold, suitability
from edge_sdk.evaluation.run import Plan, evaluate, load, pictures_of
from edge_sdk.evaluation.scores import COLUMNS, ScoreRow, read_scores, write_scores
from edge_sdk.evaluation.summary import rows_of, summarize

SCHEMA = json.loads(
    (Path(edge_sdk.evaluation.__file__).parent / "schemas" / "evaluation.json").read_text()
)


def plan_of(tmp_path: Path, **changes: Any) -> Plan:
    if not (tmp_path / "bundle").exists():
        make_bundle(tmp_path / "bundle")
    if not (tmp_path / "data").exists():
        write_mvtec(tmp_path / "data" / "plate", train=26, good=9, bad=5)
    values: dict[str, Any] = {
        "config": override_config(
            default_config(), {("engine", "name"): "onnxruntime", ("engine", "threads"): 1}
        ),
        "bundle": tmp_path / "bundle",
        "scorer": "bundle",
        "categories": tuple(find_categories([tmp_path / "data"])),
        "shots": (4,),
        "seeds": (0, 1),
        "sampling": "without_replacement",
        "definition": "standard",
        "with_nuisance": True,
        "native_size": False,
    }
    return Plan(**(values | changes))


def run(plan: Plan, **options: Any) -> list[dict[str, Any]]:
    settings: dict[str, Any] = {"workers": 1, "kept": None, "advance": lambda _: None}
    return evaluate(plan, **(settings | options))


def answer_of(plan: Plan, results: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    setting = {
        "bundle_id": "sha256:0",
        "scorer": plan.scorer,
        "engine": "onnxruntime",
        "precision": "fp32",
        "sampling": plan.sampling,
        "pixel_size": [SIDE, SIDE],
    }
    return summarize(
        plan.categories,
        results,
        definition=plan.definition,
        severity=options.get("severity", ()),
        setting=setting,
    )


def without_times(results: list[dict[str, Any]]) -> list[Any]:
    for result in results:
        for row in result["rows"]:
            for name in [name for name in row if name.endswith("_ms")]:
                del row[name]
    return results


def test_every_figure_of_whole_pictures_is_recomputed_from_the_csv_with_scikit_learn(
    tmp_path: Path,
) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    plan = plan_of(tmp_path, shots=(2, 4))
    results = run(plan)
    summary = answer_of(plan, results)
    validate(summary, SCHEMA)
    write_scores(tmp_path / "scores.csv", [row for result in results for row in rows_of(result)])
    rows = read_scores(tmp_path / "scores.csv")
    assert rows == [row for result in results for row in rows_of(result)]
    (category,) = summary["categories"]
    for shots in category["shots"]:
        for index, seed in enumerate(shots["seeds"]):
            mine = [
                row
                for row in rows
                if (row.shots, row.seed, row.part, row.condition)
                == (shots["shots"], seed, "test", "as it is")
            ]
            truth, scores = [row.is_bad for row in mine], [row.score for row in mine]
            precision, recall, _ = sklearn.precision_recall_curve(truth, scores)
            f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
            expected = {
                "image_auroc": sklearn.roc_auc_score(truth, scores),
                "image_ap": sklearn.average_precision_score(truth, scores),
                "image_f1_max": f1.max(),
            }
            for name, value in expected.items():
                assert shots["figures"][name]["values"][index] == pytest.approx(value), name
            false, true, _ = sklearn.roc_curve(truth, scores, drop_intermediate=False)
            for percent in (1, 5):
                allowed = math.floor(percent / 100 * 9) / 9
                best = true[false <= allowed + 1e-9].max()
                found = shots["figures"][f"escapes_at_{percent}_percent"]["values"][index]
                assert found == pytest.approx(1 - best)
            alarmed = [row for row in mine if row.verdict == "anomalous"]
            fitted = shots["fitted"]
            assert fitted["thresholds"][index] == mine[0].threshold
            wrongly = sum(not row.is_bad for row in alarmed) / 9
            assert fitted["false_alarms"]["values"][index] == pytest.approx(wrongly)
            missed = 1 - sum(row.is_bad for row in alarmed) / 10
            assert fitted["escapes"]["values"][index] == pytest.approx(missed)
        figure = shots["figures"]["image_auroc"]
        assert figure["mean"] == pytest.approx(np.mean(figure["values"]))
        assert figure["std"] == pytest.approx(np.std(figure["values"], ddof=1))


def test_missing_labels_are_found_and_the_promise_is_compared_with_the_truth(
    tmp_path: Path,
) -> None:
    plan = plan_of(tmp_path)
    (shots,) = answer_of(plan, run(plan))["categories"][0]["shots"]
    assert shots["figures"]["image_auroc"]["mean"] > 0.8
    assert shots["figures"]["pixel_auroc"]["mean"] > 0.8
    assert shots["bad_without_mask"] == 5
    fitted = shots["fitted"]
    assert fitted["promised_false_alarms"] == pytest.approx(1 / 5)
    gap = fitted["false_alarms"]["mean"] - 1 / 5
    assert fitted["truth_minus_promise"] == pytest.approx(gap)
    low, high = fitted["false_alarms"]["interval"]
    assert low <= fitted["false_alarms"]["mean"] <= high
    assert [entry["parts"] for entry in shots["run_in"]] == [20]
    assert {entry["condition"] for entry in shots["nuisance"]} == {
        "as it is",
        "lamp -15 %",
        "lamp +15 %",
        "shift 4 px",
        "defocus",
    }
    assert shots["suitability"]["is_suitable"] is True
    assert shots["suitability"]["was_right"] is True


def test_workers_and_a_second_start_change_no_result(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, shots=(1, 2, None), seeds=(0, 1))
    alone = run(plan)
    counted: list[int] = []
    together = run(plan, workers=2, kept=tmp_path / "kept", advance=counted.append)
    assert sum(counted) == sum(pictures_of(draw) for draw in plan.draws())
    assert without_times(alone) == without_times(together)
    # Started again with one draw lost: only that one is worked out.
    files = sorted((tmp_path / "kept").glob("*.json"))
    assert len(files) == len(plan.draws()) == 5
    times = {path: path.stat().st_mtime_ns for path in files}
    files[2].write_bytes(files[2].read_bytes()[:100])
    again = run(plan, kept=tmp_path / "kept")
    assert without_times(again) == alone
    for path in files:
        assert (path.stat().st_mtime_ns == times[path]) == (path != files[2])


def test_a_changed_picture_is_judged_again(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, seeds=(0,), with_nuisance=False)
    before = run(plan, kept=tmp_path / "kept")
    changed = plan.categories[0].test[0].path
    save(changed, fixture_part(5, is_complete=False))
    after = run(plan, kept=tmp_path / "kept")
    assert before[0]["rows"][0]["file"] == after[0]["rows"][0]["file"]
    assert before[0]["rows"][0]["score"] != after[0]["rows"][0]["score"]


def test_one_reference_or_too_many_have_ranking_figures_and_no_verdict(tmp_path: Path) -> None:
    write_mvtec(tmp_path / "data" / "plate", train=66, good=3, bad=1)
    plan = plan_of(tmp_path, shots=(1, None), seeds=(0,))
    results = run(plan)
    summary = answer_of(plan, results)
    validate(summary, SCHEMA)
    for result, shots in zip(results, summary["categories"][0]["shots"], strict=True):
        assert result["threshold"] is None
        assert {(row["threshold"], row["verdict"]) for row in result["rows"]} == {(None, "")}
        assert shots["fitted"] is None
        assert shots["figures"]["image_auroc"]["mean"] is not None


def test_full_means_every_good_picture_and_is_drawn_once(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, shots=(None,), seeds=(3, 4))
    (result,) = run(plan)
    assert len(result["references"]) == 26
    assert {row["part"] for row in result["rows"]} == {"test"}


@pytest.mark.parametrize("scorer", ["nearest_neighbour_plain", "frame_difference"])
def test_baselines_go_the_same_way(tmp_path: Path, scorer: str) -> None:
    plan = plan_of(tmp_path, scorer=scorer, seeds=(0,), with_nuisance=False)
    summary = answer_of(plan, run(plan))
    validate(summary, SCHEMA)
    assert summary["categories"][0]["shots"][0]["figures"]["image_auroc"]["mean"] > 0.6


def test_severity_concordance_counts_pairs_of_kinds(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, seeds=(0,), with_nuisance=False)
    results = run(plan)
    summary = answer_of(plan, results, severity=("stain", "missing"))
    figure = summary["categories"][0]["shots"][0]["figures"]["severity_concordance"]
    level = {"good": 0, "stain": 1, "missing": 2}
    rows = [row for row in rows_of(results[0]) if row.part == "test"]
    pairs = [
        (a.score > b.score) + (a.score == b.score) / 2
        for a in rows
        for b in rows
        if a.score is not None and b.score is not None and level[a.kind] > level[b.kind]
    ]
    assert figure["mean"] == pytest.approx(np.mean(pairs))


def test_no_shots_are_refused_where_the_bundle_compares_with_references(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"--shots 0: .* compares with pictures of good parts"):
        load(plan_of(tmp_path, shots=(0, 4)))
    with pytest.raises(InputError, match="--scorer: expected one of bundle"):
        load(plan_of(tmp_path, scorer="magic"))


def test_fewer_pictures_than_shots_are_refused_before_anything_is_judged(tmp_path: Path) -> None:
    counted: list[int] = []
    with pytest.raises(InputError, match=r"plate: expected at least 27 good .* got 26"):
        run(plan_of(tmp_path, shots=(4, 27)), advance=counted.append)
    assert not counted


def test_a_mask_of_another_size_or_without_a_mark_names_its_file(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, seeds=(0,))
    mask = next(picture.mask for picture in plan.categories[0].test if picture.mask)
    save(mask, np.zeros((SIDE, SIDE, 1), np.uint8))
    with pytest.raises(InputError, match=r"Teil 0 ü_mask\.png: the mask .* marks nothing"):
        run(plan)
    save(mask, np.full((SIDE, SIDE - 2, 1), 255, np.uint8))
    with pytest.raises(InputError, match=r"expected the size of its picture, 32x32, got 30x32"):
        run(plan)
    picture = Picture(path=plan.categories[0].test[-1].path, kind="stain")
    assert read_mask(picture, fixture_part(0)) is None


def test_a_picture_that_does_not_decode_names_its_file(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, seeds=(0,))
    broken = plan.categories[0].test[3].path
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(InputError, match=broken.name):
        run(plan)


def test_a_black_picture_is_a_fault_and_counts_neither_as_good_nor_as_bad(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, seeds=(0,), with_nuisance=False)
    black = next(picture for picture in plan.categories[0].test if not picture.is_bad)
    save(black.path, np.zeros((SIDE, SIDE, 3), np.uint8))
    results = run(plan)
    (shots,) = answer_of(plan, results)["categories"][0]["shots"]
    (row,) = [row for row in rows_of(results[0]) if row.verdict == "fault"]
    assert row.file == plan.categories[0].file_name(black.path)
    assert shots["faults"] == 1


def test_pictures_of_a_category_may_differ_in_size(tmp_path: Path) -> None:
    write_mvtec(tmp_path / "data" / "plate", train=4)
    for path in (tmp_path / "data" / "plate" / "train" / "good").iterdir():
        save(path, fixture_part(1)[: SIDE - int(path.stem)])
    (result,) = run(plan_of(tmp_path, seeds=(0,), with_nuisance=False))
    assert result["threshold"] is not None


def test_pictures_that_all_look_the_same_rank_nothing(tmp_path: Path) -> None:
    root = tmp_path / "data" / "same"
    for place in ("train/good/0", "train/good/1", "test/good/0", "test/good/1", "test/x/0"):
        save(root / f"{place}.png", fixture_part(1))
    plan = plan_of(tmp_path, shots=(2,), seeds=(0,), with_nuisance=False)
    (shots,) = answer_of(plan, run(plan))["categories"][0]["shots"]
    assert shots["figures"]["image_auroc"]["mean"] == 0.5
    assert shots["figures"]["escapes_at_1_percent"]["mean"] == 1.0
    assert "pixel_auroc" not in shots["figures"]


def test_rows_that_are_no_rows_name_the_line(tmp_path: Path) -> None:
    table = tmp_path / "scores.csv"
    table.write_text("category,score\nx,1\n")
    with pytest.raises(InputError, match="expected the columns"):
        read_scores(table)
    cells = ["x", "4", "0", "test", "as it is", "a.png", "good", "good", "nan", *[""] * 2]
    table.write_text(",".join(COLUMNS) + "\n" + ",".join([*cells, "1", *[""] * 4]) + "\n")
    with pytest.raises(InputError, match=r"scores\.csv:2: the score of a\.png is not finite"):
        read_scores(table)


def test_a_run_in_threshold_keeps_its_promise_on_parts_it_has_not_seen() -> None:
    rng = np.random.default_rng(3)
    for parts in (20, 50, 100):
        rate = np.mean(
            [
                np.mean(
                    rng.gamma(2.0, size=200) > run_in_threshold(list(rng.gamma(2.0, size=parts)))
                )
                for _ in range(400)
            ]
        )
        assert rate < 0.06
    assert run_in_threshold([3.0, 1.0, 2.0]) == 3.0


def test_a_score_at_the_threshold_is_no_alarm() -> None:
    row = ScoreRow(
        category="x", shots="4", seed=0, part="test", condition="as it is", file="a", label="good",
        kind="good", score=0.5, threshold=0.5, verdict="normal", latency_ms=1.0, preprocess_ms=None,
        encode_ms=None, score_ms=None, decide_ms=None,
    )  # fmt: skip
    bad = replace(row, label="bad", kind="x", score=0.6)
    assert rates([row, bad], 0.5)["false_alarms"]["count"] == 0
    assert rates([row, bad], 0.5)["escapes"]["count"] == 0
    assert rates([row, bad], 0.6)["escapes"]["count"] == 1


def test_the_verdict_on_suitability_is_told_apart_from_the_truth() -> None:
    assert suitability([15.0, 16.0], 13.0, 0.48)["was_right"] is True
    assert suitability([15.0], 13.0, 0.9)["was_right"] is False
    assert suitability([], 13.0, 0.9)["is_suitable"] is None
