"""A box that does not compute what the exporter computed: it runs, and judges nothing.

It could also end; but then triggers would get no answer, and a plant that takes silence for "good"
would go on. So every frame and every part gets a ``fault``, until somebody looks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edge_sdk.config import DeviceConfig
from edge_sdk.decision import Decider, FaultLimits
from edge_sdk.errors import SelfTestError
from edge_sdk.model import Model
from edge_sdk.pipeline import Pipeline
from edge_sdk.preprocess import Preprocessor
from edge_sdk.protocols import Scorer
from edge_sdk.records import (
    AnomalyResult,
    Decision,
    Frame,
    PatchFeatures,
    Reason,
    Threshold,
)
from edge_sdk.references import ReferenceSet, ReferenceStore
from edge_sdk.runtime.compose import load_references

_NO_THRESHOLD = Threshold(
    value=0.0,
    method="none",
    good_scores=(),
    pictures=0,
    provisional=True,
    expected_false_alarm_rate=None,
)


class RefusingPipeline(Pipeline):
    """Answers every frame with a fault; scores and thresholds are not worked out at all."""

    def __init__(self, model: Model, references: ReferenceSet | None, why: str) -> None:
        super().__init__(
            preprocess=Preprocessor(model.bundle.manifest.input),
            encoder=model.encoder,
            scorer=_NoScorer(),
            decider=_RefusingDecider(),
            bundle_id=model.bundle.manifest.bundle_id,
            references=references,
        )
        self._why = why

    def inspect(self, frame: Frame) -> Decision:
        """A fault, and why."""
        return self.decider.fault(Reason.SELF_TEST_FAILED, self._why, frame=frame)


def build_refusing_pipelines(
    model: Model, config: DeviceConfig, why: str
) -> Mapping[str, RefusingPipeline]:
    """A refusing pipeline for each camera.

    Raises:
        InputError: a camera has no references.
    """
    return {
        camera.name: RefusingPipeline(
            model,
            load_references(model, camera, ReferenceStore(config.state_dir, camera.name)),
            why,
        )
        for camera in config.cameras
    }


class _NoScorer:
    def score(self, features: PatchFeatures) -> AnomalyResult:
        del features
        raise SelfTestError("a box whose self-test failed must not score")

    def without(self, reference: int) -> Scorer:
        del reference
        return self


class _RefusingDecider(Decider):
    """Faults without a threshold: none was fitted by a computation that can be believed."""

    def __init__(self) -> None:
        super().__init__(_NO_THRESHOLD, limits=FaultLimits())

    def fault(
        self,
        reason: Reason,
        detail: str,
        *,
        frame: Frame | None = None,
        result: AnomalyResult | None = None,
    ) -> Decision:
        decision = super().fault(reason, detail, frame=frame, result=result)
        return replace(decision, threshold=None)
