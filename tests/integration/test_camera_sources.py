"""Cameras of every kind through the commands: enrolled, judged, and never told who they are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
from cameras import Camera, gige_camera, mjpeg_camera, need_library
from commands import Box, bad_part, good_part, write_config, write_pictures
from plant import Plant
from scenes import make_bundle

from edge_sdk.capture import open_source
from edge_sdk.capture.introspection import GSTREAMER_PACKAGES
from edge_sdk.errors import CaptureError
from edge_sdk.protocols import AdjustableSource, FrameSource
from edge_sdk.records import Frame

SECRET = "p@#!ss w%ö"  # noqa: S105 - not one


@pytest.fixture
def box(tmp_path: Path) -> Box:
    make_bundle(tmp_path / "bundle")
    return Box(tmp_path)


@pytest.fixture
def seen(tmp_path: Path) -> Path:
    """What a camera sees: a folder that may change while it looks."""
    write_pictures(tmp_path / "seen", [good_part(seed) for seed in range(40)])
    return tmp_path / "seen"


@pytest.fixture
def mono() -> str:
    """A grey camera of GStreamer's."""
    need_library("Gst", "1.0", GSTREAMER_PACKAGES)
    return (
        "gst:videotestsrc is-live=true pattern=ball motion=wavy "
        "! video/x-raw,format=GRAY8,width=160,height=120,framerate=15/1"
    )


def show(seen: Path, *pictures: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    """Put other pictures before the camera."""
    fresh = seen.with_name("fresh")
    write_pictures(fresh, pictures)
    for path in fresh.iterdir():
        path.replace(seen / path.name)
    shown = {f"{index:04d}.png" for index in range(len(pictures))}
    for path in seen.iterdir():
        if path.name not in shown:
            path.unlink()
    shutil.rmtree(fresh)


def enroll(box: Box, source: str, *options: object) -> None:
    box.run(
        "enroll", "--bundle", box.folder / "bundle", "--camera", source, "--every", "0.2",
        "--keep-refused", *options,
    ).expect(0)  # fmt: skip


def judge(box: Box, source: str) -> dict[str, object]:
    """The answer of ``edge-run --once``."""
    words = ("run", "--bundle", box.folder / "bundle", "--camera", source, "--once", "--json")
    (answer,) = box.run(*words).expect(0).answer["cameras"]
    assert isinstance(answer, dict)
    return answer


def test_a_network_camera_is_enrolled_and_judges_good_and_bad_parts(box: Box, seen: Path) -> None:
    with mjpeg_camera("--pictures", seen) as camera:
        source = f"http://127.0.0.1:{camera.port}/picture.jpg"
        enroll(box, source)
        assert judge(box, source)["verdict"] == "normal"
        show(seen, bad_part(1))
        assert judge(box, source)["verdict"] == "anomalous"


def test_a_camera_that_changes_its_resolution_is_a_fault_until_it_changes_back(
    box: Box, seen: Path
) -> None:
    with mjpeg_camera("--pictures", seen) as camera, Plant() as plant:
        source = f"http://127.0.0.1:{camera.port}/stream"
        enroll(box, source)
        words = ("--bundle", box.folder / "bundle", "--camera", source, "--mqtt", plant.address)
        with box.start("run", *words) as running:
            assert running.says("watching", 60)
            time.sleep(2)
            show(seen, *[np.tile(good_part(seed), (2, 2, 1)) for seed in range(5)])
            running.wait_for_line("fault.open", 30)
            show(seen, *[good_part(seed) for seed in range(5)])
            running.wait_for_line("fault.close", 30)
            running.ask_to_stop()
        opened, closed = (m for m in plant.messages() if m["kind"].startswith("fault"))
    assert opened["reason"] == "wrong_size"
    assert "expected size (32, 32), got (64, 64)" in opened["detail"]
    assert closed["incident_id"] == opened["incident_id"]


def test_a_grey_picture_stays_grey_to_the_encoder_and_is_judged(box: Box, mono: str) -> None:
    with closing(open_source(mono)) as source:
        frame = next(source.frames())
    assert frame.pixels.shape == (120, 160, 1)

    enroll(box, mono)

    assert judge(box, mono)["verdict"] in {"normal", "anomalous"}
    stored = cv2.imread(str(next(box.state.rglob("*.png"))), cv2.IMREAD_UNCHANGED)
    assert stored is not None
    assert stored.shape == (120, 160)


def test_colour_keeps_its_channels_in_order_and_padded_lines_are_read(mono: str) -> None:
    assert mono
    red = "gst:videotestsrc is-live=true pattern=red ! video/x-raw,width=321,height=241"
    with closing(open_source(red)) as source:
        frame = next(source.frames())

    assert frame.pixels.shape == (241, 321, 3)
    assert (frame.pixels == (255, 0, 0)).all()


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        ("nosuchelement ! identity", 'no element "nosuchelement"'),
        ("videotestsrc !", "pipeline: "),
        ("filesrc location=/nowhere.h264 ! decodebin", "Resource not found"),
        ("videotestsrc num-buffers=3", "ended after"),
        ("rtspsrc location=rtsp://127.0.0.1:9/s user-id={username} user-pw={password}", "rtspsrc0"),
    ],
)
def test_a_pipeline_that_is_wrong_or_fails_says_where_and_nothing_secret(
    pipeline: str, message: str, mono: str
) -> None:
    assert mono
    source = open_source(f"gst:{pipeline}", username="admin", password=SECRET)
    with closing(source), pytest.raises(CaptureError, match=message) as caught:
        list(source.frames())

    assert "p@#" not in str(caught.value)


def test_a_gige_camera_gives_grey_pictures_and_is_judged(box: Box) -> None:
    with gige_camera():
        with closing(open_source("aravis:127.0.0.1")) as source:
            frames = source.frames()
            first, second = next(frames), next(frames)
        assert first.pixels.shape == (512, 512, 1)
        assert second.frame_id > first.frame_id
        assert time.monotonic_ns() - second.monotonic_ns < 2e9
        enroll(box, "genicam:127.0.0.1")
        assert judge(box, "genicam:127.0.0.1")["verdict"] in {"normal", "anomalous", "fault"}


def test_a_gige_camera_is_set_as_wanted_whenever_it_is_opened_and_tells_it() -> None:
    source = open_source("genicam:127.0.0.1")
    assert isinstance(source, AdjustableSource)
    with gige_camera() as camera, closing(source):
        frames = source.frames()
        factory = dict(next(frames).camera_settings or {})
        assert factory["ExposureTimeAbs"] == 10_000
        wanted = factory | {"ExposureTimeAbs": 5_000.0, "Width": 256}

        source.adjust(wanted)
        with pytest.raises(CaptureError, match="opened anew, to be set otherwise"):
            for _ in frames:
                pass
        assert telling(source, wanted).size == (512, 256)

        camera.kill()
        with pytest.raises(CaptureError):
            next(source.frames())
        camera.start()  # as its maker set it
        assert telling(source, wanted).size == (512, 256)


def telling(source: FrameSource, settings: Mapping[str, float | int | str]) -> Frame:
    """The first frame of a camera that may still believe that another one has it."""
    deadline = time.monotonic() + 20
    while True:
        try:
            frame = next(source.frames())
            break
        except CaptureError:
            assert time.monotonic() < deadline, "never read again"
            time.sleep(1)  # nothing tells when it has forgotten the other one
    assert frame.camera_settings == settings
    return frame


@pytest.mark.slow
def test_a_camera_that_cannot_be_set_as_at_enrolment_says_which_setting(box: Box) -> None:
    with gige_camera():
        enroll(box, "genicam:127.0.0.1")
        (about,) = box.state.rglob("set.json")
        description = json.loads(about.read_text())
        kept = description["camera_settings"]
        assert kept["ExposureTimeAbs"] == 10_000
        assert kept["PixelFormat"] == "Mono8"
        config = write_config(
            box.folder / "device.yaml",
            bundle=str(box.folder / "bundle"),
            cameras=[{"name": "cam1", "source": "genicam:127.0.0.1", "threshold_override": 1e6}],
        )

        def reason() -> tuple[object, object]:
            answer = box.run("run", "--config", config, "--once", "--json").expect(0).answer
            return answer["cameras"][0]["reason"], answer["cameras"][0]["detail"]

        assert reason()[0] == "below_threshold"
        description["camera_settings"] = kept | {"GainRaw": 7}
        about.write_text(json.dumps(description))
        assert reason()[0] == "saturated_frame", "as bright as it was asked to be"
        description["camera_settings"] = kept | {"Gamma": 0.5}
        about.write_text(json.dumps(description))
        assert reason() == (
            "camera_settings",
            "Gamma was 0.5 at enrolment, is automatic, or not told",
        )


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["kill", "freeze"])
def test_a_gige_camera_that_is_lost_is_noticed_and_read_again(fault: str) -> None:
    with gige_camera() as camera, closing(open_source("genicam:127.0.0.1")) as source:
        frames = source.frames()
        next(frames)
        getattr(camera, fault)()
        lost = time.monotonic()
        with pytest.raises(CaptureError):
            for _ in frames:
                pass
        assert time.monotonic() - lost < 5
        camera.start() if fault == "kill" else camera.thaw()
        for _ in range(10):  # it may still believe that the killed reader has it
            try:
                assert next(source.frames()).pixels.shape == (512, 512, 1)
                break
            except CaptureError:
                time.sleep(1)
        else:
            pytest.fail("never read again")


def test_a_gige_camera_that_is_not_there_is_said_with_those_that_are() -> None:
    with gige_camera() as camera:
        camera.kill()
        with (
            closing(open_source("genicam:127.0.0.1")) as source,
            pytest.raises(CaptureError, match=r"genicam:127\.0\.0\.1: .*found: none"),
        ):
            next(source.frames())


@pytest.fixture
def guarded(seen: Path) -> Iterator[Camera]:
    with mjpeg_camera("--pictures", seen, "--auth", "digest", credentials=("admin", SECRET)) as it:
        yield it


def _from_a_file(box: Box) -> dict[str, object]:
    (box.folder / "camera.password").write_text(SECRET + "\n")
    (box.folder / "camera.password").chmod(0o600)
    return {"username": "admin", "password_file": "camera.password"}


def _from_the_environment(box: Box) -> dict[str, object]:
    box.environment["LINE_PASSWORD"] = SECRET
    return {"username": "admin", "password_env": "LINE_PASSWORD"}


@pytest.mark.parametrize("credentials", [_from_a_file, _from_the_environment])
def test_a_password_out_of_a_file_or_the_environment_is_nowhere_said_or_kept(
    credentials: Callable[[Box], dict[str, object]], box: Box, guarded: Camera
) -> None:
    place = f"http://127.0.0.1:{guarded.port}/picture.jpg"
    camera = {"name": "cam1", "source": place, **credentials(box)}
    config = write_config(
        box.folder / "box.yaml", bundle="bundle", cameras=[camera], mqtt={"enabled": True}
    )
    said = box.run("enroll", "--config", config, "--every", "0.2", "--keep-refused", "--verbose")
    said.expect(0)
    watched = box.run("run", "--config", config, "--max-frames", "3", "--dry-run", "--verbose")
    watched.expect(0, f"cam1: watching {place}")

    everything = said.stdout + said.stderr + watched.stdout + watched.stderr
    kept = b"".join(path.read_bytes() for path in box.state.rglob("*.json"))
    assert "p@#" not in everything
    assert "admin" not in everything
    assert b"p@#" not in kept
    assert json.loads(
        box.run("run", "--config", config, "--validate-config", "--json").stdout
    )["cameras"][0]["source"] == place  # fmt: skip


def test_a_password_on_the_command_line_works_raw_and_is_taken_off_the_address(
    box: Box, guarded: Camera
) -> None:
    place = f"127.0.0.1:{guarded.port}/picture.jpg"
    raw = SECRET.replace("%", "%25")
    enroll(box, f"http://admin:{raw}@{place}")
    said = box.run(
        "run", "--bundle", box.folder / "bundle", "--camera", f"http://admin:{raw}@{place}",
        "--max-frames", "2", "--dry-run", "--verbose",
    ).expect(0, f"cam1: watching http://{place}")  # fmt: skip
    assert "p@#" not in said.stdout + said.stderr

    box.environment["EDGE_CAMERA_PASSWORD"] = SECRET
    assert judge(box, f"http://admin@{place}")["verdict"] == "normal"

    box.environment["EDGE_CAMERA_PASSWORD"] = "hunter2"  # noqa: S105 - not one
    words = ("run", "--bundle", box.folder / "bundle", "--camera", f"http://admin@{place}")
    wrong = box.run(*words, "--once")
    wrong.expect(6, "does not accept this user and password")
    assert "hunter2" not in wrong.stderr


def test_without_pygobject_the_error_says_what_to_install(tmp_path: Path) -> None:
    if shutil.which("unshare") is None or os.geteuid() != 0:
        pytest.skip("needs root, to hide a folder from one process")
    script = """
from edge_sdk.capture import open_source
open_source("gst:videotestsrc")
"""
    hide = f'mount --bind {tmp_path} /usr/lib/python3/dist-packages && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", hide, "sh", sys.executable, "-c", script],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "mount" in done.stderr and "CaptureError" not in done.stderr:
        pytest.skip(f"no mounts here: {done.stderr}")

    assert "a gst: camera: PyGObject is not installed: sudo apt-get install python3-gi" in (
        done.stderr
    )
