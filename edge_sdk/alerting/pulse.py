"""How a thread shows that it works, to somebody who may end the process where it does not."""

from __future__ import annotations

import time
from collections.abc import Callable

USUAL_SECONDS = 15.0
NAME_SERVICE_SECONDS = 60.0
"""Where a name may have to be looked up first: the resolver of the system has its own patience."""


class Pulse:
    """Beats while a thread works. Each beat says when the next one is due.

    One thread beats; any thread may look.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due = clock() + NAME_SERVICE_SECONDS

    def beat(self, within_seconds: float = USUAL_SECONDS) -> None:
        """Show that the thread works.

        Args:
            within_seconds: until the next beat, at most.
        """
        self._due = self._clock() + within_seconds

    @property
    def is_late(self) -> bool:
        """Whether a beat is overdue."""
        return self._clock() > self._due
