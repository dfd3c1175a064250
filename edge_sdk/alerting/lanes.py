"""Which messages go next: new ones before those that an outage has left behind."""

from __future__ import annotations

from edge_sdk.alerting.spool import Spool
from edge_sdk.records import Message


class Lanes:
    """Two lanes through the spool, each in the order of ``seq``.

    What was there when the lanes were begun is the backlog; what came since is live. A batch holds
    live messages first and the backlog in the rest of the window, at least one place: after an
    outage of a night an alert of now waits for one batch, not for the night, and the night still
    gets through while alerts keep coming. Within a batch ``seq`` is the order: what fits into one
    arrives as it happened.

    Args:
        spool: where messages wait.
        window: messages in a batch, at least 2.
    """

    def __init__(self, spool: Spool, window: int) -> None:
        self._spool = spool
        self._window = window
        self.start_over()

    def start_over(self) -> None:
        """Offer everything that is not acknowledged, as the backlog."""
        self._boundary = self._live_after = self._spool.last_seq
        self._backlog_after = 0

    def take(self) -> list[Message]:
        """The next batch; each message once until ``start_over``. Empty: there is no more.

        Raises:
            SpoolError: the disk refuses.
        """
        live = self._spool.peek(self._window - 1, after=self._live_after)
        backlog: list[Message] = []
        if self._backlog_after < self._boundary:
            places = self._window - len(live)
            backlog = self._spool.peek(places, after=self._backlog_after, up_to=self._boundary)
            # What a broker refuses stays behind and stops no others.
            self._backlog_after = backlog[-1].seq if backlog else self._boundary
        if live:
            self._live_after = live[-1].seq
        return sorted(live + backlog, key=lambda message: message.seq)
