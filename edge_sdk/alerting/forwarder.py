"""The thread that carries messages from the spool to the broker, and keeps at it."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TypeVar

from edge_sdk.alerting.lanes import Lanes
from edge_sdk.alerting.link import Link
from edge_sdk.alerting.payload import DeviceFlag
from edge_sdk.alerting.pulse import Pulse
from edge_sdk.alerting.resend import Resender
from edge_sdk.alerting.spool import Spool
from edge_sdk.errors import PublishError, SpoolError
from edge_sdk.records import Message

_POLL_SECONDS = 0.05
_QUICK_DISK_SECONDS = 0.005
_SPOOL_RETRY_SECONDS = 1.0
_PICTURE_ATTEMPTS = 3
_GOODBYE_SECONDS = 3.0
_TICK_SECONDS = 1.0

_LOGGER = logging.getLogger(__name__)
_random = secrets.SystemRandom()
_Answer = TypeVar("_Answer")


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
    is_end_to_end: bool = False
    """Whether a message is done only when a receiver, not the broker, has acknowledged it."""
    first_confirm_seconds: float = 60.0
    """Wait before what no receiver has acknowledged is sent again; doubled as long as none does."""
    longest_confirm_seconds: float = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwarderStatistics:
    """Counters since the start."""

    connections: int
    messages: int
    """Acknowledged ones."""
    pictures: int
    """Acknowledged ones."""


class Forwarder:
    """Forwards birth, state, losses, messages, what was asked for again, and pictures, in order.

    For the order of messages see ``Lanes``. One thread does everything, the network included,
    except to wait for the disk: commands come in while that stalls. Nothing here ever holds up
    inspection.
    """

    def __init__(
        self,
        spool: Spool,
        publisher: Link,
        settings: ForwarderSettings,
        *,
        pulse: Pulse | None = None,
    ) -> None:
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
        self._lanes = Lanes(spool, settings.window)
        self._resender = Resender(spool, settings.window)
        self._confirm_seconds = settings.first_confirm_seconds
        self._pulse = pulse or Pulse()
        self._seen_seq = -1
        self._picture_seq = 0
        self._picture_attempts = 0
        self._spool_works = True
        self._last_error: str | None = None
        self._connections = self._messages = self._pictures = 0

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def is_working(self) -> bool:
        """Whether the thread has shown lately that it works."""
        return self.is_alive and not self._pulse.is_late

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

    def resend(self, first: int, last: int, on_done: Callable[[int], None]) -> bool:
        """Send delivered messages again (see ``Resender.ask``)."""
        return self._resender.ask(first, last, on_done)

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
            self._pause(_random.uniform(0, min(longest, self._settings.longest_wait_seconds)))
        self._publisher.close()
        self._disk.shutdown(wait=False)

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._stopping.is_set():
            self._pulse.beat()
            self._stopping.wait(min(left, _TICK_SECONDS))

    def _serve(self) -> None:
        """Forward over one connection, until it breaks or all is done at a stop."""
        self._published_state = None
        self._start_over()
        wait_until = 0.0
        while time.monotonic() < self._stop_at:
            self._pulse.beat()
            is_busy = self._publish_state()
            if time.monotonic() >= wait_until:
                try:
                    is_busy = self._forward() or is_busy
                    self._spool_works = True
                except SpoolError as error:  # the connection lives on, for state and commands
                    self._note(error)
                    self._spool_works = False
                    self._start_over()  # what was sent and could not be noted is sent again
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
        self._note_confirmed()
        newest = self._spool.last_seq
        if newest != self._seen_seq or self._resender.is_wanted:
            if (
                self._forward_losses()
                or self._forward_messages()
                or self._forward_again()
                or self._forward_picture()
            ):
                return True
            self._seen_seq = newest
        # Only when all others have had their turn, however many are refused.
        if time.monotonic() < self._refused_until:
            return False
        self._confirm_seconds = min(
            2 * self._confirm_seconds, self._settings.longest_confirm_seconds
        )
        self._start_over()
        return True

    def _start_over(self) -> None:
        """Offer everything that is not acknowledged, from the oldest on."""
        self._refused_until = float("inf")
        self._has_told_losses = False
        self._lanes.start_over()
        self._seen_seq = -1

    def _forward_losses(self) -> bool:
        if self._has_told_losses:
            return False
        self._publish(self._on_disk(self._spool.peek_gaps))
        self._has_told_losses = True
        return True

    def _forward_messages(self) -> bool:
        messages = self._on_disk(self._lanes.take)
        self._publish(messages)
        return bool(messages)

    def _forward_again(self) -> bool:
        if not self._resender.is_wanted:
            return False
        messages = self._on_disk(self._resender.take)
        if messages:
            self._resender.note(messages, len(self._publisher.publish(messages)))
        return bool(messages)

    def _publish(self, messages: list[Message]) -> None:
        if not messages:
            return
        accepted = self._publisher.publish(messages)
        self._messages += len(accepted)
        if self._settings.is_end_to_end:
            self._retry_within(self._confirm_seconds)
        else:
            self._on_disk(lambda: self._spool.acknowledge(accepted))
        if len(accepted) < len(messages):
            self._retry_within(self._settings.refused_wait_seconds)

    def _retry_within(self, seconds: float) -> None:
        self._refused_until = min(self._refused_until, time.monotonic() + seconds)

    def _note_confirmed(self) -> None:
        confirmed = self._publisher.take_confirmed()
        if confirmed:
            self._on_disk(lambda: self._spool.acknowledge(confirmed))
            self._confirm_seconds = self._settings.first_confirm_seconds

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
