"""The shell part that makes the Python environment: when it installs, and what it refuses."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from contract.tree import ROOT

# Stands where the environment's interpreter is, and writes down what it is asked to do.
RECORDING_PYTHON = """#!/bin/sh
echo "$@" >> "$(dirname "$0")/calls"
"""


@dataclass(frozen=True)
class Checkout:
    folder: Path
    venv: Path

    def environment(self, extras: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Call ``edge_environment`` and say which python is first on the PATH then."""
        call = '. scripts/lib/environment.sh && edge_environment "$0" && command -v python'
        return subprocess.run(
            ["bash", "-c", call, extras],
            cwd=self.folder,
            env=os.environ | {"EDGE_VENV": str(self.venv)} | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    def installed(self) -> list[str]:
        """What pip was asked to install since the last question."""
        calls = self.venv / "bin" / "calls"
        lines = calls.read_text().splitlines()
        calls.write_text("")
        return [line.split()[-1] for line in lines if line.startswith("-m pip install")]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    made = Checkout(folder=tmp_path / "checkout", venv=tmp_path / "venv")
    (made.folder / "scripts" / "lib").mkdir(parents=True)
    for path in ("scripts/lib/environment.sh", "pyproject.toml", "constraints.txt"):
        shutil.copyfile(ROOT / path, made.folder / path)
    (made.venv / "bin").mkdir(parents=True)
    (made.venv / "pyvenv.cfg").touch()
    (made.venv / "bin" / "python").write_text(RECORDING_PYTHON)
    (made.venv / "bin" / "python").chmod(0o755)
    return made


def test_packages_are_installed_once(checkout: Checkout) -> None:
    first = checkout.environment("test")
    assert first.returncode == 0, first.stderr
    assert first.stdout.strip() == str(checkout.venv / "bin" / "python")
    everything = f"{checkout.folder}[demo,dev,export,gpio,openvino]"
    assert checkout.installed() == ["setuptools", everything]

    for extras in ("test", "demo", "dev,openvino"):
        assert checkout.environment(extras).returncode == 0
        assert checkout.installed() == []


def test_what_an_environment_lacks_is_added_to_it(checkout: Checkout) -> None:
    for extras in ("demo", "openvino"):
        assert checkout.environment(extras).returncode == 0
        assert checkout.installed()[-1] == f"{checkout.folder}[{extras}]"
    assert checkout.environment("demo,openvino").returncode == 0
    assert checkout.installed() == []


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_other_requirements_are_installed_anew(checkout: Checkout, name: str) -> None:
    checkout.environment("demo")
    checkout.installed()
    with (checkout.folder / name).open("a") as file:
        file.write("# changed\n")

    assert checkout.environment("demo").returncode == 0
    assert checkout.installed() == ["setuptools", f"{checkout.folder}[demo]"]


def test_a_folder_that_is_no_environment_is_left_alone(checkout: Checkout, tmp_path: Path) -> None:
    precious = tmp_path / "home" / "letter.txt"
    precious.parent.mkdir()
    precious.write_text("Dear reader")

    refusal = checkout.environment("test", EDGE_VENV=str(precious.parent))

    assert refusal.returncode != 0
    assert "expected a new or empty folder or an environment" in refusal.stderr
    assert precious.read_text() == "Dear reader"


def test_a_machine_without_a_suitable_python_is_told_so(checkout: Checkout, tmp_path: Path) -> None:
    refusal = checkout.environment(
        "test", EDGE_PYTHON="no-such-python", EDGE_VENV=str(tmp_path / "new")
    )
    assert refusal.returncode != 0
    assert "no Python >= 3.10 found (looked for: no-such-python)" in refusal.stderr
