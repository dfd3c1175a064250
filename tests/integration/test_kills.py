"""A hundred kills of the device and thirty of the broker: each part has one result, a true one."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

import pytest
from careful_plant import CarefulPlant
from commands import TERMINATED, Box
from mosquitto import Mosquitto
from triggered import DEVICE, device_file, enroll_box, is_bad_in_fives, true_verdict

KILLS = 100
BROKER_KILLS = 30


@pytest.fixture(autouse=True)
def _needs_mosquitto(mosquitto_path: Path) -> None:
    """Skip where there is no broker (CI fails instead)."""


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return enroll_box(tmp_path_factory.mktemp("kills"), is_bad=is_bad_in_fives).folder


@pytest.fixture
def box(enrolled: Path, tmp_path: Path) -> Box:
    shutil.copytree(enrolled, tmp_path / "box")
    return Box(tmp_path / "box")


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_every_part_has_one_true_result_through_kills_of_the_device_and_of_the_broker(
    box: Box,
) -> None:
    chance = random.Random(20)
    trigger = {"mode": "mqtt", "deadline_seconds": 5}
    config = device_file(box, pace=None, trigger=trigger)  # each part the next frame, at once
    broker_dies = set(chance.sample(range(KILLS), BROKER_KILLS))
    early = 0
    with Mosquitto(persistence=True) as broker:
        run = ("run", "--config", config, "--mqtt", f"localhost:{broker.port}", "--json")
        with CarefulPlant(
            broker.port, DEVICE, true_verdict, under_way=1, again_seconds=0.3
        ) as plant:
            for life in range(KILLS):
                with box.start(*run) as running:
                    if chance.random() < 0.2:  # while it starts, or before its first result
                        early += 1
                    else:
                        plant.wait_for_answers(plant.answered + 1, 60)
                    time.sleep(chance.uniform(0, 2.0))
                    if life in broker_dies:
                        broker.kill()
                        time.sleep(chance.uniform(0, 0.4))
                        if chance.random() < 0.5:  # the device dies during the outage, or after it
                            running.process.kill()
                        broker.start()
                        time.sleep(chance.uniform(0, 0.4))
                    assert running.process.poll() in (None, -9), "it ends by no fault but ours"
                    running.process.kill()
            with box.start(*run) as running:
                plant.finish(60)
                running.ask_to_stop().expect(TERMINATED)
            balance = plant.balance()
    print(f"{KILLS} kills ({early} while it started), {BROKER_KILLS} of the broker: {balance}")
    assert balance.is_even, balance
    assert balance.given == balance.answered > 5 * KILLS
    assert balance.verdicts["normal"] > 2 * KILLS
    assert balance.verdicts["anomalous"] > 2 * KILLS
    assert balance.repeated_share <= 0.02
