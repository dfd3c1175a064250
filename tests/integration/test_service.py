"""``edge-run`` under a service manager: ready, alive while all of it works, and hardly allowed to
do anything."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from itertools import count
from pathlib import Path

import pytest
from cameras import mjpeg_camera
from commands import (
    INSTALLED,
    TERMINATED,
    Box,
    Running,
    children_of,
    good_part,
    write_pictures,
)
from notify_socket import NotifySocket
from plant import Plant
from scenes import make_bundle

UNIT = INSTALLED / "device_configs" / "edge-run.service"
ABSENT = next(number for number in count() if not Path(f"/dev/video{number}").exists())
WATCHDOG_SECONDS = 2.0
MOST_EXPOSURE = 2.0


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> Box:
    """A computer whose camera ``cam1`` was shown four good parts."""
    box = Box(tmp_path_factory.mktemp("enrolled"))
    make_bundle(box.folder / "bundle")
    pictures = write_pictures(box.folder / "good", [good_part(seed) for seed in range(4)])
    box.run("enroll", "--bundle", box.folder / "bundle", "--camera", pictures).expect(0)
    return box


def start_service(
    box: Box, manager: NotifySocket, *words: object, camera: object = ABSENT
) -> Running:
    """``edge-run`` as the unit starts it; usually with a camera that isn't there."""
    words = ("--bundle", box.folder / "bundle", "--camera", camera, "--wait-camera", *words)
    return box.start_program(
        box.program("run", *words),
        NOTIFY_SOCKET=manager.address,
        WATCHDOG_USEC=str(int(WATCHDOG_SECONDS * 1e6)),
    )


@pytest.mark.parametrize("is_abstract", [False, True])
def test_signs_of_life_come_without_camera_and_broker_and_end_when_the_process_is_stopped(
    enrolled: Box, tmp_path: Path, is_abstract: bool
) -> None:
    with (
        NotifySocket(None if is_abstract else tmp_path) as manager,
        start_service(enrolled, manager, "--mqtt", "localhost:1") as running,
    ):
        assert manager.hears("READY=1"), running.lines_with("")
        assert "WATCHDOG=1" not in manager.told, "not before it is ready"
        assert manager.hears("STATUS=1 camera, blind: cam1")
        for _ in range(6):
            assert manager.hears("WATCHDOG=1", WATCHDOG_SECONDS)

        running.process.send_signal(signal.SIGSTOP)
        manager.drain()
        assert not manager.hears("WATCHDOG=1", 2 * WATCHDOG_SECONDS)

        running.process.send_signal(signal.SIGCONT)
        assert manager.hears("WATCHDOG=1")
        stopped = running.ask_to_stop()
        manager.drain()
    assert stopped.exit_code == TERMINATED, stopped.stderr
    assert manager.told[-1] == "STOPPING=1"


@pytest.mark.slow
@pytest.mark.usefixtures("mosquitto_path")
def test_a_broker_that_freezes_is_no_reason_to_start_anew(enrolled: Box, tmp_path: Path) -> None:
    with (
        Plant() as plant,
        NotifySocket(tmp_path) as manager,
        start_service(enrolled, manager, "--mqtt", plant.address) as running,
    ):
        plant.wait_until(lambda seen: bool(seen.all_of("state")))
        plant.broker.freeze()
        try:
            for _ in range(80):  # 40 s: through the keepalive and attempts to connect again
                assert manager.hears("WATCHDOG=1", WATCHDOG_SECONDS)
            assert running.lines_with("no acknowledgement") or running.lines_with("broker")
        finally:
            plant.broker.thaw()


@pytest.mark.slow
def test_a_process_that_reads_a_camera_and_hangs_is_replaced_and_the_service_is_not(
    enrolled: Box, tmp_path: Path
) -> None:
    with (
        mjpeg_camera() as camera,
        NotifySocket(tmp_path) as manager,
        start_service(
            enrolled, manager, "--mqtt", "localhost:1",
            camera=f"http://127.0.0.1:{camera.port}/stream",
        ) as running,
    ):  # fmt: skip
        assert manager.hears("STATUS=1 camera")
        (reading,) = children_of(running.process.pid)
        os.kill(reading, signal.SIGSTOP)
        statuses = len(manager.told)
        while "STATUS=1 camera" not in manager.told[statuses:]:
            assert manager.hears("WATCHDOG=1", WATCHDOG_SECONDS), "it is at work all the while"
        assert "STATUS=1 camera, blind: cam1" in manager.told[statuses:]
        assert reading not in children_of(running.process.pid)
        running.ask_to_stop()


def test_the_unit_file_exposes_at_most_what_is_promised() -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is missing")
    threshold = f"--threshold={MOST_EXPOSURE * 10:.0f}"
    command = [analyze, "security", "--offline=true", "--no-pager", threshold, str(UNIT)]
    judged = subprocess.run(command, capture_output=True, text=True, check=False)

    assert "Overall exposure level" in judged.stdout, judged.stderr
    assert judged.returncode == 0, judged.stdout
