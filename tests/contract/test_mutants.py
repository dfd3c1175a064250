"""The ways to spoil a promise that ``scripts/mutants`` tries: still possible, and still noticed."""

from __future__ import annotations

import subprocess
import sys

import pytest
from contract.tree import ROOT


def run_mutants(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / "lib" / "mutants.py", *words],
        capture_output=True,
        text=True,
        check=False,
    )


def test_each_spoils_a_text_that_is_there_once_and_names_a_test_that_exists() -> None:
    checked = run_mutants("--check")
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_each_is_noticed_by_the_test_that_is_named_for_it(mosquitto_path: object) -> None:  # noqa: ARG001 - or it is skipped
    done = run_mutants()
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
