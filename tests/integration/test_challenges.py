"""Masters of a running device, seen by the plant; and the audit log of all that happened to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from commands import Box, Running, bad_part, good_part, write_pictures
from plant import Plant
from scenes import make_bundle

from edge_sdk.imaging import encode_png

DEVICE = "press-3"


@pytest.fixture(autouse=True)
def _needs_mosquitto(mosquitto_path: Path) -> None:
    """Skip where there is no broker (CI fails instead)."""


@pytest.fixture
def box(tmp_path: Path) -> Box:
    """A line with a set of good parts, and one into which bad parts were enrolled as well."""
    box = Box(tmp_path)
    make_bundle(tmp_path / "bundle")
    good = [good_part(seed) for seed in range(4)]
    spoilt = [good_part(10), good_part(11), bad_part(10), bad_part(11)]
    for name, parts in (("good", good), ("spoilt", spoilt)):
        pictures = write_pictures(tmp_path / name, parts)
        words = ("--bundle", tmp_path / "bundle", "--camera", pictures, "--references", name)
        box.run("enroll", *words, "--keep-refused").expect(0)
    (tmp_path / "master-ok.png").write_bytes(encode_png(good_part(70)))
    (tmp_path / "master-ng.png").write_bytes(encode_png(bad_part(70)))
    write_pictures(tmp_path / "line", [good_part(100 + seed) for seed in range(400)])
    write_file(box)
    return box


def write_file(box: Box, more: str = "") -> None:
    (box.folder / "box.yaml").write_text(f"""
device: {{name: {DEVICE}}}
bundle: bundle
cameras:
  - name: cam1
    source: dir:line
    reference_set: good
    trigger: {{mode: mqtt}}
    challenge:
      masters:
        - {{name: ok, expect: normal, picture: master-ok.png}}
        - {{name: ng, expect: anomalous, picture: master-ng.png}}
{more}""")


def service(box: Box, plant: Plant) -> Running:
    config = box.folder / "box.yaml"
    return box.start("run", "--config", config, "--mqtt", plant.address, "--json")


def judge(plant: Plant, part_id: str) -> dict[str, Any]:
    plant.command("trigger", {"part_id": part_id}, device=DEVICE)
    return wait_for(plant, "result", "part_id", part_id)


def wait_for(plant: Plant, kind: str, key: str, value: str, count: int = 1) -> dict[str, Any]:
    def found(plant: Plant) -> list[dict[str, Any]]:
        return [message for message in plant.messages(kind) if message.get(key) == value]

    plant.wait_until(lambda plant: len(found(plant)) >= count, 30)
    return found(plant)[-1]


def wait_for_state(plant: Plant, state: str, reason: str | None) -> None:
    def holds(plant: Plant) -> bool:
        camera = plant.last("state")["cameras"].get("cam1", {}) if plant.all_of("state") else {}
        return (camera.get("state"), camera.get("reason")) == (state, reason)

    plant.wait_until(holds, 30)


def wait_for_birth(plant: Plant, number: int) -> None:
    def births(plant: Plant) -> int:
        return sum(status["online"] for status in plant.all_of("status"))

    plant.wait_until(lambda plant: births(plant) >= number, 30)


def change(plant: Plant, reference_set: str) -> None:
    command = {"command_id": f"to-{reference_set}", "reference_set": reference_set}
    plant.command("references", command, device=DEVICE)


def test_a_box_that_calls_its_bad_master_good_gives_faults_until_it_does_not(box: Box) -> None:
    with Plant() as plant:
        with service(box, plant) as running:
            wait_for_birth(plant, 1)
            started = wait_for(plant, "event", "event", "challenge_passed")
            assert {one["master"] for one in started["data"]["masters"]} == {"ok", "ng"}
            assert judge(plant, "A-1")["verdict"] == "normal"

            change(plant, "spoilt")
            failed = wait_for(plant, "event", "event", "challenge_failed")
            assert (failed["severity"], failed["data"]["cause"]) == ("critical", "change")
            for part_id in ("B-1", "B-2", "B-3"):
                result = judge(plant, part_id)
                assert (result["verdict"], result["reason"]) == ("fault", "challenge_failed")
            assert "master ng: expected anomalous, got normal" in result["detail"]
            wait_for_state(plant, "unscored", "challenge_failed")
            opened = wait_for(plant, "fault.open", "reason", "challenge_failed")
            running.process.kill()

        with service(box, plant) as running:  # a restart is no way out
            wait_for_birth(plant, 2)
            wait_for(plant, "event", "event", "challenge_failed", 2)
            assert judge(plant, "B-4")["reason"] == "challenge_failed"
            command = {"command_id": "look"}
            plant.command("challenge", command, device=DEVICE)
            wait_for(plant, "event", "event", "challenge_failed", 3)

            change(plant, "good")
            closed = wait_for(plant, "fault.close", "reason", "challenge_failed")
            assert judge(plant, "A-2")["verdict"] == "normal"
            wait_for_state(plant, "ok", None)
            running.ask_to_stop()
    assert opened["camera"] == closed["camera"] == "cam1"
    asked = wait_for(plant, "event", "event", "challenge_failed")
    assert asked["data"]["command_id"] == "look"

    entries = box.run("enroll", "audit", "--config", box.folder / "box.yaml", "--json")
    whats = [(one["what"], one["by"]) for one in entries.expect(0).answer["entries"]]
    assert whats == [
        ("references.enrolled", "edge-enroll"),
        ("references.enrolled", "edge-enroll"),
        ("judging.changed", "edge-run"),
        ("challenge.passed", "edge-run"),
        ("references.changed", "edge-run"),
        ("challenge.failed", "edge-run"),
        ("challenge.failed", "edge-run"),
        ("challenge.failed", "edge-run"),
        ("references.changed", "edge-run"),
        ("challenge.passed", "edge-run"),
    ]


def test_a_threshold_set_by_hand_is_noted_with_what_held_before(box: Box) -> None:
    def audit() -> list[dict[str, Any]]:
        words = ("enroll", "audit", "--config", box.folder / "box.yaml", "--json")
        entries: list[dict[str, Any]] = box.run(*words).expect(0).answer["entries"]
        return [one for one in entries if one["what"] == "judging.changed"]

    with Plant() as plant:
        for number, more in enumerate(("", "    threshold_override: 50.0\n", "")):
            write_file(box, more)
            with service(box, plant) as running:
                wait_for_birth(plant, number + 1)
                expected = ("fault", "challenge_failed") if more else ("normal", "below_threshold")
                result = judge(plant, f"A-{number}")
                assert (result["verdict"], result["reason"]) == expected
                running.ask_to_stop()
    first, by_hand, back = audit()
    assert first["old"] is None
    assert by_hand["old"] == first["new"] == back["new"]
    assert by_hand["new"] == back["old"] == {**first["new"], "threshold": 50.0, "override": 50.0}
    told = box.run("enroll", "audit", "--config", box.folder / "box.yaml", "--last", "4").expect(0)
    assert "override 50" in told.stdout


def test_once_says_fault_where_a_master_comes_out_wrong(box: Box) -> None:
    write_file(box, "    threshold_override: 50.0\n")
    words = ("run", "--config", box.folder / "box.yaml", "--once", "--exit-status", "--json")
    (answer,) = box.run(*words).expect(10).answer["cameras"]
    assert (answer["verdict"], answer["reason"]) == ("fault", "challenge_failed")
