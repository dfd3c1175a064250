"""What ``edge-run`` writes down while strangers send it nonsense and its passwords are wrong."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cameras import Camera, mjpeg_camera, rtsp_camera
from commands import TERMINATED, Box, Running, children_of, good_part, write_config, write_pictures
from mosquitto import Mosquitto, Subscriber
from plant import PREFIX, Plant
from scenes import make_bundle

FORGED = '\n{"level": "critical", "logger": "edge_sdk", "message": "forged"}'
DEVICE = "box-7"
ABSENT = next(str(number) for number in count() if not Path(f"/dev/video{number}").exists())
CAMERA_PASSWORD = "p@#!ss: w%/ö?&"  # noqa: S105 - the subject
BROKER_PASSWORD = 'Broker\'5 "Geheimnis"'  # noqa: S105 - the subject
WRONG = "hunter2-hunter2"


@pytest.fixture(autouse=True)
def _needs_mosquitto(mosquitto_path: Path) -> None:
    """Skip where there is no broker (CI fails instead)."""


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> Box:
    """A computer whose camera ``cam1`` was shown four good parts."""
    box = Box(tmp_path_factory.mktemp("enrolled"))
    make_bundle(box.folder / "bundle")
    pictures = write_pictures(box.folder / "good", [good_part(seed) for seed in range(4)])
    box.run("enroll", "--bundle", box.folder / "bundle", "--camera", pictures).expect(0)
    return box


def events_of(stderr: str) -> list[dict[str, Any]]:
    """All lines, each of which must be an event."""
    events = []
    for line in stderr.splitlines():
        event = json.loads(line)
        assert {"ts", "level", "logger", "message"} <= set(event), line
        events.append(event)
    return events


def test_nonsense_from_the_plant_stays_in_its_line_and_a_flood_of_it_is_counted(
    enrolled: Box, tmp_path: Path
) -> None:
    config = write_config(
        tmp_path / "device.yaml",
        device={"name": DEVICE},
        bundle=str(enrolled.folder / "bundle"),
        state_dir=str(enrolled.state),
        cameras=[
            {
                "name": "cam1",
                "source": ABSENT,
                "trigger": {"mode": "mqtt", "deadline_seconds": 1},
            }
        ],
    )
    with (
        Plant() as plant,
        start(enrolled, config, "--mqtt", plant.address) as running,
    ):
        plant.wait_until(lambda seen: bool(seen.all_of("state")))
        for payload in (FORGED.encode(), b"\xff\xfe\x00\x1b[2J", b"[" * 1000, b'{"part_id": 1}'):
            plant.publish(f"{PREFIX}/{DEVICE}/cmd/trigger", payload)
        plant.publish(f"{PREFIX}/{DEVICE}/cmd/{FORGED[1:]}\u2028{FORGED[1:]}", b"")
        for number in range(400):
            plant.publish(f"{PREFIX}/{DEVICE}/cmd/Flood-{number}", b"")
        plant.command("trigger", {"part_id": "last"}, device=DEVICE)
        plant.wait_until(lambda seen: any(m["part_id"] == "last" for m in seen.messages("result")))
        finished = running.ask_to_stop()

    assert finished.exit_code == TERMINATED
    assert finished.stdout == ""
    events = events_of(finished.stderr)
    assert not [event for event in events if event["message"] == "forged"]
    assert [event for event in events if FORGED[1:] in event["message"]]
    ignored = [event for event in events if "Flood-" in event["message"]]
    dropped = sum(event.get("dropped", 0) for event in events)
    assert len(ignored) + dropped >= 400, "each is written or counted"
    assert len(ignored) <= 200
    (result,) = [event for event in events if event.get("part_id") == "last"]
    assert (result["kind"], result["camera"]) == ("result", "cam1")


def test_a_failure_is_an_event_too_also_before_the_settings_are_known(tmp_path: Path) -> None:
    box = Box(tmp_path)
    config = tmp_path / "device.yaml"
    config.write_text("mqtt:\n  prot: 1\n  host: [1]\n", encoding="utf-8")

    finished = box.run("run", "--config", config, "--log-format", "json")

    assert finished.exit_code == 3
    (event,) = events_of(finished.stderr)
    assert (event["level"], event["logger"]) == ("critical", "edge-run")
    assert "mqtt.prot" in event["message"]


GUARDED: dict[str, tuple[Callable[..., Camera], str, str]] = {
    "http": (mjpeg_camera, "basic", "http://127.0.0.1:{port}/stream"),
    "query": (
        mjpeg_camera,
        "query",
        "http://127.0.0.1:{port}/stream?user={{username}}&pwd={{password}}",
    ),
    "rtsp": (rtsp_camera, "digest", "rtsp://127.0.0.1:{port}/line"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("make", "method", "place"), GUARDED.values(), ids=GUARDED)
def test_passwords_are_in_no_log_message_argument_or_file(
    enrolled: Box, tmp_path: Path, make: Callable[..., Camera], method: str, place: str
) -> None:
    with (
        make("--auth", method, credentials=("admin", CAMERA_PASSWORD)) as camera,
        guarded_broker(tmp_path) as broker,
        Subscriber(broker.port) as plant,
    ):
        config = write_config(
            tmp_path / "device.yaml",
            device={"name": DEVICE},
            bundle=str(enrolled.folder / "bundle"),
            state_dir=str(enrolled.state),
            cameras=[
                {
                    "name": "cam1",
                    "source": place.format(port=camera.port),
                    "username": "admin",
                    "password_file": "camera-password",
                }
            ],
            mqtt={
                "host": "127.0.0.1",
                "port": broker.port,
                "username": "device",
                "password_file": "mqtt-password",
            },
        )
        seen: list[bytes] = []
        put_secrets(tmp_path, CAMERA_PASSWORD, BROKER_PASSWORD)
        with start(enrolled, config) as running:
            plant.wait_for(lambda all_: any(is_seeing(m.topic, m.payload) for m in all_), 60)
            seen.append(arguments_below(running.process.pid))
            finished = running.ask_to_stop()
        seen += [finished.stdout.encode(), finished.stderr.encode()]
        checked = enrolled.run("doctor", "--config", config, "--verbose")
        seen += [checked.stdout.encode(), checked.stderr.encode()]

        put_secrets(tmp_path, WRONG, WRONG)
        with start(enrolled, config) as running:
            running.wait_for_line("does not accept this user and password")
            running.wait_for_line("expected to be let in, got")
            seen.append(arguments_below(running.process.pid))
            finished = running.ask_to_stop()
        seen += [finished.stdout.encode(), finished.stderr.encode()]
        events_of(finished.stderr)
        seen += [m.topic.encode() + b" " + m.payload for m in plant.wait_for(lambda _: True, 0)]
    seen += [path.read_bytes() for path in enrolled.state.rglob("*") if path.is_file()]

    assert sum(map(len, seen)) > 10_000, "there was something to look through"
    for where in seen:
        for secret in (CAMERA_PASSWORD, BROKER_PASSWORD, WRONG):
            for form in forms_of(secret):
                assert form not in where, (secret, where[:2000])


def start(box: Box, config: Path, *words: object) -> Running:
    """As a service that says all it can."""
    service = ("--wait-camera", "--log-format", "json", "--verbose")
    return box.start("run", "--config", config, *service, *words)


def guarded_broker(folder: Path) -> Mosquitto:
    """A broker that knows the device, and lets others in without a password."""
    passwords = folder / "passwords"
    subprocess.run(
        ["mosquitto_passwd", "-b", "-c", str(passwords), "device", BROKER_PASSWORD], check=True
    )
    return Mosquitto(
        settings=["password_file {folder}/passwords"],
        files={"passwords": passwords.read_bytes()},
    )


def put_secrets(folder: Path, camera: str, broker: str) -> None:
    for name, secret in (("camera-password", camera), ("mqtt-password", broker)):
        (folder / name).write_text(secret + "\n", encoding="utf-8")
        (folder / name).chmod(0o600)


def is_seeing(topic: str, payload: bytes) -> bool:
    """Whether a message is the state of a device whose camera gives frames."""
    if not topic.endswith("/state"):
        return False
    return bool(json.loads(payload)["cameras"]["cam1"]["state"] != "blind")


def arguments_below(pid: int) -> bytes:
    """Arguments of a process and of all that it has started."""
    found = Path(f"/proc/{pid}/cmdline").read_bytes()
    return found + b"".join(arguments_below(child) for child in children_of(pid))


def forms_of(secret: str) -> set[bytes]:
    """A secret as it is, and as it stands in addresses, headers and JSON."""
    plain = secret.encode()
    forms = {plain, quote(secret, safe="").encode(), quote(secret).encode()}
    forms |= {json.dumps(secret)[1:-1].encode(), ascii(secret)[1:-1].encode()}
    for user in (b"admin", b"device"):
        forms.add(base64.b64encode(user + b":" + plain))
    return forms
