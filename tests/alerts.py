"""Drafts of messages for tests; run as a program, a device that alerts until it is killed."""

from __future__ import annotations

import argparse
import dataclasses
import threading
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edge_sdk.alerting.broker import BrokerSettings
from edge_sdk.alerting.forwarder import Forwarder, ForwarderSettings
from edge_sdk.alerting.identity import boot_id, new_ulid, time_quality
from edge_sdk.alerting.publisher import MqttPublisher
from edge_sdk.alerting.spool import Spool
from edge_sdk.alerting.topics import DEFAULT_PREFIX, Topics
from edge_sdk.records import MessageDraft, MessageKind, Region, Severity, Verdict

DEVICE = "box-1"
CAMERA = "line-3"
TOPICS = Topics(DEFAULT_PREFIX, DEVICE)
QUICK = ForwarderSettings(first_wait_seconds=0.1, longest_wait_seconds=0.5)


def make_draft(severity: Severity = Severity.WARN, **changes: Any) -> MessageDraft:
    """An opened anomaly with all that belongs to it."""
    draft = MessageDraft(
        message_id=new_ulid(),
        kind=MessageKind.ANOMALY_OPEN,
        severity=severity,
        device=DEVICE,
        camera=CAMERA,
        boot_id=boot_id(),
        captured_at=datetime.now(timezone.utc),
        mono_ns=time.monotonic_ns(),
        time_quality=time_quality(),
        bundle="sha256:" + "0a" * 32,
        reference_set="good",
        verdict=Verdict.ANOMALOUS,
        reason="over_threshold",
        detail="score 0.71 over the threshold 0.5",
        score=0.71,
        threshold=0.5,
        margin=0.42,
        normal_percentile=100.0,
        provisional=False,
        frame_id=17,
        frame_size=(1080, 1920),
        incident_id=new_ulid(),
        regions=(Region(x=3, y=4, width=50, height=60, score=0.71, area_px=2100),),
        latency_ms={"encode": 41.5, "score": 3.25},
    )
    return dataclasses.replace(draft, **changes)


def open_spool(directory: Path, **limits: Any) -> Spool:
    """A spool with room for all that a test does."""
    return Spool.open(
        directory / "spool",
        **{"device": DEVICE, "max_rows": 100_000, "max_bytes": 100_000_000, **limits},
    )


def make_publisher(
    directory: Path, port: int, *, is_confirmed: bool = False, **settings: Any
) -> MqttPublisher:
    """A publisher to the broker on a loopback port."""
    return MqttPublisher(
        BrokerSettings(**{"host": "127.0.0.1", "port": port, **settings}),
        TOPICS,
        state_directory=directory,
        is_confirmed=is_confirmed,
    )


def main() -> None:
    """Append without end, and say on stdout which message has been stored."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("port", type=int)
    arguments = parser.parse_args()
    spool = open_spool(arguments.directory)
    publisher = make_publisher(arguments.directory, arguments.port, will_delay_seconds=1)
    Forwarder(spool, publisher, QUICK).start()
    pace = threading.Event()
    while not pace.wait(0.002):
        message = spool.append(make_draft())
        print(message.message_id, flush=True)


if __name__ == "__main__":
    main()
