"""Run-ins of a running device: parts are learned on the way, and a thread does the writing."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import Any

from edge_sdk.errors import InputError
from edge_sdk.imaging import encode_jpeg
from edge_sdk.overlay import draw_overlay
from edge_sdk.records import Box, Decision, Severity, Verdict
from edge_sdk.run_in.folder import RunIn
from edge_sdk.run_in.rules import Standing
from edge_sdk.runtime.dispatch import Dispatch
from edge_sdk.runtime.drafts import DraftMaker
from edge_sdk.runtime.station import Station

_MAX_WAITING = 8
"""Frames that wait for the disk. A part that comes on top is judged as any other, and not learned.
"""
_REFRESH_SECONDS = 0.5
"""How often another process's answers are looked for."""
_PICTURE_MAX_BYTES = 1_000_000

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Lesson:
    run_in: RunIn
    decision: Decision | None
    """None: begin."""


class Learner:
    """Follows the run-ins of all stations.

    Args:
        stations: whose parts are learned.
        drafts: makes events.
    """

    def __init__(self, stations: Sequence[Station], drafts: DraftMaker) -> None:
        self._stations = {station.camera.name: station for station in stations}
        self._drafts = drafts
        self._lessons: Queue[_Lesson | None] = Queue(_MAX_WAITING)
        self._followed: dict[str, RunIn] = {}
        """By camera; changes with its reference set."""
        self._told: dict[str, str] = {}
        """By camera: the newest thing that was said of its run-in."""
        self._learned_ns: dict[str, int] = {}
        """By camera: when the newest learned frame happened."""
        self._trouble: dict[str, str] = {}
        """By camera: why nothing is learned just now."""
        self._thread = threading.Thread(target=self._work, name="run-in", daemon=True)
        self._thread.start()

    def offer(self, camera: str, decision: Decision) -> None:
        """Learn from a part that was judged, if it is to be learned from; waits for nothing."""
        station = self._stations[camera]
        run_in = self._followed.get(camera)
        if run_in is None or run_in is not station.pipeline.run_in or run_in.standing.is_learned:
            return
        if decision.part_id in station.standing.expected:
            return  # a master says nothing of the parts that come by
        if decision.verdict is Verdict.FAULT or decision.result is None or decision.frame is None:
            return
        scene_ns = decision.frame.scene_ns
        if station.camera.trigger.mode == "continuous":
            settings = station.camera.run_in
            pause_ns = int((settings.every_seconds if settings else 1.0) * 1e9)
            if abs(scene_ns - self._learned_ns.get(camera, -math.inf)) < pause_ns:
                return
        try:
            self._lessons.put_nowait(_Lesson(run_in=run_in, decision=decision))
        except Full:
            return
        self._learned_ns[camera] = scene_ns

    def attend(self) -> list[Dispatch]:
        """Follow stations to other sets, arm those that have learned, and say so."""
        said = []
        for name, station in self._stations.items():
            run_in = station.pipeline.run_in
            if run_in is not None and self._followed.get(name) is not run_in:
                self._follow(name, run_in)
            event = self._news_of(name, station, run_in) if run_in is not None else None
            if event is not None:
                said.append(event)
        return said

    def close(self) -> None:
        """Learn what waits, and end."""
        self._lessons.put(None)
        self._thread.join(5.0)

    def _follow(self, camera: str, run_in: RunIn) -> None:
        standing = run_in.standing
        if standing.threshold is None:
            try:
                self._lessons.put_nowait(_Lesson(run_in=run_in, decision=None))
            except Full:
                return  # the next time
        self._followed[camera] = run_in
        self._learned_ns.pop(camera, None)
        self._told[camera] = "armed" if standing.threshold is not None else ""

    def _news_of(self, camera: str, station: Station, run_in: RunIn) -> Dispatch | None:
        standing = run_in.standing
        stage = self._stage(camera, standing)
        if stage == self._told.get(camera):
            return None
        self._told[camera] = stage
        data: dict[str, Any] = {
            "reference_set": station.pipeline.reference_label,
            "parts": len(standing.kept),
            "of": standing.plan.parts,
            "waiting": len(standing.waiting),
        }
        severity = Severity.INFO
        if stage == "armed" and standing.threshold is not None:
            data["previous_threshold"] = station.pipeline.decider.threshold.value
            station.pipeline.arm(standing.threshold)
            low, high = standing.threshold.false_alarm_interval or (0.0, 1.0)
            data |= {
                "threshold": standing.threshold.value,
                "false_alarms_per_100": 100 * (standing.threshold.expected_false_alarm_rate or 0.0),
                "interval_per_100": [100 * low, 100 * high],
            }
        elif stage == "refused":
            data["reason"], severity = standing.refusal, Severity.WARN
        elif stage == "stalled":
            reason = self._trouble.get(camera, "a defect has ended its thread")
            data["reason"], severity = reason, Severity.WARN
        draft = self._drafts.event(f"run_in_{stage}", data, severity=severity, camera=camera)
        return Dispatch(draft=draft)

    def _stage(self, camera: str, standing: Standing) -> str:
        if standing.threshold is not None:
            return "armed"
        if standing.refusal is not None:
            return "refused"
        if camera in self._trouble or not self._thread.is_alive():
            return "stalled"
        return "review" if standing.is_learned else "begun"

    def _work(self) -> None:
        while True:
            try:
                lesson = self._lessons.get(timeout=_REFRESH_SECONDS)
            except Empty:
                for run_in in list(self._followed.values()):
                    self._attempt(run_in, run_in.refresh)
                continue
            if lesson is None:
                return
            run_in, decision = lesson.run_in, lesson.decision
            if decision is None:
                self._attempt(run_in, run_in.begin)
            else:
                self._attempt(run_in, lambda: _learn(run_in, decision))  # noqa: B023 - called at once

    def _attempt(self, run_in: RunIn, action: Callable[[], object]) -> None:
        """Do it; what fails leaves the threshold provisional, and is said once."""
        names = [name for name, followed in self._followed.items() if followed is run_in]
        try:
            action()
        except (OSError, InputError) as error:
            _LOGGER.error("run-in: %s", error)  # noqa: TRY400 - no trace needed
            for name in names:
                self._trouble[name] = str(error)
        else:
            for name in names:
                self._trouble.pop(name, None)


def _learn(run_in: RunIn, decision: Decision) -> Standing:
    frame, result = decision.frame, decision.result
    if frame is None or result is None:
        return run_in.standing
    return run_in.record(
        result.image_score,
        captured_at=frame.captured_at,
        frame_id=frame.frame_id,
        part_id=decision.part_id,
        pictures=lambda: _pictures(decision),
    )


def _pictures(decision: Decision) -> Mapping[str, bytes]:
    """The frame as it was taken, and with its heatmap."""
    frame, result = decision.frame, decision.result
    if frame is None or result is None:
        return {}
    boxes = [Box(x=r.x, y=r.y, width=r.width, height=r.height) for r in decision.regions]
    overlay = draw_overlay(frame.pixels, result.anomaly_map, decision.threshold or 0.0, boxes)
    encoded = {
        suffix: encode_jpeg(pixels, max_bytes=_PICTURE_MAX_BYTES)
        for suffix, pixels in ((".jpg", frame.pixels), ("-map.jpg", overlay))
    }
    return {suffix: data for suffix, data in encoded.items() if data is not None}
