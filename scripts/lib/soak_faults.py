"""What befalls a station in a soak: a kind of fault, how long it lasts, and how it ends."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import final

from cameras import Camera
from commands import Box
from disk import Disk
from mosquitto import Mosquitto


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kind: begin it, wait for some time between the two, and what ends it."""

    kind: str
    seconds: tuple[float, float]
    begin: Callable[[], None]
    end: Callable[[], None]


@final
class Group:
    """Faults of one thing: one at a time, each kind as often as the others.

    Args:
        faults: what may happen.
        pause_seconds: shortest and longest pause between two of them.
        chance: draws.
    """

    def __init__(
        self, faults: list[Fault], pause_seconds: tuple[float, float], chance: random.Random
    ) -> None:
        self._faults = faults
        self._pause_seconds = pause_seconds
        self._chance = chance
        self._deck: list[Fault] = []
        self._next_at = time.monotonic() + chance.uniform(3, 10)
        self.active: Fault | None = None
        self.ended = ""
        """Kind of the one that ended last."""
        self.counts: Counter[str] = Counter()

    def turn(self, *, is_over: bool = False) -> None:
        """Begin or end what is due; at the end of the soak, only end."""
        now = time.monotonic()
        if not is_over and now < self._next_at:
            return
        if self.active is not None:
            self.active.end()
            self.ended, self.active = self.active.kind, None
            self._next_at = time.monotonic() + self._chance.uniform(*self._pause_seconds)
        elif not is_over:
            if not self._deck:
                self._deck = self._chance.sample(self._faults, len(self._faults))
            self.active = self._deck.pop()
            self.counts[self.active.kind] += 1
            self.active.begin()
            self._next_at = now + self._chance.uniform(*self.active.seconds)


@final
class Device:
    """``edge-run`` as a service manager keeps it: started again whenever it ends."""

    def __init__(self, box: Box, command: list[str], log: Path) -> None:
        self.starts = 0
        self.own_ends: list[int] = []
        """Exit codes of ends that nobody asked for."""
        self._box = box
        self._command = command
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Of the running process; None while there is none."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start it."""
        self.starts += 1
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._box.folder,
                env=self._box.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def check(self) -> None:
        """Start it again where it has ended by itself."""
        if self._process is None or self._process.poll() is None:
            return
        self.own_ends.append(self._process.returncode)
        time.sleep(1)  # as a service manager does
        self.start()

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None

    def cut_power(self, disk: Disk) -> None:
        """End it and its disk together, as a power cut does."""
        if self._process is not None:
            disk.cut(self._process)
            self._process = None

    def stop(self) -> int:
        """End it as a service manager does; its exit code."""
        assert self._process is not None  # noqa: S101 - it is started before
        self._process.terminate()
        code = self._process.wait(60)
        self._process = None
        return code

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self._process is not None:
            self._process.send_signal(number)


def camera_faults(camera: Camera, usual: list[object]) -> list[Fault]:
    """A camera that is switched off, hangs, or gives five pictures a second."""

    def restart(*options: object) -> None:
        camera.kill()
        camera.start(*options)

    return [
        Fault(kind="camera killed", seconds=(1, 8), begin=camera.kill, end=camera.start),
        Fault(kind="camera frozen", seconds=(1, 8), begin=camera.freeze, end=camera.thaw),
        Fault(
            kind="camera slowed",
            seconds=(4, 8),
            begin=lambda: restart(*usual, "--fps", 5),
            end=lambda: restart(*usual),
        ),
    ]


def broker_faults(broker: Mosquitto) -> list[Fault]:
    """A broker that dies, hangs, or is restarted by its administrator."""
    return [
        Fault(kind="broker killed", seconds=(0.2, 6), begin=broker.kill, end=broker.start),
        Fault(kind="broker frozen", seconds=(1, 6), begin=broker.freeze, end=broker.thaw),
        Fault(kind="broker restarted", seconds=(0.2, 3), begin=broker.stop, end=broker.start),
    ]


def box_faults(device: Device, box: Box, disk: Disk | None) -> list[Fault]:
    """A device that is killed or hangs, a disk that stalls, a power cut where that can be had."""
    faults = [
        Fault(kind="device killed", seconds=(0.1, 2), begin=device.kill, end=device.start),
        Fault(
            kind="device frozen",
            seconds=(0.5, 4),
            begin=lambda: device.send(signal.SIGSTOP),
            end=lambda: device.send(signal.SIGCONT),
        ),
    ]
    if disk is None:
        held = SpoolLock(box.state / "spool" / "spool.db")
        stall = Fault(kind="disk stalled", seconds=(0.5, 3), begin=held.take, end=held.release)
        return [*faults, stall]

    def power_up() -> None:
        disk.unmount()
        disk.mount()
        device.start()

    return [
        *faults,
        Fault(kind="disk stalled", seconds=(0.5, 4), begin=disk.freeze, end=disk.thaw),
        Fault(
            kind="power cut", seconds=(0.1, 2), begin=lambda: device.cut_power(disk), end=power_up
        ),
    ]


@final
class SpoolLock:
    """In place of a disk that stalls: nothing can be committed to the spool while it is held."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: sqlite3.Connection | None = None

    def take(self) -> None:
        """Let all commits wait, where the spool is there and free just now."""
        held = sqlite3.connect(self._path, isolation_level=None, timeout=0.5)
        try:
            held.execute("BEGIN IMMEDIATE")
        except sqlite3.Error:
            held.close()
        else:
            self._held = held

    def release(self) -> None:
        """Let them go on."""
        if self._held is not None:
            with closing(self._held) as held, suppress(sqlite3.Error):
                held.execute("ROLLBACK")
            self._held = None
