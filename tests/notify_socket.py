"""A service manager, as far as a service hears and sees of it: a datagram socket that it names."""

from __future__ import annotations

import secrets
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import final


@final
class NotifySocket:
    """Takes what a service tells, and remembers it.

    Args:
        folder: where its socket is; None: it has an abstract name.
    """

    def __init__(self, folder: Path | None) -> None:
        self.address = f"@edge-test-{secrets.token_hex(8)}" if folder is None else f"{folder}/n"
        self.told: list[str] = []
        """Variables so far, ``NAME=value``, in order."""

    def __enter__(self) -> NotifySocket:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address.replace("@", "\0", 1))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def hears(self, line: str, seconds: float = 60) -> bool:
        """Wait for the next variable with this value; what comes before is remembered."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if line in self._next(left):
                return True
        return False

    def drain(self) -> None:
        """Take what has come already."""
        while self._next(0.0):
            pass

    def _next(self, seconds: float) -> list[str]:
        self._socket.settimeout(max(seconds, 0.001))
        try:
            lines = self._socket.recv(4096).decode().splitlines()
        except TimeoutError:
            return []
        self.told += lines
        return lines
