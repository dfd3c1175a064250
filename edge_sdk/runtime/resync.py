"""``cmd/resync``: what a receiver missed is sent again, and an event says how much of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from edge_sdk.alerting.commands import Command
from edge_sdk.alerting.resend import ResyncRequest, parse_resync
from edge_sdk.errors import InputError
from edge_sdk.records import Severity
from edge_sdk.runtime.dispatch import Dispatch
from edge_sdk.runtime.drafts import DraftMaker


class ResyncStore(Protocol):
    """What is needed of an outbox."""

    def take_resyncs(self) -> Sequence[Command]:
        """Commands ``cmd/resync`` that have come."""
        ...

    def resend(self, first: int, last: int, on_done: Callable[[int], None]) -> bool:
        """Send delivered messages again; False where an earlier range is not done yet."""
        ...


class Resync:
    """Answers ``cmd/resync`` with the event ``resynced`` when all was sent, or ``resync_refused``.

    Args:
        store: sends.
        drafts: makes the answers.
        on_news: called, in the sending thread, when an answer is due.
    """

    def __init__(
        self, store: ResyncStore, drafts: DraftMaker, *, on_news: Callable[[], None]
    ) -> None:
        self._store = store
        self._drafts = drafts
        self._on_news = on_news
        self._done: deque[tuple[ResyncRequest, int]] = deque()

    def attend(self) -> list[Dispatch]:
        """Begin what was asked for, and say what is done."""
        said = []
        for command in self._store.take_resyncs():
            refusal = self._begin(command)
            if refusal is not None:
                said.append(self._say("resync_refused", refusal, Severity.WARN))
        while self._done:
            request, sent = self._done.popleft()
            said.append(self._say("resynced", {**_range(request), "sent": sent}, Severity.INFO))
        return said

    def _begin(self, command: Command) -> dict[str, Any] | None:
        try:
            request = parse_resync(command.payload)
        except InputError as error:
            return {"reason": str(error)}

        def on_done(sent: int) -> None:
            self._done.append((request, sent))
            self._on_news()

        if self._store.resend(request.from_seq, request.to_seq, on_done):
            return None
        return {**_range(request), "reason": "busy: an earlier range is being sent"}

    def _say(self, name: str, data: Mapping[str, Any], severity: Severity) -> Dispatch:
        return Dispatch(draft=self._drafts.event(name, data, severity=severity))


def _range(request: ResyncRequest) -> dict[str, Any]:
    return {
        "command_id": request.command_id,
        "from_seq": request.from_seq,
        "to_seq": request.to_seq,
    }
