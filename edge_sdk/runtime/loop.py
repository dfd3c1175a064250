"""The loop that joins cameras, triggers and the way out. One thread computes: this one."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from edge_sdk.alerting.ledger import TriggerNote
from edge_sdk.alerting.payload import CameraState, CameraStatus, RunInStatus
from edge_sdk.records import Message, Reason, Verdict
from edge_sdk.runtime.dispatch import Dispatch
from edge_sdk.runtime.drafts import DraftMaker
from edge_sdk.runtime.intake import Intake
from edge_sdk.runtime.station import Station
from edge_sdk.runtime.summary import CameraSummary
from edge_sdk.runtime.triggers import TriggerCommand, TriggerDesk
from edge_sdk.runtime.writer import StoredListener

_LONGEST_PAUSE_SECONDS = 0.25
_STATE_SECONDS = 1.0


class Outbox(Protocol):
    """Where messages go. Nothing of it waits for a disk, save ``recall``, ``flush``, ``close``."""

    def send(self, dispatch: Dispatch, on_stored: StoredListener) -> None:
        """Hand a message over; it is numbered, made durable, told, and then published."""
        ...

    def note(self, trigger: TriggerNote, on_stored: StoredListener) -> None:
        """Hand over that a trigger was taken, to be made durable before its result."""
        ...

    def recall(self) -> tuple[list[TriggerNote], list[TriggerNote]]:
        """Triggers of earlier runs, and those of them that have no result; at the start."""
        ...

    def take_triggers(self) -> list[TriggerCommand]:
        """Commands ``cmd/trigger`` that came since the last call."""
        ...

    def report(self, cameras: Mapping[str, CameraStatus]) -> None:
        """Make the retained state say this."""
        ...

    def flush(self) -> None:
        """Wait until all that was sent is durable."""
        ...

    def close(self) -> int:
        """Send what can be sent; how many messages wait on the disk for the next start."""
        ...


class Attendant(Protocol):
    """Changes how stations judge, between two inspections."""

    def attend(self) -> list[Dispatch]:
        """Do what is due, without waiting for anything; what there is to say of it."""
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
        on_message: told of every message after it became durable, in the thread that stores.
        desk: where other threads hand in triggers.
        attendants: asked between inspections.
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
        desk: TriggerDesk | None = None,
        attendants: Sequence[Attendant] = (),
    ) -> None:
        self._stations = {station.camera.name: station for station in stations}
        self._outbox = outbox
        self._intake = Intake(self._stations, outbox, drafts, desk=desk, send=self._send)
        self._news = news
        self._summaries = summaries
        self._max_frames = max_frames
        self._on_message = on_message
        self._attendants = attendants
        self._last_report_ns = 0
        self._last_state: Mapping[str, tuple[object, ...]] = {}

    def run(self, stop: threading.Event) -> None:
        """Work until every source has ended, ``max_frames`` is reached, or ``stop`` is set.

        Raises:
            EdgeError: a file failed (cameras are retried for ever), or the spool cannot store.
        """
        self._intake.recall()
        while not stop.is_set() and not self._is_finished():
            self._news.clear()
            self._intake.take()
            has_worked = self._tend()
            if not stop.is_set():
                has_worked |= self._inspect()
            self._report()
            if not has_worked:
                self._news.wait(self._pause_seconds())
        self._intake.take()
        for station in self._stations.values():
            self._send_all(station.abandon("the run ended before the part was judged"))
        self._report(is_forced=True)
        self._outbox.flush()
        self._raise_file_errors()

    def summary(self) -> dict[str, Any]:
        """Counters and latencies for each camera."""
        return {
            name: self._summaries[name].to_json(dropped=station.feed.dropped)
            for name, station in self._stations.items()
        }

    def _tend(self) -> bool:
        """Let every station do what is due without inspecting; whether anything came of it."""
        has_worked = False
        for attendant in self._attendants:
            has_worked |= self._send_all(attendant.attend())
        for station in self._stations.values():
            if self._has_enough(station):
                reason = f"finished after {self._max_frames} frames"
                has_worked |= self._send_all(station.abandon(reason))
            else:
                has_worked |= self._send_all(station.tend())
        return has_worked

    def _inspect(self) -> bool:
        """Make the one inspection whose deadline comes first; whether there was one."""
        ready = [
            (deadline_ns, number, station)
            for number, station in enumerate(self._stations.values())
            if not self._has_enough(station)
            and (deadline_ns := station.job_deadline_ns) is not None
        ]
        if not ready:
            return False
        _, _, station = min(ready, key=lambda job: job[:2])
        self._send_all(station.inspect())
        return True

    def _send_all(self, dispatches: Sequence[Dispatch]) -> bool:
        for dispatch in dispatches:
            self._send(dispatch)
        return bool(dispatches)

    def _send(self, dispatch: Dispatch) -> None:
        def on_stored(message: Message | None) -> None:
            if message is None:
                return
            summary = self._summaries.get(message.camera or "")
            if summary is not None:
                summary.messages[str(message.kind)] += 1
            if dispatch.ticket is not None:
                dispatch.ticket.answer(message)
            if self._on_message is not None:
                self._on_message(message)

        self._outbox.send(dispatch, on_stored)

    def _report(self, *, is_forced: bool = False) -> None:
        """Say the state when a verdict or a state changed, and the scores once a second."""
        statuses = {name: _status(station) for name, station in self._stations.items()}
        essence = {
            name: (status.state, status.verdict, status.reason, status.anomaly)
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
        pause = _LONGEST_PAUSE_SECONDS
        if due:
            pause = min(pause, max(0.0, (min(due) - time.monotonic_ns()) / 1e9))
        return pause

    def _raise_file_errors(self) -> None:
        for station in self._stations.values():
            error = station.feed.error
            if error is not None and station.feed.has_ended:
                raise error


def _status(station: Station) -> CameraStatus:
    """Blind without frames, unscored where they cannot be judged, degraded where a line fails."""
    decision, has_open_anomaly = station.last_decision, station.tracker.has_open_anomaly
    has_failed = station.lines is not None and station.lines.has_failed
    illness = station.health.standing
    sound = CameraState.DEGRADED if has_failed or illness is not None else CameraState.OK
    plain = CameraStatus(
        state=sound,
        reason=str(illness[0]) if illness is not None else None,
        provisional=station.pipeline.decider.threshold.provisional,
        run_in=_run_in_status(station),
    )
    cause = station.standing.cause
    if cause is not None and station.feed.is_seeing:
        return replace(
            plain,
            state=CameraState.UNSCORED,
            verdict=Verdict.FAULT,
            reason=str(cause[0]),
            anomaly=has_open_anomaly,
        )
    if decision is None and station.feed.is_seeing and station.camera.trigger.mode != "continuous":
        return plain  # it waits for its first part
    if decision is None or not station.feed.is_seeing:
        return replace(
            plain,
            state=CameraState.BLIND,
            verdict=Verdict.FAULT,
            reason=str(Reason.NO_FRAME),
            anomaly=has_open_anomaly,
        )
    is_fault = decision.verdict is Verdict.FAULT
    return replace(
        plain,
        state=CameraState.UNSCORED if is_fault else sound,
        verdict=decision.verdict,
        reason=str(decision.reason) if is_fault else plain.reason,
        score=decision.result.image_score if decision.result and not is_fault else None,
        threshold=decision.threshold,
        anomaly=has_open_anomaly,
    )


def _run_in_status(station: Station) -> RunInStatus | None:
    run_in = station.pipeline.run_in
    standing = run_in.standing if run_in is not None else None
    if standing is None or standing.threshold is not None:
        return None
    return RunInStatus(
        parts=len(standing.kept), of=standing.plan.parts, waiting=len(standing.waiting)
    )
