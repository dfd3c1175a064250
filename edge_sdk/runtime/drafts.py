"""Decisions as messages: what is copied from where."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from edge_sdk.alerting.identity import boot_id, new_ulid, time_quality
from edge_sdk.alerting.trigger import TriggerRequest
from edge_sdk.records import Decision, MessageDraft, MessageKind, Severity


class DraftMaker:
    """Makes drafts in the name of one device and one bundle."""

    def __init__(self, *, device: str, bundle_id: str) -> None:
        self._device = device
        self._bundle_id = bundle_id
        self._boot_id = boot_id()

    def of_decision(
        self,
        kind: MessageKind,
        decision: Decision,
        *,
        camera: str,
        reference_set: str | None,
        incident_id: str | None = None,
    ) -> MessageDraft:
        """A message about one frame, or about one part that got none."""
        frame, result = decision.frame, decision.result
        is_fault = decision.verdict == "fault"
        return MessageDraft(
            message_id=new_ulid(),
            kind=kind,
            severity=decision.severity,
            device=self._device,
            camera=camera,
            boot_id=self._boot_id,
            captured_at=frame.captured_at if frame else datetime.now(timezone.utc),
            mono_ns=frame.monotonic_ns if frame else time.monotonic_ns(),
            time_quality=time_quality(),
            bundle=self._bundle_id,
            reference_set=reference_set,
            verdict=decision.verdict,
            reason=str(decision.reason),
            detail=decision.detail,
            # A fault has no score to be believed; NaN has no place on the wire anyway.
            score=result.image_score if result is not None and not is_fault else None,
            threshold=decision.threshold,
            margin=decision.margin,
            normal_percentile=decision.normal_percentile,
            provisional=decision.provisional,
            frame_id=frame.frame_id if frame else None,
            frame_size=frame.size if frame else None,
            incident_id=incident_id,
            part_id=decision.part_id,
            trigger_id=decision.trigger_id,
            regions=decision.regions,
            latency_ms=dict(decision.latency_ms) or None,
        )

    def event(
        self,
        name: str,
        data: Mapping[str, Any],
        *,
        severity: Severity = Severity.INFO,
        camera: str | None = None,
    ) -> MessageDraft:
        """A message about the device itself."""
        return MessageDraft(
            message_id=new_ulid(),
            kind=MessageKind.EVENT,
            severity=severity,
            device=self._device,
            camera=camera,
            boot_id=self._boot_id,
            captured_at=datetime.now(timezone.utc),
            mono_ns=time.monotonic_ns(),
            time_quality=time_quality(),
            bundle=self._bundle_id,
            event=name,
            data=data,
        )

    def trigger_refused(
        self, reason: str, request: TriggerRequest | None = None, *, camera: str | None = None
    ) -> MessageDraft:
        """The event that answers a trigger which gets no result.

        Args:
            reason: for people.
            request: None where the command could not be read.
            camera: None where it names none of ours.
        """
        data = {"reason": reason}
        if request is not None:
            data["part_id"] = request.part_id
            if request.trigger_id is not None:
                data["trigger_id"] = request.trigger_id
        return self.event("trigger_refused", data, camera=camera)

    def fault_close(self, opened: MessageDraft, detail: str) -> MessageDraft:
        """The end of a fault of a triggered camera. It tells of no part: it has no verdict."""
        return replace(
            opened,
            message_id=new_ulid(),
            kind=MessageKind.FAULT_CLOSE,
            severity=Severity.INFO,
            captured_at=datetime.now(timezone.utc),
            mono_ns=time.monotonic_ns(),
            time_quality=time_quality(),
            verdict=None,
            detail=detail,
        )
