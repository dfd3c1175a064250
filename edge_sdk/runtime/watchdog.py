"""Signs of life for the service manager, given only while every part of the run works.

They come out of the loop that inspects, so that one which hangs gives none, and only while the
threads that read cameras and the one that forwards messages have shown lately that they work. The
manager then ends the process, which puts every output line on its safe side, and starts it anew.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

from edge_sdk.runtime.dispatch import Dispatch
from edge_sdk.runtime.outbox import DurableOutbox
from edge_sdk.runtime.service_manager import ServiceManager
from edge_sdk.runtime.station import Station

_SIGNS_A_PERIOD = 4
"""systemd wants two; a loop that takes its time for a frame may miss one."""

_LOGGER = logging.getLogger(__name__)


class Watchdog:
    """An attendant of the loop.

    Args:
        manager: is told that the service is ready, how it is, and that it lives.
        parts: name to whether that part works.
        describe: how the cameras are, in a line for people.
    """

    def __init__(
        self,
        manager: ServiceManager,
        parts: Mapping[str, Callable[[], bool]],
        describe: Callable[[], str],
    ) -> None:
        self._manager = manager
        self._parts = parts
        self._describe = describe
        self._is_ready = False
        self._status = ""
        self._hung: list[str] = []
        self._next = 0.0

    def attend(self) -> list[Dispatch]:
        """Tell what is due; there is nothing to publish of it."""
        if not self._is_ready:
            self._is_ready = True
            self._manager.tell(READY=1)
        hung = [name for name, works in self._parts.items() if not works()]
        if hung != self._hung:
            self._hung = hung
            if hung:
                _LOGGER.error("no sign of life is given any more: hung: %s", ", ".join(hung))
        self._tell_status(f"hung: {', '.join(hung)}" if hung else self._describe())
        seconds = self._manager.watchdog_seconds
        if seconds is not None and not hung and time.monotonic() >= self._next:
            self._next = time.monotonic() + seconds / _SIGNS_A_PERIOD
            self._manager.tell(WATCHDOG=1)
        return []

    def close(self) -> None:
        """Tell that the service ends."""
        self._manager.tell(STOPPING=1)
        self._manager.close()

    def _tell_status(self, status: str) -> None:
        if status != self._status:
            self._status = status
            self._manager.tell(STATUS=status)


def watch_service(
    manager: ServiceManager | None,
    stations: Sequence[Station],
    outbox: object,
    opened: ExitStack,
) -> tuple[Watchdog, ...]:
    """What attends to the manager of this service, if it has one.

    Args:
        manager: who started this process as a service, if anybody.
        stations: of all cameras.
        outbox: the way out; a dry run's has no thread.
        opened: closes it.
    """
    if manager is None:
        return ()
    parts: dict[str, Callable[[], bool]] = {
        f"camera {station.camera.name}": _works(station) for station in stations
    }
    if isinstance(outbox, DurableOutbox):
        parts["forwarder"] = lambda: outbox.is_forwarding
    watchdog = Watchdog(manager, parts, lambda: _describe(stations))
    opened.callback(watchdog.close)
    return (watchdog,)


def _works(station: Station) -> Callable[[], bool]:
    return lambda: station.feed.is_working


def _describe(stations: Sequence[Station]) -> str:
    blind = [station.camera.name for station in stations if not station.feed.is_seeing]
    cameras = f"{len(stations)} camera{'s' if len(stations) > 1 else ''}"
    return f"{cameras}, blind: {', '.join(blind)}" if blind else cameras
