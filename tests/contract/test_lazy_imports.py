"""What gets loaded by what: commands answer at once, and the device half stays light."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from contract.tree import ROOT, module_file, project_table

import edge_sdk

HEAVY = {"cv2", "numpy", "onnx", "onnxruntime", "openvino", "paho", "pydantic", "torch", "yaml"}
HOST_ONLY = {"export_tools", "nncf", "onnx", "onnxscript", "torch", "torchvision"}
SCRIPTS: dict[str, str] = project_table()["project"]["scripts"]


def _loaded_after(code: str) -> set[str]:
    """Run code in a new interpreter; top-level names of all modules it has loaded at the end."""
    report = "import json, sys; print(); print(json.dumps(sorted(sys.modules)))"
    answer = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return {name.partition(".")[0] for name in json.loads(answer.stdout.splitlines()[-1])}


def test_the_probe_sees_what_a_module_brings_along() -> None:
    assert "numpy" in _loaded_after("import edge_sdk; edge_sdk.Frame")


def test_importing_the_sdk_loads_no_heavy_library() -> None:
    assert _loaded_after("import edge_sdk") & HEAVY == set()


def test_every_public_name_is_there_and_no_other() -> None:
    code = (
        "import edge_sdk\n"
        "assert all(getattr(edge_sdk, name) is not None for name in edge_sdk.__all__)\n"
        "assert set(edge_sdk.__all__) <= set(dir(edge_sdk))"
    )
    assert "edge_sdk" in _loaded_after(code)
    with pytest.raises(AttributeError, match="'edge_sdk' has no attribute 'Frames'"):
        edge_sdk.Frames  # type: ignore[attr-defined]  # noqa: B018  # the type checker knows it too


def test_no_module_of_the_device_half_loads_anything_of_the_host_half() -> None:
    code = (
        "import importlib, pkgutil, edge_sdk\n"
        "for module in pkgutil.walk_packages(edge_sdk.__path__, 'edge_sdk.'):\n"
        "    importlib.import_module(module.name)"
    )
    loaded = _loaded_after(code)
    assert {"cv2", "onnxruntime", "openvino", "paho"} <= loaded, "not every module was imported"
    assert loaded & HOST_ONLY == set()


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_command_has_its_module(script: str) -> None:
    assert module_file(SCRIPTS[script].partition(":")[0]) is not None


@pytest.mark.parametrize(
    "script", [name for name, target in SCRIPTS.items() if module_file(target.partition(":")[0])]
)
def test_help_loads_no_heavy_library(script: str) -> None:
    module, _, function = SCRIPTS[script].partition(":")
    code = (
        f"import sys; sys.argv = [{script!r}, '--help']\n"
        f"from {module} import {function} as main\n"
        "try:\n"
        "    status = main()\n"
        "except SystemExit as stopped:\n"
        "    status = stopped.code\n"
        "assert not status, status"
    )
    assert _loaded_after(code) & HEAVY == set()
