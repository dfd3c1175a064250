"""The person at the camera while it is taught: at a terminal, or behind a clock."""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Sequence
from typing import TextIO

from edge_sdk.errors import InputError
from edge_sdk.picture_checks import Finding
from edge_sdk.records import Frame

_RETAKES = 10
"""Refused pictures in a row after which nobody seems to be mending anything."""


class TerminalOperator:
    """Asks on a terminal: Enter takes the picture, r takes it again, k keeps it.

    Args:
        count: pictures wanted.
        keyboard: read line by line; None: standard input.
        screen: None: standard error.
    """

    def __init__(
        self, count: int, keyboard: TextIO | None = None, screen: TextIO | None = None
    ) -> None:
        self._count = count
        self._keyboard = sys.stdin if keyboard is None else keyboard
        self._screen = sys.stderr if screen is None else screen
        self._asked = 0
        self.subject: int | None = None
        """Number of the picture that is taken again; None: as they are counted."""

    def is_ready(self, number: int) -> bool:
        """Whether Enter was pressed since the question; never waits."""
        if self._asked != number:
            self._asked = number
            shown = number if self.subject is None else self.subject
            self._say(f"part {shown} of {self._count}: put it in place, then press Enter ")
        if not select.select([self._keyboard], [], [], 0)[0]:
            return False
        self._read()
        self._asked = 0
        return True

    def keeps(self, number: int, findings: Sequence[Finding]) -> bool:
        """Show what was found, and ask. A picture that shows nothing cannot be kept."""
        shown = number if self.subject is None else self.subject
        for finding in findings:
            self._say(f"  picture {shown}: {finding.detail}\n")
        if any(finding.fault in ("black", "over_exposed") for finding in findings):
            return False
        while True:
            self._say("  [r] take it again, [k] keep it? ")
            answer = self._read().strip().lower()
            if answer in ("r", ""):
                return False
            if answer == "k":
                return True

    def hears(self, number: int, frame: Frame) -> None:
        """Say that the picture was taken."""
        shown = number if self.subject is None else self.subject
        height, width = frame.size
        self._say(f"  picture {shown} of {self._count} taken ({width}x{height})\n")

    def _read(self) -> str:
        line = self._keyboard.readline()
        if not line:
            raise InputError("the terminal was closed before all pictures were taken")
        return line

    def _say(self, text: str) -> None:
        self._screen.write(text)
        self._screen.flush()


class TimedOperator:
    """Takes a picture every so often, and again where it would be refused.

    Args:
        count: pictures wanted.
        interval_seconds: time to put the next part in place.
        keeps_refused: blurred and repeated pictures are kept, too.
        screen: None: standard error.
    """

    def __init__(
        self,
        count: int,
        interval_seconds: float,
        *,
        keeps_refused: bool = False,
        screen: TextIO | None = None,
    ) -> None:
        self._count = count
        self._interval_seconds = interval_seconds
        self._keeps_refused = keeps_refused
        self._screen = sys.stderr if screen is None else screen
        self._due = time.monotonic() + interval_seconds
        self._refused = 0

    def is_ready(self, number: int) -> bool:  # noqa: ARG002 - as every operator is asked
        """Whether the time has passed."""
        return time.monotonic() >= self._due

    def keeps(self, number: int, findings: Sequence[Finding]) -> bool:
        """Say what was found; keep what is only doubtful.

        Raises:
            InputError: ten pictures in a row were refused.
        """
        for finding in findings:
            print(f"picture {number}: {finding.detail}", file=self._screen, flush=True)
        blind = any(finding.fault in ("black", "over_exposed") for finding in findings)
        is_refused = any(finding.gravity == "refused" for finding in findings)
        if not is_refused or (self._keeps_refused and not blind):
            return True
        self._refused += 1
        if self._refused >= _RETAKES:
            raise InputError(f"picture {number}: refused {_RETAKES} times: {findings[0].detail}")
        self._due = time.monotonic() + self._interval_seconds
        return False

    def hears(self, number: int, frame: Frame) -> None:  # noqa: ARG002 - as every operator hears
        """Say that the picture was taken, and give time for the next part."""
        print(f"picture {number} of {self._count} taken", file=self._screen, flush=True)
        self._refused = 0
        self._due = time.monotonic() + self._interval_seconds
