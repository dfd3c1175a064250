"""The kept rows of the references, searched by cosine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_sdk.errors import InputError
from edge_sdk.records import FloatArray, IntArray, TokenGrid

_CHUNK_ROWS = 1024
"""Rows of the bank compared at a time, so that no [patches x bank] array is ever made and what is
made stays in the processor's cache."""


def unit_rows(rows: FloatArray) -> FloatArray:
    """Rows divided by max(their L2 norm, 1e-12), as torch's ``normalize`` does."""
    # An infinite token becomes NaN here, which the decision calls a fault; no warning is needed.
    with np.errstate(invalid="ignore", over="ignore"):
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(rows / np.maximum(norms, 1e-12))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MemoryBank:
    """Unit rows of several reference pictures, one after another."""

    rows: FloatArray
    """(N * P, D) unit rows: reference-major, then row-major over the grid."""
    grid: tuple[int, int]
    """(rows, cols) of every reference, P = rows * cols."""

    @property
    def reference_count(self) -> int:
        """N."""
        return len(self.rows) // (self.grid[0] * self.grid[1])

    def without(self, reference: int) -> MemoryBank:
        """The same bank without one reference."""
        patches = self.grid[0] * self.grid[1]
        kept = np.delete(self.rows.reshape(-1, patches, self.rows.shape[1]), reference, axis=0)
        return MemoryBank(rows=kept.reshape(-1, self.rows.shape[1]), grid=self.grid)

    def search(self, queries: FloatArray) -> tuple[FloatArray, IntArray]:
        """Nearest row of each query, anywhere.

        Args:
            queries: (P, D) unit rows.

        Returns:
            (P,) cosine distance 1 - cos, at least 0 (rounding below 0 is cut), and (P,) its row;
            of equal distances the first row. A query that is not finite has distance NaN.
        """
        best = np.full(len(queries), -np.inf, queries.dtype)
        index = np.zeros(len(queries), np.int32)
        for start in range(0, len(self.rows), _CHUNK_ROWS):
            similarity = queries @ self.rows[start : start + _CHUNK_ROWS].T
            candidate = similarity.argmax(axis=1)
            value = np.take_along_axis(similarity, candidate[:, None], axis=1)[:, 0]
            # "not <=" rather than ">", so that NaN takes over and stays.
            is_better = ~(value <= best) & ~np.isnan(best)
            best = np.where(is_better, value, best)
            index = np.where(is_better, candidate + start, index).astype(np.int32)
        return cosine_distance(best), index


def cosine_distance(similarity: FloatArray) -> FloatArray:
    """1 - similarity, at least 0; NaN where a query was not finite."""
    finite = np.where(np.isfinite(similarity), similarity, np.nan)
    return np.asarray(np.maximum(1 - finite, 0), similarity.dtype)


def build_memory_bank(embeddings: Sequence[TokenGrid]) -> MemoryBank:
    """Stack the unit rows of several references.

    Raises:
        InputError: no reference at all, references of several grids, or a value not finite.
    """
    grids = sorted({embedding.grid for embedding in embeddings})
    if len(grids) != 1:
        raise InputError(
            f"references: expected pictures on one grid of patches, got {grids or 'no pictures'}"
        )
    rows = np.concatenate([embedding.rows for embedding in embeddings])
    if not np.isfinite(rows).all():
        raise InputError("references: tokens are not finite")
    if any(not embedding.rows.any() for embedding in embeddings):
        raise InputError("references: a picture's tokens are all zero; the graph says nothing")
    return MemoryBank(rows=np.ascontiguousarray(rows), grid=grids[0])
