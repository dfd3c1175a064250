"""Golden frames of an imported model: its own answers to two of the pictures compared on."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_sdk.bundle.manifest import GoldenSpec, Tolerance
from edge_sdk.imaging import encode_png, resize_picture
from edge_sdk.pipeline import as_frame
from edge_sdk.preprocess import Preprocessor
from edge_sdk.records import UInt8Array
from edge_sdk.scoring.end_to_end import EndToEndScorer, EndToEndSettings, PictureEncoder
from export_tools.anomalib.compare import PRECISION, Comparison
from export_tools.anomalib.contract import Contract
from export_tools.anomalib.files import ModelFile
from export_tools.anomalib.original import OriginalFile
from export_tools.anomalib.words import (
    ImportOptions,
    extractor_id,
    graph_spec,
    input_spec,
    scorer_spec,
)
from export_tools.golden import Golden

_SHARE = 1e-3
"""Of the range of maps or scores, how far a device may be from what the file said. The gate allows
a tenth of it at the exporter's; other CPUs add in another order."""
_STEPS = 50
"""Golden arrays are rounded to whole steps, about this many to a tolerance, so that the last bits,
which differ between runs and CPUs, do not make it another bundle."""


def make_golden(
    file: ModelFile,
    contract: Contract,
    options: ImportOptions,
    *,
    pictures: Sequence[UInt8Array],
    comparison: Comparison,
) -> Golden:
    """Let the file itself say what a device has to find.

    Of the pictures whose score is not cut off, the one with the lowest and the one with the
    highest score: a good part and the worst one that is still told from a worse one. They are kept
    somewhat larger than the model's picture, so that resizing is tested too.

    Args:
        file: the export.
        contract: read out of it.
        options: what it does not say.
        pictures: that were judged in the comparison, as the camera gave them.
        comparison: what came out.
    """
    telling = comparison.telling(contract)
    height, width = contract.size
    # Averages over 9/8 x 3/2 pixels are never half-way between two bytes.
    larger = (height * 9 // 8, width * 3 // 2)
    frames = [
        resize_picture(pictures[index], larger, kernel="area", antialias=True)
        for index in (telling[0], telling[-1])
    ]
    settings = EndToEndSettings.from_spec(scorer_spec(contract), graph_spec(file, contract))
    scorer = EndToEndScorer(OriginalFile(file, contract), settings)
    encoder = PictureEncoder(extractor_id(file, contract, options))
    preprocess = Preprocessor(input_spec(contract, options))
    score_range = 1.0 if contract.is_normalised else max(map(abs, comparison.scores))
    tolerance = Tolerance(
        tokens=0.0,  # there are none
        map=_one_digit(_SHARE * comparison.map_range),
        score=_one_digit(_SHARE * score_range),
    )
    spec = GoldenSpec(
        frames=tuple(f"golden/frames/{index}.png" for index in range(len(frames))),
        references=(),
        expected="golden/expected",
        tolerance={PRECISION: tolerance},
    )
    files = {path: encode_png(frame) for path, frame in zip(spec.frames, frames, strict=True)}
    for index, frame in enumerate(frames):
        result = scorer.score(encoder.encode(preprocess(as_frame(frame))))
        score = np.asarray(result.image_score)
        files[spec.array_path(index, "map")] = _npy(result.anomaly_map, tolerance.map)
        files[spec.array_path(index, "score")] = _npy(score, tolerance.score)
    return Golden(spec=spec, files=files)


def _one_digit(value: float) -> float:
    return float(f"{value:.0e}")


def _npy(values: NDArray[np.floating], tolerance: float) -> bytes:
    step = 2.0 ** math.floor(math.log2(tolerance / _STEPS))
    rounded = np.asarray(np.round(values.astype(np.float64) / step) * step, np.float32)
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(rounded).reshape(values.shape), allow_pickle=False)
    return stream.getvalue()
