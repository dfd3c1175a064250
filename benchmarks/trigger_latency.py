"""From the trigger at the broker to the verdict on the output line, seen from outside.

    python benchmarks/trigger_latency.py [--parts 300] [--freeze]

Runs mosquitto and ``edge-run`` with the built-in bundle over the sample clip at its own pace, sends
triggers at random moments, and reads the line's socket as a PLC gateway would. Both clocks are this
computer's monotonic one. ``--freeze`` keeps the state on a file system of its own and freezes that
for two seconds of every four (``fsfreeze``: every write and sync waits); needs root.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import cv2
import numpy as np
import yaml
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

import edge_sdk

CLIP = Path(edge_sdk.__file__).parent / "builtin" / "clip" / "bottle-detection.mp4"
GOOD_FRAMES = 165
FRAMES_PER_SECOND = 30.0
STALL_SECONDS = 2.0
DEVICE = "bench"


def main() -> int:
    """Measure, and print one line for each kind of moment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--parts", type=int, default=300)
    parser.add_argument("--freeze", action="store_true")
    options = parser.parse_args()
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="latency-")))
        state = folder / "state"
        state.mkdir()
        if options.freeze:
            opened.enter_context(own_file_system(folder / "disk", state))
        video = write_video(folder / "line.avi", seconds=options.parts * 0.2 + 60)
        port = opened.enter_context(broker(folder))
        enroll(state)
        config = write_config(folder, video, state, port)
        opened.enter_context(edge_run(config))
        line = connect(folder / "line")
        opened.callback(line.close)
        stalls: list[tuple[float, float]] = []
        if options.freeze:
            opened.enter_context(freezing(state, stalls))
        waited = measure(port, line, options.parts)
    report("all", [(ms, verdict) for _, ms, verdict in waited])
    if options.freeze:
        inside = [
            (ms, verdict)
            for sent, ms, verdict in waited
            if any(start <= sent <= end for start, end in stalls)
        ]
        report("sent while the disk stalled", inside)
    return 0


def measure(port: int, line: socket.socket, parts: int) -> list[tuple[float, float, str]]:
    """Moment of sending (monotonic seconds), milliseconds, and verdict of each part."""
    client = Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", port)
    client.loop_start()
    lines = line.makefile("rb")
    waited = []
    for number in range(parts):
        time.sleep(random.uniform(0.05, 0.3))
        trigger_id = f"t-{number}"
        sent = time.monotonic()
        client.publish(
            f"edge/v1/{DEVICE}/cmd/trigger",
            json.dumps({"part_id": trigger_id, "trigger_id": trigger_id}),
            qos=1,
        )
        for text in lines:
            said = json.loads(text)
            if said["kind"] == "show" and said.get("trigger_id") == trigger_id:
                break
        waited.append((sent, (time.monotonic() - sent) * 1e3, said["verdict"]))
    client.loop_stop()
    return waited


def report(name: str, waited: list[tuple[float, str]]) -> None:
    """One line."""
    milliseconds = [ms for ms, _ in waited]
    p50, p95, p99 = np.percentile(milliseconds, [50, 95, 99])
    faults = sum(verdict == "fault" for _, verdict in waited)
    print(
        f"{name}: {len(waited)} parts, {faults} faults; trigger to output, ms: "
        f"p50 {p50:.1f}, p95 {p95:.1f}, p99 {p99:.1f}, worst {max(milliseconds):.1f}"
    )


def write_video(path: Path, *, seconds: float) -> Path:
    """The good part of the sample clip, again and again."""
    clip = cv2.VideoCapture(str(CLIP))
    frames = [clip.read()[1] for _ in range(GOOD_FRAMES)]
    height, width = frames[0].shape[:2]
    video = cv2.VideoWriter(
        str(path), cv2.VideoWriter.fourcc(*"MJPG"), FRAMES_PER_SECOND, (width, height)
    )
    for number in range(int(seconds * FRAMES_PER_SECOND)):
        video.write(frames[number % GOOD_FRAMES])
    video.release()
    return path


def enroll(state: Path) -> None:
    """Four good pictures of the clip."""
    run(
        "enroll",
        "--camera",
        f"file:{CLIP}",
        "--last-frame",
        str(GOOD_FRAMES),
        "--state",
        str(state),
    )


def write_config(folder: Path, video: Path, state: Path, port: int) -> Path:
    """The device file."""
    camera = {
        "name": "cam1",
        "source": f"file:{video}",
        "pace": "realtime",
        "trigger": {"mode": "mqtt", "deadline_seconds": 1.0},
        "output": {"driver": "socket", "address": str(folder / "line")},
    }
    settings = {
        "device": {"name": DEVICE},
        "state_dir": str(state),
        "cameras": [camera],
        "mqtt": {"host": "127.0.0.1", "port": port},
    }
    path = folder / "box.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def run(command: str, *arguments: str) -> None:
    """Run a command of ours to its end."""
    subprocess.run(
        [sys.executable, "-m", f"edge_sdk.cli.{command}", *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
    )


@contextmanager
def edge_run(config: Path) -> Iterator[None]:
    """The device."""
    command = [sys.executable, "-m", "edge_sdk.cli.run", "--config", str(config), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield
        process.terminate()
        said, _ = process.communicate(timeout=60)
    inside = json.loads(said)["cameras"]["cam1"]["latency_ms"]["trigger_to_output"]
    print(f"edge-run itself says: {inside}")


@contextmanager
def broker(folder: Path) -> Iterator[int]:
    """A mosquitto on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    binary = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    (folder / "mosquitto.conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    with subprocess.Popen([binary, "-c", str(folder / "mosquitto.conf")]) as process:
        try:
            yield port
        finally:
            process.terminate()


def connect(path: Path) -> socket.socket:
    """Read the line as a gateway does."""
    while not path.exists():
        time.sleep(0.05)
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    line.connect(str(path))
    time.sleep(2)  # the device has connected to the broker by then
    return line


@contextmanager
def own_file_system(image: Path, state: Path) -> Iterator[None]:
    """An ext4 in a file, mounted over the state folder."""
    with image.open("wb") as file:
        file.truncate(128_000_000)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(state)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(state)], check=True)


@contextmanager
def freezing(state: Path, stalls: list[tuple[float, float]]) -> Iterator[None]:
    """Freeze the file system for two seconds of every four; says when."""
    stop = threading.Event()

    def freeze() -> None:
        while not stop.wait(STALL_SECONDS):
            subprocess.run(["fsfreeze", "-f", str(state)], check=True)
            start = time.monotonic()
            stop.wait(STALL_SECONDS)
            end = time.monotonic()
            subprocess.run(["fsfreeze", "-u", str(state)], check=True)
            stalls.append((start, end))

    thread = threading.Thread(target=freeze)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


if __name__ == "__main__":
    sys.exit(main())
