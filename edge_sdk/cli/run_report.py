"""What ``edge-run`` says to people: at its start, of each message, at its end."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edge_sdk.console import printable

if TYPE_CHECKING:
    from edge_sdk.config import DeviceConfig
    from edge_sdk.pipeline import Pipeline
    from edge_sdk.records import Message

_LOGGED = (
    "message_id", "seq", "kind", "severity", "camera", "verdict", "reason",
    "part_id", "trigger_id", "event",
)  # fmt: skip
"""Fields of a message that are fields of its event in the log."""


def announce(config: DeviceConfig, pipelines: Mapping[str, Pipeline], *, is_dry: bool) -> None:
    """Say what is watched, by which set and threshold, for whom."""
    from edge_sdk.config.source import shown_source

    goal = "nobody (--dry-run)" if is_dry else f"{config.mqtt.host}:{config.mqtt.port}"
    for camera in config.cameras:
        pipeline = pipelines[camera.name]
        threshold = pipeline.decider.threshold
        shown = shown_source(camera.source)
        state = "provisional" if threshold.provisional else threshold.method
        limit = "none" if threshold.method == "none" else f"{threshold.value:.4f} ({state})"
        print(
            f"{camera.name}: watching {shown}, "
            f"references {pipeline.reference_label or 'none'}, "
            f"threshold {limit}, alerts to {goal}",
            file=sys.stderr,
        )


def print_message(message: Message) -> None:
    """One line a message, as it became durable."""
    print(printable(_describe(message)), flush=True)


def log_message(message: Message) -> None:
    """The same as an event of the log, with what a machine may want to filter by."""
    import logging

    from edge_sdk.logs import FIELDS

    values = {name: getattr(message, name) for name in _LOGGED}
    fields = {name: value for name, value in values.items() if value is not None}
    logging.getLogger("edge_sdk.messages").info("%s", _describe(message), extra={FIELDS: fields})


def _describe(message: Message) -> str:
    parts = [f"{message.captured_at:%H:%M:%S.%f}"[:-3], message.camera or "-", str(message.kind)]
    if message.part_id is not None:
        parts.append(f"part {message.part_id}")
    if message.verdict is not None:
        parts.append(str(message.verdict))
    if message.score is not None and message.threshold is not None:
        parts.append(f"score {message.score:.3f} threshold {message.threshold:.3f}")
    if message.frame_id is not None:
        parts.append(f"frame {message.frame_id}")
    if message.regions:
        worst = message.regions[0]
        parts.append(f"region {worst.width}x{worst.height} at {worst.x},{worst.y}")
    if message.verdict == "fault":
        parts.append(f"({message.reason}: {message.detail})")
    if message.event is not None:
        parts.append(f"{message.event} {dict(message.data or {})}")
    return "  ".join(parts)


def print_summary(summary: dict[str, Any], waiting: int) -> None:
    """Counters and latencies at the end."""
    for camera, numbers in summary.items():
        total = numbers["latency_ms"].get("total", {"p50": 0, "p95": 0})
        print(
            f"{camera}: {numbers['inspected']} frames judged, {numbers['dropped']} overtaken, "
            f"{numbers['verdicts']}, {total['p50']} ms a frame (p95 {total['p95']})",
            file=sys.stderr,
        )
    if waiting:
        print(f"{waiting} messages wait on the disk for the broker", file=sys.stderr)
