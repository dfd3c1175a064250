"""The manifest of a bundle, format version 1: what is in it and what its numbers mean."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from edge_sdk.bundle.canonical import canonical_json
from edge_sdk.bundle.fields import (
    MAX_FILES,
    MAX_TOTAL_BYTES,
    Count,
    Digest,
    Name,
    Record,
    Text,
    UtcTime,
    Version,
)
from edge_sdk.bundle.paths import MANIFEST_NAME, REPORT_NAME
from edge_sdk.bundle.specs import (
    FileEntry,
    GoldenSpec,
    GraphSpec,
    InputSpec,
    ModelSpec,
    OutputSpec,
    ParityRow,
    QuantizationSpec,
    ResizeSpec,
    ScorerSpec,
    TensorSpec,
    ThresholdSpec,
    Tolerance,
)

__all__ = [
    "FORMAT_VERSION",
    "BundleManifest",
    "FileEntry",
    "GoldenSpec",
    "GraphSpec",
    "InputSpec",
    "ManifestDraft",
    "ModelSpec",
    "OutputSpec",
    "ParityRow",
    "QuantizationSpec",
    "ResizeSpec",
    "ScorerSpec",
    "TensorSpec",
    "ThresholdSpec",
    "Tolerance",
    "bundle_id_of",
    "canonical_json",
    "identity_of",
]

FORMAT_VERSION: Final = 1

_NOT_IDENTITY = frozenset({"bundle_id", "created", "signature"})


class ManifestDraft(Record):
    """A manifest before the writer has listed the files and named the bundle."""

    format_version: Literal[1] = FORMAT_VERSION
    requires_runtime: Version
    """Oldest version of this SDK that may use the bundle."""
    serial: Count | None = None
    """Grows with every release of a signer; reserved until signing is on."""
    device_class: Name | None = None
    expires: UtcTime | None = None
    key_id: Name | None = None
    licence: Text
    """SPDX expression of the weights' licence, or its name."""
    commercial_use: Literal["yes", "no", "unknown"]
    training_data: Text
    model: ModelSpec
    extractor_id: Digest
    """Digest of everything that turns pixels into tokens, input size included."""
    input: InputSpec
    graphs: Annotated[tuple[GraphSpec, ...], Field(min_length=1)]
    scorers: Annotated[tuple[ScorerSpec, ...], Field(min_length=1)]
    threshold: ThresholdSpec
    quantization: QuantizationSpec | None = None
    parity: tuple[ParityRow, ...]
    golden: GoldenSpec

    @model_validator(mode="after")
    def _check(self) -> Self:
        _refuse_repeats("graphs", [(g.role, g.format, g.precision) for g in self.graphs])
        _refuse_repeats("scorers", [scorer.name for scorer in self.scorers])
        for graph in self.graphs:
            if graph.role in ("encoder", "end_to_end"):
                self._check_picture(graph)
            if graph.role == "encoder":
                self._check_tokens(graph)
        untested = sorted({g.precision for g in self.graphs} - set(self.golden.tolerance))
        if untested:
            raise ValueError(f"golden.tolerance: expected an entry for {untested}")
        return self

    def _check_picture(self, graph: GraphSpec) -> None:
        shape = graph.inputs[0].shape
        # Graphs of others may have their colours first; ours never do.
        is_planar = graph.role == "end_to_end" and shape[2:4] == self.input.size
        has_size = is_planar or shape[1:3] == self.input.size
        if len(graph.inputs) != 1 or len(shape) != 4 or not has_size:
            raise ValueError(
                f"graphs: {graph.role} {graph.precision}: expected one input (batch, "
                f"{self.input.size[0]}, {self.input.size[1]}, channels), got "
                f"{[tensor.shape for tensor in graph.inputs]}"
            )

    def _check_tokens(self, graph: GraphSpec) -> None:
        dims = dict(zip(self.model.layers, self.model.dims, strict=True))
        keys = []
        for output in graph.outputs:
            if output.stream is None or output.layer is None:
                continue
            keys.append((output.stream, output.layer))
            dim = dims.get(output.layer)
            if output.stream not in self.model.streams or dim is None or output.shape[2] != dim:
                raise ValueError(
                    f"graphs: encoder {graph.precision}: output {output.name} of {keys[-1]} and "
                    f"length {output.shape[2]} is not among model.streams, layers and dims"
                )
        if not keys:
            raise ValueError(f"graphs: encoder {graph.precision}: expected outputs with tokens")
        _refuse_repeats(f"graphs: encoder {graph.precision}: outputs", keys)

    def referenced_paths(self) -> Iterator[str]:
        """Files that the manifest speaks of; they must all be there."""
        for graph in self.graphs:
            yield from graph.paths
        for scorer in self.scorers:
            if scorer.text_features is not None:
                yield scorer.text_features
        yield from self.golden.frames
        yield from self.golden.references
        for frame in range(len(self.golden.frames)):
            yield self.golden.array_path(frame, "map")
            yield self.golden.array_path(frame, "score")

    def document(self) -> dict[str, Any]:
        """The JSON object that this is written as; what was left out stays left out."""
        written = self.model_dump(mode="json", exclude_unset=True)
        return {"format_version": self.format_version, **written}


class BundleManifest(ManifestDraft):
    """The manifest of a finished bundle."""

    bundle_id: Digest
    created: UtcTime
    signature: Text | None = None
    """Reserved; no runtime checks it yet, and it is not part of the identity."""
    files: tuple[FileEntry, ...]
    """Every file but ``manifest.json`` and ``report.json``, by path."""

    @model_validator(mode="after")
    def _check_files(self) -> Self:
        paths = [entry.path for entry in self.files]
        if len(paths) > MAX_FILES:
            raise ValueError(f"files: expected at most {MAX_FILES}, got {len(paths)}")
        total = sum(entry.size for entry in self.files)
        if total > MAX_TOTAL_BYTES:
            raise ValueError(f"files: expected at most {MAX_TOTAL_BYTES} bytes, got {total}")
        if paths != sorted(paths):
            raise ValueError("files: expected to be sorted by path")
        for reserved in (MANIFEST_NAME, REPORT_NAME):
            if reserved in paths:
                raise ValueError(f"files: {reserved} is never listed")
        lost = sorted(set(self.referenced_paths()) - set(paths))
        if lost:
            raise ValueError(f"files: expected an entry for {lost}, which the manifest speaks of")
        in_graphs = {path for graph in self.graphs for path in graph.paths}
        loose = sorted(p for p in paths if p.endswith((".onnx", ".xml")) and p not in in_graphs)
        if loose:
            raise ValueError(f"files: {loose} belong to no graph")
        return self


def bundle_id_of(manifest: ManifestDraft) -> str:
    """Name a bundle by its content: ``sha256:`` and 64 hexadecimal digits.

    Over the canonical manifest without ``bundle_id``, ``created`` and ``signature``, so that
    making the same bundle again, later, gives the same name.
    """
    return identity_of(manifest.document())


def identity_of(document: dict[str, Any]) -> str:
    """``bundle_id_of`` for a manifest that has not been checked yet."""
    identity = {key: value for key, value in document.items() if key not in _NOT_IDENTITY}
    return "sha256:" + hashlib.sha256(canonical_json(identity)).hexdigest()


def _refuse_repeats(what: str, keys: list[Any]) -> None:
    for key in keys:
        if keys.count(key) > 1:
            raise ValueError(f"{what}: {key} is there twice")
