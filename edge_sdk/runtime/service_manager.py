"""What systemd is told of the service: datagrams to the socket that it names (sd_notify)."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import MutableMapping

_LOGGER = logging.getLogger(__name__)


class ServiceManager:
    """The other end of ``$NOTIFY_SOCKET``.

    Args:
        address: path of its socket; a first ``@`` stands for Linux' abstract names.
        watchdog_seconds: within which it wants a sign of life; None: it wants none.

    Raises:
        OSError: this process can open no socket.
    """

    def __init__(self, address: str, watchdog_seconds: float | None) -> None:
        self.watchdog_seconds = watchdog_seconds
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)  # a manager that does not read holds nothing up

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> ServiceManager | None:
        """The manager of this process; None where none has started it.

        Args:
            environment: whose variables about this are taken out, for they are not meant for the
                processes that this one starts.
        """
        address = environment.pop("NOTIFY_SOCKET", "")
        microseconds = environment.pop("WATCHDOG_USEC", "")
        process = environment.pop("WATCHDOG_PID", "")
        if not address.startswith(("/", "@")):
            return None
        is_wanted = microseconds.isdecimal() and process in ("", str(os.getpid()))
        return cls(address, int(microseconds) / 1e6 if is_wanted else None)

    def tell(self, **values: object) -> None:
        """Send variables in one datagram, for example ``READY=1``. What cannot be sent is not."""
        lines = (f"{name}={' '.join(str(value).split())}" for name, value in values.items())
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            _LOGGER.debug("the service manager does not listen: %s", error)

    def close(self) -> None:
        """Release the socket."""
        self._socket.close()
