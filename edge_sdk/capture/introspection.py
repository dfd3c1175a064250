"""GObject's libraries (GStreamer, Aravis) by PyGObject; the only place that names ``gi``.

A distribution installs PyGObject for its own interpreter, where a virtual environment does not
look. It serves any interpreter of the same version, so it is looked for there, too.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from edge_sdk.errors import CaptureError

GSTREAMER_PACKAGES = (
    "python3-gi gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-base "
    "gstreamer1.0-plugins-good"
)
ARAVIS_PACKAGES = "python3-gi gir1.2-aravis-0.8"
"""What Debian and Ubuntu call what is needed."""
_SYSTEM_PACKAGES = Path("/usr/lib/python3/dist-packages")


def check_gi(purpose: str, packages: str) -> None:
    """Say at once that PyGObject is missing; nothing of it is loaded.

    Args:
        purpose: what needs it, for the error.
        packages: Debian's packages that bring it.

    Raises:
        CaptureError: with what to install.
    """
    if importlib.util.find_spec("gi") is None and not (_SYSTEM_PACKAGES / "gi").is_dir():
        raise CaptureError(_describe_missing(purpose, packages, "PyGObject is not installed"))


def load_namespace(name: str, version: str, *, purpose: str, packages: str) -> Any:  # noqa: ANN401 - made at run time
    """Load one library.

    Args:
        name: for example ``Gst``.
        version: of its interface, for example ``1.0``.
        purpose: what needs it, for the error.
        packages: Debian's packages that bring it.

    Returns:
        A module that is made when it is loaded.

    Raises:
        CaptureError: PyGObject or the library is not installed, or for another interpreter.
    """
    gi = _load_gi(purpose, packages)
    try:
        gi.require_version(name, version)
        return importlib.import_module(f"gi.repository.{name}")
    except (ValueError, AttributeError, ImportError) as error:
        problem = f"{name} {version} is not installed"
        raise CaptureError(_describe_missing(purpose, packages, problem)) from error


def _load_gi(purpose: str, packages: str) -> ModuleType:
    check_gi(purpose, packages)
    is_added = importlib.util.find_spec("gi") is None
    if is_added:  # at the end, and only while it loads: nothing else shall come from there
        sys.path.append(str(_SYSTEM_PACKAGES))
    try:
        import gi  # noqa: PLC0415 - absent on most machines
        import gi.repository  # noqa: PLC0415 - the same
    except ImportError as error:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        problem = f"PyGObject does not load in Python {version} ({error})"
        raise CaptureError(_describe_missing(purpose, packages, problem)) from error
    finally:
        if is_added:
            sys.path.remove(str(_SYSTEM_PACKAGES))
    return gi  # type: ignore[no-any-return]


def _describe_missing(purpose: str, packages: str, problem: str) -> str:
    return (
        f"{purpose}: {problem}: sudo apt-get install {packages}, and run with the distribution's "
        "version of Python; or, for another one, pip install PyGObject (builds from source: needs "
        "libgirepository-dev)"
    )
