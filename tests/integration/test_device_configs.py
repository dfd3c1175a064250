"""Every shipped device file: checked by ``edge-run``, then really run over the sample clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import CLIP, Box, write_config

from edge_sdk.capture.selector import open_source
from edge_sdk.enrollment import pick_frames
from edge_sdk.imaging import encode_png, resize_picture

FOLDER = Path(__file__).resolve().parents[2] / "device_configs"
SHIPPED = sorted(FOLDER.glob("*.yaml"))
GOOD_FRAMES = (16, 56, 104, 144)
LINE_FRAMES = (80, 130, 250)  # the last one lacks a bottle
CAMERA_PX = (1080, 1920)
"""(height, width) that the cameras of these files give; crops and regions are meant in it."""

each_file = pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``good`` and ``line``: pictures of the clip, as large as a camera's."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, numbers in (("good", GOOD_FRAMES), ("line", LINE_FRAMES)):
        (folder / name).mkdir()
        for frame in pick_frames(open_source(f"file:{CLIP}"), numbers):
            large = resize_picture(frame.pixels, CAMERA_PX, kernel="bicubic", antialias=False)
            (folder / name / f"{frame.frame_id:04d}.png").write_bytes(encode_png(large))
    return folder


def test_there_is_a_file_for_each_kind_of_box() -> None:
    assert {path.stem for path in SHIPPED} == {
        "desktop", "jetson_orin_nano", "n100", "raspberry_pi_5", "x86_inspection_box",
    }  # fmt: skip


def test_no_file_claims_a_board_that_it_never_ran_on() -> None:
    assert "Run on: never run on a Jetson." in (FOLDER / "jetson_orin_nano.yaml").read_text()
    assert "Run on: never run on a Raspberry" in (FOLDER / "raspberry_pi_5.yaml").read_text()


@each_file
def test_a_shipped_file_is_fine_as_it_is(path: Path, tmp_path: Path) -> None:
    done = Box(tmp_path).run("run", "--config", path, "--validate-config").expect(0)
    assert done.stdout == "settings: fine\n"


@each_file
def test_a_shipped_file_runs_over_the_sample_clip(
    path: Path, pictures: Path, tmp_path: Path
) -> None:
    box = Box(tmp_path)
    settings: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    settings["state_dir"] = str(tmp_path / "state")
    for camera in settings["cameras"]:  # instead of cameras that are not there
        camera["source"] = f"dir:{pictures / 'line'}"
        camera.pop("pace", None)
        camera["trigger"] = {"mode": "continuous"}  # of triggers: test_triggers.py
    config = write_config(tmp_path / path.name, **settings)
    for camera in settings["cameras"]:
        good = ("--from", f"dir:{pictures / 'good'}", "--camera", camera["name"])
        box.run("enroll", "--config", config, *good).expect(0)

    answer = box.run("run", "--config", config, "--dry-run", "--json").expect(0).answer

    for camera in settings["cameras"]:
        counted = answer["cameras"][camera["name"]]
        assert counted["inspected"] == len(LINE_FRAMES), counted
        assert counted["verdicts"].get("fault", 0) == 0, counted
        assert counted["verdicts"]["normal"] >= 2, counted
