"""Every example is short, and does what it says."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest
from alerts import CAMERA, TOPICS, make_draft
from commands import Box, bad_part, good_part, write_pictures
from plant import Plant
from scenes import make_bundle

from edge_sdk.alerting.payload import encode_message
from edge_sdk.runtime.outbox import number_draft

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
LONGEST = 60
ALERT = TOPICS.alert(CAMERA)
RUN_HERE = {"subscriber.py"}
RUN_ELSEWHERE = {"label_clip.py"}  # test_evaluate_command.py


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: str(path.name))
def test_an_example_is_short_and_starts_with_what_it_shows(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= LONGEST
    assert lines[0].startswith('"""')


def test_every_example_is_run_by_a_test() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == RUN_HERE | RUN_ELSEWHERE


def test_the_subscriber_shows_each_alert_once_and_keeps_its_picture(
    tmp_path: Path,
    mosquitto_path: Path,  # noqa: ARG001 - skips where there is no broker
) -> None:
    make_bundle(tmp_path / "bundle")
    box = Box(tmp_path)
    good = write_pictures(tmp_path / "good", [good_part(seed) for seed in range(4)])
    line = write_pictures(tmp_path / "line", [bad_part(seed) for seed in range(8)])
    bundle = ("--bundle", tmp_path / "bundle")
    box.run("enroll", *bundle, "--camera", good).expect(0)
    repeated, marker, end = (
        encode_message(number_draft(make_draft(frame_id=number), number))
        for number in (111, 222, 333)
    )
    with Plant() as plant:
        command = [sys.executable, str(EXAMPLES / "subscriber.py"), "--host", "127.0.0.1"]
        command += ["--port", str(plant.broker.port), "--pictures", "kept", "--log", "log.jsonl"]
        with box.start_program(command) as subscriber:
            plant.publish(ALERT, repeated)
            while not subscriber.says("frame_id 111", 0.2):  # until it has subscribed
                plant.publish(ALERT, repeated)
            box.run("run", *bundle, "--camera", line, "--mqtt", plant.address).expect(0)
            plant.publish(ALERT, repeated)
            plant.publish(ALERT, marker)
            plant.publish(ALERT, end)
            subscriber.wait_for_line("frame_id 333")  # so that the one before is in the log
            assert len(subscriber.lines_with("frame_id 111")) == 1, "a repeat was shown again"
            (shown,) = subscriber.lines_with("frame_id 5 ")
    (alert,) = [message for message in plant.messages() if message["camera"] == "cam1"]
    (picture,) = plant.pictures().values()
    name = hashlib.sha256(picture).hexdigest()[:12]
    assert (tmp_path / "kept" / f"{name}.jpg").read_bytes() == picture
    assert "anomaly.open" in shown
    assert f"picture kept/{name}.jpg" in shown
    logged = [json.loads(text) for text in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [message["frame_id"] for message in logged[:3]] == [111, 5, 222]
    assert logged[1] == alert
