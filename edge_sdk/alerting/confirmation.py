"""End-to-end acknowledgement: the receiver itself says what it has."""

from __future__ import annotations

import logging
from contextlib import suppress
from queue import Empty, Full, Queue

from edge_sdk.alerting.broker import Incoming
from edge_sdk.alerting.command_json import quote, read_command, read_seq
from edge_sdk.alerting.topics import Topics
from edge_sdk.errors import InputError

MAX_SEQS = 1000
_MAX_BYTES = 16_384
_MAX_WAITING = 1000

_LOGGER = logging.getLogger(__name__)


def parse_confirmation(payload: bytes) -> tuple[int, ...]:
    """Read what a receiver publishes on ``ack``: the ``seq`` of what it has.

    Raises:
        InputError: it is no JSON object with ``seqs``, a list of 1 to 1000 numbers.
    """
    if len(payload) > _MAX_BYTES:
        raise InputError(f"ack: expected at most {_MAX_BYTES} bytes, got {len(payload)}")
    values = read_command("ack", payload, frozenset({"seqs"}))
    seqs = values.get("seqs")
    if not isinstance(seqs, list) or not 1 <= len(seqs) <= MAX_SEQS:
        raise InputError(f"ack.seqs: expected a list of 1 to {MAX_SEQS} numbers, got {quote(seqs)}")
    return tuple(read_seq("ack.seqs", seq) for seq in seqs)


class ConfirmationInbox:
    """Keeps acknowledgements of receivers until the forwarder notes them.

    What does not fit, or cannot be read, is left out: its messages are then sent again.
    """

    def __init__(self, topics: Topics) -> None:
        self.ignored = 0
        self._topic = topics.ack
        self._waiting: Queue[tuple[int, ...]] = Queue(_MAX_WAITING)

    def offer(self, incoming: Incoming) -> bool:
        """Take what arrived, if it is an acknowledgement.

        Returns:
            Whether it was one, ignored or not.
        """
        if incoming.topic != self._topic:
            return False
        if incoming.is_retained:
            self._ignore("it is retained")
            return True
        try:
            self._waiting.put_nowait(parse_confirmation(incoming.payload))
        except InputError as error:
            self._ignore(str(error))
        except Full:
            self._ignore(f"{_MAX_WAITING} wait already")
        return True

    def take(self) -> list[int]:
        """All that came since the last call."""
        seqs: list[int] = []
        with suppress(Empty):
            while True:
                seqs += self._waiting.get_nowait()
        return seqs

    def _ignore(self, why: str) -> None:
        self.ignored += 1
        _LOGGER.warning("acknowledgement ignored: %s", why)
