"""One camera at work: its frames, its triggers, its verdicts, as drafts of messages."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from edge_sdk.alerting.identity import new_ulid
from edge_sdk.alerting.incidents import IncidentSettings, IncidentTracker
from edge_sdk.alerting.trigger import TriggerRequest
from edge_sdk.config import CameraConfig
from edge_sdk.imaging import draw_overlay, encode_jpeg
from edge_sdk.pipeline import Pipeline
from edge_sdk.records import (
    Box,
    Decision,
    Frame,
    MessageDraft,
    MessageKind,
    Reason,
    Verdict,
)
from edge_sdk.runtime.drafts import DraftMaker
from edge_sdk.runtime.feed import FrameFeed
from edge_sdk.runtime.triggers import Trigger, TriggerQueue

_PICTURED = (MessageKind.ANOMALY_OPEN, MessageKind.ANOMALY_UPDATE, MessageKind.RESULT)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dispatch:
    """A draft, and the picture that goes with it."""

    draft: MessageDraft
    picture: bytes | None = None
    """JPEG."""


class Station:
    """Inspects one camera, continuously or a part at a time.

    Args:
        camera: its settings.
        pipeline: its way from frame to decision.
        feed: its frames.
        drafts: makes messages.
        picture_max_bytes: largest picture to send; None: none.
        on_decision: told of every frame or part that was judged, for counting.
    """

    def __init__(
        self,
        camera: CameraConfig,
        pipeline: Pipeline,
        feed: FrameFeed,
        drafts: DraftMaker,
        *,
        picture_max_bytes: int | None,
        on_decision: Callable[[str, Decision], None],
    ) -> None:
        self.camera = camera
        self.feed = feed
        self.last_decision: Decision | None = None
        """None until the first frame or part, and again after the camera went blind."""
        self._pipeline = pipeline
        self._drafts = drafts
        self._picture_max_bytes = picture_max_bytes
        self._on_decision = on_decision
        settings = camera.incident
        self.tracker = IncidentTracker(
            IncidentSettings(
                hold_frames=settings.hold_frames,
                hold_seconds=settings.hold_seconds,
                clear_frames=settings.clear_frames,
                hysteresis=settings.hysteresis,
                cooldown_seconds=settings.cooldown_seconds,
                update_seconds=settings.update_seconds,
            )
        )
        self._triggers = TriggerQueue(camera.trigger.deadline_seconds)
        self._next_interval_ns = time.monotonic_ns()
        self._is_said_blind = False
        self._blindness: MessageDraft | None = None
        """What a triggered camera opened when it went blind."""

    @property
    def is_finished(self) -> bool:
        """True when the source has ended, its failure was said, and no trigger waits."""
        is_silent = self.feed.error is not None and not self._is_said_blind
        return self.feed.is_drained and not self._triggers and not is_silent

    @property
    def next_due_ns(self) -> int | None:
        """Monotonic time at which ``step`` is wanted even without a new frame."""
        due = [self._triggers.first.deadline_ns] if self._triggers else []
        if self._takes_intervals:
            due.append(self._next_interval_ns)
        return min(due, default=None)

    def trigger(self, request: TriggerRequest, received_ns: int) -> Dispatch | None:
        """Take a trigger; its one result comes out of ``step`` or ``abandon``.

        Args:
            request: what is asked for.
            received_ns: when, in monotonic time.

        Returns:
            An event where the trigger is refused: this camera is not triggered, or the id was
            used before. None where it was accepted.
        """
        if self.camera.trigger.mode != "mqtt":
            problem = f"camera runs in mode {self.camera.trigger.mode}"
        elif request.trigger_id is not None and self._triggers.has_seen(request.trigger_id):
            problem = "trigger_id was used before"
        else:
            self._triggers.add(request.trigger_id or new_ulid(), request.part_id, received_ns)
            return None
        draft = self._drafts.trigger_refused(problem, request, camera=self.camera.name)
        return Dispatch(draft=draft)

    def step(self) -> list[Dispatch]:
        """Do what is due now: at most one inspection.

        Raises:
            EdgeError: a defect has ended the reading of frames.
        """
        self.feed.check()
        if self.camera.trigger.mode == "continuous":
            return self._watch()
        return self._serve_triggers()

    def abandon(self, why: str) -> list[Dispatch]:
        """Give every waiting trigger its result without a frame.

        Args:
            why: nothing more is inspected here.
        """
        dispatches = []
        while self._triggers:
            fault = self._pipeline.decider.fault(Reason.NO_FRAME, why)
            dispatches.append(self._answer(self._triggers.pop(), fault))
        return dispatches

    def _watch(self) -> list[Dispatch]:
        frame = self.feed.take()
        if frame is not None:
            self._is_said_blind = False
            decision = self._pipeline.inspect(frame)
            self._remember(decision)
            return self._follow(decision, frame.scene_ns)
        error = self.feed.error
        if error is None or self._is_said_blind:
            return []
        return self._follow(self._go_blind(str(error)), time.monotonic_ns())

    def _go_blind(self, why: str) -> Decision:
        """The fault of a camera that gives no frames; not counted, for nothing was judged."""
        self._is_said_blind = True
        self.last_decision = None
        return self._pipeline.decider.fault(Reason.NO_FRAME, why)

    def _follow(self, decision: Decision, now_ns: int) -> list[Dispatch]:
        return [
            self._dispatch(change.kind, change.decision, incident_id=change.incident_id)
            for change in self.tracker.observe(decision, now_ns)
        ]

    def _serve_triggers(self) -> list[Dispatch]:
        now_ns = time.monotonic_ns()
        dispatches = self._tell_blindness()
        self._trigger_by_interval(now_ns)
        while self._triggers and (cause := self._why_hopeless(self._triggers.first, now_ns)):
            fault = self._pipeline.decider.fault(*cause)
            dispatches.append(self._answer(self._triggers.pop(), fault))
        frame = self._next_part()
        if frame is not None:
            trigger = self._triggers.pop()
            decision = self._in_time(trigger, self._pipeline.inspect(frame))
            dispatches.append(self._answer(trigger, decision))
        return dispatches

    def _tell_blindness(self) -> list[Dispatch]:
        """A camera without frames is blind, triggers or not: one incident until they come again."""
        error, blindness = self.feed.error, self._blindness
        if (error is None) == (blindness is None):
            return []
        if error is not None:
            decision = self._go_blind(str(error))
            opened = self._dispatch(MessageKind.FAULT_OPEN, decision, incident_id=new_ulid())
            self._blindness = opened.draft
            return [opened]
        self._blindness, self._is_said_blind = None, False
        return [Dispatch(draft=self._drafts.fault_close(blindness))] if blindness else []

    @property
    def _takes_intervals(self) -> bool:
        """Whether the next moment makes a trigger: not while one waits, or they would pile up.

        Of a file, a part is there only when there is a picture: its end brings no part.
        """
        if self.camera.trigger.mode != "interval" or self._triggers:
            return False
        return self.feed.has_frame if self.camera.reads_every_frame else not self.feed.is_drained

    def _trigger_by_interval(self, now_ns: int) -> None:
        interval = self.camera.trigger.interval_seconds
        if interval is None or now_ns < self._next_interval_ns or not self._takes_intervals:
            return
        self._next_interval_ns = max(self._next_interval_ns + int(interval * 1e9), now_ns)
        trigger_id = new_ulid()
        self._triggers.add(trigger_id, trigger_id, now_ns)

    def _why_hopeless(self, trigger: Trigger, now_ns: int) -> tuple[Reason, str] | None:
        """Why a trigger can get no verdict any more; None while it can."""
        error = self.feed.error
        if now_ns >= trigger.deadline_ns:
            return Reason.TIMEOUT, f"deadline missed: {error or 'no frame was judged in time'}"
        if self.feed.is_drained:
            return Reason.NO_FRAME, str(error or "the source has ended")
        return None

    def _next_part(self) -> Frame | None:
        """The frame for the first trigger: one taken after it; of a file, simply the next one."""
        if self.camera.reads_every_frame:
            return self.feed.take() if self._triggers else None
        frame = self.feed.take()  # also where nobody asked for it: it came before any trigger
        if frame is None or not self._triggers:
            return None
        return frame if frame.monotonic_ns >= self._triggers.first.received_ns else None

    def _in_time(self, trigger: Trigger, decision: Decision) -> Decision:
        """The decision, or a fault where it came too late for the part."""
        late_ms = (time.monotonic_ns() - trigger.deadline_ns) / 1e6
        if late_ms <= 0:
            return decision
        detail = f"deadline missed by {late_ms:.0f} ms; was: {decision.detail}"
        fault = self._pipeline.decider.fault(Reason.TIMEOUT, detail, frame=decision.frame)
        return replace(fault, latency_ms=decision.latency_ms)

    def _answer(self, trigger: Trigger, decision: Decision) -> Dispatch:
        decision = replace(decision, part_id=trigger.part_id, trigger_id=trigger.trigger_id)
        self._remember(decision)
        return self._dispatch(MessageKind.RESULT, decision)

    def _remember(self, decision: Decision) -> None:
        self.last_decision = decision
        self._on_decision(self.camera.name, decision)

    def _dispatch(
        self, kind: MessageKind, decision: Decision, *, incident_id: str | None = None
    ) -> Dispatch:
        draft = self._drafts.of_decision(
            kind,
            decision,
            camera=self.camera.name,
            reference_set=self._pipeline.reference_label,
            incident_id=incident_id,
        )
        picture = None
        if kind in _PICTURED and decision.verdict is Verdict.ANOMALOUS:
            picture = self._picture(decision)
        return Dispatch(draft=draft, picture=picture)

    def _picture(self, decision: Decision) -> bytes | None:
        if self._picture_max_bytes is None or decision.frame is None or decision.result is None:
            return None
        boxes = [Box(x=r.x, y=r.y, width=r.width, height=r.height) for r in decision.regions]
        overlay = draw_overlay(
            decision.frame.pixels, decision.result.anomaly_map, decision.threshold or 0.0, boxes
        )
        return encode_jpeg(overlay, max_bytes=self._picture_max_bytes)
