"""A process of our own that reads a camera, and that never outlives us."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict

from edge_sdk.capture.spec import SourceSpec
from edge_sdk.errors import CaptureError
from edge_sdk.logs import log_settings

# Started by hand and not through multiprocessing: that would run the caller's own script again in
# the child (which breaks scripts without a main guard, and notebooks) and leave a tracker process.
_BOOT = (
    "import json, sys; job = json.load(sys.stdin.buffer); sys.path[:] = job['sys_path']; "
    "from edge_sdk.capture.child import main; main(job['source'], job['log'])"
)
_KILL_SECONDS = 1.0
"""How long a killed process may take to be gone."""


class CaptureProcess:
    """Starts ``edge_sdk.capture.child`` and waits for its end.

    The kernel ties a child's death signal to the *thread* that started it, so the thread that does
    is one that lives exactly as long as the child: it waits for it. That also leaves no zombie.

    Args:
        spec: what the child reads.
        inherited: file descriptors the child takes over, in the order ``child.main`` expects.

    Raises:
        CaptureError: no process can be started.
    """

    def __init__(self, spec: SourceSpec, *, inherited: Sequence[int]) -> None:
        name = self._name = spec.source_id
        self._process: subprocess.Popen[bytes] | None = None
        self._error: OSError | None = None
        self._is_started = threading.Event()
        job = _write_job(spec)
        self._thread = threading.Thread(
            target=self._run, args=(job, inherited), name=f"capture-process-{name}", daemon=True
        )
        self._thread.start()
        self._is_started.wait()
        os.close(job)
        if self._error is not None:
            raise CaptureError(f"{name}: cannot start a process to read it") from self._error

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._child.pid

    def stop(self, grace_seconds: float) -> None:
        """Wait for the child to leave by itself, then kill it; returns when it is gone.

        Raises:
            CaptureError: the kernel could not end it within a second: a driver holds it.
        """
        self._thread.join(grace_seconds)
        if self._thread.is_alive():
            self._child.kill()
            self._thread.join(_KILL_SECONDS)
        if self._thread.is_alive():
            raise CaptureError(
                f"{self._name}: process {self.pid} does not end: a driver holds it. Unplug the "
                "camera or restart the machine"
            )

    def describe_end(self) -> str:
        """How the child ended, in words; it must have been stopped."""
        code = self._child.returncode
        if code < 0:
            return f"its reading process was ended by {signal.Signals(-code).name}"
        return f"its reading process ended with exit code {code}; standard error tells why"

    @property
    def _child(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise CaptureError(f"{self._name}: its reading process was never started")
        return self._process

    def _run(self, job: int, inherited: Sequence[int]) -> None:
        arguments = [str(value) for value in (os.getpid(), *inherited)]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, *arguments],
                stdin=job,
                stdout=2,  # the results of a command are on stdout: nobody else writes there
                pass_fds=inherited,
                start_new_session=True,  # Ctrl-C at the terminal is for us, not for the child
            )
        except OSError as error:
            self._error = error
            return
        finally:
            self._is_started.set()
        self._process.wait()


def _write_job(spec: SourceSpec) -> int:
    """File descriptor of an unnamed file: where to find modules, what to read, how to log."""
    values = {"sys_path": sys.path, "source": asdict(spec), "log": log_settings()}
    job = json.dumps(values, default=os.fspath)
    memory = os.memfd_create("edge-capture-job", os.MFD_CLOEXEC)
    with open(memory, "w", encoding="ascii", closefd=False) as stream:
        stream.write(job)
    os.lseek(memory, 0, os.SEEK_SET)
    return memory
