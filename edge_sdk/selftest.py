"""The bundle's golden frames through this box: does it compute what the exporter computed?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_sdk.bundle.manifest import GoldenSpec
from edge_sdk.errors import InputError, SelfTestError
from edge_sdk.imaging import decode_image
from edge_sdk.model import Model
from edge_sdk.pipeline import as_frame
from edge_sdk.preprocess import Preprocessor
from edge_sdk.protocols import ScorerFactory
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


class GoldenDifference(NamedTuple):
    """One array of one golden frame beside what the exporter computed."""

    kind: str
    """``tokens``, ``map`` or ``score``."""
    frame: str
    name: str
    difference: float
    """Largest absolute difference; NaN where the shapes differ or a value is not a number."""


def golden_differences(
    golden: GoldenSpec,
    load: Callable[[str], NDArray[Any]],
    encode: Callable[[str], PatchFeatures],
    factory: ScorerFactory,
) -> Iterator[GoldenDifference]:
    """Score the golden frames, with references and, where the bundle can, without.

    Args:
        golden: of the manifest.
        load: path of an array -> what the exporter computed.
        encode: path of a picture -> its features.
        factory: of the bundle's scorer.

    Raises:
        InputError: the references cannot be compared with.
    """
    scorer = factory.fit([encode(path) for path in golden.references])
    for index, path in enumerate(golden.frames):
        features = encode(path)
        result = scorer.score(features)
        found: list[tuple[str, str, NDArray[Any]]] = [
            ("tokens", f"tokens_{stream}_{layer}", grid.rows)
            for (stream, layer), grid in features.tokens.items()
            if golden.has_tokens
        ]
        found.append(("map", "map", result.anomaly_map))
        found.append(("score", "score", np.asarray(result.image_score, np.float32)))
        if golden.has_zero_shot:
            alone = factory.fit([]).score(features)
            found.append(("map", ZERO_SHOT_MAP, alone.anomaly_map))
            found.append(("score", ZERO_SHOT_SCORE, np.asarray(alone.image_score, np.float32)))
        for kind, name, value in found:
            expected = load(golden.array_path(index, name))
            yield GoldenDifference(kind, path, name, _difference(value, expected))


def run_self_test(model: Model) -> SelfTestReport:
    """Score the golden frames against the golden references and compare with what is expected.

    Raises:
        SelfTestError: a difference is beyond the manifest's tolerance, or not a number.
    """
    golden, bundle = model.bundle.manifest.golden, model.bundle
    limits = golden.tolerance[model.precision]
    worst = {"tokens": 0.0, "map": 0.0, "score": 0.0}
    differences = golden_differences(
        golden, bundle.load_array, lambda path: _encode(model, path), model.factory
    )
    try:
        for kind, frame, name, difference in differences:
            limit = getattr(limits, kind)
            if not difference <= limit:  # NaN is beyond every limit
                raise SelfTestError(
                    f"self-test: {frame}: {name} differs by {difference:.2g} from what the "
                    f"exporter computed, limit {limit:.2g}: this box must not judge parts"
                )
            worst[kind] = max(worst[kind], difference)
    except InputError as error:
        raise SelfTestError(f"self-test: golden references: {error}") from error
    return SelfTestReport(frames=len(golden.frames), **worst)


def _encode(model: Model, path: str) -> PatchFeatures:
    pixels = decode_image(model.bundle.read(path), name=path)
    preprocess = Preprocessor(model.bundle.manifest.input)
    return model.encoder.encode(preprocess(as_frame(pixels)))


def _difference(value: NDArray[Any], expected: NDArray[Any]) -> float:
    if value.shape != expected.shape:
        return float("nan")
    return float(np.abs(value.astype(np.float64) - expected).max())
