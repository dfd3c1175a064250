"""``report.json``: what varies from one export to the next, and so is not part of the bundle."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version

from edge_sdk._version import __version__
from edge_sdk.selftest import SelfTestReport
from export_tools.faithful import Findings
from export_tools.gates import VariantRow

TOOLS = (
    "torch",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "openvino",
    "numpy",
    "opencv-python-headless",
)
"""Distributions whose version may change what an export writes."""


def tool_versions() -> dict[str, str | None]:
    """Versions of ``TOOLS``; None where one is not installed."""
    return {name: _version(name) for name in TOOLS}


def write_report(
    *,
    created: datetime,
    pictures: str,
    findings: Findings,
    self_tests: Mapping[str, SelfTestReport],
    seconds: Mapping[str, float],
    variants: Sequence[VariantRow] = (),
) -> bytes:
    """Write the report.

    Args:
        created: when the export began.
        pictures: what was compared on.
        findings: of the comparison with torch; as measured, not rounded.
        self_tests: engine -> differences from the golden arrays on this machine.
        seconds: step -> how long it took.
        variants: other precisions and formats, those that were refused, too.
    """
    document = {
        "created": created.isoformat(timespec="seconds"),
        "pictures": pictures,
        "parity": [{"compared": row.compared, **asdict(row)} for row in findings.rows],
        "threshold": findings.threshold,
        "variants": [{**asdict(row), "failures": row.failures} for row in variants],
        "self_test": {name: asdict(report) for name, report in self_tests.items()},
        "seconds": dict(seconds),
        "versions": {"edge_sdk": __version__, **tool_versions()},
        "machine": {
            "system": platform.system(),
            "architecture": platform.machine(),
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
        },
    }
    return json.dumps(document, indent=2, sort_keys=True, allow_nan=False).encode()


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
