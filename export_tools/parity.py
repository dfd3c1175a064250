"""Whether exported graphs still say what the torch model says, on real pictures.

Two things are compared. Tokens, because there an error is seen before anything smooths it. Maps,
scores and verdicts, because those are what the product promises.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge_sdk.errors import GateError
from edge_sdk.protocols import InferenceEngine
from edge_sdk.records import FloatArray, UInt8Array
from export_tools.parity_rows import (
    HEADER,
    LIMITS,
    Limits,
    MapParity,
    TokenParity,
    as_bound,
    check_gate,
)

__all__ = [
    "HEADER",
    "LIMITS",
    "Limits",
    "MapParity",
    "ScoredMap",
    "Show",
    "TokenParity",
    "Tokens",
    "TorchReference",
    "as_bound",
    "check_gate",
    "compare_maps",
    "compare_tokens",
    "engine_tokens",
    "rank_correlation",
]

Tokens: TypeAlias = Mapping[str, FloatArray]
"""Output name -> (P, D) float32, of one picture."""
ScoredMap: TypeAlias = tuple[FloatArray, float]
"""((H, W) float32 anomaly map, image score) of one picture."""
Show: TypeAlias = Callable[[str], None]
"""Takes one line of the table as soon as it is known."""


class TorchReference:
    """The torch model as it is: BatchNorm not folded, normalisation as the paper writes it.

    Args:
        model: (N, 3, H, W) float32 normalised RGB -> one (N, P, D) token tensor per layer; it is
            copied.
        mean: three channel means, of a picture in 0..1.
        std: three channel deviations, of a picture in 0..1.
        output_names: one a token tensor.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        output_names: Sequence[str],
    ) -> None:
        self._model = copy.deepcopy(model).cpu().float().eval()
        self._mean = np.asarray(mean, np.float64)
        self._std = np.asarray(std, np.float64)
        self._names = tuple(output_names)

    def __call__(self, picture: UInt8Array) -> Tokens:
        """Encode one (H, W, 3) uint8 RGB picture of the input size."""
        normalised = (picture / 255.0 - self._mean) / self._std
        batch = torch.from_numpy(normalised.astype(np.float32)).permute(2, 0, 1)[None]
        with torch.inference_mode():
            values = self._model(batch.contiguous())
        return {name: value[0].numpy() for name, value in zip(self._names, values, strict=True)}


def engine_tokens(engine: InferenceEngine, picture: UInt8Array) -> Tokens:
    """Encode one (H, W, 3) uint8 RGB picture of the input size.

    Raises:
        EngineError: the graph failed.
        GateError: the graph takes more than a picture.
    """
    if len(engine.inputs) != 1:
        raise GateError(f"graph: expected one input, got {sorted(engine.inputs)}")
    values = engine.infer({next(iter(engine.inputs)): picture[None]})
    return {name: value[0] for name, value in values.items()}


def compare_tokens(
    reference: Callable[[UInt8Array], Tokens],
    engines: Mapping[str, InferenceEngine],
    pictures: Sequence[UInt8Array],
    *,
    precision: str,
    show: Show,
) -> tuple[TokenParity, ...]:
    """Compare what each engine makes of a graph with the torch model, picture by picture.

    Args:
        reference: one picture -> tokens.
        engines: name -> the graph, loaded.
        pictures: (H, W, 3) uint8 RGB of the input size.
        precision: of the graph.
        show: takes each row of the table as its engine finishes.

    Returns:
        One row an engine and output.

    Raises:
        EngineError: a graph failed.
        GateError: no pictures, or a graph with other outputs or shapes than the model.
    """
    if not pictures:
        raise GateError("pictures: expected at least one to compare on, got none")
    expected = [reference(picture) for picture in pictures]
    rows = []
    for engine_name, engine in engines.items():
        got = [engine_tokens(engine, picture) for picture in pictures]
        for output in expected[0]:
            pairs = [
                _pair(engine_name, output, theirs, ours)
                for theirs, ours in zip(expected, got, strict=True)
            ]
            row = _token_row(pairs, engine=engine_name, precision=precision, output=output)
            show(str(row))
            rows.append(row)
    return tuple(rows)


def compare_maps(
    reference: Sequence[ScoredMap],
    engines: Mapping[str, Sequence[ScoredMap]],
    *,
    threshold: float,
    precision: str,
    show: Show,
    compared: str = "maps and scores",
) -> tuple[MapParity, ...]:
    """Compare maps, scores and verdicts made from each engine's tokens with those from torch's.

    Args:
        reference: one a picture.
        engines: name -> one a picture, in the same order.
        threshold: image scores above it are anomalous.
        precision: of the graph.
        show: takes each row of the table.
        compared: what the rows are called.

    Raises:
        GateError: no pictures, or other numbers or shapes of maps.
    """
    rows = []
    for engine_name, candidate in engines.items():
        shapes = [[one.shape for one, _ in scored] for scored in (reference, candidate)]
        if not reference or shapes[0] != shapes[1]:
            raise GateError(f"maps through {engine_name}: expected {shapes[0]}, got {shapes[1]}")
        row = _map_row(
            reference,
            candidate,
            threshold,
            engine=engine_name,
            precision=precision,
            compared=compared,
        )
        show(str(row))
        rows.append(row)
    return tuple(rows)


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's rank correlation with mean ranks for ties, from -1 to 1.

    Where one side has a single rank, nothing can be correlated: 1 if both have, otherwise 0.
    """
    ranks, others = _mean_ranks(first), _mean_ranks(second)
    if np.array_equal(ranks, others):
        return 1.0
    ranks, others = ranks - ranks.mean(), others - others.mean()
    lengths = math.sqrt(float(ranks @ ranks) * float(others @ others))
    return float(ranks @ others) / lengths if lengths else 0.0


def _mean_ranks(values: Sequence[float]) -> NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks


def _pair(
    engine_name: str, output: str, expected: Tokens, got: Tokens
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if output not in got or got[output].shape != expected[output].shape:
        shapes = {name: value.shape for name, value in got.items()}
        raise GateError(
            f"graph in {engine_name}: expected {output} {expected[output].shape}, got {shapes}"
        )
    return expected[output].astype(np.float64), got[output].astype(np.float64)


def _token_row(
    pairs: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
    *,
    engine: str,
    precision: str,
    output: str,
) -> TokenParity:
    max_abs = mean_abs = relative_error = cosine_min = math.nan
    if all(np.isfinite(array).all() for pair in pairs for array in pair):
        differences = [got - expected for expected, got in pairs]
        max_abs = max(float(np.abs(one).max()) for one in differences)
        mean_abs = float(np.mean([np.abs(one).mean() for one in differences]))
        relative_error = max(
            _ratio(
                float(np.linalg.norm(difference, axis=1).max()),
                math.sqrt(float((expected**2).sum(axis=1).mean())),
            )
            for difference, (expected, _) in zip(differences, pairs, strict=True)
        )
        cosine_min = min(_lowest_cosine(*pair) for pair in pairs)
    return TokenParity(
        engine=engine,
        precision=precision,
        output=output,
        pictures=len(pairs),
        max_abs=max_abs,
        mean_abs=mean_abs,
        relative_error=relative_error,
        cosine_min=cosine_min,
    )


def _lowest_cosine(expected: NDArray[np.float64], got: NDArray[np.float64]) -> float:
    lengths = np.linalg.norm(expected, axis=1) * np.linalg.norm(got, axis=1)
    same = (expected == got).all(axis=1)  # tokens of length 0 have no direction, but may agree
    cosines = (expected * got).sum(axis=1) / np.where(lengths == 0, 1.0, lengths)
    return float(np.where(same, 1.0, cosines).min())


def _map_row(
    reference: Sequence[ScoredMap],
    candidate: Sequence[ScoredMap],
    threshold: float,
    *,
    engine: str,
    precision: str,
    compared: str,
) -> MapParity:
    expected, got = (np.array([score for _, score in one]) for one in (reference, candidate))
    finite_scores = np.isfinite(expected) & np.isfinite(got)
    flips = ((expected > threshold) != (got > threshold)) | ~finite_scores
    max_abs = mean_abs = relative_error = correlation = math.nan
    maps = [[one.astype(np.float64) for one, _ in side] for side in (reference, candidate)]
    if finite_scores.all() and all(np.isfinite(one).all() for side in maps for one in side):
        differences = [np.abs(theirs - ours) for theirs, ours in zip(*maps, strict=True)]
        max_abs = max(float(one.max()) for one in differences)
        mean_abs = float(np.mean([one.mean() for one in differences]))
        lowest, highest = min(one.min() for one in maps[0]), max(one.max() for one in maps[0])
        relative_error = _ratio(max_abs, float(highest - lowest))
        correlation = rank_correlation(expected.tolist(), got.tolist())
    return MapParity(
        engine=engine,
        precision=precision,
        pictures=len(reference),
        max_abs=max_abs,
        mean_abs=mean_abs,
        relative_error=relative_error,
        rank_correlation=correlation,
        verdict_flips=int(flips.sum()),
        compared=compared,
    )


def _ratio(error: float, scale: float) -> float:
    """Error over scale; infinite where the scale is 0 and the error is not."""
    if scale == 0:
        return 0.0 if error == 0 else math.inf
    return error / scale
