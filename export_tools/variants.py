"""The other graphs of a bundle: other formats and fewer bits, each written only if it is proven.

They are made and judged in one order, whatever the order in which they were asked for, so that the
same bundle comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from edge_sdk.bundle.fields import GraphFormat, Precision
from edge_sdk.errors import EdgeError, EngineError, GateError, InputError
from export_tools.gates import (
    VARIANT_HEADER,
    GraphFile,
    Judge,
    Judged,
    VariantRow,
    compare,
    refused,
)
from export_tools.openvino_ir import convert
from export_tools.quantize import (
    CONVOLUTIONS,
    TRANSFORMERS,
    Feed,
    Int8Recipe,
    halve,
    is_of_products,
    quantize,
    quantize_products,
)

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
FORMATS: tuple[GraphFormat, ...] = ("onnx", "openvino")
DYNAMIC = "dynamic u8s8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What was asked for.

    The fp32 ONNX graph is always written: it is what the others are held against.
    """

    precisions: tuple[Precision, ...] = ("fp32",)
    formats: tuple[GraphFormat, ...] = ("onnx",)

    @property
    def is_plain(self) -> bool:
        """Whether nothing but the fp32 ONNX graph is wanted."""
        return self.precisions == ("fp32",) and self.formats == ("onnx",)

    def pairs(self) -> Iterator[tuple[Precision, GraphFormat]]:
        """What is to be made beside the fp32 ONNX graph, always in the same order."""
        for precision in PRECISIONS:
            for kind in FORMATS:
                is_asked = precision in self.precisions and kind in self.formats
                if is_asked and (precision, kind) != ("fp32", "onnx"):
                    yield precision, kind


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Variants:
    """What came of it."""

    graphs: tuple[GraphFile, ...]
    """Those that passed."""
    rows: tuple[VariantRow, ...]
    """Every one that was tried, the refused ones, too."""


def make_variants(
    graph: bytes,
    wanted: Wanted,
    *,
    judge: Judge,
    feed: Callable[[], Feed],
    is_bad: Sequence[bool | None],
    show: Callable[[str], None],
) -> Variants:
    """Make what is wanted, compare each with the exact graph, and keep what passes.

    Args:
        graph: the fp32 ONNX file, which was compared with torch.
        wanted: what to make.
        judge: runs all pictures through a graph.
        feed: gives the calibration pictures; asked only where int8 needs them.
        is_bad: of each judged picture; None: not known.
        show: takes each row of the table as it is known.

    Raises:
        GateError: a single precision was asked for by name, and nothing of it passes.
        InputError: calibration pictures cannot be used.
        EngineError: no engine runs the exact graph.
    """
    exact = judge(GraphFile(format="onnx", precision="fp32", files=(graph,), recipe="as exported"))
    show(VARIANT_HEADER)
    kept: list[GraphFile] = []
    rows: list[VariantRow] = []
    for precision, kind in wanted.pairs():
        for candidate in _candidates(graph, precision, kind, feed):
            row = _row(candidate, exact, judge, is_bad)
            show(str(row))
            rows.append(row)
            if not row.failures and isinstance(candidate, GraphFile):
                kept.append(candidate)
                break
    _check_asked(wanted, kept, rows)
    return Variants(graphs=tuple(kept), rows=tuple(rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class _NotMade:
    graph: GraphFile
    problem: str


def _row(
    candidate: GraphFile | _NotMade, exact: Judged, judge: Judge, is_bad: Sequence[bool | None]
) -> VariantRow:
    if isinstance(candidate, _NotMade):
        return refused(candidate.graph, candidate.problem)
    try:
        judged = judge(candidate)
    except (EngineError, InputError) as error:
        return refused(candidate, str(error))
    return compare(exact, judged, candidate, is_bad=is_bad)


def _candidates(
    graph: bytes, precision: Precision, kind: GraphFormat, feed: Callable[[], Feed]
) -> Iterator[GraphFile | _NotMade]:
    """Ways of making a variant, the preferred first; each is made when it is asked for."""

    def made(recipe: str, make: Callable[[], tuple[bytes, ...]]) -> GraphFile | _NotMade:
        empty = GraphFile(format=kind, precision=precision, files=(), recipe=recipe)
        try:
            files = make()
        except EdgeError as error:
            return _NotMade(graph=empty, problem=str(error))
        return GraphFile(format=kind, precision=precision, files=files, recipe=recipe)

    if precision != "int8":
        if kind == "onnx":
            yield made("fp32 islands", lambda: (halve(graph),))
        else:
            yield made("converted", lambda: _ir_files(graph, half=precision == "fp16"))
        return
    if kind == "onnx":
        if is_of_products(graph):
            yield made(DYNAMIC, lambda: (quantize_products(graph),))
        else:
            empty = GraphFile(format=kind, precision=precision, files=(), recipe=DYNAMIC)
            yield _NotMade(graph=empty, problem="not made: the graph is not of matrix products")
        return
    pictures = feed()
    for recipe in TRANSFORMERS if is_of_products(graph) else CONVOLUTIONS:
        yield made(recipe.name, partial(_quantized_files, graph, pictures, recipe))


def _ir_files(graph: bytes, *, half: bool) -> tuple[bytes, ...]:
    ir = convert(graph, half=half)
    return ir.xml, ir.weights


def _quantized_files(graph: bytes, pictures: Feed, recipe: Int8Recipe) -> tuple[bytes, ...]:
    ir = quantize(graph, pictures, recipe)
    return ir.xml, ir.weights


def _check_asked(wanted: Wanted, kept: Sequence[GraphFile], rows: Sequence[VariantRow]) -> None:
    """fp32 must never fail; another precision may, unless it was asked for by name and alone."""
    exact = [row for row in rows if row.precision == "fp32" and row.failures]
    if exact:
        raise GateError(f"{exact[0].format} fp32: {'; '.join(exact[0].failures)}")
    (alone, *others) = wanted.precisions
    if others or alone == "fp32" or any(one.precision == alone for one in kept):
        return
    whys = "; ".join(f"{row.format} ({row.recipe}): {', '.join(row.failures)}" for row in rows)
    raise GateError(f"{alone} was asked for and does not pass: {whys}")
