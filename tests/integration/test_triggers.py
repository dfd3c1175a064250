"""One trigger, one part, exactly one result: published by a stranger, answered by ``edge-run``."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from commands import TERMINATED, Box, Finished, Running
from plant import Plant
from triggered import (
    ABSENT,
    BAD_FROM,
    DEVICE,
    device_file,
    enroll_box,
    results,
    service,
    trigger,
    wait_for_results,
)

MALFORMED = [
    b"part A-1",
    b"{}",
    b'{"part_id": 17}',
    b'{"part_id": "A-1", "speed": 3}',
    b'{"part_id": "A-1", "camera": "elsewhere"}',
    b"\xff\xfe",
    b"",
]


@pytest.fixture(autouse=True)
def _needs_mosquitto(mosquitto_path: Path) -> None:
    """Skip where there is no broker (CI fails instead)."""


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A computer with a small bundle, references, and a video of good parts, then of bad ones."""
    return enroll_box(tmp_path_factory.mktemp("triggered")).folder


@pytest.fixture
def box(enrolled: Path, tmp_path: Path) -> Box:
    """A copy of that computer, to be used up."""
    shutil.copytree(enrolled, tmp_path / "box")
    return Box(tmp_path / "box")


def stop(running: Running) -> Finished:
    return running.ask_to_stop().expect(TERMINATED)


def test_every_trigger_over_a_running_camera_gets_exactly_one_result_of_its_part(box: Box) -> None:
    with Plant() as plant, service(box, plant, device_file(box)) as running:
        for number in range(12):
            trigger(plant, part_id=f"A-{number}", trigger_id=f"t-{number}")
            wait_for_results(plant, number + 1)
        for number in range(12, 20):  # a burst, without waiting for answers
            trigger(plant, part_id=f"A-{number}", trigger_id=f"t-{number}", camera="cam1")
        wait_for_results(plant, 20)
        answer = stop(running).answer

    parts = Counter((result["part_id"], result["trigger_id"]) for result in results(plant))
    assert parts == Counter({(f"A-{number}", f"t-{number}"): 1 for number in range(20)})
    assert plant.messages() == results(plant), "nothing but results comes of a triggered camera"
    assert [result["seq"] for result in results(plant)] == list(range(1, 21))
    assert answer["cameras"]["cam1"]["inspected"] == 20, "frames without a trigger are not judged"
    frames = [result["frame_id"] for result in results(plant)]
    assert frames == sorted(set(frames)), "each part has a picture of its own"
    for result in results(plant):
        expected = "normal" if result["frame_id"] < BAD_FROM else "anomalous"
        assert result["verdict"] == expected
        assert (result["verdict"] == "anomalous") == ("picture_sha256" in result)


def test_good_and_bad_parts_are_told_apart_and_bad_ones_come_with_their_picture(box: Box) -> None:
    for name, verdict in (("good", "normal"), ("bad", "anomalous")):
        config = device_file(box, source=f"dir:{box.folder / name}", pace=None)
        with Plant() as plant, service(box, plant, config) as running:
            for number in range(4):
                trigger(plant, part_id=f"{name}-{number}")
            finished = running.finish(30).expect(0)
        assert finished.answer["cameras"]["cam1"]["verdicts"] == {verdict: 4}
        assert [result["part_id"] for result in results(plant)] == [
            f"{name}-{number}" for number in range(4)
        ]
        assert [result["frame_id"] for result in results(plant)] == [0, 1, 2, 3]
        assert len(plant.pictures()) == (4 if verdict == "anomalous" else 0)


def test_malformed_triggers_are_refused_aloud_and_the_next_good_one_is_served(box: Box) -> None:
    with Plant() as plant, service(box, plant, device_file(box)) as running:
        for payload in MALFORMED:
            plant.command("trigger", payload, device=DEVICE)
        trigger(plant, part_id="B-1")
        wait_for_results(plant, 1)
        stop(running)
    refusals = plant.messages("event")
    assert [refusal["event"] for refusal in refusals] == ["trigger_refused"] * len(MALFORMED)
    assert all(refusal["data"]["reason"].startswith("trigger") for refusal in refusals)
    assert [result["part_id"] for result in results(plant)] == ["B-1"]


def test_a_trigger_that_is_delivered_twice_is_inspected_once(box: Box) -> None:
    with Plant() as plant, service(box, plant, device_file(box)) as running:
        for _ in range(2):
            trigger(plant, part_id="A-1", trigger_id="only-once")
        plant.wait_until(lambda plant: len(plant.messages()) >= 2, 10)
        stop(running)
    (result,), (event,) = results(plant), plant.messages("event")
    assert (result["trigger_id"], result["part_id"]) == ("only-once", "A-1")
    assert event["event"] == "trigger_refused"
    assert event["data"] == {
        "reason": "trigger_id was used before", "part_id": "A-1", "trigger_id": "only-once",
    }  # fmt: skip


def test_a_camera_that_is_not_triggered_says_so(box: Box) -> None:
    config = device_file(box, trigger=None)
    with Plant() as plant, service(box, plant, config) as running:
        trigger(plant, part_id="A-1")
        plant.wait_until(lambda plant: bool(plant.messages("event")), 10)
        stop(running)
    (event,) = plant.messages("event")
    assert event["data"]["part_id"] == "A-1"
    assert "continuous" in event["data"]["reason"]
    assert results(plant) == []


def test_a_part_that_no_camera_sees_gets_a_fault_at_its_deadline_and_never_silence(
    box: Box,
) -> None:
    config = device_file(
        box, source=str(ABSENT), pace=None, trigger={"mode": "mqtt", "deadline_seconds": 0.3}
    )
    with Plant() as plant, service(box, plant, config, "--wait-camera") as running:
        for number in range(3):
            trigger(plant, part_id=f"A-{number}")
        wait_for_results(plant, 3)
        (state,) = plant.retained("state")
        stop(running)
    assert [result["part_id"] for result in results(plant)] == ["A-0", "A-1", "A-2"]
    for result in results(plant):
        assert (result["verdict"], result["reason"]) == ("fault", "timeout")
        assert "score" not in result
        assert f"/dev/video{ABSENT}" in result["detail"]
    assert state["cameras"]["cam1"]["state"] == "blind"
    assert [fault["reason"] for fault in plant.messages("fault")] == ["no_frame"], "said once"


def test_a_part_that_still_waits_when_the_device_is_stopped_gets_a_fault(box: Box) -> None:
    config = device_file(
        box, source=str(ABSENT), pace=None, trigger={"mode": "mqtt", "deadline_seconds": 60}
    )
    with Plant() as plant, service(box, plant, config, "--wait-camera") as running:
        for number in range(3):
            trigger(plant, part_id=f"A-{number}")
        trigger(plant, part_id="A-0", camera="elsewhere")
        plant.wait_until(lambda plant: bool(plant.messages("event")), 10)  # the others came before
        stop(running)
    assert [result["part_id"] for result in results(plant)] == ["A-0", "A-1", "A-2"]
    assert {(result["verdict"], result["reason"]) for result in results(plant)} == {
        ("fault", "no_frame")
    }


def test_the_trigger_option_turns_any_camera_into_a_triggered_one(box: Box) -> None:
    config = device_file(box, trigger=None)
    with Plant() as plant, service(box, plant, config, "--trigger", "mqtt") as running:
        trigger(plant, part_id="A-1")
        wait_for_results(plant, 1)
        stop(running)
    assert [result["part_id"] for result in results(plant)] == ["A-1"]


def test_an_interval_gives_a_result_every_so_often_each_with_a_part_of_its_own(box: Box) -> None:
    config = device_file(box, trigger=None)
    with Plant() as plant:
        options = ("--trigger", "interval:0.5", "--max-frames", "6")
        with service(box, plant, config, *options) as running:
            running.finish(30).expect(0)
    assert len(results(plant)) == 6
    assert len({result["part_id"] for result in results(plant)}) == 6
    assert all(result["part_id"] == result["trigger_id"] for result in results(plant))
    moments = [result["mono_ns"] / 1e9 for result in results(plant)]
    assert moments[-1] - moments[0] == pytest.approx(2.5, abs=0.4)
    assert {result["verdict"] for result in results(plant)} == {"normal"}


@pytest.mark.parametrize("mode", ["interval", "interval:soon", "interval:0", "mqtt:1", "button"])
def test_a_trigger_that_is_none_is_refused(box: Box, mode: str) -> None:
    config = device_file(box, trigger=None)
    refused = box.run("run", "--config", config, "--trigger", mode, "--validate-config")
    assert "trigger" in refused.expect(3).stderr


def test_results_wait_for_the_broker_as_alarms_do(box: Box) -> None:
    plant = Plant()
    config = device_file(box, trigger=None)
    run = ("run", "--config", config, "--mqtt", plant.address, "--json")
    options = ("--trigger", "interval:0.1", "--max-frames", "5")
    assert box.run(*run, *options).expect(0).answer["waiting_messages"] == 5
    with plant:
        box.run(*run, *options).expect(0)
    assert [result["seq"] for result in results(plant)] == list(range(1, 11))
    assert len({json.dumps(result["part_id"]) for result in results(plant)}) == 10


def test_results_that_a_receiver_missed_are_sent_again_by_command_and_an_event_says_so(
    box: Box,
) -> None:
    def events(plant: Plant, name: str) -> list[dict[str, Any]]:
        return [event["data"] for event in plant.messages("event") if event["event"] == name]

    with Plant() as plant, service(box, plant, device_file(box)) as running:
        for number in range(6):
            trigger(plant, part_id=f"A-{number}")
        wait_for_results(plant, 6)
        plant.command("resync", {"command_id": "r-1", "from_seq": 2, "to_seq": 4}, device=DEVICE)
        plant.wait_until(lambda plant: events(plant, "resynced") != [], 10)
        plant.command("resync", b'{"command_id": "r-2", "from_seq": 4, "to_seq": 2}', device=DEVICE)
        plant.wait_until(lambda plant: events(plant, "resync_refused") != [], 10)
        stop(running)
    assert events(plant, "resynced") == [
        {"command_id": "r-1", "from_seq": 2, "to_seq": 4, "sent": 3}
    ]
    assert "from_seq" in events(plant, "resync_refused")[0]["reason"]
    came = [result["seq"] for result in plant.messages("result")]
    assert came == [1, 2, 3, 4, 5, 6, 2, 3, 4]


def test_with_end_to_end_delivery_a_result_waits_for_a_receiver_to_say_that_it_has_it(
    box: Box,
) -> None:
    config = device_file(box, settings={"mqtt": {"delivery": "end_to_end"}})
    with Plant() as plant:
        with service(box, plant, config) as running:
            for number in range(3):
                trigger(plant, part_id=f"A-{number}")
            wait_for_results(plant, 3)
            plant.publish(f"edge/v1/{DEVICE}/ack", b'{"seqs": [1, 3]}')
            answer = stop(running).answer
        assert answer["waiting_messages"] == 1
        with service(box, plant, config) as running:
            plant.wait_until(
                lambda plant: [m["seq"] for m in plant.messages("result")].count(2) == 2, 10
            )
            plant.publish(f"edge/v1/{DEVICE}/ack", b'{"seqs": [2]}')
            assert stop(running).answer["waiting_messages"] == 0
