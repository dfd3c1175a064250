"""One engine for several threads: one at a time."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from edge_sdk.protocols import InferenceEngine


class SharedEngine:
    """An ``InferenceEngine`` that makes other threads wait.

    While a camera changes to another reference set, a second thread encodes; the other cameras go
    on between its pictures.

    Args:
        engine: not for several threads at once.
    """

    def __init__(self, engine: InferenceEngine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self.inputs = engine.inputs
        self.outputs = engine.outputs
        self.device = engine.device

    def infer(self, tensors: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Run the graph once, when no other thread does.

        Raises:
            EngineError: as of the engine.
        """
        with self._lock:
            return self._engine.infer(tensors)

    def close(self) -> None:
        """Free the graph."""
        with self._lock:
            self._engine.close()
