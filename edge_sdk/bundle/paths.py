"""Names that files of a bundle may have.

Narrow on purpose: a name that means the same on every file system, in an archive and on a
terminal needs no cleaning, and a name that needs cleaning is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from edge_sdk.errors import BundleIntegrityError

MANIFEST_NAME = "manifest.json"
REPORT_NAME = "report.json"
"""Timings of the exporter: may lie in a bundle, is neither hashed nor trusted."""

ALLOWED_SUFFIXES = frozenset(
    {".onnx", ".xml", ".bin", ".npy", ".safetensors", ".png", ".json", ".txt", ".md"}
)
MAX_PATH_LENGTH = 200
MAX_PATH_PARTS = 6

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_DEVICE_NAME = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def check_path(path: str, *, where: str) -> None:
    """Refuse a name that could mean another file than the one it shows.

    Args:
        path: relative, parts joined by ``/``.
        where: the bundle, for the message.

    Raises:
        BundleIntegrityError: names the rule that was broken.
    """
    problem = _problem_of(path)
    if problem is not None:
        shown = ascii(path if len(path) <= MAX_PATH_LENGTH else path[:60] + "...")
        raise BundleIntegrityError(f"{where}: file name {shown}: {problem}")


def check_suffix(path: str, *, where: str) -> None:
    """Refuse kinds of file that a bundle never holds.

    Raises:
        BundleIntegrityError: pickles, compiled engines and everything else not on the list.
    """
    name = path.rpartition("/")[2]
    suffix = "." + name.rpartition(".")[2] if "." in name else ""
    if suffix not in ALLOWED_SUFFIXES:
        raise BundleIntegrityError(
            f"{where}: {path}: kind of file {suffix!r} is not allowed in a bundle (pickles, "
            f"archives and compiled engines never are); expected {sorted(ALLOWED_SUFFIXES)}"
        )


def check_unique(paths: Iterable[str], *, where: str) -> None:
    """Refuse names that are one file on a file system that ignores case.

    Raises:
        BundleIntegrityError: two names are the same, or differ in case only.
    """
    seen: dict[str, str] = {}
    for path in paths:
        other = seen.get(path.lower())
        if other is not None:
            how = "is there twice" if other == path else f"differs from {other} in case only"
            raise BundleIntegrityError(f"{where}: {path} {how}")
        seen[path.lower()] = path


def _problem_of(path: str) -> str | None:
    parts = path.split("/")
    rules = (
        (not path, "empty"),
        ("\0" in path, "holds a NUL byte"),
        ("\\" in path, "holds a backslash"),
        (path.startswith("/"), "absolute, expected a path inside the bundle"),
        (".." in parts, "leads out of the bundle with '..'"),
        (len(path) > MAX_PATH_LENGTH, f"longer than {MAX_PATH_LENGTH} characters"),
        (len(parts) > MAX_PATH_PARTS, f"deeper than {MAX_PATH_PARTS} parts"),
        (
            not all(_PART.fullmatch(part) and not part.endswith(".") for part in parts),
            "expected letters, digits and '._-', starting with a letter, a digit or '_'",
        ),
        (
            any(_DEVICE_NAME.fullmatch(part) for part in parts),
            "holds a name that some systems keep for a device",
        ),
    )
    return next((text for is_broken, text in rules if is_broken), None)
