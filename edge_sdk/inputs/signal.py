"""The seam of trigger inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerSignal:
    """A part is there."""

    monotonic_ns: int
    """``time.monotonic_ns()`` of the signal: the deadline counts from here."""
    payload: bytes | None = None
    """JSON as of ``cmd/trigger``, at most 16 kB; None where the line cannot name the part."""


class TriggerInput(Protocol):
    """Where triggers of one camera come from."""

    def signals(self) -> Iterator[TriggerSignal]:
        """Yield signals as they come, until closed; read by a thread of its own.

        Raises:
            LineError: the line is lost. The input is then closed and opened again.
        """
        ...

    def close(self) -> None:
        """Let ``signals`` end within a second; called from another thread, maybe twice."""
        ...


class InputFactory(Protocol):
    """What opens an input: a driver's class, or a function."""

    def __call__(self, address: str) -> TriggerInput:
        """Open the line at an address.

        Raises:
            ConfigError: the address means nothing.
            LineError: it cannot be opened now.
        """
        ...
