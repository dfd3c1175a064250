"""The plant: a broker, and a stranger who holds all that a device says against the schemas."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, final

from jsonschema import Draft202012Validator
from mosquitto import Mosquitto, Received, Subscriber

from edge_sdk.alerting.payload import MAX_BYTES, load_schema
from edge_sdk.imaging import decode_image

PREFIX: Final = "edge/v1"

_VALIDATORS: Final = {
    name: Draft202012Validator(load_schema(name))
    for name in (
        "message",
        "state",
        "status",
        "trigger",
        "references",
        "challenge",
        "resync",
        "ack",
    )
}


@final
class Plant:
    """A broker, and an independent subscriber to all of it.

    Args:
        port: of the broker; None: any free one.
    """

    def __init__(self, port: int | None = None) -> None:
        self.broker = Mosquitto(port=port)

    @property
    def address(self) -> str:
        """For ``--mqtt``."""
        return f"localhost:{self.broker.port}"

    def __enter__(self) -> Plant:
        self.broker.start()
        self._subscriber = Subscriber(self.broker.port).__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._subscriber.__exit__(kind, error, trace)
        self.broker.__exit__(kind, error, trace)
        if kind is None:
            self.check()

    @property
    def received(self) -> list[Received]:
        """Everything so far, the retained and our own commands included."""
        return self._subscriber.wait_for(lambda _: True, 0)

    def messages(self, kind: str = "") -> list[dict[str, Any]]:
        """Durable messages so far, as they came; ``kind``: what theirs starts with."""
        return [
            message
            for received in self.received
            if is_message(received.topic)
            for message in [json.loads(received.payload)]
            if message["kind"].startswith(kind)
        ]

    def pictures(self) -> dict[str, bytes]:
        """MQTT message id (as the picture carries it) to JPEG."""
        return {
            dict(received.properties["UserProperty"])["message_id"]: received.payload
            for received in self.received
            if received.topic.endswith("/image")
        }

    def last(self, name: str) -> dict[str, Any]:
        """The newest payload of ``status`` or ``state``."""
        return self.all_of(name)[-1]

    def all_of(self, name: str) -> list[dict[str, Any]]:
        """All payloads of ``status`` or ``state``."""
        return [
            json.loads(received.payload)
            for received in self.received
            if received.topic.endswith(f"/{name}")
        ]

    def wait_until(self, predicate: Callable[[Plant], bool], timeout_seconds: float = 60) -> None:
        """Wait until the predicate holds; asked again at every message."""
        self._subscriber.wait_for(lambda _: predicate(self), timeout_seconds)

    def publish(self, topic: str, payload: bytes) -> None:
        """Say something in the name of anybody."""
        self._subscriber.publish(topic, payload)

    def command(self, name: str, payload: bytes | Mapping[str, Any], *, device: str) -> None:
        """Send a command; a mapping is one that the schema must accept."""
        if not isinstance(payload, bytes):
            _VALIDATORS[name].validate(payload)
            payload = json.dumps(payload).encode()
        self.publish(f"{PREFIX}/{device}/cmd/{name}", payload)

    def retained(self, name: str) -> list[dict[str, Any]]:
        """What somebody who comes only now is told on ``status`` or ``state``."""
        late = Subscriber(self.broker.port, f"{PREFIX}/+/{name}", name="late")
        with late:
            received = late.wait_for(bool, 10)
        for message in received:
            assert message.retain, message
            check(message)
        return [json.loads(message.payload) for message in received]

    def check(self) -> None:
        """Hold everything that arrived against what the documents promise."""
        for received in self.received:
            check(received)


def is_message(topic: str) -> bool:
    """Whether durable messages go there."""
    return topic.split("/")[-2] in ("alert", "result") or topic.endswith("/event")


def check(received: Received) -> None:
    """Hold one payload against the published schema of its topic, and against the topic."""
    assert received.topic.startswith(f"{PREFIX}/"), received
    assert received.qos == 1, received
    device, name, *rest = received.topic.removeprefix(f"{PREFIX}/").split("/")
    if name in ("cmd", "ack"):
        return  # what the plant says, not the device
    if name == "alert" and rest[1:] == ["image"]:
        decode_image(received.payload, name=received.topic)
        return
    assert len(received.payload) <= MAX_BYTES, received
    value = json.loads(received.payload)
    if name in ("status", "state"):
        assert not rest, received
        _VALIDATORS[name].validate(value)
        return
    assert name in ("alert", "result", "event"), received
    _VALIDATORS["message"].validate(value)
    assert value["device"] == device, received
    assert not received.retain, "a retained alert comes back for ever"
    kinds = {"alert": ("anomaly", "fault"), "result": ("result",), "event": ("event",)}
    if name == "event" and "camera" not in value:
        kinds = {"event": ("event", "fault")}
    assert value["kind"].startswith(kinds[name]), received
    assert rest == ([] if name == "event" else [value["camera"]]), received
