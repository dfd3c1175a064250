"""A named pipe that a PLC gateway writes: one trigger a line, the JSON of ``cmd/trigger``."""

from __future__ import annotations

import os
import select
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from edge_sdk.errors import ConfigError, LineError
from edge_sdk.inputs.signal import TriggerSignal

MAX_LINE_BYTES = 4096
"""``PIPE_BUF``: lines up to here are never mixed with those of another writer."""
_POLL_SECONDS = 0.2


class FifoInput:
    """Reads a pipe, which is made where there is none; see ``TriggerInput``.

    Args:
        address: absolute path of the pipe.

    Raises:
        ConfigError: the path is not absolute, or something else than a pipe is there.
        LineError: it cannot be made or opened.
    """

    def __init__(self, address: str) -> None:
        self._path = Path(address)
        self._is_closed = threading.Event()
        if not self._path.is_absolute():
            raise ConfigError(f"trigger input fifo: expected an absolute path, got {address}")
        try:
            if not self._path.exists():
                os.mkfifo(self._path, 0o660)
            # Both ends, so that the pipe does not end when a writer goes.
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise LineError(f"trigger input fifo {address}: {error.strerror}") from error
        if not stat.S_ISFIFO(os.fstat(self._descriptor).st_mode):
            os.close(self._descriptor)
            raise ConfigError(f"trigger input fifo {address}: expected a pipe or nothing there")

    def signals(self) -> Iterator[TriggerSignal]:
        """Yield a signal for every line; one without an end is cut off after 4096 bytes."""
        rest = b""
        try:
            while not self._is_closed.is_set():
                ready, _, _ = select.select([self._descriptor], [], [], _POLL_SECONDS)
                if not ready:
                    continue
                rest += os.read(self._descriptor, 65_536)
                moment = time.monotonic_ns()
                *lines, rest = rest.split(b"\n")
                if len(rest) > MAX_LINE_BYTES:
                    lines, rest = [*lines, rest], b""
                for line in lines:
                    yield TriggerSignal(monotonic_ns=moment, payload=line[:MAX_LINE_BYTES])
        except OSError as error:
            raise LineError(f"trigger input fifo {self._path}: {error.strerror}") from error
        finally:
            os.close(self._descriptor)

    def close(self) -> None:
        """Let ``signals`` end."""
        self._is_closed.set()
