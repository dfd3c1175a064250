"""A station's hard life: real camera and broker, faults at random, and books kept outside."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

from cameras import rtsp_camera  # noqa: E402 - the same
from careful_plant import Balance, CarefulPlant  # noqa: E402 - after the path
from clip_intervals import CLIP, FIRST_GOOD  # noqa: E402 - the same
from commands import TERMINATED, Box  # noqa: E402 - the same
from disk import Disk, NoDiskError  # noqa: E402 - the same
from mosquitto import Mosquitto  # noqa: E402 - the same
from soak_faults import Device, Group, box_faults, broker_faults, camera_faults  # noqa: E402

DEVICE = "soak-1"
WIDTH, HEIGHT = 320, 180
REFERENCES = 8
CAMERA_SECONDS = 0.6
"""From a new part before the camera until its stream surely shows it."""
RSS_EVERY_SECONDS = 5.0
SETTLED_SECONDS = 20.0
"""After a start, in which memory grows because things are loaded."""
MOST_REPEATED = 0.02
LAST_ANSWERS_SECONDS = 90.0


def main() -> int:
    """Run the soak; returns its exit code."""
    parser = argparse.ArgumentParser(prog="scripts/soak")
    parser.add_argument("--minutes", type=float, default=2.0, help="how long (default: 2)")
    parser.add_argument("--seed", type=int, default=1, help="of all that is random (default: 1)")
    parser.add_argument("--out", type=Path, help="keep log, faults and report in this folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        out = options.out or Path(folder) / "out"
        out.mkdir(parents=True, exist_ok=True)
        return Soak(Path(folder), out, options.minutes, options.seed).run()


class Soak:
    """One station for some minutes.

    Args:
        folder: for all that the station needs.
        out: for what is kept.
        minutes: how long faults come.
        seed: of all that is random.
    """

    def __init__(self, folder: Path, out: Path, minutes: float, seed: int) -> None:
        self.minutes = minutes
        self.seed = seed
        self._out = out
        self._folder = folder
        self._chance = random.Random(seed)
        self._good = good_pictures()
        self._seen = folder / "seen.rgb"
        self._truth: dict[str, str] = {}
        self._shown: dict[str, str] = {}
        """By part: when it was put before the camera, UTC."""
        self._lock = threading.Lock()
        self._rss: list[tuple[int, float, float]] = []
        """Life of the device, seconds since its start, MB."""
        self._recoveries: list[tuple[float, str]] = []

    def run(self) -> int:
        """Set everything up, live, and report; the exit code."""
        self._see("good")
        usual: list[object] = ["--sees", self._seen, "--size", f"{WIDTH}x{HEIGHT}"]
        with ExitStack() as stack:
            box = Box(self._folder / "box")
            disk = self._open_disk(box, stack)
            broker = stack.enter_context(Mosquitto(persistence=True))
            camera = stack.enter_context(rtsp_camera(*usual))
            config = self._enroll(box, camera.port, broker.port)
            command = [sys.executable, "-m", "edge_sdk.cli.run", "--config", str(config)]
            device = Device(box, [*command, "--wait-camera", "--json"], self._out / "device.log")
            stack.callback(device.kill)
            plant = stack.enter_context(
                CarefulPlant(
                    broker.port, DEVICE, self._true_verdict, show=self._show, again_seconds=1.0
                )
            )
            device.start()
            plant.wait_for_answers(3, 120)
            pace = min(1.0, max(0.25, self.minutes / 30))
            groups = [
                Group(camera_faults(camera, usual), (8 * pace, 40 * pace), self._chance),
                Group(broker_faults(broker), (8 * pace, 40 * pace), self._chance),
                Group(box_faults(device, box, disk), (30 * pace, 90 * pace), self._chance),
            ]
            self._live(groups, device, plant)
            plant.finish(LAST_ANSWERS_SECONDS)
            last = device.stop()
            balance = plant.balance()
            with (self._out / "results.jsonl").open("w") as kept:
                for result in plant.results():
                    about = {"shown_at": self._shown[result["part_id"]], **result}
                    kept.write(json.dumps(about) + "\n")
        return self._report(balance, groups, device, last)

    def _open_disk(self, box: Box, stack: ExitStack) -> Disk | None:
        try:
            return stack.enter_context(Disk(self._folder, box.state, megabytes=512))
        except NoDiskError as error:
            print(f"no power cuts, and stalls by the spool's lock alone: {error}")
            return None

    def _enroll(self, box: Box, camera_port: int, broker_port: int) -> Path:
        """Enrol the good pictures; the device file that watches the camera."""
        pictures = self._folder / "references"
        pictures.mkdir()
        for number, pixels in enumerate(self._good):
            bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
            cv2.imwrite(str(pictures / f"{number}.png"), bgr)
        camera: dict[str, Any] = {"name": "cam1", "source": f"dir:{pictures}"}
        settings: dict[str, Any] = {
            "device": {"name": DEVICE},
            "mqtt": {"host": "localhost", "port": broker_port},
        }
        enrolling = box.folder / "enrol.yaml"
        enrolling.write_text(yaml.safe_dump({**settings, "cameras": [camera]}))
        words = ("enroll", "--config", enrolling, "--count", REFERENCES)
        box.run(*words).expect(0)
        running = box.folder / "box.yaml"
        camera |= {
            "source": f"rtsp://127.0.0.1:{camera_port}/line",
            "trigger": {"mode": "mqtt", "deadline_seconds": 2.0},
        }
        running.write_text(yaml.safe_dump({**settings, "cameras": [camera]}))
        return running

    def _show(self, part: str) -> None:
        """Put a part before the camera, and wait until its stream shows it."""
        kind = "bad" if self._chance_of_parts.random() < 0.3 else "good"
        with self._lock:
            self._truth[part] = "normal" if kind == "good" else "anomalous"
        self._see(kind)
        self._shown[part] = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        time.sleep(CAMERA_SECONDS)

    @property
    def _chance_of_parts(self) -> random.Random:
        if not hasattr(self, "_parts"):
            self._parts = random.Random(self.seed + 1)
        return self._parts

    def _see(self, kind: str) -> None:
        picture = self._chance_of_parts.choice(self._good).copy()
        if kind == "bad":
            picture[60:120, 120:200] = (10, 200, 60)
        draft = self._seen.with_suffix(".new")
        draft.write_bytes(picture.tobytes())
        draft.replace(self._seen)

    def _true_verdict(self, result: dict[str, Any]) -> str:
        with self._lock:
            return self._truth[result["part_id"]]

    def _live(self, groups: list[Group], device: Device, plant: CarefulPlant) -> None:
        """Let faults come and go, and measure what that does."""
        end = time.monotonic() + 60 * self.minutes
        well_since, judged, sampled, is_over = None, 0, 0.0, False
        life, born = device.starts, time.monotonic()
        while not is_over or any(group.active for group in groups):
            now = time.monotonic()
            is_over = now >= end
            if groups[-1].active is None:
                device.check()
            before = {group: group.active for group in groups}
            for group in groups:
                group.turn(is_over=is_over)
                self._note(group, before[group])
            if device.starts != life:
                life, born = device.starts, now
            if now - sampled >= RSS_EVERY_SECONDS and device.pid is not None:
                sampled = now
                self._rss.append((life, now - born, rss_mb(device.pid)))
            has_changed = any(group.active is not before[group] for group in groups)
            if has_changed:
                is_well = not any(group.active for group in groups)
                well_since = time.monotonic() if is_well else None
                judged = plant.judged
                ended = next((g.ended for g in groups if before[g] and not g.active), "")
            if well_since is not None and plant.judged > judged:
                self._recoveries.append((time.monotonic() - well_since, ended))
                well_since = None
            time.sleep(0.05)

    def _note(self, group: Group, before: object) -> None:
        if group.active is before:
            return
        what = f"begins: {group.active.kind}" if group.active else f"ends: {group.ended}"
        with (self._out / "faults.log").open("a") as log:
            log.write(f"{datetime.now(timezone.utc).isoformat(timespec='milliseconds')} {what}\n")

    def _report(self, balance: Balance, groups: list[Group], device: Device, last: int) -> int:
        counts: Counter[str] = sum((group.counts for group in groups), Counter())
        worst, cause = max(self._recoveries, default=(0.0, "nothing"))
        usual = statistics.median([seconds for seconds, _ in self._recoveries] or [0.0])
        slope, settled = rss_slope(self._rss)
        log = (self._out / "device.log").read_text(errors="replace")
        complaints = [
            text
            for text, is_so in (
                ("the balance of parts and messages does not hold", not balance.is_even),
                ("too many repeats", balance.repeated_share > MOST_REPEATED),
                ("the device ended by itself", bool(device.own_ends)),
                (f"its last exit code is {last}", last != TERMINATED),
                ("a traceback in its log", "Traceback" in log),
            )
            if is_so
        ]
        told = {
            "minutes": self.minutes,
            "seed": self.seed,
            "balance": asdict(balance),
            "repeated_share": balance.repeated_share,
            "faults": dict(counts),
            "device_starts": device.starts,
            "ended_by_itself": device.own_ends,
            "recovery_seconds": {"worst": worst, "after": cause, "median": usual},
            "rss_mb": {"slope_per_hour": slope, "settled_minutes": settled}
            | ({"last": self._rss[-1][2]} if self._rss else {}),
            "complaints": complaints,
        }
        (self._out / "report.json").write_text(json.dumps(told, indent=1) + "\n")
        verdicts = ", ".join(f"{name} {count}" for name, count in sorted(balance.verdicts.items()))
        print(f"""soak of {self.minutes:g} minutes, seed {self.seed}
parts       {balance.given} given, {balance.answered} answered: {len(balance.lost)} lost, \
{len(balance.doubled)} doubled, {len(balance.unasked)} unasked, {len(balance.wrong)} wrong
verdicts    {verdicts}
messages    {balance.messages}: {len(balance.missing)} numbers missing, {len(balance.reused)} \
used twice; {balance.repeats} repeats ({100 * balance.repeated_share:.2f} %)
faults      {", ".join(f"{name} {count}" for name, count in sorted(counts.items()))}
recovery    worst {worst:.1f} s (after: {cause}), median {usual:.1f} s, of {len(self._recoveries)}
device      started {device.starts} times, of which by itself ended {len(device.own_ends)}
memory      {told["rss_mb"].get("last", 0):.0f} MB at the end, {slope:+.1f} MB an hour, in \
{settled:.0f} settled minutes""")
        for wrong in balance.wrong:
            print(f"wrong: {wrong}")
        print("the balance holds" if not complaints else f"FAILED: {'; '.join(complaints)}")
        return 1 if complaints else 0


def good_pictures() -> list[np.ndarray]:
    """(180, 320, 3) RGB pictures of the clip's first good stretch."""
    clip = cv2.VideoCapture(str(CLIP))
    wanted = np.linspace(*FIRST_GOOD, REFERENCES).astype(int).tolist()
    pictures = []
    for number in range(FIRST_GOOD[1] + 1):
        _, picture = clip.read()
        if number in wanted:
            small = cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
            pictures.append(cv2.cvtColor(small, cv2.COLOR_BGR2RGB))
    clip.release()
    return pictures


def rss_mb(pid: int) -> float:
    """Memory of a process, MB; 0 where it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    kilobytes = next((line.split()[1] for line in lines if line.startswith("VmRSS")), "0")
    return int(kilobytes) / 1000


def rss_slope(samples: list[tuple[int, float, float]]) -> tuple[float, float]:
    """MB an hour by which memory grows within lives, and how many minutes tell so."""
    settled: dict[int, list[tuple[float, float]]] = {}
    for life, age, megabytes in samples:
        if age >= SETTLED_SECONDS and megabytes > 0:
            settled.setdefault(life, []).append((age, megabytes))
    above = below = seconds = 0.0
    for points in settled.values():
        ages, sizes = np.array(points).T
        above += float(((ages - ages.mean()) * (sizes - sizes.mean())).sum())
        below += float(((ages - ages.mean()) ** 2).sum())
        seconds += float(ages[-1] - ages[0])
    return (3600 * above / below if below else 0.0), seconds / 60


if __name__ == "__main__":
    if shutil.which("mosquitto") is None:
        sys.exit("scripts/soak: mosquitto is missing (Debian, Ubuntu: apt-get install mosquitto)")
    sys.exit(main())
