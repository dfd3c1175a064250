"""The bundle: the one file format that both halves share, defined here and nowhere else."""

from edge_sdk.bundle.manifest import (
    FORMAT_VERSION,
    BundleManifest,
    FileEntry,
    GoldenSpec,
    GraphSpec,
    InputSpec,
    ManifestDraft,
    ModelSpec,
    OutputSpec,
    ParityRow,
    QuantizationSpec,
    ResizeSpec,
    ScorerSpec,
    TensorSpec,
    ThresholdSpec,
    Tolerance,
    bundle_id_of,
    canonical_json,
)
from edge_sdk.bundle.parsing import parse_manifest
from edge_sdk.bundle.reader import Bundle, open_bundle
from edge_sdk.bundle.writer import pack_bundle, write_bundle

__all__ = [
    "FORMAT_VERSION",
    "Bundle",
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
    "open_bundle",
    "pack_bundle",
    "parse_manifest",
    "write_bundle",
]
