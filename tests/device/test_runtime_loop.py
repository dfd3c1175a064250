"""The loop: runs end as they should, cameras are served fairly, no trigger is met with silence."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from alerts import open_spool
from capture_media import write_picture
from mosquitto import free_port
from runtime_fakes import (
    BUNDLE_ID,
    CellEncoder,
    PlayedSource,
    Rig,
    bad_part,
    good_part,
    make_camera,
    make_rig,
    read_payload,
    streaming,
)

from edge_sdk.alerting.payload import CameraState
from edge_sdk.capture import open_source
from edge_sdk.config import CameraConfig, default_config, override_config
from edge_sdk.errors import CaptureError, EdgeError, InputError
from edge_sdk.records import PatchFeatures, Preprocessed, Verdict
from edge_sdk.runtime.outbox import DryOutbox, DurableOutbox


def write_parts(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        write_picture(folder / f"{number:02}.png", good_part(100 + number))
    return folder


def run_to_its_end(rig: Rig, *, max_frames: int | None = None) -> None:
    rig.runtime(max_frames=max_frames).run(threading.Event())


# --- how a run ends ---


def test_a_run_over_a_folder_judges_each_picture_and_ends(tmp_path: Path) -> None:
    folder = write_parts(tmp_path / "parts", 12)
    write_picture(folder / "05.png", bad_part())
    camera = make_camera(source=f"dir:{folder}")
    with make_rig(tmp_path, [(camera, open_source(camera.source))]) as rig:
        run_to_its_end(rig)

        summary = rig.runtime().summary()["cam1"]

    assert [d.frame.frame_id for d in rig.decisions if d.frame] == list(range(12))
    assert summary["verdicts"] == {"normal": 11, "anomalous": 1}
    assert summary["messages"] == {"anomaly.open": 1, "anomaly.close": 1}
    assert summary["inspected"] == 12
    assert summary["dropped"] == 0
    assert rig.outbox.reports[-1]["cam1"].verdict is Verdict.NORMAL


def test_a_picture_that_does_not_decode_ends_the_run_as_an_error(tmp_path: Path) -> None:
    folder = write_parts(tmp_path / "parts", 3)
    (folder / "01.png").write_bytes(b"not a picture")
    camera = make_camera(source=f"dir:{folder}")
    with (
        make_rig(tmp_path, [(camera, open_source(camera.source))]) as rig,
        pytest.raises(InputError, match=r"01\.png"),
    ):
        run_to_its_end(rig)

    assert rig.summaries["cam1"].inspected == 1
    (opened,) = rig.outbox.payloads
    assert (opened["kind"], opened["reason"]) == ("fault.open", "no_frame")
    assert rig.outbox.reports[-1]["cam1"].state is CameraState.BLIND


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_defect_in_a_source_ends_the_run_as_an_error(tmp_path: Path) -> None:
    source = PlayedSource()
    source.give()
    source.fail(ZeroDivisionError())
    camera = make_camera(source="dir:/parts")
    with (
        make_rig(tmp_path, [(camera, source)]) as rig,
        pytest.raises(EdgeError, match="cam1: a defect"),
    ):
        run_to_its_end(rig)


def test_a_run_ends_after_so_many_frames_of_each_camera(tmp_path: Path) -> None:
    cameras = [make_camera(name, f"dir:/{name}") for name in ("left", "right")]
    sources = [PlayedSource(), PlayedSource()]
    for source in sources:
        for _ in range(9):
            source.give()
    with make_rig(tmp_path, list(zip(cameras, sources, strict=True))) as rig:
        run_to_its_end(rig, max_frames=4)

    assert [rig.summaries[name].inspected for name in ("left", "right")] == [4, 4]


def test_a_camera_that_is_blind_has_not_used_up_its_frames(tmp_path: Path) -> None:
    source = PlayedSource()
    for age in range(5):
        source.fail(CaptureError(f"cam1: no new frame for {age} s"))
    with make_rig(tmp_path, [(make_camera(), source)]) as rig, rig.running(max_frames=1):
        rig.outbox.wait_for(lambda: bool(rig.outbox.payloads))
        source.give()
        rig.outbox.wait_for(lambda: rig.summaries["cam1"].inspected == 1)

    assert rig.summaries["cam1"].verdicts == {"normal": 1}


@pytest.mark.parametrize("mode", ["continuous", "mqtt"])
def test_a_run_stops_within_a_second_also_where_a_camera_gives_nothing(
    tmp_path: Path, mode: str
) -> None:
    with make_rig(tmp_path, [(make_camera(mode=mode), PlayedSource())]) as rig:
        stop = threading.Event()
        timer = threading.Timer(0.2, stop.set)
        timer.start()
        rig.runtime().run(stop)
        stopped = time.monotonic()
        timer.join()

    assert time.monotonic() - stopped < 1


class StoppingEncoder(CellEncoder):
    """Tells the run to stop while it works."""

    def __init__(self, stop: threading.Event) -> None:
        super().__init__()
        self._stop = stop

    def encode(self, preprocessed: Preprocessed) -> PatchFeatures:
        self._stop.set()
        return super().encode(preprocessed)


def test_a_run_that_is_told_to_stop_finishes_one_inspection_not_a_round(tmp_path: Path) -> None:
    cameras = [(make_camera(name, f"dir:/{name}"), PlayedSource()) for name in ("a", "b", "c")]
    for _, source in cameras:
        source.give()
    stop = threading.Event()
    with make_rig(tmp_path, cameras, encoders={"a": StoppingEncoder(stop)}) as rig:
        rig.wait_for_frames()
        rig.runtime().run(stop)

    assert rig.decided == ["a"]


def test_triggers_that_wait_when_a_run_is_stopped_get_their_results(tmp_path: Path) -> None:
    with make_rig(tmp_path, [(make_camera(mode="mqtt"), PlayedSource())]) as rig, rig.running():
        rig.outbox.trigger(part_id="part-1", trigger_id="t-1")
        seen = rig.outbox.visits
        while rig.outbox.visits < seen + 2:
            time.sleep(0.001)
        rig.outbox.trigger(part_id="part-2", trigger_id="t-2")

    results = rig.outbox.payloads
    assert [(r["part_id"], r["verdict"], r["reason"]) for r in results] == [
        ("part-1", "fault", "no_frame"),
        ("part-2", "fault", "no_frame"),
    ]


# --- states ---


def test_a_camera_is_reported_blind_until_it_is_judged_and_again_when_it_fails(
    tmp_path: Path,
) -> None:
    source = PlayedSource()
    with make_rig(tmp_path, [(make_camera(), source)]) as rig, rig.running():
        rig.outbox.wait_for_state(CameraState.BLIND)
        source.give(good_part(7))
        status = rig.outbox.wait_for_state(CameraState.OK)
        assert (status.verdict, status.score is None) == (Verdict.NORMAL, False)
        source.fail()
        rig.outbox.wait_for_state(CameraState.BLIND)
        source.give(good_part(7))
        rig.outbox.wait_for_state(CameraState.OK)
        source.give(good_part() * 0)
        rig.outbox.wait_for_state(CameraState.UNSCORED)

    for report in rig.outbox.reports:
        status = report["cam1"]
        assert status.state is CameraState.OK or status.verdict is Verdict.FAULT
        assert status.state is CameraState.OK or status.score is None


def test_an_anomaly_stays_open_while_its_camera_is_blind(tmp_path: Path) -> None:
    source = PlayedSource()
    with make_rig(tmp_path, [(make_camera(), source)]) as rig, rig.running():
        source.give(bad_part())
        assert rig.outbox.wait_for_state(CameraState.OK).anomaly
        source.fail()

        assert rig.outbox.wait_for_state(CameraState.BLIND).anomaly


def test_a_triggered_camera_that_sees_is_ok_before_its_first_part(tmp_path: Path) -> None:
    source = PlayedSource()
    with make_rig(tmp_path, [(make_camera(mode="mqtt"), source)]) as rig, rig.running():
        rig.outbox.wait_for_state(CameraState.BLIND)
        source.give()
        status = rig.outbox.wait_for_state(CameraState.OK)

    assert status.verdict is None, "nothing was judged yet"


def test_a_verdict_from_before_a_blindness_is_not_reported_after_it(tmp_path: Path) -> None:
    source = PlayedSource()
    with make_rig(tmp_path, [(make_camera(mode="mqtt"), source)]) as rig, rig.running():
        with streaming(source):
            rig.outbox.trigger(part_id="part-1")
            rig.outbox.wait_for_results(1)
        assert rig.outbox.wait_for_state(CameraState.OK).verdict is Verdict.NORMAL
        source.fail()
        rig.outbox.wait_for_state(CameraState.BLIND)
        source.give()

        assert rig.outbox.wait_for_state(CameraState.OK).verdict is None


# --- triggers ---


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (b"\xff\xfe", "expected a JSON object"),
        (b'{"part_id": ""}', "trigger.part_id"),
        (b'{"part": "1"}', "expected keys"),
    ],
)
def test_a_malformed_trigger_is_an_event(tmp_path: Path, command: bytes, reason: str) -> None:
    with make_rig(tmp_path, [(make_camera(mode="mqtt"), PlayedSource())]) as rig, rig.running():
        rig.outbox.trigger(command)
        rig.outbox.wait_for(lambda: bool(rig.outbox.payloads))

    (event,) = rig.outbox.payloads
    assert (event["kind"], event["event"]) == ("event", "trigger_refused")
    assert reason in event["data"]["reason"]


def test_a_trigger_must_name_one_of_several_cameras(tmp_path: Path) -> None:
    cameras = [(make_camera(name, mode="mqtt"), PlayedSource()) for name in ("left", "right")]
    with make_rig(tmp_path, cameras) as rig, rig.running():
        rig.outbox.trigger(part_id="part-1", trigger_id="t-1", camera="up")
        rig.outbox.trigger(part_id="part-2")
        rig.outbox.wait_for(lambda: len(rig.outbox.payloads) == 2)

    assert [event["data"] for event in rig.outbox.payloads] == [
        {
            "reason": "trigger.camera: expected one of ['left', 'right'], got 'up'",
            "part_id": "part-1",
            "trigger_id": "t-1",
        },
        {
            "reason": "trigger.camera: expected one of ['left', 'right'], got None",
            "part_id": "part-2",
        },
    ]


def test_a_continuous_camera_refuses_triggers(tmp_path: Path) -> None:
    with make_rig(tmp_path, [(make_camera(), PlayedSource())]) as rig, rig.running():
        rig.outbox.trigger(part_id="part-1")
        rig.outbox.wait_for(lambda: bool(rig.outbox.payloads))

    (event,) = rig.outbox.payloads
    assert event["event"] == "trigger_refused"
    assert event["camera"] == "cam1"


def test_triggers_are_answered_one_by_one_while_frames_stream(tmp_path: Path) -> None:
    source = PlayedSource()
    cameras = [(make_camera(mode="mqtt"), source)]
    with make_rig(tmp_path, cameras) as rig, rig.running(), streaming(source):
        for number in range(10):
            rig.outbox.trigger(part_id=f"part-{number}", trigger_id=f"t-{number}")
            rig.outbox.trigger(part_id=f"part-{number}", trigger_id=f"t-{number}")
            rig.outbox.wait_for_results(number + 1)

    assert [r["trigger_id"] for r in rig.outbox.of_kind("result")] == [f"t-{n}" for n in range(10)]
    assert {r["verdict"] for r in rig.outbox.of_kind("result")} == {"normal"}
    assert len(rig.outbox.of_kind("event")) == 10, "each repetition is refused aloud"


@pytest.mark.parametrize("interval_seconds", [0.05, 0.1])
def test_an_interval_over_a_folder_gives_a_result_for_each_picture_and_ends(
    tmp_path: Path, interval_seconds: float
) -> None:
    folder = write_parts(tmp_path / "parts", 10)
    camera = make_camera(source=f"dir:{folder}", mode="interval", interval_seconds=interval_seconds)
    with make_rig(tmp_path, [(camera, open_source(camera.source))]) as rig:
        started = time.monotonic()
        run_to_its_end(rig)
        took_seconds = time.monotonic() - started

    results = rig.outbox.of_kind("result")
    assert results == rig.outbox.payloads
    assert [r["frame_id"] for r in results] == list(range(10))
    assert {r["verdict"] for r in results} == {"normal"}
    assert len({r["trigger_id"] for r in results}) == 10
    assert took_seconds >= 8 * interval_seconds


def test_triggers_after_the_last_allowed_frame_get_their_results(tmp_path: Path) -> None:
    left, right = PlayedSource(), PlayedSource()
    cameras = [
        (make_camera("left", mode="mqtt"), left),
        (make_camera("right", mode="mqtt"), right),
    ]
    with make_rig(tmp_path, cameras) as rig, rig.running(max_frames=1), streaming(left):
        for number in range(3):
            rig.outbox.trigger(part_id=f"part-{number}", camera="left")
        rig.outbox.wait_for(lambda: len(rig.outbox.payloads) == 3)

    results = rig.outbox.payloads
    assert [(r["part_id"], r["verdict"]) for r in results] == [
        ("part-0", "normal"),
        ("part-1", "fault"),
        ("part-2", "fault"),
    ]
    assert results[2]["detail"] == "finished after 1 frames"


# --- several cameras ---


def test_cameras_are_served_in_turn(tmp_path: Path) -> None:
    names = ("a", "b", "c")
    cameras = [(make_camera(name, f"dir:/{name}"), PlayedSource()) for name in names]
    for _, source in cameras:
        for _ in range(20):
            source.give()
        source.end()
    with make_rig(
        tmp_path, cameras, encoders={name: CellEncoder(seconds=0.005) for name in names}
    ) as rig:
        run_to_its_end(rig)

    assert len(rig.decided) == 60
    for end in range(3, 55):
        counts = [rig.decided[:end].count(name) for name in names]
        assert max(counts) - min(counts) <= 3, rig.decided[:end]


def slow_beside_quick(deadline_seconds: float) -> list[tuple[CameraConfig, PlayedSource]]:
    quick = make_camera("quick", mode="mqtt", deadline_seconds=deadline_seconds)
    return [(make_camera("slow"), PlayedSource()), (quick, PlayedSource())]


def test_a_part_that_came_during_a_slow_inspection_is_judged_after_it(tmp_path: Path) -> None:
    cameras = slow_beside_quick(deadline_seconds=2.0)
    encoders = {"slow": CellEncoder(seconds=0.2)}
    with (
        make_rig(tmp_path, cameras, encoders=encoders) as rig,
        rig.running(),
        streaming(cameras[0][1]),
        streaming(cameras[1][1]),
    ):
        for number in range(4):
            rig.outbox.trigger(part_id=f"part-{number}", camera="quick")
            rig.outbox.wait_for_results(number + 1)

    assert {r["verdict"] for r in rig.outbox.of_kind("result")} == {"normal"}


def test_a_slow_camera_robs_no_trigger_of_its_result(tmp_path: Path) -> None:
    cameras = slow_beside_quick(deadline_seconds=0.1)
    encoders = {"slow": CellEncoder(seconds=0.25)}
    with (
        make_rig(tmp_path, cameras, encoders=encoders) as rig,
        rig.running(),
        streaming(cameras[0][1]),
        streaming(cameras[1][1]),
    ):
        for number in range(8):
            rig.outbox.trigger(part_id=f"part-{number}", camera="quick")
        rig.outbox.wait_for_results(8)
        judged = rig.decided.count("slow")
        rig.news.wait_for(lambda: rig.decided.count("slow") > judged)

    results = rig.outbox.of_kind("result")
    assert [r["part_id"] for r in results] == [f"part-{n}" for n in range(8)]
    assert {r["reason"] for r in results} <= {"below_threshold", "timeout"}
    assert "timeout" in {r["reason"] for r in results}, "eight parts do not fit into 0.1 s"


def test_the_part_with_the_nearest_deadline_is_inspected_first(tmp_path: Path) -> None:
    cameras = [
        (make_camera(name, mode="mqtt", deadline_seconds=seconds), PlayedSource())
        for name, seconds in (("patient", 30.0), ("urgent", 5.0), ("between", 10.0))
    ]
    with make_rig(tmp_path, cameras) as rig:
        for camera, source in cameras:
            rig.outbox.trigger(part_id=camera.name, camera=camera.name)
            source.give()
        rig.wait_for_frames()
        with rig.running():
            rig.outbox.wait_for_results(3)
    assert rig.decided == ["urgent", "between", "patient"]
    assert {r["verdict"] for r in rig.outbox.of_kind("result")} == {"normal"}


def test_a_result_says_how_long_its_trigger_has_waited(tmp_path: Path) -> None:
    source = PlayedSource()
    with make_rig(tmp_path, [(make_camera(mode="mqtt", deadline_seconds=0.1), source)]) as rig:
        with rig.running():
            rig.outbox.trigger(part_id="A-1")
            rig.outbox.wait_for_results(1)
        waited = rig.runtime().summary()["cam1"]["latency_ms"]["trigger_to_output"]
    (result,) = rig.outbox.of_kind("result")
    assert result["reason"] == "timeout"
    assert result["latency_ms"]["trigger_to_output"] >= 100
    assert waited["p50"] == waited["p99"] == waited["worst"] >= 100


def test_a_camera_that_is_finished_costs_no_time(tmp_path: Path) -> None:
    cameras = [
        (make_camera("done", mode="interval", interval_seconds=0.05), PlayedSource()),
        (make_camera("waiting"), PlayedSource()),
    ]
    with make_rig(tmp_path, cameras) as rig, rig.running(max_frames=1):
        with streaming(cameras[0][1]):
            rig.outbox.wait_for(lambda: rig.summaries["done"].inspected == 1)
        visits = rig.outbox.visits
        time.sleep(0.6)  # the loop's idleness is the subject

        assert rig.outbox.visits - visits < 100


# --- where messages go ---


def test_messages_of_a_run_are_on_the_disk_when_it_ends(tmp_path: Path) -> None:
    config = override_config(
        default_config(),
        {("state_dir",): str(tmp_path / "state"), ("mqtt", "enabled"): False},
    )
    source = PlayedSource()
    for pixels in (good_part(7), bad_part(), good_part(7), good_part(8)):
        source.give(pixels)
    source.end()
    camera = make_camera(source="dir:/parts")
    with make_rig(tmp_path, [(camera, source)], picture_max_bytes=50_000) as rig:
        outbox = DurableOutbox(config, bundle_id=BUNDLE_ID)
        rig.runtime(outbox=outbox).run(threading.Event())
        assert outbox.take_triggers() == []
        assert outbox.close() == 2

    with closing(open_spool(tmp_path / "state", device=config.device.name)) as spool:
        messages = spool.peek(10)
    assert [read_payload(m)["kind"] for m in messages] == ["anomaly.open", "anomaly.close"]
    assert [message.seq for message in messages] == [1, 2]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_forwarder_that_a_defect_has_ended_ends_the_run(tmp_path: Path) -> None:
    config = override_config(
        default_config(),
        {("state_dir",): str(tmp_path / "state"), ("mqtt", "port"): free_port()},
    )
    source = PlayedSource()
    with make_rig(tmp_path, [(make_camera(), source)]) as rig:
        outbox = DurableOutbox(config, bundle_id=BUNDLE_ID)
        outbox._publisher._pulse = None  # type: ignore[assignment]  # the defect
        source.give()
        try:
            with pytest.raises(EdgeError, match="ended the thread that forwards messages"):
                rig.runtime(outbox=outbox).run(threading.Event())
        finally:
            outbox.close()


def test_a_dry_run_numbers_messages_and_sends_none(tmp_path: Path) -> None:
    source = PlayedSource()
    source.give(bad_part())
    source.end()
    camera = make_camera(source="dir:/parts")
    outbox = DryOutbox()
    told: list[int] = []
    with make_rig(tmp_path, [(camera, source)]) as rig:
        runtime = rig.runtime(outbox=outbox, on_message=lambda message: told.append(message.seq))
        runtime.run(threading.Event())

    assert told == [1]
    assert outbox.close() == 0
    assert rig.outbox.payloads == []
