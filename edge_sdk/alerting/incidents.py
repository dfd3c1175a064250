"""Continuous watching: verdicts frame by frame become incidents that open, update and close."""

from __future__ import annotations

from dataclasses import dataclass

from edge_sdk.alerting.identity import new_ulid
from edge_sdk.records import Decision, MessageKind, Severity, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentSettings:
    """How restless the alerts may be."""

    hold_frames: int = 3
    """Consecutive anomalous frames before an incident opens; 1: at once."""
    hold_seconds: float = 0.5
    """And for how long they must go on: three frames of a quick camera are a tenth of a second,
    in which a shadow passes; of a slow one they are seconds. 0: count frames only."""
    clear_frames: int = 5
    """Consecutive clear frames before it closes."""
    hysteresis: float = 0.1
    """While open, a frame is clear only below threshold x (1 - hysteresis)."""
    cooldown_seconds: float = 1.0
    """After a close, a warning opens no sooner; what lasts longer still opens then, and what is
    critical opens at once."""
    update_seconds: float = 1.0
    """While open, an update this often, and at once when it turns critical."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IncidentChange:
    """Something worth a message."""

    kind: MessageKind
    incident_id: str
    decision: Decision


class IncidentTracker:
    """Follows one camera. Times are the frames' own, so replays behave the same."""

    def __init__(self, settings: IncidentSettings) -> None:
        self._settings = settings
        self._anomaly_id: str | None = None
        self._fault_id: str | None = None
        self._anomalous_frames = 0
        self._anomalous_since_ns = 0
        self._clear_frames = 0
        self._sound_frames = 0
        self._severity = Severity.INFO
        self._last_message_ns = 0
        self._closed_ns: int | None = None

    @property
    def has_open_anomaly(self) -> bool:
        """True between open and close."""
        return self._anomaly_id is not None

    @property
    def has_open_fault(self) -> bool:
        """True between open and close."""
        return self._fault_id is not None

    def observe(
        self, decision: Decision, now_ns: int, *, fault: Decision | None = None
    ) -> list[IncidentChange]:
        """Take one verdict.

        Args:
            decision: of the newest frame.
            now_ns: when that frame happened (``Frame.scene_ns``).
            fault: of the camera, which stands beside a verdict that is none: its pictures are not
                as they should be, and yet the part in them is anomalous.

        Returns:
            What changed, in order. A fault opens at once and leaves an open anomaly as it is:
            nothing was seen that could close it.
        """
        if decision.verdict is Verdict.FAULT:
            return self._observe_fault(decision)
        changes = self._observe_sound(decision) if fault is None else self._open_fault(fault)
        return changes + (
            self._observe_open(self._anomaly_id, decision, now_ns)
            if self._anomaly_id is not None
            else self._observe_idle(decision, now_ns)
        )

    def end(self, decision: Decision) -> list[IncidentChange]:
        """Close an open anomaly because nothing goes on that could: what judged is not there."""
        self._anomalous_frames = self._clear_frames = 0
        incident_id, self._anomaly_id = self._anomaly_id, None
        if incident_id is None:
            return []
        kind = MessageKind.ANOMALY_CLOSE
        return [IncidentChange(kind=kind, incident_id=incident_id, decision=decision)]

    def _observe_fault(self, decision: Decision) -> list[IncidentChange]:
        self._anomalous_frames = 0
        self._clear_frames = 0
        return self._open_fault(decision)

    def _open_fault(self, decision: Decision) -> list[IncidentChange]:
        self._sound_frames = 0
        if self._fault_id is not None:
            return []
        self._fault_id = new_ulid()
        return [
            IncidentChange(
                kind=MessageKind.FAULT_OPEN, incident_id=self._fault_id, decision=decision
            )
        ]

    def _observe_sound(self, decision: Decision) -> list[IncidentChange]:
        self._sound_frames += 1
        if self._fault_id is None or self._sound_frames < self._settings.clear_frames:
            return []
        change = IncidentChange(
            kind=MessageKind.FAULT_CLOSE, incident_id=self._fault_id, decision=decision
        )
        self._fault_id = None
        return [change]

    def _observe_idle(self, decision: Decision, now_ns: int) -> list[IncidentChange]:
        if decision.verdict is not Verdict.ANOMALOUS:
            self._anomalous_frames = 0
            return []
        if self._anomalous_frames == 0:
            self._anomalous_since_ns = now_ns
        self._anomalous_frames += 1
        is_held = (
            self._anomalous_frames >= self._settings.hold_frames
            and now_ns - self._anomalous_since_ns >= self._settings.hold_seconds * 1e9
        )
        is_cooling = (
            self._closed_ns is not None
            and decision.severity is not Severity.CRITICAL
            and now_ns - self._closed_ns < self._settings.cooldown_seconds * 1e9
        )
        if not is_held or is_cooling:
            return []
        self._anomaly_id = new_ulid()
        self._clear_frames = 0
        return [self._say(MessageKind.ANOMALY_OPEN, self._anomaly_id, decision, now_ns)]

    def _observe_open(
        self, incident_id: str, decision: Decision, now_ns: int
    ) -> list[IncidentChange]:
        self._clear_frames = self._clear_frames + 1 if self._is_clear(decision) else 0
        if self._clear_frames >= self._settings.clear_frames:
            change = self._say(MessageKind.ANOMALY_CLOSE, incident_id, decision, now_ns)
            self._anomaly_id = None
            self._anomalous_frames = 0
            self._closed_ns = now_ns
            return [change]
        is_due = now_ns - self._last_message_ns >= self._settings.update_seconds * 1e9
        is_worse = (
            decision.severity is Severity.CRITICAL and self._severity is not Severity.CRITICAL
        )
        if self._clear_frames == 0 and (is_due or is_worse):
            return [self._say(MessageKind.ANOMALY_UPDATE, incident_id, decision, now_ns)]
        return []

    def _is_clear(self, decision: Decision) -> bool:
        if decision.result is None or decision.threshold is None:
            return False
        limit = decision.threshold * (1 - self._settings.hysteresis)
        return decision.result.image_score <= limit

    def _say(
        self, kind: MessageKind, incident_id: str, decision: Decision, now_ns: int
    ) -> IncidentChange:
        self._last_message_ns = now_ns
        self._severity = decision.severity
        return IncidentChange(kind=kind, incident_id=incident_id, decision=decision)
