"""Finds V4L2 cameras and says why one cannot be opened, without opening it through a library."""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import stat
import struct
from contextlib import suppress
from pathlib import Path

from edge_sdk.errors import CaptureError

_DEVICES = Path("/dev")
_PROCESSES = Path("/proc")

_VIDIOC_QUERYCAP = 0x80685600
_CAPABILITY = struct.Struct("84xII12x")
"""``struct v4l2_capability``: what the physical device can do, and what this node of it can."""
_HAS_DEVICE_CAPS = 0x80000000
_GIVES_PICTURES = 0x00000001 | 0x00001000
"""V4L2_CAP_VIDEO_CAPTURE, V4L2_CAP_VIDEO_CAPTURE_MPLANE."""


def camera_node(camera: str) -> Path:
    """Node of a camera given as a number or as a path."""
    return _DEVICES / f"video{int(camera)}" if camera.isdecimal() else Path(camera)


def stable_path(node: Path, *, devices: Path = _DEVICES) -> Path | None:
    """Name under ``v4l/by-id`` that stays the same when cameras are plugged in another order.

    Args:
        node: for example ``/dev/video0``.
        devices: where device nodes are.

    Returns:
        The path, or None where the camera has none.
    """
    for link in sorted((devices / "v4l" / "by-id").glob("*")):
        if link.resolve() == node.resolve():
            return link
    return None


def check_camera_node(node: Path, *, devices: Path = _DEVICES) -> None:
    """Ask a node whether pictures can be had from it.

    Args:
        node: for example ``/dev/video0`` or a path under ``/dev/v4l/by-id``.
        devices: where other cameras are looked for, to be named in the error.

    Raises:
        CaptureError: it is absent, not a camera, not permitted or busy; the message says which,
            and what to do.
    """
    try:
        mode = node.stat().st_mode
    except FileNotFoundError:
        raise CaptureError(f"{node} does not exist; {_describe_found(devices)}") from None
    except OSError as error:
        raise CaptureError(f"{node}: cannot be looked at ({error.strerror})") from error
    if not os.access(node, os.R_OK | os.W_OK):
        raise CaptureError(_describe_permission(node))
    if not stat.S_ISCHR(mode):
        raise CaptureError(f"{node}: expected a camera node, got {stat.filemode(mode)}")
    try:
        capability = _query_capability(node)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise CaptureError(describe_busy(node)) from error
        if error.errno == errno.ENOTTY:
            raise CaptureError(f"{node} is not a camera that V4L2 can read") from error
        raise CaptureError(f"{node}: cannot be opened ({error.strerror})") from error
    if not gives_pictures(capability):
        raise CaptureError(
            f"{node} gives no pictures (cameras have a second node for metadata); "
            f"{_describe_found(devices)}"
        )


def gives_pictures(capability: bytes) -> bool:
    """Whether a node with this ``struct v4l2_capability`` is one that pictures come from."""
    device, node = _CAPABILITY.unpack(capability)
    return bool((node if device & _HAS_DEVICE_CAPS else device) & _GIVES_PICTURES)


def describe_busy(node: Path) -> str:
    """Say that a node is in use, and by whom as far as can be seen."""
    holders = processes_holding(node)
    names = ", ".join(holders) if holders else "another process (of another user, or container)"
    return f"{node} is busy: in use by {names}"


def processes_holding(node: Path) -> list[str]:
    """Processes other than this one that have a file open, as ``name (process 123)``.

    Those of other users are seen by root only.
    """
    holders = []
    for process in sorted(_PROCESSES.glob("[0-9]*"), key=lambda path: int(path.name)):
        if process.name == str(os.getpid()):
            continue
        try:
            if str(node.resolve()) in _open_files(process):
                name = (process / "comm").read_text().strip()
                holders.append(f"{name} (process {process.name})")
        except OSError:  # another user's process, or one that has just ended: not ours to see
            continue
    return holders


def _open_files(process: Path) -> set[str]:
    targets = set()
    for link in (process / "fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            targets.add(str(link.readlink()))
    return targets


def _query_capability(node: Path) -> bytes:
    descriptor = os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return fcntl.ioctl(descriptor, _VIDIOC_QUERYCAP, bytes(_CAPABILITY.size))
    finally:
        os.close(descriptor)


def _describe_found(devices: Path) -> str:
    nodes = sorted(devices.glob("video[0-9]*"))
    if not nodes:
        return (
            "no camera nodes found: is the camera plugged in and, in a container, passed through?"
        )
    return "found: " + ", ".join(
        f"{node} ({stable})" if (stable := stable_path(node, devices=devices)) else str(node)
        for node in nodes
    )


def _describe_permission(node: Path) -> str:
    found = node.stat()
    try:
        group = grp.getgrgid(found.st_gid).gr_name
    except KeyError:  # a container need not know the host's names
        group = str(found.st_gid)
    return (
        f"{node}: no permission ({stat.filemode(found.st_mode)}, group {group}): add this user to "
        f"the group (sudo usermod -aG {group} USER) and log in again"
    )
