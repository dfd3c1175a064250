"""Masters: a camera that errs on a part whose verdict is known judges no other part."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

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

from edge_sdk.alerting.challenge import parse_challenge
from edge_sdk.alerting.commands import Command
from edge_sdk.alerting.payload import CameraState
from edge_sdk.alerting.trigger import TriggerRequest
from edge_sdk.config import CameraConfig
from edge_sdk.config.challenge import ChallengeConfig
from edge_sdk.errors import EngineError, InputError
from edge_sdk.imaging import encode_png
from edge_sdk.runtime.challenger import Challenger
from edge_sdk.runtime.masters import load_masters

_HOUR_NS = 3_600_000_000_000


class Bench:
    """A station with masters, whose hours a test lets pass."""

    def __init__(
        self, rig: Rig, source: PlayedSource, passed: dict[tuple[str, str], tuple[float, str]]
    ) -> None:
        self.rig = rig
        self.source = source
        self.now_ns = time.monotonic_ns()
        self.commands: list[Command] = []
        self.challenger = Challenger(
            rig.stations,
            {one.camera.name: load_masters(one.camera) for one in rig.stations},
            rig.drafts,
            take_commands=self._take,
            passed=dict(passed),
            clock=lambda: self.now_ns,
        )

    def _take(self) -> list[Command]:
        taken, self.commands = self.commands, []
        return taken

    def attend(self) -> list[Payload]:
        before = len(self.rig.outbox.payloads)
        for dispatch in self.challenger.attend():
            self.rig.outbox.send(dispatch)
        return self.rig.outbox.payloads[before:]

    def attend_until_quiet(self) -> list[Payload]:
        """One picture is judged a call: as many calls as there are masters, and one more."""
        return [payload for _ in range(4) for payload in self.attend()]

    def pass_hours(self, hours: float) -> None:
        self.now_ns += int(hours * _HOUR_NS)

    def use_threshold(self, value: float) -> None:
        pipeline = self.rig.station.pipeline
        pipeline.arm(replace(pipeline.decider.threshold, value=value))

    def judge(self, part_id: str, *, bad: bool = False) -> Payload:
        self.rig.station.trigger(TriggerRequest(part_id=part_id), time.monotonic_ns())
        self.source.give(bad_part() if bad else good_part(50))
        (result,) = [one for one in self.rig.step_with_frame() if one["kind"] == "result"]
        return result

    def state(self) -> tuple[CameraState, str | None]:
        self.rig.runtime()._report(is_forced=True)
        status = self.rig.outbox.reports[-1]["cam1"]
        return status.state, status.reason


def with_masters(folder: Path, mode: str, *masters: dict[str, Any]) -> CameraConfig:
    (folder / "good.png").write_bytes(encode_png(good_part(60)))
    (folder / "bad.png").write_bytes(encode_png(bad_part()))
    challenge = {"masters": masters, "every_hours": 8.0, "retry_seconds": 60.0}
    parsed = ChallengeConfig.model_validate_json(json.dumps(challenge), context={"folder": folder})
    return make_camera(mode=mode).model_copy(update={"challenge": parsed})


PICTURES = (
    {"name": "ok", "expect": "normal", "picture": "good.png"},
    {"name": "ng", "expect": "anomalous", "picture": "bad.png"},
)
PART = {"name": "ng-part", "expect": "anomalous", "part_id": "MASTER-NG"}


@contextmanager
def bench(
    state_dir: Path,
    camera: CameraConfig,
    passed: dict[tuple[str, str], tuple[float, str]] | None = None,
    *,
    encoder: CellEncoder | None = None,
) -> Iterator[Bench]:
    source = PlayedSource()
    encoders = {"cam1": encoder} if encoder is not None else None
    with make_rig(state_dir, [(camera, source)], encoders=encoders) as rig:
        yield Bench(rig, source, passed or {})


def events(payloads: list[Payload]) -> list[str]:
    return [str(payload.get("event", payload["kind"])) for payload in payloads]


def test_masters_that_come_out_right_are_told_and_parts_are_judged(tmp_path: Path) -> None:
    camera = with_masters(tmp_path, "mqtt", *PICTURES)
    with bench(tmp_path, camera) as station:
        (passed,) = station.attend()
        assert (passed["event"], passed["data"]["cause"]) == ("challenge_passed", "start")
        told = {one["master"]: one["verdict"] for one in passed["data"]["masters"]}
        assert told == {"ok": "normal", "ng": "anomalous"}
        assert station.judge("A-1")["verdict"] == "normal"
        assert station.judge("A-2", bad=True)["verdict"] == "anomalous"
        assert station.attend() == [], "nothing is due"


def test_each_part_is_a_fault_while_the_bad_master_comes_out_normal_and_none_after(
    tmp_path: Path,
) -> None:
    camera = with_masters(tmp_path, "mqtt", *PICTURES)
    with bench(tmp_path, camera) as station:
        station.attend()
        station.use_threshold(0.9)  # beyond the score of any defect
        assert events(station.attend()) == ["challenge_failed", "fault.open"]
        for part_id, bad in (("A-1", False), ("A-2", True)):
            result = station.judge(part_id, bad=bad)
            assert (result["verdict"], result["reason"]) == ("fault", "challenge_failed")
            assert "master ng: expected anomalous, got normal" in result["detail"]
        assert station.state() == (CameraState.UNSCORED, "challenge_failed")

        station.pass_hours(0.1)  # tried again, nothing changed: nothing is said twice
        assert station.attend_until_quiet() == []
        station.use_threshold(0.05)
        assert events(station.attend()) == ["challenge_passed", "fault.close"]
        assert station.judge("A-3")["verdict"] == "normal"
        assert station.state() == (CameraState.OK, None)


def test_a_good_master_that_comes_out_anomalous_is_a_fault_as_well(tmp_path: Path) -> None:
    camera = with_masters(tmp_path, "mqtt", *PICTURES)
    with bench(tmp_path, camera) as station:
        station.use_threshold(1e-9)
        assert events(station.attend()) == ["challenge_failed", "fault.open"]
        assert "master ok: expected normal" in station.judge("A-1")["detail"]


def test_a_watched_camera_opens_a_fault_and_closes_it_with_its_next_good_frames(
    tmp_path: Path,
) -> None:
    camera = with_masters(tmp_path, "continuous", *PICTURES)
    with bench(tmp_path, camera) as station:
        station.use_threshold(0.9)
        failed, opened = station.attend()
        assert failed["severity"] == "critical"
        assert (opened["kind"], opened["reason"]) == ("fault.open", "challenge_failed")
        station.source.give()
        assert station.rig.step_with_frame() == [], "the fault stands, and is said once"
        assert station.rig.decisions[-1].verdict == "fault"
        station.use_threshold(0.05)
        assert events(station.attend()) == ["challenge_passed"]
        said = []
        for number in range(3):
            station.source.give(good_part(number))
            said += station.rig.step_with_frame()
        assert events(said) == ["fault.close"]


def test_an_engine_that_fails_is_found_by_the_schedule_and_the_camera_recovers_by_itself(
    tmp_path: Path,
) -> None:
    camera, encoder = with_masters(tmp_path, "mqtt", *PICTURES), CellEncoder()
    with bench(tmp_path, camera, encoder=encoder) as station:
        station.attend()
        station.pass_hours(7.9)
        assert station.attend_until_quiet() == []
        station.pass_hours(0.2)
        (passed,) = station.attend_until_quiet()
        assert passed["data"]["cause"] == "schedule"

        encoder.error = EngineError("the accelerator is gone")
        station.pass_hours(8.1)
        failed, opened = station.attend_until_quiet()
        assert failed["data"]["cause"] == "schedule"
        assert "the accelerator is gone" in opened["detail"]
        encoder.error = None
        assert station.attend_until_quiet() == [], "it is not tried again at once"
        station.pass_hours(61 / 3600)
        passed, closed = station.attend_until_quiet()
        assert (passed["data"]["cause"], closed["kind"]) == ("retry", "fault.close")


def test_parts_come_before_a_picture_that_is_due_but_not_for_ever(tmp_path: Path) -> None:
    camera = with_masters(tmp_path, "mqtt", *PICTURES)
    with bench(tmp_path, camera) as station:
        station.attend()
        station.rig.station.trigger(TriggerRequest(part_id="A-1"), time.monotonic_ns())
        station.source.give()
        station.rig.wait_for_frames()
        station.rig.station.tend()
        assert station.rig.station.job_deadline_ns is not None
        station.pass_hours(9)
        assert station.attend() == station.attend() == [], "the part waits for its verdict"
        assert events(station.rig.step()) == ["result"]
        assert events(station.attend_until_quiet()) == ["challenge_passed"]


def test_a_master_part_is_asked_for_and_nothing_is_judged_until_it_came_out_right(
    tmp_path: Path,
) -> None:
    camera = with_masters(tmp_path, "mqtt", PART)
    with bench(tmp_path, camera) as station:
        due, opened = station.attend()
        assert (due["event"], due["data"]["masters"]) == ("challenge_due", ["ng-part"])
        assert opened["reason"] == "challenge_due"
        result = station.judge("A-1")
        assert (result["verdict"], result["reason"]) == ("fault", "challenge_due")

        master = station.judge("MASTER-NG", bad=True)
        assert master["verdict"] == "anomalous", "the reject line must act on it as on any other"
        assert events(station.attend()) == ["challenge_passed", "fault.close"]
        assert station.judge("A-2")["verdict"] == "normal"
        station.pass_hours(8.1)
        assert events(station.attend()) == ["challenge_due", "fault.open"]


def test_a_bad_master_part_that_looks_good_is_no_pass_and_the_camera_is_at_fault(
    tmp_path: Path,
) -> None:
    camera = with_masters(tmp_path, "mqtt", PART)
    with bench(tmp_path, camera, {("cam1", "ng-part"): (3600.0, "default/1")}) as station:
        assert station.attend() == [], "it was shown an hour ago, before the restart"
        result = station.judge("MASTER-NG", bad=False)
        assert (result["verdict"], result["reason"]) == ("fault", "challenge_failed")
        assert events(station.attend()) == ["challenge_failed", "fault.open"]
        assert station.judge("A-1")["reason"] == "challenge_failed"
        assert station.judge("MASTER-NG", bad=True)["verdict"] == "anomalous"
        assert events(station.attend()) == ["challenge_passed", "fault.close"]


def test_a_master_that_passed_under_another_set_must_be_shown_again(tmp_path: Path) -> None:
    camera = with_masters(tmp_path, "mqtt", PART)
    with bench(tmp_path, camera, {("cam1", "ng-part"): (60.0, "night/2")}) as station:
        assert events(station.attend()) == ["challenge_due", "fault.open"]


def test_masters_of_another_set_do_not_count(tmp_path: Path) -> None:
    masters = [{**one, "reference_set": "night"} for one in (*PICTURES, PART)]
    camera = with_masters(tmp_path, "mqtt", *masters)
    with bench(tmp_path, camera) as station:
        station.use_threshold(0.9)
        assert station.attend() == []
        assert station.judge("A-1")["verdict"] == "normal"


def test_the_plant_asks_for_a_challenge_and_is_answered_once_per_command(tmp_path: Path) -> None:
    camera = with_masters(tmp_path, "mqtt", *PICTURES)
    with bench(tmp_path, camera) as station:
        station.attend()
        for payload in (b'{"command_id": "c-1"}', b'{"command_id": "c-2", "camera": "cam9"}'):
            station.commands.append(Command("challenge", payload, station.now_ns))
        refused, passed = station.attend_until_quiet()
        assert (passed["event"], passed["data"]["command_id"]) == ("challenge_passed", "c-1")
        assert refused["event"] == "challenge_refused"
        assert "expected one of ['cam1'], got 'cam9'" in refused["data"]["reason"]

        station.commands.append(
            Command("challenge", b'{"command_id": "c-1"}', station.now_ns)
        )  # delivered twice
        (again,) = station.attend_until_quiet()
        assert again["data"] == passed["data"]
        assert again["message_id"] != passed["message_id"]


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"{}", b'{"command_id": 3}', b'{"command_id": "c", "cameras": "x"}']
)
def test_a_command_that_is_malformed_is_refused(payload: bytes) -> None:
    with pytest.raises(InputError, match=r"^challenge"):
        parse_challenge(payload)


def test_a_picture_that_is_not_there_is_named_with_its_key(tmp_path: Path) -> None:
    camera = with_masters(tmp_path, "mqtt", {**PICTURES[0], "picture": "gone.png"})
    with pytest.raises(InputError, match=r"cam1: challenge.masters\[0\].picture: .*gone.png"):
        load_masters(camera)
