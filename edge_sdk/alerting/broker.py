"""How to reach the broker, how patient to be with it, and what passes between."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edge_sdk.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSettings:
    """Settings of the connection.

    Raises:
        ConfigError: messages would leave this computer unencrypted and nobody has allowed it.
    """

    host: str = "localhost"
    port: int = 1883
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    """Certificates to trust and to show; None: unencrypted."""
    allow_insecure: bool = False
    """Whether a broker on another computer may be reached unencrypted."""
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    """``auto``: 5, and 3.1.1 where the broker has never taken 5."""
    keepalive_seconds: float = 15
    """A silent link is noticed after 1.5 times this."""
    connect_timeout_seconds: float = 5
    """For each of TCP, TLS and the broker's answer; some brokers never answer a version 5."""
    acknowledge_timeout_seconds: float = 10
    """Without any acknowledgement for so long, while one is due, the connection is given up."""
    read_back_seconds: float = 2
    """With 3.1.1: how long to wait for the first message on a topic to come back."""
    window: int = 20
    """Messages under way at a time."""
    will_delay_seconds: int = 10
    """With 5: how long the last will waits, so that a short break stays silent."""

    def __post_init__(self) -> None:
        if self.is_insecure and not self.allow_insecure:
            raise ConfigError(
                f"broker {self.host}: expected TLS for a broker on another computer, got none; "
                f"allow_insecure permits it"
            )

    @property
    def is_insecure(self) -> bool:
        """True where messages leave this computer unencrypted."""
        return self.tls is None and not _is_loopback(self.host)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """Something to publish with QoS 1."""

    topic: str
    payload: bytes
    retain: bool = False
    content_type: str = "application/json"
    user_properties: Mapping[str, str] = field(default_factory=dict)
    """Sent with version 5, for receivers that filter without parsing."""
    expiry_seconds: int | None = None
    must_come_back: bool = False
    """With 3.1.1: whether an acknowledgement alone is not believed (see ``session``)."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """Something the broker delivered."""

    topic: str
    payload: bytes
    is_retained: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """The broker's answer to a publish or a subscribe, by its packet number."""

    number: int
    refusal: str | None
    """Why not; None where it was taken."""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name: it may lead anywhere, at any time
        return False
