"""Whether the device is there: birth, last will, goodbye, and who else says so in its name."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Literal

from edge_sdk.alerting.broker import Outgoing
from edge_sdk.alerting.identity import boot_id
from edge_sdk.alerting.payload import status_payload
from edge_sdk.alerting.sequence import next_number
from edge_sdk.alerting.topics import Topics

_CONFLICT_SECONDS = 120.0

_LOGGER = logging.getLogger(__name__)


class Presence:
    """The device's status topic, written and read.

    Read, because brokers tell nobody why they drop a connection when a second device of the same
    name arrives, as copies of a memory card do: it shows in a birth that is not ours. And a last
    will that comes after our birth would stay there for good.
    """

    def __init__(self, topics: Topics, state_directory: Path) -> None:
        self.topic = topics.status
        self.is_denied = False
        """Whether something has said offline after our birth, so that it must be repeated."""
        self._number_file = state_directory / "mqtt.session"
        self._number = 0
        self._births: list[bytes] = []
        self._has_come_back = False
        self._conflict_until = float("-inf")

    @property
    def has_conflict(self) -> bool:
        """Whether another device has used this name lately."""
        return time.monotonic() < self._conflict_until

    def begin(self) -> None:
        """Start a new session; its number is in birth and last will, the higher one counts."""
        try:
            self._number = next_number(self._number_file)
        except (OSError, ValueError) as error:
            # A failing disk must not keep what it holds from being sent. Seconds since 1970 are
            # above any count.
            self._number = max(self._number + 1, int(time.time()))
            _LOGGER.warning("%s: cannot be counted up: %s", self._number_file, error)
        self._births = [*self._births[-1:], self.birth.payload]
        self._has_come_back = False
        self.is_denied = False

    @property
    def birth(self) -> Outgoing:
        """Says that the device is there."""
        return self._status("birth")

    @property
    def will(self) -> Outgoing:
        """What the broker says when the connection breaks."""
        return self._status("lwt")

    @property
    def goodbye(self) -> Outgoing:
        """Says that the stop is planned."""
        return self._status("shutdown")

    def report_takeover(self) -> None:
        """Another client has pushed this one out, and the broker has said so."""
        self._conflict_until = time.monotonic() + _CONFLICT_SECONDS

    def see(self, payload: bytes) -> None:
        """Take in what arrived on the topic, of which anything may be the author."""
        if payload == self._births[-1]:
            self._has_come_back = True
            self.is_denied = False
            return
        try:
            says_online = json.loads(payload).get("online")
        except (ValueError, AttributeError, RecursionError):
            return
        # Before the first birth of this process, the retained one is the last process's.
        has_spoken = self._has_come_back or len(self._births) > 1
        if says_online is True and payload not in self._births and has_spoken:
            self.report_takeover()
        elif says_online is False and self._has_come_back:
            self.is_denied = True

    def _status(self, reason: Literal["birth", "lwt", "shutdown"]) -> Outgoing:
        is_birth = reason == "birth"
        return Outgoing(
            topic=self.topic,
            payload=status_payload(
                online=is_birth, reason=reason, boot_id=boot_id(), session=self._number
            ),
            retain=True,
            must_come_back=is_birth,
        )
