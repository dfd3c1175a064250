"""OpenVINO IR whose bytes depend on the graph alone, in fp32 or with its weights in fp16.

What OpenVINO saves carries the versions of its tools, the options they were called with, and names
with counters that go on from one conversion to the next in a process. None of that is computed
with, and it would give the same graph another digest each time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from edge_sdk.engines.openvino import without_telemetry
from edge_sdk.errors import InputError

with without_telemetry():
    import openvino

WEIGHTED = ("Convolution", "GroupConvolution", "MatMul")
"""Types of the operators that most of the work and the weights are in."""
_NAME = "encoder"
_PRECISE = {"name": "precise", "version": "0"}
"""How an IR says of an operator that it stays in fp32; see OpenVINO's DisableFP16Compression."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IR:
    """The two files of an IR."""

    xml: bytes
    weights: bytes


def read_graph(graph: bytes, weights: bytes = b"") -> Any:  # noqa: ANN401 - openvino has no types
    """Read ONNX, or an IR with its weights, as an ``openvino.Model``.

    Raises:
        InputError: OpenVINO cannot read it.
    """
    try:
        return openvino.Core().read_model(graph, weights)
    except RuntimeError as error:
        raise InputError(f"graph: OpenVINO cannot read it: {error}") from error


def convert(graph: bytes, *, half: bool = False) -> IR:
    """Write an ONNX graph as IR.

    Args:
        graph: the ONNX file, fp32.
        half: keep the weights in fp16. What is done to the picture before the first convolution or
            matrix product stays in fp32: bytes from 0 to 255 are there, which fp16 holds to 1/8.
            OpenVINO itself keeps norms, softmax and their like in fp32.

    Raises:
        InputError: OpenVINO cannot read it.
    """
    ir = write_ir(read_graph(graph))
    if not half:
        return ir
    net = ET.fromstring(ir.xml)  # noqa: S314 - what OpenVINO wrote just now
    for layer in _before_weights(net):
        info = layer.find("rt_info")
        if info is None:
            info = ET.Element("rt_info")
            layer.insert(0 if layer.find("data") is None else 1, info)
        ET.SubElement(info, "attribute", _PRECISE)
    marked = read_graph(ET.tostring(net), ir.weights)
    return write_ir(marked, half=True)


def write_ir(model: Any, *, half: bool = False) -> IR:  # noqa: ANN401 - openvino has no types
    """Write an ``openvino.Model`` without anything that it does not compute with.

    Args:
        model: with named inputs and outputs.
        half: keep its weights in fp16, save for operators that are marked as precise.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.xml"
        openvino.save_model(model, path, compress_to_fp16=half)
        xml, weights = path.read_bytes(), path.with_suffix(".bin").read_bytes()
    named = {port.get_any_name() for port in (*model.inputs, *model.outputs)}
    return IR(xml=_scrubbed(xml, named), weights=weights)


def _scrubbed(xml: bytes, named: set[str]) -> bytes:
    net = ET.fromstring(xml)  # noqa: S314 - what OpenVINO wrote just now
    net.set("name", _NAME)
    for section in net.findall("rt_info"):
        net.remove(section)
    for number, layer in enumerate(_layers(net)):
        layer.set("name", f"{layer.get('type', '').lower()}_{number}")
        for info in layer.findall("rt_info"):
            for attribute in info.findall("attribute[@name='fused_names']"):
                info.remove(attribute)
        for port in layer.iter("port"):
            kept = [name for name in port.get("names", "").split(",") if name in named]
            port.attrib.pop("names", None)
            if kept:
                port.set("names", ",".join(sorted(kept)))
    return bytes(ET.tostring(net, encoding="utf-8"))


def _layers(net: ET.Element) -> list[ET.Element]:
    return net.findall("layers/layer")


def _before_weights(net: ET.Element) -> Iterator[ET.Element]:
    """Operators between the inputs and the first ones with weights, and their constants."""
    layers = {layer.get("id"): layer for layer in _layers(net)}
    followers: dict[str | None, list[str | None]] = {}
    sources: dict[str | None, list[str | None]] = {}
    for edge in net.findall("edges/edge"):
        followers.setdefault(edge.get("from-layer"), []).append(edge.get("to-layer"))
        sources.setdefault(edge.get("to-layer"), []).append(edge.get("from-layer"))
    waiting = [key for key, layer in layers.items() if layer.get("type") == "Parameter"]
    seen: set[str | None] = set()
    constants: set[str | None] = set()  # several operators may share one
    while waiting:
        key = waiting.pop(0)
        if key in seen or layers[key].get("type") in (*WEIGHTED, "Result"):
            continue
        seen.add(key)
        if layers[key].get("type") != "Parameter":
            yield layers[key]
            mine = {one for one in sources[key] if layers[one].get("type") == "Const"} - constants
            constants |= mine
            yield from (layers[one] for one in sorted(mine, key=str))
        waiting += followers.get(key, [])
