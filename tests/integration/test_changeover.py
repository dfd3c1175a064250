"""The plant changes the product: the station follows, says so, and does not forget it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from commands import Box, bad_part, good_part, write_pictures
from plant import Plant
from scenes import make_bundle

DEVICE = "press-3"


@pytest.fixture(autouse=True)
def _needs_mosquitto(mosquitto_path: Path) -> None:
    """Skip where there is no broker (CI fails instead)."""


@pytest.fixture
def box(tmp_path: Path) -> Box:
    """Two products, each of which is a bad part to the other's set; the first one on the line."""
    box = Box(tmp_path)
    make_bundle(tmp_path / "bundle")
    for name, part in (("default", good_part), ("green", bad_part)):
        pictures = write_pictures(tmp_path / name, [part(seed) for seed in range(4)])
        words = ("--bundle", tmp_path / "bundle", "--camera", pictures, "--references", name)
        box.run("enroll", *words).expect(0)
    write_pictures(tmp_path / "line", [good_part(100 + seed) for seed in range(400)])
    config = f"device: {{name: {DEVICE}}}\nbundle: bundle\n"
    config += "cameras: [{name: cam1, source: 'dir:line', trigger: {mode: mqtt}}]\n"
    (tmp_path / "box.yaml").write_text(config)
    return box


def service(box: Box, plant: Plant) -> tuple[object, ...]:
    return ("run", "--config", box.folder / "box.yaml", "--mqtt", plant.address, "--json")


def judge(plant: Plant, part_id: str) -> dict[str, Any]:
    plant.command("trigger", {"part_id": part_id}, device=DEVICE)
    return wait_for(plant, "result", "part_id", part_id)


def wait_for(plant: Plant, kind: str, key: str, value: str) -> dict[str, Any]:
    def found(plant: Plant) -> list[dict[str, Any]]:
        return [message for message in plant.messages(kind) if message.get(key) == value]

    plant.wait_until(lambda plant: bool(found(plant)), 30)
    return found(plant)[-1]


def wait_for_birth(plant: Plant, number: int) -> None:
    """Wait until a device has come so often; it hears no command from before."""

    def births(plant: Plant) -> int:
        return sum(status["online"] for status in plant.all_of("status"))

    plant.wait_until(lambda plant: births(plant) >= number, 30)


def test_the_plant_changes_the_set_and_the_change_outlasts_a_kill(box: Box) -> None:
    with Plant() as plant:
        with box.start(*service(box, plant)) as running:
            wait_for_birth(plant, 1)
            before = judge(plant, "A-1")
            assert (before["verdict"], before["reference_set"]) == ("normal", "default/1")
            change = {"command_id": "shift-2", "reference_set": "green"}
            plant.command("references", change, device=DEVICE)
            plant.command("trigger", {"part_id": "B-1"}, device=DEVICE)  # without waiting
            first = wait_for(plant, "result", "part_id", "B-1")
            assert first["reference_set"] == "green/1"
            assert first["verdict"] == "anomalous", "to this set the old product is a bad part"
            changed = wait_for(plant, "event", "event", "references_changed")
            assert changed["data"]["command_id"] == "shift-2"
            running.process.kill()

        with box.start(*service(box, plant)) as running:
            wait_for_birth(plant, 2)
            after = judge(plant, "B-2")
            assert after["reference_set"] == "green/1"

            plant.command("references", {"command_id": "x", "reference_set": "gren"}, device=DEVICE)
            refused = wait_for(plant, "event", "event", "references_refused")
            assert "no reference set 'gren' (enrolled: default, green)" in refused["data"]["reason"]
            assert judge(plant, "B-3")["reference_set"] == "green/1", "the old set is kept"

            # The person at the terminal, while it runs.
            use = ("enroll", "use", "--config", box.folder / "box.yaml", "--json")
            answer = box.run(*use, "default").expect(0).answer
            assert (answer["reference_set"], answer["is_running"]) == ("default/1", True)
            assert judge(plant, "A-2")["verdict"] == "normal"
            running.ask_to_stop()

        stopped = box.run(*use, "green").expect(0).answer
        assert stopped["is_running"] is False
        rows = box.run(
            "enroll", "list", "--config", box.folder / "box.yaml", "--json"
        ).expect(0).answer["sets"]  # fmt: skip
        assert {row["reference_set"]: row["used"] for row in rows} == {
            "default/1": False,
            "green/1": True,
        }
        box.run(*use, "gren").expect(11, "no reference set 'gren'")
    sets = {result["part_id"]: result["reference_set"] for result in plant.messages("result")}
    green = dict.fromkeys(("B-1", "B-2", "B-3"), "green/1")
    assert sets == {"A-1": "default/1", "A-2": "default/1"} | green


def test_a_command_that_is_malformed_or_for_another_camera_is_refused_aloud(box: Box) -> None:
    with Plant() as plant, box.start(*service(box, plant)) as running:
        wait_for_birth(plant, 1)
        plant.command("references", b"green", device=DEVICE)
        wrong = {"command_id": "c", "reference_set": "green", "camera": "cam9"}
        plant.command("references", wrong, device=DEVICE)
        plant.wait_until(lambda plant: len(plant.messages("event")) == 2, 30)
        assert judge(plant, "A-1")["reference_set"] == "default/1"
        running.ask_to_stop()
    reasons = [event["data"]["reason"] for event in plant.messages("event")]
    assert "expected a JSON object" in reasons[0]
    assert "expected one of ['cam1'], got 'cam9'" in reasons[1]
