"""Twenty power cuts: what was told to anybody is still there, and each part has one true result."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from alerts import open_spool
from careful_plant import CarefulPlant
from commands import TERMINATED
from disk import Disk, disk_or_skip
from mosquitto import Mosquitto
from scenes import child_environment
from triggered import DEVICE, device_file, enroll_box, is_bad_in_fives, true_verdict

CUTS = 20
WRITER = """
import pathlib, sys, alerts
spool = alerts.open_spool(pathlib.Path(sys.argv[1]))
with spool._storage.transaction() as connection:
    before = connection
before.execute(f"PRAGMA synchronous = {sys.argv[2]}")
while True:
    print(spool.append(alerts.make_draft()).message_id, flush=True)
"""


def cut(disk: Disk, process: subprocess.Popen[str]) -> None:
    """The disk and the process lose their power, and the disk gets it back."""
    disk.cut(process)
    disk.unmount()
    disk.mount()


def is_sound(spool: Path, scratch: Path) -> bool:
    """Whether SQLite finds nothing wrong; with a copy, so that the original is not touched."""
    shutil.copytree(spool, scratch)
    try:
        with closing(sqlite3.connect(scratch / "spool.db")) as connection:
            return bool(connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))
    finally:
        shutil.rmtree(scratch)


def lost_at_a_cut(disk: Disk, scratch: Path, seconds: float, synchronous: str) -> tuple[int, int]:
    """Append messages until the power is cut: how many were said to be stored, and are not."""
    folder = disk.place / synchronous
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    os.sync()
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), synchronous],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # it complains of its disk
        text=True,
        env=child_environment(),
    ) as writer:
        assert writer.stdout is not None
        told = [writer.stdout.readline().strip()]
        time.sleep(seconds)
        cut(disk, writer)
        told += writer.stdout.read().split()
    assert is_sound(folder / "spool", scratch)
    spool = open_spool(folder)
    stored = {message.message_id for message in spool.peek(100_000)}
    spool.close()
    return len(told), len(set(told) - stored)


@pytest.mark.slow
def test_a_power_cut_loses_no_message_that_was_said_to_be_stored(tmp_path: Path) -> None:
    chance = random.Random(5)
    told = lost = 0
    with disk_or_skip(tmp_path, tmp_path / "disk") as disk:
        for _ in range(CUTS):
            one = lost_at_a_cut(disk, tmp_path / "copy", chance.uniform(0, 0.5), "FULL")
            told, lost = told + one[0], lost + one[1]
        print(f"{CUTS} power cuts: {told} messages stored, {lost} lost")
        assert lost == 0
        assert told > 10 * CUTS
        # The same without waiting for the disk, to see that these cuts would show it.
        careless: list[int] = []
        while sum(careless) == 0:
            assert len(careless) < CUTS, "these cuts lose nothing whatever is done"
            careless.append(lost_at_a_cut(disk, tmp_path / "copy", 0.3, "NORMAL")[1])
        print(f"with synchronous=NORMAL: {careless} lost")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_part_has_one_true_result_through_power_cuts(
    tmp_path: Path, mosquitto_path: Path
) -> None:
    del mosquitto_path  # or it is skipped
    chance = random.Random(6)
    box = enroll_box(tmp_path / "box", is_bad=is_bad_in_fives)
    config = device_file(box, pace=None, trigger={"mode": "mqtt", "deadline_seconds": 5})
    enrolled = box.state.rename(tmp_path / "enrolled")
    with disk_or_skip(tmp_path, box.state) as disk, Mosquitto(persistence=True) as broker:
        shutil.copytree(enrolled, box.state, dirs_exist_ok=True)
        os.sync()
        run = ("run", "--config", config, "--mqtt", f"localhost:{broker.port}", "--json")
        books = CarefulPlant(broker.port, DEVICE, true_verdict, under_way=1, again_seconds=0.3)
        with books as plant:
            for _ in range(CUTS):
                with box.start(*run) as running:
                    plant.wait_for_answers(plant.answered + 1, 60)
                    time.sleep(chance.uniform(0.3, 2.0))
                    cut(disk, running.process)
                assert is_sound(box.state / "spool", tmp_path / "copy")
            with box.start(*run) as running:
                plant.finish(60)
                running.ask_to_stop().expect(TERMINATED)
            balance = plant.balance()
    print(f"{CUTS} power cuts: {balance}")
    assert balance.is_even, balance
    assert balance.given == balance.answered > 5 * CUTS
    assert balance.repeated_share <= 0.02
