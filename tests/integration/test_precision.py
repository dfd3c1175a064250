"""What a box does about precisions and self-tests, from the commands that an operator types."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_samples import GOLDEN, put
from commands import Box, good_part, write_config, write_pictures
from plant import Plant
from scenes import as_npy, make_bundle

INT8 = "graphs/encoder_int8.onnx"
SCORE = "golden/expected/0/score.npy"


@pytest.fixture
def box(tmp_path: Path) -> Box:
    """A computer with a bundle in fp32 and int8, and four good pictures."""
    box = Box(tmp_path)
    document = make_bundle(tmp_path / "plain").manifest.document()
    exact = next(graph for graph in document["graphs"] if graph["format"] == "onnx")
    golden = document["golden"]
    limits = golden["tolerance"]["fp32"]
    make_bundle(
        tmp_path / "bundle",
        graphs=[exact, exact | {"precision": "int8", "paths": [INT8]}],
        golden=golden | {"tolerance": {"fp32": limits, "int8": limits}},
        files={INT8: (GOLDEN / "graphs/encoder_fp32.onnx").read_bytes()},
    )
    write_pictures(tmp_path / "good", [good_part(seed) for seed in range(4)])
    return box


def words(box: Box, command: str, *more: object) -> tuple[object, ...]:
    pictures = f"dir:{box.folder / 'good'}"
    return (command, "--bundle", box.folder / "bundle", "--camera", pictures, *more)


def thresholds(box: Box) -> set[Path]:
    return set(box.state.glob("cameras/cam1/reference_sets/default/*/thresholds/*.json"))


def alter_the_golden_score(box: Box) -> None:
    """Expect another score than any box computes; digests and identity are right again."""
    put(box.folder / "bundle", SCORE, as_npy(np.float32(0.9)))


def test_the_box_measures_once_and_says_why_it_chose(box: Box) -> None:
    answer = box.run(*words(box, "bench", "--choose", "--json")).expect(0).answer
    measured = {(one["engine"], one["precision"]): one for one in answer["measured"]}
    assert {("onnxruntime", "fp32"), ("onnxruntime", "int8")} <= set(measured)
    assert all(one["p50_ms"] > 0 for one in measured.values())
    assert "ms a picture" in answer["reason"]
    kept = Path(answer["kept"])
    stored = json.loads(kept.read_bytes())
    assert stored["precision"] == answer["precision"]

    box.run(*words(box, "enroll")).expect(0)
    box.run(*words(box, "run", "--once")).expect(0)
    assert json.loads(kept.read_bytes()) == stored, "later starts take what was measured"
    assert list((box.state / "choices").iterdir()) == [kept]
    table = box.run(*words(box, "bench", "--choose")).expect(0).stdout
    assert "chosen: " in table
    assert "self-test" in table


def test_without_being_told_the_first_start_measures_what_the_bundle_offers(box: Box) -> None:
    box.run(*words(box, "enroll")).expect(0)
    (kept,) = (box.state / "choices").iterdir()
    before = kept.read_bytes()
    box.run(*words(box, "run", "--once")).expect(0)
    assert kept.read_bytes() == before
    assert len(list((box.state / "compiled").iterdir())) >= 1


def test_choosing_among_several_named_engines_is_a_wrong_argument(box: Box) -> None:
    engines = ("--engines", "onnxruntime,openvino")
    box.run(*words(box, "bench", "--choose", *engines)).expect(3, "expected one or auto")


def test_the_threshold_is_fitted_anew_when_the_precision_changes(box: Box) -> None:
    box.run(*words(box, "enroll", "--precision", "fp32")).expect(0)
    first = thresholds(box)
    box.run(*words(box, "run", "--once", "--precision", "fp32")).expect(0)
    assert thresholds(box) == first
    box.run(*words(box, "run", "--once", "--precision", "int8")).expect(0)
    assert len(thresholds(box)) == len(first) + 1


def test_a_precision_that_the_bundle_lacks_is_exit_4(box: Box) -> None:
    box.run(*words(box, "enroll", "--precision", "fp16")).expect(4, "precision fp16; it has")


@pytest.mark.parametrize(
    "asked",
    [("--device", "cuda"), ("--device", "gpu"), ("--engine", "openvino", "--device", "cuda")],
)
def test_a_device_that_would_not_really_be_used_is_exit_7(box: Box, asked: tuple[str, ...]) -> None:
    if Path("/dev/nvidia0").exists() or Path("/dev/dri").exists():
        pytest.skip("this computer may really have one")
    box.run(*words(box, "enroll", "--precision", "fp32", *asked)).expect(7, "device")


def test_other_golden_answers_are_exit_9_at_once_and_nothing_is_judged(box: Box) -> None:
    box.run(*words(box, "enroll", "--precision", "fp32")).expect(0)
    alter_the_golden_score(box)
    fp32 = ("--precision", "fp32")
    done = box.run(*words(box, "run", "--once", "--json", *fp32)).expect(9, "self-test", SCORE[:6])
    assert done.stdout == ""
    box.run(*words(box, "enroll", *fp32)).expect(9, "must not judge")
    box.run(*words(box, "run", "--once")).expect(9, "must not judge")  # of all precisions none


@pytest.fixture
def plant(mosquitto_path: Path) -> Iterator[Plant]:
    """A broker with a listener (skips where there is none; CI fails instead)."""
    del mosquitto_path
    with Plant() as plant:
        yield plant


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_a_box_whose_self_test_fails_says_fault_to_the_plant_and_never_normal(
    box: Box, plant: Plant, precision: str
) -> None:
    box.run(*words(box, "enroll", "--precision", precision)).expect(0)
    before = thresholds(box)
    alter_the_golden_score(box)
    run = words(box, "run", "--precision", precision, "--mqtt", plant.address, "--json")
    done = box.run(*run).expect(9, "self-test", "every frame is a fault")

    (verdicts,) = [camera["verdicts"] for camera in done.answer["cameras"].values()]
    assert verdicts == {"fault": 4}
    plant.wait_until(lambda plant: len(plant.messages("fault.open")) == 1, 20)
    (opened,) = plant.messages("fault.open")
    assert opened["reason"] == "self_test_failed"
    assert "safe_mode" in plant.last("state")["flags"]
    assert "must not judge" in opened["detail"]
    assert {message["verdict"] for message in plant.messages()} == {"fault"}
    assert "threshold" not in opened or opened["threshold"] is None
    assert thresholds(box) == before, "nothing is fitted by a box that computes wrongly"


def test_every_part_gets_its_fault_where_the_self_test_failed(box: Box, plant: Plant) -> None:
    box.run(*words(box, "enroll", "--precision", "fp32")).expect(0)
    alter_the_golden_score(box)
    cameras: list[dict[str, Any]] = [
        {
            "name": "cam1",
            "source": f"dir:{box.folder / 'good'}",
            "trigger": {"mode": "interval", "interval_seconds": 0.05},
        }
    ]
    config = write_config(
        box.folder / "box.yaml",
        cameras=cameras,
        bundle=str(box.folder / "bundle"),
        engine={"precision": "fp32"},
    )
    box.run("run", "--config", config, "--mqtt", plant.address).expect(9)
    plant.wait_until(lambda plant: len(plant.messages("result")) == 4, 20)
    results = plant.messages("result")
    assert [(one["verdict"], one["reason"]) for one in results] == [
        ("fault", "self_test_failed")
    ] * 4


def test_a_mended_bundle_judges_again(box: Box) -> None:
    shutil.copytree(box.folder / "bundle", box.folder / "sound")
    box.run(*words(box, "enroll", "--precision", "fp32")).expect(0)
    alter_the_golden_score(box)
    box.run(*words(box, "run", "--once", "--precision", "fp32")).expect(9)
    shutil.rmtree(box.folder / "bundle")
    shutil.move(box.folder / "sound", box.folder / "bundle")
    answer = box.run(*words(box, "run", "--once", "--precision", "fp32", "--json")).expect(0).answer
    assert answer["cameras"][0]["verdict"] == "normal"
