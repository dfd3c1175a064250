"""What the plant system asks of the device, on its way from the broker to whoever obeys."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Full, Queue

from edge_sdk.alerting.broker import Incoming
from edge_sdk.alerting.topics import Topics, is_token

MAX_COMMAND_BYTES = 16_384
_MAX_WAITING = 256

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Command:
    """A command as it came."""

    name: str
    """Last level of the topic, for example ``trigger``."""
    payload: bytes
    """At most 16 kB, not looked at yet."""
    received_ns: int
    """``time.monotonic_ns()`` on arrival: deadlines count from here."""


class CommandInbox:
    """Keeps commands until they are fetched. Retained ones would be obeyed at every reconnect.

    Args:
        topics: of this device.
        on_command: called when one has come, from the thread that reads the broker.
    """

    def __init__(self, topics: Topics, on_command: Callable[[], None] | None = None) -> None:
        self.queue: Queue[Command] = Queue(_MAX_WAITING)
        self.taken = 0
        self.ignored = 0
        """Retained, too long, without a proper name, or not fetched in time."""
        self._on_command = on_command
        self._prefix = topics.commands.removesuffix("+")

    def offer(self, incoming: Incoming) -> bool:
        """Take what arrived, if it is a command.

        Returns:
            Whether it was one, ignored or not.
        """
        if not incoming.topic.startswith(self._prefix):
            return False
        refusal = self._judge(incoming)
        if refusal is None:
            self.taken += 1
            if self._on_command is not None:
                self._on_command()
        else:
            self.ignored += 1
            _LOGGER.warning("command ignored: %s: %s", incoming.topic, refusal)
        return True

    def _judge(self, incoming: Incoming) -> str | None:
        name = incoming.topic.removeprefix(self._prefix)
        if incoming.is_retained:
            return "it is retained"
        if len(incoming.payload) > MAX_COMMAND_BYTES:
            return f"expected at most {MAX_COMMAND_BYTES} bytes, got {len(incoming.payload)}"
        if not is_token(name):
            return "expected a command's name"
        try:
            self.queue.put_nowait(Command(name, incoming.payload, time.monotonic_ns()))
        except Full:
            return f"{_MAX_WAITING} commands wait already"
        return None
