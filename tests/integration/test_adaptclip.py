"""A tiny AdaptCLIP bundle of random numbers through the commands of the line, on both engines."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bundle_samples import seal
from commands import Box, good_part, write_config, write_pictures
from plant import Plant

pytest.importorskip("torch", reason="the bundle is made by the host half")
from tiny_adaptclip import export_tiny

ENGINES = ("onnxruntime", "openvino", "torch")
COUNT = 6


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "bundle"
    export_tiny(folder)
    return folder


@pytest.fixture
def box(tmp_path: Path) -> Box:
    box = Box(tmp_path)
    write_pictures(tmp_path / "good", [good_part(seed) for seed in range(4)])
    write_pictures(tmp_path / "line", [good_part(seed) for seed in range(10, 10 + COUNT)])
    return box


def words(box: Box, bundle: Path, command: str, *more: object) -> tuple[object, ...]:
    folder = "good" if command == "enroll" else "line"
    camera = ("--camera", f"dir:{box.folder / folder}")
    return (command, "--bundle", bundle, *camera, "--allow-untrained", *more)


def test_random_numbers_are_refused_unless_allowed(box: Box, bundle: Path) -> None:
    for command in ("run", "enroll"):
        without = [one for one in words(box, bundle, command) if one != "--allow-untrained"]
        box.run(*without).expect(4, "random numbers", "--allow-untrained")


@pytest.mark.parametrize("engine", ENGINES)
def test_without_a_reference_it_judges_by_texts_provisionally(
    box: Box, bundle: Path, engine: str
) -> None:
    command = words(box, bundle, "run", "--once", "--json", "--engine", engine)
    (answer,) = box.run(*command).expect(0).answer["cameras"]
    assert answer["verdict"] in ("normal", "anomalous")
    assert answer["provisional"] is True
    assert answer["threshold"] == 0.5
    assert 0 < answer["score"] < 1


def test_a_bundle_of_the_few_shot_head_alone_asks_for_good_parts_before_any_verdict(
    box: Box, bundle: Path, tmp_path: Path
) -> None:
    alone = Path(shutil.copytree(bundle, tmp_path / "alone"))

    def without_zero_shot(document: dict[str, Any]) -> None:
        gone = [graph for graph in document["graphs"] if graph["role"] == "head_zero_shot"]
        paths = {path for graph in gone for path in graph["paths"]}
        document["graphs"] = [graph for graph in document["graphs"] if graph not in gone]
        document["files"] = [file for file in document["files"] if file["path"] not in paths]
        document["golden"]["has_zero_shot"] = False
        for path in paths:
            (alone / path).unlink()

    seal(alone, without_zero_shot)
    box.run(*words(box, alone, "run", "--once")).expect(11, "no reference set", "edge-enroll")
    box.run(*words(box, alone, "enroll")).expect(0)
    box.run(*words(box, alone, "run", "--once")).expect(0)


@pytest.fixture
def plant(mosquitto_path: Path) -> Iterator[Plant]:
    """A broker with a listener (skips where there is none; CI fails instead)."""
    del mosquitto_path
    with Plant() as plant:
        yield plant


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("enrolled", [True, False], ids=["few-shot", "zero-shot"])
def test_every_part_reaches_the_plant_with_a_score(
    box: Box, bundle: Path, plant: Plant, engine: str, enrolled: bool
) -> None:
    if enrolled:
        box.run(*words(box, bundle, "enroll", "--engine", engine)).expect(0)
    camera = {
        "name": "cam1",
        "source": f"dir:{box.folder / 'line'}",
        "trigger": {"mode": "interval", "interval_seconds": 0.05},
    }
    config = write_config(
        box.folder / "box.yaml", cameras=[camera], bundle=str(bundle), engine={"name": engine}
    )
    command = ("run", "--config", config, "--mqtt", plant.address, "--allow-untrained")
    box.run(*command).expect(0, "references default/1" if enrolled else "references none")
    plant.wait_until(lambda plant: len(plant.messages("result")) == COUNT, 20)
    plant.wait_until(lambda plant: "untrained_bundle" in plant.last("state")["flags"], 10)
    results = plant.messages("result")
    assert {one["verdict"] for one in results} <= {"normal", "anomalous"}
    assert all(0 < one["score"] < 1 for one in results)
    assert len({one["score"] for one in results}) == COUNT
    labels = {one.get("reference_set") for one in results}
    assert labels == ({"default/1"} if enrolled else {None})
