"""What a running device writes into the audit log: out of its own events, and at its start."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from edge_sdk.audit import AuditLog
from edge_sdk.config import DeviceConfig
from edge_sdk.pipeline import Pipeline
from edge_sdk.records import Message

_LOGGER = logging.getLogger(__name__)
_BY = "edge-run"
_EVENTS = {
    "references_changed": "references.changed",
    "run_in_armed": "threshold.learned",
    "challenge_passed": "challenge.passed",
    "challenge_failed": "challenge.failed",
    "challenge_due": "challenge.due",
}
_JUDGES = ("reference_set", "threshold", "override", "bundle")
"""What a start compares with what held last."""


class Auditor:
    """Notes what changed in how a device judges. A disk that refuses stops no inspection."""

    def __init__(self, log: AuditLog) -> None:
        self._log = log

    def begin(self, config: DeviceConfig, pipelines: Mapping[str, Pipeline]) -> None:
        """Note what differs from what held last.

        By an edit of the device file, another bundle, a restored backup, or a change whose entry
        a kill has prevented.
        """
        for camera in config.cameras:
            pipeline = pipelines[camera.name]
            threshold = pipeline.decider.threshold
            now: dict[str, object] = {
                "reference_set": pipeline.reference_label,
                "threshold": threshold.value if threshold.method != "none" else None,
                "override": camera.threshold_override,
                "bundle": pipeline.bundle_id,
            }
            before = self._held_last(camera.name)
            if now != before:
                self._append("judging.changed", camera.name, before or None, now)

    def take(self, message: Message) -> None:
        """Note an event, once it is durable; called by the thread that stores."""
        what = _EVENTS.get(message.event or "")
        if what is None:
            return
        data = dict(message.data or {})
        old: dict[str, Any] | None = None
        new: dict[str, Any] | None = None
        if "previous_threshold" in data:
            reference_set = data.get("reference_set")
            old = {
                "reference_set": data.pop("previous", reference_set),
                "threshold": data.pop("previous_threshold"),
            }
            new = {"reference_set": reference_set, "threshold": data.get("threshold")}
        self._append(what, message.camera, old, new, message_id=message.message_id, **data)

    def passed_masters(self) -> dict[tuple[str, str], tuple[float, str | None]]:
        """By camera and master: seconds since it came out right last, and under which set.

        A moment that a clock cannot have told is none: the master must be shown again.
        """
        now = datetime.now(timezone.utc)
        passed: dict[tuple[str, str], tuple[float, str | None]] = {}
        for entry in self._log.read():
            if entry.get("what") not in ("challenge.passed", "challenge.failed"):
                continue
            age = (now - datetime.fromisoformat(entry["at"])).total_seconds()
            for one in entry.get("masters", ()):
                key = str(entry["camera"]), str(one["master"])
                if one["verdict"] != one["expected"] or age < 0:
                    passed.pop(key, None)
                else:
                    passed[key] = age, entry.get("reference_set")
        return passed

    def _held_last(self, camera: str) -> dict[str, object]:
        held: dict[str, object] = {}
        for entry in self._log.read(camera=camera):
            new = entry.get("new")
            if entry.get("by") == _BY and isinstance(new, dict):
                held |= {key: new[key] for key in _JUDGES if key in new}
        return held

    def _append(
        self,
        what: str,
        camera: str | None,
        old: object,
        new: object,
        **details: object,
    ) -> None:
        try:
            self._log.append(what, by=_BY, camera=camera, old=old, new=new, **details)
        except OSError as error:
            _LOGGER.error("audit log: cannot be written: %s: %s", error.strerror, what)  # noqa: TRY400 - no trace needed
