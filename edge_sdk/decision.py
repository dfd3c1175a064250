"""Stage 5: a score to a verdict. Whatever cannot be judged is a ``fault``, never ``normal``."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_sdk.imaging import connected_boxes
from edge_sdk.records import (
    AnomalyResult,
    Decision,
    FloatArray,
    Frame,
    Preprocessed,
    Reason,
    Region,
    Severity,
    Threshold,
    UInt8Array,
    Verdict,
)

MAX_REGIONS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultLimits:
    """When a picture is not worth a verdict."""

    max_frame_age_seconds: float = 3.0
    """An older frame says nothing about now."""
    black_below: int = 16
    """Grey level, 0-255. A picture whose brightest percent lies below it is black."""
    saturated_above: int = 250
    """Grey level, 0-255, at and above which a pixel is saturated."""
    saturated_share: float = 0.6
    """Share of saturated pixels, 0-1, above which a picture is over-exposed."""


def fit_fault_limits(limits: FaultLimits, references: Sequence[Preprocessed]) -> FaultLimits:
    """Widen the limits so that no known-good picture is called black or over-exposed.

    A dark-field or a white-background station would be one long fault otherwise.
    """
    shares = [_saturated_share(reference, limits.saturated_above) for reference in references]
    brightest = [_brightest_level(reference) for reference in references]
    return FaultLimits(
        max_frame_age_seconds=limits.max_frame_age_seconds,
        black_below=min([limits.black_below, *(int(level / 2) for level in brightest)]),
        saturated_above=limits.saturated_above,
        # At most half way to 1, so that a picture that is nothing but white is seen everywhere.
        saturated_share=max([limits.saturated_share, *(s + min(0.2, (1 - s) / 2) for s in shares)]),
    )


class Decider:
    """Gives every frame its verdict.

    Args:
        threshold: the cut, and what it was fitted on.
        limits: when a picture is a fault.
        critical_margin: margin over the threshold from which an anomaly is critical.
    """

    def __init__(
        self, threshold: Threshold, *, limits: FaultLimits, critical_margin: float = 1.0
    ) -> None:
        self.threshold = threshold
        self._limits = limits
        self._critical_margin = critical_margin

    def decide(self, result: AnomalyResult) -> Decision:
        """Judge one scored frame.

        Faults come first, in this order: stale, black, saturated, a score that is not finite.
        """
        preprocessed = result.features.preprocessed
        frame = preprocessed.frame
        fault = self._picture_fault(preprocessed)
        if fault is not None:
            return self.fault(*fault, frame=frame, result=result)
        score, limit = result.image_score, self.threshold.value
        if not (math.isfinite(score) and math.isfinite(limit)):
            detail = f"image score is {score}, threshold {limit}"
            return self.fault(Reason.NON_FINITE_SCORE, detail, frame=frame, result=result)
        margin = score / limit - 1 if limit > 0 else (math.inf if score > limit else 0.0)
        is_anomalous = score > limit
        severity = Severity.INFO
        if is_anomalous:
            is_critical = margin >= self._critical_margin
            severity = Severity.CRITICAL if is_critical else Severity.WARN
        return Decision(
            verdict=Verdict.ANOMALOUS if is_anomalous else Verdict.NORMAL,
            reason=Reason.OVER_THRESHOLD if is_anomalous else Reason.BELOW_THRESHOLD,
            severity=severity,
            threshold=limit,
            provisional=self.threshold.provisional,
            margin=margin if math.isfinite(margin) else None,
            normal_percentile=self._normal_percentile(score),
            regions=_find_regions(result.anomaly_map, limit) if is_anomalous else (),
            detail=f"score {score:.4f}, threshold {limit:.4f}",
            frame=frame,
            result=result,
        )

    def with_threshold(self, threshold: Threshold) -> Decider:
        """The same with another cut."""
        return Decider(threshold, limits=self._limits, critical_margin=self._critical_margin)

    def fault(
        self,
        reason: Reason,
        detail: str,
        *,
        frame: Frame | None = None,
        result: AnomalyResult | None = None,
    ) -> Decision:
        """The verdict where nothing can be said of the part."""
        return Decision(
            verdict=Verdict.FAULT,
            reason=reason,
            severity=Severity.CRITICAL,
            threshold=self.threshold.value,
            provisional=self.threshold.provisional,
            margin=None,
            normal_percentile=None,
            regions=(),
            detail=detail,
            frame=frame,
            result=result,
        )

    def _picture_fault(self, preprocessed: Preprocessed) -> tuple[Reason, str] | None:
        limits = self._limits
        age = (time.monotonic_ns() - preprocessed.frame.monotonic_ns) / 1e9
        if age > limits.max_frame_age_seconds:
            return Reason.STALE_FRAME, (
                f"frame is {age:.1f} s old, limit {limits.max_frame_age_seconds} s"
            )
        brightest = _brightest_level(preprocessed)
        if brightest < limits.black_below:
            return Reason.BLACK_FRAME, (
                f"brightest percent at grey level {brightest:.0f}, limit {limits.black_below}"
            )
        share = _saturated_share(preprocessed, limits.saturated_above)
        if share > limits.saturated_share:
            return Reason.SATURATED_FRAME, (
                f"{share:.0%} of the picture saturated, limit {limits.saturated_share:.0%}"
            )
        return None

    def _normal_percentile(self, score: float) -> float | None:
        good = self.threshold.good_scores
        return 100.0 * sum(value < score for value in good) / len(good) if good else None


def _brightest_level(preprocessed: Preprocessed) -> float:
    """Grey level below which 99 % of the picture lies."""
    histogram = np.bincount(_grey_samples(preprocessed).ravel(), minlength=256)
    return float(np.searchsorted(np.cumsum(histogram), 0.99 * histogram.sum()))


def _saturated_share(preprocessed: Preprocessed, level: int) -> float:
    return float(np.mean(_grey_samples(preprocessed) >= level))


def _grey_samples(preprocessed: Preprocessed) -> UInt8Array:
    """Every few pixels of the window, green, as the camera gave them.

    Not of the model's picture: that one was brought to the brightness of the references, which
    is just what hides a lamp that failed.
    """
    window, pixels = preprocessed.geometry.window, preprocessed.frame.pixels
    step = max(1, min(window.width, window.height) // 128)
    return pixels[
        window.y : window.y + window.height : step,
        window.x : window.x + window.width : step,
        pixels.shape[2] // 2,
    ]


def _find_regions(anomaly_map: FloatArray, limit: float) -> tuple[Region, ...]:
    """Connected parts of the map above ``limit``, the worst first."""
    regions = []
    for box, area, inside in connected_boxes(anomaly_map > limit):
        part = anomaly_map[box.y : box.y + box.height, box.x : box.x + box.width]
        regions.append(
            Region(
                x=box.x,
                y=box.y,
                width=box.width,
                height=box.height,
                score=float(part[inside].max()),
                area_px=area,
            )
        )
    regions.sort(key=lambda region: -region.score)
    return tuple(regions[:MAX_REGIONS])
