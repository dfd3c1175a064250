"""``edge-eval`` as it is started: what it prints, writes and refuses."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path

import pytest
from commands import Box
from jsonschema import validate
from labelled_parts import save, write_mvtec
from scenes import fixture_part, make_bundle

import edge_sdk.evaluation

SCHEMA = json.loads(
    (Path(edge_sdk.evaluation.__file__).parent / "schemas" / "evaluation.json").read_text()
)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    make_bundle(tmp_path / "bundle")
    write_mvtec(tmp_path / "Teile größer" / "plate one", train=8)
    return Box(tmp_path)


def words(*more: object) -> tuple[object, ...]:
    return ("evaluate", "--bundle", "bundle", "--data", "Teile größer", "--seeds", "0-1", *more)


def test_figures_scores_and_report_are_written(box: Box) -> None:
    done = box.run(
        *words("--json", "a.json", "--scores", "a.csv", "--report", "out", "--keep", "kept")
    ).expect(0, "pictures: 100 %", "report: out/report.html")
    assert "plate one" in done.stdout
    assert re.search(r"^worst +\d\.\d{3}", done.stdout, re.MULTILINE)
    summary = json.loads((box.folder / "a.json").read_text())
    validate(summary, SCHEMA)
    assert summary["categories"][0]["category"] == "plate one"
    with (box.folder / "a.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert sum(row["part"] == "test" and row["condition"] == "as it is" for row in rows) == 2 * 13
    assert any(row["file"] == "test/missing/Teil 0 ü.png" for row in rows)
    page = (box.folder / "out" / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"<script|(?:src|href)=(?![\"']data:)", page)
    assert page.count("data:image/jpeg;base64,") >= 4 * 6
    for word in ("plate one", "ROC", "PRO", "threshold", "Worst escapes", "Teil 0 ü.png"):
        assert word in page, word
    # From what was kept: the same figures, without judging a picture again.
    again = box.run(*words("--json", "-", "--keep", "kept")).expect(0)
    assert again.answer == summary


def test_the_answer_may_go_to_standard_output(box: Box) -> None:
    answer = box.run(*words("--json", "-", "--no-nuisance", "--shots", "2,full")).expect(0).answer
    validate(answer, SCHEMA)
    assert [shots["shots"] for shots in answer["categories"][0]["shots"]] == ["2", "full"]
    published = box.run(
        *words("--json", "-", "--no-nuisance", "--definitions", "adaptclip", "--workers", "2",
               "--sampling", "adaptclip")
    ).expect(0).answer  # fmt: skip
    assert published["definition"] == "adaptclip"
    assert "not average precision" in published["definitions"]["image_ap"]


def test_a_file_that_cannot_be_used_ends_with_eleven_and_its_name(box: Box) -> None:
    bad = box.folder / "Teile größer" / "plate one" / "test" / "good" / "002.png"
    bad.write_bytes(b"no picture")
    box.run(*words()).expect(11, "002.png")
    save(bad, fixture_part(1))
    box.run(*words("--shots", "9")).expect(11, "plate one", "expected at least 9", "got 8")
    box.run("evaluate", "--data", "home").expect(11, "no data in a known layout; looked for")


def test_no_shots_a_wrong_word_or_a_missing_folder_are_said_at_once(box: Box) -> None:
    box.run(*words("--shots", "0")).expect(4, "--shots 0", "compares with pictures of good parts")
    box.run(*words("--shots", "many")).expect(2, "--shots")
    box.run(*words("--json", "absent/a.json")).expect(3, "--json", "absent")
    box.run(*words("--scorer", "magic")).expect(11, "--scorer", "frame_difference")


def test_the_example_makes_folders_that_are_evaluated(box: Box) -> None:
    example = Path(__file__).resolve().parents[2] / "examples" / "label_clip.py"
    with box.start_program([sys.executable, str(example), "clip"]) as running:
        running.finish(120).expect(0)
    answer = box.run(
        "evaluate", "--data", "clip", "--seeds", "0", "--no-nuisance", "--json", "-"
    ).expect(0).answer  # fmt: skip
    (category,) = answer["categories"]
    assert category["pictures"] == {"train_good": 28, "test_good": 30, "test_bad": 123, "masks": 0}
    assert category["shots"][0]["figures"]["image_auroc"]["mean"] > 0.95
