"""What docs/mqtt.md says of an outage, on a small scale: at least as quick, and as small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "delivery.py"
SLOWEST_A_SECOND = 10_000 / 60
LATEST_MS = 2000
MOST_MB = 20


@pytest.mark.slow
@pytest.mark.usefixtures("mosquitto_path")
def test_a_backlog_is_drained_while_alerts_overtake_it_and_an_outage_costs_no_memory() -> None:
    words = ["--backlog", "2000", "--outage", "5000", "--json"]
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    backlog, outage = figures["backlog"], figures["outage"]

    assert backlog["messages"] / backlog["seconds"] > SLOWEST_A_SECOND, done.stderr
    assert backlog["alerts"] > 5, "alerts came while it was drained"
    assert backlog["alert_p95_ms"] < LATEST_MS, done.stderr
    assert outage["received"] == outage["messages"], done.stderr
    assert backlog["repeated"] + outage["repeated"] == 0, "nothing was killed"
    assert outage["extra_mb"] < MOST_MB, done.stderr
