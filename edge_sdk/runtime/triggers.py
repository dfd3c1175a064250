"""Triggers on their way to a camera, and those that wait for their result, in order."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import Full, Queue
from typing import Literal

from edge_sdk.runtime.tickets import Ticket

Way = Literal["mqtt", "http", "input"]
"""How a trigger comes."""

_REMEMBERED = 10_000
_MAX_OFFERED = 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TriggerCommand:
    """A trigger as it came, not read yet."""

    payload: bytes | None
    """JSON as of ``cmd/trigger``; None from an input that cannot name the part."""
    received_ns: int
    """Monotonic; its deadline counts from here, and only frames from then on are its part's."""
    way: Way = "mqtt"
    camera: str | None = None
    """Whose input it came from; None where the payload says it."""
    ticket: Ticket | None = None
    """Of somebody who waits to be told; without one, a refusal becomes an event."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trigger:
    """One part to be judged; times are monotonic."""

    trigger_id: str
    part_id: str
    received_ns: int
    deadline_ns: int
    ticket: Ticket | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A trigger that gets no result."""

    reason: str
    """For people."""
    is_repeated: bool = False
    """True where its id was used before."""


class TriggerDesk:
    """Where other threads hand in triggers for the loop to take.

    Args:
        on_news: called from their threads when there is one.
    """

    def __init__(self, on_news: Callable[[], None]) -> None:
        self._offered: Queue[TriggerCommand] = Queue(_MAX_OFFERED)
        self._on_news = on_news

    def offer(self, command: TriggerCommand) -> bool:
        """Hand one in; False where 256 wait already, so that nobody will read it."""
        try:
            self._offered.put_nowait(command)
        except Full:
            return False
        self._on_news()
        return True

    def take(self) -> list[TriggerCommand]:
        """Those handed in since the last call."""
        taken: list[TriggerCommand] = []
        while not self._offered.empty():  # nobody else takes any
            taken.append(self._offered.get_nowait())
        return taken


class TriggerQueue:
    """The waiting triggers of one camera.

    Args:
        deadline_seconds: how long after its arrival a trigger's verdict is wanted.
    """

    def __init__(self, deadline_seconds: float) -> None:
        self._deadline_ns = int(deadline_seconds * 1e9)
        self._waiting: deque[Trigger] = deque()
        self._seen: OrderedDict[str, None] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def first(self) -> Trigger:
        """The one that waits longest, whose deadline is the nearest; there must be one."""
        return self._waiting[0]

    def has_seen(self, trigger_id: str) -> bool:
        """Whether a trigger of this id came before; the last 10 000 are remembered."""
        return trigger_id in self._seen

    def remember(self, trigger_id: str) -> None:
        """Take an id for used, as by an earlier run."""
        self._seen[trigger_id] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)

    def add(
        self, trigger_id: str, part_id: str, received_ns: int, ticket: Ticket | None = None
    ) -> Trigger:
        """Take a trigger that came after those that wait already."""
        trigger = Trigger(
            trigger_id=trigger_id,
            part_id=part_id,
            received_ns=received_ns,
            deadline_ns=received_ns + self._deadline_ns,
            ticket=ticket,
        )
        self._waiting.append(trigger)
        self.remember(trigger_id)
        return trigger

    def pop(self) -> Trigger:
        """Remove the first one, to be answered; there must be one."""
        return self._waiting.popleft()
