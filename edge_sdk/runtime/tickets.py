"""What became of a trigger, for somebody in another thread who waits to be told."""

from __future__ import annotations

import threading
import time
from enum import Enum

from edge_sdk.records import Message


class Progress(Enum):
    """How far a trigger has come."""

    OFFERED = "offered"
    REFUSED = "refused"
    ACCEPTED = "accepted"
    """Noted on the disk: from here on it gets its result, whatever happens."""
    ANSWERED = "answered"
    """The result is on the disk."""


class Ticket:
    """Filled in by the runtime, waited on by who sent the trigger."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._progress = Progress.OFFERED
        self.refusal: str | None = None
        """Why it was refused, for people."""
        self.is_repeated = False
        """True where it was refused because its ``trigger_id`` was used before."""
        self.trigger_id: str | None = None
        """Known once accepted."""
        self.result: Message | None = None
        """Known once answered."""

    def refuse(self, reason: str, *, is_repeated: bool = False) -> None:
        """Say that there will be no result."""
        self.refusal, self.is_repeated = reason, is_repeated
        self._move(Progress.REFUSED)

    def accept(self, trigger_id: str) -> None:
        """Say that the trigger is on the disk."""
        self.trigger_id = trigger_id
        self._move(Progress.ACCEPTED)

    def answer(self, result: Message) -> None:
        """Give the result."""
        self.result = result
        self._move(Progress.ANSWERED)

    def wait(self, wanted: Progress, deadline_ns: int) -> Progress:
        """Wait until the trigger is refused, or has come as far as wanted.

        Args:
            wanted: ``ACCEPTED`` or ``ANSWERED``.
            deadline_ns: monotonic time at which to give up.

        Returns:
            How far it has come.
        """
        final = {Progress.REFUSED, Progress.ANSWERED, wanted}
        with self._changed:
            self._changed.wait_for(
                lambda: self._progress in final,
                max(0.0, (deadline_ns - time.monotonic_ns()) / 1e9),
            )
            return self._progress

    def _move(self, progress: Progress) -> None:
        with self._changed:
            self._progress = progress
            self._changed.notify_all()
