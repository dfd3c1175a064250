"""The quick searches against the plain ones, on real pictures: the clip that comes along."""

from __future__ import annotations

import numpy as np
import pytest
from commands import CLIP
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.bundle import open_bundle
from edge_sdk.capture.selector import open_source
from edge_sdk.config import EngineConfig
from edge_sdk.enrollment import choose_frames
from edge_sdk.imaging import connected_boxes
from edge_sdk.model import load_model
from edge_sdk.preprocess import Preprocessor
from edge_sdk.records import FloatArray, IntArray, TokenGrid
from edge_sdk.scoring.anywhere import AnywhereSearch, Workers
from edge_sdk.scoring.memory_bank import MemoryBank, build_memory_bank, cosine_distance
from edge_sdk.scoring.nearby import NearbySearch
from edge_sdk.scoring.nearest_neighbour import NearestNeighbourSettings, embed

LAST_GOOD_FRAME = 165
ROUNDING = 1e-6
"""Of a sum of 152 products of float32, taken in another order."""


def search_plainly(
    bank: MemoryBank, queries: FloatArray, reach: tuple[int, int] | None
) -> tuple[FloatArray, IntArray]:
    """All products in double precision, and the largest of those within reach."""
    rows, cols = bank.grid
    products = queries.astype(np.float64) @ bank.rows.T.astype(np.float64)
    if reach is not None:
        y, x = np.divmod(np.arange(rows * cols), cols)
        is_far = np.abs(y[:, None] - y) > reach[0]
        is_far |= np.abs(x[:, None] - x) > reach[1]
        products[np.tile(is_far, bank.reference_count)] = -np.inf
    return cosine_distance(products.max(axis=1)), products.argmax(axis=1).astype(np.int32)


@pytest.fixture(scope="module")
def clip_embeddings() -> tuple[list[TokenGrid], list[TokenGrid]]:
    """Of sixteen good pictures, and of ten along the clip, some of which are not."""
    model = load_model(open_bundle(None), EngineConfig())
    preprocess = Preprocessor(model.bundle.manifest.input)
    settings = NearestNeighbourSettings.from_spec(model.bundle.manifest.scorers[0])
    return tuple(  # type: ignore[return-value]  # two of them
        [
            embed(model.encoder.encode(preprocess(frame)), settings)
            for frame in choose_frames(
                open_source(f"file:{CLIP}", pace="every"), count=count, last_frame=last
            )
        ]
        for count, last in ((16, LAST_GOOD_FRAME), (10, None))
    )


@pytest.mark.parametrize("shots", [1, 4, 16])
@pytest.mark.parametrize("reach", [(1, 1), (2, 3), (0, 0), None])
def test_a_quick_search_finds_on_real_pictures_what_the_plain_one_finds(
    clip_embeddings: tuple[list[TokenGrid], list[TokenGrid]],
    shots: int,
    reach: tuple[int, int] | None,
) -> None:
    good, judged = clip_embeddings
    bank = build_memory_bank(good[:shots])
    quick = AnywhereSearch(bank, Workers(2)) if reach is None else NearbySearch(bank, reach)
    for picture in judged:
        distance, index = quick.search(picture.rows)
        expected, expected_index = search_plainly(bank, picture.rows, reach)
        assert np.abs(distance - expected).max() < ROUNDING
        # Where another row was taken, it is as near.
        for query in np.flatnonzero(index != expected_index):
            near = 1 - float(picture.rows[query].astype(np.float64) @ bank.rows[index[query]])
            assert near - expected[query] < ROUNDING


@given(
    size=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    seed=st.integers(0, 999),
    share=st.sampled_from((0.0, 0.02, 0.3, 1.0)),
    margin=st.tuples(st.integers(0, 9), st.integers(0, 9)),
)
def test_the_parts_of_a_mask_are_the_same_wherever_they_lie_in_the_picture(
    size: tuple[int, int], seed: int, share: float, margin: tuple[int, int]
) -> None:
    mask = np.random.default_rng(seed).random(size) < share
    down, right = margin
    framed = np.pad(mask, ((down, 3), (right, 4)))
    found = {(box.x, box.y, area) for box, area, _ in connected_boxes(mask)}
    moved = {(box.x - right, box.y - down, area) for box, area, _ in connected_boxes(framed)}
    assert found == moved
    seen = np.zeros_like(framed)
    for box, area, inside in connected_boxes(framed):
        assert inside.sum() == area
        seen[box.y : box.y + box.height, box.x : box.x + box.width] |= inside
    assert np.array_equal(seen, framed)
