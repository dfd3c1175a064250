"""Two lines of a Linux gpiochip: one that is active while a part may pass, one that toggles.

The kernel takes the lines back when the process dies, but not every chip then drops their level:
what the plant's relay must watch is the heartbeat.
"""

from __future__ import annotations

import re

import gpiod
from gpiod.line import Direction, Value

from edge_sdk.errors import ConfigError, LineError
from edge_sdk.outputs.signal import Signal

_ADDRESS = re.compile(r"(?P<chip>/dev/[A-Za-z0-9_/-]+):(?P<passes>\d{1,5}):(?P<beats>\d{1,5})\Z")


class GpioOutput:
    """Drives the lines through the character device; see ``OutputDriver``.

    Args:
        address: ``/dev/gpiochip0:22:23``: chip, line of ``pass``, line of the heartbeat.

    Raises:
        ConfigError: the address is malformed.
        LineError: no such chip or line, it is in use, or this user may not.
    """

    def __init__(self, address: str) -> None:
        match = _ADDRESS.match(address)
        if match is None or match["passes"] == match["beats"]:
            raise ConfigError(
                f"output gpio: expected /dev/gpiochipN:PASS:HEARTBEAT with two different lines, "
                f"got {address}"
            )
        self._address = address
        self._passes, self._beats = int(match["passes"]), int(match["beats"])
        self._is_high = False
        try:
            self._lines: gpiod.LineRequest | None = gpiod.request_lines(
                match["chip"],
                consumer="edge-inspect",
                config={
                    (self._passes, self._beats): gpiod.LineSettings(
                        direction=Direction.OUTPUT, output_value=Value.INACTIVE
                    )
                },
            )
        except (OSError, ValueError) as error:
            raise LineError(f"output gpio {address}: {error}") from error

    def show(self, signal: Signal) -> None:
        """Set the line of ``pass``."""
        self._set(self._passes, is_active=signal.side == "pass")

    def beat(self, signal: Signal) -> None:
        """Toggle the line of the heartbeat, and set the other again."""
        self.show(signal)
        self._is_high = not self._is_high
        self._set(self._beats, is_active=self._is_high)

    def close(self) -> None:
        """Set both lines inactive and give them back."""
        lines, self._lines = self._lines, None
        if lines is None:
            return
        try:
            lines.set_values({self._passes: Value.INACTIVE, self._beats: Value.INACTIVE})
        except OSError:
            return  # the chip is gone, and with it the heartbeat
        finally:
            lines.release()

    def _set(self, line: int, *, is_active: bool) -> None:
        if self._lines is None:
            raise LineError(f"output gpio {self._address}: it is closed")
        try:
            self._lines.set_value(line, Value.ACTIVE if is_active else Value.INACTIVE)
        except OSError as error:
            raise LineError(f"output gpio {self._address}: {error}") from error
