"""A camera is set as at enrolment, or every frame of it that would be good is a fault by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from runtime_fakes import (
    CellEncoder,
    News,
    PlayedSource,
    Rig,
    bad_part,
    make_camera,
    make_pipeline,
    make_rig,
)

from edge_sdk.alerting.payload import CameraState
from edge_sdk.capture.mailbox import open_mailbox
from edge_sdk.capture.settings import (
    SettingsKeeper,
    automatic_settings,
    common_settings,
    describe_deviations,
)
from edge_sdk.capture.webcam import WebcamSource
from edge_sdk.capture.webcam_controls import WebcamControls
from edge_sdk.records import Frame
from edge_sdk.references import ReferenceStore
from edge_sdk.runtime.feed import FrameFeed

ENROLLED: dict[str, float | int | str] = {"exposure": 156, "gain": 4, "fourcc": "MJPG"}
OTHERWISE = ENROLLED | {"exposure": 312, "gain": 5}
BOTH_NAMED = "exposure was 156 at enrolment, is 312; gain was 4 at enrolment, is 5"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Registers:
    """A camera's controls; some are stuck, some it does not have."""

    def __init__(self, **values: float | str) -> None:
        self.values: dict[str, float | int | str] = dict(values)
        self.stuck: set[str] = set()
        self.written: list[str] = []

    def read(self) -> dict[str, float | int | str]:
        return dict(self.values)

    def write(self, name: str, value: float | str) -> None:
        self.written.append(name)
        if name in self.values and name not in self.stuck:
            self.values[name] = value


class Capture:
    """As ``cv2.VideoCapture`` over V4L2: numbers for properties, -1 for those it lacks."""

    def __init__(self, **values: float) -> None:
        names = {
            "auto_exposure": cv2.CAP_PROP_AUTO_EXPOSURE,
            "exposure": cv2.CAP_PROP_EXPOSURE,
            "gain": cv2.CAP_PROP_GAIN,
            "autofocus": cv2.CAP_PROP_AUTOFOCUS,
            "focus": cv2.CAP_PROP_FOCUS,
            "width": cv2.CAP_PROP_FRAME_WIDTH,
            "height": cv2.CAP_PROP_FRAME_HEIGHT,
            "fourcc": cv2.CAP_PROP_FOURCC,
        }
        self.values = {names[name]: value for name, value in values.items()}

    def get(self, propId: int, /) -> float:  # noqa: N803 - OpenCV's
        return self.values.get(propId, -1.0)

    def set(self, propId: int, value: float, /) -> bool:  # noqa: N803 - OpenCV's
        if propId not in self.values:
            return False
        self.values[propId] = value
        return True

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's
        return True

    def read(self) -> tuple[bool, np.ndarray[Any, Any]]:
        return True, np.full((4, 6, 3), self.values[cv2.CAP_PROP_EXPOSURE] % 256, np.uint8)


MJPG = float(int.from_bytes(b"MJPG", "little"))


def test_a_webcam_tells_what_no_automatic_changes_and_takes_what_it_told() -> None:
    capture = Capture(auto_exposure=1, exposure=156, gain=4, autofocus=1, focus=30, fourcc=MJPG)
    controls = WebcamControls(capture)

    told = controls.read()
    assert told == {
        "fourcc": "MJPG",
        "auto_exposure": 1,
        "autofocus": 1,
        "exposure": 156,
        "gain": 4,
    }
    assert automatic_settings(told) == ["autofocus"]

    capture.set(cv2.CAP_PROP_AUTO_EXPOSURE, 3)
    capture.set(cv2.CAP_PROP_FOURCC, 0)
    assert set(controls.read()) == {"fourcc", "auto_exposure", "autofocus"}
    for name, value in told.items():
        controls.write(name, value)
    controls.write("a name of another camera", 1)
    assert controls.read() == told


def test_only_what_differs_is_written_and_what_was_changed_meanwhile_is_put_right() -> None:
    clock, camera = Clock(), Registers(**ENROLLED)
    keeper = SettingsKeeper(camera, ENROLLED, clock)
    assert keeper.look() == ENROLLED
    assert not camera.written
    assert not keeper.is_settling

    camera.values["gain"] = 9  # by another program
    assert keeper.look() == ENROLLED, "it is not asked for every picture"
    clock.now += 5
    assert keeper.look() == ENROLLED
    assert camera.written == ["gain"]
    assert camera.values == ENROLLED
    assert keeper.is_settling, "pictures on their way were taken by the old gain"
    clock.now += 0.5
    assert not keeper.is_settling


def test_what_a_camera_does_not_take_is_read_back_as_it_is() -> None:
    camera = Registers(**OTHERWISE)
    camera.stuck.add("exposure")

    found = SettingsKeeper(camera, ENROLLED | {"focus": 3}, Clock()).look()

    assert found == ENROLLED | {"exposure": 312}
    assert describe_deviations(ENROLLED | {"focus": 3}, found) == (
        "exposure was 156 at enrolment, is 312; focus was 3 at enrolment, is automatic, or not told"
    )


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (ENROLLED | {"anything": 1}, None),
        (ENROLLED | {"exposure": 156.4}, None),  # converted by the camera and back
        (ENROLLED | {"exposure": 160}, "exposure was 156 at enrolment, is 160"),
        (ENROLLED | {"fourcc": "YUYV"}, "fourcc was MJPG at enrolment, is YUYV"),
        (None, None),  # a source that cannot tell
    ],
)
def test_deviations_are_told_by_name_with_both_values(
    found: Mapping[str, float | int | str] | None, words: str | None
) -> None:
    assert describe_deviations(ENROLLED, found) == words


def test_what_changed_from_picture_to_picture_is_no_setting() -> None:
    assert common_settings([ENROLLED, ENROLLED | {"gain": 5}, ENROLLED]) == {
        "exposure": 156,
        "fourcc": "MJPG",
    }
    assert common_settings([None, None]) is None
    assert common_settings([]) is None


def test_settings_travel_with_each_frame_out_of_the_reading_process() -> None:
    reader, writer = open_mailbox(source_id="cam1")
    source = PlayedSource()
    for settings in (ENROLLED, None, {}):
        writer.write(source.give(settings=settings))
        found = reader.take(1.0)
        assert isinstance(found, Frame)
        assert found.camera_settings == settings
        assert found.size == (64, 64)
    reader.close()
    writer.close()


def test_a_webcam_is_set_before_its_first_frame_is_shown() -> None:
    capture = Capture(auto_exposure=3, exposure=40, gain=4)
    wanted = {"auto_exposure": 1, "exposure": 156, "gain": 4}
    source = WebcamSource(Path("/dev/video0"), source_id="cam1", settings=wanted)

    frame = next(source._read(capture))  # type: ignore[arg-type]  # as far as it is used

    assert frame.camera_settings == wanted
    assert frame.pixels[0, 0, 0] == 156


def test_a_feed_sets_whatever_it_opens_and_a_change_of_set_sets_anew() -> None:
    first, news = PlayedSource(), News()
    feed = FrameFeed(
        "cam1",
        lambda: first,
        keeps="newest",
        reopens=True,
        on_news=news,
        pause_seconds=(0.01, 0.04),
    )
    feed.adjust(ENROLLED)
    feed.start()
    try:
        first.give()
        news.wait_for(lambda: feed.has_frame)
        assert first.adjusted == [ENROLLED]
        feed.adjust(OTHERWISE)
        assert first.adjusted == [ENROLLED, OTHERWISE]
    finally:
        feed.close()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[Rig, PlayedSource]]:
    """A watched camera whose good parts were shown to it with known settings."""
    source = PlayedSource()
    with make_rig(tmp_path, [(make_camera(), source)], settings=ENROLLED) as rig:
        yield rig, source


def step(rig: Rig, source: PlayedSource, **frame: Any) -> list[dict[str, Any]]:
    source.give(**frame)
    return rig.step_with_frame()


def test_a_camera_that_is_set_otherwise_is_a_fault_by_name_until_it_is_not(
    watched: tuple[Rig, PlayedSource],
) -> None:
    rig, source = watched
    assert not step(rig, source, settings=ENROLLED)

    (opened,) = step(rig, source, settings=OTHERWISE)
    assert (opened["kind"], opened["reason"]) == ("fault.open", "camera_settings")
    assert opened["detail"] == BOTH_NAMED
    assert rig.decisions[-1].verdict == "fault", "nothing is normal meanwhile"
    assert rig.station.health.standing is not None

    said = step(rig, source, settings=ENROLLED) + step(rig, source, settings=ENROLLED)
    assert [message["kind"] for message in said] == ["fault.close"]
    assert rig.decisions[-1].verdict == "normal"


def test_a_bad_part_stays_a_bad_part_however_the_camera_is_set(
    watched: tuple[Rig, PlayedSource],
) -> None:
    rig, source = watched
    step(rig, source, pixels=bad_part(), settings=OTHERWISE)

    assert rig.decisions[-1].verdict == "anomalous"


def test_a_source_that_cannot_tell_or_need_not_is_judged(tmp_path: Path) -> None:
    for ignore, settings in (((), None), (("camera_settings",), OTHERWISE)):
        source = PlayedSource()
        camera = make_camera(ignore=ignore)
        with make_rig(tmp_path, [(camera, source)], settings=ENROLLED) as rig:
            assert not step(rig, source, settings=settings)
            assert rig.decisions[-1].verdict == "normal"


def test_a_triggered_camera_says_it_before_the_next_part_comes(tmp_path: Path) -> None:
    source = PlayedSource()
    camera = make_camera(mode="mqtt")
    with (
        make_rig(tmp_path, [(camera, source)], settings=ENROLLED) as rig,
        rig.running(),
    ):
        source.give(settings=OTHERWISE)
        rig.outbox.wait_for(lambda: bool(rig.outbox.of_kind("fault.open")))
        status = rig.outbox.wait_for_state(CameraState.DEGRADED)
        assert status.reason == "camera_settings"

        rig.outbox.trigger(part_id="A")
        rig.outbox.wait_for(lambda: len(rig.outbox.notes) == 1)
        source.give(settings=OTHERWISE)
        rig.outbox.wait_for_results(1)
        source.give(settings=ENROLLED)
        rig.outbox.wait_for(lambda: bool(rig.outbox.of_kind("fault.close")))
        rig.outbox.trigger(part_id="B")
        rig.outbox.wait_for(lambda: len(rig.outbox.notes) == 2)
        source.give(settings=ENROLLED)
        rig.outbox.wait_for_results(2)
    first, second = rig.outbox.of_kind("result")
    assert (first["verdict"], first["reason"]) == ("fault", "camera_settings")
    assert second["verdict"] == "normal"
    assert rig.outbox.of_kind("fault.open")[0]["detail"] == BOTH_NAMED


def test_another_set_of_a_running_camera_brings_its_own_settings(
    watched: tuple[Rig, PlayedSource], tmp_path: Path
) -> None:
    rig, source = watched
    step(rig, source, settings=ENROLLED)
    night = make_pipeline(
        tmp_path, rig.station.camera, CellEncoder(), name="night", settings=OTHERWISE
    )
    rig.station.begin_change("night", 0)
    rig.station.finish_change(night)

    assert source.adjusted[-1] == OTHERWISE
    step(rig, source, settings=ENROLLED)
    assert rig.decisions[-1].reason == "camera_settings", "a frame from before it was set"
    step(rig, source, settings=OTHERWISE)
    assert rig.decisions[-1].verdict == "normal"


def test_settings_are_kept_with_the_pictures_and_older_sets_have_none(tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path, "cam1")
    frames = [PlayedSource().give()]
    store.save("default", frames, source="0")
    assert store.load("default").camera_settings is None

    store.save("default", frames, source="0", camera_settings=ENROLLED)
    assert store.load("default").camera_settings == ENROLLED
    assert store.load("default", version=1).camera_settings is None
