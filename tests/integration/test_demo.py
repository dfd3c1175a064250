"""``scripts/demo`` without its set-up: the whole story, in the terminal of somebody new."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from commands import Box, Finished

from edge_sdk.imaging import read_image

ROOT = Path(__file__).resolve().parents[2]
LIMIT_SECONDS = 120
ENTRY_POINTS = Path(sys.executable).parent


def play(folder: Path, path: str) -> Finished:
    """Run the demo to its end on a PATH of its own."""
    if shutil.which("edge-run", path=path) is None:
        pytest.fail("edge-run is not on the PATH: install the package (scripts/test does)")
    script = str(ROOT / "scripts" / "lib" / "demo.py")
    command = [sys.executable, script, "--out", str(folder / "out")]
    with Box(folder).start_program(command, PATH=path) as running:
        return running.finish(LIMIT_SECONDS).expect(0)


def check(told: Finished, folder: Path) -> None:
    """Hold what was printed against the clip and the files."""
    print(told.stdout)
    intervals = re.findall(r"^  missing +\S+ +opened at \[(.*)\] +updated at \[(.*)\]$",
                           told.stdout, re.MULTILINE)  # fmt: skip
    assert len(intervals) == 4
    assert all(opened or updated for opened, updated in intervals)
    ours = re.search(r"^ours: +missing (\d)/4 +hand (\d)/7 +false alarms (\d)", told.stdout,
                     re.MULTILINE)  # fmt: skip
    assert ours is not None
    missing, hand, false_alarms = map(int, ours.groups())
    assert (missing, false_alarms) == (4, 0)
    assert hand >= 6
    assert re.search(r"^frame difference: +missing \d/4", told.stdout, re.MULTILINE)
    assert re.search(r"^\d+ frames judged, \d+ overtaken", told.stdout, re.MULTILINE)
    announced = re.search(r"^(\d+) messages, (\d+) heatmap pictures in (.+)$", told.stdout,
                          re.MULTILINE)  # fmt: skip
    assert announced is not None
    assert Path(announced[3]) == folder / "out" / "pictures"
    pictures = list((folder / "out" / "pictures").glob("*.jpg"))
    assert len(pictures) == int(announced[2]) > 0
    for picture in pictures:
        assert read_image(picture).shape == (360, 640, 3)
    log = (folder / "out" / "messages.jsonl").read_text().splitlines()
    assert len(log) == int(announced[1])
    shown = [line for line in told.stdout.splitlines() if "  anomaly." in line]
    assert len(shown) == len(log), "every message was shown as it came"
    for name in re.findall(r"picture (\S+\.jpg)", told.stdout):
        assert Path(name).is_file(), "every picture that a line names is there"


def test_the_demo_plays_the_clip_and_tells_what_was_found(
    tmp_path: Path, mosquitto_path: Path
) -> None:
    path = os.pathsep.join(
        [str(ENTRY_POINTS), os.environ.get("PATH", ""), str(mosquitto_path.parent)]
    )
    told = play(tmp_path, path)
    assert "broker: mosquitto on 127.0.0.1:" in told.stdout
    check(told, tmp_path)


@pytest.mark.slow
def test_the_demo_needs_no_broker_but_the_one_that_pip_installs(tmp_path: Path) -> None:
    folders = [str(ENTRY_POINTS), "/usr/bin", "/bin"]
    path = os.pathsep.join(folders)
    if shutil.which("mosquitto", path=path) is not None:
        pytest.skip("mosquitto lies where it cannot be taken off the PATH")
    told = play(tmp_path, path)
    assert "broker: amqtt on 127.0.0.1:" in told.stdout
    check(told, tmp_path)


def test_the_demo_says_which_command_failed_and_passes_its_exit_code_on(
    tmp_path: Path, mosquitto_path: Path
) -> None:
    path = os.pathsep.join(
        [str(ENTRY_POINTS), os.environ.get("PATH", ""), str(mosquitto_path.parent)]
    )
    script = str(ROOT / "scripts" / "lib" / "demo.py")
    command = [sys.executable, script, "--camera", "dir:/nowhere", "--out", str(tmp_path / "out")]
    with Box(tmp_path).start_program(command, PATH=path) as running:
        running.finish(LIMIT_SECONDS).expect(6, "edge-enroll: error:", "/nowhere")
