"""Decisions on their way out: as drafts, with their pictures."""

from __future__ import annotations

from dataclasses import dataclass

from edge_sdk.imaging import encode_jpeg
from edge_sdk.overlay import draw_overlay
from edge_sdk.records import Box, Decision, MessageDraft, MessageKind, Verdict
from edge_sdk.runtime.drafts import DraftMaker
from edge_sdk.runtime.tickets import Ticket

_PICTURED = (MessageKind.ANOMALY_OPEN, MessageKind.ANOMALY_UPDATE, MessageKind.RESULT)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dispatch:
    """A draft, and the picture that goes with it."""

    draft: MessageDraft
    picture: bytes | None = None
    """JPEG."""
    ticket: Ticket | None = None
    """Whoever waits for this result."""


class Dispatcher:
    """Makes one camera's dispatches.

    Args:
        drafts: makes messages.
        camera: its name.
        picture_max_bytes: largest picture to send; None: none.
    """

    def __init__(self, drafts: DraftMaker, camera: str, picture_max_bytes: int | None) -> None:
        self._drafts = drafts
        self._camera = camera
        self._picture_max_bytes = picture_max_bytes

    def of_decision(
        self,
        kind: MessageKind,
        decision: Decision,
        *,
        reference_set: str | None,
        incident_id: str | None = None,
        ticket: Ticket | None = None,
    ) -> Dispatch:
        """A message about one frame, or about one part that got none, with its picture."""
        draft = self._drafts.of_decision(
            kind,
            decision,
            camera=self._camera,
            reference_set=reference_set,
            incident_id=incident_id,
        )
        picture = None
        if kind in _PICTURED and decision.verdict is Verdict.ANOMALOUS:
            picture = self._picture(decision)
        return Dispatch(draft=draft, picture=picture, ticket=ticket)

    def fault_close(self, opened: MessageDraft, detail: str) -> Dispatch:
        """The end of a fault of a triggered camera, and why."""
        return Dispatch(draft=self._drafts.fault_close(opened, detail))

    def _picture(self, decision: Decision) -> bytes | None:
        if self._picture_max_bytes is None or decision.frame is None or decision.result is None:
            return None
        boxes = [Box(x=r.x, y=r.y, width=r.width, height=r.height) for r in decision.regions]
        overlay = draw_overlay(
            decision.frame.pixels, decision.result.anomaly_map, decision.threshold or 0.0, boxes
        )
        return encode_jpeg(overlay, max_bytes=self._picture_max_bytes)
