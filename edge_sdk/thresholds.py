"""Thresholds that were given rather than fitted, and the check that every threshold passes."""

from __future__ import annotations

from edge_sdk.config import CameraConfig
from edge_sdk.errors import InputError
from edge_sdk.model import Model
from edge_sdk.records import Threshold


def check_threshold(model: Model, camera: CameraConfig, threshold: Threshold) -> None:
    """Refuse a cut that no score can exceed: every part would be called good."""
    highest = model.highest_score
    if highest is not None and threshold.value >= highest:
        raise InputError(
            f"camera {camera.name}: threshold {threshold.value:g} ({threshold.method}): expected "
            f"less than {highest:g}, where this model's scores end, or nothing could ever be "
            "anomalous; where good pictures score that high, the model does not know these parts"
        )


def bundle_threshold(model: Model, camera: CameraConfig) -> Threshold:
    """The exporter's cut; provisional, for it has seen no good part of this site."""
    cut = model.bundle.manifest.threshold
    if cut.value is None:
        raise InputError(
            f"camera {camera.name}: the bundle has no threshold and nothing is enrolled; show it "
            "good parts with edge-enroll, same --bundle, --camera and --state, or set "
            "threshold_override"
        )
    return Threshold(
        value=cut.value,
        method=cut.method,
        good_scores=(),
        pictures=cut.n,
        provisional=True,
        expected_false_alarm_rate=None,
    )


def given_threshold(value: float) -> Threshold:
    """The device file's ``threshold_override``."""
    return Threshold(
        value=value,
        method="override",
        good_scores=(),
        pictures=0,
        provisional=False,
        expected_false_alarm_rate=None,
    )
