"""The oldest versions that are allowed: they resolve for JetPack 6, and the device half runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from contract.tree import ROOT, copy_device_tests, project_table

FLOORS = ROOT / "scripts" / "lib" / "floors.py"
EXTRAS = ("openvino", "gpio", "clip")
TEST_TOOLS = ("hypothesis", "jsonschema", "pytest>=8.3", "pytest-timeout")
UNREACHABLE = {
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
    "PIP_EXTRA_INDEX_URL": "",
    "PIP_FIND_LINKS": "",
    "PIP_RETRIES": "0",
    "PIP_NO_CACHE_DIR": "1",
}


def _check(pyproject: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    keep = {name: value for name, value in os.environ.items() if name != "CI"}
    return subprocess.run(
        [sys.executable, FLOORS, pyproject],
        env=keep | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def _planted(folder: Path, old: str, new: str) -> Path:
    """The project file with one requirement changed, so that no earlier answer holds."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    assert old in text
    path = folder / "pyproject.toml"
    path.write_text(text.replace(old, new), "utf-8")
    return path


def test_an_index_that_cannot_be_reached_is_said_and_fails_in_ci_only(tmp_path: Path) -> None:
    pyproject = _planted(tmp_path, "paho-mqtt>=2.1", "paho-mqtt>=2.1.0")

    for ci, exit_code in (({}, 0), ({"CI": "true"}, 1)):
        told = _check(pyproject, **UNREACHABLE, **ci)
        assert told.returncode == exit_code, told.stderr
        assert "the package index cannot be reached: NOT checked" in told.stderr


def test_a_requirement_without_a_floor_is_refused(tmp_path: Path) -> None:
    told = _check(_planted(tmp_path, '"paho-mqtt>=2.1"', '"paho-mqtt"'))

    assert told.returncode == 1
    assert "'paho-mqtt': expected name>=version" in told.stderr


@pytest.mark.slow
def test_a_floor_beyond_what_jetpack_has_is_found(tmp_path: Path) -> None:
    told = _check(_planted(tmp_path, "onnxruntime>=1.19", "onnxruntime>=1.24"))
    if "cannot be reached" in told.stderr:
        pytest.skip("no package index")

    assert told.returncode == 1
    assert "the newest allowed versions do not install on CPython 3.10, aarch64" in told.stderr
    assert "onnxruntime" in told.stderr


def _oldest_python() -> str:
    """CPython 3.10 as on JetPack 6 if this machine has it, else the one that runs the tests."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [os.environ.get("EDGE_FLOOR_PYTHON"), shutil.which("python3.10")]
    candidates += [str(path) for path in sorted(pyenv.glob("3.10.*/bin/python"))]
    for candidate in filter(None, candidates):
        asked = subprocess.run([candidate, "-c", "import venv"], capture_output=True, check=False)
        if asked.returncode == 0:  # a shim of pyenv may lead nowhere
            return candidate
    return sys.executable


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_device_tests_pass_at_the_floors(tmp_path: Path) -> None:
    python = _oldest_python()
    venv, folder = tmp_path / "venv", tmp_path / "checkout"
    _run(python, "-m", "venv", venv)
    project = project_table()["project"]
    extras = [line for name in EXTRAS for line in project["optional-dependencies"][name]]
    wanted = [line.partition(",")[0] for line in (*project["dependencies"], *extras)]
    floors = [line.replace(">=", "==") for line in wanted]
    pip = (venv / "bin" / "python", "-m", "pip", "install", "--quiet", "--prefer-binary")
    _run(*pip, *floors, *TEST_TOOLS)
    folder.mkdir()
    copy_device_tests(folder)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "edge_sdk", folder / "edge_sdk", ignore=ignored)

    command = (venv / "bin" / "python", "-m", "pytest", "tests/device", "-q")
    tests = _run(*command, folder=folder)

    print(_run(venv / "bin" / "python", "-VV").stdout, floors, tests.stdout)
    assert re.search(r"\b[1-9]\d{2,} passed", tests.stdout), tests.stdout


def _run(*command: str | Path, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    left_out = {"PYTHONPATH", "VIRTUAL_ENV"}
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    finished = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, f"{command}: {finished.stdout[-6000:]}{finished.stderr}"
    return finished
