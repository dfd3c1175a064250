"""From the spool to a subscriber that knows nothing of us, through a real broker and its faults."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from alerts import CAMERA, QUICK, TOPICS, make_draft, make_publisher, open_spool
from jsonschema import Draft202012Validator
from mosquitto import Mosquitto, Received, Subscriber, free_port

from edge_sdk import Message, MessageKind, PublishError, Verdict
from edge_sdk.alerting.forwarder import Forwarder, ForwarderSettings
from edge_sdk.alerting.payload import DeviceFlag, load_schema
from edge_sdk.alerting.publisher import MqttPublisher
from edge_sdk.alerting.spool import Spool
from edge_sdk.alerting.trigger import TriggerRequest, parse_trigger

ROOT = Path(__file__).resolve().parents[2]
ALERT = TOPICS.alert(CAMERA)
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}


@pytest.fixture(autouse=True)
def _needs_mosquitto(mosquitto_path: Path) -> None:
    """Skip where there is no broker (CI fails instead)."""


@dataclass(frozen=True)
class Device:
    """A running device, without its cameras."""

    spool: Spool
    publisher: MqttPublisher
    forwarder: Forwarder


@contextmanager
def device(
    directory: Path,
    port: int,
    *,
    patience: ForwarderSettings = QUICK,
    max_rows: int = 100_000,
    is_confirmed: bool = False,
    **settings: Any,
) -> Iterator[Device]:
    spool = open_spool(directory, max_rows=max_rows)
    publisher = make_publisher(directory, port, is_confirmed=is_confirmed, **settings)
    forwarder = Forwarder(spool, publisher, patience)
    forwarder.start()
    try:
        yield Device(spool, publisher, forwarder)
    finally:
        assert forwarder.stop(drain_seconds=1) or "no acknowledgement" in str(forwarder.last_error)
        spool.close()


def until(predicate: Callable[[], bool], timeout_seconds: float, what: str) -> None:
    """Wait for something inside the device that nothing announces."""
    deadline = time.monotonic() + timeout_seconds
    while not predicate():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_seconds} s"
        time.sleep(0.01)


def ids(received: list[Received], topic: str = ALERT) -> list[str]:
    return [json.loads(m.payload)["message_id"] for m in received if m.topic == topic]


def has_all(messages: list[Message]) -> Callable[[list[Received]], bool]:
    wanted = {message.message_id for message in messages}
    return lambda received: wanted <= set(ids(received))


def statuses(subscriber: Subscriber) -> list[tuple[bool, str, int]]:
    values = [json.loads(message.payload) for message in subscriber.on(TOPICS.status)]
    return [(value["online"], value["reason"], value["session"]) for value in values]


def test_a_message_reaches_an_independent_subscriber_once_and_fits_the_schema(
    tmp_path: Path,
) -> None:
    with Mosquitto() as broker, Subscriber(broker.port) as plant:
        with device(tmp_path, broker.port) as box:
            alert = box.spool.append(make_draft(), b"\xff\xd8 a picture")
            result = box.spool.append(
                make_draft(kind=MessageKind.RESULT, verdict=Verdict.NORMAL, part_id="A-1")
            )
            plant.wait_for(lambda seen: any(m.topic == f"{ALERT}/image" for m in seen), 10)
            until(lambda: box.spool.statistics().rows == 0, 5, "acknowledged")
        seen = plant.wait_for(lambda seen: seen[-1].topic == TOPICS.status, 5)

    topics = [message.topic for message in seen]
    assert topics == [
        TOPICS.status,
        ALERT,
        TOPICS.result(CAMERA),
        TOPICS.image(CAMERA),
        TOPICS.status,
    ], "birth, messages in order, pictures after them, goodbye; each once"
    for message, sent in zip(seen[1:3], (alert, result), strict=True):
        values = json.loads(message.payload)
        Draft202012Validator(load_schema("message")).validate(values)
        assert (values["message_id"], values["seq"]) == (sent.message_id, sent.seq)
        assert (message.qos, message.retain) == (1, False)
        assert message.properties["ContentType"] == "application/json"
        assert message.properties["PayloadFormatIndicator"] == 1
        assert dict(message.properties["UserProperty"]) == {
            "schema": "edge/message/1",
            "message_id": sent.message_id,
            "seq": str(sent.seq),
        }
    picture = seen[3]
    assert picture.payload == b"\xff\xd8 a picture"
    assert dict(picture.properties["UserProperty"])["message_id"] == alert.message_id
    for status in (seen[0], seen[4]):
        Draft202012Validator(load_schema("status")).validate(json.loads(status.payload))
    assert statuses(plant) == [(True, "birth", 1), (False, "shutdown", 1)]


def test_nothing_is_lost_when_the_broker_is_killed_and_comes_back_in_the_middle(
    tmp_path: Path,
) -> None:
    with (
        Mosquitto(persistence=True) as broker,
        Subscriber(broker.port) as plant,
        device(tmp_path, broker.port) as box,
    ):
        sent = [box.spool.append(make_draft()) for _ in range(40)]
        plant.wait_for(lambda seen: len(seen) > 10, 10)
        for _ in range(2):
            broker.kill()
            until(lambda: not box.forwarder.is_connected, 10, "noticed")
            assert DeviceFlag.OFFLINE_SPOOLING in box.forwarder.flags
            sent += [box.spool.append(make_draft()) for _ in range(40)]
            broker.start()
            plant.wait_for(has_all(sent), 15)
        until(lambda: box.spool.statistics().rows == 0, 5, "acknowledged")
    assert set(ids(plant.received)) == {message.message_id for message in sent}


def test_a_device_killed_during_an_outage_loses_nothing_that_append_had_returned(
    tmp_path: Path,
) -> None:
    with Mosquitto(persistence=True) as broker, Subscriber(broker.port) as plant:
        child = start_child(tmp_path, broker.port)
        returned = read_ids(child, 40)
        plant.wait_for(lambda seen: len(ids(seen)) >= 20, 10)
        broker.kill()
        returned += read_ids(child, 60)
        child.kill()
        returned += child.communicate()[0].split()
        broker.start()

        with device(tmp_path, broker.port) as box:
            waiting = box.spool.statistics().rows
            assert waiting >= 60, "the outage was spooled"
            plant.wait_for(lambda seen: set(returned) <= set(ids(seen)), 15)
            until(lambda: box.spool.statistics().rows == 0, 5, "acknowledged")
    delivered = ids(plant.received)
    by_id: dict[str, dict[str, Any]] = {}
    for message in plant.on(ALERT):
        values = json.loads(message.payload)
        assert by_id.setdefault(values["message_id"], values) == values, "a repeat is the same"
    assert sorted(values["seq"] for values in by_id.values()) == list(range(1, len(by_id) + 1))
    assert len(by_id) - len(set(returned)) <= 1, "at most the one that was being stored"
    print(f"{len(by_id)} messages, {len(delivered) - len(by_id)} repeats")


def test_the_last_will_appears_after_a_kill_and_the_next_birth_supersedes_it(
    tmp_path: Path,
) -> None:
    with Mosquitto() as broker, Subscriber(broker.port, TOPICS.status) as plant:
        child = start_child(tmp_path, broker.port)
        read_ids(child, 1)
        plant.wait_for(lambda seen: len(seen) == 1, 10)
        child.kill()
        child.communicate()
        plant.wait_for(lambda seen: len(seen) == 2, 10)
        with device(tmp_path, broker.port):
            plant.wait_for(lambda seen: len(seen) == 3, 10)
            assert statuses(plant) == [(True, "birth", 1), (False, "lwt", 1), (True, "birth", 2)]
            with Subscriber(broker.port, TOPICS.status, name="late") as late:
                late.wait_for(lambda seen: len(seen) == 1, 5)
                assert late.received[0].retain
                assert statuses(late) == [(True, "birth", 2)]


def start_child(directory: Path, port: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "alerts.py"), str(directory), str(port)],
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )


def read_ids(child: subprocess.Popen[str], count: int) -> list[str]:
    assert child.stdout is not None
    return [child.stdout.readline().strip() for _ in range(count)]


@pytest.mark.parametrize(
    ("is_busy", "keepalive_seconds"), [(False, 1), (True, 600)], ids=["idle", "publishing"]
)
def test_a_broker_that_stands_still_is_noticed_and_nothing_is_lost(
    tmp_path: Path, is_busy: bool, keepalive_seconds: float
) -> None:
    with (
        Mosquitto() as broker,
        Subscriber(broker.port) as plant,
        device(
            tmp_path,
            broker.port,
            connect_timeout_seconds=1,
            keepalive_seconds=keepalive_seconds,
            acknowledge_timeout_seconds=1,
        ) as box,
    ):
        until(lambda: box.forwarder.is_connected, 5, "connected")
        broker.freeze()
        sent = [box.spool.append(make_draft()) for _ in range(50)] if is_busy else []
        until(lambda: not box.forwarder.is_connected, 5, "noticed")
        sent += [box.spool.append(make_draft()) for _ in range(10)]
        broker.thaw()
        plant.wait_for(has_all(sent), 10)
        assert box.forwarder.statistics.connections >= 2


def test_a_backlog_drains_within_ten_seconds_of_every_reconnection(tmp_path: Path) -> None:
    with (
        Mosquitto() as broker,
        Subscriber(broker.port, ALERT) as plant,
        device(tmp_path, broker.port) as box,
    ):
        until(lambda: box.forwarder.is_connected, 5, "connected")
        sent: list[Message] = []
        took = []
        for _ in range(4):
            broker.stop()
            until(lambda: not box.forwarder.is_connected, 5, "noticed")
            sent += [box.spool.append(make_draft()) for _ in range(400)]
            broker.start()
            began = time.monotonic()
            until(lambda: box.spool.statistics().rows == 0, 10, "400 messages")
            took.append(time.monotonic() - began)
        print(f"400 messages after a reconnection: {', '.join(f'{s:.1f}' for s in took)} s")
        assert box.forwarder.is_alive
        assert box.forwarder.statistics.messages == len(sent) == 1600
        assert box.publisher.statistics.refused == 0
        assert plant.received, "the subscriber was there"


def test_after_a_reconnection_come_birth_state_losses_and_then_messages(tmp_path: Path) -> None:
    with (
        Mosquitto(persistence=True) as broker,
        Subscriber(broker.port) as plant,
        device(tmp_path, broker.port, max_rows=5) as box,
    ):
        box.forwarder.set_state(b'{"v":1}')
        plant.wait_for(lambda seen: seen != [] and seen[-1].topic == TOPICS.state, 10)
        broker.stop()
        until(lambda: not box.forwarder.is_connected, 5, "noticed")
        for _ in range(8):
            box.spool.append(make_draft())
        broker.start()

        seen = plant.wait_for(lambda seen: len(ids(seen)) == 5, 10)
        order = [message.topic for message in seen if not message.retain][-8:]
        assert order == [TOPICS.status, TOPICS.state, TOPICS.event, *[ALERT] * 5]
        assert json.loads(plant.on(TOPICS.event)[0].payload)["data"]["to_seq"] == 3

        box.forwarder.set_state(b'{"v":1,"new":true}')
        plant.wait_for(lambda seen: seen[-1].payload == b'{"v":1,"new":true}', 5)
        with Subscriber(broker.port, TOPICS.state, name="late") as late:
            (retained,) = late.wait_for(bool, 5)
            assert retained.payload == b'{"v":1,"new":true}'
            assert retained.retain


NO_ALERTS = f"topic read #\ntopic write {TOPICS.status}\ntopic write {TOPICS.event}\n"


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_message_that_the_brokers_rules_forbid_is_kept_and_stops_no_others(
    tmp_path: Path, protocol: str
) -> None:
    patience = ForwarderSettings(first_wait_seconds=0.1, refused_wait_seconds=0.5)
    with (
        Mosquitto(acl=NO_ALERTS) as broker,
        Subscriber(broker.port) as plant,
        device(
            tmp_path, broker.port, patience=patience, protocol=protocol, read_back_seconds=0.5
        ) as box,
    ):
        forbidden = [box.spool.append(make_draft()) for _ in range(25)]  # more than a window
        allowed = box.spool.append(make_draft(kind=MessageKind.FAULT_OPEN, camera=None))
        plant.wait_for(lambda seen: allowed.message_id in ids(seen, TOPICS.event), 5)
        until(lambda: box.publisher.statistics.refused > 25, 10, "refused, and tried again")

        assert box.spool.peek(100) == forbidden
        assert box.forwarder.is_connected, "a refusal is no reason to reconnect"
        assert box.forwarder.statistics.connections == 1
        assert ids(plant.received) == []
        assert box.publisher.statistics.last_refusal is not None
        assert box.publisher.statistics.unverified == 0


def test_a_broker_of_3_1_1_that_lets_nothing_be_read_back_is_believed_and_counted(
    tmp_path: Path,
) -> None:
    with (
        Mosquitto(acl="topic write #\n") as broker,
        device(tmp_path, broker.port, protocol="3.1.1", read_back_seconds=0.3) as box,
    ):
        box.spool.append(make_draft())
        until(lambda: box.spool.statistics().rows == 0, 5, "acknowledged")
        assert box.publisher.statistics.unverified == 2, "the birth and the message"


def test_a_callback_that_raises_does_not_end_delivery(tmp_path: Path) -> None:
    def raise_always(*_: object) -> None:
        raise RuntimeError("a defect in a callback")

    with (
        Mosquitto() as broker,
        Subscriber(broker.port) as plant,
        device(tmp_path, broker.port) as box,
    ):
        until(lambda: box.forwarder.is_connected, 5, "connected")
        assert box.publisher._session is not None
        box.publisher._session.connection._client.on_message = raise_always
        plant.publish(TOPICS.command("trigger"), b"{}")
        sent = [box.spool.append(make_draft()) for _ in range(30)]

        plant.wait_for(has_all(sent), 10)
        until(lambda: box.spool.statistics().rows == 0, 5, "acknowledged")
        assert box.forwarder.is_alive
        assert box.forwarder.statistics.connections == 1


@contextmanager
def amqtt() -> Iterator[int]:
    """A broker that pip installs: it answers no connection of version 5."""
    port = free_port()
    program = (
        "import asyncio, sys\n"
        "from amqtt.broker import Broker\n"
        "async def serve():\n"
        "    listener = {'type': 'tcp', 'bind': '127.0.0.1:' + sys.argv[1]}\n"
        "    plugin = 'amqtt.plugins.authentication.AnonymousAuthPlugin'\n"
        "    plugins = {plugin: {'allow_anonymous': True}}\n"
        "    broker = Broker({'listeners': {'default': listener}, 'plugins': plugins})\n"
        "    await broker.start()\n"
        "    print('up', flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(serve())\n"
    )
    broker = subprocess.Popen(
        [sys.executable, "-c", program, str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with broker:
        assert broker.stdout is not None
        assert broker.stdout.readline() == "up\n"
        yield port
        broker.kill()


def test_a_broker_that_never_answers_version_5_gets_3_1_1(tmp_path: Path) -> None:
    pytest.importorskip("amqtt")
    with amqtt() as port, device(tmp_path, port, connect_timeout_seconds=1) as box:
        sent = [box.spool.append(make_draft()) for _ in range(30)]
        until(lambda: box.spool.statistics().rows == 0, 15, "acknowledged")

        assert box.publisher.version == "3.1.1"
        assert box.forwarder.statistics.messages == len(sent)
        assert box.publisher.statistics.unverified == 0, "each topic was read back"


def test_a_broker_that_took_version_5_once_is_never_offered_less(tmp_path: Path) -> None:
    patience: dict[str, Any] = {"connect_timeout_seconds": 0.5, "acknowledge_timeout_seconds": 0.5}
    with Mosquitto() as broker, Subscriber(broker.port) as plant:
        publisher = make_publisher(tmp_path, broker.port, **patience)
        publisher.connect()
        broker.freeze()
        with pytest.raises(PublishError, match="MQTT 5, got none"):
            publisher.connect()
        broker.thaw()
        publisher.connect()
        assert publisher.version == "5"
        plant.wait_for(lambda seen: seen[-1].topic == TOPICS.status, 5)
        publisher.close()


def test_commands_arrive_and_retained_or_oversized_ones_are_ignored(tmp_path: Path) -> None:
    command = TOPICS.command("trigger")
    with Mosquitto() as broker, Subscriber(broker.port) as plant:
        plant.publish(command, b'{"part_id":"old"}', retain=True)
        with device(tmp_path, broker.port) as box:
            plant.wait_for(lambda seen: seen[-1].topic == TOPICS.status, 5)
            plant.publish(command, b'{"part_id":"live but retained"}', retain=True)
            plant.publish(command, b"x" * 20_000)
            plant.publish(TOPICS.command("Trigger".lower()), b'{"v":1,"part_id":"A-1"}')

            received = box.publisher.commands.get(timeout=5)
            assert (received.name, parse_trigger(received.payload)) == (
                "trigger",
                TriggerRequest(part_id="A-1"),
            )
            assert box.publisher.commands.empty()
            assert box.publisher.statistics.commands == 1
            assert box.publisher.statistics.commands_ignored == 3


def test_a_flood_of_commands_is_bounded_and_does_not_stop_alerts(tmp_path: Path) -> None:
    with (
        Mosquitto() as broker,
        Subscriber(broker.port, ALERT) as plant,
        device(tmp_path, broker.port) as box,
    ):
        until(lambda: box.forwarder.is_connected, 5, "connected")
        for _ in range(400):
            plant.publish(TOPICS.command("trigger"), b"{}", qos=0)
        sent = [box.spool.append(make_draft())]
        plant.wait_for(has_all(sent), 5)
        until(lambda: box.publisher.statistics.commands_ignored == 144, 5, "counted")
        assert box.publisher.commands.qsize() == 256


def test_a_picture_that_the_broker_does_not_take_is_dropped_and_counted(tmp_path: Path) -> None:
    with (
        Mosquitto(settings=["max_packet_size 20000"]) as broker,
        Subscriber(broker.port) as plant,
        device(tmp_path, broker.port) as box,
    ):
        box.spool.append(make_draft(), b"j" * 60_000)
        box.spool.append(make_draft(), b"j" * 6_000)
        plant.wait_for(lambda seen: any(m.topic == f"{ALERT}/image" for m in seen), 5)
        until(lambda: box.spool.statistics().pictures == 0, 5, "none waits")
        assert box.spool.statistics().dropped["pictures"] == 1
        assert box.forwarder.statistics.connections == 1


def test_a_second_device_of_the_same_name_is_reported(tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "mqtt.session").write_text("41")  # so that the births differ
    with Mosquitto() as broker, device(tmp_path / "one", broker.port) as box:
        until(lambda: box.forwarder.is_connected, 5, "connected")
        assert box.forwarder.flags == set()
        twin = make_publisher(tmp_path / "two", broker.port)
        twin.connect()
        until(lambda: DeviceFlag.IDENTITY_CONFLICT in box.forwarder.flags, 10, "conflict")


def test_a_last_will_that_comes_late_does_not_stay(tmp_path: Path) -> None:
    late_will = b'{"v":1,"online":false,"reason":"lwt","boot_id":"x","session":1}'
    with (
        Mosquitto() as broker,
        Subscriber(broker.port, TOPICS.status) as plant,
        device(tmp_path, broker.port) as box,
    ):
        until(lambda: box.forwarder.is_connected, 5, "connected")
        plant.publish(TOPICS.status, late_will, retain=True)
        plant.wait_for(lambda seen: len(seen) == 3, 5)
        assert statuses(plant) == [(True, "birth", 1), (False, "lwt", 1), (True, "birth", 1)]
        assert DeviceFlag.IDENTITY_CONFLICT not in box.forwarder.flags


def test_a_broker_that_lets_nobody_in_is_not_hammered(tmp_path: Path) -> None:
    patience = ForwarderSettings(first_wait_seconds=30, longest_wait_seconds=30)
    with (
        Mosquitto(settings=["allow_anonymous false"]) as broker,
        device(tmp_path, broker.port, patience=patience) as box,
    ):
        until(lambda: box.forwarder.last_error is not None, 5, "refused")
        assert "uthori" in str(box.forwarder.last_error)
        assert not box.forwarder.is_connected
        assert box.forwarder.statistics.connections == 0


def test_an_absent_broker_keeps_nobody_from_appending_or_stopping(tmp_path: Path) -> None:
    with device(tmp_path, free_port()) as box:
        until(lambda: box.forwarder.last_error is not None, 5, "tried")
        assert box.spool.append(make_draft()).seq == 1
        began = time.monotonic()
        assert box.forwarder.stop(drain_seconds=5)
        assert time.monotonic() - began < 3


def test_messages_of_a_broken_spool_are_an_error_and_the_connection_lives_on(
    tmp_path: Path,
) -> None:
    with Mosquitto() as broker, device(tmp_path, broker.port) as box:
        until(lambda: box.forwarder.is_connected, 5, "connected")
        box.spool.append(make_draft())
        box.spool.close()
        box.spool._storage.last_seq += 1  # there seems to be a new message
        until(lambda: DeviceFlag.STORAGE_FAULT in box.forwarder.flags, 5, "noticed")
        assert box.forwarder.is_connected
        assert box.forwarder.is_alive


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two authorities, and a certificate of the first for 127.0.0.1."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("certificates")
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("plant", "stranger"):
        openssl(
            folder, "req", "-x509", *new_key, "-days", "2", "-subj", f"/CN={name}",
            "-keyout", f"{name}.key", "-out", f"{name}.pem",
        )  # fmt: skip
    openssl(
        folder, "req", "-x509", *new_key, "-days", "2", "-subj", "/CN=broker",
        "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE",
        "-CA", "plant.pem", "-CAkey", "plant.key", "-keyout", "broker.key", "-out", "broker.pem",
    )  # fmt: skip
    return folder


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_encrypted_connection_carries_all_and_a_stranger_is_refused(
    tmp_path: Path, certificates: Path
) -> None:
    files = {name: (certificates / name).read_bytes() for name in ("broker.pem", "broker.key")}
    plain_port = free_port()
    settings = [
        "certfile {folder}/broker.pem",
        "keyfile {folder}/broker.key",
        f"listener {plain_port} 127.0.0.1",
    ]
    trusted = ssl.create_default_context(cafile=certificates / "plant.pem")
    stranger = ssl.create_default_context(cafile=certificates / "stranger.pem")
    part_id = "p" * 100
    with Mosquitto(settings=settings, files=files) as broker, Subscriber(plain_port) as plant:
        with device(tmp_path, broker.port, tls=trusted) as box:
            sent = [box.spool.append(make_draft(), b"j" * 100_000) for _ in range(3)]
            until(lambda: box.forwarder.is_connected, 5, "connected")
            for _ in range(100):
                plant.publish(
                    TOPICS.command("trigger"), json.dumps({"part_id": part_id}).encode(), qos=0
                )
            plant.wait_for(has_all(sent), 10)
            until(lambda: box.forwarder.statistics.pictures == 3, 10, "pictures")
            until(lambda: box.publisher.statistics.commands == 100, 5, "commands")
            assert box.forwarder.flags == set()

        with device(tmp_path, broker.port, tls=stranger) as box:
            until(lambda: DeviceFlag.TLS_ERROR in box.forwarder.flags, 5, "refused")
            assert "certificate" in str(box.forwarder.last_error).lower()
            assert box.forwarder.statistics.connections == 0


def test_a_stop_sends_what_waits_before_it_says_goodbye(tmp_path: Path) -> None:
    with (
        Mosquitto() as broker,
        Subscriber(broker.port) as plant,
        device(tmp_path, broker.port) as box,
    ):
        until(lambda: box.forwarder.is_connected, 5, "connected")
        sent = [box.spool.append(make_draft()) for _ in range(100)]
        assert box.forwarder.stop(drain_seconds=10)
        seen = plant.wait_for(lambda seen: seen[-1].topic == TOPICS.status, 5)
        assert has_all(sent)(seen)
        assert box.spool.statistics().rows == 0


def test_a_session_file_that_cannot_be_read_does_not_keep_alerts_back(tmp_path: Path) -> None:
    (tmp_path / "mqtt.session").write_text("seven")
    with (
        Mosquitto() as broker,
        Subscriber(broker.port) as plant,
        device(tmp_path, broker.port) as box,
    ):
        plant.wait_for(has_all([box.spool.append(make_draft())]), 10)
        assert statuses(plant)[0][2] > 1_000_000_000, "above any number used before"


def test_a_new_message_is_not_kept_waiting_by_a_backlog_and_the_backlog_still_arrives(
    tmp_path: Path,
) -> None:
    with Mosquitto() as broker, Subscriber(broker.port, ALERT) as plant:
        spool = open_spool(tmp_path)
        backlog = [spool.append(make_draft()) for _ in range(800)]
        spool.close()
        with device(tmp_path, broker.port) as box:
            plant.wait_for(lambda seen: len(seen) >= 20, 10)
            live = []
            for number in range(5):
                live.append(box.spool.append(make_draft()))
                plant.wait_for(has_all(live), 10)
                before = len(plant.on(ALERT))
                assert before < len(backlog), f"message {number} waited for the backlog"
            plant.wait_for(has_all(backlog), 30)
    order = [seq for seq in seqs(plant.on(ALERT)) if seq <= backlog[-1].seq]
    assert order == sorted(order), "each lane in its order"


def seqs(received: list[Received]) -> list[int]:
    return [json.loads(message.payload)["seq"] for message in received]


def test_delivered_messages_are_sent_again_when_asked_for_and_as_they_were(tmp_path: Path) -> None:
    told: list[int] = []
    with (
        Mosquitto() as broker,
        Subscriber(broker.port, ALERT) as plant,
        device(tmp_path, broker.port) as box,
    ):
        sent = [box.spool.append(make_draft()) for _ in range(60)]
        until(lambda: box.spool.statistics().rows == 0, 10, "acknowledged")
        plant.wait_for(has_all(sent), 5)
        assert box.forwarder.resend(11, 50, told.append)
        assert not box.forwarder.resend(1, 2, told.append), "one range at a time"
        until(lambda: told == [40], 10, "told")
        plant.wait_for(lambda seen: len(seen) == 100, 10)
        assert box.forwarder.resend(900, 999, told.append)
        until(lambda: told == [40, 0], 10, "nothing of these is kept, and that is told")
    first = {message.payload for message in plant.received[:60]}
    again = plant.received[60:]
    assert seqs(again) == list(range(11, 51))
    assert {message.payload for message in again} <= first


def test_end_to_end_a_message_waits_until_a_receiver_has_it_and_is_sent_again_until_then(
    tmp_path: Path,
) -> None:
    patience = ForwarderSettings(is_end_to_end=True, first_confirm_seconds=0.3)
    with Mosquitto() as broker, Subscriber(broker.port, ALERT) as plant:
        with device(tmp_path, broker.port, patience=patience, is_confirmed=True) as box:
            sent = [box.spool.append(make_draft()) for _ in range(3)]
            plant.wait_for(lambda seen: len(seen) >= 6, 10)
            assert box.spool.statistics().rows == 3, "that the broker has them is not enough"
            plant.publish(TOPICS.ack, b"seq 1")
            plant.publish(TOPICS.ack, b'{"seqs": [0]}')
            plant.publish(TOPICS.ack, json.dumps({"seqs": [sent[0].seq, sent[2].seq]}).encode())
            until(lambda: box.spool.statistics().rows == 1, 5, "confirmed")
            assert seqs_of(box.spool) == [2]
        with device(tmp_path, broker.port, patience=patience, is_confirmed=True) as box:
            until(lambda: box.forwarder.statistics.messages > 0, 5, "connected, and sent again")
            plant.publish(TOPICS.ack, b'{"v": 1, "seqs": [2, 99]}')
            until(lambda: box.spool.statistics().rows == 0, 5, "confirmed after a restart")
    times = {seq: seqs(plant.on(ALERT)).count(seq) for seq in (1, 2, 3)}
    assert min(times.values()) >= 2, times


def seqs_of(spool: Spool) -> list[int]:
    return [message.seq for message in spool.peek(100)]
