"""A real mosquitto for tests, and an independent subscriber that writes down what arrives."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, final

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

HOST = "127.0.0.1"
NOBODY = 65534
BINARY = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def free_port() -> int:
    """A loopback port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@final
class Mosquitto:
    """A broker on a port of its own, which stays the same when it is started again.

    Args:
        persistence: whether it saves every change, so that a kill loses nothing.
        acl: its rules for topics.
        settings: more lines of its configuration; ``{folder}`` is where ``files`` are.
        before: the same, before all others: other listeners, which are there when it is started.
        files: name to content.
        port: a loopback port; None: any free one.
    """

    def __init__(
        self,
        *,
        persistence: bool = False,
        acl: str | None = None,
        settings: Sequence[str] = (),
        before: Sequence[str] = (),
        files: Mapping[str, bytes] | None = None,
        port: int | None = None,
    ) -> None:
        self.port = port or free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="mosquitto-"))
        self._process: subprocess.Popen[bytes] | None = None
        lines = [*before, f"listener {self.port} {HOST}", "allow_anonymous true", *settings]
        lines = [line.format(folder=self._folder) for line in lines]
        for name, content in (files or {}).items():
            (self._folder / name).write_bytes(content)
        if persistence:
            lines += [
                "persistence true",
                f"persistence_location {self._folder}/",
                "autosave_interval 1",
                "autosave_on_changes true",
                "max_queued_messages 0",
            ]
        if acl is not None:
            acl_file = self._folder / "acl"
            acl_file.write_text(acl, encoding="utf-8")
            lines.append(f"acl_file {acl_file}")
        self._config = self._folder / "mosquitto.conf"
        self._config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        if os.geteuid() == 0:  # as root it would change to a user who may not enter the folder
            for path in (self._folder, *self._folder.iterdir()):
                os.chown(path, NOBODY, NOBODY)

    def __enter__(self) -> Mosquitto:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self.kill()
        shutil.rmtree(self._folder)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The running broker."""
        assert self._process is not None, "mosquitto is not running"
        return self._process

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        assert BINARY is not None, "mosquitto is not installed"
        unprivileged: dict[str, Any] = {}
        if os.geteuid() == 0:
            unprivileged = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        self._process = subprocess.Popen(
            [BINARY, "-c", str(self._config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **unprivileged,
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            assert self._process.poll() is None, "mosquitto ended at once"
            try:
                socket.create_connection((HOST, self.port), timeout=1).close()
            except ConnectionRefusedError:
                time.sleep(0.02)  # a process that is starting offers nothing to wait for
            else:
                return
        raise AssertionError("mosquitto takes no connections")

    def stop(self) -> None:
        """End it as an administrator would; it saves what it holds."""
        self.process.terminate()
        self.process.wait(timeout=10)
        self._process = None

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait(timeout=10)
        self._process = None

    def freeze(self) -> None:
        """Let it answer nothing, with its connections open."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)


@dataclass(frozen=True)
class Received:
    """A message as the subscriber saw it."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: Mapping[str, Any]


@final
class Subscriber:
    """Collects every message, shares no code with the publisher, and outlives broker restarts."""

    def __init__(self, port: int, topic: str = "#", *, name: str = "plant") -> None:
        self.received: list[Received] = []
        self._topic = topic
        self._changed = threading.Condition()
        self._is_subscribed = False
        self._port = port
        self._client = Client(
            CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.reconnect_delay_set(min_delay=1, max_delay=1)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message

    def __enter__(self) -> Subscriber:
        # A session that outlives connections, so that nothing is missed while it reconnects.
        expiry = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # left untyped
        expiry.SessionExpiryInterval = 3600
        self._client.connect(HOST, self._port, keepalive=30, clean_start=False, properties=expiry)
        self._client.loop_start()
        with self._changed:
            assert self._changed.wait_for(lambda: self._is_subscribed, 10), "no SUBACK"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, qos: int = 1) -> None:
        """Publish as the plant would, and wait for the broker."""
        self._client.publish(topic, payload, qos=qos, retain=retain).wait_for_publish(10)

    def send(self, topic: str, payload: bytes) -> None:
        """Publish without waiting; without a connection, with the next one."""
        self._client.publish(topic, payload, qos=1)

    @property
    def is_connected(self) -> bool:
        """Whether it knows of no reason why it should not be."""
        return self._client.is_connected()

    def since(self, count: int) -> list[Received]:
        """The messages after the first ``count``."""
        with self._changed:
            return self.received[count:]

    def wait_for(
        self, predicate: Callable[[list[Received]], bool], timeout_seconds: float
    ) -> list[Received]:
        """Wait until the predicate holds for the list of messages, and give a copy of the list."""
        with self._changed:
            if not self._changed.wait_for(lambda: predicate(self.received), timeout_seconds):
                seen = "\n".join(f"{m.topic} {m.payload[:120]!r}" for m in self.received[-20:])
                raise AssertionError(
                    f"not seen within {timeout_seconds} s; {len(self.received)} messages, "
                    f"the last:\n{seen}"
                )
            return list(self.received)

    def on(self, topic: str) -> list[Received]:
        """The messages of one topic so far."""
        with self._changed:
            return [message for message in self.received if message.topic == topic]

    def _on_connect(self, client: Client, *_: object) -> None:
        client.subscribe(self._topic, qos=1)

    def _on_subscribe(self, *_: object) -> None:
        with self._changed:
            self._is_subscribed = True
            self._changed.notify_all()

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        properties: Any = message.properties
        entry = Received(
            message.topic,
            bytes(message.payload),
            message.qos,
            message.retain,
            {} if properties is None else properties.json(),
        )
        with self._changed:
            self.received.append(entry)
            self._changed.notify_all()
