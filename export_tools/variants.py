"""The other graphs of a bundle: other formats and fewer bits, each written only if it is proven.

They are made and judged in one order, whatever the order in which they were asked for, so that the
same bundle comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from edge_sdk.bundle.fields import GraphFormat, Precision
from edge_sdk.errors import EngineError, GateError, InputError
from export_tools.candidates import NotMade, Workshop
from export_tools.gates import (
    VARIANT_HEADER,
    GraphFile,
    Judge,
    Judged,
    VariantRow,
    compare,
    refused,
)

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8")
TORCH: Final = "torch"
"""The format, and the engine that alone runs it."""
FORMATS: tuple[GraphFormat, ...] = ("onnx", "openvino", TORCH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What was asked for.

    The fp32 ONNX graph is always written: it is what the others are held against. So is fp32 of
    format ``torch`` where that format is wanted, which is compared like an engine of its own.
    """

    precisions: tuple[Precision, ...] = ("fp32",)
    formats: tuple[GraphFormat, ...] = ("onnx",)

    @property
    def is_plain(self) -> bool:
        """Whether nothing is to be judged beside fp32 as it was compared with torch."""
        return not list(self.pairs())

    def pairs(self) -> Iterator[tuple[Precision, GraphFormat]]:
        """What is to be judged, always in the same order."""
        for precision in PRECISIONS:
            for kind in FORMATS:
                is_asked = precision in self.precisions and kind in self.formats
                if is_asked and can_be(precision, kind) and (precision, kind) not in _COMPARED:
                    yield precision, kind


_COMPARED = (("fp32", "onnx"), ("fp32", TORCH))


def can_be(precision: Precision, kind: GraphFormat) -> bool:
    """Whether there is such a thing: torch knows fp16 and bf16 by autocast, the others int8."""
    if kind == TORCH:
        return precision != "int8"
    return precision != "bf16"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Variants:
    """What came of it."""

    graphs: tuple[GraphFile, ...]
    """Those that passed."""
    rows: tuple[VariantRow, ...]
    """Every one that was tried, the refused ones, too; one for each way of judging."""


def make_variants(
    workshop: Workshop,
    wanted: Wanted,
    *,
    judge: Judge,
    is_bad: Sequence[bool | None],
    show: Callable[[str], None],
    has_random_weights: bool = False,
) -> Variants:
    """Make what is wanted, compare each with the exact graph, and keep what passes.

    Args:
        workshop: makes them.
        wanted: what to make.
        judge: runs all pictures through a graph.
        is_bad: of each judged picture; None: not known.
        show: takes each row of the table as it is known.
        has_random_weights: nothing was trained, so that fewer bits stay unproven.

    Raises:
        GateError: a single precision was asked for by name, and nothing of it passes.
        InputError: calibration pictures cannot be used.
        EngineError: no engine runs the exact graph.
    """
    exact = judge(workshop.exact)
    show(VARIANT_HEADER)
    kept: list[GraphFile] = []
    rows: list[VariantRow] = []
    for precision, kind in wanted.pairs():
        for candidate in workshop.candidates(precision, kind):
            found = _rows(
                candidate, exact, judge, is_bad=is_bad, has_random_weights=has_random_weights
            )
            for row in found:
                show(str(row))
            rows += found
            if isinstance(candidate, GraphFile) and not any(row.failures for row in found):
                kept.append(candidate)
                break
    _check_asked(wanted, kept, rows)
    return Variants(graphs=tuple(kept), rows=tuple(rows))


def _rows(
    candidate: GraphFile | NotMade,
    exact: Sequence[Judged],
    judge: Judge,
    *,
    is_bad: Sequence[bool | None],
    has_random_weights: bool,
) -> list[VariantRow]:
    if isinstance(candidate, NotMade):
        return [refused(candidate.graph, candidate.problem)]
    try:
        judged = judge(candidate)
    except (EngineError, InputError) as error:
        return [refused(candidate, str(error))]
    return [
        compare(*pair, candidate, is_bad=is_bad, has_random_weights=has_random_weights)
        for pair in zip(exact, judged, strict=True)
    ]


def _check_asked(wanted: Wanted, kept: Sequence[GraphFile], rows: Sequence[VariantRow]) -> None:
    """fp32 must never fail; another precision may, unless it was asked for by name and alone."""
    exact = [row for row in rows if row.precision == "fp32" and row.failures]
    if exact:
        raise GateError(f"{exact[0].format} fp32: {'; '.join(exact[0].failures)}")
    (alone, *others) = wanted.precisions
    if others or alone == "fp32" or any(one.precision == alone for one in kept):
        return
    whys = "; ".join(
        f"{row.format} ({row.recipe}): {', '.join(row.failures)}" for row in rows if row.failures
    )
    raise GateError(f"{alone} was asked for and does not pass: {whys}")
