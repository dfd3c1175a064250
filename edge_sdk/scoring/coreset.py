"""Fewer rows of a memory, chosen so that every row left out is near one that is kept.

Greedy k-centre ("PatchCore", arXiv 2106.08265; Gonzalez 1985): the next row kept is the one that is
farthest from all kept so far. No distance found through it is too short, and none is too long by
more than the radius: ``sqrt(2 d') <= sqrt(2 d) + radius`` for cosine distances d and d' of the
whole memory and of what is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_sdk.errors import InputError
from edge_sdk.records import FloatArray, IntArray
from edge_sdk.scoring.memory_bank import MemoryBank


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Coreset:
    """Some rows of a memory, and which they are; searched like the whole."""

    rows: FloatArray
    """(K, D) unit rows."""
    origin: IntArray
    """(K,) row of the whole memory, ascending."""
    patches: int
    """Of each reference."""
    reference_count: int
    radius: float
    """Largest Euclidean distance of a row that was left out to the nearest one kept, 0 to 2."""

    def without(self, reference: int) -> Coreset:
        """The same rows but those of one reference; they were chosen beside it.

        Raises:
            InputError: all rows kept are of that reference.
        """
        owner = self.origin // self.patches
        stays = owner != reference
        if not stays.any():
            raise InputError(
                f"coreset: all {len(self.rows)} rows kept are of one reference; keep a larger "
                "share (engine.coreset)"
            )
        origin = self.origin - self.patches * (owner > reference)
        return Coreset(
            rows=self.rows[stays],
            origin=origin[stays].astype(np.int32),
            patches=self.patches,
            reference_count=self.reference_count - 1,
            radius=self.radius,
        )

    def search(self, queries: FloatArray) -> tuple[FloatArray, IntArray]:
        """Nearest row kept of each query, as ``MemoryBank.search``, counted in ``rows``."""
        return MemoryBank(rows=self.rows, grid=(1, len(self.rows))).search(queries)


def choose_coreset(bank: MemoryBank, share: float) -> Coreset:
    """Keep a share of a memory's rows.

    Args:
        bank: unit rows, float32.
        share: of the rows, above 0 and at most 1; at least one row is kept.
    """
    wanted = max(1, round(share * len(bank.rows)))
    kept = np.zeros(wanted, np.int32)  # the first one kept is row 0: the same every time
    nearest = bank.rows @ bank.rows[0]
    for place in range(1, wanted):
        farthest = int(nearest.argmin())
        kept[place] = farthest
        np.maximum(nearest, bank.rows @ bank.rows[farthest], out=nearest)
    origin = np.unique(kept)
    return Coreset(
        rows=np.ascontiguousarray(bank.rows[origin]),
        origin=origin,
        patches=bank.grid[0] * bank.grid[1],
        reference_count=bank.reference_count,
        radius=float(np.sqrt(2 * max(0.0, 1 - float(nearest.min())))),
    )
