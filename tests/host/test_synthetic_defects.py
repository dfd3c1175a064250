from __future__ import annotations

import numpy as np
import pytest
from scenes import fixture_part
from training_data import large

from edge_sdk.errors import InputError
from edge_sdk.records import UInt8Array
from export_tools.training.nuisance import spoil_harmlessly
from export_tools.training.synthetic import KINDS, VISIBLE, paste_defect

SEEDS = range(8)


def busy(seed: int = 0) -> UInt8Array:
    """A surface with detail everywhere, so that every kind of defect shows on it."""
    grain = np.random.default_rng(seed).integers(40, 216, (96, 128, 3))
    return np.asarray(grain, np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_marks_what_has_changed_and_nothing_else(kind: str) -> None:
    for seed in SEEDS:
        good = busy(seed)
        spoilt, mask = paste_defect(good, np.random.default_rng(seed), kind=kind)
        difference = np.abs(spoilt.astype(int) - good).max(axis=2)
        assert (difference[~mask] == 0).all(), "nothing outside of the mask is touched"
        assert mask.any()
        assert 0 < mask.mean() < 0.5
        assert (difference[mask] >= VISIBLE).mean() > 0.5, "most of what is marked can be seen"


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_pastes_the_same_defect_and_another_seed_another(kind: str) -> None:
    first, again, other = (
        paste_defect(busy(), np.random.default_rng(seed), kind=kind)[0] for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_chance_comes_upon_every_kind_of_size() -> None:
    part = large(fixture_part(0))
    shares = [paste_defect(part, np.random.default_rng(seed))[1].mean() for seed in range(60)]
    assert min(shares) < 0.005
    assert max(shares) > 0.03


def test_a_grey_picture_stays_grey_or_its_colour_would_give_the_defect_away() -> None:
    grey = np.repeat(busy()[:, :, :1], 3, axis=2)
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        moved, _ = spoil_harmlessly(grey, np.zeros(grey.shape[:2], bool), rng)
        spoilt, _ = paste_defect(moved, rng)
        assert (spoilt == spoilt[:, :, :1]).all()


def test_a_picture_too_small_to_show_a_defect_is_refused() -> None:
    with pytest.raises(InputError, match="none of 12 attempts shows on a picture of 3x3 px"):
        paste_defect(np.zeros((3, 3, 3), np.uint8), np.random.default_rng(0))


def test_what_was_bad_before_moves_along_with_the_camera() -> None:
    picture = np.zeros((200, 200, 3), np.uint8)
    picture[80:120, 80:120] = 200
    mask = picture[:, :, 0] > 0
    for seed in SEEDS:
        moved, marked = spoil_harmlessly(picture, mask, np.random.default_rng(seed))
        assert np.mean((moved[:, :, 0] > 100) != marked) < 0.002
