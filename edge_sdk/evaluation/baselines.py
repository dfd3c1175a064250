"""What a method has to beat: the frame difference, and nearest neighbours without refinements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edge_sdk.errors import InputError
from edge_sdk.imaging import blur_map
from edge_sdk.model import Model
from edge_sdk.records import AnomalyResult, FloatArray, PatchFeatures, Preprocessed
from edge_sdk.scoring.anomaly_map import build_result
from edge_sdk.scoring.nearest_neighbour import NearestNeighbourFactory, NearestNeighbourSettings

BUNDLE = "bundle"
SCORERS = (BUNDLE, "nearest_neighbour_plain", "frame_difference")
_BLUR_PX = 2.0
_GREY = np.array([0.299, 0.587, 0.114], np.float32)


def with_scorer(model: Model, name: str) -> Model:
    """The model with the scorer of that name in place of the bundle's own.

    Args:
        model: the bundle, loaded.
        name: ``bundle``; ``nearest_neighbour_plain``: the bundle's tokens, each compared with
            every token of the references, no averaging over neighbours, no blur;
            ``frame_difference``: the smallest grey difference to any reference.

    Raises:
        InputError: there is no such scorer.
        BundleError: the bundle's tokens cannot be compared that way.
    """
    if name == "nearest_neighbour_plain":
        settings = NearestNeighbourSettings.from_spec(model.bundle.manifest.scorers[0])
        plain = replace(settings, neighbourhood=1, blur_sigma=0.0, stillness=0.0)
        return replace(model, factory=NearestNeighbourFactory(plain))
    if name == "frame_difference":
        return replace(model, encoder=PictureEncoder(), factory=FrameDifferenceFactory())
    if name != BUNDLE:
        raise InputError(f"--scorer: expected one of {', '.join(SCORERS)}, got {name!r}")
    return model


class PictureEncoder:
    """No tokens at all: the scorer looks at the picture as it is resized for the encoder."""

    extractor_id = "picture"

    def encode(self, preprocessed: Preprocessed) -> PatchFeatures:
        """The picture, passed on."""
        return PatchFeatures(
            tokens={}, class_token=None, extractor_id=self.extractor_id, preprocessed=preprocessed
        )


class FrameDifferenceFactory:
    """Makes ``FrameDifferenceScorer``."""

    name = "frame_difference"

    def fit(self, references: Sequence[PatchFeatures]) -> FrameDifferenceScorer:
        """Keep the references' grey pictures.

        Raises:
            InputError: no references.
        """
        if not references:
            raise InputError("frame difference: expected references, got none")
        return FrameDifferenceScorer([_soft(features) for features in references])


class FrameDifferenceScorer:
    """Smallest blurred grey difference to any reference, per pixel, 0 to 255."""

    def __init__(self, references: Sequence[FloatArray]) -> None:
        self._references = list(references)

    def without(self, reference: int) -> FrameDifferenceScorer:
        """The same scorer, one reference less."""
        kept = [picture for i, picture in enumerate(self._references) if i != reference]
        return FrameDifferenceScorer(kept)

    def score(self, features: PatchFeatures) -> AnomalyResult:
        """Compare one picture."""
        own = _soft(features)
        least = np.min([np.abs(own - other) for other in self._references], axis=0)
        size = (least.shape[0], least.shape[1])
        return build_result(least.ravel(), size, features, nearest=None, blur_sigma=0.0)


def _soft(features: PatchFeatures) -> FloatArray:
    grey = features.preprocessed.tensor[0] @ _GREY
    return blur_map(grey, _BLUR_PX)
