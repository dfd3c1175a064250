"""Whether the disk has room left: the spool is not the one to fill it up."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

_RESERVED_SHARE = 0.05
_RESERVED_BYTES = 500_000_000
_LEAVE_FACTOR = 1.2
"""It is low until there is so much more than the reserve, not until the next byte is free."""

_ALWAYS_BYTES = 8_000_000
"""What may be held however low it is."""


class Room:
    """Room on the file system of a directory.

    Args:
        directory: any on it.
        measure: (free bytes for this user, bytes in all) of a directory.
    """

    def __init__(
        self, directory: Path, measure: Callable[[Path], tuple[int, int]] | None = None
    ) -> None:
        self._directory = directory
        self._measure = measure or _free_and_all
        self._is_low = False
        self._ceiling: int | None = None
        """What was held when it became low; None while it is not."""

    @property
    def is_low(self) -> bool:
        """Whether less is free than 5 % of the file system or 500 MB, whichever is less."""
        try:
            free, size = self._measure(self._directory)
        except OSError:  # who writes there next is told why
            return self._is_low
        reserve = min(_RESERVED_SHARE * size, _RESERVED_BYTES)
        self._is_low = free < reserve * (_LEAVE_FACTOR if self._is_low else 1)
        return self._is_low

    def limit(self, most: int, held: int) -> int:
        """How many bytes may be held: ``most``, or what was held when room became low."""
        if not self.is_low:
            self._ceiling = None
            return most
        if self._ceiling is None:
            self._ceiling = max(_ALWAYS_BYTES, held)
        return min(most, self._ceiling)


def _free_and_all(directory: Path) -> tuple[int, int]:
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
