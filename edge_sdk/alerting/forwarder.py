"""The thread that carries messages from the spool to the broker, and keeps at it."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Protocol, TypeVar

from edge_sdk.alerting.payload import DeviceFlag
from edge_sdk.alerting.spool import Spool
from edge_sdk.alerting.topics import Topics
from edge_sdk.errors import PublishError, SpoolError
from edge_sdk.protocols import Publisher
from edge_sdk.records import Message

_POLL_SECONDS = 0.05
_QUICK_DISK_SECONDS = 0.005
_SPOOL_RETRY_SECONDS = 1.0
_PICTURE_ATTEMPTS = 3
_GOODBYE_SECONDS = 3.0

_LOGGER = logging.getLogger(__name__)
_random = secrets.SystemRandom()
_Answer = TypeVar("_Answer")


class Link(Publisher, Protocol):
    """What the forwarder needs of a way to the plant system, called from its thread only."""

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

    def poll(self, timeout_seconds: float) -> None:
        """Keep the connection alive and let commands in, or raise ``PublishError``."""
        ...

    def close(self) -> None:
        """Say that the stop is planned, and disconnect."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwarderSettings:
    """How the forwarder behaves while something does not work."""

    window: int = 20
    """Messages between two acknowledgements in the spool: what may come twice after a crash."""
    first_wait_seconds: float = 1.0
    """Longest wait before the first attempt to connect again; doubled with every attempt."""
    longest_wait_seconds: float = 60.0
    stable_seconds: float = 30.0
    """A connection that lasted so long starts the waits from the beginning."""
    refused_wait_seconds: float = 30.0
    """Wait before messages that the broker refused are offered again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwarderStatistics:
    """Counters since the start."""

    connections: int
    messages: int
    """Acknowledged ones."""
    pictures: int
    """Acknowledged ones."""


class Forwarder:
    """Forwards in the order: birth, state, losses, messages by ``seq``, pictures.

    One thread does everything, the network included, except to wait for the disk: commands come
    in while that stalls. Nothing here ever holds up inspection.
    """

    def __init__(self, spool: Spool, publisher: Link, settings: ForwarderSettings) -> None:
        self._spool = spool
        self._publisher = publisher
        self._settings = settings
        self._thread = threading.Thread(target=self._run, name="edge-forwarder", daemon=True)
        self._disk = ThreadPoolExecutor(1, "edge-forwarder-disk")
        self._stopping = threading.Event()
        self._stop_at = float("inf")
        self._state: bytes | None = None
        self._published_state: bytes | None = None
        self._refused_until = float("inf")
        self._has_told_losses = False
        self._after = 0
        self._seen_seq = -1
        self._picture_seq = 0
        self._picture_attempts = 0
        self._spool_works = True
        self._last_error: str | None = None
        self._connections = self._messages = self._pictures = 0

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs; for the watchdog."""
        return self._thread.is_alive()

    @property
    def is_connected(self) -> bool:
        """Whether the broker has answered lately."""
        return self._publisher.is_connected

    @property
    def flags(self) -> frozenset[DeviceFlag]:
        """What is wrong on the way to the broker."""
        flags = set(self._publisher.flags)
        if not self.is_connected:
            flags.add(DeviceFlag.OFFLINE_SPOOLING)
        if not self._spool_works:
            flags.add(DeviceFlag.STORAGE_FAULT)
        return frozenset(flags)

    @property
    def last_error(self) -> str | None:
        """What went wrong last, also when it works again; None where nothing ever did."""
        return self._last_error

    @property
    def statistics(self) -> ForwarderStatistics:
        """Counters since the start."""
        return ForwarderStatistics(
            connections=self._connections, messages=self._messages, pictures=self._pictures
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def set_state(self, payload: bytes) -> None:
        """Publish this as the device's state, now if it is new, and after every reconnection."""
        self._state = payload

    def stop(self, drain_seconds: float) -> bool:
        """Send what waits, as far as the time goes, say goodbye and end.

        Args:
            drain_seconds: for sending; the goodbye may take 3 s more.

        Returns:
            Whether the thread has ended. It has not where it still waits for a silent broker; it
            then ends with the process, and the last will says so.
        """
        self._stop_at = time.monotonic() + drain_seconds
        self._stopping.set()
        self._thread.join(drain_seconds + _GOODBYE_SECONDS)
        return not self._thread.is_alive()

    def _run(self) -> None:
        attempts = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._publisher.connect()
                self._connections += 1
                self._serve()
            except PublishError as error:
                self._note(error)
            if time.monotonic() - began >= self._settings.stable_seconds:
                attempts = 0
            # Full jitter: after a power cut a hundred devices shall not come back in step.
            longest = self._settings.first_wait_seconds * 2 ** min(attempts, 30)
            attempts += 1
            self._stopping.wait(
                _random.uniform(0, min(longest, self._settings.longest_wait_seconds))
            )
        self._publisher.close()
        self._disk.shutdown(wait=False)

    def _serve(self) -> None:
        """Forward over one connection, until it breaks or all is done at a stop."""
        self._published_state = None
        self._start_over()
        wait_until = 0.0
        while time.monotonic() < self._stop_at:
            is_busy = self._publish_state()
            if time.monotonic() >= wait_until:
                try:
                    is_busy = self._forward() or is_busy
                    self._spool_works = True
                except SpoolError as error:  # the connection lives on, for state and commands
                    self._note(error)
                    self._spool_works = False
                    wait_until = time.monotonic() + _SPOOL_RETRY_SECONDS
            if not is_busy:
                if self._stopping.is_set():
                    return
                self._publisher.poll(_POLL_SECONDS)

    def _publish_state(self) -> bool:
        state = self._state
        if state is None or state == self._published_state:
            return False
        self._publisher.publish_retained(self._publisher.topics.state, state)
        self._published_state = state
        return True

    def _forward(self) -> bool:
        """Send what comes first; whether there was anything."""
        newest = self._spool.last_seq
        if newest == self._seen_seq:
            # Only when all others have had their turn, however many are refused.
            if time.monotonic() < self._refused_until:
                return False
            self._start_over()
        if self._forward_losses() or self._forward_messages() or self._forward_picture():
            return True
        self._seen_seq = newest
        return False

    def _start_over(self) -> None:
        """Offer everything that is not acknowledged, from the oldest on."""
        self._refused_until = float("inf")
        self._has_told_losses = False
        self._after = 0
        self._seen_seq = -1

    def _forward_losses(self) -> bool:
        if self._has_told_losses:
            return False
        self._publish(self._on_disk(self._spool.peek_gaps))
        self._has_told_losses = True
        return True

    def _forward_messages(self) -> bool:
        messages = self._on_disk(lambda: self._spool.peek(self._settings.window, after=self._after))
        self._publish(messages)
        if messages:
            self._after = messages[-1].seq  # what was refused stays behind and stops no others
        return bool(messages)

    def _publish(self, messages: list[Message]) -> None:
        if not messages:
            return
        accepted = self._publisher.publish(messages)
        self._on_disk(lambda: self._spool.acknowledge(accepted))
        self._messages += len(accepted)
        if len(accepted) < len(messages):
            retry_at = time.monotonic() + self._settings.refused_wait_seconds
            self._refused_until = min(self._refused_until, retry_at)

    def _forward_picture(self) -> bool:
        pictures = self._on_disk(lambda: self._spool.peek_pictures(1))
        if not pictures:
            return False
        picture = pictures[0]
        self._picture_attempts = 1 + self._picture_attempts * (picture.seq == self._picture_seq)
        self._picture_seq = picture.seq
        # A picture that is too large for a broker can end the connection every time.
        if self._picture_attempts <= _PICTURE_ATTEMPTS and self._publisher.publish_picture(
            camera=picture.camera,
            message_id=picture.message_id,
            seq=picture.seq,
            jpeg=picture.jpeg,
        ):
            self._on_disk(lambda: self._spool.acknowledge_picture(picture.seq))
            self._pictures += 1
        else:
            self._on_disk(lambda: self._spool.drop_picture(picture.seq))
        return True

    def _on_disk(self, call: Callable[[], _Answer]) -> _Answer:
        """Ask the spool; where that takes long, the connection lives and commands come in."""
        answer = self._disk.submit(call)
        if not wait([answer], _QUICK_DISK_SECONDS).done:
            while not answer.done():
                self._publisher.poll(_QUICK_DISK_SECONDS)
        return answer.result()

    def _note(self, error: PublishError | SpoolError) -> None:
        text = str(error)
        if text != self._last_error:  # one line, not one an attempt
            _LOGGER.warning("%s", text)
        self._last_error = text
