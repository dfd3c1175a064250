"""A station that learns its threshold from the first parts, killed and asked on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from commands import Box, bad_part, good_part, write_pictures
from plant import Plant
from scenes import make_bundle

PARTS = 30
SPOILED = (7, 25)
"""Of the parts that come by while it learns, from 0: these are bad."""


@pytest.fixture(autouse=True)
def _needs_mosquitto(mosquitto_path: Path) -> None:
    """Skip where there is no broker (CI fails instead)."""


@pytest.fixture
def box(tmp_path: Path) -> Box:
    box = Box(tmp_path)
    make_bundle(tmp_path / "bundle")
    good = write_pictures(tmp_path / "good", [good_part(seed) for seed in range(4)])
    box.run("enroll", "--bundle", tmp_path / "bundle", "--camera", good).expect(0)
    parts = [bad_part(seed) if seed in SPOILED else good_part(100 + seed) for seed in range(200)]
    write_pictures(tmp_path / "parts", parts)
    return box


def run_words(
    box: Box, plant: Plant, *more: object, interval_seconds: float = 0.05
) -> tuple[object, ...]:
    camera = f"dir:{box.folder / 'parts'}"
    return (
        "run", "--bundle", box.folder / "bundle", "--camera", camera, "--mqtt", plant.address,
        "--json", "--trigger", f"interval:{interval_seconds}", *more,
    )  # fmt: skip


def review(box: Box, *words: str) -> dict[str, Any]:
    return box.run("enroll", "review", "--json", *words).expect(0).answer


@pytest.mark.slow
def test_until_a_person_has_looked_at_the_odd_parts_every_message_is_provisional(box: Box) -> None:
    settings = ("--run-in", str(PARTS))
    refused = box.run("run", "--camera", f"dir:{box.folder}", *settings, "--validate-config")
    refused.expect(3, "expected at least 99 for 1 false alarms per 100, got 30")
    config = box.folder / "box.yaml"
    config.write_text(
        f"cameras: [{{name: cam1, source: 'dir:parts', "
        f"run_in: {{parts: {PARTS}, false_alarms_per_100: 4}}}}]\n"
    )
    with Plant() as plant:
        with box.start(*run_words(box, plant, "--config", config)) as running:
            plant.wait_until(lambda plant: len(plant.messages("result")) >= 12, 30)
            running.process.kill()
        learned = review(box)
        assert 5 <= learned["parts"] <= 12, "what was learned before the kill is on the disk"
        # It goes on where it was, without being told again.
        box.run(*run_words(box, plant, "--max-frames", "45")).expect(0)
        asked = review(box)
        assert all(result["provisional"] for result in plant.messages("result"))
        assert plant.last("state")["cameras"]["cam1"]["provisional"]
        assert "provisional_threshold" in plant.last("state")["flags"]
        assert asked["parts"] == PARTS
        assert asked["threshold"] is None
        odd = [part for part in asked["waiting"] if part["score"] > 0.05]
        assert odd, "bad parts came by and wait"
        for part in asked["waiting"]:
            assert all(Path(picture).is_file() for picture in part["pictures"])
            assert len(part["pictures"]) == 2

        # A person takes a while: the 200 parts must not all have come by before all is answered.
        # In the place of a rejected part comes a next one, which may be odd, too: so nobody to look
        # at just now is not the end, a threshold is.
        with box.start(*run_words(box, plant, interval_seconds=0.5)) as running:
            while (asked := review(box))["threshold"] is None:
                assert running.process.poll() is None, "parts come until all is answered"
                for part in asked["waiting"]:
                    verdict = "--reject" if part["score"] > 0.05 else "--accept"
                    review(box, verdict, str(part["number"]))
            plant.wait_until(lambda plant: bool(named(plant, "run_in_armed")), 30)
            armed_seq = named(plant, "run_in_armed")[0]["seq"]
            plant.wait_until(
                lambda plant: len([r for r in plant.messages("result") if r["seq"] > armed_seq]) > 3
            )
            running.ask_to_stop()
        (armed,) = named(plant, "run_in_armed")
        later = [r for r in plant.messages("result") if r["seq"] > armed_seq]
        assert not any(result["provisional"] for result in later)
        assert {result["threshold"] for result in later} == {armed["data"]["threshold"]}
        assert plant.last("state")["cameras"]["cam1"]["run_in"] is None

    done = review(box)
    assert done["threshold"]["value"] == armed["data"]["threshold"] < 0.05
    assert done["threshold"]["pictures"] == PARTS
    assert armed["data"]["false_alarms_per_100"] == pytest.approx(100 / 31)
    once = box.run(
        "run", "--bundle", box.folder / "bundle", "--camera", f"dir:{box.folder / 'good'}",
        "--once", "--json",
    )  # fmt: skip
    (camera,) = once.expect(0).answer["cameras"]
    assert camera["provisional"] is False


def named(plant: Plant, event: str) -> list[dict[str, Any]]:
    return [message for message in plant.messages("event") if message["event"] == event]


def test_a_review_without_a_run_in_says_how_to_start_one(box: Box) -> None:
    box.run("enroll", "review").expect(11, "no run-in was begun", "edge-run --run-in")


def test_a_dry_run_learns_nothing(box: Box) -> None:
    with Plant() as plant:
        words = run_words(box, plant, "--run-in", "120", "--dry-run", "--max-frames", "5")
        box.run(*words).expect(0)
    box.run("enroll", "review").expect(11, "no run-in was begun")
