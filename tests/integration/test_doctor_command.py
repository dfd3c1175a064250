"""``edge-doctor`` on boxes that are well, and on boxes where one thing after another is not."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_samples import read_document
from commands import (
    CLIP,
    INSTALLED,
    TERMINATED,
    Box,
    Finished,
    good_part,
    write_config,
    write_pictures,
)
from mosquitto import Mosquitto, Received, Subscriber, free_port
from scenes import make_bundle

from edge_sdk.choice import choice_path
from edge_sdk.config import load_config

ABSENT = next(number for number in count() if not Path(f"/dev/video{number}").exists())


@pytest.fixture
def broker(mosquitto_path: Path) -> Iterator[Mosquitto]:  # noqa: ARG001 - skips where there is none
    with Mosquitto() as running:
        yield running


@pytest.fixture
def box(tmp_path: Path) -> Box:
    box = Box(tmp_path)
    make_bundle(tmp_path / "bundle")
    write_pictures(tmp_path / "good", [good_part(seed) for seed in range(4)])
    return box


def device_file(box: Box, port: int, **changes: Any) -> Path:
    """A device file with one camera that shows good parts; ``camera`` changes that camera."""
    camera = {"name": "cam1", "source": "dir:good", **changes.pop("camera", {})}
    settings: dict[str, Any] = {
        "bundle": "bundle",
        "cameras": [camera],
        "mqtt": {"host": "localhost", "port": port},
    }
    return write_config(box.folder / "box.yaml", **(settings | changes))


def diagnose(box: Box, *words: object, code: int) -> dict[str, dict[str, Any]]:
    """Findings by name; every one that is not ok has a fix, and no other."""
    answer = box.run("doctor", *words, "--json").expect(code).answer
    assert answer["exit_code"] == code
    checks = answer["checks"]
    assert all((check["fix"] is not None) == (check["status"] != "ok") for check in checks), checks
    found = {check["name"]: check for check in checks}
    assert len(found) == len(checks)
    return found


def failed(found: dict[str, dict[str, Any]]) -> set[str]:
    return {name for name, check in found.items() if check["status"] == "fail"}


def test_a_box_that_is_well_has_nothing_that_fails(box: Box, broker: Mosquitto) -> None:
    config = device_file(box, broker.port)
    box.run("enroll", "--config", config).expect(0)

    found = diagnose(box, "--config", config, code=0)

    assert failed(found) == set()
    assert list(found) == [
        "python", "libraries", "settings", "engine onnxruntime", "engine openvino", "bundle",
        "graph", "self-test", "clock", "state", "disk", "camera cam1", "references cam1", "broker",
    ]  # fmt: skip
    assert found["python"]["detail"].startswith(sys.version.split()[0])
    assert "1 golden frames" in found["self-test"]["detail"]
    assert "32x32" in found["camera cam1"]["detail"]
    assert "default/1, 4 pictures" in found["references cam1"]["detail"]
    assert found["references cam1"]["status"] == "warn", "four pictures: provisional"
    assert "lets this device in, MQTT 5" in found["broker"]["detail"]


def statuses(received: list[Received]) -> list[Received]:
    """Births and last wills among them."""
    return [message for message in received if message.topic.endswith("/status")]


def test_the_table_shows_each_fix_below_its_line(box: Box) -> None:
    done = box.run("doctor", "--bundle", "bundle", "--camera", str(ABSENT)).expect(6)
    lines = done.stdout.splitlines()
    for index, line in enumerate(lines[:-1]):
        if not line.startswith(" "):
            assert re.match(r"(ok  |warn|FAIL)  \S", line), line
            rest = "\n".join(lines[index + 1 :])
            has_fix = re.match(r"(?: .*\n)*? {28}fix: \S", rest) is not None
            assert has_fix == (not line.startswith("ok")), line
    assert re.fullmatch(r"\d+ ok, \d+ warnings, 3 failed", lines[-1])
    assert f"/dev/video{ABSENT} does not exist" in done.stdout
    assert "fix: edge-enroll --camera " in done.stdout


def test_it_changes_and_publishes_nothing(box: Box, broker: Mosquitto) -> None:
    config = device_file(box, broker.port)
    with Subscriber(broker.port) as plant:
        diagnose(box, "--config", config, code=11)
        plant.publish("end", b"")
        plant.wait_for(lambda messages: any(message.topic == "end" for message in messages), 10)
        assert [message.topic for message in plant.received] == ["end"]
    assert not box.state.exists()


def test_every_other_check_has_its_turn_where_the_settings_are_wrong(box: Box) -> None:
    config = box.folder / "box.yaml"
    config.write_text("camras: []\n", encoding="utf-8")
    found = diagnose(box, "--config", config, code=3)
    assert failed(found) == {"settings"}
    assert "camras" in found["settings"]["detail"]
    assert found["self-test"]["status"] == "ok", "of the built-in bundle"
    assert found["broker"]["detail"] == "not checked: the settings cannot be read"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"bundle": "nowhere"}, ("bundle", 4, "no such bundle", "copy it")),
        ({"engine": {"device": "cuda", "name": "onnxruntime"}}, ("graph", 7, "cuda", "another")),
        ({"engine": {"precision": "int8"}}, ("graph", 4, "int8", "another engine, device or")),
        ({"engine": {"name": "mine"}}, ("graph", 7, "is not known", "another engine")),
        ({"camera": {"source": "dir:gone"}}, ("camera cam1", 6, "gone", "put pictures")),
        ({"camera": {"source": str(ABSENT)}}, ("camera cam1", 6, "exist", "/dev/v4l/by-id")),
        (
            {"camera": {"source": "rtsp://127.0.0.1:1/x"}},
            ("camera cam1", 6, "refuses connections", "network and address"),
        ),
        (
            {"camera": {"crop": {"x": 8, "y": 0, "width": 32, "height": 32}}},
            ("camera cam1", 3, "crop: expected inside the 32x32", "device file"),
        ),
        (
            {"camera": {"reference_set": "left"}},
            ("references cam1", 11, "no reference set 'left'", "edge-enroll --config"),
        ),
        (
            {"camera": {"output": {"driver": "nosuch", "address": "x"}}},
            ("output cam1", 3, "output driver nosuch: is not known", "install"),
        ),
        (
            {"camera": {"output": {"driver": "gpio", "address": "/dev/gpiochip99:1:2"}}},
            ("output cam1", 6, "/dev/gpiochip99 does not exist", "gpiochip"),
        ),
        (
            {"mqtt": {"host": "localhost", "port": 1}},
            ("broker", 75, "cannot be reached", "nothing is lost"),
        ),
        (
            {"mqtt": {"host": "localhost", "username": "a", "password_file": "no.password"}},
            ("broker", 3, "no.password", "correct mqtt"),
        ),
    ],
)
def test_one_thing_that_is_wrong_is_found_and_no_other_blamed(
    box: Box, broker: Mosquitto, changes: dict[str, Any], expected: tuple[str, int, str, str]
) -> None:
    name, code, said, fix = expected
    if "gpio" in json.dumps(changes):
        pytest.importorskip("gpiod")
    box.run("enroll", "--config", device_file(box, broker.port)).expect(0)
    config = device_file(box, broker.port, **changes)

    found = diagnose(box, "--config", config, code=code)

    assert failed(found) == {name}
    assert said in found[name]["detail"]
    assert fix in found[name]["fix"]


def test_a_bundle_that_computes_wrongly_fails_its_self_test(box: Box, broker: Mosquitto) -> None:
    from io import BytesIO

    stream = BytesIO()
    np.save(stream, np.zeros((), np.float32))
    make_bundle(box.folder / "wrong", files={"golden/expected/0/score.npy": stream.getvalue()})
    config = device_file(box, broker.port)
    box.run("enroll", "--config", config).expect(0)

    found = diagnose(box, "--config", config, "--bundle", box.folder / "wrong", code=9)

    assert failed(found) == {"self-test"}
    assert "judge no parts with it" in found["self-test"]["fix"]


def test_a_damaged_bundle_is_told_from_one_for_another_runtime(box: Box) -> None:
    table = next((box.folder / "bundle" / "golden").rglob("tokens*.npy"))
    table.write_bytes(table.read_bytes()[:-1] + b"x")
    found = diagnose(box, "--bundle", "bundle", "--camera", "dir:good", code=5)
    assert {"bundle", "references cam1"} <= failed(found)
    assert found["self-test"]["status"] == "warn"


def test_a_bundle_of_random_numbers_is_no_bundle_to_judge_with(box: Box) -> None:
    model = {**read_document(box.folder / "bundle")["model"], "random_weights": True}
    make_bundle(box.folder / "random", model=model)
    for words, status, code in (([], "fail", 4), (["--allow-untrained"], "warn", 11)):
        found = diagnose(box, "--bundle", "random", "--camera", "dir:good", *words, code=code)
        assert found["bundle"]["status"] == status
        assert "random numbers" in found["bundle"]["detail"]


def test_a_threshold_is_provisional_until_it_is_learned_or_given(
    box: Box, broker: Mosquitto
) -> None:
    run_in = {"parts": 20, "false_alarms_per_100": 5}
    config = device_file(box, broker.port, camera={"run_in": run_in})
    box.run("enroll", "--config", config).expect(0)
    line = write_pictures(box.folder / "line", [good_part(seed) for seed in range(100, 130)])
    for max_frames, fix in ((10, "edge-run --run-in"), (20, "edge-enroll review")):
        learning = device_file(
            box, broker.port,
            camera={
                "source": line,
                "run_in": run_in,
                "trigger": {"mode": "interval", "interval_seconds": 0.05},
            },
        )  # fmt: skip
        box.run("run", "--config", learning, "--max-frames", max_frames).expect(0)
        found = diagnose(box, "--config", config, code=0)
        assert fix in found["references cam1"]["fix"]
    waiting = box.run("enroll", "review", "--config", config, "--json").expect(0).answer["waiting"]
    numbers = ",".join(str(part["number"]) for part in waiting)
    box.run("enroll", "review", "--config", config, "--accept", numbers).expect(0)
    assert diagnose(box, "--config", config, code=0)["references cam1"]["status"] == "ok"
    given = device_file(box, broker.port, camera={"threshold_override": 0.5})
    assert diagnose(box, "--config", given, code=0)["references cam1"]["status"] == "ok"


def test_references_of_another_size_than_the_camera_gives_are_found(
    box: Box, broker: Mosquitto
) -> None:
    """The clip stands for a camera: its pictures are larger than those that were enrolled."""
    config = device_file(box, broker.port)
    box.run("enroll", "--config", config).expect(0)
    region = {"name": "all", "mode": "include", "polygon": [[0, 0], [9, 0], [9, 9]]}
    camera = {"source": f"file:{CLIP}", "regions": [region]}
    config = device_file(box, broker.port, camera=camera)

    found = diagnose(box, "--config", config, code=11)

    assert failed(found) == {"references cam1"}
    assert "of 32x32, but the camera gives 640x360" in found["references cam1"]["detail"]


def test_a_running_inspection_is_left_alone(box: Box, broker: Mosquitto) -> None:
    taken = free_port()
    config = device_file(
        box,
        broker.port,
        camera={"trigger": {"mode": "http"}},
        trigger_server={"host": "127.0.0.1", "port": taken},
    )
    box.run("enroll", "--config", config).expect(0)
    with Subscriber(broker.port) as plant, box.start("run", "--config", config) as running:
        (birth,) = plant.wait_for(lambda received: bool(statuses(received)), 60)[:1]
        assert json.loads(birth.payload)["online"] is True
        found = diagnose(box, "--config", config, code=0)
        plant.publish("end", b"")
        plant.wait_for(lambda received: received[-1].topic == "end", 10)
        assert statuses(plant.received) == [birth], "it was not pushed out of the broker"
        pid = running.process.pid
        assert found["state"]["detail"].endswith(f"in use by process {pid}")
        assert f"process {pid} has it" in found["trigger server"]["detail"]
        running.ask_to_stop().expect(TERMINATED)


def test_a_port_that_another_program_has_is_found(box: Box, broker: Mosquitto) -> None:
    config = device_file(
        box, broker.port, trigger_server={"host": "127.0.0.1", "port": broker.port}
    )
    box.run("enroll", "--config", config).expect(0)
    found = diagnose(box, "--config", config, code=3)
    assert failed(found) == {"trigger server"}
    assert f"sport = :{broker.port}" in found["trigger server"]["fix"]


def test_what_this_box_has_measured_is_what_is_checked(box: Box) -> None:
    config = device_file(box, free_port(), engine={"name": "auto", "precision": "auto"})
    settings = load_config(config)
    from edge_sdk.bundle.reader import open_bundle

    bundle = open_bundle(box.folder / "bundle")
    state = box.folder / "state"
    path = choice_path(bundle, settings.engine, state)
    path.parent.mkdir(parents=True)
    kept = {
        "format": 1, "engine": "openvino", "precision": "fp32", "reason": "because it is quick",
        "measured": [], "measured_at": "2026-01-01T00:00:00+00:00", "processor": "this one",
    }  # fmt: skip
    path.write_text(json.dumps(kept), encoding="utf-8")
    pytest.importorskip("openvino")

    found = diagnose(box, "--config", config, "--state", state, code=11)

    assert found["graph"]["detail"] == "openvino on cpu in fp32; because it is quick"


def test_a_full_or_forbidden_disk_is_found(box: Box, broker: Mosquitto) -> None:
    (box.folder / "file").write_text("in the way", encoding="utf-8")
    config = device_file(box, broker.port)
    found = diagnose(box, "--config", config, "--state", box.folder / "file" / "state", code=3)
    assert "state" in failed(found)
    assert "cannot be written" in found["state"]["detail"]
    assert "install -d -o" in found["state"]["fix"]
    config = device_file(box, broker.port, spool={"max_megabytes": 1_000_000})
    found = diagnose(box, "--config", config, code=11)
    assert found["disk"]["status"] == "warn"
    assert "lower spool.max_megabytes" in found["disk"]["fix"]


def test_a_library_that_does_not_load_is_named(box: Box) -> None:
    """A broken cv2 comes before the real one, as a half-finished installation would."""
    (box.folder / "broken" / "cv2").mkdir(parents=True)
    (box.folder / "broken" / "cv2" / "__init__.py").write_text(
        "raise ImportError('libGL.so.1: cannot open shared object file')\n", encoding="utf-8"
    )
    path = os.pathsep.join([str(box.folder / "broken"), str(INSTALLED)])
    command = [sys.executable, "-m", "edge_sdk.cli.doctor", "--bundle", "bundle", "--json"]
    with box.start_program(command, PYTHONPATH=path) as running:
        done: Finished = running.finish()
    answer = done.expect(1).answer
    first = next(check for check in answer["checks"] if check["status"] == "fail")
    assert first["name"] == "library opencv-python-headless"
    assert "libGL.so.1" in first["detail"]
    assert first["fix"] == "pip install --force-reinstall opencv-python-headless"
    assert all(check["fix"] for check in answer["checks"] if check["status"] != "ok")


def test_a_password_is_in_no_line(box: Box) -> None:
    source = f"rtsp://admin:s3cr3t@127.0.0.1:{free_port()}/line"
    done = box.run("doctor", "--bundle", "bundle", "--camera", source).expect(6)
    assert "s3cr3t" not in done.stdout + done.stderr
    assert "fix: edge-enroll --camera rtsp://127.0.0.1:" in done.stdout
