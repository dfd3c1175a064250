"""The checkout as the contract tests see it, and copies of it."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("edge_sdk", "export_tools")
_MADE_HERE = frozenset({"build", "dist", "state", "demo-output"})
"""Folders that commands make beside the sources."""


def project_table() -> Mapping[str, Any]:
    """Read pyproject.toml."""
    # tomllib came with Python 3.11; before, pytest brings tomli.
    reader = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    table: Mapping[str, Any] = reader.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    return table


def module_file(module: str) -> Path | None:
    """The file of a module of this checkout, or None where there is none."""
    base = ROOT.joinpath(*module.split("."))
    candidates = (base.with_suffix(".py"), base / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


def python_files() -> list[Path]:
    """All Python files of both halves."""
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def copy_packages(destination: Path) -> None:
    """Copy both halves, without package data, and pyproject.toml."""
    for path in [*python_files(), ROOT / "pyproject.toml"]:
        target = destination / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def checkout_entries() -> list[Path]:
    """What lies at the top of the repository: nothing hidden, no environment, nothing built."""
    return sorted(
        path
        for path in ROOT.iterdir()
        if path.name not in _MADE_HERE and not path.name.startswith((".", "__"))
    )


def copy_checkout(destination: Path) -> None:
    """Copy what the repository holds."""
    destination.mkdir()
    for path in checkout_entries():
        if path.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(path, destination / path.name, ignore=ignored)
        else:
            shutil.copyfile(path, destination / path.name)


def copy_device_tests(destination: Path) -> None:
    """Copy what ``tests/device`` needs beside an installed wheel."""
    shutil.copy(ROOT / "pyproject.toml", destination)
    shutil.copytree(ROOT / "device_configs", destination / "device_configs")
    (destination / "tests").mkdir()
    for path in (ROOT / "tests").glob("*.py"):
        shutil.copy(path, destination / "tests")
    for folder in ("device", "data"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "tests" / folder, destination / "tests" / folder, ignore=ignored)
