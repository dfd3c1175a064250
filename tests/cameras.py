"""Real cameras in processes of their own, to be stopped, killed and started again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import pytest
from mosquitto import free_port
from typing_extensions import Self

from edge_sdk.capture.introspection import ARAVIS_PACKAGES
from edge_sdk.capture.reachability import answers_gige

SERVERS = Path(__file__).parent / "servers"
SYSTEM_PYTHON = "/usr/bin/python3"
RTSP_NEEDS = (
    "python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good "
    "gstreamer1.0-plugins-ugly"
)
_RTSP_CHECK = """
import gi
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gst, GstRtspServer
Gst.init(None)
assert Gst.ElementFactory.find("x264enc") and Gst.ElementFactory.find("rtph264pay")
"""
_GI_CHECK = """
from edge_sdk.capture.introspection import load_namespace
load_namespace({name!r}, {version!r}, purpose="test", packages="")
"""


def need_rtsp_server() -> None:
    """Skip, or fail with CI set, where no RTSP server can be run."""
    _need([SYSTEM_PYTHON, "-c", _RTSP_CHECK], RTSP_NEEDS)


def need_library(name: str, version: str, packages: str) -> None:
    """The same for a library that our own interpreter loads by PyGObject.

    Debian's is built for Debian's own version of Python: of another one, nothing can be asked.
    """
    version_of = "import sys; print(sys.version_info[:2])"
    if not Path(SYSTEM_PYTHON).exists():
        _missing(packages)
    ours, theirs = (
        subprocess.run([python, "-c", version_of], capture_output=True, check=False).stdout
        for python in (sys.executable, SYSTEM_PYTHON)
    )
    if ours != theirs:
        pytest.skip(f"PyGObject is packaged for {theirs.decode()}, and this is {ours.decode()}")
    _need([sys.executable, "-c", _GI_CHECK.format(name=name, version=version)], packages)


def need_program(name: str, package: str) -> str:
    """The same for a program; its path."""
    found = shutil.which(name)
    if found is None:
        _missing(package)
    return str(found)


def _need(check: Sequence[str], packages: str) -> None:
    try:
        done = subprocess.run(check, capture_output=True, check=False, timeout=60)
    except FileNotFoundError:
        _missing(packages)
    else:
        if done.returncode != 0:
            _missing(packages)


def _missing(packages: str) -> None:
    message = f"missing on this machine: sudo apt-get install {packages}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


class Camera:
    """A camera on a port that stays its own when it is started again.

    Args:
        command: starts it, without its port; it prints ``ready`` when it answers.
        options: more of the command line.
        credentials: user and password; given on standard input.
    """

    def __init__(
        self,
        command: Sequence[str],
        *options: object,
        credentials: tuple[str, str] | None = None,
        is_ready: Callable[[], bool] | None = None,
    ) -> None:
        self.port = free_port()
        self._command = command
        self._options = [str(option) for option in options]
        self._credentials = credentials
        self._is_ready = is_ready
        self._process: subprocess.Popen[str] | None = None

    def start(self, *options: object) -> None:
        """Start it, with these options in place of the first ones, if any."""
        chosen = [str(option) for option in options] or self._options
        port = ["--port", str(self.port)] if self._is_ready is None else []
        self._process = subprocess.Popen(
            [*self._command, *port, *chosen],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if self._is_ready is None else subprocess.DEVNULL,
            stderr=None if self._is_ready is None else subprocess.DEVNULL,
            text=True,
        )
        if self._credentials is not None:
            assert self._process.stdin is not None
            self._process.stdin.write(" ".join(self._credentials) + "\n")
            self._process.stdin.flush()
        if self._is_ready is None:
            assert self._process.stdout is not None
            assert self._process.stdout.readline() == "ready\n"
            return
        deadline = time.monotonic() + 20
        while not self._is_ready():
            assert time.monotonic() < deadline, "the camera does not start"
            time.sleep(0.1)

    def kill(self) -> None:
        """End it as a power cut does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process = None

    def freeze(self) -> None:
        """Make it hang: connections stay open, nothing comes."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _t: type[BaseException] | None, _e: BaseException | None, _b: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.kill()


def rtsp_camera(*options: object, credentials: tuple[str, str] | None = None) -> Camera:
    """A camera at ``rtsp://127.0.0.1:PORT/line``."""
    need_rtsp_server()
    return Camera(
        [SYSTEM_PYTHON, str(SERVERS / "rtsp_camera.py")], *options, credentials=credentials
    )


def mjpeg_camera(*options: object, credentials: tuple[str, str] | None = None) -> Camera:
    """A camera at ``http://127.0.0.1:PORT/stream`` and ``/picture.jpg``."""
    return Camera(
        [sys.executable, str(SERVERS / "mjpeg_camera.py")], *options, credentials=credentials
    )


def gige_camera() -> Camera:
    """A GigE Vision camera at ``genicam:127.0.0.1``; grey, 8 bits. One at a time."""
    need_library("Aravis", "0.8", ARAVIS_PACKAGES)
    program = need_program("arv-fake-gv-camera-0.8", "aravis-tools")
    return Camera([program, "-i", "127.0.0.1"], is_ready=lambda: answers_gige("127.0.0.1"))
