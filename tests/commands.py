"""The commands as an operator starts them: processes, on a computer with a home of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, final

import yaml
from scenes import fixture_part

import edge_sdk
from edge_sdk.imaging import encode_png
from edge_sdk.records import UInt8Array

INSTALLED: Final = Path(edge_sdk.__file__).parents[1]
CLIP: Final = INSTALLED / "edge_sdk" / "builtin" / "clip" / "bottle-detection.mp4"
TERMINATED: Final = 128 + signal.SIGTERM


@dataclass(frozen=True)
class Finished:
    """What a command left behind."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def answer(self) -> dict[str, Any]:
        """The one JSON object that stands alone on standard output."""
        value = json.loads(self.stdout)
        assert isinstance(value, dict)
        return value

    def expect(self, exit_code: int, *words: str) -> Finished:
        """Assert how it ended, and that its errors contain each of ``words``."""
        assert self.exit_code == exit_code, f"exit {self.exit_code}\n{self.stderr}\n{self.stdout}"
        for word in words:
            assert word in self.stderr, f"expected {word!r} in:\n{self.stderr}"
        assert "Traceback" not in self.stderr, self.stderr
        return self


@final
class Running:
    """A command in the background; killed at the end of the ``with`` where it still runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._changed = threading.Condition()  # its lock is one that may be taken twice
        self._lines: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._readers = [
            threading.Thread(target=self._read, args=(name,), daemon=True) for name in self._lines
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        finished = self._collect(10)
        if kind is not None:
            print(
                f"the command had ended with {finished.exit_code} or was killed\n{finished.stderr}"
            )

    def lines_with(self, text: str) -> list[str]:
        """Lines of both outputs that contain ``text``, so far."""
        with self._changed:
            return [line for lines in self._lines.values() for line in lines if text in line]

    def says(self, text: str, timeout_seconds: float, *, count: int = 1) -> bool:
        """Wait until ``count`` lines contain ``text``; False where they do not come in time."""
        with self._changed:
            return self._changed.wait_for(
                lambda: len(self.lines_with(text)) >= count, timeout_seconds
            )

    def wait_for_line(self, text: str, timeout_seconds: float = 60, *, count: int = 1) -> list[str]:
        """Wait until ``count`` lines of both outputs contain ``text``, and give them."""
        assert self.says(text, timeout_seconds, count=count), (
            f"{text!r} not within {timeout_seconds} s; said: {self._lines}"
        )
        return self.lines_with(text)

    def ask_to_stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 30) -> Finished:
        """Send a signal and wait for the end."""
        self.process.send_signal(number)
        return self.finish(seconds)

    def finish(self, timeout_seconds: float = 120) -> Finished:
        """Wait for the end."""
        return self._collect(timeout_seconds)

    def _collect(self, timeout_seconds: float) -> Finished:
        code = self.process.wait(timeout_seconds)
        for reader in self._readers:
            reader.join(10)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        stdout, stderr = ("".join(self._lines[name]) for name in ("stdout", "stderr"))
        return Finished(code, stdout, stderr)

    def _read(self, name: str) -> None:
        for line in getattr(self.process, name):
            with self._changed:
                self._lines[name].append(line)
                self._changed.notify_all()


@final
class Box:
    """A computer with a home folder of its own, where the commands keep what they learn."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir(parents=True, exist_ok=True)
        self.state = self.home / ".local" / "state" / "edge-inspect"
        keep = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
        self.environment = keep | {"HOME": str(self.home), "PYTHONPATH": str(INSTALLED)}

    def run(self, *words: object, timeout_seconds: float = 120) -> Finished:
        """Run ``edge-<first word>`` with the other words to its end."""
        with self.start(*words) as running:
            return running.finish(timeout_seconds)

    def start(self, *words: object) -> Running:
        """Start ``edge-<first word>`` with the other words in the background."""
        return self.start_program(self.program(*words))

    def program(self, *words: object) -> list[str]:
        """What ``start`` starts."""
        command, *arguments = map(str, words)
        return [sys.executable, "-m", f"edge_sdk.cli.{command}", *arguments]

    def start_program(self, command: Sequence[str], **environment: str) -> Running:
        """Start any program as this computer's user would."""
        return Running(
            subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment | environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )


def children_of(pid: int) -> list[int]:
    """Processes that a process has started, by any of its threads."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def good_part(seed: int) -> UInt8Array:
    """(32, 32, 3) a part that is good, with the camera's noise."""
    return fixture_part(seed)


def bad_part(seed: int) -> UInt8Array:
    """(32, 32, 3) the same part with something green in the place of its label."""
    picture: UInt8Array = fixture_part(seed).copy()
    picture[8:24, 8:24] = (10, 200, 60)
    return picture


def write_pictures(folder: Path, pictures: Iterable[UInt8Array]) -> str:
    """Write pictures so that a folder source reads them in this order; the source's name."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, pixels in enumerate(pictures):
        (folder / f"{index:04d}.png").write_bytes(encode_png(pixels))
    return f"dir:{folder}"


def write_config(path: Path, **settings: Any) -> Path:
    """Write a device file."""
    plain = json.loads(json.dumps(settings))  # the same value twice would become an alias
    path.write_text(yaml.safe_dump(plain), encoding="utf-8")
    return path
