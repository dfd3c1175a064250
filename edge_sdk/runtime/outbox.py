"""The ways out: through the spool to the broker, or nowhere (``--dry-run``)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from queue import Empty

from edge_sdk._version import __version__
from edge_sdk.alerting.broker import BrokerSettings
from edge_sdk.alerting.challenge import CHALLENGE_COMMAND
from edge_sdk.alerting.changeover import REFERENCES_COMMAND
from edge_sdk.alerting.commands import Command
from edge_sdk.alerting.entries import Entry
from edge_sdk.alerting.forwarder import Forwarder, ForwarderSettings
from edge_sdk.alerting.identity import time_quality
from edge_sdk.alerting.ledger import TriggerNote
from edge_sdk.alerting.payload import CameraStatus, DeviceFlag, state_payload
from edge_sdk.alerting.publisher import MqttPublisher
from edge_sdk.alerting.pulse import Pulse
from edge_sdk.alerting.resend import RESYNC_COMMAND
from edge_sdk.alerting.spool import Spool
from edge_sdk.alerting.topics import Topics
from edge_sdk.alerting.trigger import TRIGGER_COMMAND
from edge_sdk.config import DeviceConfig, build_tls_context, read_mqtt_password
from edge_sdk.errors import EdgeError
from edge_sdk.records import Message, MessageDraft, TimeQuality
from edge_sdk.runtime.dispatch import Dispatch
from edge_sdk.runtime.triggers import TriggerCommand
from edge_sdk.runtime.writer import SpoolWriter, StoredListener

_LOGGER = logging.getLogger(__name__)
_MEGABYTE = 1_000_000
_FLUSH_SECONDS = 30.0


def broker_settings(config: DeviceConfig) -> BrokerSettings:
    """How to reach the broker, with the password and the certificates read.

    Raises:
        ConfigError: the password or a certificate is wrong.
    """
    mqtt = config.mqtt
    password = read_mqtt_password(mqtt)
    return BrokerSettings(
        host=mqtt.host,
        port=mqtt.port,
        username=mqtt.username,
        password=password.get_secret_value() if password else None,
        tls=build_tls_context(mqtt.tls) if mqtt.tls else None,
        allow_insecure=mqtt.allow_insecure,
        protocol=mqtt.protocol,
        keepalive_seconds=mqtt.keepalive_seconds,
    )


class DurableOutbox:
    """Spool, forwarder and broker. What is handed over is stored by a thread, then published."""

    def __init__(
        self,
        config: DeviceConfig,
        *,
        bundle_id: str,
        flags: Iterable[DeviceFlag] = (),
        on_news: Callable[[], None] | None = None,
    ) -> None:
        """Open the spool and start forwarding.

        Args:
            config: the device's settings.
            bundle_id: of the bundle that judges.
            flags: what holds of this run from its start to its end.
            on_news: called from the forwarder's thread when a command has come.

        Raises:
            ConfigError: the password, a certificate or a limit of the spool is wrong.
            BusyError: another process uses this state directory.
            SpoolError: the disk refuses.
        """
        mqtt, spool = config.mqtt, config.spool
        settings = broker_settings(config)
        self._bundle_id = bundle_id
        self._flags = frozenset(flags)
        self._changes: list[Command] = []
        self._challenges: list[Command] = []
        self._resyncs: list[Command] = []
        is_end_to_end = mqtt.delivery == "end_to_end"
        self._is_enabled = mqtt.enabled
        self._spool = Spool.open(
            config.state_dir / "spool",
            device=config.device.name,
            max_rows=spool.max_rows,
            max_bytes=spool.max_megabytes * _MEGABYTE,
            keep_acknowledged_seconds=spool.keep_acknowledged_hours * 3600,
            keep_acknowledged_bytes=int(spool.keep_acknowledged_megabytes * _MEGABYTE),
        )
        pulse = Pulse()
        self._publisher = MqttPublisher(
            settings,
            Topics(mqtt.topic_prefix, config.device.name),
            state_directory=config.state_dir,
            on_command=on_news,
            is_confirmed=is_end_to_end,
            pulse=pulse,
        )
        self._writer = SpoolWriter(self._spool.store)
        self._forwarder = Forwarder(
            self._spool,
            self._publisher,
            ForwarderSettings(is_end_to_end=is_end_to_end),
            pulse=pulse,
        )
        if mqtt.is_insecure:
            _LOGGER.warning(
                "%s: messages leave this computer unencrypted, as mqtt.allow_insecure permits",
                mqtt.host,
            )
        if self._is_enabled:
            self._forwarder.start()

    def send(self, dispatch: Dispatch, on_stored: StoredListener) -> None:
        """Hand a message to the thread that stores.

        Raises:
            EdgeError: an earlier one could not be stored.
        """
        self._writer.put(Entry(draft=dispatch.draft, picture=dispatch.picture), on_stored)

    def note(self, trigger: TriggerNote, on_stored: StoredListener) -> None:
        """Hand a trigger that was taken to the thread that stores.

        Raises:
            EdgeError: an earlier entry could not be stored.
        """
        self._writer.put(Entry(trigger=trigger), on_stored)

    def recall(self) -> tuple[list[TriggerNote], list[TriggerNote]]:
        """Triggers of earlier runs, and those of them that have no result.

        Raises:
            SpoolError: the disk refuses.
        """
        return self._spool.triggers()

    def take_triggers(self) -> list[TriggerCommand]:
        """Commands ``cmd/trigger``; others are not understood yet, and logged."""
        triggers: list[TriggerCommand] = []
        while True:
            try:
                command = self._publisher.commands.get_nowait()
            except Empty:
                return triggers
            if command.name == TRIGGER_COMMAND:
                triggers.append(
                    TriggerCommand(payload=command.payload, received_ns=command.received_ns)
                )
            elif command.name == REFERENCES_COMMAND:
                self._changes.append(command)
            elif command.name == CHALLENGE_COMMAND:
                self._challenges.append(command)
            elif command.name == RESYNC_COMMAND:
                self._resyncs.append(command)
            else:
                _LOGGER.warning("command %s: not understood by this version", command.name)

    def take_changes(self) -> list[Command]:
        """Commands ``cmd/references`` that came before the last ``take_triggers``."""
        changes, self._changes = self._changes, []
        return changes

    def take_challenges(self) -> list[Command]:
        """Commands ``cmd/challenge`` that came before the last ``take_triggers``."""
        challenges, self._challenges = self._challenges, []
        return challenges

    def take_resyncs(self) -> list[Command]:
        """Commands ``cmd/resync`` that came before the last ``take_triggers``."""
        resyncs, self._resyncs = self._resyncs, []
        return resyncs

    def resend(self, first: int, last: int, on_done: Callable[[int], None]) -> bool:
        """Send delivered messages again (see ``Forwarder.resend``)."""
        return self._forwarder.resend(first, last, on_done)

    @property
    def is_forwarding(self) -> bool:
        """Whether the forwarder has shown lately that it works; True where nothing is sent."""
        return not self._is_enabled or self._forwarder.is_working

    def report(self, cameras: Mapping[str, CameraStatus]) -> None:
        """Make the retained state say this; counted by the thread that stores, then published.

        Raises:
            EdgeError: something could not be stored, or a defect has ended the forwarder.
        """
        if self._is_enabled and not self._forwarder.is_alive:
            raise EdgeError(
                "a defect has ended the thread that forwards messages; standard error tells where"
            )
        self._writer.do_next(lambda: self._report(cameras))

    def flush(self) -> None:
        """Wait until all that was handed over is on the disk.

        Raises:
            EdgeError: something could not be stored within 30 s.
        """
        self._writer.flush(_FLUSH_SECONDS)

    def _report(self, cameras: Mapping[str, CameraStatus]) -> None:
        quality = time_quality()
        flags = {*self._flags, *(self._forwarder.flags if self._is_enabled else ())}
        if any(status.provisional for status in cameras.values()):
            flags.add(DeviceFlag.PROVISIONAL_THRESHOLD)
        if quality is TimeQuality.UNSYNCED:
            flags.add(DeviceFlag.CLOCK_UNSYNCED)
        if self._spool.has_little_room:
            flags.add(DeviceFlag.STORAGE_LOW)
        statistics = self._spool.statistics()
        self._forwarder.set_state(
            state_payload(
                flags=flags,
                cameras=cameras,
                bundle=self._bundle_id,
                spool_rows=statistics.rows,
                spool_bytes=statistics.bytes,
                spool_dropped=statistics.dropped,
                time_quality=quality,
                version=__version__,
            )
        )

    def close(self, *, drain_seconds: float = 5.0) -> int:
        """Send what waits, as far as the time goes, and close the spool.

        Returns:
            How many messages wait on the disk for the next start.
        """
        has_stored = self._writer.close(_FLUSH_SECONDS)
        if not has_stored:
            _LOGGER.error("the disk keeps silent: ending without waiting any longer")
            return 0
        if self._is_enabled and not self._forwarder.stop(drain_seconds):
            _LOGGER.warning("the broker keeps silent: ending without a goodbye")
            return self._spool.statistics().rows  # the thread may still read it: left open
        waiting = self._spool.statistics().rows
        self._spool.close()
        return waiting


class DryOutbox:
    """Numbers messages and forgets them; no broker, no disk, no triggers over MQTT."""

    def __init__(self) -> None:
        self._seq = 0

    def send(self, dispatch: Dispatch, on_stored: StoredListener) -> None:
        """Give the message a number."""
        self._seq += 1
        on_stored(number_draft(dispatch.draft, self._seq))

    def note(self, trigger: TriggerNote, on_stored: StoredListener) -> None:  # noqa: ARG002 - forgotten
        """Forget it at once."""
        on_stored(None)

    def recall(self) -> tuple[list[TriggerNote], list[TriggerNote]]:
        """None: nothing is remembered."""
        return [], []

    def take_triggers(self) -> list[TriggerCommand]:
        """None: nobody is listened to."""
        return []

    def take_changes(self) -> list[Command]:
        """None: nobody is listened to."""
        return []

    def take_challenges(self) -> list[Command]:
        """None: nobody is listened to."""
        return []

    def report(self, cameras: Mapping[str, CameraStatus]) -> None:
        """Say nothing."""

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> int:
        """Nothing to release, nothing waits."""
        return 0


def number_draft(draft: MessageDraft, seq: int) -> Message:
    """The draft as message ``seq``."""
    values = {field.name: getattr(draft, field.name) for field in fields(draft)}
    return Message(**values, seq=seq)
