"""The loop that joins cameras, triggers and the way out. One thread computes: this one."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from edge_sdk.alerting.payload import CameraState, CameraStatus
from edge_sdk.alerting.trigger import parse_trigger
from edge_sdk.errors import InputError
from edge_sdk.records import Message, Verdict
from edge_sdk.runtime.drafts import DraftMaker
from edge_sdk.runtime.station import Dispatch, Station
from edge_sdk.runtime.summary import CameraSummary
from edge_sdk.runtime.triggers import TriggerCommand

_LONGEST_PAUSE_SECONDS = 0.25
_TRIGGERED_PAUSE_SECONDS = 0.005
"""How long a trigger may lie unread in the queue of the broker's thread."""
_STATE_SECONDS = 1.0


class Outbox(Protocol):
    """Where messages go."""

    def send(self, dispatch: Dispatch) -> Message:
        """Number a message and make it durable; returns before it is published."""
        ...

    def take_triggers(self) -> list[TriggerCommand]:
        """Commands ``cmd/trigger`` that came since the last call."""
        ...

    def report(self, cameras: Mapping[str, CameraStatus]) -> None:
        """Make the retained state say this."""
        ...

    def close(self) -> int:
        """Send what can be sent; how many messages wait on the disk for the next start."""
        ...


class MessageListener(Protocol):
    """Told of messages, to print them."""

    def __call__(self, message: Message) -> None:
        """Take one message."""
        ...


class Runtime:
    """Runs stations until they are finished or told to stop.

    Args:
        stations: one a camera.
        outbox: where messages go.
        drafts: makes messages of the device itself.
        news: set by the feeds when there is something to do.
        summaries: counters a camera, which the stations fill.
        max_frames: inspections a camera after which it is finished; None: no limit.
        on_message: told of every message after it became durable.
    """

    def __init__(
        self,
        stations: Sequence[Station],
        outbox: Outbox,
        drafts: DraftMaker,
        *,
        news: threading.Event,
        summaries: Mapping[str, CameraSummary],
        max_frames: int | None = None,
        on_message: MessageListener | None = None,
    ) -> None:
        self._stations = {station.camera.name: station for station in stations}
        self._outbox = outbox
        self._drafts = drafts
        self._news = news
        self._summaries = summaries
        self._max_frames = max_frames
        self._on_message = on_message
        self._last_report_ns = 0
        self._last_state: Mapping[str, tuple[object, ...]] = {}

    def run(self, stop: threading.Event) -> None:
        """Work until every source has ended, ``max_frames`` is reached, or ``stop`` is set.

        Raises:
            EdgeError: a file failed (cameras are retried for ever), or the spool cannot store.
        """
        while not stop.is_set() and not self._is_finished():
            self._news.clear()
            has_worked = False
            for station in self._stations.values():
                if stop.is_set():
                    break
                self._take_triggers()
                has_worked |= self._serve(station)
            self._report()
            if not has_worked:
                self._news.wait(self._pause_seconds())
        self._take_triggers()
        for station in self._stations.values():
            self._send_all(station.abandon("the run ended before the part was judged"))
        self._report(is_forced=True)
        self._raise_file_errors()

    def summary(self) -> dict[str, Any]:
        """Counters and latencies for each camera."""
        return {
            name: self._summaries[name].to_json(dropped=station.feed.dropped)
            for name, station in self._stations.items()
        }

    def _serve(self, station: Station) -> bool:
        """Let a station do one step; whether it had anything to do."""
        if self._has_enough(station):
            return self._send_all(station.abandon(f"finished after {self._max_frames} frames"))
        inspected = self._summaries[station.camera.name].inspected
        has_sent = self._send_all(station.step())
        return has_sent or self._summaries[station.camera.name].inspected != inspected

    def _take_triggers(self) -> None:
        for command in self._outbox.take_triggers():
            refusal = self._offer_trigger(command)
            if refusal is not None:
                self._send(refusal)

    def _offer_trigger(self, command: TriggerCommand) -> Dispatch | None:
        """Give a trigger to its station; an event where it is refused."""
        try:
            request = parse_trigger(command.payload)
        except InputError as error:
            return Dispatch(draft=self._drafts.trigger_refused(str(error)))
        names = list(self._stations)
        name = names[0] if request.camera is None and len(names) == 1 else request.camera
        if name in self._stations:
            return self._stations[name].trigger(request, command.received_ns)
        reason = f"trigger.camera: expected one of {sorted(names)}, got {request.camera!r}"
        return Dispatch(draft=self._drafts.trigger_refused(reason, request))

    def _send_all(self, dispatches: Sequence[Dispatch]) -> bool:
        for dispatch in dispatches:
            self._send(dispatch)
        return bool(dispatches)

    def _send(self, dispatch: Dispatch) -> None:
        message = self._outbox.send(dispatch)
        if message.camera is not None:
            self._summaries[message.camera].messages[str(message.kind)] += 1
        if self._on_message is not None:
            self._on_message(message)

    def _report(self, *, is_forced: bool = False) -> None:
        """Say the state when a verdict or a state changed, and the scores once a second."""
        statuses = {name: _status(station) for name, station in self._stations.items()}
        essence = {
            name: (status.state, status.verdict, status.anomaly)
            for name, status in statuses.items()
        }
        now = time.monotonic_ns()
        is_due = now - self._last_report_ns >= _STATE_SECONDS * 1e9
        if is_forced or is_due or essence != self._last_state:
            self._last_report_ns, self._last_state = now, essence
            self._outbox.report(statuses)

    def _has_enough(self, station: Station) -> bool:
        done = self._summaries[station.camera.name].inspected
        return self._max_frames is not None and done >= self._max_frames

    def _is_finished(self) -> bool:
        return all(
            station.is_finished or self._has_enough(station) for station in self._stations.values()
        )

    def _pause_seconds(self) -> float:
        due = [
            station.next_due_ns
            for station in self._stations.values()
            if station.next_due_ns is not None and not self._has_enough(station)
        ]
        is_triggered = any(s.camera.trigger.mode == "mqtt" for s in self._stations.values())
        pause = _TRIGGERED_PAUSE_SECONDS if is_triggered else _LONGEST_PAUSE_SECONDS
        if due:
            pause = min(pause, max(0.0, (min(due) - time.monotonic_ns()) / 1e9))
        return pause

    def _raise_file_errors(self) -> None:
        for station in self._stations.values():
            error = station.feed.error
            if error is not None and station.feed.has_ended:
                raise error


def _status(station: Station) -> CameraStatus:
    """A camera without frames is blind, one whose frames cannot be judged unscored: never ok."""
    decision, has_open_anomaly = station.last_decision, station.tracker.has_open_anomaly
    if decision is None and station.feed.is_seeing and station.camera.trigger.mode != "continuous":
        return CameraStatus(state=CameraState.OK)  # it waits for its first part
    if decision is None or not station.feed.is_seeing:
        return CameraStatus(
            state=CameraState.BLIND, verdict=Verdict.FAULT, anomaly=has_open_anomaly
        )
    is_fault = decision.verdict is Verdict.FAULT
    return CameraStatus(
        state=CameraState.UNSCORED if is_fault else CameraState.OK,
        verdict=decision.verdict,
        score=decision.result.image_score if decision.result and not is_fault else None,
        threshold=decision.threshold,
        provisional=decision.provisional,
        anomaly=has_open_anomaly,
    )
