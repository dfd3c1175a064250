"""One camera at work: its frames, its triggers, its verdicts, as drafts of messages."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from edge_sdk.alerting.identity import new_ulid
from edge_sdk.alerting.incidents import IncidentSettings, IncidentTracker
from edge_sdk.alerting.trigger import TriggerRequest
from edge_sdk.config import CameraConfig
from edge_sdk.outputs.line import OutputLine
from edge_sdk.pipeline import Pipeline
from edge_sdk.records import Decision, Frame, MessageKind, Reason, Verdict
from edge_sdk.runtime.change import Change
from edge_sdk.runtime.dispatch import Dispatch, Dispatcher
from edge_sdk.runtime.feed import FrameFeed
from edge_sdk.runtime.health import PictureHealth, camera_settings
from edge_sdk.runtime.lines import LineWatch
from edge_sdk.runtime.standing import OpenFaults, StandingFault
from edge_sdk.runtime.summary import TRIGGER_TO_OUTPUT
from edge_sdk.runtime.tickets import Ticket
from edge_sdk.runtime.triggers import Refused, Trigger, TriggerQueue, Way


class Station:
    """Inspects one camera, continuously or a part at a time.

    Args:
        camera: its settings.
        pipeline: its way from frame to decision.
        feed: its frames.
        dispatcher: makes its messages.
        on_decision: told of every frame or part that was judged, for counting.
        output: its reject/hold line, if it has one.
        lines: tells when an input or output line fails.
    """

    def __init__(
        self,
        camera: CameraConfig,
        pipeline: Pipeline,
        feed: FrameFeed,
        dispatcher: Dispatcher,
        *,
        on_decision: Callable[[str, Decision], None],
        output: OutputLine | None = None,
        lines: LineWatch | None = None,
    ) -> None:
        self.camera = camera
        self.feed = feed
        self.output = output
        self.lines = lines
        self.last_decision: Decision | None = None
        """None until the first frame or part, and again after the camera went blind."""
        self.standing = StandingFault(camera.challenge)
        """What every part gets while the camera as a whole is not to be trusted."""
        self._pipeline = pipeline
        self._dispatcher = dispatcher
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
        self._is_continuous = camera.trigger.mode == "continuous"
        self.health = PictureHealth(camera.faults, is_watched=self._is_continuous)
        """Faults of lamp, lens and camera."""
        self._triggers = TriggerQueue(camera.trigger.deadline_seconds)
        self._part: Frame | None = None
        """Of a live camera: the picture of the first trigger's part, until it is judged."""
        self._next_interval_ns = self._served_ns = time.monotonic_ns()
        self._is_said_blind = False
        self._faults = OpenFaults(dispatcher)
        self._change = Change()

    @property
    def pipeline(self) -> Pipeline:
        """What judges now."""
        return self._pipeline

    @property
    def is_finished(self) -> bool:
        """True when the source has ended, its failure was said, and no trigger waits."""
        is_silent = self.feed.error is not None and not self._is_said_blind
        return self.feed.is_drained and not self._triggers and not is_silent

    @property
    def next_due_ns(self) -> int | None:
        """Monotonic time at which ``tend`` is wanted even without a new frame."""
        due = [self._triggers.first.deadline_ns] if self._triggers else []
        if self._takes_intervals:
            due.append(self._next_interval_ns)
        return min(due, default=None)

    @property
    def job_deadline_ns(self) -> int | None:
        """Monotonic time by which ``inspect`` should have been called; None: nothing to do.

        Of a part it is its deadline; of a camera that is watched, when its last verdict gets as
        old as a frame may be.
        """
        if self._change.is_pending:
            return None
        if self._is_continuous:
            age_ns = int(self.camera.faults.max_frame_age_seconds * 1e9)
            return self._served_ns + age_ns if self.feed.has_frame else None
        return self._triggers.first.deadline_ns if self._has_part else None

    def remember(self, trigger_id: str) -> None:
        """Take an id for used, as by an earlier run."""
        self._triggers.remember(trigger_id)

    def trigger(
        self,
        request: TriggerRequest,
        received_ns: int,
        *,
        way: Way = "mqtt",
        ticket: Ticket | None = None,
    ) -> Trigger | Refused:
        """Take a trigger; its one result comes out of ``tend``, ``inspect`` or ``abandon``.

        Args:
            request: what is asked for.
            received_ns: when, in monotonic time.
            way: how it came.
            ticket: of whoever waits for the result.

        Returns:
            The trigger, or why it is refused: this camera is not triggered in that way, or the id
            was used before.
        """
        if self.camera.trigger.mode != way:
            return Refused(f"camera runs in mode {self.camera.trigger.mode}")
        if request.trigger_id is not None and self._triggers.has_seen(request.trigger_id):
            return Refused("trigger_id was used before", is_repeated=True)
        trigger_id = request.trigger_id or new_ulid()
        return self._take(trigger_id, request.part_id, received_ns, ticket)

    def tend(self) -> list[Dispatch]:
        """Do what is due now without inspecting: blindness, new intervals, missed deadlines.

        Raises:
            EdgeError: a defect has ended the reading of frames.
        """
        self.feed.check()
        if self.output is not None:
            self.output.tick()
        told = self.lines.tell() if self.lines is not None else []
        return told + (self._tend_watch() if self._is_continuous else self._tend_triggers())

    def inspect(self) -> list[Dispatch]:
        """Make one inspection, if there is something to inspect (see ``job_deadline_ns``)."""
        self._served_ns = time.monotonic_ns()
        return self._inspect_frame() if self._is_continuous else self._inspect_part()

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

    def impose(self, reason: Reason, detail: str) -> list[Dispatch]:
        """Give every frame and part this fault until ``lift``, whatever its score."""
        self.standing.cause = reason, detail
        fault = self._pipeline.decider.fault(reason, detail)
        if self._is_continuous:
            self.last_decision = fault
            return self._follow(fault, time.monotonic_ns())
        return self._faults.begin("imposed", fault, self._pipeline.reference_label)

    def lift(self, detail: str) -> list[Dispatch]:
        """Judge again; a watched camera's fault closes with its next good frames.

        Args:
            detail: why, for people.
        """
        self.standing.cause = None
        return self._faults.end("imposed", detail)

    def begin_change(self, name: str, received_ns: int) -> list[Dispatch]:
        """Judge nothing more by the set in use: what comes from now on belongs to another one.

        A part that came before gets its verdict where its picture is there; else a ``fault``.

        Args:
            name: of the other set.
            received_ns: when the change was asked for, monotonic.
        """
        dispatches = []
        if not self._is_continuous:
            self._find_part()
            if self._has_part and self._triggers.first.received_ns < received_ns:
                is_late = self._part is not None and self._part.monotonic_ns > received_ns
                dispatches = [] if is_late else self._inspect_part()
        self._change.begin(name, received_ns)
        self.last_decision = self._pipeline.decider.fault(
            Reason.CHANGEOVER, f"changing to reference set {name}"
        )
        if self._is_continuous and self.output is not None:
            self.output.hold(self.last_decision, is_good=False)
        return dispatches

    def finish_change(self, pipeline: Pipeline) -> list[Dispatch]:
        """Judge by the other set; what the old one had open is closed."""
        ended = self.last_decision or self._pipeline.decider.fault(Reason.CHANGEOVER, "changed")
        dispatches = [
            self._dispatch(change.kind, change.decision, incident_id=change.incident_id)
            for change in self.tracker.end(ended)
        ]
        self._pipeline = pipeline
        self.feed.adjust(camera_settings(pipeline))
        self._resume()
        return dispatches

    def refuse_change(self) -> None:
        """Go on with the old set; parts that came meanwhile were meant for the other one."""
        self._change.void(time.monotonic_ns())
        self._resume()

    def _resume(self) -> None:
        self._change.is_pending = False
        if not self._is_continuous:
            self.last_decision = None  # it waits for a part

    def _take(
        self, trigger_id: str, part_id: str, received_ns: int, ticket: Ticket | None = None
    ) -> Trigger:
        trigger = self._triggers.add(trigger_id, part_id, received_ns, ticket)
        if self.output is not None:
            self.output.expect(trigger_id, part_id, trigger.deadline_ns)
        return trigger

    def _tend_watch(self) -> list[Dispatch]:
        error = self.feed.error
        if error is None or self._is_said_blind or self.feed.has_frame:
            return []
        return self._follow(self._go_blind(str(error)), time.monotonic_ns())

    def _inspect_frame(self) -> list[Dispatch]:
        frame = self.feed.take()
        if frame is None or self._change.concerns(frame.monotonic_ns):
            return []
        self._is_said_blind = False
        decision = self._judge(frame)
        dispatches = self._follow(decision, frame.scene_ns)
        self._remember(decision)
        return dispatches

    def _go_blind(self, why: str) -> Decision:
        """The fault of a camera that gives no frames; not counted, for nothing was judged."""
        self._is_said_blind = True
        self.last_decision = None
        return self._pipeline.decider.fault(Reason.NO_FRAME, why)

    def _follow(self, decision: Decision, now_ns: int) -> list[Dispatch]:
        illness = self.health.standing
        fault = self._pipeline.decider.fault(*illness) if illness is not None else None
        changes = self.tracker.observe(decision, now_ns, fault=fault)
        if self.output is not None:  # before anything is drawn, encoded or stored
            is_fault = decision.verdict is Verdict.FAULT or fault is not None
            self.output.hold(decision, is_good=not is_fault and not self.tracker.has_open_anomaly)
        return [
            self._dispatch(change.kind, change.decision, incident_id=change.incident_id)
            for change in changes
        ]

    def _tend_triggers(self) -> list[Dispatch]:
        now_ns = time.monotonic_ns()
        dispatches = self._tell_blindness() + self._tell_illness()
        self._trigger_by_interval(now_ns)
        while self._triggers and (cause := self._why_hopeless(self._triggers.first, now_ns)):
            fault = self._pipeline.decider.fault(*cause)
            dispatches.append(self._answer(self._triggers.pop(), fault))
        self._find_part()
        return dispatches

    def _inspect_part(self) -> list[Dispatch]:
        frame, self._part = self._part, None
        if self.camera.reads_every_frame and self._triggers:
            frame = self.feed.take()
        if frame is None or not self._triggers:
            return []
        trigger = self._triggers.pop()
        decision = self._judge(frame, trigger.part_id)
        answer = self._answer(trigger, self._in_time(trigger, decision))
        return [answer, *self._tell_illness()]

    def _judge(self, frame: Frame, part_id: str | None = None) -> Decision:
        decision = self.health.examine(self._pipeline, self._pipeline.inspect(frame))
        return self.standing.overrule(decision, part_id, self._pipeline.decider)

    def _tell_blindness(self) -> list[Dispatch]:
        """A camera without frames is blind, triggers or not: one incident until they come again."""
        error = self.feed.error
        if error is None:
            self._is_said_blind = False
            return self._faults.end("blind", "frames come again")
        if self._faults.is_open("blind"):
            return []
        decision = self._go_blind(str(error))
        return self._faults.begin("blind", decision, self._pipeline.reference_label)

    def _tell_illness(self) -> list[Dispatch]:
        """The fault of lamp, lens or camera that stands: one incident until there is none."""
        illness = self.health.standing
        if illness is None:
            return self._faults.end("pictures", "the pictures are as they were enrolled again")
        fault = self._pipeline.decider.fault(*illness)
        return self._faults.begin("pictures", fault, self._pipeline.reference_label)

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
        self._take(trigger_id, trigger_id, now_ns)

    def _why_hopeless(self, trigger: Trigger, now_ns: int) -> tuple[Reason, str] | None:
        """Why a trigger can get no verdict any more; None while it can."""
        error = self.feed.error
        if self._change.concerns(trigger.received_ns):
            return Reason.CHANGEOVER, self._change.detail
        if now_ns >= trigger.deadline_ns:
            return Reason.TIMEOUT, f"deadline missed: {error or 'no frame was judged in time'}"
        if self.feed.is_drained:
            return Reason.NO_FRAME, str(error or "the source has ended")
        return None

    @property
    def _has_part(self) -> bool:
        if self.camera.reads_every_frame:
            return bool(self._triggers) and self.feed.has_frame
        return self._part is not None

    def _find_part(self) -> None:
        """Keep the first frame taken after the first trigger; of a file, simply the next one."""
        if self.camera.reads_every_frame:
            return
        if self._part is None or not self._shows_first(self._part):
            frame = self.feed.take()  # also where nobody asked for it: it came before any trigger
            if frame is not None:
                self.health.compare_settings(self._pipeline, frame)
            self._part = frame if frame is not None and self._shows_first(frame) else None

    def _shows_first(self, frame: Frame) -> bool:
        return bool(self._triggers) and frame.monotonic_ns >= self._triggers.first.received_ns

    def _in_time(self, trigger: Trigger, decision: Decision) -> Decision:
        """The decision, or a fault where it came too late for the part."""
        late_ms = (time.monotonic_ns() - trigger.deadline_ns) / 1e6
        return decision if late_ms <= 0 else self._too_late(decision, late_ms)

    def _too_late(self, decision: Decision, late_ms: float) -> Decision:
        detail = f"deadline missed by {late_ms:.0f} ms; was: {decision.detail}"
        fault = self._pipeline.decider.fault(Reason.TIMEOUT, detail, frame=decision.frame)
        return replace(fault, latency_ms=decision.latency_ms)

    def _answer(self, trigger: Trigger, decision: Decision) -> Dispatch:
        """Show the verdict, and only then make a message of it."""
        decision = _about(trigger, decision)
        if self.output is not None and not self.output.answer(decision):
            # The deadline fell between the look at the clock and the line: the line is right.
            late_ms = max(0.0, (time.monotonic_ns() - trigger.deadline_ns) / 1e6)
            decision = _about(trigger, self._too_late(decision, late_ms))
        waited_ms = (time.monotonic_ns() - trigger.received_ns) / 1e6
        latency_ms = {**decision.latency_ms, TRIGGER_TO_OUTPUT: waited_ms}
        decision = replace(decision, latency_ms=latency_ms)
        self.standing.observe(decision)
        self._remember(decision)
        return self._dispatch(MessageKind.RESULT, decision, ticket=trigger.ticket)

    def _remember(self, decision: Decision) -> None:
        self.last_decision = decision
        self._on_decision(self.camera.name, decision)

    def _dispatch(
        self,
        kind: MessageKind,
        decision: Decision,
        *,
        incident_id: str | None = None,
        ticket: Ticket | None = None,
    ) -> Dispatch:
        return self._dispatcher.of_decision(
            kind,
            decision,
            reference_set=self._pipeline.reference_label,
            incident_id=incident_id,
            ticket=ticket,
        )


def _about(trigger: Trigger, decision: Decision) -> Decision:
    return replace(decision, part_id=trigger.part_id, trigger_id=trigger.trigger_id)
