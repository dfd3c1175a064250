"""What an outage costs: how soon a backlog is delivered, what waits meanwhile, and how much memory.

    python benchmarks/delivery.py [--backlog 10000] [--outage 70000] [--synced]

A device is a process with the spool, the writer and the forwarder of ``edge-run``; the broker is a
mosquitto that is not there while messages come. A subscriber outside counts what arrives, by
``message_id``. Both clocks are this computer's monotonic one. ``--synced``: the broker writes every
change to its disk, as a plant's should.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

import numpy as np
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

DEVICE = "bench"
CHUNK = 1000
LIVE_SECONDS = 0.1
_REGION = {"x": 3, "y": 4, "width": 50, "height": 60, "score": 0.71, "area_px": 2100}


def main() -> int:
    """Measure both, and say each figure on standard error; with --json also on standard output."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--backlog", type=int, default=10_000)
    parser.add_argument("--outage", type=int, default=70_000)
    parser.add_argument("--synced", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--as-device", nargs=2, metavar=("STATE", "PORT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_device:
        be_device(Path(options.as_device[0]), int(options.as_device[1]))
        return 0
    with tempfile.TemporaryDirectory(prefix="delivery-") as name:
        backlog = measure_backlog(Path(name) / "backlog", options.backlog, is_synced=options.synced)
        outage = measure_outage(Path(name) / "outage", options.outage, is_synced=options.synced)
    if options.json:
        print(json.dumps({"backlog": backlog, "outage": outage}, indent=2))
    return 0


def measure_backlog(folder: Path, count: int, *, is_synced: bool) -> dict[str, float]:
    """A backlog while live alerts go on coming; the figures."""
    folder.mkdir()
    port = free_port()
    with Device(folder / "state", port) as device:
        device.store(count)
        with broker(folder, port, is_synced=is_synced), Listener(port) as listener:
            returned = time.monotonic_ns()
            first = listener.wait_for(1)
            while listener.distinct < count:
                device.alert()
                time.sleep(LIVE_SECONDS)
            drained = time.monotonic_ns()
            listener.wait_for(count + len(device.live))
        latency_ms = [
            (listener.seen_ns[message_id] - at_ns) / 1e6
            for message_id, at_ns in device.live.items()
            if at_ns > first  # before, there was no way out at all
        ]
    p50, p95 = np.percentile(latency_ms, [50, 95])
    seconds = (drained - first) / 1e9
    print(
        f"backlog of {count}: first message {(first - returned) / 1e9:.1f} s after the broker's "
        f"return, all {seconds:.1f} s after that ({count / seconds:.0f} a second), "
        f"{listener.repeated} of them twice",
        file=sys.stderr,
    )
    print(
        f"alerts meanwhile: {len(latency_ms)}, from the decision to the subscriber, ms: "
        f"p50 {p50:.0f}, p95 {p95:.0f}, worst {max(latency_ms):.0f}",
        file=sys.stderr,
    )
    return {
        "messages": count,
        "seconds": seconds,
        "repeated": listener.repeated,
        "alerts": len(latency_ms),
        "alert_p95_ms": float(p95),
    }


def measure_outage(folder: Path, count: int, *, is_synced: bool) -> dict[str, float]:
    """Memory of a device through an outage of so many messages, and after it; the figures."""
    folder.mkdir()
    port = free_port()
    warm = 500
    with Device(folder / "state", port) as device:
        with broker(folder, port, is_synced=is_synced), Listener(port) as listener:
            device.store(warm)
            listener.wait_for(warm)
            before = device.memory_mb()
        device.store(count)
        during = device.memory_mb()
        with broker(folder, port, is_synced=is_synced), Listener(port) as listener:
            listener.wait_for(count)
            after = device.memory_mb()
            highest = device.memory_mb("VmHWM")
    print(
        f"outage of {count}: resident memory, MB: before {before:.1f}, at its end {during:.1f}, "
        f"when all was delivered {after:.1f}, most ever {highest:.1f} (+{highest - before:.1f}); "
        f"{listener.distinct} received, {listener.repeated} of them twice",
        file=sys.stderr,
    )
    return {
        "messages": count,
        "received": listener.distinct,
        "repeated": listener.repeated,
        "extra_mb": highest - before,
    }


class Device:
    """A process that stores and forwards messages.

    Args:
        state: its folder.
        port: of the broker, on this computer.
    """

    def __init__(self, state: Path, port: int) -> None:
        self.live: dict[str, int] = {}
        """``message_id`` of each alert to the moment of its decision, monotonic ns."""
        self._command = [sys.executable, __file__, "--as-device", str(state), str(port)]

    def __enter__(self) -> Device:  # noqa: PYI034 - Self is not in Python 3.10
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # what it has to say is in the figures
        self._process.wait()

    def store(self, count: int) -> None:
        """Let so many messages come, and wait until they are on the disk."""
        self._ask({"store": count})

    def alert(self) -> None:
        """Let one message come."""
        answer = self._ask({"alert": 1})
        self.live[answer["message_id"]] = answer["at_ns"]

    def memory_mb(self, kind: str = "VmRSS") -> float:
        """Resident memory."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith(f"{kind}:"))
        return int(line.split()[1]) / 1e3

    def _ask(self, question: dict[str, int]) -> dict[str, Any]:
        write_line(self._process.stdin, question)
        assert self._process.stdout is not None  # noqa: S101 - a pipe
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def be_device(state: Path, port: int) -> None:
    """Answer the questions of ``Device`` until there are no more."""
    from edge_sdk.config import default_config, override_config  # noqa: PLC0415 - the device's own
    from edge_sdk.runtime.dispatch import Dispatch  # noqa: PLC0415 - the device's own
    from edge_sdk.runtime.outbox import DurableOutbox  # noqa: PLC0415 - the device's own

    config = override_config(
        default_config(),
        {
            ("device", "name"): DEVICE,
            ("state_dir",): str(state),
            ("mqtt", "host"): "127.0.0.1",
            ("mqtt", "port"): port,
        },
    )
    outbox = DurableOutbox(config, bundle_id="sha256:" + "0b" * 32)
    for line in sys.stdin:
        question = json.loads(line)
        if "alert" in question:
            draft, at_ns = make_draft(), time.monotonic_ns()
            outbox.send(Dispatch(draft=draft), lambda _message: None)
            write_line(sys.stdout, {"message_id": draft.message_id, "at_ns": at_ns})
            continue
        for _ in range(question["store"] // CHUNK + 1):
            for _ in range(min(CHUNK, question["store"])):
                outbox.send(Dispatch(draft=make_draft()), lambda _message: None)
            question["store"] -= CHUNK
            outbox.flush()
        write_line(sys.stdout, {})


def make_draft() -> Any:  # noqa: ANN401 - of a module that only the device loads
    """An opened anomaly with all that belongs to it, 1.1 kB as JSON."""
    from edge_sdk.alerting.identity import boot_id, new_ulid, time_quality  # noqa: PLC0415 - above
    from edge_sdk.records import (  # noqa: PLC0415 - above
        MessageDraft,
        MessageKind,
        Region,
        Severity,
        Verdict,
    )

    return MessageDraft(
        message_id=new_ulid(),
        kind=MessageKind.ANOMALY_OPEN,
        severity=Severity.WARN,
        device=DEVICE,
        camera="cam1",
        boot_id=boot_id(),
        captured_at=datetime.now(timezone.utc),
        mono_ns=time.monotonic_ns(),
        time_quality=time_quality(),
        bundle="sha256:" + "0b" * 32,
        reference_set="default/1",
        verdict=Verdict.ANOMALOUS,
        reason="over_threshold",
        detail="score 0.71 over the threshold 0.5",
        score=0.71,
        threshold=0.5,
        margin=0.42,
        frame_id=17,
        frame_size=(1080, 1920),
        incident_id=new_ulid(),
        regions=(Region(**_REGION),),  # type: ignore[arg-type]  # numbers of two types
        latency_ms={"encode": 41.5, "score": 3.25},
    )


class Listener:
    """A subscriber outside.

    Args:
        port: of the broker.
    """

    def __init__(self, port: int) -> None:
        self.seen_ns: dict[str, int] = {}
        """``message_id`` to when it came first, monotonic ns."""
        self._count: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = self._take
        self._client.on_connect = lambda client, *_: client.subscribe("edge/v1/+/alert/+", qos=1)
        self._client.connect("127.0.0.1", port)

    def __enter__(self) -> Listener:  # noqa: PYI034 - Self is not in Python 3.10
        self._client.loop_start()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.loop_stop()
        self._client.disconnect()

    @property
    def distinct(self) -> int:
        """Messages so far."""
        return len(self.seen_ns)

    @property
    def repeated(self) -> int:
        """Messages that came more than once."""
        return sum(count - 1 for count in self._count.values())

    def wait_for(self, count: int) -> int:
        """Wait until so many have come; the moment of the first one."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.distinct >= count, 900):
                raise TimeoutError(f"{self.distinct} of {count} messages after 900 s")
            return next(iter(self.seen_ns.values()))

    def _take(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        now = time.monotonic_ns()
        message_id = json.loads(message.payload)["message_id"]
        with self._changed:
            self.seen_ns.setdefault(message_id, now)
            self._count[message_id] += 1
            self._changed.notify_all()


@contextmanager
def broker(folder: Path, port: int, *, is_synced: bool) -> Iterator[None]:
    """A mosquitto; returns when it takes connections, and kills it at the end."""
    binary = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    lines = [f"listener {port} 127.0.0.1", "allow_anonymous true", "max_queued_messages 0"]
    if is_synced:
        lines += ["persistence true", f"persistence_location {folder}/", "user root"]
        lines += ["autosave_interval 1", "autosave_on_changes true"]
    (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
    command = [binary, "-c", str(folder / "mosquitto.conf")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except ConnectionRefusedError:
                    time.sleep(0.05)
            yield
        finally:
            process.kill()


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def write_line(stream: IO[str] | None, value: dict[str, Any]) -> None:
    """One line of JSON."""
    assert stream is not None  # noqa: S101 - a pipe
    stream.write(json.dumps(value) + "\n")
    stream.flush()


if __name__ == "__main__":
    sys.exit(main())
