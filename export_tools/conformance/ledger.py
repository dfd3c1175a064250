"""Rows: what was expected, how far off it came, and what nobody claimed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far two arrays may be apart: ``absolute + relative * max |expected|``."""

    absolute: float = 0.0
    relative: float = 0.0

    def limit(self, expected: Array) -> float:
        """The largest |difference| allowed."""
        if not self.relative or not expected.size:
            return self.absolute
        return self.absolute + self.relative * float(np.abs(expected).max())


EXACT = Tolerance()
FEATURE = Tolerance(absolute=1e-4)
"""Features and logits."""
PROBABILITY = Tolerance(absolute=1e-5)
"""Probabilities, distances, maps and scores."""
METRIC = Tolerance(absolute=1e-5)
SQUASHED_CURVE = Tolerance(absolute=5e-4)
"""Points of a curve over sigmoids in float32: which values tie depends on the processor, and one
tie moves single points this far (the area by less than 1e-5)."""
LOSS = Tolerance(relative=1e-5)
GRADIENT = Tolerance(relative=1e-3)
STATE = Tolerance(absolute=2e-5, relative=1e-5)
"""Parameters and batch-norm statistics after steps of 1e-3."""
PIXEL = Tolerance(absolute=2e-6)
"""Pictures as the tower reads them, by Pillow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What this implementation says one array is."""

    file: str
    key: str
    value: Array
    tolerance: Tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One array of the set."""

    file: str
    key: str
    passed: bool
    error: float | None
    """Largest |difference|; None where nothing could be compared."""
    limit: float | None
    remark: str
    """Why it fails; empty where it passes."""


Check: TypeAlias = Callable[[], Iterable[Answer]]


def compare(expected: Mapping[tuple[str, str], Array], answers: Iterable[Answer]) -> Iterator[Row]:
    """One row for each array of the set, in the order of the set.

    Args:
        expected: by file and key.
        answers: any order; those that the set does not ask for are left out.
    """
    known = {(answer.file, answer.key): answer for answer in answers}
    for (file, key), array in expected.items():
        answer = known.get((file, key))
        if answer is None:
            yield Row(
                file=file,
                key=key,
                passed=False,
                error=None,
                limit=None,
                remark="no check claims this array",
            )
        else:
            yield _row(answer, array)


def _row(answer: Answer, expected: Array) -> Row:
    got = np.asarray(answer.value)
    error: float | None = None
    limit: float | None = None
    if got.shape != expected.shape:
        remark = f"expected the shape {expected.shape}, got {got.shape}"
    elif expected.dtype.kind not in "fiub" or got.dtype.kind not in "fiub":
        remark = "" if np.array_equal(got, expected) else "differs"
        error, limit = (0.0, 0.0) if not remark else (None, 0.0)
    else:
        limit = answer.tolerance.limit(expected)
        error = _largest_difference(got, expected)
        remark = "" if error <= limit else f"differs at {_worst(got, expected)}"
        if not np.isfinite(error):
            remark, error = "a value is not finite", None
    return Row(
        file=answer.file,
        key=answer.key,
        passed=not remark,
        error=error,
        limit=limit,
        remark=remark,
    )


def _largest_difference(got: Array, expected: Array) -> float:
    """Both not a number at the same place is agreement; one alone is infinitely wrong."""
    difference = np.abs(got.astype(np.float64) - expected.astype(np.float64))
    both = np.isnan(got.astype(np.float64)) & np.isnan(expected.astype(np.float64))
    difference = np.where(both, 0.0, np.where(np.isnan(difference), np.inf, difference))
    return float(difference.max(initial=0.0))


def _worst(got: Array, expected: Array) -> list[int]:
    difference = np.abs(got.astype(np.float64) - expected.astype(np.float64))
    flat = int(np.nanargmax(difference)) if difference.size else 0
    return [int(i) for i in np.unravel_index(flat, expected.shape)]
