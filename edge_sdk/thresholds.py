"""Where a camera's threshold comes from, and the check that every threshold passes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace

from edge_sdk.config import CameraConfig
from edge_sdk.errors import InputError
from edge_sdk.model import Model
from edge_sdk.protocols import ReferenceScorer
from edge_sdk.records import PatchFeatures, Threshold, UInt8Array
from edge_sdk.references import ReferenceSet, load_threshold, save_threshold
from edge_sdk.run_in.folder import RunIn, open_run_in
from edge_sdk.run_in.rules import RUN_IN_METHOD, RunInPlan
from edge_sdk.scoring.threshold import THRESHOLD_METHOD, fit_threshold


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


def fitted_threshold(
    model: Model,
    camera: CameraConfig,
    references: ReferenceSet,
    *,
    scorer: ReferenceScorer,
    features: Sequence[PatchFeatures],
    encode: Callable[[UInt8Array], Sequence[PatchFeatures]],
) -> Threshold:
    """The threshold fitted before for just this way of scoring, or a new one.

    Args:
        model: the bundle, loaded.
        camera: its settings.
        references: the known-good pictures.
        scorer: fitted on them.
        features: of them.
        encode: gives the features of a picture's varied copies.

    Raises:
        InputError: there are fewer than two references.
        EngineError: the graph failed.
    """
    key = _way_of_scoring(THRESHOLD_METHOD, model, camera)
    threshold = load_threshold(references, key)
    if threshold is None:
        views = [encode(picture.pixels) for picture in references.pictures]
        threshold = fit_threshold(scorer, features, views)
        save_threshold(references, key, threshold)
    return threshold


def known_threshold(
    model: Model, camera: CameraConfig, references: ReferenceSet | None
) -> Threshold | None:
    """The threshold that is in use, as far as it is known without fitting one.

    Returns:
        None where the next start will fit one.

    Raises:
        InputError: nothing is enrolled and the bundle has none, or a file is not readable.
    """
    if camera.threshold_override is not None:
        return given_threshold(camera.threshold_override)
    if references is None:
        return bundle_threshold(model, camera)
    # Without a plan: one that is wanted but not begun is not begun by asking.
    begun = find_run_in(model, camera.model_copy(update={"run_in": None}), references)
    if begun is not None and begun.standing.threshold is not None:
        return begun.standing.threshold
    fitted = load_threshold(references, _way_of_scoring(THRESHOLD_METHOD, model, camera))
    return replace(fitted, provisional=True) if begun is not None and fitted else fitted


def find_run_in(model: Model, camera: CameraConfig, references: ReferenceSet) -> RunIn | None:
    """The run-in of these references in just this way of scoring: begun before, or wanted now.

    Raises:
        InputError: its files do not read as one.
    """
    plan = None
    if camera.run_in is not None:
        plan = RunInPlan(
            parts=camera.run_in.parts,
            false_alarms_per_100=camera.run_in.false_alarms_per_100,
            highest_score=model.highest_score,
        )
    key = _way_of_scoring(RUN_IN_METHOD, model, camera)
    return open_run_in(references.folder / "run_in" / key, plan)


def digest(*parts: object) -> str:
    """A short name for values that JSON can write."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _way_of_scoring(method: str, model: Model, camera: CameraConfig) -> str:
    """Names all that scores depend on, beside the references."""
    return digest(
        method,
        model.bundle.manifest.extractor_id,
        model.precision,
        model.bundle.manifest.scorers[0].model_dump(mode="json"),
        [
            camera.crop.model_dump() if camera.crop else None,
            *(region.model_dump(mode="json") for region in camera.regions),
        ],
    )
