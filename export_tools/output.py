"""What ``edge-export`` tells: progress, tables, and the bundle that was written."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from edge_sdk.console import Progress

if TYPE_CHECKING:
    from export_tools.package import Exported

_Item = TypeVar("_Item")


class Terminal:
    """Progress on standard error, the table where results go."""

    def __init__(self, table: TextIO) -> None:
        self._table = table

    def stage(self, text: str) -> None:
        """Something begins or is known."""
        print(text, file=sys.stderr, flush=True)

    def row(self, line: str) -> None:
        """A line of a table."""
        print(line, file=self._table, flush=True)

    def watch(self, label: str, items: Sequence[_Item]) -> Iterator[_Item]:
        """The items, one by one, while progress is shown."""
        with Progress(label, len(items)) as progress:
            for item in items:
                yield item
                progress.advance()


def answer(out: Path, exported: Exported) -> dict[str, Any]:
    """The object of ``--json``."""
    manifest, findings = exported.manifest, exported.findings
    return {
        "out": str(out),
        "bundle_id": manifest.bundle_id,
        "extractor_id": manifest.extractor_id,
        "bytes": exported.size_bytes,
        "files": len(manifest.files),
        "backbone": manifest.model.backbone,
        "layers": list(manifest.model.layers),
        "size": list(manifest.input.size),
        "trained_branches": list(manifest.model.trained_branches),
        "licence": manifest.licence,
        "commercial_use": manifest.commercial_use,
        "training_data": manifest.training_data,
        "parity": [{"compared": row.compared, **asdict(row)} for row in findings.rows],
        "anomalib": (manifest.model_extra or {}).get("x_anomalib"),
        "threshold_compared_at": findings.threshold,
        "variants": [{**asdict(row), "failures": row.failures} for row in exported.variants],
        "self_test": {name: asdict(report) for name, report in exported.self_tests.items()},
        "seconds": dict(exported.seconds),
    }


def print_summary(out: Path, exported: Exported) -> None:
    """What people read at the end."""
    manifest = exported.manifest
    height, width = manifest.input.size
    layers = ", ".join(map(str, manifest.model.layers))
    tokens = f", layers {layers}" if layers else ", from picture to map"
    usual = "no adapter, weights as published" if layers else "where it was exported"
    trained = ", ".join(manifest.model.trained_branches) or usual
    print(
        f"\n{out}: {exported.size_bytes / 1e6:.2f} MB in {len(manifest.files)} files, "
        f"{sum(exported.seconds.values()):.0f} s\n"
        f"id            {manifest.bundle_id}\n"
        f"model         {manifest.model.backbone}{tokens}, {width} x {height}\n"
        f"trained       {trained}\n"
        f"training data {manifest.training_data}\n"
        f"licence       {manifest.licence}, commercial use: {manifest.commercial_use}"
    )
    for name, found in exported.self_tests.items():
        print(
            f"self-test     {name}: {found.frames} frames, largest difference of "
            + (f"tokens {found.tokens:.1e}, " if layers else "")
            + f"maps {found.map:.1e}, scores {found.score:.1e}"
        )
