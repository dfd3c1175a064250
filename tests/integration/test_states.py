"""What befalls a station is on its ``state`` within two seconds, and gone from it when it is over.

The bound is the product's promise, with two seconds more for a loaded machine. A camera that hangs
is noticed later, by the age of its pictures: see ``test_network_cameras``.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cameras import mjpeg_camera
from commands import TERMINATED, Box, bad_part, good_part, write_config, write_pictures
from disk import disk_or_skip
from plant import Plant
from scenes import make_bundle

from edge_sdk.imaging import encode_jpeg
from edge_sdk.records import UInt8Array

SEEN_SECONDS = 2.0 + 2.0


@pytest.fixture(autouse=True)
def _needs_mosquitto(mosquitto_path: Path) -> None:
    """Skip where there is no broker (CI fails instead)."""


@pytest.fixture
def box(tmp_path: Path) -> Box:
    make_bundle(tmp_path / "bundle")
    return Box(tmp_path)


def enroll(box: Box, camera_port: int) -> Path:
    """A device file with one watched camera, whose good parts are enrolled."""
    good = write_pictures(box.folder / "good", [good_part(seed) for seed in range(4)])
    config = write_config(
        box.folder / "box.yaml",
        bundle=str(box.folder / "bundle"),
        cameras=[{"name": "cam1", "source": f"http://127.0.0.1:{camera_port}/stream"}],
    )
    box.run("enroll", "--config", config, "--from", good).expect(0)
    return config


def show(box: Box, pixels: UInt8Array) -> Path:
    """Put something before the camera; the folder that it looks into."""
    folder = box.folder / "seen"
    folder.mkdir(exist_ok=True)
    data = encode_jpeg(pixels, max_bytes=100_000)
    assert data is not None
    (box.folder / "draft.jpg").write_bytes(data)
    (box.folder / "draft.jpg").replace(folder / "picture.jpg")
    return folder


def camera_is(state: str, verdict: str, reason: str | None = None) -> Callable[[Plant], bool]:
    def holds(plant: Plant) -> bool:
        camera = last_state(plant).get("cameras", {}).get("cam1", {})
        return (camera.get("state"), camera.get("verdict")) == (state, verdict) and (
            reason is None or camera.get("reason") == reason
        )

    return holds


def last_state(plant: Plant) -> dict[str, Any]:
    states = plant.all_of("state")
    return states[-1] if states else {}


def flags(plant: Plant) -> list[str]:
    return list(last_state(plant).get("flags", []))


def measured(plant: Plant, what: str, claim: Callable[[Plant], bool]) -> None:
    """Wait until the claim holds for the state, and say how long that took."""
    began = time.monotonic()
    plant.wait_until(claim, SEEN_SECONDS)
    print(f"{what}: on the state after {time.monotonic() - began:.1f} s")


def test_what_happens_to_camera_picture_part_and_broker_is_on_the_state_in_time(box: Box) -> None:
    folder = show(box, good_part(1))
    with mjpeg_camera("--pictures", folder) as camera, Plant() as plant:
        run = ("run", "--config", enroll(box, camera.port), "--mqtt", plant.address, "--json")
        with box.start(*run) as running:
            plant.wait_until(camera_is("ok", "normal"), 30)
            show(box, bad_part(1))
            measured(plant, "a bad part", camera_is("ok", "anomalous"))
            show(box, good_part(1))
            measured(plant, "a good part", camera_is("ok", "normal"))
            show(box, good_part(1) // 64)
            measured(plant, "a lamp off", camera_is("unscored", "fault", "black_frame"))
            show(box, good_part(1))
            measured(plant, "the lamp on", camera_is("ok", "normal"))
            camera.kill()
            measured(plant, "a camera off", camera_is("blind", "fault", "no_frame"))
            camera.start()
            plant.wait_until(camera_is("ok", "normal"), 5.0 + 2.0)
            births, states = len(plant.all_of("status")), len(plant.all_of("state"))
            plant.broker.kill()
            plant.broker.start()
            plant.wait_until(lambda plant: len(plant.all_of("status")) > births, 30)
            measured(
                plant,
                "a broker back",
                lambda plant: (
                    len(plant.all_of("state")) > states and "offline_spooling" not in flags(plant)
                ),
            )
            running.ask_to_stop().expect(TERMINATED)


@contextmanager
def filled(place: Path) -> Iterator[None]:
    """A file system on which a stranger has left three percent."""
    stranger = place / "stranger"
    found = os.statvfs(place)
    wanted = found.f_bavail * found.f_frsize - int(0.03 * found.f_blocks * found.f_frsize)
    with stranger.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, wanted)
    yield
    stranger.unlink()


def test_a_disk_that_somebody_fills_is_on_the_state_in_time_and_inspection_goes_on(
    box: Box,
) -> None:
    folder = show(box, good_part(1))
    with mjpeg_camera("--pictures", folder) as camera, Plant() as plant:
        config = enroll(box, camera.port)
        enrolled = box.state.rename(box.folder / "enrolled")
        with disk_or_skip(box.folder, box.state) as disk:
            shutil.copytree(enrolled, box.state, dirs_exist_ok=True)
            run = ("run", "--config", config, "--mqtt", plant.address, "--json")
            with box.start(*run) as running:
                plant.wait_until(camera_is("ok", "normal"), 30)
                assert "storage_low" not in flags(plant)
                with filled(disk.place):
                    measured(plant, "a full disk", lambda plant: "storage_low" in flags(plant))
                    show(box, bad_part(1))
                    plant.wait_until(lambda plant: bool(plant.messages("anomaly.open")), 10)
                measured(plant, "room again", lambda plant: "storage_low" not in flags(plant))
                running.ask_to_stop().expect(TERMINATED)
