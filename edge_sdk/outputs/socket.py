"""A Unix socket that a PLC gateway reads: one JSON object a line, at every change and every beat.

The gateway connects; when this process dies the kernel closes the connection, and when it hangs
the beats stop. Either way the gateway goes safe without having been told.
"""

from __future__ import annotations

import json
import os
import socket
import stat
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge_sdk.errors import ConfigError, LineError
from edge_sdk.outputs.signal import Signal

MAX_READERS = 8
_PROBE_SECONDS = 0.5


class SocketOutput:
    """Listens at a path; see ``OutputDriver``.

    Args:
        address: path of the socket, at most 107 bytes; a stale one in its place is replaced.

    Raises:
        ConfigError: the path is too long, or something else than a socket is there.
        LineError: another process listens there, or it cannot be made.
    """

    def __init__(self, address: str) -> None:
        self._path = Path(address)
        self._readers: list[socket.socket] = []
        self._last: Signal | None = None
        if not self._path.is_absolute() or len(os.fsencode(address)) > 107:
            raise ConfigError(
                f"output socket: expected an absolute path of at most 107 bytes, got {address}"
            )
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._make_room()
            self._listener.bind(address)
            self._path.chmod(0o660)
            self._listener.listen(MAX_READERS)
            self._listener.setblocking(False)
        except OSError as error:
            self._listener.close()
            raise LineError(f"output socket {address}: {error.strerror or error}") from error
        except BaseException:
            self._listener.close()
            raise

    def show(self, signal: Signal) -> None:
        """Send a line ``{"kind": "show", ...}`` to every reader."""
        self._last = signal
        self._admit()
        self._send(_line("show", signal), self._readers)

    def beat(self, signal: Signal) -> None:
        """Send a line ``{"kind": "beat", ...}`` to every reader, and let new ones in."""
        self._last = signal
        self._admit()
        self._send(_line("beat", signal), self._readers)

    def close(self) -> None:
        """Close all connections and take the socket away."""
        for reader in (*self._readers, self._listener):
            reader.close()
        self._readers.clear()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _make_room(self) -> None:
        """Remove a socket that a killed process left behind."""
        try:
            mode = self._path.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise ConfigError(f"output socket {self._path}: expected a socket or nothing there")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(_PROBE_SECONDS)
            try:
                probe.connect(str(self._path))
            except ConnectionRefusedError:
                self._path.unlink()
                return
        raise LineError(f"output socket {self._path}: another process listens there")

    def _admit(self) -> None:
        with suppress(BlockingIOError):
            while True:
                reader, _ = self._listener.accept()
                if len(self._readers) >= MAX_READERS:
                    reader.close()
                    continue
                reader.setblocking(False)
                self._readers.append(reader)

    def _send(self, line: bytes, readers: list[socket.socket]) -> None:
        """Write to each; one that does not read fast enough is cut off, and so goes safe."""
        for reader in tuple(readers):
            try:
                is_sent = reader.send(line) == len(line)
            except OSError:
                is_sent = False
            if not is_sent:
                reader.close()
                self._readers.remove(reader)


def _line(kind: str, signal: Signal) -> bytes:
    values: dict[str, Any] = {
        name: value for name, value in asdict(signal).items() if value is not None
    }
    return json.dumps({"kind": kind, **values}).encode() + b"\n"
