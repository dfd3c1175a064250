"""Ways of making each variant of a graph, the preferred first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

from edge_sdk.bundle.fields import GraphFormat, Precision
from edge_sdk.errors import EdgeError
from export_tools.gates import GraphFile
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

EXACT = "as exported"
DYNAMIC = "dynamic u8s8"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotMade:
    """A variant that could not be made, and why."""

    graph: GraphFile
    """Without files."""
    problem: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Workshop:
    """What variants are made of."""

    graph: bytes
    """The fp32 ONNX file, which was compared with torch."""
    feed: Callable[[], Feed]
    """Gives the calibration pictures; asked only where int8 needs them, and once."""
    torch_part: bytes | None = None
    """The same in format ``torch``; None: there is none."""

    @property
    def exact(self) -> GraphFile:
        """What the others are held against."""
        return GraphFile(format="onnx", precision="fp32", files=(self.graph,), recipe=EXACT)

    def candidates(self, precision: Precision, kind: GraphFormat) -> Iterator[GraphFile | NotMade]:
        """Each is made when it is asked for."""
        made = partial(_made, precision, kind)
        if kind == "torch":
            yield made("autocast", self._torch_files)
        elif precision != "int8":
            if kind == "onnx":
                yield made("fp32 islands", lambda: (halve(self.graph),))
            else:
                yield made("converted", lambda: _ir_files(self.graph, half=precision == "fp16"))
        elif kind == "onnx":
            if is_of_products(self.graph):
                yield made(DYNAMIC, lambda: (quantize_products(self.graph),))
            else:
                empty = GraphFile(format=kind, precision=precision, files=(), recipe=DYNAMIC)
                yield NotMade(graph=empty, problem="not made: the graph is not of matrix products")
        else:
            for recipe in TRANSFORMERS if is_of_products(self.graph) else CONVOLUTIONS:
                yield made(recipe.name, partial(self._quantized_files, recipe))

    @cached_property
    def _calibration(self) -> Feed:
        return self.feed()

    def _torch_files(self) -> tuple[bytes, ...]:
        return () if self.torch_part is None else (self.torch_part,)

    def _quantized_files(self, recipe: Int8Recipe) -> tuple[bytes, ...]:
        ir = quantize(self.graph, self._calibration, recipe)
        return ir.xml, ir.weights


def _made(
    precision: Precision, kind: GraphFormat, recipe: str, make: Callable[[], tuple[bytes, ...]]
) -> GraphFile | NotMade:
    try:
        files = make()
    except EdgeError as error:
        empty = GraphFile(format=kind, precision=precision, files=(), recipe=recipe)
        return NotMade(graph=empty, problem=str(error))
    return GraphFile(format=kind, precision=precision, files=files, recipe=recipe)


def _ir_files(graph: bytes, *, half: bool) -> tuple[bytes, ...]:
    ir = convert(graph, half=half)
    return ir.xml, ir.weights
