"""Who may import whom: the contracts hold, and each would be seen to break."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from contract.tree import ROOT, copy_packages, project_table


@dataclass(frozen=True)
class Plant:
    """Lines that break one contract."""

    contract: str
    file: str
    lines: str
    is_new: bool = False


_IN_A_FUNCTION = "\n\ndef planted() -> None:\n    {}\n"
PLANTS = [
    Plant(
        "device-never-reaches-torch",
        "edge_sdk/imaging.py",
        _IN_A_FUNCTION.format("import torch"),
    ),
    Plant(
        "device-never-reaches-torch",
        "edge_sdk/bundle/reader.py",
        _IN_A_FUNCTION.format("from onnx import checker"),
    ),
    Plant(
        "device-never-reaches-torch",
        "edge_sdk/cli/bundle.py",
        _IN_A_FUNCTION.format("import export_tools.graph"),
    ),
    Plant("layers", "edge_sdk/capture/folder.py", "\nimport edge_sdk.scoring\n"),
    Plant("layers", "edge_sdk/bundle/reader.py", "\nimport edge_sdk.records\n"),
    Plant("layers", "edge_sdk/metrics/__init__.py", "\nimport edge_sdk.preprocess\n"),
    Plant("layers", "edge_sdk/nobody_gave_it_a_layer.py", '"""New."""\n', is_new=True),
    Plant("vendors-in-leaves", "edge_sdk/pipeline.py", "\nimport paho.mqtt.client\n"),
    Plant(
        "vendors-in-leaves",
        "edge_sdk/engines/onnxruntime.py",
        _IN_A_FUNCTION.format("from openvino import Core"),
    ),
    Plant("vendors-in-leaves", "edge_sdk/references.py", _IN_A_FUNCTION.format("import yaml")),
    Plant("host-borrows-nothing-that-runs", "export_tools/graph.py", "\nimport edge_sdk.capture\n"),
]


@pytest.fixture(scope="module")
def contract_names() -> dict[str, str]:
    """Identifier -> name of every contract."""
    contracts = project_table()["tool"]["importlinter"]["contracts"]
    return {contract["id"]: contract["name"] for contract in contracts}


def _lint(folder: Path) -> dict[str, str]:
    """Run import-linter over a checkout; name of each contract -> KEPT or BROKEN."""
    linter = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = dict(re.findall(r"^(.+) (KEPT|BROKEN)(?: \(.*\))?$", linter.stdout, re.MULTILINE))
    assert found, f"import-linter could not check the contracts: {linter.stdout}{linter.stderr}"
    assert (linter.returncode == 0) == ("BROKEN" not in found.values()), linter.stdout
    return found


def test_the_tree_keeps_every_contract(contract_names: dict[str, str]) -> None:
    assert _lint(ROOT) == dict.fromkeys(contract_names.values(), "KEPT")


def test_every_contract_has_a_violation_that_shows_it_breaking(
    contract_names: dict[str, str],
) -> None:
    assert {plant.contract for plant in PLANTS} == set(contract_names)


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: f"{plant.contract}-{plant.file}")
def test_a_planted_violation_breaks_exactly_its_contract(
    plant: Plant, contract_names: dict[str, str], tmp_path: Path
) -> None:
    copy_packages(tmp_path)
    assert (tmp_path / plant.file).is_file() != plant.is_new, "plant it where there is a module"
    with (tmp_path / plant.file).open("a", encoding="utf-8") as file:
        file.write(plant.lines)

    verdicts = _lint(tmp_path)

    broken = {name for name, verdict in verdicts.items() if verdict == "BROKEN"}
    assert broken == {contract_names[plant.contract]}
