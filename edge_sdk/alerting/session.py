"""One session at the broker: what is sent is followed until it is answered.

MQTT 3.1.1 acknowledges a message also where the broker's rules forbid it and it is thrown away.
So with 3.1.1 the device reads its own topics, and the acknowledgement of the first message on a
topic counts only when the message has come back. Where not even the birth comes back, reading is
forbidden and nothing can be told: messages are then marked as not verified.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from edge_sdk.alerting.broker import Answer, BrokerSettings, Incoming, Outgoing
from edge_sdk.alerting.mqtt import MqttConnection
from edge_sdk.alerting.presence import Presence
from edge_sdk.alerting.pulse import USUAL_SECONDS, Pulse
from edge_sdk.errors import PublishError

_MIN_BYTES_PER_SECOND = 10_000
"""A slower link is taken for dead."""


class Inbox(Protocol):
    """Takes what comes on its topics."""

    def offer(self, incoming: Incoming) -> bool:
        """Take it; False where it is not on a topic of this one."""
        ...


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of something sent."""

    is_taken: bool
    """Whether the broker has it."""
    refusal: str | None = None
    """Why not, where the broker said."""
    is_verified: bool = True
    """False where only an acknowledgement speaks for it that says nothing (see above)."""


class BrokerSession:
    """Sends over an open connection, and waits for answers while commands come in."""

    def __init__(
        self,
        connection: MqttConnection,
        settings: BrokerSettings,
        inboxes: Sequence[Inbox],
        presence: Presence,
        pulse: Pulse,
    ) -> None:
        self.connection = connection
        self._settings = settings
        self._inboxes = inboxes
        self._presence = presence
        self._pulse = pulse
        self._came_back: set[tuple[str, bytes]] = set()
        self._proven: set[str] = set()
        self._reads_back = connection.version == "3.1.1"

    def subscribe(self, filters: Sequence[str]) -> str | None:
        """Subscribe to topics.

        Returns:
            Why the broker refuses, None where it does not.

        Raises:
            PublishError: the connection is gone.
        """
        number = self.connection.subscribe(list(filters))
        deadline = time.monotonic() + self._settings.acknowledge_timeout_seconds
        while time.monotonic() < deadline:
            for answer in self.poll(deadline - time.monotonic()):
                if answer.number == number:
                    return answer.refusal
        self.connection.fail("no answer to a subscription")
        raise PublishError("broker: no answer to a subscription")

    def poll(self, timeout_seconds: float) -> list[Answer]:
        """Take in what the broker sends, waiting at most so long for something.

        Raises:
            PublishError: the connection is gone.
        """
        self._pulse.beat(max(USUAL_SECONDS, timeout_seconds + 5))
        answers = []
        for event in self.connection.turn(max(0.0, timeout_seconds)):
            if isinstance(event, Answer):
                answers.append(event)
            elif not any(inbox.offer(event) for inbox in self._inboxes):
                self._note_return(event)
        return answers

    def publish(
        self, outgoings: Sequence[Outgoing], *, patience_seconds: float | None = None
    ) -> list[Receipt]:
        """Publish, a window at a time, and wait for all answers.

        Args:
            outgoings: what to publish, in this order.
            patience_seconds: how long without any answer; None: as the settings say.

        Returns:
            A receipt for each. When the connection breaks after the first answers, the rest has
            none; the next call then raises.

        Raises:
            PublishError: the connection is gone and nothing was answered.
        """
        receipts = [Receipt(is_taken=False)] * len(outgoings)
        try:
            self._send_all(outgoings, receipts, patience_seconds)
            self._read_back(outgoings, receipts)
        except PublishError:
            if not any(receipt.is_taken for receipt in receipts):
                raise
        return receipts

    def _send_all(
        self, outgoings: Sequence[Outgoing], receipts: list[Receipt], patience: float | None
    ) -> None:
        if patience is None:
            patience = self._settings.acknowledge_timeout_seconds
        connection = self.connection
        to_send = deque(enumerate(outgoings))
        under_way: dict[int, int] = {}
        last_sign = time.monotonic()
        while to_send or under_way:
            while to_send and len(under_way) < connection.window:
                index, outgoing = to_send.popleft()
                limit = connection.max_payload_bytes
                if limit is not None and len(outgoing.payload) > limit:
                    receipts[index] = _refused(f"the broker takes at most {limit} bytes")
                else:
                    under_way[connection.send(outgoing)] = index
            if not under_way:
                return
            # What a slow link carries shows no sign before it has arrived.
            longest = max(len(outgoings[index].payload) for index in under_way.values())
            left = last_sign + patience + longest / _MIN_BYTES_PER_SECOND - time.monotonic()
            if left <= 0:
                connection.fail(f"no acknowledgement for {patience:g} s")
                raise PublishError(f"broker: no acknowledgement for {patience:g} s")
            for answer in self.poll(left):
                index = under_way.pop(answer.number, -1)
                if index >= 0:
                    is_taken = answer.refusal is None
                    receipts[index] = Receipt(is_taken=is_taken, refusal=answer.refusal)
                    last_sign = time.monotonic()

    def _read_back(self, outgoings: Sequence[Outgoing], receipts: list[Receipt]) -> None:
        """With 3.1.1: withdraw receipts for what has not come back."""
        if self.connection.version != "3.1.1":
            return
        doubtful = {
            index: outgoing
            for index, outgoing in enumerate(outgoings)
            if outgoing.must_come_back
            and receipts[index].is_taken
            and not self._is_proven(outgoing)
        }
        for index in doubtful:  # should the connection break now, nothing is known of them
            receipts[index] = Receipt(is_taken=False)
        deadline = time.monotonic() + self._settings.read_back_seconds
        while self._reads_back and time.monotonic() < deadline:
            if all(self._is_proven(outgoing) for outgoing in doubtful.values()):
                break
            self.poll(deadline - time.monotonic())
        self._reads_back = self._reads_back and bool(self._proven)
        for index, outgoing in doubtful.items():
            if self._is_proven(outgoing):
                receipts[index] = Receipt(is_taken=True)
            elif self._reads_back:
                receipts[index] = _refused(f"acknowledged, but {outgoing.topic} did not come back")
            else:
                receipts[index] = Receipt(is_taken=True, is_verified=False)
        self._came_back.clear()

    def _is_proven(self, outgoing: Outgoing) -> bool:
        if (outgoing.topic, outgoing.payload) in self._came_back:
            self._proven.add(outgoing.topic)
        return outgoing.topic in self._proven

    def _note_return(self, incoming: Incoming) -> None:
        if incoming.topic == self._presence.topic:
            self._presence.see(incoming.payload)
        if self._reads_back and incoming.topic not in self._proven:
            self._came_back.add((incoming.topic, incoming.payload))


def _refused(refusal: str) -> Receipt:
    return Receipt(is_taken=False, refusal=refusal)
