"""The bundle's golden frames through this box: does it compute what the exporter computed?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import InputError, SelfTestError
from edge_sdk.imaging import decode_image
from edge_sdk.model import Model
from edge_sdk.pipeline import as_frame
from edge_sdk.preprocess import Preprocessor
from edge_sdk.records import PatchFeatures

ZERO_SHOT_MAP, ZERO_SHOT_SCORE = "zero_shot_map", "zero_shot_score"
"""Golden arrays of a bundle that also judges without references."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTestReport:
    """Largest absolute differences found, over all golden frames."""

    frames: int
    tokens: float
    map: float
    score: float


def run_self_test(model: Model) -> SelfTestReport:
    """Score the golden frames against the golden references and compare with what is expected.

    Raises:
        SelfTestError: a difference is beyond the manifest's tolerance, or not a number.
    """
    golden = model.bundle.manifest.golden
    limits = golden.tolerance[model.precision]
    try:
        scorer = model.factory.fit([_encode(model, path) for path in golden.references])
    except InputError as error:
        raise SelfTestError(f"self-test: golden references: {error}") from error
    worst = {"tokens": 0.0, "map": 0.0, "score": 0.0}
    for index, path in enumerate(golden.frames):
        features = _encode(model, path)
        result = scorer.score(features)
        found: list[tuple[str, str, NDArray[Any]]] = [
            ("tokens", f"tokens_{stream}_{layer}", grid.rows)
            for (stream, layer), grid in features.tokens.items()
            if golden.has_tokens
        ]
        found.append(("map", "map", result.anomaly_map))
        found.append(("score", "score", np.asarray(result.image_score, np.float32)))
        if golden.has_zero_shot:
            alone = model.factory.fit([]).score(features)
            found.append(("map", ZERO_SHOT_MAP, alone.anomaly_map))
            found.append(("score", ZERO_SHOT_SCORE, np.asarray(alone.image_score, np.float32)))
        for kind, name, value in found:
            expected = model.bundle.load_array(golden.array_path(index, name))
            difference = _difference(value, expected)
            limit = getattr(limits, kind)
            if not difference <= limit:  # NaN is beyond every limit
                raise SelfTestError(
                    f"self-test: {path}: {name} differs by {difference:.2g} from what the "
                    f"exporter computed, limit {limit:.2g}: this box must not judge parts"
                )
            worst[kind] = max(worst[kind], difference)
    return SelfTestReport(frames=len(golden.frames), **worst)


def _encode(model: Model, path: str) -> PatchFeatures:
    pixels = decode_image(model.bundle.read(path), name=path)
    preprocess = Preprocessor(model.bundle.manifest.input)
    return model.encoder.encode(preprocess(as_frame(pixels)))


def _difference(value: NDArray[Any], expected: NDArray[Any]) -> float:
    if value.shape != expected.shape:
        return float("nan")
    return float(np.abs(value.astype(np.float64) - expected).max())
