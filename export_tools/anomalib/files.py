"""The exported files: read whole, weights inside, and checked before any library runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, external_data_helper

from edge_sdk.bundle.fields import MAX_FILE_BYTES
from edge_sdk.bundle.ir_guard import check_openvino
from edge_sdk.bundle.onnx_guard import check_onnx
from edge_sdk.errors import BundleError, InputError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelFile:
    """An export as a bundle keeps it."""

    path: Path
    """Where it was found."""
    format: Literal["onnx", "openvino"]
    model: bytes
    """ONNX with its weights inside, or an IR's ``.xml``."""
    weights: bytes | None
    """An IR's ``.bin``; None for ONNX."""
    opset: int | None
    """Of ONNX."""
    sha256: str
    """Of what the bundle keeps."""


def read_model_file(path: Path) -> ModelFile:
    """Read an ``.onnx`` or ``.xml`` export and what lies beside it.

    Torch's exporter writes the weights of an ONNX graph into a file of their own. A bundle holds
    none such, so they are put inside; and the names of source files on the machine that exported,
    which it writes beside every operator, are left out.

    Raises:
        InputError: no such file, not one of the two kinds, too large, weights that are missing or
            that lie in another folder, or a graph that no bundle may hold.
    """
    match path.suffix.lower():
        case ".onnx":
            return _read_onnx(path)
        case ".xml":
            return _read_ir(path)
    raise InputError(f"{path}: expected an .onnx or an .xml file that anomalib exported")


def _read_onnx(path: Path) -> ModelFile:
    try:
        model = onnx.load_model_from_string(_read(path))
    except DecodeError as error:
        raise InputError(f"{path}: not an ONNX file: {error}") from error
    for tensor in _tensors(model.graph):
        if external_data_helper.uses_external_data(tensor):
            _check_weights_beside(path, external_data_helper.ExternalDataInfo(tensor).location)
    try:
        external_data_helper.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise InputError(f"{path}: its weights cannot be read: {error}") from error
    _drop_traces(model)
    if model.ByteSize() > MAX_FILE_BYTES:
        raise InputError(f"{path}: expected at most {MAX_FILE_BYTES} bytes, got {model.ByteSize()}")
    data = bytes(model.SerializeToString(deterministic=True))
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    try:
        check_onnx(data, name=str(path), opset=opset)
    except BundleError as error:
        raise InputError(str(error)) from error
    return ModelFile(
        path=path,
        format="onnx",
        model=data,
        weights=None,
        opset=opset,
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _read_ir(path: Path) -> ModelFile:
    xml, weights = _read(path), _read(path.with_suffix(".bin"))
    try:
        check_openvino(xml, name=str(path), weights_bytes=len(weights))
    except BundleError as error:
        raise InputError(str(error)) from error
    return ModelFile(
        path=path,
        format="openvino",
        model=xml,
        weights=weights,
        opset=None,
        sha256=hashlib.sha256(xml + weights).hexdigest(),
    )


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise InputError(f"{path}: expected a file of the exported model, found none")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise InputError(f"{path}: expected at most {MAX_FILE_BYTES} bytes, got {size}")
    return path.read_bytes()


def _check_weights_beside(path: Path, location: str) -> None:
    """Refuse weights anywhere but in a file of the same folder: the name comes out of the file."""
    beside = path.parent / location
    if not location or Path(location).name != location or beside.is_symlink():
        raise InputError(
            f"{path}: its weights are said to be in {location!r}: expected a file beside it"
        )
    if not beside.is_file():
        raise InputError(f"{beside}: expected the weights of {path.name}, found none")


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors
            for inner in (*attribute.graphs, attribute.g):
                yield from _tensors(inner)


def _drop_traces(model: ModelProto) -> None:
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
