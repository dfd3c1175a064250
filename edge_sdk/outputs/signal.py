"""The seam to the physical side: two sides, a heartbeat, and who carries them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Side = Literal["pass", "safe"]
"""``pass``: the part may go on. ``safe``: reject or hold it, as the line is wired."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """What the line shows from now on."""

    side: Side
    reason: str
    """A ``Reason``, or ``idle``, ``next_part``, ``expired``, ``stalled``, ``stopped``."""
    camera: str
    monotonic_ns: int
    """When it was decided."""
    verdict: str | None = None
    """None where it is not about a part."""
    part_id: str | None = None
    trigger_id: str | None = None
    provisional: bool | None = None
    """True where the threshold has seen too few good parts to promise anything."""


class OutputDriver(Protocol):
    """Carries signals out of this process.

    Called from two threads, never from both at once. No call may block: what cannot be written
    now is given up, and the physical side goes safe for want of a heartbeat.
    """

    def show(self, signal: Signal) -> None:
        """Make the line show a side.

        Raises:
            LineError: it could not be; the driver is closed and opened again.
        """
        ...

    def beat(self, signal: Signal) -> None:
        """Say that this process lives and means what it showed last.

        Args:
            signal: what is shown.

        Raises:
            LineError: as ``show``.
        """
        ...

    def close(self) -> None:
        """Let go of the line, which then shows its safe side; may be called twice."""
        ...


class OutputFactory(Protocol):
    """What opens an output: a driver's class, or a function."""

    def __call__(self, address: str) -> OutputDriver:
        """Open the line at an address, showing its safe side.

        Raises:
            ConfigError: the address means nothing.
            LineError: it cannot be opened now.
        """
        ...
