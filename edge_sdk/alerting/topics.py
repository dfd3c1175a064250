"""Which topic a message goes to; no other module puts a topic together."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edge_sdk.errors import ConfigError, InputError
from edge_sdk.records import Message, MessageKind

DEFAULT_PREFIX = "edge/v1"
NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"

_TOKEN = re.compile(NAME_PATTERN.removesuffix("$") + r"\Z")  # "$" would let a last newline pass
_PREFIX_LEVEL = re.compile(r"[^/+#\x00-\x1f\x7f]+\Z")
_MAX_PREFIX_CHARACTERS = 200


def is_token(name: str) -> bool:
    """Whether a device, camera, command or client name may stand in a topic."""
    return _TOKEN.match(name) is not None


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one device: ``<prefix>/<device>/...``.

    Raises:
        ConfigError: a name is not a token, or the prefix holds a wildcard or an empty level.
    """

    prefix: str
    """Free text of the plant, levels separated by ``/``; usually ``DEFAULT_PREFIX``."""
    device: str

    def __post_init__(self) -> None:
        levels = self.prefix.split("/")
        is_plain = all(_PREFIX_LEVEL.match(level) for level in levels)
        if not is_plain or self.prefix.startswith("$") or len(self.prefix) > _MAX_PREFIX_CHARACTERS:
            raise ConfigError(
                f"topic_prefix: expected levels without +, #, control characters or a leading $, "
                f"at most {_MAX_PREFIX_CHARACTERS} characters, got {self.prefix!r}"
            )
        _token("device", self.device)

    @property
    def status(self) -> str:
        """Birth and last will, retained."""
        return self._below("status")

    @property
    def state(self) -> str:
        """What device and cameras are doing, retained."""
        return self._below("state")

    @property
    def health(self) -> str:
        """Counters for monitoring."""
        return self._below("health")

    @property
    def event(self) -> str:
        """What happened to the device itself."""
        return self._below("event")

    @property
    def ack(self) -> str:
        """Where a receiver says what it has, with ``delivery: end_to_end``."""
        return self._below("ack")

    @property
    def doctor(self) -> str:
        """Last will of ``edge-doctor``, which a connection must have; nothing else comes here."""
        return self._below("doctor")

    @property
    def commands(self) -> str:
        """Filter for all commands."""
        return self._below("cmd/+")

    @property
    def durable(self) -> tuple[str, ...]:
        """Filters for every topic that carries spooled messages."""
        return self.event, self._below("result/+"), self._below("alert/+")

    def command(self, name: str) -> str:
        """Where one command arrives."""
        return self._below("cmd", _token("command", name))

    def response(self, client: str) -> str:
        """Where one client is answered."""
        return self._below("rsp", _token("client", client))

    def result(self, camera: str) -> str:
        """Results of triggered parts."""
        return self._below("result", _token("camera", camera))

    def alert(self, camera: str) -> str:
        """Anomalies and faults of one camera."""
        return self._below("alert", _token("camera", camera))

    def image(self, camera: str) -> str:
        """Pictures that belong to messages of one camera."""
        return f"{self.alert(camera)}/image"

    def topic_of(self, message: Message) -> str:
        """Where a message goes.

        Raises:
            InputError: a result or an anomaly without a camera.
        """
        if message.camera is None:
            if message.kind in {MessageKind.EVENT, MessageKind.FAULT_OPEN, MessageKind.FAULT_CLOSE}:
                return self.event
            raise InputError(f"message of kind {message.kind}: expected a camera, got none")
        if message.kind is MessageKind.EVENT:
            return self.event
        if message.kind is MessageKind.RESULT:
            return self.result(message.camera)
        return self.alert(message.camera)

    def _below(self, *levels: str) -> str:
        return "/".join((self.prefix, self.device, *levels))


def _token(what: str, name: str) -> str:
    if not is_token(name):
        raise ConfigError(f"{what}: expected a name like {NAME_PATTERN}, got {name!r}")
    return name
