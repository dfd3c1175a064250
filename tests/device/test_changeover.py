"""A change of the reference set: no part is ever judged by a set that it does not belong to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from runtime_fakes import (
    CellEncoder,
    Payload,
    PlayedSource,
    Rig,
    bad_part,
    good_part,
    make_camera,
    make_pipeline,
    make_rig,
)

from edge_sdk.active_set import ActiveSet, is_station_running
from edge_sdk.alerting.changeover import parse_references
from edge_sdk.alerting.commands import Command
from edge_sdk.alerting.spool import Spool
from edge_sdk.alerting.trigger import TriggerRequest
from edge_sdk.config import CameraConfig
from edge_sdk.errors import InputError
from edge_sdk.pipeline import Pipeline
from edge_sdk.runtime.changeover import ChangeOver
from edge_sdk.runtime.dispatch import Dispatch

_PATIENCE_SECONDS = 10.0


class Desk:
    """A station that is changed by hand: the other set is ready when the test lets it be."""

    def __init__(self, rig: Rig, source: PlayedSource, state_dir: Path) -> None:
        self.rig = rig
        self.source = source
        self.ready = threading.Event()
        self.active = ActiveSet(state_dir, "cam1")
        self._commands: list[Command] = []
        self._camera = rig.station.camera
        self._state_dir = state_dir
        self.changes = ChangeOver(
            rig.stations,
            rig.drafts,
            state_dir=state_dir,
            build=self._build,
            take_commands=self._take,
            clock=time.monotonic_ns,
            on_news=rig.news,
        )

    def _build(self, camera: str, name: str) -> Pipeline:
        assert self.ready.wait(_PATIENCE_SECONDS)
        if name != "night":
            raise InputError(f"camera {camera}: no reference set {name!r}")
        return make_pipeline(self._state_dir, self._camera, CellEncoder(), name=name)

    def _take(self) -> list[Command]:
        taken, self._commands = self._commands, []
        return taken

    def order(self, name: str = "night", command_id: str = "c-1") -> None:
        """Let the plant ask for a change."""
        payload = json.dumps({"command_id": command_id, "reference_set": name}).encode()
        self._commands.append(Command("references", payload, time.monotonic_ns()))

    def trigger(self, part_id: str, received_ns: int | None = None) -> None:
        moment = time.monotonic_ns() if received_ns is None else received_ns
        self.rig.station.trigger(TriggerRequest(part_id=part_id), moment)

    def attend(self) -> list[Payload]:
        return self._sent(self.changes.attend)

    def step(self) -> list[Payload]:
        return self.rig.step()

    def finish(self) -> list[Payload]:
        """Let the other set be ready or refused, and let the station know."""
        self.ready.set()
        said: list[Payload] = []
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not any(p.get("event") in ("references_changed", "references_refused") for p in said):
            assert time.monotonic() < deadline
            said += self.attend()
            time.sleep(0.005)
        return said

    def _sent(self, act: Callable[[], list[Dispatch]]) -> list[Payload]:
        before = len(self.rig.outbox.payloads)
        for dispatch in act():
            self.rig.outbox.send(dispatch)
        return self.rig.outbox.payloads[before:]


@contextmanager
def desk_for(state_dir: Path, camera: CameraConfig) -> Iterator[Desk]:
    source = PlayedSource()
    with make_rig(state_dir, [(camera, source)]) as rig:
        desk = Desk(rig, source, state_dir)
        try:
            yield desk
        finally:
            desk.ready.set()
            desk.changes.close()


def test_a_part_from_before_is_judged_by_the_old_set_and_one_from_after_by_the_new_one(
    tmp_path: Path,
) -> None:
    with desk_for(tmp_path, make_camera(mode="mqtt")) as desk:
        desk.trigger("old")
        desk.source.give(good_part(7))
        desk.rig.wait_for_frames()
        desk.order()
        old, accepted = desk.attend()
        desk.trigger("new")
        desk.source.give(bad_part())
        desk.rig.wait_for_frames()
        assert desk.step() == [], "the other set is not ready"
        (changed,) = desk.finish()
        (new,) = desk.step()

    assert (old["part_id"], old["verdict"], old["reference_set"]) == ("old", "normal", "default/1")
    assert accepted["event"] == "references_accepted"
    assert changed["event"] == "references_changed"
    assert changed["data"]["command_id"] == "c-1"
    assert changed["data"]["previous"] == "default/1"
    assert changed["data"]["reference_set"] == "night/1"
    assert (new["part_id"], new["verdict"], new["reference_set"]) == ("new", "anomalous", "night/1")


def test_a_part_from_before_whose_picture_is_from_after_is_a_fault(tmp_path: Path) -> None:
    with desk_for(tmp_path, make_camera(mode="mqtt")) as desk:
        desk.trigger("old")
        desk.order()
        desk.source.give(good_part(7))  # the parts may have been changed by now
        desk.rig.wait_for_frames()
        desk.attend()
        (result,) = desk.step()

    assert (result["part_id"], result["verdict"]) == ("old", "fault")
    assert (result["reason"], result["reference_set"]) == ("changeover", "default/1")


def test_a_trigger_that_was_slow_on_its_way_is_not_judged_by_the_new_set(tmp_path: Path) -> None:
    with desk_for(tmp_path, make_camera(mode="mqtt")) as desk:
        before_ns = time.monotonic_ns()
        desk.order()
        desk.attend()
        desk.finish()
        desk.trigger("old", received_ns=before_ns)
        desk.source.give(good_part(7))
        desk.rig.wait_for_frames()
        (result,) = desk.step()

    assert (result["verdict"], result["reason"]) == ("fault", "changeover")


def test_a_set_that_does_not_exist_is_refused_and_the_old_one_judges_again(tmp_path: Path) -> None:
    with desk_for(tmp_path, make_camera(mode="mqtt")) as desk:
        desk.order("nihgt")
        desk.attend()
        desk.trigger("meant for nihgt")
        desk.source.give(good_part(7))
        desk.rig.wait_for_frames()
        (refused,) = desk.finish()
        (meanwhile,) = desk.step()
        desk.trigger("later")
        desk.source.give(good_part(8))
        desk.rig.wait_for_frames()
        (later,) = desk.step()

    assert refused["event"] == "references_refused"
    assert "nihgt" in refused["data"]["reason"]
    assert (meanwhile["verdict"], meanwhile["reason"]) == ("fault", "changeover")
    assert (later["verdict"], later["reference_set"]) == ("normal", "default/1")
    assert desk.active.name("default") == "default"


def test_a_part_whose_deadline_passes_during_the_change_is_a_fault(tmp_path: Path) -> None:
    with desk_for(tmp_path, make_camera(mode="mqtt", deadline_seconds=0.05)) as desk:
        desk.order()
        desk.attend()
        desk.trigger("new")
        (result,) = desk.rig.step_when_due()
    assert (result["verdict"], result["reason"]) == ("fault", "timeout")


def test_a_watched_camera_judges_no_frame_during_the_change_and_closes_what_was_open(
    tmp_path: Path,
) -> None:
    with desk_for(tmp_path, make_camera()) as desk:
        desk.source.give(bad_part())
        (opened,) = desk.rig.step_with_frame()
        desk.source.give(bad_part())  # lies in the slot when the change begins
        desk.rig.wait_for_frames()
        desk.order()
        (accepted,) = desk.attend()
        assert desk.step() == []
        decision = desk.rig.station.last_decision
        assert decision is not None
        assert (decision.verdict, decision.reason) == ("fault", "changeover"), "never ok"
        closed, _ = desk.finish()
        assert desk.step() == [], "a frame of the old product is judged by no set"
        desk.source.give(bad_part())
        (again,) = desk.rig.step_with_frame()

    assert accepted["event"] == "references_accepted"
    assert (closed["kind"], closed["incident_id"]) == ("anomaly.close", opened["incident_id"])
    assert (closed["reference_set"], closed["reason"]) == ("default/1", "changeover")
    assert (again["kind"], again["reference_set"]) == ("anomaly.open", "night/1")
    assert again["incident_id"] != opened["incident_id"]


def test_a_command_that_is_delivered_twice_is_answered_twice_and_obeyed_once(
    tmp_path: Path,
) -> None:
    with desk_for(tmp_path, make_camera(mode="mqtt")) as desk:
        desk.order()
        desk.attend()
        (changed,) = desk.finish()
        pipeline = desk.rig.station.pipeline
        desk.order()
        (again,) = desk.attend()
        assert desk.rig.station.pipeline is pipeline
    assert (again["event"], again["data"]) == (changed["event"], changed["data"])


def test_a_second_change_before_the_first_is_made_is_refused(tmp_path: Path) -> None:
    with desk_for(tmp_path, make_camera(mode="mqtt")) as desk:
        desk.order()
        desk.attend()
        desk.order("default", "c-2")
        (refused,) = desk.attend()
        (changed,) = desk.finish()
    assert (refused["event"], refused["data"]["command_id"]) == ("references_refused", "c-2")
    assert "busy" in refused["data"]["reason"]
    assert changed["data"]["command_id"] == "c-1"


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [
        (b"night", "expected a JSON object"),
        (b"{}", "command_id: expected a name, got nothing"),
        (b'{"command_id": "c", "reference_set": "../night"}', "expected a set's name"),
        (b'{"command_id": "c", "reference_set": 3}', "expected a set's name"),
        (b'{"command_id": "", "reference_set": "night"}', "1 to 128 characters"),
        (b'{"command_id": "c", "reference_set": "night", "v": 2}', "v: expected 1"),
        (b'{"command_id": "c", "reference_set": "a", "reference_set": "b"}', "a key twice"),
        (b'{"command_id": "c", "reference_set": "night", "now": true}', "expected keys"),
    ],
)
def test_a_malformed_command_is_refused(payload: bytes, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        parse_references(payload)


# --- what is noted on the disk ---


def test_a_change_holds_until_the_settings_say_something_else(tmp_path: Path) -> None:
    active = ActiveSet(tmp_path, "cam1")
    assert active.name("day") == "day"
    active.use("night", "day")
    active.use("evening", "night")
    assert ActiveSet(tmp_path, "cam1").name("day") == "evening"
    assert active.name("weekend") == "weekend"


def test_a_note_that_cannot_be_read_is_no_reason_to_judge_by_any_set(tmp_path: Path) -> None:
    ActiveSet(tmp_path, "cam1").use("night", "day")
    (tmp_path / "cameras/cam1/active_set.json").write_bytes(b'{"refer')
    with pytest.raises(InputError, match="active_set"):
        ActiveSet(tmp_path, "cam1").name("day")


def test_what_is_wished_at_the_terminal_is_done_and_answered(tmp_path: Path) -> None:
    with desk_for(tmp_path, make_camera(mode="mqtt")) as desk:
        desk.active.ask("night", "t-1")
        desk.finish()
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while (answer := desk.active.answer_to("t-1")) is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert (answer["status"], answer["reference_set"]) == ("changed", "night/1")
    assert desk.active.take_wish() is None, "a wish is obeyed once"


def test_a_station_runs_just_as_long_as_its_process_holds_the_spool(tmp_path: Path) -> None:
    assert not is_station_running(tmp_path)
    spool = Spool.open(tmp_path / "spool", device="box-1", max_rows=10, max_bytes=10_000_000)
    assert is_station_running(tmp_path)
    spool.close()
    assert not is_station_running(tmp_path)
