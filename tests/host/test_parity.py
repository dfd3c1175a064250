from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from lite0 import MEAN, STD, bottles, lite0
from numpy.typing import NDArray
from onnx import numpy_helper
from scipy.stats import spearmanr  # type: ignore[import-untyped]  # scipy ships no types

from edge_sdk.engines.selector import open_engine
from edge_sdk.errors import GateError
from edge_sdk.protocols import InferenceEngine
from edge_sdk.records import UInt8Array
from export_tools.graph import export_encoder
from export_tools.parity import (
    HEADER,
    LIMITS,
    MapParity,
    ScoredMap,
    TokenParity,
    Tokens,
    TorchReference,
    as_bound,
    check_gate,
    compare_maps,
    compare_tokens,
    engine_tokens,
    rank_correlation,
)

NAMES = ("conv_2", "conv_3")
SIDE = 96


@pytest.fixture(scope="module")
def graph() -> bytes:
    return export_encoder(
        lite0(2, 3), input_size=(SIDE, SIDE), mean=MEAN, std=STD, output_names=NAMES
    )


@pytest.fixture(scope="module")
def reference() -> TorchReference:
    return TorchReference(lite0(2, 3), mean=MEAN, std=STD, output_names=NAMES)


@pytest.fixture(scope="module")
def pictures() -> list[UInt8Array]:
    return bottles(4, SIDE)


def opened(graph: bytes, *names: str) -> Mapping[str, InferenceEngine]:
    return {
        name: open_engine(
            name, model=graph, weights=None, device="cpu", precision="fp32", threads=1
        )
        for name in names
    }


def with_weight_changed(graph: bytes, value: float) -> bytes:
    """Change one number of the second convolution."""
    proto = onnx.load_model_from_string(graph)
    convolutions = [node for node in proto.graph.node if node.op_type == "Conv"]
    (weight,) = (one for one in proto.graph.initializer if one.name == convolutions[1].input[1])
    array = numpy_helper.to_array(weight).copy()
    array.flat[0] = value
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    return bytes(proto.SerializeToString())


def scored(tokens: Tokens, good: Tokens) -> ScoredMap:
    """A map in the way of a memory bank: distance of each patch to the nearest good one."""
    rows, bank = tokens["conv_3"], good["conv_3"]
    distances = np.linalg.norm(rows[:, None] - bank[None], axis=2).min(axis=1)
    side = math.isqrt(len(rows))
    return distances.reshape(side, side).astype(np.float32), float(distances.max())


def scored_maps(encode: Any, pictures: list[UInt8Array]) -> list[ScoredMap]:
    tokens = [encode(picture) for picture in pictures]
    return [scored(one, tokens[0]) for one in tokens[1:]]


def test_a_faithful_export_passes_in_both_engines_and_is_shown_row_by_row(
    graph: bytes, reference: TorchReference, pictures: list[UInt8Array]
) -> None:
    engines = opened(graph, "onnxruntime", "openvino")
    shown: list[str] = []

    token_rows = compare_tokens(reference, engines, pictures, precision="fp32", show=shown.append)
    maps = scored_maps(reference, pictures)
    others = {
        name: scored_maps(lambda picture, e=engine: engine_tokens(e, picture), pictures)
        for name, engine in engines.items()
    }
    threshold = float(np.median([score for _, score in maps])) * 1.001
    map_rows = compare_maps(maps, others, threshold=threshold, precision="fp32", show=shown.append)

    check_gate([*token_rows, *map_rows])
    print("\n".join([HEADER, *shown]))
    assert [(row.engine, row.output, row.pictures) for row in token_rows] == [
        (engine, output, 4) for engine in ("onnxruntime", "openvino") for output in NAMES
    ]
    assert all(row.cosine_min > 1 - 1e-8 for row in token_rows)
    assert [(row.rank_correlation, row.verdict_flips) for row in map_rows] == [(1.0, 0)] * 2
    assert len(shown) == 6
    assert all(line.endswith(" ok") and len(line) <= len(HEADER) for line in shown)


def test_rows_are_shown_as_each_engine_finishes(
    graph: bytes, reference: TorchReference, pictures: list[UInt8Array]
) -> None:
    (first,) = opened(graph, "onnxruntime").values()
    closed = opened(graph, "openvino")["openvino"]
    closed.close()
    shown: list[str] = []

    with pytest.raises(Exception, match="is closed"):
        compare_tokens(
            reference,
            {"first": first, "second": closed},
            pictures[:1],
            precision="fp32",
            show=shown.append,
        )

    assert [line.split()[:4] for line in shown] == [
        ["first", "fp32", "tokens", name] for name in NAMES
    ]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_one_changed_weight_fails_the_gate(
    graph: bytes, reference: TorchReference, pictures: list[UInt8Array], engine: str
) -> None:
    planted = opened(with_weight_changed(graph, 0.25), engine)
    shown: list[str] = []

    rows = compare_tokens(reference, planted, pictures, precision="fp32", show=shown.append)

    assert all("relative error" in line for line in shown)
    with pytest.raises(GateError, match=rf"{engine} fp32 tokens conv_2: relative error .* limit"):
        check_gate(rows)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_nan_in_the_graph_fails_the_gate(
    graph: bytes, reference: TorchReference, pictures: list[UInt8Array], engine: str
) -> None:
    planted = opened(with_weight_changed(graph, math.nan), engine)

    rows = compare_tokens(reference, planted, pictures, precision="fp32", show=lambda _: None)

    # OpenVINO's clip turns a NaN into a number; what comes out is wrong all the same.
    symptom = "values that are not finite" if engine == "onnxruntime" else "relative error 0"
    with pytest.raises(GateError, match=symptom):
        check_gate(rows)


def as_maps(scores: list[float], height: float = 1.0) -> list[ScoredMap]:
    return [(np.full((2, 2), score * height, np.float32), score) for score in scores]


def one_row(reference: list[ScoredMap], got: list[ScoredMap]) -> MapParity:
    (row,) = compare_maps(
        reference, {"any": got}, threshold=1.0, precision="fp32", show=lambda _: None
    )
    return row


def test_a_flipped_verdict_fails_the_gate_however_small_the_difference() -> None:
    row = one_row(as_maps([0.0, 1.0, 5.0]), as_maps([0.0, 1.0 + 1e-6, 5.0]))

    assert row.verdict_flips == 1
    with pytest.raises(GateError, match="any fp32 maps and scores: verdict flips 1, limit 0"):
        check_gate([row])


def test_a_map_that_differs_by_more_than_its_limit_fails_the_gate() -> None:
    row = one_row(as_maps([0.0, 0.5, 10.0]), as_maps([0.0, 0.502, 10.0]))

    assert row.max_abs == pytest.approx(0.002, rel=1e-4)
    assert row.relative_error == pytest.approx(0.0002, rel=1e-4)
    with pytest.raises(GateError, match=r"difference 0\.0002 of range, limit 0\.0001"):
        check_gate([row])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("side", ["map", "score"])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_value_that_is_not_finite_fails_the_gate_on_either_side(
    bad: float, side: str, swapped: bool
) -> None:
    good = as_maps([0.0, 2.0])
    broken = list(good)
    broken[1] = (np.full((2, 2), bad, np.float32), 2.0) if side == "map" else (good[1][0], bad)
    row = one_row(broken, good) if swapped else one_row(good, broken)

    assert row.verdict_flips == (1 if side == "score" else 0)
    with pytest.raises(GateError, match="not finite"):
        check_gate([row])


def test_maps_without_a_counterpart_are_refused() -> None:
    maps = as_maps([1.0, 2.0])
    for reference, got in (
        ([], []),
        (maps, maps[:1]),
        (maps, [*maps[:1], (np.zeros((3, 3), np.float32), 2.0)]),
    ):
        with pytest.raises(GateError, match="maps through any: expected"):
            one_row(reference, got)


class Fixed:
    """An engine that gives what it was made with."""

    inputs: Mapping[str, tuple[int | None, ...]]
    outputs: Sequence[str]
    device: str

    def __init__(self, tokens: Mapping[str, NDArray[Any]]) -> None:
        self.inputs = {"picture": (None, None, None, 3)}
        self.outputs = tuple(tokens)
        self.device = "cpu"
        self._tokens = tokens

    def infer(self, tensors: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        assert len(tensors["picture"]) == 1
        return {name: value[None] for name, value in self._tokens.items()}

    def close(self) -> None:
        """Nothing is held."""


def tokens_row(expected: Any, got: Any) -> TokenParity:
    reference = {"a": np.array(expected, np.float32)}
    (row,) = compare_tokens(
        lambda _: reference,
        {"any": Fixed({"a": np.array(got, np.float32)})},
        [np.zeros((2, 2, 3), np.uint8)],
        precision="fp32",
        show=lambda _: None,
    )
    return row


def test_token_errors_are_what_their_names_say() -> None:
    row = tokens_row([[3.0, 4.0], [0.0, 0.0], [5.0, 0.0]], [[3.0, 4.0], [0.0, 0.0], [3.0, 4.0]])

    assert row.max_abs == 4.0
    assert row.mean_abs == 1.0
    assert row.relative_error == pytest.approx(math.sqrt(20) / math.sqrt(50 / 3))
    assert row.cosine_min == pytest.approx(0.6)


def test_a_token_that_vanished_has_no_direction_in_common() -> None:
    assert tokens_row([[1.0, 0.0]], [[0.0, 0.0]]).cosine_min == 0.0
    assert math.isinf(tokens_row([[0.0, 0.0]], [[1.0, 0.0]]).relative_error)
    assert tokens_row([[0.0, 0.0]], [[0.0, 0.0]]).failures == ()


def test_outputs_that_are_missing_or_of_another_shape_are_refused() -> None:
    with pytest.raises(GateError, match=r"graph in any: expected a \(1, 2\), got"):
        tokens_row([[1.0, 2.0]], [[1.0], [2.0]])
    with pytest.raises(GateError, match="pictures: expected at least one"):
        compare_tokens(lambda _: {}, {}, [], precision="fp32", show=lambda _: None)


def test_a_gate_without_rows_or_without_limits_lets_nothing_pass() -> None:
    row = tokens_row([[1.0, 2.0]], [[1.0, 2.0]])
    assert set(LIMITS) == {"fp32"}
    check_gate([row])
    with pytest.raises(GateError, match="nothing was compared"):
        check_gate([])
    with pytest.raises(GateError, match="no limits are set for precision fp8"):
        check_gate([replace(row, precision="fp8")])


@pytest.mark.parametrize(
    ("value", "bound"),
    [
        (0.0, 1e-6),
        (3e-9, 1e-6),
        (1e-6, 1e-6),
        (1.0000001e-6, 1e-5),
        (4.2e-5, 1e-4),
        (1e-4, 1e-4),
        (0.001, 0.001),
        (0.9, 1.0),
        (1.0, 1.0),
        (7.0, 10.0),
        (1e-6 * 1.5, 1e-5),
    ],
)
def test_a_bound_is_the_next_power_of_ten(value: float, bound: float) -> None:
    assert as_bound(value) == bound


@pytest.mark.parametrize("value", [math.nan, math.inf, -1e-9])
def test_what_is_no_error_has_no_bound(value: float) -> None:
    with pytest.raises(GateError, match="expected a finite error"):
        as_bound(value)


def test_rank_correlation_is_spearmans_with_ties() -> None:
    generator = np.random.default_rng(5)
    for _ in range(20):
        first, second = generator.integers(0, 6, (2, 12)).astype(float).tolist()
        expected = float(spearmanr(first, second).statistic)
        assert rank_correlation(first, second) == pytest.approx(expected, abs=1e-12)
    assert rank_correlation([1, 1, 1], [2, 2, 2]) == 1.0
    assert rank_correlation([1, 1, 1], [1, 2, 3]) == 0.0
    assert rank_correlation([1, 2, 3], [9, 8, 7]) == -1.0
