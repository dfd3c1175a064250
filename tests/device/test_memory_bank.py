from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_sdk.errors import InputError
from edge_sdk.records import FloatArray, IntArray, TokenGrid
from edge_sdk.scoring import memory_bank
from edge_sdk.scoring.anywhere import AnywhereSearch, Workers
from edge_sdk.scoring.memory_bank import MemoryBank, build_memory_bank, unit_rows
from edge_sdk.scoring.nearby import NearbySearch

Found: TypeAlias = tuple[FloatArray, IntArray]
CHUNK = memory_bank._CHUNK_ROWS


def unit(rows: Any) -> FloatArray:
    return unit_rows(np.asarray(rows, np.float32))


def random_rows(count: int, dim: int, *, seed: int = 0) -> FloatArray:
    return unit(np.random.default_rng(seed).normal(size=(count, dim)))


def exact_rows(draw: st.DrawFn, count: int) -> FloatArray:
    """Unit rows of four halves, plus or minus: products are exact, and many are equal."""
    signs = draw(st.lists(st.integers(0, 15), min_size=count, max_size=count))
    bits = np.array([[(sign >> bit) & 1 for bit in range(4)] for sign in signs])
    return (bits - 0.5).astype(np.float32)


def brute_force(
    bank: MemoryBank, queries: FloatArray, reach: tuple[int, int] | None
) -> tuple[NDArray[np.float64], list[int]]:
    """Distances and first nearest rows, one by one in double precision."""
    rows, cols = bank.grid
    stored = bank.rows.astype(np.float64)
    distances, indices = [], []
    for number, query in enumerate(queries.astype(np.float64)):
        best, where = np.inf, -1
        for candidate, row in enumerate(stored):
            patch = candidate % (rows * cols)
            down = abs(patch // cols - number // cols)
            aside = abs(patch % cols - number % cols)
            if reach is not None and (down > reach[0] or aside > reach[1]):
                continue
            distance = 1 - float(query @ row)
            if distance < best:
                best, where = distance, candidate
        distances.append(best)
        indices.append(where)
    return np.array(distances), indices


def search(bank: MemoryBank, queries: FloatArray, reach: tuple[int, int] | None) -> Found:
    if reach is None:
        return AnywhereSearch(bank, Workers(3)).search(queries)
    return NearbySearch(bank, reach).search(queries)


@st.composite
def exact_cases(draw: st.DrawFn) -> tuple[MemoryBank, FloatArray, tuple[int, int]]:
    grid = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    patches = grid[0] * grid[1]
    bank = MemoryBank(rows=exact_rows(draw, draw(st.integers(1, 3)) * patches), grid=grid)
    reach = draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    return bank, exact_rows(draw, patches), reach


@given(case=exact_cases(), is_nearby=st.booleans())
def test_a_search_finds_what_a_loop_finds_and_the_first_of_equals(
    case: tuple[MemoryBank, FloatArray, tuple[int, int]], is_nearby: bool
) -> None:
    bank, queries, reach = case
    wanted = reach if is_nearby else None
    distance, index = search(bank, queries, wanted)
    expected_distance, expected_index = brute_force(bank, queries, wanted)
    assert np.array_equal(distance, expected_distance)
    assert index.tolist() == expected_index
    assert distance.dtype == np.float32
    assert index.dtype == np.int32


@given(
    grid=st.tuples(st.integers(1, 6), st.integers(1, 11)),
    references=st.integers(1, 4),
    reach=st.none() | st.tuples(st.integers(0, 6), st.integers(0, 6)),
    seed=st.integers(0, 999),
)
def test_a_search_among_any_rows_agrees_with_double_precision(
    grid: tuple[int, int], references: int, reach: tuple[int, int] | None, seed: int
) -> None:
    patches = grid[0] * grid[1]
    bank = MemoryBank(rows=random_rows(references * patches, 7, seed=seed), grid=grid)
    queries = random_rows(patches, 7, seed=seed + 1000)
    distance, index = search(bank, queries, reach)
    expected, first = brute_force(bank, queries, reach)
    assert np.abs(distance - expected).max() < 1e-6
    assert index.tolist() == first


@given(grid=st.tuples(st.integers(1, 5), st.integers(1, 5)), seed=st.integers(0, 99))
def test_looking_nearby_with_a_huge_reach_is_looking_anywhere(
    grid: tuple[int, int], seed: int
) -> None:
    patches = grid[0] * grid[1]
    bank = MemoryBank(rows=random_rows(3 * patches, 5, seed=seed), grid=grid)
    queries = random_rows(patches, 5, seed=seed + 100)
    anywhere = bank.search(queries)
    distance, index = search(bank, queries, (1000, 1000))
    assert np.abs(anywhere[0] - distance).max() < 1e-6
    assert np.array_equal(anywhere[1], index)


def test_a_reach_has_rows_first() -> None:
    rows = np.eye(12, dtype=np.float32)
    bank = MemoryBank(rows=rows, grid=(3, 4))
    below = np.roll(rows, -4, axis=0)  # each query is the patch below it
    distance, index = search(bank, below, (1, 0))
    assert index[:8].tolist() == list(range(4, 12))
    assert distance[:8].max() == 0
    distance, _ = search(bank, below, (0, 3))
    assert distance[:8].min() == 1


@pytest.mark.parametrize("dim", [3, 40, 384])
def test_a_row_of_the_bank_is_at_distance_zero_and_never_below(dim: int) -> None:
    bank = MemoryBank(rows=random_rows(600, dim), grid=(10, 20))
    queries = bank.rows[200:400]
    for found in (bank.search(queries), search(bank, queries, (2, 2))):
        assert found[1].tolist() == list(range(200, 400))
        assert found[0].min() >= 0
        assert found[0].max() < 1e-6


@pytest.mark.parametrize("place", [0, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK])
def test_the_nearest_row_is_found_on_both_sides_of_a_chunk_border(place: int) -> None:
    rows = np.zeros((2 * CHUNK + 1, 4), np.float32)
    rows[:, 0] = 1
    rows[place] = (0, 1, 0, 0)
    bank = MemoryBank(rows=rows, grid=(1, 2 * CHUNK + 1))
    queries = np.array([[0, 1, 0, 0], [0.5, 0.5, 0.5, 0.5]], np.float32)
    distance, index = bank.search(queries)
    assert distance.tolist() == [0, 0.5]
    assert index.tolist() == [place, 0]


@pytest.mark.parametrize("second", [5, CHUNK - 1, CHUNK, 2 * CHUNK])
def test_of_equal_rows_in_different_chunks_the_first_is_taken(second: int) -> None:
    rows = np.zeros((2 * CHUNK + 1, 4), np.float32)
    rows[:, 0] = 1
    rows[[3, second]] = (0, 0, 1, 0)
    bank = MemoryBank(rows=rows, grid=(1, 2 * CHUNK + 1))
    _, index = bank.search(np.array([[0, 0, 1, 0]], np.float32))
    assert index.tolist() == [3]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_query_that_is_not_finite_has_no_distance(value: float) -> None:
    bank = MemoryBank(rows=random_rows(2 * CHUNK, 4), grid=(2, CHUNK))
    queries = random_rows(2 * CHUNK, 4, seed=1)[: 2 * CHUNK].copy()
    queries[1, 2] = value
    with np.errstate(invalid="ignore"):
        anywhere, _ = bank.search(queries[:4])
        small = MemoryBank(rows=bank.rows[:12], grid=(2, 3))
        nearby, index = search(small, queries[:6], (1, 1))
    assert 0 <= index[1] < len(small.rows)
    for distance in (anywhere, nearby):
        assert not np.isfinite(distance[1])
        assert np.isfinite(np.delete(distance, 1)).all()


@given(references=st.integers(2, 5), left_out=st.integers(0, 4), seed=st.integers(0, 99))
def test_a_reference_that_is_left_out_is_gone_and_the_others_stay(
    references: int, left_out: int, seed: int
) -> None:
    left_out %= references
    bank = MemoryBank(rows=random_rows(references * 6, 3, seed=seed), grid=(2, 3))
    smaller = bank.without(left_out)
    kept = [number for number in range(references) if number != left_out]
    expected = np.concatenate([bank.rows[number * 6 : number * 6 + 6] for number in kept])
    assert np.array_equal(smaller.rows, expected)
    assert (smaller.reference_count, smaller.grid) == (references - 1, (2, 3))
    assert bank.reference_count == references


def test_rows_are_brought_to_length_one_and_a_row_of_zeros_stays() -> None:
    rows = unit_rows(np.array([[3, 4], [0, 0], [1e-6, 0]], np.float32))
    assert rows.tolist() == [pytest.approx([0.6, 0.8]), [0, 0], pytest.approx([1, 0])]


def grid_of(rows: Any, shape: tuple[int, int]) -> TokenGrid:
    return TokenGrid(rows=unit(rows), grid=shape)


def test_a_bank_holds_its_references_one_after_another() -> None:
    first, second = random_rows(6, 3, seed=1), random_rows(6, 3, seed=2)
    bank = build_memory_bank([grid_of(first, (2, 3)), grid_of(second, (2, 3))])
    assert np.allclose(bank.rows, np.concatenate([first, second]))
    assert (bank.reference_count, bank.grid) == (2, (2, 3))


def test_a_bank_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="got no pictures"):
        build_memory_bank([])


def test_references_on_different_grids_are_refused() -> None:
    pictures = [grid_of(random_rows(6, 3), (2, 3)), grid_of(random_rows(6, 3), (3, 2))]
    with pytest.raises(InputError, match=r"one grid of patches, got \[\(2, 3\), \(3, 2\)\]"):
        build_memory_bank(pictures)


def test_a_reference_with_a_value_that_is_not_finite_is_refused() -> None:
    rows = random_rows(6, 3).copy()
    rows[4, 1] = np.nan
    with pytest.raises(InputError, match="tokens are not finite"):
        build_memory_bank([TokenGrid(rows=rows, grid=(2, 3))])


def test_references_of_which_the_backbone_says_nothing_are_refused() -> None:
    silent = TokenGrid(rows=unit(np.zeros((6, 3))), grid=(2, 3))
    with pytest.raises(InputError, match="zero"):
        build_memory_bank([silent, silent])
