"""Sending again what was delivered: a receiver has noticed numbers that it never got."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from edge_sdk.alerting.command_json import read_command, read_identifier, read_seq
from edge_sdk.alerting.spool import Spool
from edge_sdk.errors import InputError
from edge_sdk.records import Message

RESYNC_COMMAND = "resync"

_KEYS = frozenset({"command_id", "from_seq", "to_seq"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ResyncRequest:
    """Send these again, the last included."""

    command_id: str
    """The plant's; the answer carries it."""
    from_seq: int
    to_seq: int


def parse_resync(payload: bytes) -> ResyncRequest:
    """Read the payload of ``cmd/resync``.

    Raises:
        InputError: it is no JSON object, a key is missing, unknown or twice, or a value is wrong.
    """
    values = read_command(RESYNC_COMMAND, payload, _KEYS)
    for key in sorted(_KEYS):
        if key not in values:
            raise InputError(f"resync.{key}: expected a value, got nothing")
    command_id = read_identifier("resync.command_id", values["command_id"])
    first, last = (read_seq(f"resync.{key}", values[key]) for key in ("from_seq", "to_seq"))
    if last < first:
        raise InputError(f"resync.to_seq: expected at least from_seq ({first}), got {last}")
    return ResyncRequest(command_id=command_id, from_seq=first, to_seq=last)


class Resender:
    """One range at a time, asked for by one thread, sent by another after all that waits."""

    def __init__(self, spool: Spool, window: int) -> None:
        self._spool = spool
        self._window = window
        self._lock = threading.Lock()
        self._last = 0
        self._after = 0
        self._sent = 0
        self._on_done: Callable[[int], None] | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether there is something to send again."""
        return self._on_done is not None

    def ask(self, first: int, last: int, on_done: Callable[[int], None]) -> bool:
        """Have delivered messages sent again.

        Args:
            first: the lowest ``seq``.
            last: the highest.
            on_done: told, in the sending thread, how many the broker took again.

        Returns:
            False where an earlier range is not done yet.
        """
        with self._lock:
            if self._on_done is not None:
                return False
            self._after, self._last, self._sent = first - 1, last, 0
            self._on_done = on_done
        return True

    def take(self) -> list[Message]:
        """The next messages to send; empty at the end, which is then told.

        Raises:
            SpoolError: the disk refuses.
        """
        messages = self._spool.peek_acknowledged(self._window, after=self._after, up_to=self._last)
        if not messages:
            with self._lock:
                on_done, self._on_done = self._on_done, None
            if on_done is not None:
                on_done(self._sent)
        return messages

    def note(self, messages: list[Message], taken: int) -> None:
        """These were sent, and the broker took so many."""
        self._after = messages[-1].seq
        self._sent += taken
