"""Two minutes of the soak: faults at random, and books that balance."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cameras import need_rtsp_server
from contract.tree import ROOT

BACK_SECONDS = 30.0
"""Far beyond what a free machine needs; a station that does not come back stays away for longer."""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_station_lives_through_two_minutes_of_faults_and_its_books_balance(
    tmp_path: Path, mosquitto_path: Path
) -> None:
    del mosquitto_path  # or it is skipped
    need_rtsp_server()
    soak = str(ROOT / "scripts" / "lib" / "soak.py")
    command = [sys.executable, soak, "--minutes", "2", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["complaints"] == []
    assert report["balance"]["given"] == report["balance"]["answered"] >= 15
    assert report["recovery_seconds"]["worst"] < BACK_SECONDS
    kinds = {kind.split()[0] for kind in report["faults"]}
    assert {"camera", "broker", "device", "disk"} <= kinds
