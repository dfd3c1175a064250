"""One connection to an MQTT broker: made, used by one thread, and thrown away when it breaks.

The only module that names paho. Nothing of paho that works on its own is used: no network thread
(an exception in one of its callbacks ends it for good, with ``is_connected()`` still true), no
reconnection, no queue (what it holds dies with the process; the spool holds it instead). The one
thread that publishes also reads the socket, in ``turn``, so that it shares no lock with anybody
and cannot be dead while the connection seems to live.
"""

from __future__ import annotations

import select
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Literal

from paho.mqtt.client import MQTT_LOG_ERR, Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_sdk.alerting.broker import Answer, BrokerSettings, Incoming, Outgoing
from edge_sdk.errors import PublishError

Version = Literal["5", "3.1.1"]

_PROTOCOLS = {"5": MQTTProtocolVersion.MQTTv5, "3.1.1": MQTTProtocolVersion.MQTTv311}
_UNSPECIFIED = 0x80
_UNSUPPORTED_VERSION = 0x84
_TAKEN_OVER = 0x8E
_PACKET_OVERHEAD_BYTES = 1024  # topic and properties, at most, beside the payload


@dataclass(frozen=True, slots=True)
class _Opened:
    reason: ReasonCode
    limits: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Closed:
    reason: ReasonCode


class MqttConnection:
    """A connection of one session; ``open`` it once, then ``send`` and ``turn``, then ``close``."""

    def __init__(
        self, settings: BrokerSettings, version: Version, client_id: str, will: Outgoing
    ) -> None:
        self.version = version
        self.window = settings.window
        self.max_payload_bytes: int | None = None
        """What the broker takes; None where it has not said."""
        self.was_taken_over = False
        """Whether another client with the same name has pushed this one out."""
        self.tls_error: str | None = None
        """What ended an encrypted connection before the broker answered."""
        self._settings = settings
        self._broken: str | None = "not connected yet"
        # Callbacks only put what they were given; they run inside ``turn`` and ``send``.
        self._happened: SimpleQueue[_Opened | _Closed | Incoming | Answer] = SimpleQueue()
        self._socket_errors: list[str] = []
        self._client = self._build_client(client_id, will)

    @property
    def is_open(self) -> bool:
        """Whether the broker has answered, and nothing since has shown it to be gone.

        Silence shows it, too: paho's ping within ``turn``, and ``fail`` by the publisher.
        """
        return self._broken is None

    def open(self) -> bool:
        """Connect.

        Returns:
            Whether the broker speaks this version; False also where it closes the connection or
            stays silent, as brokers do that do not know it.

        Raises:
            PublishError: it cannot be reached, or lets this client not in.
        """
        settings = self._settings
        session: dict[str, object] = {}
        if self.version == "5":
            properties = _properties(
                PacketTypes.CONNECT, SessionExpiryInterval=0, ReceiveMaximum=settings.window
            )
            session = {"clean_start": True, "properties": properties}
        # paho gives up after two of its intervals of silence: 0.75 make it 1.5 of ours.
        keepalive = max(1, round(0.75 * settings.keepalive_seconds))
        try:
            self._client.connect(settings.host, settings.port, keepalive, **session)  # type: ignore[arg-type]  # keywords of two types
        except (OSError, UnicodeError) as error:  # UnicodeError: no host could have that name
            raise PublishError(
                f"broker {settings.host}:{settings.port}: cannot be reached: {error}"
            ) from error
        self._broken = None
        try:
            return self._await_answer()
        finally:
            self._client.on_log = None  # it costs time for every packet

    def _await_answer(self) -> bool:
        settings = self._settings
        deadline = time.monotonic() + settings.connect_timeout_seconds
        while (left := deadline - time.monotonic()) > 0:
            self._wait_for_socket(left)
            for event in self._take():
                if isinstance(event, _Opened):
                    return self._judge(event)
            if self._broken is not None:
                self._look_for_tls_error()
                return False
        self.fail(f"no answer to a connection of version {self.version}")
        return False

    def subscribe(self, filters: list[str]) -> int:
        """Ask for topics; the answer comes with this number, one for all.

        Raises:
            PublishError: the connection is gone.
        """
        # The broker keeps the retain flag of a live message, so that one is told from a command.
        options = SubscribeOptions(qos=1, retainAsPublished=True)
        wanted = [(name, options if self.version == "5" else 1) for name in filters]
        code, number = self._client.subscribe(wanted)  # type: ignore[arg-type]  # a list of either
        self._expect_success(code)
        assert number is not None  # noqa: S101 - paho: a number comes with every success
        return number

    def send(self, outgoing: Outgoing) -> int:
        """Publish with QoS 1; the answer comes with this number.

        Raises:
            PublishError: the connection is gone.
        """
        self._raise_if_broken()
        sent = self._client.publish(
            outgoing.topic,
            outgoing.payload,
            qos=1,
            retain=outgoing.retain,
            properties=self._publish_properties(outgoing),
        )
        self._expect_success(sent.rc)
        return sent.mid

    def turn(self, timeout_seconds: float) -> list[Incoming | Answer]:
        """Read and write what there is, waiting at most so long for something.

        Raises:
            PublishError: the connection is gone, and everything that came before was returned.
        """
        if self._broken is None:
            self._wait_for_socket(timeout_seconds)
        events = [event for event in self._take() if isinstance(event, Incoming | Answer)]
        if not events:
            self._raise_if_broken()
        return events

    def fail(self, reason: str) -> None:
        """Give the connection up without a goodbye, so that the broker sends the last will."""
        self._broken = self._broken or reason
        sock = self._client.socket()
        if sock is not None:
            sock.close()

    def close(self) -> None:
        """Say goodbye, which discards the last will, and close."""
        if self._broken is None:
            self._client.disconnect()
        self.fail("closed")

    def _build_client(self, client_id: str, will: Outgoing) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=_PROTOCOLS[self.version],
            clean_session=None if self.version == "5" else True,
            reconnect_on_failure=False,
        )
        client.suppress_exceptions = True
        client.connect_timeout = self._settings.connect_timeout_seconds
        client.max_inflight_messages_set(self._settings.window)
        if self._settings.username is not None:
            client.username_pw_set(self._settings.username, self._settings.password)
        if self._settings.tls is not None:
            client.tls_set_context(self._settings.tls)
        delay = None
        if self.version == "5":
            delay = _properties(
                PacketTypes.WILLMESSAGE, WillDelayInterval=self._settings.will_delay_seconds
            )
        client.will_set(will.topic, will.payload, qos=1, retain=will.retain, properties=delay)
        self._set_callbacks(client)
        return client

    def _publish_properties(self, outgoing: Outgoing) -> Properties | None:
        if self.version != "5":
            return None
        values: dict[str, object] = {"ContentType": outgoing.content_type}
        if outgoing.content_type == "application/json":
            values["PayloadFormatIndicator"] = 1
        if outgoing.user_properties:
            values["UserProperty"] = list(outgoing.user_properties.items())
        if outgoing.expiry_seconds is not None:
            values["MessageExpiryInterval"] = outgoing.expiry_seconds
        return _properties(PacketTypes.PUBLISH, **values)

    def _judge(self, opened: _Opened) -> bool:
        if opened.reason.value == _UNSUPPORTED_VERSION:
            self.fail(str(opened.reason))
            return False
        if opened.reason.is_failure:
            self.fail(str(opened.reason))
            raise PublishError(
                f"broker {self._settings.host}:{self._settings.port}: expected to be let in, "
                f"got {opened.reason}"
            )
        self.window = min(self.window, opened.limits.get("ReceiveMaximum", self.window))
        if "MaximumPacketSize" in opened.limits:
            self.max_payload_bytes = opened.limits["MaximumPacketSize"] - _PACKET_OVERHEAD_BYTES
        return True

    def _look_for_tls_error(self) -> None:
        """A broker judges our certificate after TLS 1.3 has let us begin to write.

        It then says why, if that arrives before the end of the connection. A broker that only does
        not know the version may end it, too: that another one fails as well tells the difference.

        Raises:
            PublishError: it has said why.
        """
        if self._settings.tls is None:
            return
        self.tls_error = next(iter(self._socket_errors), "closed")
        if "[SSL" in self.tls_error:
            raise PublishError(
                f"broker {self._settings.host}:{self._settings.port}: refuses this device's "
                f"certificate, or misses one: {self.tls_error}"
            ) from ssl.SSLError(self.tls_error)

    def _wait_for_socket(self, timeout_seconds: float) -> None:
        sock = self._client.socket()
        if sock is None:
            self._broken = self._broken or "closed"
            return
        # What TLS has decrypted already does not show in select.
        is_pending = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
        to_write = [sock] if self._client.want_write() else []
        readable, writable, _ = select.select(
            [sock], to_write, [], 0 if is_pending else timeout_seconds
        )
        code = MQTTErrorCode.MQTT_ERR_SUCCESS
        if readable or is_pending:
            code = self._client.loop_read()
        if writable and code == MQTTErrorCode.MQTT_ERR_SUCCESS:
            code = self._client.loop_write()
        if code == MQTTErrorCode.MQTT_ERR_SUCCESS:
            code = self._client.loop_misc()
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS and self._happened.empty():
            self._broken = self._broken or code.name  # paho did not say it by a callback

    def _take(self) -> list[_Opened | Incoming | Answer]:
        events: list[_Opened | Incoming | Answer] = []
        while True:
            try:
                event = self._happened.get_nowait()
            except Empty:
                return events
            if isinstance(event, _Closed):
                self.was_taken_over |= event.reason.value == _TAKEN_OVER
                reason = str(event.reason)
                if event.reason.value == _UNSPECIFIED:  # a reset, a closed socket
                    reason = "closed without a reason"
                self._broken = self._broken or reason
            else:
                events.append(event)

    def _expect_success(self, code: MQTTErrorCode) -> None:
        # Without a connection paho would queue the message itself, so that sending it again from
        # the spool would double it. This client is thrown away with what it has queued.
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self.fail(code.name)
            self._raise_if_broken()

    def _raise_if_broken(self) -> None:
        if self._broken is not None:
            raise PublishError(
                f"broker {self._settings.host}:{self._settings.port}: "
                f"the connection is gone: {self._broken}"
            )

    def _set_callbacks(self, client: Client) -> None:
        """Let paho put what happens into the queue, and do nothing else while it runs."""
        put = self._happened.put
        errors = self._socket_errors.append
        client.on_log = lambda _client, _data, level, text: (
            errors(text) if level == MQTT_LOG_ERR else None
        )
        client.on_connect = lambda _client, _data, _flags, reason, properties: put(
            _Opened(reason, {} if properties is None else properties.json())
        )
        client.on_disconnect = lambda _client, _data, _flags, reason, _: put(_Closed(reason))
        client.on_publish = lambda _client, _data, number, reason, _properties: put(
            _answer(number, [reason])
        )
        client.on_subscribe = lambda _client, _data, number, reasons, _properties: put(
            _answer(number, reasons)
        )
        client.on_message = lambda _client, _data, message: put(
            Incoming(message.topic, bytes(message.payload), message.retain)
        )


def _properties(packet_type: int, **values: object) -> Properties:
    properties = Properties(packet_type)  # type: ignore[no-untyped-call]  # paho left it untyped
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


def _answer(number: int, reasons: list[ReasonCode]) -> Answer:
    refusals = [str(reason) for reason in reasons if reason.is_failure]
    return Answer(number, refusals[0] if refusals else None)
