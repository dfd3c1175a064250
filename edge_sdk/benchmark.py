"""How long each stage takes on this box, on real pictures."""

from __future__ import annotations

import platform
import resource
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.machine import describe_processor, installed_version
from edge_sdk.pipeline import Pipeline
from edge_sdk.records import Frame

STAGES = ("preprocess", "encode", "score", "decide")


def measure_pipelines(
    pipelines: dict[str, Pipeline], frames: Sequence[Frame], *, rounds: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Inspect the same frames with each pipeline in turn, so that a noisy machine hits all alike.

    Args:
        pipelines: by name.
        frames: real pictures.
        rounds: how often to go through all frames; one more before goes unmeasured.

    Returns:
        name -> stage (and ``total``) -> ``p50`` and ``p95`` milliseconds.
    """
    taken: dict[str, dict[str, list[float]]] = {
        name: {stage: [] for stage in (*STAGES, "total")} for name in pipelines
    }
    for round_number in range(rounds + 1):
        for frame in frames:
            for name, pipeline in pipelines.items():
                fresh = replace(frame, monotonic_ns=time.monotonic_ns())
                latency = pipeline.inspect(fresh).latency_ms
                if round_number == 0:
                    continue
                for stage in STAGES:
                    taken[name][stage].append(latency[stage])
                taken[name]["total"].append(sum(latency[stage] for stage in STAGES))
    return {
        name: {
            stage: {
                "p50": round(float(np.percentile(values, 50)), 2),
                "p95": round(float(np.percentile(values, 95)), 2),
            }
            for stage, values in stages.items()
        }
        for name, stages in taken.items()
    }


def describe_machine() -> dict[str, Any]:
    """What the figures were measured on."""
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return {
        **describe_processor(),
        "governor": governor.read_text().strip() if governor.is_file() else None,
        "python": platform.python_version(),
        "versions": {
            name: installed_version(name)
            for name in ("numpy", "onnxruntime", "openvino", "opencv-python-headless")
        },
    }


def peak_memory_megabytes() -> float:
    """Largest resident set of this process so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000, 1)
