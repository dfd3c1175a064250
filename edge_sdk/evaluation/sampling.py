"""Which good pictures become references: the same for the same seed, everywhere."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from edge_sdk.errors import InputError

Sampling: TypeAlias = Literal["without_replacement", "adaptclip"]


def draw_references(
    available: int, shots: int | None, seed: int, sampling: Sampling = "without_replacement"
) -> list[int]:
    """Indices into the sorted good pictures of a category.

    Args:
        available: how many there are.
        shots: how many to draw; None: all of them, in order.
        seed: of the draw.
        sampling: ``without_replacement``, or ``adaptclip`` for the published protocol, which
            draws **with** replacement: index j is the j-th 32-bit output of the standard Mersenne
            Twister of that seed, modulo ``available`` (what torch's ``randint`` gives).

    Raises:
        InputError: fewer pictures than shots.
    """
    if shots is None:
        return list(range(available))
    if sampling == "adaptclip":
        # RandomState seeds its generator as the reference implementation does; MT19937 does not.
        twister = np.random.RandomState(seed)
        outputs = twister.randint(0, 2**32, size=shots, dtype=np.uint32)
        return [int(value) % available for value in outputs]
    if shots > available:
        raise InputError(f"expected at least {shots} good pictures to draw from, got {available}")
    return [int(i) for i in np.random.default_rng(seed).choice(available, shots, replace=False)]
