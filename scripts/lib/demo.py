"""Runs the commands of the SDK against a broker on loopback and shows what a stranger received."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from clip_intervals import CLIP, FIRST_GOOD, read_labels, tally  # noqa: E402 - after the path


def main() -> int:
    """Run the demo; returns its exit code."""
    parser = argparse.ArgumentParser(prog="scripts/demo")
    parser.add_argument("--camera", help="0, /dev/v4l/by-id/..., file:VIDEO (default: the clip)")
    parser.add_argument("--seconds", type=float, default=45.0, help="of a camera (default: 45)")
    parser.add_argument("--out", type=Path, default=ROOT / "demo-output")
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    log = options.out / "messages.jsonl"
    log.touch()
    with broker() as port, subscriber(port, options.out / "pictures", log):
        status = enroll_and_run(options, port)
        time.sleep(1.0)
    if status not in (0, 128 + signal.SIGINT):
        return status
    if options.camera is None:
        return summarise(log, options.out)
    print(f"\n{len(log.read_text().splitlines())} messages; pictures in {options.out / 'pictures'}")
    return 0


def enroll_and_run(options: argparse.Namespace, port: int) -> int:
    """Enrol, then watch; the exit code of whichever failed, or of the watching."""
    camera = options.camera or f"file:{CLIP}"
    state = options.out / "state"
    enroll = ["edge-enroll", "--camera", camera, "--state", str(state)]
    run = ["edge-run", "--camera", camera, "--state", str(state), "--mqtt", f"127.0.0.1:{port}"]
    run += ["--json"]
    if options.camera is None:
        enroll += ["--last-frame", str(FIRST_GOOD[1])]
        run += ["--pace", "realtime"]
    say(f"$ {' '.join(enroll)}")
    status = subprocess.run(enroll, check=False).returncode
    if status != 0:
        return status
    say(f"$ {' '.join(run)}\n\nreceived by an independent subscriber (examples/subscriber.py):")
    with (options.out / "run.json").open("w") as answer:
        watching = subprocess.Popen(run, stdout=answer)
        try:
            return watching.wait(timeout=options.seconds if options.camera else None)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            watching.send_signal(signal.SIGINT)
            return watching.wait()


@contextmanager
def broker() -> Iterator[int]:
    """A broker on a free loopback port: mosquitto, or one that pip installed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # mosquitto, started by root, gives up root before it reads
        config = Path(folder) / "broker.conf"
        mosquitto = shutil.which("mosquitto")
        if mosquitto:
            config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
            command = [mosquitto, "-c", str(config)]
        else:
            config = config.with_suffix(".yaml")
            config.write_text(AMQTT_CONFIG.format(port=port))
            command = ["amqtt", "-c", str(config)]
        say(f"broker: {Path(command[0]).name} on 127.0.0.1:{port}")
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for_port(port, process)
            yield port
        finally:
            process.terminate()
            process.wait()


AMQTT_CONFIG = """
listeners:
  default:
    type: tcp
    bind: 127.0.0.1:{port}
plugins:
  amqtt.plugins.authentication.AnonymousAuthPlugin:
    allow_anonymous: true
"""


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until somebody answers."""
    for _ in range(100):
        if process.poll() is not None:
            raise SystemExit(f"the broker ended at once, exit code {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit("the broker does not answer")


@contextmanager
def subscriber(port: int, pictures: Path, log: Path) -> Iterator[None]:
    """The independent subscriber, a process of its own; its lines go to our standard output."""
    command = [sys.executable, str(ROOT / "examples" / "subscriber.py")]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    command += ["--pictures", str(pictures), "--log", str(log)]
    process = subprocess.Popen(command)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def summarise(log: Path, out: Path) -> int:
    """Hold what was received against the clip's labels."""
    messages = [json.loads(line) for line in log.read_text().splitlines()]
    frames = {
        kind: [m["frame_id"] for m in messages if m["kind"] == f"anomaly.{kind}"]
        for kind in ("open", "update")
    }
    print("\nlabels of the clip and what arrived:")
    for interval in read_labels():
        opens = [frame for frame in frames["open"] if interval.contains(frame)]
        updates = [frame for frame in frames["update"] if interval.contains(frame)]
        span = f"{interval.first_frame}-{interval.last_frame}"
        print(f"  {interval.label:8} {span:10} opened at {opens}  updated at {updates}")
    run = json.loads((out / "run.json").read_text())["cameras"]["cam1"]
    print(f"\nours:             {tally(read_labels(), frames['open'], frames['update'])}")
    print(f"frame difference: {baseline(out)} (its threshold chosen with hindsight)")
    total = run["latency_ms"]["total"]
    print(
        f"{run['inspected']} frames judged, {run['dropped']} overtaken by newer ones, "
        f"{total['p50']} ms a frame (p95 {total['p95']})"
    )
    pictures = sorted((out / "pictures").glob("*.jpg"))
    print(f"{len(messages)} messages, {len(pictures)} heatmap pictures in {out / 'pictures'}")
    return 0


def baseline(out: Path) -> str:
    """The five-line frame difference on the same clip, references and rules for alarms."""
    from clip_baseline import run_baseline  # noqa: PLC0415 - imports OpenCV

    (folder,) = (out / "state" / "cameras" / "cam1" / "reference_sets" / "default").iterdir()
    return str(run_baseline(folder / "pictures"))


def say(text: str) -> None:
    """Print at once, so that lines of several processes stay in order."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
