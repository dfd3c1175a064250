"""An export in the words of the bundle format."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

from edge_sdk.bundle.canonical import canonical_json
from edge_sdk.bundle.manifest import (
    GraphSpec,
    InputSpec,
    ModelSpec,
    OutputSpec,
    ResizeSpec,
    ScorerSpec,
    TensorSpec,
    ThresholdSpec,
)
from edge_sdk.scoring.end_to_end import EndToEndFactory
from export_tools.anomalib.contract import MAP, SCORE, Contract
from export_tools.anomalib.files import ModelFile

GRAPH_REVISION = 1
"""Grows when the same file would give other numbers: another way of feeding it, a bug mended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """What the file does not say."""

    size: tuple[int, int] | None = None
    """(height, width) in pixels for a file that takes any; None: the file's own."""
    kernel: Literal["area", "bilinear", "bicubic"] = "area"
    """How frames are brought to that size. anomalib trains with antialiasing: ``area`` is that."""
    name: str = "model"
    """What the model is called, for people."""
    licence: str = "unknown"
    commercial_use: Literal["yes", "no", "unknown"] = "unknown"
    training_data: str = "unknown: an imported model"


def graph_files(file: ModelFile) -> dict[str, bytes]:
    """Path in the bundle -> content."""
    if file.weights is None:
        return {"graphs/end_to_end_fp32.onnx": file.model}
    return {
        "graphs/end_to_end_fp32.xml": file.model,
        "graphs/end_to_end_fp32.bin": file.weights,
    }


def graph_spec(
    file: ModelFile, contract: Contract, tolerance: dict[str, float] | None = None
) -> GraphSpec:
    """The one graph; weights that are kept in 16 bits are computed with in 32."""
    return GraphSpec(
        role="end_to_end",
        format=file.format,
        precision="fp32",
        paths=tuple(graph_files(file)),
        opset=file.opset,
        inputs=(TensorSpec(name=contract.input.name, shape=contract.input.shape),),
        outputs=tuple(OutputSpec(name=one.name, shape=one.shape) for one in contract.outputs),
        tolerance=tolerance or {},
    )


def scorer_spec(contract: Contract) -> ScorerSpec:
    """How the device feeds the graph, and which outputs it takes."""
    return ScorerSpec(
        name=EndToEndFactory.name,
        parameters={
            "input": "nchw_float32",
            "score": SCORE,
            "map": MAP,
            "highest_score": 1.0 if contract.is_normalised else None,
        },
    )


def input_spec(contract: Contract, options: ImportOptions) -> InputSpec:
    """The graph gets colours from 0 to 1; whatever else it does to them is its own."""
    kernel = options.kernel
    return InputSpec(
        size=contract.size,
        color="rgb",
        resize=ResizeSpec(mode="squash", kernel=kernel, antialias=kernel == "area"),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )


def model_spec(file: ModelFile, options: ImportOptions) -> ModelSpec:
    """There is no encoder, so there are no tokens to describe."""
    return ModelSpec(
        backbone=f"anomalib/{options.name}",
        weights_source=f"exported by anomalib, {file.path.name}",
        weights_sha256=file.sha256,
        trained_branches=(),
        streams=(),
        layers=(),
        dims=(),
    )


def threshold_spec(contract: Contract) -> ThresholdSpec:
    """The file's own cut, which the site may better; or none."""
    method = "site" if contract.threshold is None else "anomalib"
    return ThresholdSpec(value=contract.threshold, method=method, n=0)


def extractor_id(file: ModelFile, contract: Contract, options: ImportOptions) -> str:
    """Name everything that turns pixels into scores: ``sha256:`` and 64 hexadecimal digits."""
    identity = {
        "graph_sha256": file.sha256,
        "input": input_spec(contract, options).model_dump(mode="json"),
        "scorer": scorer_spec(contract).model_dump(mode="json"),
        "graph_revision": GRAPH_REVISION,
    }
    return "sha256:" + hashlib.sha256(canonical_json(identity)).hexdigest()


def describe(file: ModelFile, contract: Contract) -> dict[str, Any]:
    """What was read out of the file, for people and for the manifest's ``x_anomalib``."""
    return {
        "file": file.path.name,
        "format": file.format,
        "input": str(contract.input),
        "outputs": [str(output) for output in contract.outputs],
        "mean": list(contract.mean) if contract.mean else None,
        "std": list(contract.std) if contract.std else None,
        "scores_normalised": contract.is_normalised,
        "label_above": contract.label_above,
    }
