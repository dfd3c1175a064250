"""Who ``edge-run`` talks to and what it shows of itself: real brokers with TLS, passwords and
certificates, right ones and wrong ones; and nobody can talk to it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from commands import TERMINATED, Box, Finished, Running, good_part, write_config, write_pictures
from mosquitto import HOST, Mosquitto, Subscriber, free_port
from pki import Authority, need_openssl
from plant import PREFIX, Plant
from scenes import make_bundle

DEVICE = "box-7"
STATE = f"{PREFIX}/{DEVICE}/state"
ABSENT = next(str(number) for number in count() if not Path(f"/dev/video{number}").exists())
ANYWHERE = "0.0.0.0"  # noqa: S104 - leads to this computer, and is no loopback address
PASSWORD = 'Broker\'5 "Geheimnis"'  # noqa: S105 - the subject


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


class Plants:
    """The plant's authority, somebody else's, and what they have signed."""

    def __init__(self, folder: Path) -> None:
        need_openssl()
        self.authority = Authority(folder, "plant")
        self.stranger = Authority(folder, "stranger")
        self.broker = self.authority.issue("broker", f"IP:{HOST},DNS:localhost")
        self.elsewhere = self.authority.issue("elsewhere", "DNS:broker.example")
        self.nameless = self.authority.issue("localhost")
        self.ended = self.authority.issue("ended", f"IP:{HOST},DNS:localhost", days=-1)
        self.false = self.stranger.issue("broker", f"IP:{HOST},DNS:localhost")
        self.device = self.authority.issue(DEVICE)
        self.ended_device = self.authority.issue("ended-device", days=-1)
        self.false_device = self.stranger.issue(DEVICE)


@pytest.fixture(scope="module")
def plants(tmp_path_factory: pytest.TempPathFactory) -> Plants:
    return Plants(tmp_path_factory.mktemp("pki"))


@contextmanager
def tls_broker(
    plants: Plants, *settings: str, shows: tuple[Path, Path] | None = None, **files: bytes
) -> Iterator[tuple[int, Subscriber]]:
    """A broker's port for TLS, and somebody who listens at another port to all that it takes."""
    certificate, key = shows or plants.broker
    port = free_port()
    lines = ["per_listener_settings true", f"listener {port} {HOST}", *settings]
    lines += ["certfile {folder}/certificate", "keyfile {folder}/key"]
    content = {
        "certificate": certificate.read_bytes(),
        "key": key.read_bytes(),
        "authority": plants.authority.certificate.read_bytes(),
        **files,
    }
    with Mosquitto(before=lines, files=content) as broker, Subscriber(broker.port) as listening:
        yield port, listening


def write_device(box: Box, folder: Path, **mqtt: Any) -> Path:
    """A device file with a camera that isn't there, and these settings of the broker."""
    return write_config(
        folder / "device.yaml",
        device={"name": DEVICE},
        bundle=str(box.folder / "bundle"),
        state_dir=str(box.state),
        cameras=[{"name": "cam1", "source": ABSENT}],
        mqtt=mqtt,
    )


def start(box: Box, config: Path, environment: Mapping[str, str] | None = None) -> Running:
    program = box.program("run", "--config", config, "--wait-camera")
    return box.start_program(program, **(environment or {}))


def flags_of(listening: Subscriber) -> list[str]:
    """Of the device's state, as soon as it says it."""
    seen = listening.wait_for(lambda all_: any(m.topic == STATE for m in all_), 60)
    flags: list[str] = json.loads([m for m in seen if m.topic == STATE][-1].payload)["flags"]
    return flags


def test_a_user_and_a_password_out_of_the_service_s_credentials_go_through_tls(
    enrolled: Box, plants: Plants, tmp_path: Path
) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir(mode=0o700)
    (credentials / "mqtt-password").write_text(PASSWORD, encoding="utf-8")
    (credentials / "mqtt-password").chmod(0o440)  # as systemd leaves it
    passwords = tmp_path / "passwords"
    create = ["mosquitto_passwd", "-b", "-c", str(passwords), "device", PASSWORD]
    subprocess.run(create, check=True)
    settings = ["allow_anonymous false", "password_file {folder}/passwords"]
    with tls_broker(plants, *settings, passwords=passwords.read_bytes()) as (port, listening):
        config = write_device(
            enrolled,
            tmp_path,
            host="localhost",
            port=port,
            username="device",
            password_file="mqtt-password",  # noqa: S106 - where it is
            tls={"ca_file": str(plants.authority.certificate)},
        )
        with start(enrolled, config, {"CREDENTIALS_DIRECTORY": str(credentials)}) as running:
            assert not {"insecure_mqtt", "tls_error"} & set(flags_of(listening))
            assert running.ask_to_stop().exit_code == TERMINATED


def test_a_certificate_of_the_device_s_own_lets_it_in(
    enrolled: Box, plants: Plants, tmp_path: Path
) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir(mode=0o700)
    for name, path in zip(("device.pem", "device.key"), plants.device, strict=True):
        (credentials / name).write_bytes(path.read_bytes())
        (credentials / name).chmod(0o440)
    acl = f"user {DEVICE}\ntopic readwrite {PREFIX}/{DEVICE}/#\n"
    settings = ["allow_anonymous false", "acl_file {folder}/rules", *NEEDS_CERTIFICATE]
    with tls_broker(plants, *settings, rules=acl.encode()) as (port, listening):
        config = write_device(
            enrolled,
            tmp_path,
            host=HOST,
            port=port,
            tls={
                "ca_file": str(plants.authority.certificate),
                "cert_file": "device.pem",
                "key_file": "device.key",
            },
        )
        with start(enrolled, config, {"CREDENTIALS_DIRECTORY": str(credentials)}) as running:
            assert not {"insecure_mqtt", "tls_error"} & set(flags_of(listening))
            assert running.ask_to_stop().exit_code == TERMINATED


WHY = {
    "elsewhere": "IP address mismatch",
    "nameless": "IP address mismatch",
    "ended": "certificate has expired",
}
ANYBODY = "allow_anonymous true"
NEEDS_CERTIFICATE = (
    "cafile {folder}/authority",
    "require_certificate true",
    "use_identity_as_username true",
)


@pytest.mark.parametrize("shown", [None, "false_device", "ended_device"])
def test_a_device_without_a_good_certificate_is_told_that_this_is_why(
    enrolled: Box, plants: Plants, tmp_path: Path, shown: str | None
) -> None:
    tls = {"ca_file": str(plants.authority.certificate)}
    if shown is not None:
        certificate, key = getattr(plants, shown)
        tls |= {"cert_file": str(certificate), "key_file": str(key)}
    with tls_broker(plants, *NEEDS_CERTIFICATE) as (port, listening):
        config = write_device(enrolled, tmp_path, host=HOST, port=port, tls=tls)
        with start(enrolled, config) as running:
            (line, *_) = running.wait_for_line(f"broker {HOST}:{port}")
            finished = running.ask_to_stop()
        assert "certificate" in line.lower(), line
        assert_nothing_was_said(finished, listening)


@pytest.mark.parametrize(
    ("shown", "trusted"),
    [
        ("elsewhere", "authority"),
        ("nameless", "authority"),
        ("ended", "authority"),
        ("false", "authority"),
        ("broker", "stranger"),
        ("broker", None),
    ],
)
def test_a_broker_that_cannot_show_who_it_is_gets_nothing(
    enrolled: Box, plants: Plants, tmp_path: Path, shown: str, trusted: str | None
) -> None:
    tls = {} if trusted is None else {"ca_file": str(getattr(plants, trusted).certificate)}
    with tls_broker(plants, ANYBODY, shows=getattr(plants, shown)) as (port, listening):
        config = write_device(enrolled, tmp_path, host=HOST, port=port, tls=tls)
        with start(enrolled, config) as running:
            running.wait_for_line("certificate verify failed")
            finished = running.ask_to_stop()
        why = WHY.get(shown, "unable to get local issuer certificate")
        assert why in finished.stderr, finished.stderr
        assert_nothing_was_said(finished, listening)


def test_a_broker_that_speaks_plain_text_where_tls_is_wanted_gets_nothing(
    enrolled: Box, plants: Plants, tmp_path: Path
) -> None:
    with Plant() as plant:
        config = write_device(
            enrolled,
            tmp_path,
            host=HOST,
            port=plant.broker.port,
            tls={"ca_file": str(plants.authority.certificate)},
        )
        with start(enrolled, config) as running:
            running.wait_for_line(f"broker {HOST}:{plant.broker.port}: cannot be reached")
            running.ask_to_stop()
        assert not plant.received


def test_plain_text_leaves_the_computer_only_when_allowed_and_the_state_says_so(
    enrolled: Box, tmp_path: Path
) -> None:
    with Mosquitto() as broker, Subscriber(broker.port) as listening:
        config = write_device(enrolled, tmp_path, host=ANYWHERE, port=broker.port)
        refused = enrolled.run("run", "--config", config)
        assert refused.exit_code == 3
        assert "allow_insecure" in refused.stderr
        refused = enrolled.run("run", "--camera", ABSENT, "--mqtt", f"{ANYWHERE}:{broker.port}")
        assert refused.exit_code == 3
        assert "allow_insecure" in refused.stderr
        assert not listening.wait_for(lambda _: True, 0)

        config = write_device(
            enrolled, tmp_path, host=ANYWHERE, port=broker.port, allow_insecure=True
        )
        with start(enrolled, config) as running:
            assert "insecure_mqtt" in flags_of(listening)
            running.wait_for_line(f"{ANYWHERE}: messages leave this computer unencrypted")
            running.ask_to_stop()


@pytest.mark.parametrize("trigger", [None, "http"])
def test_nobody_can_talk_to_it_unless_a_server_was_asked_for(
    enrolled: Box, trigger: str | None
) -> None:
    words = ["--bundle", enrolled.folder / "bundle", "--camera", ABSENT, "--wait-camera"]
    if trigger is not None:
        words += ["--trigger", f"{trigger}:{free_port()}"]
    with Plant() as plant, enrolled.start("run", *words, "--mqtt", plant.address) as running:
        plant.wait_until(lambda seen: bool(seen.all_of("state")))

        assert sockets_of(running.process.pid, "tcp", "tcp6"), "its connection to the broker"
        assert len(listening_in(running.process.pid)) == (trigger is not None)


def assert_nothing_was_said(finished: Finished, listening: Subscriber) -> None:
    assert finished.exit_code == TERMINATED, finished.stderr
    assert not listening.wait_for(lambda _: True, 0)


def listening_in(pid: int) -> list[str]:
    """Sockets of a process that take connections (TCP) or datagrams of anybody (UDP)."""
    tcp = [line for line in sockets_of(pid, "tcp", "tcp6") if line.split()[3] == "0A"]
    udp = [line for line in sockets_of(pid, "udp", "udp6") if line.split()[3] != "01"]
    return tcp + udp


def sockets_of(pid: int, *kinds: str) -> list[str]:
    """Lines of the kernel's tables about sockets of a process."""
    shown = subprocess.run(
        ["find", f"/proc/{pid}/fd", "-printf", "%l\n"], capture_output=True, text=True, check=False
    )  # not by ourselves: one that is closed meanwhile is no error
    own = set(shown.stdout.split())
    lines = [
        line
        for kind in kinds
        for line in Path(f"/proc/{pid}/net/{kind}").read_text().splitlines()[1:]
    ]
    return [line for line in lines if f"socket:[{line.split()[9]}]" in own]
