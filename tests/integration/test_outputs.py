"""The reject/hold line of a real ``edge-run``: killed, frozen, late, and on a disk that stalls."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import gettempdir

import pytest
from commands import TERMINATED, Box
from gateway import Gateway
from plant import Plant
from triggered import (
    ABSENT,
    device_file,
    enroll_box,
    results,
    service,
    trigger,
    wait_for_results,
)

from edge_sdk.records import Verdict


@pytest.fixture(autouse=True)
def _needs_mosquitto(mosquitto_path: Path) -> None:
    """Skip where there is no broker (CI fails instead)."""


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return enroll_box(tmp_path_factory.mktemp("outputs")).folder


@pytest.fixture
def box(enrolled: Path, tmp_path: Path) -> Box:
    shutil.copytree(enrolled, tmp_path / "box")
    return Box(tmp_path / "box")


@pytest.fixture
def config(box: Box) -> Path:
    good = f"file:{box.folder / 'good.avi'}"
    return device_file(box, source=good, output=output(box, pass_seconds=30))


def output(box: Box, **settings: float) -> dict[str, object]:
    return {
        "driver": "socket",
        "address": str(line_of(box)),
        "heartbeat_seconds": 0.05,
        **settings,
    }


def line_of(box: Box) -> Path:
    """A path short enough for a socket, wherever the tests run."""
    return Path(gettempdir()) / f"edge-line-{box.folder.stat().st_ino}"


@contextmanager
def stalled_disk(box: Box) -> Iterator[None]:
    """Nothing can be committed to the spool meanwhile."""
    with closing(sqlite3.connect(box.state / "spool" / "spool.db", isolation_level=None)) as held:
        held.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            held.execute("ROLLBACK")


def pass_a_part(plant: Plant, gateway: Gateway, number: int) -> None:
    trigger(plant, part_id=f"A-{number}", trigger_id=f"t-{number}")
    gateway.wait_until(lambda gateway: bool(gateway.shown(f"A-{number}")))


def test_a_good_part_passes_and_a_stopped_device_lets_nothing_pass(box: Box, config: Path) -> None:
    with Plant() as plant, service(box, plant, config) as running, Gateway(line_of(box)) as gateway:
        assert gateway.side == "safe"
        pass_a_part(plant, gateway, 1)
        assert gateway.side == "pass"
        assert gateway.shown("A-1")[0].line["provisional"] is True, "four references only"
        wait_for_results(plant, 1)
        running.ask_to_stop().expect(TERMINATED)
        gateway.wait_until(lambda gateway: not gateway.is_connected)
        assert gateway.shown()[-1].line["reason"] == "stopped"
        assert gateway.side == "safe"
    assert [result["verdict"] for result in results(plant)] == ["normal"]


def test_a_killed_process_leaves_the_line_safe_and_every_part_with_one_result(
    box: Box, config: Path
) -> None:
    with Plant() as plant:
        with service(box, plant, config) as running, Gateway(line_of(box)) as gateway:
            pass_a_part(plant, gateway, 1)
            wait_for_results(plant, 1)
            assert gateway.side == "pass"
            running.process.send_signal(signal.SIGKILL)
            gateway.wait_until(lambda gateway: not gateway.is_connected)
            assert gateway.side == "safe"
            assert gateway.shown()[-1].line["side"] == "pass", "it had no time to say so itself"

        with service(box, plant, config) as running, Gateway(line_of(box)) as gateway:
            trigger(plant, part_id="A-1", trigger_id="t-1")  # sent again by a careful plant
            pass_a_part(plant, gateway, 2)
            wait_for_results(plant, 2)
            running.ask_to_stop().expect(TERMINATED)

    assert Counter(result["trigger_id"] for result in results(plant)) == {"t-1": 1, "t-2": 1}
    (refusal,) = plant.messages("event")
    assert refusal["data"]["reason"] == "trigger_id was used before"
    assert refusal["data"]["trigger_id"] == "t-1"


def test_a_part_whose_device_was_killed_gets_its_fault_after_the_restart(box: Box) -> None:
    blind = device_file(
        box,
        source=str(ABSENT),
        pace=None,
        trigger={"mode": "mqtt", "deadline_seconds": 60},
        output=output(box),
    )
    with Plant() as plant:
        with service(box, plant, blind, "--wait-camera") as running:
            trigger(plant, part_id="A-1", trigger_id="t-1")
            trigger(plant, part_id="A-2", camera="elsewhere")
            plant.wait_until(lambda plant: bool(plant.messages("event")))  # so t-1 is on the disk
            running.process.send_signal(signal.SIGKILL)
        with service(box, plant, blind, "--wait-camera") as running:
            wait_for_results(plant, 1)
            running.ask_to_stop().expect(TERMINATED)
    (result,) = results(plant)
    assert (result["part_id"], result["trigger_id"]) == ("A-1", "t-1")
    assert (result["verdict"], result["reason"]) == ("fault", "interrupted")


def test_a_frozen_process_is_noticed_by_its_silence(box: Box, config: Path) -> None:
    with Plant() as plant, service(box, plant, config) as running, Gateway(line_of(box)) as gateway:
        pass_a_part(plant, gateway, 1)
        running.process.send_signal(signal.SIGSTOP)
        gateway.wait_until(lambda gateway: gateway.side == "safe")
        assert gateway.is_connected, "nobody told it"
        running.process.send_signal(signal.SIGCONT)
        wait_for_results(plant, 1)
        running.ask_to_stop().expect(TERMINATED)


def test_a_part_that_no_camera_sees_is_held_at_its_deadline(box: Box) -> None:
    blind = device_file(
        box,
        source=str(ABSENT),
        pace=None,
        trigger={"mode": "mqtt", "deadline_seconds": 0.2},
        output=output(box),
    )
    with (
        Plant() as plant,
        service(box, plant, blind, "--wait-camera") as running,
        Gateway(line_of(box)) as gateway,
    ):
        pass_a_part(plant, gateway, 1)
        wait_for_results(plant, 1)
        running.ask_to_stop().expect(TERMINATED)
    (shown,) = gateway.shown("A-1")
    assert (shown.line["side"], shown.line["reason"]) == ("safe", "timeout")
    assert [result["reason"] for result in results(plant)] == ["timeout"]


def test_verdicts_are_shown_while_the_disk_stalls_for_two_seconds_and_none_is_lost(
    box: Box, config: Path
) -> None:
    with Plant() as plant, service(box, plant, config) as running, Gateway(line_of(box)) as gateway:
        pass_a_part(plant, gateway, 0)
        wait_for_results(plant, 1)
        with stalled_disk(box):
            released = time.monotonic() + 2
            for number in range(1, 9):
                pass_a_part(plant, gateway, number)
            time.sleep(max(0.0, released - time.monotonic()))
            assert len(results(plant)) == 1, "nothing is published that is not on the disk"
            verdicts = [gateway.shown(f"A-{number}")[0].line["verdict"] for number in range(1, 9)]
        wait_for_results(plant, 9)
        running.ask_to_stop().expect(TERMINATED)
    assert [result["part_id"] for result in results(plant)] == [f"A-{n}" for n in range(9)]
    assert [result["verdict"] for result in results(plant)][1:] == verdicts
    assert set(verdicts) == {Verdict.NORMAL}


def test_a_line_that_cannot_be_opened_ends_the_start(box: Box) -> None:
    line = {"driver": "socket", "address": str(box.folder / "missing" / "line")}
    config = device_file(box, output=line)
    box.run("run", "--config", config, "--dry-run", "--max-frames", "1").expect(
        6, "output socket", "missing"
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"driver": "socket"}, "address"),
        ({"driver": "lamp", "address": "x"}, "known are gpio, socket"),
        ({"driver": "socket", "address": "x"}, "absolute path"),
        ({"driver": "socket", "address": "/run/x", "pass_seconds": 0}, "pass_seconds"),
    ],
)
def test_a_line_that_means_nothing_is_refused(
    box: Box, line: dict[str, object], words: str
) -> None:
    config = device_file(box, output=line)
    box.run("run", "--config", config, "--dry-run", "--max-frames", "1").expect(3, words)
