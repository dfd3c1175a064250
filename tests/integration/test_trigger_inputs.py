"""Inputs and lines of other packages and of a gateway's pipe, with a real ``edge-run``."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from commands import TERMINATED, Box
from plant import Plant
from triggered import device_file, enroll_box, results, service, trigger, wait_for_results

LAMP_AND_BUTTON = '''
"""A part comes with each file of a folder; the line is a file that says its side."""
import pathlib, time
from edge_sdk.errors import LineError
from edge_sdk.inputs.signal import TriggerSignal


class Button:
    def __init__(self, address):
        self.folder, self.is_closed = pathlib.Path(address), False

    def signals(self):
        while not self.is_closed:
            if (self.folder / "broken").exists():
                raise LineError("button: the wire is broken")
            for press in sorted(self.folder.glob("press*")):
                press.unlink()
                yield TriggerSignal(monotonic_ns=time.monotonic_ns())
            time.sleep(0.02)

    def close(self):
        self.is_closed = True


class Lamp:
    def __init__(self, address):
        self.file = pathlib.Path(address)

    def show(self, signal):
        with self.file.open("a") as log:
            log.write(f"{signal.side} {signal.reason} {signal.part_id}\\n")

    def beat(self, signal):
        pass

    def close(self):
        with self.file.open("a") as log:
            log.write("closed\\n")
'''


@pytest.fixture(autouse=True)
def _needs_mosquitto(mosquitto_path: Path) -> None:
    """Skip where there is no broker (CI fails instead)."""


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return enroll_box(tmp_path_factory.mktemp("inputs")).folder


@pytest.fixture
def box(enrolled: Path, tmp_path: Path) -> Box:
    shutil.copytree(enrolled, tmp_path / "box")
    return Box(tmp_path / "box")


def write(pipe: Path, text: str) -> None:
    with pipe.open("w") as end:
        end.write(text)


def test_a_gateway_that_writes_a_pipe_gets_one_result_for_each_line(box: Box) -> None:
    pipe = box.folder / "part"
    good = f"file:{box.folder / 'good.avi'}"
    config = device_file(box, source=good, trigger=None)
    options = ("--trigger", f"input:fifo:{pipe}")
    with Plant() as plant, service(box, plant, config, *options) as running:
        plant.wait_until(lambda _: pipe.exists())
        for number in range(3):
            write(pipe, json.dumps({"part_id": f"A-{number}", "trigger_id": f"t-{number}"}) + "\n")
        write(pipe, '{"trigger_id": "nameless"}\nnonsense\n{"part_id": "B", "camera": "cam9"}\n')
        write(pipe, '{"part_id": "A-9", "trigger_id": "t-0"}\n')
        wait_for_results(plant, 3)
        plant.wait_until(lambda plant: len(plant.messages("event")) == 4)
        trigger(plant, part_id="A-1")  # this camera listens to its input alone
        plant.wait_until(lambda plant: len(plant.messages("event")) == 5)
        running.ask_to_stop().expect(TERMINATED)
    assert [result["part_id"] for result in results(plant)] == ["A-0", "A-1", "A-2"]
    assert {result["verdict"] for result in results(plant)} == {"normal"}
    reasons = [event["data"]["reason"] for event in plant.messages("event")]
    for reason, words in zip(
        reasons,
        ["trigger.part_id", "JSON object", "whose input this is", "used before", "mode input"],
        strict=True,
    ):
        assert words in reason


def test_another_package_adds_an_input_and_an_output_by_entry_points(box: Box) -> None:
    package = box.folder / "site"
    about = package / "lamp_and_button-1.0.dist-info"
    about.mkdir(parents=True)
    (package / "lamp_and_button.py").write_text(LAMP_AND_BUTTON)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: lamp-and-button\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[edge_sdk.trigger_inputs]\nbutton = lamp_and_button:Button\n"
        "[edge_sdk.output_drivers]\nlamp = lamp_and_button:Lamp\n"
    )
    box.environment["PYTHONPATH"] += os.pathsep + str(package)
    presses, lamp = box.folder / "presses", box.folder / "lamp"
    presses.mkdir()
    config = device_file(
        box,
        source=f"file:{box.folder / 'good.avi'}",
        trigger={"mode": "input", "input": {"driver": "button", "address": str(presses)}},
        output={"driver": "lamp", "address": str(lamp), "pass_seconds": 60},
    )
    with Plant() as plant, service(box, plant, config) as running:
        for number in range(2):
            (presses / f"press{number}").touch()
            wait_for_results(plant, number + 1)
        (presses / "broken").touch()
        plant.wait_until(lambda plant: len(plant.messages("event")) == 1)
        plant.wait_until(
            lambda plant: plant.last("state")["cameras"]["cam1"]["state"] == "degraded"
        )
        (presses / "broken").unlink()
        plant.wait_until(lambda plant: len(plant.messages("event")) == 2)
        plant.wait_until(lambda plant: plant.last("state")["cameras"]["cam1"]["state"] == "ok")
        running.ask_to_stop().expect(TERMINATED)

    parts = [result["part_id"] for result in results(plant)]
    assert len(set(parts)) == 2
    assert parts == [result["trigger_id"] for result in results(plant)]
    failed, restored = plant.messages("event")
    assert (failed["event"], failed["severity"]) == ("line_failed", "critical")
    assert failed["data"] == {"line": "trigger_input", "reason": "button: the wire is broken"}
    assert (restored["event"], restored["data"]) == ("line_restored", {"line": "trigger_input"})
    said = lamp.read_text().splitlines()
    assert [line for line in said if line.startswith("pass")] == [
        f"pass below_threshold {part}" for part in parts
    ]
    assert said[-2:] == ["safe stopped None", "closed"]


@pytest.mark.parametrize(
    ("trigger", "words"),
    [
        ({"mode": "input"}, "needs a driver and an address"),
        ({"mode": "mqtt", "input": {"driver": "fifo", "address": "/x"}}, "only with 'mode: input'"),
        ({"mode": "input", "input": {"driver": "Fifo!", "address": "/x"}}, "driver"),
        ({"mode": "input", "input": {"driver": "fifo", "address": "x"}}, "absolute path"),
        ({"mode": "input", "input": {"driver": "knob", "address": "x"}}, "known are fifo, gpio"),
    ],
)
def test_an_input_that_means_nothing_is_refused(
    box: Box, trigger: dict[str, object], words: str
) -> None:
    config = device_file(box, trigger=trigger)
    box.run("run", "--config", config, "--dry-run", "--max-frames", "1").expect(3, words)


@pytest.mark.parametrize("mode", ["input", "input:fifo", "http:", "http:ninety", "http:0"])
def test_a_trigger_option_that_says_too_little_is_refused(box: Box, mode: str) -> None:
    config = device_file(box, trigger=None)
    box.run("run", "--config", config, "--trigger", mode, "--validate-config").expect(3, "trigger")
