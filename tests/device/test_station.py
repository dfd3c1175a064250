"""A station: one result a trigger, blindness said once, and never a verdict out of nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from runtime_fakes import (
    CellEncoder,
    Payload,
    PlayedSource,
    Rig,
    bad_part,
    good_part,
    make_camera,
    make_rig,
)

from edge_sdk.alerting.trigger import TriggerRequest
from edge_sdk.config import CameraConfig
from edge_sdk.errors import CaptureError, EngineError, InputError
from edge_sdk.runtime.triggers import Refused, TriggerQueue


@contextmanager
def station_for(
    state_dir: Path,
    camera: CameraConfig,
    *,
    encoder: CellEncoder | None = None,
    picture_max_bytes: int | None = None,
) -> Iterator[tuple[Rig, PlayedSource]]:
    source = PlayedSource()
    encoders = {} if encoder is None else {camera.name: encoder}
    with make_rig(
        state_dir, [(camera, source)], encoders=encoders, picture_max_bytes=picture_max_bytes
    ) as rig:
        yield rig, source


def trigger(rig: Rig, part_id: str, trigger_id: str | None = None) -> str | None:
    """Send a trigger; why it is refused, if it is."""
    request = TriggerRequest(part_id=part_id, trigger_id=trigger_id)
    taken = rig.station.trigger(request, time.monotonic_ns())
    return taken.reason if isinstance(taken, Refused) else None


def wait_for_failure(rig: Rig, words: str) -> None:
    rig.news.wait_for(lambda: words in str(rig.station.feed.error))


# --- triggers over MQTT, a live camera ---


def test_each_trigger_gets_exactly_one_result_with_its_ids(tmp_path: Path) -> None:
    with station_for(tmp_path, make_camera(mode="mqtt")) as (rig, source):
        for number, pixels in enumerate([good_part(7), bad_part(), good_part(8)]):
            assert trigger(rig, f"part-{number}", f"t-{number}") is None
            source.give(pixels)
            (result,) = rig.step_with_frame()

            assert (result["part_id"], result["trigger_id"]) == (f"part-{number}", f"t-{number}")
            assert result["frame_id"] == number
        source.give()
        assert rig.step_with_frame() == []
        assert rig.step() == []

    assert [p["kind"] for p in rig.outbox.payloads] == ["result"] * 3
    assert [p["verdict"] for p in rig.outbox.payloads] == ["normal", "anomalous", "normal"]


def test_a_trigger_without_an_id_of_its_own_is_given_one(tmp_path: Path) -> None:
    with station_for(tmp_path, make_camera(mode="mqtt")) as (rig, source):
        trigger(rig, "part-1")
        trigger(rig, "part-1")
        for _ in range(2):
            source.give()
            rig.step_with_frame()

    first, second = rig.outbox.of_kind("result")
    assert first["part_id"] == second["part_id"] == "part-1"
    assert first["trigger_id"] != second["trigger_id"]


def test_a_frame_from_before_the_trigger_is_never_used(tmp_path: Path) -> None:
    with station_for(tmp_path, make_camera(mode="mqtt")) as (rig, source):
        source.give(bad_part())  # lies in the slot when the trigger comes
        rig.news.wait_for(lambda: rig.station.feed.has_frame)
        trigger(rig, "part-1", "t-1")
        assert rig.step() == []
        source.give(bad_part(), age_seconds=0.5)  # was on its way when the trigger came
        assert rig.step_with_frame() == []

        source.give(good_part(7))
        (result,) = rig.step_with_frame()

    assert (result["verdict"], result["frame_id"]) == ("normal", 2)


def test_a_frame_from_while_the_loop_was_busy_is_used_for_the_trigger_before_it(
    tmp_path: Path,
) -> None:
    with station_for(tmp_path, make_camera(mode="mqtt")) as (rig, source):
        received_ns = time.monotonic_ns()
        source.give()
        rig.station.trigger(TriggerRequest(part_id="part-1"), received_ns)
        (result,) = rig.step_with_frame()

    assert (result["part_id"], result["frame_id"]) == ("part-1", 0)


def test_a_deadline_counts_from_the_arrival_of_its_trigger(tmp_path: Path) -> None:
    with station_for(tmp_path, make_camera(mode="mqtt", deadline_seconds=5)) as (rig, source):
        source.give()
        rig.news.wait_for(lambda: rig.station.feed.has_frame)
        received_ns = time.monotonic_ns() - 6_000_000_000
        rig.station.trigger(TriggerRequest(part_id="part-1"), received_ns)
        (result,) = rig.step()

    assert (result["verdict"], result["reason"]) == ("fault", "timeout")


def test_two_triggers_never_share_a_frame(tmp_path: Path) -> None:
    with station_for(tmp_path, make_camera(mode="mqtt")) as (rig, source):
        trigger(rig, "part-1", "t-1")
        trigger(rig, "part-2", "t-2")
        source.give()
        (first,) = rig.step_with_frame()
        assert rig.step() == []
        source.give()
        (second,) = rig.step_with_frame()

    assert (first["part_id"], first["frame_id"]) == ("part-1", 0)
    assert (second["part_id"], second["frame_id"]) == ("part-2", 1)


def test_a_trigger_without_a_frame_is_a_fault_at_its_deadline(tmp_path: Path) -> None:
    camera = make_camera(mode="mqtt", deadline_seconds=0.1)
    with station_for(tmp_path, camera) as (rig, source):
        trigger(rig, "part-1", "t-1")
        assert rig.step() == []

        (result,) = rig.step_when_due()

        assert (result["verdict"], result["reason"]) == ("fault", "timeout")
        assert (result["part_id"], result["trigger_id"]) == ("part-1", "t-1")
        assert result["severity"] == "critical"
        assert "score" not in result
        source.give()
        assert rig.step_with_frame() == [], "a frame that comes later changes nothing"


def test_triggers_whose_deadline_is_over_are_all_answered_at_once(tmp_path: Path) -> None:
    encoder = CellEncoder(seconds=1.0)
    camera = make_camera(mode="mqtt", deadline_seconds=0.1)
    with station_for(tmp_path, camera, encoder=encoder) as (rig, source):
        for number in range(5):
            trigger(rig, f"part-{number}", f"t-{number}")
        time.sleep(0.11)  # what another camera's slow inspection takes
        source.give()
        rig.news.wait_for(lambda: rig.station.feed.has_frame)
        started = time.monotonic()

        results = rig.step()

        assert time.monotonic() - started < 1.0, "no inspection for a part that is gone"
    assert [result["trigger_id"] for result in results] == [f"t-{n}" for n in range(5)]
    assert {result["reason"] for result in results} == {"timeout"}


def test_a_verdict_after_the_deadline_is_a_fault_that_says_what_it_was(tmp_path: Path) -> None:
    encoder = CellEncoder(seconds=0.35)
    camera = make_camera(mode="mqtt", deadline_seconds=0.3)
    with station_for(tmp_path, camera, encoder=encoder) as (rig, source):
        trigger(rig, "part-1", "t-1")
        source.give(good_part(7))
        (result,) = rig.step_with_frame()

    assert (result["verdict"], result["reason"]) == ("fault", "timeout")
    assert "deadline missed by" in result["detail"]
    assert "was: score" in result["detail"]
    assert "score" not in result
    assert result["frame_id"] == 0
    assert result["latency_ms"]["encode"] >= 350, "what was slow is told"
    assert rig.summaries["cam1"].to_json(dropped=0)["latency_ms"]["encode"]["p50"] >= 350


def test_a_trigger_id_is_used_once(tmp_path: Path) -> None:
    with station_for(tmp_path, make_camera(mode="mqtt")) as (rig, source):
        assert trigger(rig, "part-1", "t-1") is None
        waiting = trigger(rig, "part-1", "t-1")
        source.give()
        rig.step_with_frame()
        answered = trigger(rig, "part-1", "t-1")
        source.give()
        rig.step_with_frame()

    assert waiting == answered == "trigger_id was used before"
    assert len(rig.outbox.of_kind("result")) == 1


def test_the_last_ten_thousand_trigger_ids_are_remembered() -> None:
    queue = TriggerQueue(1.0)
    for number in range(10_001):
        queue.add(f"t-{number}", "part", number)

    assert not queue.has_seen("t-0")
    assert queue.has_seen("t-1")
    assert queue.has_seen("t-10000")


@pytest.mark.parametrize("mode", ["continuous", "interval"])
def test_a_camera_that_is_not_triggered_says_so(tmp_path: Path, mode: str) -> None:
    interval_seconds = 60.0 if mode == "interval" else None
    camera = make_camera(mode=mode, interval_seconds=interval_seconds)
    with station_for(tmp_path, camera) as (rig, _):
        assert trigger(rig, "part-1") == f"camera runs in mode {mode}"


def test_an_engine_that_fails_is_a_fault_of_the_part(tmp_path: Path) -> None:
    encoder = CellEncoder()
    encoder.error = EngineError("the graph failed")
    with station_for(tmp_path, make_camera(mode="mqtt"), encoder=encoder) as (rig, source):
        trigger(rig, "part-1", "t-1")
        source.give()
        (result,) = rig.step_with_frame()

    assert (result["verdict"], result["reason"]) == ("fault", "engine_error")
    assert result["part_id"] == "part-1"


def test_triggers_that_are_given_up_get_their_results(tmp_path: Path) -> None:
    with station_for(tmp_path, make_camera(mode="mqtt")) as (rig, _):
        trigger(rig, "part-1", "t-1")
        trigger(rig, "part-2", "t-2")
        for dispatch in rig.station.abandon("the run ended"):
            rig.outbox.send(dispatch)
        assert rig.station.abandon("the run ended") == []

    results = rig.outbox.of_kind("result")
    assert [(r["part_id"], r["verdict"], r["reason"], r["detail"]) for r in results] == [
        ("part-1", "fault", "no_frame", "the run ended"),
        ("part-2", "fault", "no_frame", "the run ended"),
    ]


def test_only_anomalous_parts_come_with_a_picture(tmp_path: Path) -> None:
    camera = make_camera(mode="mqtt")
    with station_for(tmp_path, camera, picture_max_bytes=20_000) as (rig, source):
        for pixels in (good_part(7), bad_part()):
            trigger(rig, "part")
            source.give(pixels)
            rig.step_with_frame()

    none, picture = rig.outbox.pictures
    assert none is None
    assert picture is not None
    assert len(picture) <= 20_000
    decoded = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert decoded.shape == (64, 64, 3)


# --- triggers, a file ---


def test_of_a_file_each_trigger_gets_the_next_frame_however_long_it_waited(tmp_path: Path) -> None:
    camera = make_camera(source="dir:/parts", mode="mqtt", max_frame_age_seconds=0.05)
    with station_for(tmp_path, camera) as (rig, source):
        for _ in range(3):
            source.give(good_part(7))
        source.end()
        for number in range(3):
            rig.news.wait_for(lambda: rig.station.feed.has_frame)
            time.sleep(0.06)  # longer than a frame may be old
            assert rig.step() == [], "nothing is judged before it is asked for"
            trigger(rig, f"part-{number}")
            (result,) = rig.step_with_frame()
            assert (result["verdict"], result["frame_id"]) == ("normal", number)
        rig.news.wait_for(lambda: rig.station.feed.has_ended)

        assert rig.station.is_finished


def test_triggers_that_wait_when_the_file_ends_get_their_results(tmp_path: Path) -> None:
    with station_for(tmp_path, make_camera(source="dir:/parts", mode="mqtt")) as (rig, source):
        for number in range(3):
            trigger(rig, f"part-{number}")
        source.give(good_part(7))
        source.end()
        first = rig.step_with_frame()
        rig.news.wait_for(lambda: rig.station.feed.has_ended)
        assert not rig.station.is_finished

        rest = rig.step()

        assert rig.station.is_finished
    assert [result["verdict"] for result in first] == ["normal"]
    assert [(r["part_id"], r["reason"], r["detail"]) for r in rest] == [
        ("part-1", "no_frame", "the source has ended"),
        ("part-2", "no_frame", "the source has ended"),
    ]


# --- intervals ---


def test_an_interval_gives_one_result_each_time(tmp_path: Path) -> None:
    camera = make_camera(mode="interval", interval_seconds=0.5)
    with station_for(tmp_path, camera) as (rig, source):
        assert rig.step() == [], "a frame after the moment is awaited"
        source.give()
        (first,) = rig.step_with_frame()
        source.give()
        assert rig.step_with_frame() == [], "the next moment has not come"
        rig.step_when_due()
        source.give()
        (second,) = rig.step_with_frame()

    assert first["trigger_id"] == first["part_id"]
    assert first["trigger_id"] != second["trigger_id"]
    assert second["frame_id"] == 2


def test_an_interval_without_frames_is_a_fault_each_time(tmp_path: Path) -> None:
    camera = make_camera(mode="interval", interval_seconds=0.05, deadline_seconds=0.05)
    with station_for(tmp_path, camera) as (rig, _):
        results: list[Payload] = []
        while len(results) < 3:
            results += rig.step_when_due()

    assert {(r["verdict"], r["reason"]) for r in results} == {("fault", "timeout")}
    assert len({r["trigger_id"] for r in results}) == len(results)


def test_moments_missed_by_a_slow_engine_do_not_pile_up(tmp_path: Path) -> None:
    encoder = CellEncoder(seconds=0.2)
    camera = make_camera(mode="interval", interval_seconds=0.05)
    with station_for(tmp_path, camera, encoder=encoder) as (rig, source):
        for _ in range(3):
            rig.step()
            rig.step()
            source.give()
            assert len(rig.step_with_frame()) == 1

        assert rig.station.abandon("counted") == []


def test_the_interval_over_a_file_has_no_part_beyond_its_last_picture(tmp_path: Path) -> None:
    camera = make_camera(source="dir:/parts", mode="interval", interval_seconds=0.05)
    with station_for(tmp_path, camera) as (rig, source):
        source.give()
        assert len(rig.step_with_frame()) == 1
        assert rig.station.next_due_ns is None, "the loop sleeps until there is news"
        time.sleep(0.06)  # the next moment is over, and the file has not said yet that it ends
        assert rig.step() == []
        source.end()
        rig.news.wait_for(lambda: rig.station.feed.has_ended)

        assert rig.step() == []
        assert rig.station.is_finished


# --- blindness ---


def test_a_blind_camera_is_said_once_until_its_frames_return(tmp_path: Path) -> None:
    with station_for(tmp_path, make_camera()) as (rig, source):
        source.give(good_part(7))
        assert rig.step_with_frame() == []
        for age in ("3.0", "3.1", "3.2"):
            source.fail(CaptureError(f"cam1: no new frame for {age} s"))
            wait_for_failure(rig, age)
            rig.step()
        (opened,) = rig.outbox.payloads
        assert (opened["kind"], opened["reason"]) == ("fault.open", "no_frame")
        assert (opened["verdict"], opened["severity"]) == ("fault", "critical")
        assert opened["detail"] == "cam1: no new frame for 3.0 s"

        source.give(good_part(7))
        assert rig.step_with_frame() == [], "one frame may be a last gasp"
        source.give(good_part(7))
        (closed,) = rig.step_with_frame()

        assert (closed["kind"], closed["verdict"]) == ("fault.close", "normal")
        assert closed["incident_id"] == opened["incident_id"]
        source.fail()
        rig.news.wait_for(lambda: not rig.station.feed.is_seeing)
        (again,) = rig.step()
        assert again["kind"] == "fault.open"
        assert again["incident_id"] != opened["incident_id"]
    assert rig.summaries["cam1"].inspected == 3, "blindness is no inspection"


@pytest.mark.parametrize("mode", ["mqtt", "interval"])
def test_a_triggered_camera_that_goes_blind_says_so_without_being_asked(
    tmp_path: Path, mode: str
) -> None:
    interval_seconds = 60.0 if mode == "interval" else None
    camera = make_camera(mode=mode, interval_seconds=interval_seconds)
    with station_for(tmp_path, camera) as (rig, source):
        for _ in range(2):
            source.fail()
        rig.news.wait_for(lambda: len(source.readings) == 2 and rig.station.feed.error is not None)
        (opened,) = rig.step()
        assert rig.step() == []
        assert (opened["kind"], opened["reason"]) == ("fault.open", "no_frame")
        assert "part_id" not in opened

        source.give()
        rig.news.wait_for(lambda: rig.station.feed.is_seeing)
        messages = rig.step()
        closed = messages[0]

    assert (closed["kind"], closed["reason"]) == ("fault.close", "no_frame")
    assert closed["incident_id"] == opened["incident_id"]
    assert closed["message_id"] != opened["message_id"]
    assert closed["severity"] == "info"
    assert "verdict" not in closed, "nothing was judged"


def test_a_trigger_for_a_blind_camera_gets_its_fault_with_the_cause(tmp_path: Path) -> None:
    camera = make_camera(mode="mqtt", deadline_seconds=0.05)
    with station_for(tmp_path, camera) as (rig, source):
        source.fail(CaptureError("/dev/video0 does not exist"))
        rig.news.wait_for(lambda: rig.station.feed.error is not None)
        rig.step()
        trigger(rig, "part-1")
        (result,) = rig.step_when_due()

    assert (result["verdict"], result["reason"]) == ("fault", "timeout")
    assert "/dev/video0 does not exist" in result["detail"]


@pytest.mark.parametrize("mode", ["continuous", "mqtt"])
def test_a_file_that_fails_says_so_before_it_is_finished(tmp_path: Path, mode: str) -> None:
    with station_for(tmp_path, make_camera(source="dir:/parts", mode=mode)) as (rig, source):
        source.fail(InputError("b.png: does not decode"))
        rig.news.wait_for(lambda: rig.station.feed.has_ended)
        assert not rig.station.is_finished

        (opened,) = rig.step()

        assert (opened["kind"], opened["detail"]) == ("fault.open", "b.png: does not decode")
        assert rig.station.is_finished


# --- continuous ---


def test_an_anomaly_opens_with_a_picture_and_closes(tmp_path: Path) -> None:
    with station_for(tmp_path, make_camera(), picture_max_bytes=20_000) as (rig, source):
        for pixels in (good_part(7), bad_part(), good_part(7), good_part(8)):
            source.give(pixels)
            rig.step_with_frame()

    opened, closed = rig.outbox.payloads
    assert (opened["kind"], opened["verdict"]) == ("anomaly.open", "anomalous")
    assert opened["regions"]
    assert (closed["kind"], closed["incident_id"]) == ("anomaly.close", opened["incident_id"])
    assert [picture is not None for picture in rig.outbox.pictures] == [True, False]


def test_a_camera_frame_that_is_too_old_is_a_fault(tmp_path: Path) -> None:
    with station_for(tmp_path, make_camera()) as (rig, source):
        source.give(age_seconds=10)
        (opened,) = rig.step_with_frame()

    assert (opened["kind"], opened["reason"]) == ("fault.open", "stale_frame")


def test_nothing_is_said_while_nothing_comes(tmp_path: Path) -> None:
    with station_for(tmp_path, make_camera()) as (rig, _):
        assert rig.step() == []
        assert rig.station.next_due_ns is None
        assert not rig.station.is_finished
