"""Triggers that wait for their result, in the order they came."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass

_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerCommand:
    """A trigger as it came, not read yet."""

    payload: bytes
    received_ns: int
    """Monotonic; its deadline counts from here, and only frames from then on are its part's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """One part to be judged; times are monotonic."""

    trigger_id: str
    part_id: str
    received_ns: int
    deadline_ns: int


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

    def add(self, trigger_id: str, part_id: str, received_ns: int) -> None:
        """Take a trigger that came after those that wait already."""
        self._waiting.append(
            Trigger(
                trigger_id=trigger_id,
                part_id=part_id,
                received_ns=received_ns,
                deadline_ns=received_ns + self._deadline_ns,
            )
        )
        self._seen[trigger_id] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)

    def pop(self) -> Trigger:
        """Remove the first one, to be answered; there must be one."""
        return self._waiting.popleft()
