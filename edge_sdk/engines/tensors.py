"""What a graph takes and gives, and the check that tensors fit before a runtime sees them.

Runtimes differ in what they let pass: one converts a float picture to bytes without a word, another
broadcasts. So every engine checks here, and says which tensor was wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from edge_sdk.errors import EngineError


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One input or output of a graph."""

    name: str
    dtype: str
    """numpy's name: ``uint8``, ``float32``."""
    shape: tuple[int | None, ...]
    """None where dynamic."""

    def __str__(self) -> str:
        return f"{self.name} {_shape_text(self.shape)} {self.dtype}"


def check_tensors(inputs: Sequence[TensorSpec], tensors: Mapping[str, NDArray[Any]]) -> None:
    """Refuse tensors that do not fit a graph's inputs.

    Raises:
        EngineError: a tensor is missing or unknown, or has another type, rank or size.
    """
    names = {spec.name for spec in inputs}
    if names != set(tensors):
        raise EngineError(f"inputs: expected {sorted(names)}, got {sorted(tensors)}")
    for spec in inputs:
        tensor = tensors[spec.name]
        fits = len(tensor.shape) == len(spec.shape) and all(
            got > 0 and expected in (None, got)
            for got, expected in zip(tensor.shape, spec.shape, strict=True)
        )
        if not fits or tensor.dtype.name != spec.dtype:
            raise EngineError(
                f"input {spec.name}: expected {_shape_text(spec.shape)} {spec.dtype}, "
                f"got {_shape_text(tensor.shape)} {tensor.dtype.name}"
            )


def one_line(error: Exception) -> str:
    """Return what a runtime said, without its line breaks, for a message or a log line."""
    return " ".join(str(error).split())


def _shape_text(shape: Sequence[int | None]) -> str:
    return "(" + ", ".join("N" if size is None else str(size) for size in shape) + ")"
