"""Spoils the sources of a copy, one mutant at a time, and runs the test that must notice."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from mutant_table import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[2]
_COPIED = ("edge_sdk", "tests", "scripts", "device_configs", "examples", "pyproject.toml")
_FAILED = 1
"""pytest: tests ran, and some failed; any other code is a defect of the check itself."""
_TIMEOUT_SECONDS = 300


def main() -> int:
    """Run the check; returns its exit code."""
    parser = argparse.ArgumentParser(prog="scripts/mutants")
    parser.add_argument("--check", action="store_true", help="only see that the table is right")
    parser.add_argument("names", nargs="*", metavar="NAME", help="these alone (default: all)")
    options = parser.parse_args()
    known = {mutant.name: mutant for mutant in MUTANTS}
    unknown = sorted({*options.names} - known.keys())
    if unknown:
        parser.error(f"{', '.join(unknown)}: expected some of {', '.join(known)}")
    chosen = [known[name] for name in options.names] or list(MUTANTS)
    complaints = [complaint for mutant in chosen for complaint in complaints_about(mutant)]
    for complaint in complaints:
        print(complaint)
    if complaints or options.check:
        return 1 if complaints else 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        return run(chosen, Path(folder) / "tree")


def complaints_about(mutant: Mutant) -> list[str]:
    """What of a row does not fit the sources any more."""
    said = []
    for edit in mutant.edits:
        count = (ROOT / edit.path).read_text("utf-8").count(edit.old)
        if count != 1:
            said.append(f"{mutant.name}: {edit.path}: expected once, got {count}: {edit.old!r}")
    for test in mutant.tests:
        path, _, name = test.partition("::")
        plain = re.escape(name.partition("[")[0])
        file = ROOT / path
        text = file.read_text("utf-8") if file.is_file() else ""
        if not re.search(rf"^def {plain}\(", text, re.MULTILINE):
            said.append(f"{mutant.name}: no such test: {test}")
    if not (mutant.edits and mutant.tests):
        said.append(f"{mutant.name}: expected a change and a test")
    return said


def run(mutants: Sequence[Mutant], tree: Path) -> int:
    """Run the tests on the sources as they are, then on each spoiled copy; the exit code."""
    tree.mkdir()
    for name in _COPIED:
        ignored = shutil.ignore_patterns("__pycache__")
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=ignored)
        else:
            shutil.copyfile(source, tree / name)
    tests = list(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
    code, said = run_tests(tree, tests)
    print(f"{'as it is':30} {'green' if code == 0 else 'RED'}   {last_line(said)}", flush=True)
    if code != 0:
        print(said)
        return 1
    survivors = [mutant.name for mutant in mutants if not is_noticed(mutant, tree)]
    if survivors:
        print(f"not noticed: {', '.join(survivors)}")
    return 1 if survivors else 0


def is_noticed(mutant: Mutant, tree: Path) -> bool:
    """Spoil the copy, run the mutant's tests, and mend the copy; whether all that ran failed."""
    originals = {edit.path: (tree / edit.path).read_text("utf-8") for edit in mutant.edits}
    spoiled = dict(originals)
    for edit in mutant.edits:
        spoiled[edit.path] = spoiled[edit.path].replace(edit.old, edit.new)
    write(tree, spoiled)
    began = time.monotonic()
    try:
        code, said = run_tests(tree, mutant.tests)
    finally:
        write(tree, originals)
    took = time.monotonic() - began
    is_red = code == _FAILED and not re.search(r"\b[1-9]\d* passed", last_line(said))
    verdict = "red" if is_red else "GREEN: nobody noticed" if code == 0 else f"exit {code}"
    print(f"{mutant.name:30} {verdict:5} {took:5.0f} s  {mutant.tests[0]}", flush=True)
    if not is_red:
        print(said)
    return is_red


def write(tree: Path, texts: dict[str, str]) -> None:
    """Write files of the copy."""
    for path, text in texts.items():
        (tree / path).write_text(text, "utf-8")


def run_tests(tree: Path, tests: Iterable[str]) -> tuple[int, str]:
    """Run tests of the copy against the copy; pytest's exit code and what it said."""
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "--all", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, f"--timeout={_TIMEOUT_SECONDS}", *tests],
        cwd=tree,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def last_line(said: str) -> str:
    """What pytest counted: what passed and failed."""
    lines = said.strip().splitlines()
    return lines[-1].strip("= ") if lines else "nothing was said"


if __name__ == "__main__":
    sys.exit(main())
