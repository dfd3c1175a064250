"""Fewer rows of a memory: what is left out is near what is kept, and rows keep their names."""

from __future__ import annotations

import numpy as np
import pytest

from edge_sdk.errors import InputError
from edge_sdk.scoring.coreset import choose_coreset
from edge_sdk.scoring.memory_bank import MemoryBank, unit_rows


def clusters(count: int, each: int, *, seed: int = 0) -> MemoryBank:
    """Rows in tight clusters, in turn, as two references on a grid of ``count * each / 2``."""
    generator = np.random.default_rng(seed)
    centres = unit_rows(generator.normal(size=(count, 16)).astype(np.float32))
    rows = np.tile(centres, (each, 1)) + 0.01 * generator.normal(size=(count * each, 16))
    return MemoryBank(rows=unit_rows(rows.astype(np.float32)), grid=(1, count * each // 2))


def test_one_row_of_each_cluster_is_kept_before_a_second_of_any() -> None:
    bank = clusters(8, 20)
    found = choose_coreset(bank, 8 / 160)
    assert sorted(found.origin % 8) == list(range(8))
    assert found.radius < 0.15


def test_the_whole_is_kept_where_all_is_wanted() -> None:
    bank = clusters(4, 6)
    found = choose_coreset(bank, 1.0)
    assert (found.origin == np.arange(24)).all()
    np.testing.assert_array_equal(found.rows, bank.rows)
    assert found.radius == pytest.approx(0, abs=1e-3)


def test_no_distance_is_too_short_and_none_too_long_by_more_than_the_radius() -> None:
    generator = np.random.default_rng(3)
    rows = unit_rows(generator.normal(size=(300, 8)).astype(np.float32))
    bank = MemoryBank(rows=rows, grid=(10, 10))
    queries = unit_rows(generator.normal(size=(200, 8)).astype(np.float32))
    exact, _ = bank.search(queries)
    for share in (0.02, 0.1, 0.5):
        found = choose_coreset(bank, share)
        distance, row = found.search(queries)
        assert (distance >= exact - 1e-6).all()
        assert (np.sqrt(2 * distance) <= np.sqrt(2 * exact) + found.radius + 1e-3).all()
        origin = found.origin[row]
        np.testing.assert_allclose(1 - (queries * rows[origin]).sum(axis=1), distance, atol=1e-6)


def test_leaving_a_reference_out_leaves_the_rows_of_the_others_under_their_new_names() -> None:
    bank = clusters(6, 10)  # 30 patches a reference
    found = choose_coreset(bank, 0.5)
    first = found.without(0)
    assert first.reference_count == 1
    kept = found.origin >= 30
    assert (first.origin == found.origin[kept] - 30).all()
    np.testing.assert_array_equal(first.rows, found.rows[kept])
    second = found.without(1)
    assert (second.origin == found.origin[~kept]).all()
    with pytest.raises(InputError, match=r"coreset: all 1 rows kept are of one reference"):
        choose_coreset(bank, 0.001).without(0)
