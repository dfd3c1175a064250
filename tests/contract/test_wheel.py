"""What is installed on a device is the wheel alone: without extras, torch or this checkout."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from contract.tree import PACKAGES, ROOT, copy_checkout, copy_device_tests

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TEST_TOOLS = ("hypothesis", "jsonschema", "pytest", "pytest-timeout")
HOST_ONLY = ("export_tools.graph", "nncf", "onnx", "onnxscript", "openvino", "torch", "torchvision")


def _run(
    *command: str | Path, folder: Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    finished = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, f"{command}: {finished.stdout}{finished.stderr}"
    return finished


def _has_setuptools() -> bool:
    """Tell whether the environment can build without downloading what it has."""
    try:
        return int(version("setuptools").partition(".")[0]) >= 77
    except PackageNotFoundError:
        return False


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    copy_checkout(folder / "checkout")
    isolation = ["--no-isolation"] if _has_setuptools() else []
    build = (sys.executable, "-m", "build", "--wheel", *isolation, "--outdir", str(folder))
    _run(*build, folder=folder / "checkout")
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def device_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel, its dependencies and the test tools."""
    folder = tmp_path_factory.mktemp("device")
    _run(sys.executable, "-m", "venv", folder / "venv", folder=folder)
    python = folder / "venv" / "bin" / "python"
    pins = ROOT / "constraints.txt"
    pip = (python, "-m", "pip", "install", "--quiet", "--constraint", pins)
    _run(*pip, wheel, *TEST_TOOLS, folder=folder)
    return python


def _away_from_the_checkout() -> dict[str, str]:
    left_out = {"PYTHONPATH", "VIRTUAL_ENV"}
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    near = ROOT.parent / "shared" / "data"
    if near.is_dir():
        environment.setdefault("EDGE_SHARED_DATA", str(near))
    return environment


def test_the_wheel_holds_all_package_data_and_no_tests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())

    data = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert data <= names, f"left out: {sorted(data - names)}"
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert any(re.fullmatch(r"edge_sdk/builtin/.*(manifest\.json|\.edgebundle)", n) for n in names)
    assert any(re.fullmatch(r"edge_sdk/builtin/clip/.*\.mp4", name) for name in names)
    assert any(re.fullmatch(r".*\.dist-info/licenses/LICENSE", name) for name in names)
    others = {n for n in names if not n.startswith(tuple(f"{package}/" for package in PACKAGES))}
    assert {n.partition("/")[0].rpartition(".")[2] for n in others} == {"dist-info"}
    assert not [n for n in names if "tests" in n.split("/") or "/test_" in n]


def test_a_device_has_neither_torch_nor_the_checkout(device_python: Path, tmp_path: Path) -> None:
    code = (
        "import importlib, json\n"
        "import edge_sdk\n"
        "importable = []\n"
        f"for name in {HOST_ONLY!r}:\n"
        "    try:\n"
        "        importlib.import_module(name)\n"
        "    except ImportError:\n"
        "        continue\n"
        "    importable.append(name)\n"
        "print(json.dumps([importable, edge_sdk.__file__]))"
    )
    answer = _run(device_python, "-c", code, folder=tmp_path, environment=_away_from_the_checkout())
    importable, home = json.loads(answer.stdout)

    assert importable == []
    assert Path(home).is_relative_to(device_python.parents[1])


def test_the_device_tests_pass_with_the_installed_wheel(
    device_python: Path, tmp_path: Path
) -> None:
    copy_device_tests(tmp_path)

    tests = _run(
        device_python.with_name("pytest"),
        "tests/device",
        folder=tmp_path,
        environment=_away_from_the_checkout(),
    )
    print(tests.stdout)
    assert re.search(r"\b[1-9]\d* passed", tests.stdout), tests.stdout
