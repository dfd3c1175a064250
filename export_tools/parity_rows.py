"""What a comparison with the torch model found: rows, their limits, their table and the gate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from edge_sdk.errors import GateError

HEADER = (
    f"{'engine':<12} {'precision':<9} {'compared':<16} {'pictures':>8} {'max |Δ|':>9} "
    f"{'mean |Δ|':>9} {'relative':>9} {'disagreement':>12} {'flips':>5}  verdict"
)
"""First line of the table; ``disagreement``: 1 - cosine of tokens, 1 - rank correlation of maps."""
SMALLEST_BOUND = 1e-6
"""Below this, what is measured is the order in which a CPU adds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How far an exported graph may be from the torch model."""

    tokens: float
    """Largest relative error of a token."""
    maps: float
    """Largest difference of a map, over the range of the reference maps."""
    verdict_flips: int


LIMITS: Mapping[str, Limits] = MappingProxyType(
    {"fp32": Limits(tokens=1e-4, maps=1e-4, verdict_flips=0)}
)
"""Precision -> limits; a precision without limits passes no gate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenParity:
    """One token output of one graph against torch. Values are NaN where anything was not finite."""

    engine: str
    precision: str
    output: str
    pictures: int
    max_abs: float
    mean_abs: float
    relative_error: float
    """Largest |Δ token| over the root mean square length of that picture's tokens."""
    cosine_min: float
    """Lowest cosine between a token and its reference."""

    @property
    def failures(self) -> tuple[str, ...]:
        """What breaks the limits; empty: nothing."""
        limits = LIMITS.get(self.precision)
        if limits is None:
            return (f"no limits are set for precision {self.precision}",)
        if not all(map(math.isfinite, (self.max_abs, self.relative_error, self.cosine_min))):
            return ("values that are not finite",)
        if self.relative_error > limits.tokens:
            return (f"relative error {self.relative_error:.2g}, limit {limits.tokens:g}",)
        return ()

    @property
    def compared(self) -> str:
        """What the row is about."""
        return f"tokens {self.output}"

    def __str__(self) -> str:
        return _line(self, 1 - self.cosine_min, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class MapParity:
    """Maps, scores and verdicts through one graph against those through torch."""

    engine: str
    precision: str
    pictures: int
    max_abs: float
    mean_abs: float
    relative_error: float
    """``max_abs`` over the range of all reference maps."""
    rank_correlation: float
    """Spearman's, of the image scores."""
    verdict_flips: int
    """Pictures on the other side of the threshold, or with a score that is not finite."""
    compared: str = "maps and scores"
    """What the row is about."""

    @property
    def failures(self) -> tuple[str, ...]:
        """What breaks the limits; empty: nothing."""
        limits = LIMITS.get(self.precision)
        if limits is None:
            return (f"no limits are set for precision {self.precision}",)
        found = []
        if not all(map(math.isfinite, (self.max_abs, self.relative_error, self.rank_correlation))):
            found.append("values that are not finite")
        elif self.relative_error > limits.maps:
            found.append(f"difference {self.relative_error:.2g} of range, limit {limits.maps:g}")
        if self.verdict_flips > limits.verdict_flips:
            found.append(f"verdict flips {self.verdict_flips}, limit {limits.verdict_flips}")
        return tuple(found)

    def __str__(self) -> str:
        return _line(self, 1 - self.rank_correlation, str(self.verdict_flips))


def _line(row: TokenParity | MapParity, disagreement: float, flips: str) -> str:
    return (
        f"{row.engine:<12} {row.precision:<9} {row.compared:<16} {row.pictures:>8} "
        f"{row.max_abs:>9.1e} {row.mean_abs:>9.1e} {row.relative_error:>9.1e} "
        f"{disagreement:>12.1e} {flips:>5}  {'; '.join(row.failures) or 'ok'}"
    )


def check_gate(rows: Sequence[TokenParity | MapParity]) -> None:
    """Refuse a graph that is not faithful.

    Raises:
        GateError: names every row that breaks its limits; also raised where there are no rows.
    """
    if not rows:
        raise GateError("parity: nothing was compared")
    broken = [
        f"{row.engine} {row.precision} {row.compared}: {'; '.join(row.failures)}"
        for row in rows
        if row.failures
    ]
    if broken:
        raise GateError("parity: " + " | ".join(broken))


def as_bound(value: float) -> float:
    """Round a measured error up to a power of ten, not below ``SMALLEST_BOUND``.

    Errors differ in their digits between CPUs. The bound does not, so that the same export writes
    the same manifest everywhere.

    Raises:
        GateError: the error is negative or not finite.
    """
    if not (math.isfinite(value) and value >= 0):
        raise GateError(f"parity: expected a finite error of 0 or more, got {value}")
    exponent = round(math.log10(SMALLEST_BOUND))
    while float(f"1e{exponent}") < value:  # compared as written: logarithms round
        exponent += 1
    return float(f"1e{exponent}")
