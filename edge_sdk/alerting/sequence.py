"""Numbers that never repeat, kept outside the spool's database."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from edge_sdk.alerting.durable import write_durably
from edge_sdk.errors import SpoolError

_BLOCK = 1000

_LOGGER = logging.getLogger(__name__)


class SequenceMark:
    """The highest ``seq`` that may have been used, in a small file of its own.

    A database that was deleted or set aside takes its counter along; this file does not go with
    it. It is written once in 1000 messages, ahead of them, so that it costs no message a sync.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.used, self.reserved = self._read()
        """Certainly used up to the first, possibly up to the second; both 0 on a new device."""

    def reserve(self, seq: int) -> None:
        """Make sure that ``seq`` is covered before it is used.

        Raises:
            OSError: the disk refused.
        """
        if seq > self.reserved:
            self._write(seq - 1, seq - 1 + _BLOCK)

    def settle(self, last: int) -> None:
        """Give the unused rest of the block back, at a clean end.

        Raises:
            OSError: the disk refused.
        """
        if (self.used, self.reserved) != (last, last):
            self._write(last, last)

    def _write(self, used: int, reserved: int) -> None:
        write_durably(self._path, f"{used} {reserved}\n")
        self.used, self.reserved = used, reserved

    def _read(self) -> tuple[int, int]:
        try:
            used, reserved = (int(word) for word in self._path.read_text(encoding="ascii").split())
        except FileNotFoundError:
            return 0, 0
        except OSError as error:
            raise SpoolError(f"{self._path}: cannot be read: {error}") from error
        except ValueError as error:
            # A sound database knows better; without one, seconds since 1970 are above any count.
            _LOGGER.error("%s: expected two numbers: %s", self._path, error)  # noqa: TRY400 - no trace needed
            return 0, int(time.time())
        return used, reserved


def next_number(path: Path) -> int:
    """Count up a durable counter and return it: 1 the first time.

    Raises:
        OSError: the disk refused.
        ValueError: the file holds no number.
    """
    try:
        last = int(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        last = 0
    write_durably(path, f"{last + 1}\n")
    return last + 1
