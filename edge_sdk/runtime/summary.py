"""What a run did, in numbers that stay small however long it runs."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

import numpy as np

from edge_sdk.records import Decision

_KEPT_LATENCIES = 10_000
STAGES = ("capture", "preprocess", "encode", "score", "decide", "watch")
TRIGGER_TO_OUTPUT = "trigger_to_output"
"""From the arrival of a trigger until its verdict was on the line, faults included."""


class CameraSummary:
    """Counters of one camera since the start."""

    def __init__(self) -> None:
        self.verdicts: Counter[str] = Counter()
        self.messages: Counter[str] = Counter()
        self._latency: dict[str, deque[float]] = {
            stage: deque(maxlen=_KEPT_LATENCIES) for stage in (*STAGES, "total", TRIGGER_TO_OUTPUT)
        }

    @property
    def inspected(self) -> int:
        """Decisions so far, faults included."""
        return sum(self.verdicts.values())

    def count(self, decision: Decision) -> None:
        """Take one decision."""
        self.verdicts[str(decision.verdict)] += 1
        for stage, milliseconds in decision.latency_ms.items():
            self._latency[stage].append(milliseconds)
        work = [decision.latency_ms[stage] for stage in STAGES[1:] if stage in decision.latency_ms]
        if work:
            self._latency["total"].append(sum(work))

    def to_json(self, *, dropped: int) -> dict[str, Any]:
        """Counters, and milliseconds for each stage: percentiles and the worst, of the last 10 000.

        ``total`` is preprocess to decide, and watch where that was done; ``capture`` is how old the
        frame was before that;
        ``trigger_to_output`` is from the arrival of a trigger to its verdict on the line.
        """
        latency = {
            stage: {
                "p50": round(float(np.percentile(values, 50)), 2),
                "p95": round(float(np.percentile(values, 95)), 2),
                "p99": round(float(np.percentile(values, 99)), 2),
                "worst": round(max(values), 2),
            }
            for stage, values in self._latency.items()
            if values
        }
        return {
            "inspected": self.inspected,
            "dropped": dropped,
            "verdicts": dict(self.verdicts),
            "messages": dict(self.messages),
            "latency_ms": latency,
        }
