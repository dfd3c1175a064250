"""What the forwarder needs of a way to the plant system."""

from __future__ import annotations

from typing import Protocol

from edge_sdk.alerting.payload import DeviceFlag
from edge_sdk.alerting.topics import Topics
from edge_sdk.protocols import Publisher


class Link(Publisher, Protocol):
    """A way to the plant system, called from the forwarder's thread only."""

    @property
    def topics(self) -> Topics:
        """Of this device."""
        ...

    @property
    def is_connected(self) -> bool:
        """Whether the other end has answered lately; any thread may ask."""
        ...

    @property
    def flags(self) -> frozenset[DeviceFlag]:
        """What is wrong with the connection; any thread may ask."""
        ...

    def connect(self) -> None:
        """Connect and say that the device is there, or raise ``PublishError``."""
        ...

    def publish_retained(self, topic: str, payload: bytes) -> bool:
        """Publish for late subscribers, too; False where it was refused."""
        ...

    def publish_picture(self, *, camera: str, message_id: str, seq: int, jpeg: bytes) -> bool:
        """Publish a picture; False where it was refused."""
        ...

    def take_confirmed(self) -> list[int]:
        """The ``seq`` of messages that receivers have acknowledged since the last call."""
        ...

    def poll(self, timeout_seconds: float) -> None:
        """Keep the connection alive and let commands in, or raise ``PublishError``."""
        ...

    def close(self) -> None:
        """Say that the stop is planned, and disconnect."""
        ...
