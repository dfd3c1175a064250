"""Golden frames: pictures with known answers, which every device works out again at its start."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.bundle.fields import Precision
from edge_sdk.bundle.manifest import GoldenSpec, Tolerance
from edge_sdk.encoder import GraphEncoder
from edge_sdk.imaging import encode_png
from edge_sdk.pipeline import as_frame
from edge_sdk.preprocess import Preprocessor
from edge_sdk.protocols import ScorerFactory
from edge_sdk.records import PatchFeatures, UInt8Array
from edge_sdk.scoring.selector import build_scorer_factory
from edge_sdk.selftest import golden_differences
from export_tools.backbones.efficientnet_lite import EfficientNetLite
from export_tools.bundle_words import (
    extractor_id,
    graph_spec,
    input_spec,
    output_names,
    scorer_spec,
)
from export_tools.pictures import GoldenPictures
from export_tools.recipe import Recipe
from export_tools.torch_engine import ExactReference, TorchEngine

TOLERANCE: dict[Precision, Tolerance] = {"fp32": Tolerance(tokens=0.02, map=2e-4, score=2e-4)}
"""How far a device may be from the golden arrays, by precision.

Set against what was measured with efficientnet-lite0, 1 and 2, stages 3 and 5, 256 x 256, on
x86-64 with AVX-512, AVX2 and SSE4.1: torch in float32, onnxruntime and OpenVINO differ from the
arrays by up to 8e-4 in tokens (of up to 54), 3.2e-6 in maps and 2.3e-6 in scores (of up to 0.8),
rounding included. That is the order in which a CPU adds; another one may be 25 times as far. What
must not pass is further away: the same graph in bfloat16 by 12, 3e-2 and 9e-3; pictures resized
with another kernel by 9, 2e-2 and 6e-3; red and blue exchanged by 40, 0.16 and 0.06.
"""
TOKEN_STEP = 2.0**-10
MAP_STEP = 2.0**-18
"""Golden arrays are rounded to whole steps: of tokens 1/20, of maps and scores 1/50 of the
tolerance.

They are computed in float64, where CPUs differ by about 1e-12 of a token and 1e-15 of a map. Only
a value that lies within that of the middle between two steps is rounded differently: less than
one export in a thousand. Rounded to float32 alone, the last bits would depend on the CPU, and
with them the bundle's identity. Whole steps are exact in float32, too.

One thing is not float64 all the way: OpenCV without Intel's IPP enlarges maps with weights in
float32, which moves a few hundred values of a map by one step. So the identity is the same on all
x86-64 machines, and may be another where the export runs on Arm.
"""

_FOLDER = "golden"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Golden:
    """What a bundle holds of it."""

    spec: GoldenSpec
    files: Mapping[str, bytes]

    def differences(
        self, encode: Callable[[str], PatchFeatures], factory: ScorerFactory
    ) -> dict[str, float]:
        """Largest differences of another graph from the answers, as in a device's self-test.

        Args:
            encode: path of a picture -> its features through the graph.
            factory: of the bundle's scorer.

        Returns:
            ``tokens``, ``map`` and ``score``, over all frames.
        """
        worst = {"tokens": 0.0, "map": 0.0, "score": 0.0}
        for found in golden_differences(self.spec, self._load, encode, factory):
            worst[found.kind] = max(worst[found.kind], found.difference)
        return worst

    def _load(self, path: str) -> NDArray[Any]:
        array: NDArray[Any] = np.load(io.BytesIO(self.files[path]), allow_pickle=False)
        return array


def make_golden(recipe: Recipe, model: EfficientNetLite, pictures: GoldenPictures) -> Golden:
    """Work out what a device has to find, all the way to the score in float64.

    Args:
        recipe: of the bundle.
        model: made by it; left as it is.
        pictures: frames and references.
    """
    names = output_names(recipe)
    exact = ExactReference(model, mean=recipe.mean, std=recipe.std, output_names=names)
    engine = TorchEngine(exact, input_size=recipe.size, output_names=names)
    encoder = GraphEncoder(engine, graph_spec(recipe, model), extractor_id(recipe))
    preprocess = Preprocessor(input_spec(recipe))
    references = [encoder.encode(preprocess(as_frame(one))) for one in pictures.references]
    scorer = build_scorer_factory(scorer_spec(recipe)).fit(references)
    files = png_files("references", pictures.references) | png_files("frames", pictures.frames)
    spec = GoldenSpec(
        frames=tuple(png_files("frames", pictures.frames)),
        references=tuple(png_files("references", pictures.references)),
        expected=f"{_FOLDER}/expected",
        tolerance=TOLERANCE,
    )
    for index, picture in enumerate(pictures.frames):
        features = encoder.encode(preprocess(as_frame(picture)))
        result = scorer.score(features)
        arrays = {
            f"tokens_{stream}_{layer}": in_steps(grid.rows, TOKEN_STEP)
            for (stream, layer), grid in features.tokens.items()
        }
        arrays["map"] = in_steps(result.anomaly_map, MAP_STEP)
        arrays["score"] = in_steps(np.asarray(result.image_score), MAP_STEP)
        files |= {spec.array_path(index, name): as_npy(array) for name, array in arrays.items()}
    return Golden(spec=spec, files=files)


def png_files(kind: str, pictures: Sequence[UInt8Array]) -> dict[str, bytes]:
    """Pictures as files of the bundle, by path."""
    return {
        f"{_FOLDER}/{kind}/{index}.png": encode_png(picture)
        for index, picture in enumerate(pictures)
    }


def in_steps(exact: NDArray[Any], step: float) -> NDArray[np.float32]:
    """Round to whole steps, so that the last bits of a CPU do not show."""
    return np.ascontiguousarray(np.round(exact / step) * step, np.float32).reshape(exact.shape)


def as_npy(array: NDArray[np.float32]) -> bytes:
    """An array as a ``.npy`` file."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()
