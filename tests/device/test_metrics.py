from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import InputError
from edge_sdk.metrics import auroc, escapes_at

SCORES = st.lists(st.integers(0, 9).map(float), min_size=1, max_size=12)


@given(good=SCORES, bad=SCORES)
def test_auroc_is_the_share_of_pairs_in_the_right_order(
    good: list[float], bad: list[float]
) -> None:
    pairs = [(b > g) + 0.5 * (b == g) for g, b in itertools.product(good, bad)]
    assert auroc(good, bad) == pytest.approx(sum(pairs) / len(pairs))


@given(good=SCORES, bad=SCORES, share=st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0]))
def test_escapes_are_those_of_the_lowest_threshold_that_alarms_rarely_enough(
    good: list[float], bad: list[float], share: float
) -> None:
    allowed = math.floor(len(good) * share)
    limits = [-1.0, *range(10)]
    fine = [limit for limit in limits if sum(g > limit for g in good) <= allowed]
    assert escapes_at(good, bad, share) == sum(b <= min(fine) for b in bad) / len(bad)


@pytest.mark.parametrize(
    ("good", "bad"), [([], [1.0]), ([1.0], []), ([math.nan], [1.0]), ([1.0], [math.inf])]
)
def test_a_missing_class_or_a_score_that_is_no_number_is_an_error(
    good: list[float], bad: list[float]
) -> None:
    with pytest.raises(InputError, match="metrics"):
        auroc(good, bad)
    with pytest.raises(InputError, match="metrics"):
        escapes_at(good, bad, 0.01)
