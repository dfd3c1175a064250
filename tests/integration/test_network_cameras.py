"""Cameras over a network: fresh pictures, each fault noticed in time, and back by themselves.

The bounds are the product's promise, with two seconds more for a loaded machine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import cast

import cv2
import pytest
from cameras import Camera, mjpeg_camera, need_library, rtsp_camera
from capture_media import number_of, numbered_picture

from edge_sdk.capture import open_source
from edge_sdk.capture.introspection import GSTREAMER_PACKAGES
from edge_sdk.capture.live import ChildProcessSource
from edge_sdk.capture.reachability import find_probe
from edge_sdk.capture.rtsp import RtspSource, StreamClock
from edge_sdk.config.address import parse_address
from edge_sdk.errors import CaptureError, ConfigError
from edge_sdk.records import UInt8Array
from edge_sdk.runtime.feed import FrameFeed

SLACK_SECONDS = 2.0
NOTICED_SECONDS = 3.0 + SLACK_SECONDS
KILLED_SECONDS = 8.0 + SLACK_SECONDS
BACK_SECONDS = 5.0 + SLACK_SECONDS
FRAMES_PER_SECOND = 20
NASTY = "p@#!ss: w%/ö?&"


def rtsp(camera: Camera) -> str:
    return f"rtsp://127.0.0.1:{camera.port}/line"


def mjpeg(camera: Camera) -> str:
    return f"http://127.0.0.1:{camera.port}/stream"


def snapshots(camera: Camera) -> str:
    return f"http://127.0.0.1:{camera.port}/picture.jpg"


def gstreamer(camera: Camera) -> str:
    return f"gst:rtspsrc location={rtsp(camera)} latency=0 ! rtpjpegdepay ! jpegdec"


def rtsp_jpeg_camera() -> Camera:
    need_library("Gst", "1.0", GSTREAMER_PACKAGES)
    return rtsp_camera("--codec", "jpeg")


KINDS = {
    "rtsp": (rtsp_camera, rtsp),
    "mjpeg": (mjpeg_camera, mjpeg),
    "snapshots": (mjpeg_camera, snapshots),
    "gst": (rtsp_jpeg_camera, gstreamer),
}
each_kind = pytest.mark.parametrize(("make", "place"), KINDS.values(), ids=KINDS)


def frames_behind(number: int) -> int:
    """How many frames the camera has taken since the one with this number."""
    return (int(time.monotonic() * FRAMES_PER_SECOND) - number) % 4096


@contextmanager
def watching(source: str, pause_seconds: tuple[float, float] | None = None) -> Iterator[FrameFeed]:
    """A feed that reads a camera as ``edge-run`` does."""
    usual = (1.0, 3.0) if source.startswith("gst:") else (1.0, 30.0)
    feed = FrameFeed(
        "cam1",
        lambda: open_source(source, source_id="cam1"),
        keeps="newest",
        reopens=True,
        on_news=threading.Event().set,
        is_there=find_probe(source),
        pause_seconds=pause_seconds or usual,
    )
    feed.start()
    try:
        yield feed
    finally:
        feed.close()


def within(seconds: float, condition: Callable[[], object]) -> float:
    """Wait until something is so; how long it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"not within {seconds} s"
        time.sleep(0.02)
    return time.monotonic() - started


def child_of(feed: FrameFeed) -> int:
    source = feed._source
    assert isinstance(source, ChildProcessSource)
    assert source.child_pid is not None
    return source.child_pid


@pytest.mark.slow
@each_kind
def test_a_slow_reader_is_never_behind_the_camera(
    make: Callable[[], Camera], place: Callable[[Camera], str]
) -> None:
    with make() as camera, closing(open_source(place(camera))) as source:
        frames = source.frames()
        next(frames)
        for _ in range(8):
            time.sleep(0.5)  # a queue would be four seconds long in the end
            frame = next(frames)
            frame = next(frames)  # the one before was waiting in the mailbox meanwhile
            behind = frames_behind(number_of(frame.pixels))
            assert behind <= FRAMES_PER_SECOND // 2, f"{behind} frames behind"
        assert source.dropped > 0


@pytest.mark.slow
@each_kind
def test_a_killed_camera_is_noticed_and_seen_again_when_it_is_back(
    make: Callable[[], Camera], place: Callable[[Camera], str]
) -> None:
    with make() as camera, watching(place(camera)) as feed:
        within(15, lambda: feed.is_seeing)
        camera.kill()
        noticed = within(NOTICED_SECONDS, lambda: not feed.is_seeing)
        assert isinstance(feed.error, CaptureError)
        time.sleep(3)  # the first attempts fail
        camera.start()
        back = within(BACK_SECONDS, lambda: feed.is_seeing)
    print(f"noticed after {noticed:.1f} s, frames {back:.1f} s after its return")


@pytest.mark.slow
@each_kind
def test_a_camera_that_hangs_is_noticed_its_reader_killed_and_seen_again_when_it_goes_on(
    make: Callable[[], Camera], place: Callable[[Camera], str]
) -> None:
    with make() as camera, watching(place(camera)) as feed:
        within(15, lambda: feed.is_seeing)
        reader = Path(f"/proc/{child_of(feed)}")
        camera.freeze()
        started = time.monotonic()
        noticed = within(NOTICED_SECONDS, lambda: not feed.is_seeing)
        within(KILLED_SECONDS - noticed, lambda: not reader.exists())
        time.sleep(max(0.0, 6.0 - (time.monotonic() - started)))
        assert not feed.is_seeing, "a library that returns an old picture as a new one"
        camera.thaw()
        back = within(BACK_SECONDS, lambda: feed.is_seeing)
    print(f"noticed after {noticed:.1f} s, frames {back:.1f} s after it went on")


@pytest.mark.slow
def test_after_a_long_absence_the_camera_is_seen_when_it_answers_not_when_the_pause_is_over() -> (
    None
):
    with mjpeg_camera() as camera, watching(mjpeg(camera), pause_seconds=(60.0, 60.0)) as feed:
        within(15, lambda: feed.is_seeing)
        camera.kill()
        within(NOTICED_SECONDS, lambda: not feed.is_seeing)
        time.sleep(2)
        camera.start()
        within(BACK_SECONDS, lambda: feed.is_seeing)


def test_a_camera_that_trickles_its_bytes_is_given_up_in_time() -> None:
    with (
        mjpeg_camera("--trickle-after", 5) as camera,
        closing(open_source(mjpeg(camera))) as source,
    ):
        frames = source.frames()
        next(frames)
        started = time.monotonic()
        with pytest.raises(CaptureError, match=r"no (picture|new frame) for"):
            list(frames)

        assert time.monotonic() - started < NOTICED_SECONDS + 1


def test_pictures_without_their_length_are_read_to_the_boundary() -> None:
    with mjpeg_camera("--no-length") as camera, closing(open_source(mjpeg(camera))) as source:
        frames = source.frames()
        for _ in range(5):
            assert frames_behind(number_of(next(frames).pixels)) < FRAMES_PER_SECOND


def test_a_picture_cut_short_is_dropped_and_counted_never_shown_half_grey() -> None:
    with mjpeg_camera("--cut") as camera, closing(open_source(mjpeg(camera))) as source:
        frames = source.frames()
        for _ in range(10):
            assert next(frames).pixels[-1, :, 0].min() > 200, "its lowest line is red"
        assert source.dropped >= 8


def test_a_page_is_no_camera() -> None:
    with (
        mjpeg_camera() as camera,
        closing(open_source(f"http://127.0.0.1:{camera.port}/page")) as source,
        pytest.raises(CaptureError, match="expected a video stream or pictures"),
    ):
        next(source.frames())


@pytest.mark.parametrize(
    ("make", "place", "message"),
    [
        (mjpeg_camera, "http://127.0.0.1:{}/nothing", r"answers 404 \(Not Found\)"),
        (rtsp_camera, "rtsp://127.0.0.1:{}/nothing", r"no stream of this path \(404\)"),
    ],
)
def test_a_path_that_the_camera_does_not_know_is_said(
    make: Callable[[], Camera], place: str, message: str
) -> None:
    with (
        make() as camera,
        closing(open_source(place.format(camera.port))) as source,
        pytest.raises(CaptureError, match=message),
    ):
        next(source.frames())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("rtsp://admin:hunter2@127.0.0.1:9/s", "refuses connections to port 9"),
        ("http://admin:hunter2@127.0.0.1:9/s?pwd=hunter2", "refuses connections to port 9"),
        ("http://admin:hunter2@camera.invalid/s", "the name camera.invalid is not known here"),
    ],
)
def test_a_camera_that_is_not_there_is_said_at_once_and_without_its_password(
    spec: str, message: str
) -> None:
    with pytest.raises(CaptureError, match=message) as caught:
        open_source(spec)

    assert "hunter2" not in str(caught.value)
    assert "admin" not in str(caught.value)


def test_a_password_that_breaks_an_address_is_refused_with_the_cure() -> None:
    with pytest.raises(ConfigError, match="a '/' in a password is written %2F") as caught:
        open_source("rtsp://admin:hunter/2@127.0.0.1/s")

    assert "hunter" not in str(caught.value)


GUARDED = {
    "rtsp-basic": (rtsp_camera, "basic", rtsp),
    "rtsp-digest": (rtsp_camera, "digest", rtsp),
    "http-basic": (mjpeg_camera, "basic", mjpeg),
    "http-digest": (mjpeg_camera, "digest", mjpeg),
    "http-query": (
        mjpeg_camera,
        "query",
        lambda camera: mjpeg(camera) + "?user={username}&pwd={password}",
    ),
}
each_guard = pytest.mark.parametrize(("make", "method", "place"), GUARDED.values(), ids=GUARDED)


@each_guard
def test_a_camera_is_read_with_any_password_and_no_process_is_started_with_it(
    make: Callable[..., Camera], method: str, place: Callable[[Camera], str]
) -> None:
    with make("--auth", method, credentials=("admin", NASTY)) as camera:
        source = open_source(place(camera), username="admin", password=NASTY)
        with closing(source):
            frame = next(source.frames())
            assert frames_behind(number_of(frame.pixels)) < 5 * FRAMES_PER_SECOND
            assert isinstance(source, ChildProcessSource)
        reading = open_source(place(camera), username="admin", password=NASTY)
        assert isinstance(reading, ChildProcessSource)
        with closing(reading):
            frames = reading.frames()
            assert next(frames).source_id in {"rtsp", "http"}
            arguments = Path(f"/proc/{reading.child_pid}/cmdline").read_bytes()
            assert b"p@#" not in arguments
            assert b"p%40" not in arguments
            assert NASTY not in repr(reading._spec)


@each_guard
def test_a_wrong_password_is_said_and_not_repeated(
    make: Callable[..., Camera], method: str, place: Callable[[Camera], str]
) -> None:
    with make("--auth", method, credentials=("admin", NASTY)) as camera:
        source = open_source(place(camera), username="admin", password="hunter2")  # noqa: S106 - not one
        with (
            closing(source),
            pytest.raises(CaptureError, match="does not accept this user and password") as caught,
        ):
            next(source.frames())
        assert "hunter2" not in str(caught.value)
        nobody = open_source(place(camera))
        with (
            closing(nobody),
            pytest.raises(CaptureError, match="set username and password_file"),
        ):
            next(nobody.frames())


def test_a_stream_s_lag_is_told_by_its_own_times_and_slow_drift_is_none() -> None:
    clock = StreamClock()
    assert clock.lag_seconds(100.0, 5.0) == 0
    assert clock.lag_seconds(100.1, 5.6) == pytest.approx(0.5, abs=1e-2)
    assert clock.lag_seconds(100.7, 5.7) == pytest.approx(0, abs=1e-2)
    drifting = StreamClock()
    lags = [drifting.lag_seconds(second * 0.9999, second) for second in range(100_000)]
    assert max(lags) < 0.01


def test_find_probe_is_for_what_can_be_asked() -> None:
    with mjpeg_camera() as camera:
        probe = find_probe(mjpeg(camera))
        assert probe is not None
        assert probe()
        camera.freeze()
        assert not probe(), "a program that is stopped accepts connections, but does not answer"
        camera.thaw()
        camera.kill()
        assert not probe()
    assert find_probe("gst:videotestsrc") is None


class LyingCapture:
    """What FFmpeg does with a stalled stream: waits out its limit, and says that all is well."""

    def __init__(self, limit_seconds: float) -> None:
        self.limit_seconds = limit_seconds
        self.grabbed = 0

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return True

    def grab(self) -> bool:
        self.grabbed += 1
        if self.grabbed > 3:
            time.sleep(self.limit_seconds)
        return self.grabbed < 6

    def get(self, _property: int) -> float:
        return time.monotonic() * 1e3

    def retrieve(self) -> tuple[bool, UInt8Array]:
        return True, numbered_picture(min(self.grabbed, 3))


class HoardingCapture:
    """What FFmpeg does at first: ten pictures it has kept since it opened, then as they come."""

    def __init__(self) -> None:
        self.grabbed = 0

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return True

    def grab(self) -> bool:
        self.grabbed += 1
        if self.grabbed > 10:
            time.sleep(0.05)
        return self.grabbed < 20

    def get(self, _property: int) -> float:
        return self.grabbed * 50.0

    def retrieve(self) -> tuple[bool, UInt8Array]:
        return True, numbered_picture(self.grabbed)


def test_pictures_kept_since_a_stream_was_opened_are_not_taken_for_fresh_ones() -> None:
    source = RtspSource(parse_address("rtsp://127.0.0.1/line"), source_id="cam1")
    frames = source._read(cast("cv2.VideoCapture", HoardingCapture()))
    assert number_of(next(frames).pixels) in (11, 12)
    assert source.dropped in (10, 11)


def test_a_read_that_took_as_long_as_its_limit_is_a_failure_whatever_it_returns() -> None:
    address = parse_address("rtsp://127.0.0.1/line")
    source = RtspSource(address, source_id="cam1", read_seconds=0.3)
    frames = source._read(cast("cv2.VideoCapture", LyingCapture(0.3)))
    assert [number_of(next(frames).pixels) for _ in range(2)] == [2, 3]
    with pytest.raises(CaptureError, match=r"no frame for 0\.3 s, after 3 frames"):
        next(frames)
