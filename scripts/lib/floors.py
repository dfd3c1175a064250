"""Asks the package index whether the device half installs on JetPack 6: CPython 3.10, aarch64.

Twice: the newest versions that are allowed, and the oldest ones, exactly. Nothing is installed.
The answer is kept in the environment until the requirements change.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = ("openvino", "gpio", "clip")
GLIBC_MINORS = range(17, 36)
"""JetPack 6 is Ubuntu 22.04, whose glibc is 2.35."""
TIMEOUT_SECONDS = 180
FLOOR = re.compile(r"(?P<name>[\w-]+)>=(?P<version>[\d.]+)(,<[\d.]+)?")


def main() -> int:
    """Check; 0 where all resolves, or where the index cannot be asked outside of CI."""
    pyproject = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "pyproject.toml"
    wanted = requirements(pyproject)
    key = hashlib.sha256("\n".join(wanted).encode()).hexdigest()
    stamp = Path(sys.prefix) / "edge-floors"
    if stamp.is_file() and stamp.read_text() == key:
        return 0
    for what, lines in (("newest", wanted), ("oldest", floors(wanted))):
        problem = resolve(lines)
        if problem is None:
            continue
        if resolve(["pip"]) is not None:  # not even this one: the index is to blame
            say("the package index cannot be reached: NOT checked on CPython 3.10, aarch64")
            return 1 if os.environ.get("CI") else 0
        say(f"the {what} allowed versions do not install on CPython 3.10, aarch64:\n{problem}")
        return 1
    stamp.write_text(key)
    return 0


def requirements(pyproject: Path) -> list[str]:
    """What the device half and its extras need."""
    # tomllib came with Python 3.11; before, pytest brings tomli.
    reader = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    project: dict[str, Any] = reader.loads(pyproject.read_text("utf-8"))["project"]
    extras = [line for name in EXTRAS for line in project["optional-dependencies"][name]]
    return [*project["dependencies"], *extras]


def floors(wanted: list[str]) -> list[str]:
    """The same, pinned to the oldest version: ``name>=version`` or ``name>=version,<version``."""
    pinned = []
    for line in wanted:
        match = FLOOR.fullmatch(line)
        if match is None:
            raise SystemExit(f"floors: {line!r}: expected name>=version")
        pinned.append(f"{match['name']}=={match['version']}")
    return pinned


def resolve(lines: list[str]) -> str | None:
    """Resolve for the other machine; pip's last lines where that fails."""
    platforms = ["manylinux2014_aarch64", *(f"manylinux_2_{n}_aarch64" for n in GLIBC_MINORS)]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        command += ["--dry-run", "--ignore-installed", "--only-binary=:all:", "--target", folder]
        command += ["--python-version", "3.10", "--implementation", "cp"]
        command += [word for platform in platforms for word in ("--platform", platform)]
        try:
            done = subprocess.run(
                [*command, *lines],
                capture_output=True,
                text=True,
                check=False,
                timeout=TIMEOUT_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return f"no answer within {TIMEOUT_SECONDS} s"
    errors = [line for line in done.stderr.splitlines() if not line.startswith("WARNING")]
    return None if done.returncode == 0 else "\n".join(errors[-12:])


def say(text: str) -> None:
    """Tell people and the log."""
    print(f"floors: {text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
