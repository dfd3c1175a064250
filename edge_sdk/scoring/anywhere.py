"""The search of a whole bank, shared among threads while the inference runtime's rest."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from edge_sdk.records import FloatArray, IntArray
from edge_sdk.scoring.memory_bank import MemoryBank


class Workers:
    """Threads that compute beside the calling one; started when they are first needed.

    Args:
        threads: compute threads, the calling one included.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.pool = (
            ThreadPoolExecutor(threads - 1, thread_name_prefix="matching") if threads > 1 else None
        )


class AnywhereSearch:
    """Nearest row of each query, anywhere: ``MemoryBank.search``, the queries shared out.

    Args:
        bank: of the references.
        workers: who computes.
    """

    def __init__(self, bank: MemoryBank, workers: Workers) -> None:
        self._bank = bank
        self._workers = workers

    def search(self, queries: FloatArray) -> tuple[FloatArray, IntArray]:
        """Nearest rows; arguments and results as of ``MemoryBank.search``."""
        if self._workers.pool is None:
            return self._bank.search(queries)
        own, *others = np.array_split(queries, self._workers.threads)
        waiting = [self._workers.pool.submit(self._bank.search, part) for part in others]
        found = [self._bank.search(own), *(future.result() for future in waiting)]
        distances, rows = zip(*found, strict=True)
        return np.concatenate(distances), np.concatenate(rows)
