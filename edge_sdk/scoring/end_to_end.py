"""Scorer for a graph that goes from the picture to the map by itself: an imported model.

Nothing is compared with references. Score and map are the graph's own numbers: higher is worse, and
they are never flipped, clipped or scaled here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_sdk.bundle.manifest import GraphSpec, ScorerSpec
from edge_sdk.errors import BundleError, EngineError, InputError
from edge_sdk.protocols import InferenceEngine
from edge_sdk.records import AnomalyResult, FloatArray, PatchFeatures, Preprocessed
from edge_sdk.scoring.anomaly_map import build_result

NAME = "end_to_end"

InputKind: TypeAlias = Literal["nhwc_uint8", "nchw_float32"]

_UNIT = np.arange(256, dtype=np.float32) / np.float32(255)
"""A byte as a share of 255, divided as torchvision does it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndToEndSettings:
    """What the bundle says of this scorer."""

    input_kind: InputKind
    """``nhwc_uint8``: the picture's bytes. ``nchw_float32``: RGB planes from 0 to 1."""
    score: str
    """Output with one float a picture."""
    map: str
    """Output with one float a pixel."""
    highest_score: float | None
    """What the graph cuts scores off at; None: nothing."""

    @classmethod
    def from_spec(cls, spec: ScorerSpec, graph: GraphSpec) -> EndToEndSettings:
        """Read the manifest's parameters and hold them against the graph.

        Raises:
            BundleError: a parameter is missing, unknown or malformed, or names no output.
        """
        parameters = dict(spec.parameters)
        outputs = [output.name for output in graph.outputs]
        try:
            kind = parameters.pop("input")
            score, anomaly_map = parameters.pop("score"), parameters.pop("map")
            highest = parameters.pop("highest_score")
        except KeyError as error:
            raise BundleError(f"scorer {NAME}: expected a parameter {error}") from error
        if parameters:
            raise BundleError(f"scorer {NAME}: unknown parameters {sorted(parameters)}")
        if kind not in ("nhwc_uint8", "nchw_float32"):
            raise BundleError(f"scorer {NAME}: input: unknown kind {kind!r}")
        if score not in outputs or anomaly_map not in outputs or score == anomaly_map:
            raise BundleError(
                f"scorer {NAME}: score and map: expected two of {outputs}, "
                f"got {score!r} and {anomaly_map!r}"
            )
        if not (highest is None or isinstance(highest, (int, float))):
            raise BundleError(f"scorer {NAME}: highest_score: expected a number, got {highest!r}")
        return cls(
            input_kind=kind,  # type: ignore[arg-type]  # one of the two, just checked
            score=str(score),
            map=str(anomaly_map),
            highest_score=None if highest is None else float(highest),
        )


class PictureEncoder:
    """Stands where an encoder does; a graph that does everything itself has no tokens to show.

    Args:
        extractor_id: of the bundle.
    """

    def __init__(self, extractor_id: str) -> None:
        self.extractor_id = extractor_id

    def encode(self, preprocessed: Preprocessed) -> PatchFeatures:
        """Pass the picture on."""
        return PatchFeatures(
            tokens={}, class_token=None, extractor_id=self.extractor_id, preprocessed=preprocessed
        )


class EndToEndFactory:
    """Makes the one scorer there is; what good looks like was learnt where the graph was made.

    Args:
        engine: the loaded graph.
        settings: what goes in and what comes out.

    Raises:
        EngineError: the loaded graph lacks an output, or takes more than a picture.
    """

    name: str = NAME

    def __init__(self, engine: InferenceEngine, settings: EndToEndSettings) -> None:
        missing = sorted({settings.score, settings.map} - set(engine.outputs))
        if missing or len(engine.inputs) != 1:
            raise EngineError(
                f"end_to_end graph: expected one input and outputs {settings.score} and "
                f"{settings.map}, got {sorted(engine.inputs)} and {sorted(engine.outputs)}"
            )
        self._scorer = EndToEndScorer(engine, settings)

    def fit(self, references: Sequence[PatchFeatures]) -> EndToEndScorer:  # noqa: ARG002 - the seam's
        """The scorer; it has nothing to learn from references."""
        return self._scorer


class EndToEndScorer:
    """Scores pictures by one graph.

    Args:
        engine: the loaded graph.
        settings: what goes in and what comes out.
    """

    def __init__(self, engine: InferenceEngine, settings: EndToEndSettings) -> None:
        self._engine = engine
        self._settings = settings
        (self._input,) = engine.inputs

    def without(self, reference: int) -> EndToEndScorer:  # noqa: ARG002 - the seam's
        """The same scorer: it was fitted on no reference, so none can be left out."""
        return self

    def score(self, features: PatchFeatures) -> AnomalyResult:
        """Score one picture.

        Returns:
            ``anomaly_map`` is the graph's, enlarged to the frame; ``image_score`` is the graph's
            own, or NaN where its map has a value that is not finite.

        Raises:
            EngineError: the graph failed, or answered in another shape.
            InputError: regions are given; the graph's score is of the whole picture.
        """
        preprocessed = features.preprocessed
        if preprocessed.geometry.inspected is not None:
            raise InputError("end_to_end scorer: scores whole pictures, regions cannot be applied")
        score, small = self.infer(preprocessed.tensor)
        result = build_result(small.ravel(), small.shape, features, nearest=None, blur_sigma=0.0)
        return replace(result, image_score=score if np.isfinite(small).all() else float("nan"))

    def infer(self, tensor: NDArray[np.uint8]) -> tuple[float, FloatArray]:
        """Run the graph on (1, H, W, 3) uint8 RGB: (score, (rows, cols) map)."""
        values = self._engine.infer({self._input: as_input(tensor, self._settings.input_kind)})
        score, small = values[self._settings.score], values[self._settings.map]
        is_map = small.ndim in (2, 3, 4) and small.size == small.shape[-1] * small.shape[-2]
        if score.size != 1 or not is_map or {score.dtype.kind, small.dtype.kind} != {"f"}:
            raise EngineError(
                f"end_to_end graph: expected one score and one map of floats, got "
                f"{_shapes({'score': score, 'map': small})}"
            )
        return float(score.reshape(())), small.reshape(small.shape[-2:]).astype(np.float32)


def as_input(tensor: NDArray[np.uint8], kind: InputKind) -> NDArray[Any]:
    """(1, H, W, 3) uint8 RGB as the graph takes it."""
    if kind == "nhwc_uint8":
        return tensor
    planes: FloatArray = _UNIT[tensor.transpose(0, 3, 1, 2)]
    return planes


def _shapes(arrays: Mapping[str, NDArray[Any]]) -> str:
    return ", ".join(f"{name} {array.shape} {array.dtype}" for name, array in arrays.items())
