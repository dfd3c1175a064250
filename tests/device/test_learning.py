"""A station that learns: from which parts, when it arms itself, and what if the disk refuses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

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
from edge_sdk.config.challenge import ChallengeConfig
from edge_sdk.errors import EngineError
from edge_sdk.records import UInt8Array
from edge_sdk.run_in.folder import RunIn
from edge_sdk.run_in.rules import RunInPlan
from edge_sdk.runtime.learning import Learner

PLAN = RunInPlan(parts=20, false_alarms_per_100=5.0)
_PATIENCE_SECONDS = 10.0


class Pupil:
    """A station whose parts are learned."""

    def __init__(self, rig: Rig, source: PlayedSource, folder: Path) -> None:
        self.rig = rig
        self.source = source
        self.run_in = RunIn(folder, PLAN)
        rig.station.pipeline.run_in = self.run_in
        self.learner = Learner(rig.stations, rig.drafts)
        self.events: list[Payload] = []

    def judge(self, pixels: UInt8Array, part_id: str = "part") -> None:
        """Let a part, or a frame of a watched camera, be judged."""
        if self.rig.station.camera.trigger.mode == "mqtt":
            self.rig.station.trigger(TriggerRequest(part_id=part_id), time.monotonic_ns())
        self.source.give(pixels)
        self.rig.step_with_frame()
        self.learner.offer("cam1", self.rig.decisions[-1])
        self.attend()

    def attend(self) -> None:
        for dispatch in self.learner.attend():
            before = len(self.rig.outbox.payloads)
            self.rig.outbox.send(dispatch)
            self.events += self.rig.outbox.payloads[before:]

    def wait_for(self, claim: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not claim():
            assert time.monotonic() < deadline
            self.attend()
            time.sleep(0.01)

    @property
    def learned(self) -> int:
        return len(self.run_in.standing.kept)

    def named(self) -> list[str]:
        return [event["event"] for event in self.events]


@contextmanager
def pupil_for(folder: Path, camera: CameraConfig, *, run_in: Path | None = None) -> Iterator[Pupil]:
    source = PlayedSource()
    with make_rig(folder, [(camera, source)], encoders={"cam1": CellEncoder()}) as rig:
        pupil = Pupil(rig, source, run_in or folder / "run_in")
        try:
            pupil.attend()
            yield pupil
        finally:
            pupil.learner.close()


def test_a_station_arms_itself_when_the_last_answer_is_given(tmp_path: Path) -> None:
    with pupil_for(tmp_path, make_camera(mode="mqtt")) as pupil:
        for number in range(PLAN.parts):
            pupil.judge(good_part(200 + number))
            pupil.wait_for(lambda: pupil.learned > number)  # noqa: B023 - called at once
        pupil.wait_for(lambda: "run_in_review" in pupil.named())
        before = pupil.rig.station.pipeline.decider.threshold
        elsewhere = RunIn(pupil.run_in.folder)
        while waiting := elsewhere.standing.waiting:
            elsewhere.answer(waiting[0].number, is_good=True)
        pupil.wait_for(lambda: "run_in_armed" in pupil.named())
        after = pupil.rig.station.pipeline.decider.threshold

    assert pupil.named() == ["run_in_begun", "run_in_review", "run_in_armed"]
    assert before.method == "override"
    assert (after.method, after.pictures, after.provisional) == ("run_in", PLAN.parts, False)
    assert pupil.events[-1]["data"]["threshold"] == after.value


def test_a_fault_is_never_learned(tmp_path: Path) -> None:
    encoder = CellEncoder()
    source = PlayedSource()
    with make_rig(
        tmp_path, [(make_camera(mode="mqtt"), source)], encoders={"cam1": encoder}
    ) as rig:
        pupil = Pupil(rig, source, tmp_path / "run_in")
        pupil.attend()
        encoder.error = EngineError("engine: out of memory")
        pupil.judge(good_part(7))
        encoder.error = None
        pupil.judge(good_part(8))
        pupil.judge(bad_part())  # not a fault: it is learned, and a person is asked
        pupil.wait_for(lambda: pupil.learned == 2)
        pupil.learner.close()
    assert [decision.verdict for decision in rig.decisions] == ["fault", "normal", "anomalous"]
    assert pupil.learned == 2


def test_a_master_part_is_never_learned(tmp_path: Path) -> None:
    master = {"name": "ng", "expect": "anomalous", "part_id": "MASTER-NG"}
    camera = make_camera(mode="mqtt").model_copy(
        update={"challenge": ChallengeConfig.model_validate({"masters": (master,)})}
    )
    with pupil_for(tmp_path, camera) as pupil:
        pupil.attend()
        pupil.judge(bad_part(), part_id="MASTER-NG")
        pupil.judge(good_part(7))
        pupil.wait_for(lambda: pupil.learned == 1)
        pupil.learner.close()
    assert [decision.verdict for decision in pupil.rig.decisions] == ["anomalous", "normal"]
    assert pupil.learned == 1


def test_a_watched_part_that_stays_in_the_picture_is_learned_once(tmp_path: Path) -> None:
    with pupil_for(tmp_path, make_camera()) as pupil:
        for number in range(6):
            pupil.judge(good_part(number))
        pupil.wait_for(lambda: pupil.learned == 1)
    assert pupil.learned == 1


def test_a_disk_that_refuses_is_said_and_nothing_is_armed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"in the way of the folder")
    with pupil_for(tmp_path, make_camera(mode="mqtt"), run_in=tmp_path / "file/run_in") as pupil:
        pupil.judge(good_part(7))
        pupil.wait_for(lambda: "run_in_stalled" in pupil.named())
        pupil.judge(good_part(8))
    (stalled,) = [event for event in pupil.events if event["event"] == "run_in_stalled"]
    assert stalled["severity"] == "warn"
    assert "file" in stalled["data"]["reason"]
    assert pupil.learned == 0
    assert [p["verdict"] for p in pupil.rig.outbox.of_kind("result")] == ["normal", "normal"]
