"""``benchmarks/full_size.py`` on the smallest tower: the same way as the large ones of the docs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_tower_runs_in_torch_and_its_bundle_in_both_engines() -> None:
    script = ROOT / "benchmarks" / "full_size.py"
    done = subprocess.run(
        [sys.executable, str(script), "TinyCLIP-ViT-8M-16:64", "--rounds", "1", "--variants"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()]
    assert [row[2] for row in rows[2:]] == [
        "torch",
        "export",
        "onnxruntime",
        "openvino",
        "onnxruntime fp16",
        "openvino fp16",
        "onnxruntime int8",
        "openvino int8",
    ]
    for row in rows[2:]:
        assert float(row[7]) > 0, "peak memory"
    assert float(rows[3][9]) < 1e-4, "largest error of a map"
    for row in rows[6:]:
        assert 0 < float(row[9]) < 0.1, "fewer bits show, but little"
