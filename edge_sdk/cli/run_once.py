"""``edge-run --once``: one frame of each camera, one answer."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edge_sdk.console import print_json

if TYPE_CHECKING:
    from edge_sdk.config import DeviceConfig
    from edge_sdk.pipeline import Pipeline
    from edge_sdk.records import Decision

EXIT_ANOMALY = 10


def run_once(
    options: argparse.Namespace, config: DeviceConfig, pipelines: Mapping[str, Pipeline]
) -> int:
    """Judge them; returns the exit code."""
    from contextlib import closing

    from edge_sdk.errors import CaptureError
    from edge_sdk.protocols import AdjustableSource
    from edge_sdk.records import Reason
    from edge_sdk.runtime.compose import open_camera
    from edge_sdk.runtime.health import PictureHealth, camera_settings
    from edge_sdk.runtime.masters import challenge_fault, load_masters

    answers = []
    is_anomalous = is_fault = False
    for camera in config.cameras:
        with closing(open_camera(camera)) as source:
            if isinstance(source, AdjustableSource):
                source.adjust(camera_settings(pipelines[camera.name]))
            frame = next(iter(source.frames()), None)
            if frame is None:
                raise CaptureError(f"{camera.name}: ended before its first frame")
            pipeline = pipelines[camera.name]
            wrong = challenge_fault(pipeline, load_masters(camera))
            health = PictureHealth(camera.faults, is_watched=False)
            decision = (
                health.examine(pipeline, pipeline.inspect(frame))
                if wrong is None
                else pipeline.decider.fault(Reason.CHALLENGE_FAILED, wrong, frame=frame)
            )
        answers.append({"camera": camera.name, **_describe(decision)})
        is_anomalous |= decision.verdict == "anomalous"
        is_fault |= decision.verdict == "fault"
    if options.json:
        print_json({"cameras": answers})
    else:
        for answer in answers:
            print(f"{answer['camera']}: {answer['verdict']} ({answer['detail']})")
    return EXIT_ANOMALY if options.exit_status and (is_anomalous or is_fault) else 0


def _describe(decision: Decision) -> dict[str, Any]:
    from dataclasses import asdict

    is_fault = decision.verdict == "fault"
    return {
        "verdict": str(decision.verdict),
        "reason": str(decision.reason),
        "detail": decision.detail,
        "score": decision.result.image_score if decision.result and not is_fault else None,
        "threshold": decision.threshold,
        "provisional": decision.provisional,
        "margin": decision.margin,
        "regions": [asdict(region) for region in decision.regions],
        "latency_ms": dict(decision.latency_ms),
    }
