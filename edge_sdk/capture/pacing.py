"""When the frames of a file are due: all of them as fast as asked, or as a camera would."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta, timezone
from typing import Literal, Protocol, TypeAlias

from edge_sdk.errors import ConfigError

Pace: TypeAlias = Literal["every", "realtime"]
"""``every``: each frame. ``realtime``: the newest one due; those overtaken are dropped."""

_NANOSECONDS = 1_000_000_000
MAX_FRAMES_PER_SECOND = 1000.0


class Schedule(Protocol):
    """Tells a file reader which frame is to be read next."""

    def wait(self, index: int) -> int | None:
        """Wait until frame ``index`` is due.

        Args:
            index: number of the first frame not read yet.

        Returns:
            The newest frame due, ``index`` or a later one; None once the source is closed.
        """
        ...

    def moment_ns(self, index: int) -> int:
        """``time.monotonic_ns()`` at which frame ``index``, now due, was taken."""
        ...


class EveryFrame:
    """Each frame is due as soon as it is asked for."""

    def __init__(self, closed: threading.Event) -> None:
        self._closed = closed

    def wait(self, index: int) -> int | None:
        """Return ``index``, or None once the source is closed."""
        return None if self._closed.is_set() else index

    def moment_ns(self, index: int) -> int:  # noqa: ARG002 - the seam is shared with Realtime
        """Return the present: a frame that was waiting for its reader has no age."""
        return time.monotonic_ns()


class Realtime:
    """Frame k is due k / ``frames_per_second`` seconds after the first was asked for."""

    def __init__(self, frames_per_second: float, closed: threading.Event) -> None:
        self._period_ns = round(_NANOSECONDS / frames_per_second)
        self._closed = closed
        self._start_ns: int | None = None

    def wait(self, index: int) -> int | None:
        """Sleep until frame ``index`` is due and return the newest due, or None when closed."""
        due_ns = self.moment_ns(index)
        while (remaining_ns := due_ns - time.monotonic_ns()) > 0:
            if self._closed.wait(remaining_ns / _NANOSECONDS):
                return None
        if self._closed.is_set():
            return None
        return max(index, (time.monotonic_ns() - self.moment_ns(0)) // self._period_ns)

    def moment_ns(self, index: int) -> int:
        """Return when frame ``index`` became due, in ``time.monotonic_ns()``."""
        if self._start_ns is None:
            self._start_ns = time.monotonic_ns()
        return self._start_ns + index * self._period_ns


def make_schedule(pace: Pace, frames_per_second: float, closed: threading.Event) -> Schedule:
    """Build the schedule of a file.

    Args:
        pace: ``every`` or ``realtime``.
        frames_per_second: frame rate under ``realtime``, above 0, at most 1000.
        closed: set when the source is closed; ends all waiting.

    Raises:
        ConfigError: the frame rate is out of its range.
    """
    if pace == "every":
        return EveryFrame(closed)
    if not 0 < frames_per_second <= MAX_FRAMES_PER_SECOND:
        raise ConfigError(
            f"frames_per_second: expected above 0, at most {MAX_FRAMES_PER_SECOND:g}, got "
            f"{frames_per_second:g}"
        )
    return Realtime(frames_per_second, closed)


def wall_clock_at(monotonic_ns: int) -> datetime:
    """UTC wall clock of a recent moment on the monotonic clock."""
    age_us = (time.monotonic_ns() - monotonic_ns) / 1000
    return datetime.now(timezone.utc) - timedelta(microseconds=age_us)
