"""The main job end to end: sample clip, built-in bundle, default settings, real broker.

Four good frames are drawn by a seed, the clip is played as a camera would give it, and a stranger
at the broker writes down what arrives. Every seed but the first is slow.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from commands import CLIP, Box
from plant import Plant

from edge_sdk.bundle import open_bundle
from edge_sdk.imaging import decode_image

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from clip_intervals import FIRST_GOOD, read_labels, tally

HEIGHT, WIDTH, FRAMES = 360, 640, 1189
MAX_PICTURE_BYTES = 131_072
_LETTERS = {"anomaly.open": "O", "anomaly.update": "u", "anomaly.close": "C"}


@dataclass(frozen=True)
class Run:
    """What came out of one run."""

    bundle_id: str
    enrolled: dict[str, Any]
    answer: dict[str, Any]
    plant: Plant
    retained: dict[str, Any]

    def messages(self, kind: str = "") -> list[dict[str, Any]]:
        """What arrived, by ``seq``."""
        return sorted(self.plant.messages(kind), key=lambda message: message["seq"])

    def frames(self, kind: str) -> list[int]:
        return [message["frame_id"] for message in self.messages(kind)]


@pytest.fixture(
    scope="module",
    params=[0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3, 4))],
)
def run(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    mosquitto_path: Path,  # noqa: ARG001 - skips where there is no broker
) -> Iterator[Run]:
    """One enrolment and one pass over the clip, with nothing set but the camera and the broker."""
    first, last = FIRST_GOOD
    drawn = sorted(random.Random(request.param).sample(range(first, last + 1), 4))
    box = Box(tmp_path_factory.mktemp(f"seed-{request.param}"))
    camera = ("--camera", f"file:{CLIP}")
    frames = ",".join(map(str, drawn))
    bundle_id = open_bundle(None).manifest.bundle_id
    enrolled = box.run("enroll", *camera, "--frames", frames, "--json").expect(0).answer
    assert enrolled["frames"] == drawn
    with Plant() as plant:
        options = (*camera, "--pace", "realtime", "--mqtt", plant.address, "--json")
        answer = box.run("run", *options).expect(0).answer
        plant.wait_until(lambda plant: plant.last("status")["reason"] == "shutdown", 10)
        (retained,) = plant.retained("state")
        yield Run(bundle_id, enrolled, answer, plant, retained)


def test_every_missing_bottle_and_nearly_every_hand_is_told_and_no_good_stretch_is(
    run: Run,
) -> None:
    found = tally(read_labels(), run.frames("anomaly.open"), run.frames("anomaly.update"))
    cam1 = run.answer["cameras"]["cam1"]
    print(f"frames {run.enrolled['frames']}: {found}")
    print(f"{cam1['inspected']} judged, {cam1['dropped']} overtaken, {cam1['latency_ms']['total']}")
    assert found.missing == (4, 4)
    assert found.hand[0] >= 6
    assert found.hand[1] == 7
    assert found.false_opens == 0
    assert found.normal_intervals == 3


def test_seq_has_no_gap_and_no_repeat_and_every_message_its_own_id(run: Run) -> None:
    messages = run.messages()
    assert [message["seq"] for message in messages] == list(range(1, len(messages) + 1))
    assert len({message["message_id"] for message in messages}) == len(messages)


def test_every_incident_opens_once_is_kept_up_to_date_and_closes(run: Run) -> None:
    stories: defaultdict[str, str] = defaultdict(str)
    for message in run.messages("anomaly"):
        stories[message["incident_id"]] += _LETTERS[message["kind"]]
    assert stories
    for story in stories.values():
        assert re.fullmatch(r"O(u*C|u+)", story), stories
    joined = "".join(stories[incident] for incident in stories)
    assert re.fullmatch(r"(Ou*C)*(Ou+)?", joined), "one at a time, and only the last may stay open"
    assert {message["kind"] for message in run.messages()} <= set(_LETTERS), "nothing else to say"


def test_an_alarm_ends_where_the_parts_are_good_again(run: Run) -> None:
    """An alarm that never closes would open in no good stretch, either."""
    later = [i for i in read_labels() if i.label == "normal" and i.first_frame > FIRST_GOOD[1]]
    for interval in later:
        before = [m for m in run.messages("anomaly") if m["frame_id"] <= interval.last_frame]
        assert before[-1]["kind"] == "anomaly.close", interval


def test_the_picture_of_every_alarm_arrives_and_is_the_one_its_message_names(run: Run) -> None:
    pictures = run.plant.pictures()
    pictured = [message for message in run.messages() if "picture_sha256" in message]
    assert set(pictures) == {message["message_id"] for message in pictured}
    assert pictured == [
        message
        for message in run.messages("anomaly")
        if message["kind"] != "anomaly.close" and message["verdict"] == "anomalous"
    ]
    for message in pictured:
        jpeg = pictures[message["message_id"]]
        assert hashlib.sha256(jpeg).hexdigest() == message["picture_sha256"]
        assert len(jpeg) <= MAX_PICTURE_BYTES
        assert decode_image(jpeg, name="picture").shape == (HEIGHT, WIDTH, 3)
    topics = {entry.topic for entry in run.plant.received if entry.topic.endswith("/image")}
    assert [topic.split("/", 3)[-1] for topic in topics] == ["alert/cam1/image"]


def test_an_alarm_says_what_was_seen_where_and_by_what_it_was_judged(run: Run) -> None:
    for message in run.messages("anomaly"):
        assert message["bundle"] == run.bundle_id
        assert (message["camera"], message["reference_set"]) == ("cam1", "default/1")
        assert message["frame_size"] == [HEIGHT, WIDTH]
        assert message["threshold"] == run.enrolled["threshold"]
        assert message["provisional"] is True
        stages = {"capture", "preprocess", "encode", "score", "decide"}
        assert set(message["latency_ms"]) - {"watch"} == stages
        assert message["latency_ms"]["capture"] < 3000, "no stale frame was judged"
        if message["verdict"] == "anomalous":
            assert message["score"] > message["threshold"]
            assert message["margin"] == pytest.approx(message["score"] / message["threshold"] - 1)
            assert message["normal_percentile"] == 100.0
            assert message["severity"] in ("warn", "critical")
            assert message["regions"]
        else:
            assert (message["verdict"], message["severity"]) == ("normal", "info")
        for region in message["regions"]:
            assert region["x"] + region["width"] <= WIDTH
            assert region["y"] + region["height"] <= HEIGHT
            assert message["threshold"] < region["score"] <= message["score"] * 1.001


def test_time_and_frames_go_forward_with_seq(run: Run) -> None:
    messages = run.messages()
    for earlier, later in itertools.pairwise(messages):
        assert earlier["mono_ns"] <= later["mono_ns"]
        assert earlier["frame_id"] <= later["frame_id"]
        assert earlier["message_id"] < later["message_id"]
        assert earlier["boot_id"] == later["boot_id"]


def test_the_retained_state_says_that_the_threshold_is_provisional_and_the_camera_is_well(
    run: Run,
) -> None:
    assert "provisional_threshold" in run.retained["flags"]
    assert "offline_spooling" not in run.retained["flags"]
    cam1 = run.retained["cameras"]["cam1"]
    assert (cam1["state"], cam1["provisional"]) == ("ok", True)
    assert cam1["anomaly"] == (run.messages("anomaly")[-1]["kind"] != "anomaly.close")
    assert cam1["threshold"] == run.enrolled["threshold"]
    assert set(run.retained["spool"]["dropped"].values()) == {0}


def test_the_state_follows_the_alarms(run: Run) -> None:
    told = [state["cameras"]["cam1"]["anomaly"] for state in run.plant.all_of("state")]
    changes = [after for before, after in itertools.pairwise(told) if before != after]
    opens, closes = (len(run.messages(f"anomaly.{kind}")) for kind in ("open", "close"))
    assert (changes.count(True), changes.count(False)) == (opens, closes)


def test_the_device_says_that_it_is_there_and_that_it_leaves(run: Run) -> None:
    said = [(status["online"], status["reason"]) for status in run.plant.all_of("status")]
    assert said == [(True, "birth"), (False, "shutdown")]


def test_the_answer_of_the_command_counts_what_arrived_and_leaves_no_frame_out(run: Run) -> None:
    cam1 = run.answer["cameras"]["cam1"]
    assert cam1["messages"] == dict(Counter(message["kind"] for message in run.messages()))
    assert run.answer["waiting_messages"] == 0
    assert cam1["inspected"] + cam1["dropped"] == FRAMES
    assert set(cam1["verdicts"]) <= {"normal", "anomalous"}
    assert sum(cam1["verdicts"].values()) == cam1["inspected"]
    assert cam1["inspected"] >= 200, "the clip was looked at less than 5 times a second"
