"""Cameras that cannot be opened: the error comes at once and names the cause."""

from __future__ import annotations

import stat
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from capture_media import start_python

from edge_sdk.capture import open_source
from edge_sdk.capture.camera_nodes import (
    camera_node,
    check_camera_node,
    describe_busy,
    gives_pictures,
    processes_holding,
    stable_path,
)
from edge_sdk.capture.webcam import WebcamSource
from edge_sdk.errors import CaptureError


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that another user may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize("spec", ["97", "/dev/video97"])
def test_an_absent_camera_is_an_error_within_a_second_that_names_its_node(spec: str) -> None:
    started = time.monotonic()

    with pytest.raises(
        CaptureError, match=r"/dev/video97 does not exist; (no camera nodes )?found"
    ):
        open_source(spec)

    assert time.monotonic() - started < 1


@pytest.mark.skipif(Path("/dev/video0").exists(), reason="this machine has a camera 0")
def test_camera_0_is_absent_and_nothing_else_is_said(tmp_path: Path) -> None:
    script = """
from edge_sdk.capture import open_source
from edge_sdk.errors import CaptureError
try:
    open_source("0")
except CaptureError as error:
    print(error)
"""

    with start_python(script) as process:
        said, complained = process.communicate(timeout=30)

    assert said.startswith("/dev/video0 does not exist; no camera nodes found")
    assert complained == ""
    assert list(tmp_path.iterdir()) == []


def test_other_cameras_are_named_with_their_stable_paths(tmp_path: Path) -> None:
    (tmp_path / "v4l" / "by-id").mkdir(parents=True)
    for number in (2, 3):
        (tmp_path / f"video{number}").touch()
    stable = tmp_path / "v4l" / "by-id" / "usb-Maker_Camera_123-video-index0"
    stable.symlink_to("../../video2")

    with pytest.raises(CaptureError) as caught:
        check_camera_node(tmp_path / "video0", devices=tmp_path)

    assert f"found: {tmp_path}/video2 ({stable}), {tmp_path}/video3" in str(caught.value)
    assert stable_path(tmp_path / "video2", devices=tmp_path) == stable
    assert stable_path(tmp_path / "video3", devices=tmp_path) is None


def test_a_camera_number_is_its_node() -> None:
    assert camera_node("0") == Path("/dev/video0")
    assert camera_node("/dev/v4l/by-id/usb-x") == Path("/dev/v4l/by-id/usb-x")


def test_a_file_is_not_taken_for_a_camera(tmp_path: Path) -> None:
    (tmp_path / "video0").touch()

    with pytest.raises(CaptureError, match="video0: expected a camera node"):
        check_camera_node(tmp_path / "video0")


@pytest.mark.parametrize(
    ("device_capabilities", "node_capabilities", "expected"),
    [
        (0x84A00001, 0x04200001, True),  # a UVC camera's first node
        (0x84A00001, 0x04A00000, False),  # its second, for metadata
        (0x05000001, 0, True),  # an old driver that speaks of the whole device only
        (0x84201000, 0x04201000, True),  # a camera port with planes
    ],
)
def test_a_node_for_metadata_is_told_from_one_for_pictures(
    device_capabilities: int, node_capabilities: int, expected: bool
) -> None:
    capability = struct.pack(
        "<16s32s32s6I",
        b"uvcvideo",
        b"Cam",
        b"usb",
        6,
        device_capabilities,
        node_capabilities,
        0,
        0,
        0,
    )

    assert gives_pictures(capability) is expected


def test_a_device_that_is_no_camera_is_an_error_without_noise(
    capfd: pytest.CaptureFixture[str],
) -> None:
    source = WebcamSource(Path("/dev/null"), source_id="null")

    with pytest.raises(CaptureError, match="/dev/null is not a camera"):
        next(source.frames())

    assert capfd.readouterr().err == ""


def test_a_device_that_is_no_camera_is_refused_before_a_child_is_started() -> None:
    with pytest.raises(CaptureError, match="/dev/null is not a camera"):
        open_source("/dev/null")


def test_missing_permission_names_the_group(open_folder: Path) -> None:
    node = open_folder / "video0"
    node.touch()
    node.chmod(0)
    script = """
import os, sys
from pathlib import Path
from edge_sdk.capture.camera_nodes import check_camera_node
from edge_sdk.errors import CaptureError
if os.geteuid() == 0:
    os.setuid(65534)
try:
    check_camera_node(Path(sys.argv[1]))
except CaptureError as error:
    print(error)
"""

    with start_python(script, node) as process:
        said, complained = process.communicate(timeout=30)

    assert complained == ""
    assert "video0: no permission" in said
    assert f"group {node.group()}" in said
    assert stat.filemode(node.stat().st_mode) in said


def test_a_busy_camera_is_said_to_be_held_by_whom(tmp_path: Path) -> None:
    node = tmp_path / "video0"
    node.touch()
    assert processes_holding(node) == []
    script = (
        "import signal, sys; held = open(sys.argv[1]); print('open', flush=True); signal.pause()"
    )

    with start_python(script, node) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        holders = processes_holding(node)
        said = describe_busy(node)
        process.kill()

    assert len(holders) == 1
    assert f"(process {process.pid})" in holders[0]
    assert said.endswith(holders[0])
    assert "another process" in describe_busy(node)
