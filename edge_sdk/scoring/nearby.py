"""The search around a patch's own place, laid out so that one library call does all of it.

The bank is kept once more, with the references' rows of one place side by side, so that no row is
copied for a frame and only places within reach are compared, save for some beside a tile.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from edge_sdk.records import FloatArray, IntArray
from edge_sdk.scoring.memory_bank import MemoryBank, cosine_distance

_TILE_COLS = 4
"""Neighbours in a line of the grid that are compared at once. More: more places beyond reach are
compared in vain; fewer: products too small to keep the processor busy."""


class NearbySearch:
    """Nearest row of each query among the patches at most ``reach`` cells away.

    Args:
        bank: of the references.
        reach: (rows, cols) a match may lie aside.
    """

    def __init__(self, bank: MemoryBank, reach: tuple[int, int]) -> None:
        rows, cols = bank.grid
        # Farther than the grid is wide there is nothing.
        self._reach = _, aside = min(reach[0], rows - 1), min(reach[1], cols - 1)
        self._grid = bank.grid
        self._references = references = bank.reference_count
        self._tiles = -(-cols // _TILE_COLS)
        dim = bank.rows.shape[1]
        places = np.zeros(
            (rows, self._tiles * _TILE_COLS + 2 * aside, references, dim), bank.rows.dtype
        )
        places[:, aside : aside + cols] = bank.rows.reshape(-1, rows, cols, dim).transpose(
            1, 2, 0, 3
        )
        line, place, *_ = places.strides
        self._candidates = as_strided(
            places,
            (rows, self._tiles, (_TILE_COLS + 2 * aside) * references, dim),
            (line, _TILE_COLS * place, places.strides[2], places.strides[3]),
            writeable=False,
        )

    def search(self, queries: FloatArray) -> tuple[FloatArray, IntArray]:
        """Nearest rows.

        Args:
            queries: (P, D) unit rows over the bank's own grid.

        Returns:
            As ``MemoryBank.search``: (P,) distance and (P,) row of the bank.
        """
        (rows, cols), (down, _) = self._grid, self._reach
        lines, tiles, dim = 2 * down + 1, self._tiles, queries.shape[1]
        padded = np.zeros((rows + 2 * down, tiles * _TILE_COLS, dim), queries.dtype)
        padded[down : down + rows, :cols] = queries.reshape(rows, cols, dim)
        # Line y of the bank serves the queries of the lines y - down to y + down.
        line, place, number = padded.strides
        served = as_strided(
            padded,
            (rows, tiles, lines, _TILE_COLS, dim),
            (line, _TILE_COLS * place, line, place, number),
            writeable=False,
        ).reshape(rows, tiles, lines * _TILE_COLS, dim)
        products = served @ self._candidates.swapaxes(2, 3)
        products = products.reshape(rows, tiles, lines, _TILE_COLS, -1, self._references)
        best, similarity = self._best(products)
        return cosine_distance(similarity), self._bank_rows(best)

    def _best(self, products: FloatArray) -> tuple[NDArray[np.intp], FloatArray]:
        """Largest product of each query, and where: (reference, line, place) around it.

        Args:
            products: (line of the bank, tile, line of the query as seen from there, column in the
                tile, place, reference).
        """
        (rows, cols), (down, aside) = self._grid, self._reach
        # In the bank's order, so that of equal products the first row of the bank is taken.
        around = np.full(
            (rows, self._tiles, _TILE_COLS, self._references, 2 * down + 1, 2 * aside + 1),
            -np.inf,
            products.dtype,
        )
        for step in range(-down, down + 1):
            first, last = max(0, -step), rows - max(0, step)
            seen = products[first + step : last + step, :, down - step]
            for column in range(_TILE_COLS):
                within = seen[:, :, column, column : column + 2 * aside + 1]
                around[first:last, :, column, :, down + step] = within.swapaxes(2, 3)
        by_column = around.reshape(rows, -1, *around.shape[3:])
        for place in range(2 * aside + 1):
            by_column[:, : max(0, aside - place), :, :, place] = -np.inf
            by_column[:, cols + aside - place :, :, :, place] = -np.inf
        flat = by_column[:, :cols].reshape(rows * cols, -1)
        best = flat.argmax(axis=1)
        return best, np.take_along_axis(flat, best[:, None], axis=1)[:, 0]

    def _bank_rows(self, best: NDArray[np.intp]) -> IntArray:
        """Rows of the bank from (reference, line, place) around each query."""
        (rows, cols), (down, aside) = self._grid, self._reach
        reference, around = np.divmod(best, (2 * down + 1) * (2 * aside + 1))
        line, place = np.divmod(around, 2 * aside + 1)
        y, x = np.divmod(np.arange(rows * cols), cols)
        rows_there = (reference * rows + y + line - down) * cols + x + place - aside
        return rows_there.astype(np.int32)
