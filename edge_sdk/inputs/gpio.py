"""An edge of a line of a Linux gpiochip: a light barrier, a PLC's output."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import gpiod
from gpiod.line import Clock, Direction, Edge

from edge_sdk.errors import ConfigError, LineError
from edge_sdk.inputs.signal import TriggerSignal

_ADDRESS = re.compile(r"(?P<chip>/dev/[A-Za-z0-9_/-]+):(?P<line>\d{1,5})(?P<falling>:falling)?\Z")
_DEBOUNCE = timedelta(milliseconds=5)
_POLL_SECONDS = 0.2


class GpioInput:
    """Waits for edges through the character device; see ``TriggerInput``.

    Args:
        address: ``/dev/gpiochip0:17``, or ``/dev/gpiochip0:17:falling``.

    Raises:
        ConfigError: the address is malformed.
        LineError: no such chip or line, it is in use, or this user may not.
    """

    def __init__(self, address: str) -> None:
        match = _ADDRESS.match(address)
        if match is None:
            raise ConfigError(
                f"trigger input gpio: expected /dev/gpiochipN:LINE or /dev/gpiochipN:LINE:falling, "
                f"got {address}"
            )
        self._address = address
        self._is_closed = threading.Event()
        try:
            self._lines = gpiod.request_lines(
                match["chip"],
                consumer="edge-inspect",
                config={
                    int(match["line"]): gpiod.LineSettings(
                        direction=Direction.INPUT,
                        edge_detection=Edge.FALLING if match["falling"] else Edge.RISING,
                        event_clock=Clock.MONOTONIC,
                        debounce_period=_DEBOUNCE,
                    )
                },
            )
        except (OSError, ValueError) as error:
            raise LineError(f"trigger input gpio {address}: {error}") from error

    def signals(self) -> Iterator[TriggerSignal]:
        """Yield a signal for every edge, with the kernel's own time of it."""
        try:
            while not self._is_closed.is_set():
                if not self._lines.wait_edge_events(_POLL_SECONDS):
                    continue
                for event in self._lines.read_edge_events():
                    # The kernel's clock is the one of ``time.monotonic_ns``; never from after now.
                    moment = min(event.timestamp_ns, time.monotonic_ns())
                    yield TriggerSignal(monotonic_ns=moment)
        except OSError as error:
            raise LineError(f"trigger input gpio {self._address}: {error}") from error
        finally:
            self._lines.release()

    def close(self) -> None:
        """Let ``signals`` end."""
        self._is_closed.set()
