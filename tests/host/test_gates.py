"""What a graph of fewer bits has to keep, on at least a hundred pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_sdk.errors import GateError
from export_tools.gates import FEWEST_JUDGED, GraphFile, Judged, VariantRow, compare, variant_parity

INT8 = GraphFile(format="onnx", precision="int8", files=(b"graph",), recipe="by hand")
CUT = 0.5
COUNT = 120
IS_BAD = [index % 2 == 1 for index in range(COUNT)]


def judged(seed: int = 0, *, noise: float = 0.0, count: int = COUNT) -> Judged:
    """Good parts score 0.1 to 0.3, bad ones 0.7 to 0.9; maps are smooth hills."""
    generator = np.random.default_rng(0)
    scores = [
        float(generator.uniform(0.7, 0.9) if bad else generator.uniform(0.1, 0.3))
        for bad in IS_BAD[:count]
    ]
    rows, columns = np.mgrid[:16, :16]
    maps = []
    for index in range(count):
        hill = np.exp(-((rows - index % 16) ** 2 + (columns - 8.0) ** 2) / 20)
        spoilt = noise * np.random.default_rng([seed, index]).normal(size=hill.shape)
        maps.append((hill + spoilt).astype(np.float32))
    return Judged(maps=maps, scores=scores, threshold=CUT)


def row(candidate: Judged, graph: GraphFile = INT8) -> VariantRow:
    return compare(judged(), candidate, graph, is_bad=IS_BAD)


def test_the_same_answers_pass() -> None:
    assert row(judged()).failures == ()
    assert str(row(judged())).endswith("  ok")


def test_a_shift_of_all_scores_passes_with_the_threshold_that_is_fitted_through_the_graph() -> None:
    shifted = replace(judged(), scores=[one + 1 for one in judged().scores], threshold=CUT + 1)
    assert row(shifted).failures == ()


def test_scores_in_another_order_fail() -> None:
    good = [index for index in range(COUNT) if not IS_BAD[index]]
    scores = list(judged().scores)
    for first, second in zip(good[::2], good[1::2], strict=True):
        scores[first], scores[second] = scores[second], scores[first]
    (failure,) = row(replace(judged(), scores=scores)).failures
    assert failure.startswith("rank correlation 0.85")


def test_one_map_that_looks_different_fails_though_the_mean_is_fine() -> None:
    maps = list(judged().maps)
    maps[5] = judged(noise=0.3).maps[5]
    found = row(replace(judged(), maps=maps))
    assert found.mean_map_correlation is not None
    assert found.mean_map_correlation > 0.99
    (failure,) = found.failures
    assert failure.startswith("map correlation 0.")


def test_one_flipped_verdict_fails() -> None:
    highest = max(one for one, bad in zip(judged().scores, IS_BAD, strict=True) if not bad)
    assert row(replace(judged(), threshold=highest - 1e-6)).failures == ("1 verdicts flipped",)


def test_bad_parts_that_look_better_than_good_ones_cost_auroc() -> None:
    scores = list(judged().scores)
    scores[1], scores[3] = 0.15, 0.2
    found = row(replace(judged(), scores=scores))
    assert any(failure.startswith("AUROC drops by 0.0") for failure in found.failures)


def test_auroc_is_not_told_where_it_is_not_known_which_parts_are_bad() -> None:
    found = compare(judged(), judged(), INT8, is_bad=[None] * COUNT)
    assert found.auroc_drop is None
    assert found.failures == ()


def test_fewer_than_a_hundred_pictures_prove_nothing() -> None:
    few = judged(count=FEWEST_JUDGED - 1)
    found = compare(few, few, INT8, is_bad=IS_BAD[: FEWEST_JUDGED - 1])
    assert found.failures == ("99 pictures, at least 100 are needed",)


def test_a_graph_that_loses_no_bits_has_to_give_the_same_maps() -> None:
    nearly = judged(noise=1e-3)
    assert row(nearly).failures == ()
    (failure,) = row(nearly, replace(INT8, precision="fp32")).failures
    assert failure.endswith("of a range of 1.0e+00 0.0001 allowed")


def test_fp16_may_move_no_map_by_more_than_a_fiftieth_of_the_range() -> None:
    fp16 = replace(INT8, precision="fp16")
    assert row(judged(noise=1e-3), fp16).failures == ()
    noisy = judged(noise=6e-3)
    assert row(noisy).failures == ()
    (failure,) = row(noisy, fp16).failures
    assert failure.startswith("maps differ by 2.")
    assert failure.endswith("0.02 allowed")


def test_fewer_bits_of_random_weights_pass_but_prove_nothing() -> None:
    fp32 = replace(INT8, precision="fp32")
    for graph, verdict in ((INT8, "unproven"), (fp32, "ok")):
        found = compare(judged(), judged(), graph, is_bad=IS_BAD, has_random_weights=True)
        assert found.verdict == verdict
        assert (variant_parity(found).verdict, variant_parity(found).weights) == (verdict, "random")
        assert str(found).endswith(f"  {verdict}")
    spoilt = compare(judged(), judged(noise=3.0), INT8, is_bad=IS_BAD, has_random_weights=True)
    assert spoilt.verdict == "failed"


def test_where_no_threshold_was_fitted_verdicts_are_cut_where_scores_lie_farthest_apart() -> None:
    alone = replace(judged(), threshold=None, way="zero-shot")
    assert compare(alone, alone, INT8, is_bad=IS_BAD).verdict_flips == 0
    shifted = replace(alone, scores=[one + 0.3 for one in alone.scores])
    found = compare(alone, shifted, INT8, is_bad=IS_BAD)
    assert found.judged == "zero-shot"
    assert found.verdict_flips == sum(0.2 < one < 0.5 for one in alone.scores)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_fails_and_is_never_compared(value: float) -> None:
    maps = [one.copy() for one in judged().maps]
    maps[7][3, 3] = value
    found = row(replace(judged(), maps=maps))
    assert found.failures == ("values that are not finite",)
    assert found.rank_correlation is None
    assert row(replace(judged(), threshold=value)).failures == ("values that are not finite",)


def test_a_map_that_went_flat_has_nothing_in_common_with_one_that_is_not() -> None:
    maps = list(judged().maps)
    maps[0] = np.zeros_like(maps[0])
    assert row(replace(judged(), maps=maps)).map_correlation == 0


def test_maps_of_other_pictures_are_refused() -> None:
    with pytest.raises(GateError, match="the maps of the same pictures"):
        compare(judged(), judged(count=100), INT8, is_bad=IS_BAD)


def test_a_manifest_holds_bounds_that_do_not_hang_on_the_cpu_that_measured() -> None:
    spec = variant_parity(row(judged(noise=1e-3)))
    assert (spec.engine, spec.precision, spec.verdict) == ("onnxruntime", "int8", "ok")
    assert spec.max_abs_map == 0.01
    assert spec.rank_correlation == 0.999999
    assert spec.compared == "few-shot maps and scores of onnx (by hand)"
