"""Faults of lamp, lens and camera as they come and go: entered, left, and put over verdicts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from edge_sdk.capture.settings import Settings, describe_deviations
from edge_sdk.config.camera import FaultConfig
from edge_sdk.picture_watch import Measures, PictureWatch
from edge_sdk.pipeline import Pipeline
from edge_sdk.records import Decision, Frame, Reason, Verdict

WATCH = "watch"
"""Name of this stage among the latencies."""
_LEAVE_BELOW = 0.8
"""Share of the limit below which a fault is gone."""
_EVERY_SECONDS = 0.2
"""From one measurement of a watched camera to the next."""
_ENTER_COUNT, _LEAVE_COUNT = 3, 5
"""Measurements of a watched camera, at least; of a triggered one each part decides."""
_AMBIGUOUS_FACTOR = 50
"""How much longer what a defect may also look like must be seen on parts that are anomalous."""
_WORDS: Mapping[Reason, str] = {
    Reason.BLURRED_OUT: "the picture is a blur: log2 of the coarse detail lost",
    Reason.DEFOCUSED: "out of focus: log2 of the fine detail lost",
    Reason.CAMERA_MOVED: "the camera was moved: share of the picture that lies elsewhere",
    Reason.LAMP_FAILED: "lit from one side: log2 of the difference",
    Reason.EXPOSURE_DRIFT: "too dark or too bright: log2 of the brightness",
    Reason.DIRTY_LENS: "dirt on the lens: share of the picture that has lost its detail",
}
"""For people, in the order in which faults are named where there are several."""


@dataclass(slots=True)
class _Course:
    """One kind of fault."""

    is_standing: bool = False
    count: int = 0
    """Measurements in a row that speak against what is now."""
    since_ns: int = 0


class PictureHealth:
    """Follows one camera.

    A fault wins over ``normal``. It never wins over ``anomalous``: what makes a picture unlike the
    references may be the part, and a bad part stays a bad part.

    Args:
        settings: how long a fault must be seen, and which are not looked for.
        is_watched: True: frames are a stream; False: each is a part, and decides by itself.
    """

    def __init__(self, settings: FaultConfig, *, is_watched: bool) -> None:
        self._standing: tuple[Reason, str] | None = None
        self._otherwise: tuple[Reason, str] | None = None
        """What of the camera is not set as at enrolment."""
        self._settings = settings
        self._ignored = {Reason(name) for name in settings.ignore}
        self._is_watched = is_watched
        self._watch: PictureWatch | None = None
        self._courses: dict[Reason, _Course] = {}
        self._measured_ns: int | None = None

    @property
    def standing(self) -> tuple[Reason, str] | None:
        """The fault that stands, and what was measured; how the camera is set before all others."""
        return self._otherwise or self._standing

    def compare_settings(self, pipeline: Pipeline, frame: Frame) -> None:
        """Hold how the camera was set for a frame against how it was set at enrolment."""
        wanted = camera_settings(pipeline)
        words = describe_deviations(wanted, frame.camera_settings) if wanted else None
        is_looked_for = Reason.CAMERA_SETTINGS not in self._ignored
        self._otherwise = (Reason.CAMERA_SETTINGS, words) if words and is_looked_for else None

    def examine(self, pipeline: Pipeline, decision: Decision) -> Decision:
        """Look at a frame that was judged; the verdict that remains.

        Args:
            pipeline: that judged it; another one begins anew.
            decision: what it says.
        """
        if decision.frame is not None:
            self.compare_settings(pipeline, decision.frame)
        watch = pipeline.watch
        if watch is not self._watch:
            self._watch, self._courses, self._measured_ns = watch, {}, None
            self._standing = None
        if decision.verdict is Verdict.FAULT or decision.frame is None:
            return decision
        seen = None
        if watch is not None and self._is_due(decision.frame.scene_ns):
            start = time.perf_counter_ns()
            measures = _measures(watch, decision)
            seen = self._follow(watch, measures, decision)
            spent = {WATCH: round((time.perf_counter_ns() - start) / 1e6, 3)}
            decision = replace(decision, latency_ms={**decision.latency_ms, **spent})
        cause = self.standing or (None if self._is_watched else seen)
        if cause is None or decision.verdict is not Verdict.NORMAL:
            return decision
        fault = pipeline.decider.fault(*cause, frame=decision.frame, result=decision.result)
        return replace(fault, latency_ms=decision.latency_ms)

    def _is_due(self, now_ns: int) -> bool:
        last = self._measured_ns
        if self._is_watched and last is not None and 0 <= now_ns - last < _EVERY_SECONDS * 1e9:
            return False
        self._measured_ns = now_ns
        return True

    def _follow(
        self, watch: PictureWatch, measures: Measures, decision: Decision
    ) -> tuple[Reason, str] | None:
        """Let faults begin and end; what this picture alone would be, None: no fault."""
        seen: dict[Reason, str] = {}
        now_ns = decision.frame.scene_ns if decision.frame is not None else 0
        is_anomalous = decision.verdict is Verdict.ANOMALOUS
        for reason, value in measures.items():
            if reason in self._ignored:
                continue
            limit = watch.limits[reason]
            course = self._courses.setdefault(reason, _Course())
            detail = f"{_WORDS[reason]} {value:.2f}, limit {limit:.2f}"
            is_over = value > (limit * _LEAVE_BELOW if course.is_standing else limit)
            if is_over:
                seen[reason] = detail
            if is_over == course.is_standing:
                course.count = 0
                continue
            patience = _AMBIGUOUS_FACTOR if is_anomalous and reason is Reason.DIRTY_LENS else 1
            if self._has_lasted(course, now_ns, patience):
                course.is_standing, course.count = is_over, 0
        standing = [reason for reason in _WORDS if self._stands(reason)]
        self._standing = None
        if standing:
            words = seen.get(standing[0], f"{_WORDS[standing[0]]}, until it is gone for a while")
            self._standing = standing[0], words
        return next(((reason, seen[reason]) for reason in _WORDS if reason in seen), None)

    def _stands(self, reason: Reason) -> bool:
        course = self._courses.get(reason)
        return course is not None and course.is_standing

    def _has_lasted(self, course: _Course, now_ns: int, patience: int) -> bool:
        if course.count == 0 or now_ns < course.since_ns:
            course.since_ns = now_ns
        course.count += 1
        if not self._is_watched:
            return course.count >= (1 if patience == 1 else patience // 2)
        settings = self._settings
        leaves = course.is_standing
        count = _LEAVE_COUNT if leaves else _ENTER_COUNT
        seconds = settings.leave_seconds if leaves else settings.enter_seconds
        return (
            course.count >= count * patience
            and now_ns - course.since_ns >= seconds * patience * 1e9
        )


def camera_settings(pipeline: Pipeline) -> Settings | None:
    """How the camera was set when the references were taken; None: it could not tell."""
    return pipeline.references.camera_settings if pipeline.references is not None else None


def _measures(watch: PictureWatch, decision: Decision) -> Measures:
    result = decision.result
    return watch.measures(result.features.preprocessed) if result is not None else {}
