"""What an ONNX graph may hold, checked before any inference library sees it.

A walk over the protobuf fields that can carry tensors, subgraphs or operators; everything else is
skipped by its length. Tensors whose data is in another file are refused wherever they hide:
inference libraries of the last years read such files from anywhere, and some crash on a bad
offset. The field numbers are those of onnx.proto.
"""

from __future__ import annotations

from edge_sdk.errors import BundleError

MAX_OPSET = 21
"""Newest operator set that the oldest supported inference libraries run."""
MAX_IR_VERSION = 10
MAX_MICROSOFT_OPSET = 1
MAX_FIELDS = 1_000_000
"""A graph of a large vision transformer has about a fifth."""
MAX_NESTING = 24
"""Messages inside one another; a subgraph is three deep."""

_NEWEST_OPSETS = {"": MAX_OPSET, "ai.onnx": MAX_OPSET, "com.microsoft": MAX_MICROSOFT_OPSET}

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 8: "opset", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse",
        23: "sparse",
    },
    "sparse": {1: "tensor", 2: "tensor"},
    "function": {7: "node", 9: "opset", 11: "attribute"},
    "training": {1: "graph", 2: "graph"},
    "tensor": {},
    "opset": {},
}
"""Message -> field number -> message inside it."""

_DOMAIN_FIELD = {"node": 7, "function": 10}
_TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION = 13, 14
_MODEL_IR_VERSION = 1


def check_onnx(data: bytes, *, name: str, opset: int) -> None:
    """Refuse an ONNX graph that is not self-contained or not for our inference libraries.

    Args:
        data: the whole file.
        name: the file, for messages.
        opset: the operator set that the manifest declares for it.

    Raises:
        BundleError: external data, an operator domain that is not allowed, an operator set or IR
            version that is too new or not the declared one, or no protobuf of this kind.
    """
    try:
        _Walk(data, name, opset).run()
    except IndexError as error:
        raise BundleError(f"{name}: not an ONNX graph: it ends in the middle of a field") from error


class _Walk:
    """One pass over one file."""

    def __init__(self, data: bytes, name: str, opset: int) -> None:
        self._data = data
        self._name = name
        self._opset = opset
        self._pending: list[tuple[str, int, int, int]] = [("model", 0, len(data), 0)]
        """(message, start, end, how deep): an own stack, so that no input can exhaust Python's."""

    def run(self) -> None:
        fields = 0
        has_graph = has_opset = False
        while self._pending:
            message, position, end, depth = self._pending.pop()
            if depth > MAX_NESTING:
                raise self._refusal(f"nested deeper than {MAX_NESTING} messages")
            if message == "opset":
                has_opset = self._check_opset(position, end) or has_opset
                continue
            inside = _MESSAGES[message]
            while position < end:
                fields += 1
                if fields > MAX_FIELDS:
                    raise self._refusal(f"more than {MAX_FIELDS} fields")
                number, wire, value, position = self._field(position, end)
                kind = inside.get(number)
                if kind is not None:
                    self._expect(wire, _BYTES, message, number)
                    self._pending.append((kind, value, position, depth + 1))
                    has_graph = has_graph or (message == "model" and kind == "graph")
                else:
                    self._check_leaf(message, number, wire, value, position)
        if not has_graph:
            raise self._refusal("not an ONNX graph: it holds none")
        if not has_opset:
            raise self._refusal("no operator set is named")

    def _check_leaf(self, message: str, number: int, wire: int, value: int, end: int) -> None:
        if message == "tensor":
            if number == _TENSOR_EXTERNAL_DATA or (number == _TENSOR_DATA_LOCATION and value != 0):
                raise self._refusal(
                    "a tensor keeps its data in another file (external data); "
                    "all data must be inside the graph"
                )
        elif number == _DOMAIN_FIELD.get(message):
            self._expect(wire, _BYTES, message, number)
            self._newest_opset(value, end)
        elif message == "model" and number == _MODEL_IR_VERSION:
            self._expect(wire, _VARINT, message, number)
            if value > MAX_IR_VERSION:
                raise self._refusal(f"IR version {value}, expected at most {MAX_IR_VERSION}")

    def _check_opset(self, position: int, end: int) -> bool:
        """Check one import of an operator set; True when it is that of the standard operators."""
        domain, newest, version = "", MAX_OPSET, 0
        while position < end:
            number, wire, value, position = self._field(position, end)
            if number == 1:
                self._expect(wire, _BYTES, "opset", number)
                domain, newest = self._newest_opset(value, position)
            elif number == 2:
                self._expect(wire, _VARINT, "opset", number)
                version = value
        if not 1 <= version <= newest:
            raise self._refusal(f"opset {version} of {domain!r}, expected 1 to {newest}")
        if domain == "com.microsoft":
            return False
        if version != self._opset:
            raise self._refusal(f"opset {version}, the manifest declares {self._opset}")
        return True

    def _newest_opset(self, start: int, end: int) -> tuple[str, int]:
        domain = self._data[start:end].decode("utf-8", errors="replace")
        newest = _NEWEST_OPSETS.get(domain)
        if newest is None:
            raise self._refusal(
                f"operator domain {domain[:60]!a}, expected one of {sorted(_NEWEST_OPSETS)}"
            )
        return domain, newest

    def _field(self, position: int, end: int) -> tuple[int, int, int, int]:
        """Read one field.

        Returns:
            (number, wire type, its value or where its bytes start, where it ends).
        """
        tag = self._data[position]
        position += 1
        if tag > 0x7F:
            tag, position = self._varint(position - 1, longest=5)
        number, wire = tag >> 3, tag & 7
        if wire == _BYTES:
            length, start = self._varint(position, longest=5)
            value, position = start, start + length
        elif wire == _VARINT:
            value, position = self._varint(position, longest=10)
        elif wire in (_FIXED32, _FIXED64):
            value, position = position, position + (4 if wire == _FIXED32 else 8)
        else:
            raise self._refusal(f"not an ONNX graph: wire type {wire}")
        if number == 0 or position > end:
            raise self._refusal("not an ONNX graph: a field reaches beyond its message")
        return number, wire, value, position

    def _varint(self, position: int, *, longest: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 7 * longest, 7):
            byte = self._data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, position
        raise self._refusal("not an ONNX graph: a number without an end")

    def _expect(self, wire: int, expected: int, message: str, number: int) -> None:
        if wire != expected:
            raise self._refusal(f"not an ONNX graph: field {number} of a {message} has type {wire}")

    def _refusal(self, problem: str) -> BundleError:
        return BundleError(f"{self._name}: {problem}")
