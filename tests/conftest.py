"""What all tests share: the environment's face, slow tests, and what a machine may lack."""

from __future__ import annotations

import os
import platform
import shutil
from collections import defaultdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

# A slow machine is no defect: pytest-timeout guards against tests that hang.
settings.register_profile("edge", deadline=None)
settings.load_profile("edge")

_SHOWN = (
    "numpy",
    "opencv-python-headless",
    "onnxruntime",
    "openvino",
    "paho-mqtt",
    "torch",
    "onnx",
)
_suite_seconds: defaultdict[str, float] = defaultdict(float)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="run the tests marked slow, too")


def pytest_report_header() -> list[str]:
    versions = [f"{name} {_version_or_absent(name)}" for name in _SHOWN]
    broker = _find_mosquitto() or "absent"
    return [
        f"machine: {platform.machine()}, {os.cpu_count()} CPUs, CI={os.environ.get('CI', '')}",
        f"versions: {', '.join(versions)}",
        f"mosquitto: {broker}",
    ]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--all"):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    items[:] = [item for item in items if not item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=slow)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add set-up, call and tear-down to the suite, which is the folder below ``tests``."""
    parts = Path(report.nodeid.partition("::")[0]).parts
    below = parts[parts.index("tests") + 1 :] if "tests" in parts else parts
    _suite_seconds[below[0] if len(below) > 1 else "."] += report.duration


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("suite seconds")
    for suite, seconds in sorted(_suite_seconds.items()):
        terminalreporter.write_line(f"{suite:<14} {seconds:8.1f} s")


@pytest.fixture(scope="session")
def mosquitto_path() -> Path:
    """The broker's program. Where it is missing, CI fails and other machines skip."""
    found = _find_mosquitto()
    if found is not None:
        return Path(found)
    message = "mosquitto is missing (Debian, Ubuntu: sudo apt-get install mosquitto)"
    if os.environ.get("CI"):
        pytest.fail(f"{message}; with CI set this is a failure")
    pytest.skip(message)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real pictures that are too large for the repository."""
    named = os.environ.get("EDGE_SHARED_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if folder.is_dir():
        return folder
    if named:
        pytest.fail(f"EDGE_SHARED_DATA: expected a folder, got {named}")
    pytest.skip(f"no real pictures: EDGE_SHARED_DATA is not set and {folder} is absent")


def _find_mosquitto() -> str | None:
    """Look on the PATH, and where Debian keeps it out of an ordinary user's PATH."""
    places = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin"))
    return shutil.which("mosquitto", path=places)


def _version_or_absent(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "absent"
