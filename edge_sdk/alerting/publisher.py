"""The device at the broker: birth and last will, messages, pictures, and commands.

All methods belong to one thread; the properties and ``commands`` may be used by any.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

from edge_sdk.alerting.broker import BrokerSettings, Outgoing
from edge_sdk.alerting.commands import Command, CommandInbox
from edge_sdk.alerting.confirmation import ConfirmationInbox
from edge_sdk.alerting.mqtt import MqttConnection, Version
from edge_sdk.alerting.payload import DeviceFlag, encode_message
from edge_sdk.alerting.presence import Presence
from edge_sdk.alerting.pulse import NAME_SERVICE_SECONDS, Pulse
from edge_sdk.alerting.session import BrokerSession, Inbox, Receipt
from edge_sdk.alerting.topics import Topics
from edge_sdk.errors import PublishError
from edge_sdk.records import Message

_PICTURE_EXPIRY_SECONDS = 86_400
_GOODBYE_SECONDS = 2.0

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherStatistics:
    """Counters since the start."""

    refused: int
    """Messages that the broker refused, each time it did."""
    unverified: int
    """Messages that a broker of 3.1.1 took without it being certain that it passed them on."""
    commands: int
    commands_ignored: int
    """Retained ones, too long ones, and those that nobody fetched in time."""
    last_refusal: str | None


class MqttPublisher:
    """Publishes over one connection at a time; a broken one is replaced by ``connect``.

    Args:
        settings: how to reach the broker.
        topics: of this device.
        state_directory: where the number of the session is kept.
        on_command: called when a command has come.
        is_confirmed: whether receivers say what they have (see ``take_confirmed``).
        pulse: beats while the thread that calls waits for the broker.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        topics: Topics,
        *,
        state_directory: Path,
        on_command: Callable[[], None] | None = None,
        is_confirmed: bool = False,
        pulse: Pulse | None = None,
    ) -> None:
        self.topics = topics
        self._settings = settings
        self._presence = Presence(topics, state_directory)
        self._inbox = CommandInbox(topics, on_command)
        self._confirmations = ConfirmationInbox(topics) if is_confirmed else None
        self._pulse = pulse or Pulse()
        self._session: BrokerSession | None = None
        self._version: Version | None = None
        self._has_tls_error = False
        self._refused = 0
        self._unverified = 0
        self._last_refusal: str | None = None

    @property
    def commands(self) -> Queue[Command]:
        """Commands as they arrive, to be fetched by whoever obeys them."""
        return self._inbox.queue

    @property
    def is_connected(self) -> bool:
        """Whether the broker has answered lately."""
        return self._session is not None and self._session.connection.is_open

    @property
    def version(self) -> Version | None:
        """Of the protocol, as agreed with the broker; None before the first connection."""
        return self._version

    @property
    def flags(self) -> frozenset[DeviceFlag]:
        """What is wrong, or weaker than it should be, with the connection."""
        flags = {
            DeviceFlag.INSECURE_MQTT: self._settings.is_insecure,
            DeviceFlag.TLS_ERROR: self._has_tls_error,
            DeviceFlag.IDENTITY_CONFLICT: self._presence.has_conflict,
        }
        return frozenset(flag for flag, is_raised in flags.items() if is_raised)

    @property
    def statistics(self) -> PublisherStatistics:
        """Counters since the start."""
        return PublisherStatistics(
            refused=self._refused,
            unverified=self._unverified,
            commands=self._inbox.taken,
            commands_ignored=self._inbox.ignored,
            last_refusal=self._last_refusal,
        )

    def connect(self) -> None:
        """Connect anew, take commands, and publish the birth.

        Raises:
            PublishError: the broker cannot be reached or lets this device not in.
        """
        if self._session is not None:
            if self._session.connection.was_taken_over:
                self._presence.report_takeover()
            self._session.connection.fail("replaced")
            self._session = None
        self._presence.begin()
        connection = self._open()
        inboxes: list[Inbox] = [self._inbox]
        if self._confirmations is not None:
            inboxes.append(self._confirmations)
        session = BrokerSession(connection, self._settings, inboxes, self._presence, self._pulse)
        filters = [self.topics.commands, self.topics.status]
        if self._confirmations is not None:
            filters.append(self.topics.ack)
        if connection.version == "3.1.1":
            filters += self.topics.durable
        refusal = session.subscribe(filters)
        if refusal is not None:  # alerts go out all the same
            self._note(f"subscription to {', '.join(filters)}: {refusal}")
        self._count(session.publish([self._presence.birth]))
        self._session = session
        _LOGGER.info("connected to %s, MQTT %s", self._settings.host, connection.version)

    def publish(self, messages: Sequence[Message]) -> frozenset[int]:
        """Publish messages and wait for the broker (see ``Publisher``)."""
        accepted = self._exchange([self._message(message) for message in messages])
        return frozenset(
            message.seq for message, taken in zip(messages, accepted, strict=True) if taken
        )

    def publish_retained(self, topic: str, payload: bytes) -> bool:
        """Publish something that late subscribers are to see, too.

        Returns:
            Whether the broker took it.

        Raises:
            PublishError: the connection is down.
        """
        return self._exchange([Outgoing(topic=topic, payload=payload, retain=True)])[0]

    def publish_picture(self, *, camera: str, message_id: str, seq: int, jpeg: bytes) -> bool:
        """Publish a picture on the camera's image topic.

        Args:
            camera: whose picture.
            message_id: of the message it belongs to.
            seq: of the same.
            jpeg: the encoded picture.

        Returns:
            Whether the broker took it.

        Raises:
            PublishError: the connection is down.
        """
        picture = Outgoing(
            topic=self.topics.image(camera),
            payload=jpeg,
            content_type="image/jpeg",
            user_properties={"message_id": message_id, "seq": str(seq)},
            expiry_seconds=_PICTURE_EXPIRY_SECONDS,
        )
        return self._exchange([picture])[0]

    def take_confirmed(self) -> list[int]:
        """The ``seq`` of messages that receivers have acknowledged since the last call."""
        return [] if self._confirmations is None else self._confirmations.take()

    def poll(self, timeout_seconds: float) -> None:
        """Let commands in and the connection live; to be called whenever there is nothing to do.

        Raises:
            PublishError: the connection is down.
        """
        self._live_session().poll(timeout_seconds)
        if self._presence.is_denied:
            self._presence.is_denied = False
            self._exchange([self._presence.birth])

    def close(self) -> None:
        """Say goodbye, so that the plant sees a planned stop, and disconnect."""
        session, self._session = self._session, None
        if session is None or not session.connection.is_open:
            return
        try:
            self._count(
                session.publish([self._presence.goodbye], patience_seconds=_GOODBYE_SECONDS)
            )
        except PublishError as error:
            _LOGGER.warning("no goodbye, the last will says it instead: %s", error)
        session.connection.close()

    def _open(self) -> MqttConnection:
        versions = self._versions_to_try()
        tls_error: str | None = None
        for version in versions:
            connection = MqttConnection(
                self._settings, version, f"edge-{self.topics.device}", self._presence.will
            )
            self._pulse.beat(NAME_SERVICE_SECONDS)
            try:
                is_spoken = connection.open()
            except PublishError as error:
                self._has_tls_error = isinstance(error.__cause__, ssl.SSLError)
                raise
            if is_spoken:
                self._has_tls_error = False
                self._version = version
                return connection
            tls_error = connection.tls_error
        self._has_tls_error = tls_error is not None
        raise PublishError(
            f"broker {self._settings.host}:{self._settings.port}: expected an answer to a "
            f"connection with MQTT {' or '.join(versions)}, got none"
            + (f"; it may want a certificate of this device: {tls_error}" if tls_error else "")
        )

    def _versions_to_try(self) -> tuple[Version, ...]:
        if self._settings.protocol != "auto":
            return (self._settings.protocol,)
        if self._version == "5":  # a broker that took it is only slow: no weaker one for that
            return ("5",)
        return ("5", "3.1.1") if self._version is None else ("3.1.1", "5")

    def _exchange(self, outgoings: list[Outgoing]) -> list[bool]:
        receipts = self._live_session().publish(outgoings)
        self._count(receipts)
        return [receipt.is_taken for receipt in receipts]

    def _live_session(self) -> BrokerSession:
        if self._session is None:
            raise PublishError(f"broker {self._settings.host}: not connected")
        return self._session

    def _count(self, receipts: list[Receipt]) -> None:
        for receipt in receipts:
            if receipt.refusal is not None:
                self._refused += 1
                self._note(receipt.refusal)
            self._unverified += not receipt.is_verified

    def _note(self, refusal: str) -> None:
        if refusal != self._last_refusal:  # one line, not one a message
            _LOGGER.warning("the broker refuses: %s", refusal)
        self._last_refusal = refusal

    def _message(self, message: Message) -> Outgoing:
        return Outgoing(
            topic=self.topics.topic_of(message),
            payload=encode_message(message),
            user_properties={
                "schema": "edge/message/1",
                "message_id": message.message_id,
                "seq": str(message.seq),
            },
            must_come_back=True,
        )
