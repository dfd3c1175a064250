"""A PLC gateway: reads an output line's socket, and goes safe by itself where nothing comes."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, final

PATIENCE_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Heard:
    """One line of the socket."""

    at_ns: int
    """Monotonic, when it was read."""
    line: dict[str, Any]


@final
class Gateway:
    """Connects to the socket of an output line, and believes ``pass`` only while it is repeated.

    Args:
        path: of the socket; waited for where it is not there yet.
        patience_seconds: without a beat, after which the line is safe.
    """

    def __init__(self, path: Path, patience_seconds: float = 0.3) -> None:
        self._path = path
        self._patience_ns = int(patience_seconds * 1e9)
        self._changed = threading.Condition()
        self._heard: list[Heard] = []
        self._is_connected = True
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Gateway:
        self._socket = self._connect()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._socket.close()

    @property
    def heard(self) -> list[Heard]:
        """All lines so far."""
        with self._changed:
            return list(self._heard)

    @property
    def is_connected(self) -> bool:
        """Whether the other side still holds the connection."""
        return self._is_connected

    @property
    def side(self) -> str:
        """What this gateway does with a part that comes now: ``pass`` or ``safe``."""
        heard = self.heard
        is_silent = not heard or time.monotonic_ns() - heard[-1].at_ns > self._patience_ns
        return "safe" if is_silent or not self._is_connected else str(heard[-1].line["side"])

    def shown(self, part_id: str | None = None) -> list[Heard]:
        """Changes of the line so far; those about one part."""
        changes = [heard for heard in self.heard if heard.line["kind"] == "show"]
        return [h for h in changes if part_id is None or h.line.get("part_id") == part_id]

    def wait_until(self, claim: Callable[[Gateway], bool]) -> None:
        """Wait until the claim holds; looked at with every line and every hundredth of a second."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        with self._changed:
            while not claim(self):
                assert time.monotonic() < deadline, self._heard[-5:]
                self._changed.wait(0.01)

    def _connect(self) -> socket.socket:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.connect(str(self._path))
            except (FileNotFoundError, ConnectionRefusedError):
                connection.close()
                assert time.monotonic() < deadline, f"{self._path}: nobody listens"
                time.sleep(0.02)
            else:
                return connection

    def _read(self) -> None:
        with self._socket.makefile("rb") as lines:
            try:
                for line in lines:
                    with self._changed:
                        self._heard.append(Heard(time.monotonic_ns(), json.loads(line)))
                        self._changed.notify_all()
            except (ConnectionResetError, ValueError):  # cut off in the middle of a line
                pass
        with self._changed:
            self._is_connected = False
            self._changed.notify_all()
