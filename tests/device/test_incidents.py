"""Each frame of a sequence is written as a word:

``good``, ``near`` (below the threshold but within the hysteresis), ``bad``, ``worse`` (critical)
and ``fault``. Each message is written as the number of its frame and its kind.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scenes import features_of, threshold_of

from edge_sdk.alerting.incidents import IncidentChange, IncidentSettings, IncidentTracker
from edge_sdk.decision import Decider, FaultLimits
from edge_sdk.records import AnomalyResult, Decision, MessageKind, Reason, Severity, Verdict

FRAME_NS = 100_000_000
"""Ten frames a second."""
SCORES = {"good": 0.2, "near": 0.95, "bad": 1.2, "worse": 2.5}
DECIDER = Decider(threshold_of(1.0), limits=FaultLimits(), critical_margin=1.0)
QUICK: dict[str, Any] = {
    "hold_frames": 1,
    "hold_seconds": 0.0,
    "clear_frames": 1,
    "hysteresis": 0.1,
    "cooldown_seconds": 0.0,
    "update_seconds": 3600.0,
}


def decision(word: str, *, score: float | None = None) -> Decision:
    if word == "fault":
        return DECIDER.fault(Reason.NO_FRAME, "no frame")
    value = SCORES[word] if score is None else score
    features = features_of(np.ones((1, 1)), (1, 1))
    anomaly_map = np.full((4, 4), value, np.float32)
    return DECIDER.decide(
        AnomalyResult(anomaly_map=anomaly_map, image_score=value, nearest=None, features=features)
    )


def settings(**changes: Any) -> IncidentSettings:
    return IncidentSettings(**(QUICK | changes))


def changes_of(
    words: str, tracker: IncidentTracker, *, first_frame: int = 0, first_ns: int = 0
) -> list[tuple[int, IncidentChange]]:
    return [
        (number, change)
        for number, word in enumerate(words.split(), start=first_frame)
        for change in tracker.observe(decision(word), first_ns + number * FRAME_NS)
    ]


def told(words: str, **changes: Any) -> str:
    """What is said of a sequence, for example ``2 open, 5 close``."""
    tracker = IncidentTracker(settings(**changes))
    return ", ".join(
        f"{number} {str(change.kind).removeprefix('anomaly.')}"
        for number, change in changes_of(words, tracker)
    )


def test_an_incident_opens_when_enough_frames_in_a_row_are_anomalous() -> None:
    assert told("good bad bad bad bad", hold_frames=3) == "3 open"
    assert told("bad bad good bad bad good bad bad", hold_frames=3) == ""
    assert told("bad", hold_frames=1) == "0 open"
    assert told("bad bad good bad bad", hold_frames=2) == "1 open, 2 close, 4 open"


def test_an_incident_opens_only_after_it_has_lasted_however_quick_the_camera_is() -> None:
    assert told("bad bad bad bad bad", hold_seconds=0.3) == "3 open"
    assert told("bad bad bad good bad bad bad", hold_seconds=0.3) == ""
    assert told("bad bad fault bad bad bad bad", hold_seconds=0.3) == (
        "2 fault.open, 3 fault.close, 6 open"
    )
    assert told("bad bad bad bad bad bad", hold_seconds=0.3, hold_frames=5) == "4 open"


def test_an_incident_closes_when_enough_frames_in_a_row_are_clear() -> None:
    assert told("bad good good good good", clear_frames=3) == "0 open, 3 close"
    assert told("bad good good bad good good bad", clear_frames=3) == "0 open"
    assert told("bad good good bad good bad", clear_frames=2) == "0 open, 2 close, 3 open"


def test_a_score_within_the_hysteresis_keeps_an_incident_open() -> None:
    assert told("bad near near near near near", clear_frames=2) == "0 open"
    assert told("bad good near good good", clear_frames=2) == "0 open, 4 close"
    assert told("bad near good", hysteresis=0.0) == "0 open, 1 close"


def test_a_score_within_the_hysteresis_opens_nothing_and_ends_a_hold() -> None:
    assert told("near near near", hold_frames=1) == ""
    assert told("bad near bad near bad near", hold_frames=2) == ""


def test_the_hysteresis_ends_exactly_at_its_share_of_the_threshold() -> None:
    for score, is_clear in ((0.75, True), (0.7500001, False)):
        tracker = IncidentTracker(settings(hysteresis=0.25))
        tracker.observe(decision("bad"), 0)
        kinds = [change.kind for change in tracker.observe(decision("good", score=score), FRAME_NS)]
        assert kinds == ([MessageKind.ANOMALY_CLOSE] if is_clear else [])


def test_an_open_incident_is_updated_every_so_often() -> None:
    assert told("bad bad bad bad bad bad bad", update_seconds=0.3) == "0 open, 3 update, 6 update"


def test_an_incident_within_the_hysteresis_still_updates() -> None:
    assert told("bad near near near near", update_seconds=0.2) == "0 open, 2 update, 4 update"


def test_an_incident_that_is_about_to_close_is_not_updated() -> None:
    said = told("bad good good good bad good good good good", update_seconds=0.1, clear_frames=4)
    assert said == "0 open, 4 update, 8 close"


def test_an_incident_that_turns_critical_is_updated_at_once_and_only_once() -> None:
    assert told("bad worse worse bad worse", update_seconds=3600) == "0 open, 1 update"
    assert told("worse worse bad worse", update_seconds=3600) == "0 open"


def test_an_incident_turns_critical_at_once_also_after_an_update_within_the_hysteresis() -> None:
    assert told("bad near near worse", update_seconds=0.2) == "0 open, 2 update, 3 update"


def test_a_cooldown_keeps_the_next_incident_back() -> None:
    said = told("bad good bad bad good good good bad", cooldown_seconds=0.5)
    assert said == "0 open, 1 close, 7 open"


def test_an_anomaly_that_outlasts_the_cooldown_is_never_lost() -> None:
    said = told("bad good bad bad bad bad bad bad", cooldown_seconds=0.5)
    assert said == "0 open, 1 close, 6 open"
    held = told("bad bad good bad bad bad bad bad", hold_frames=2, cooldown_seconds=0.3)
    assert held == "1 open, 2 close, 5 open"


def test_what_is_critical_does_not_wait_for_the_cooldown() -> None:
    said = told("bad good bad worse worse", cooldown_seconds=60.0)
    assert said == "0 open, 1 close, 3 open"


def test_the_first_incident_knows_no_cooldown() -> None:
    assert told("bad", cooldown_seconds=3600.0) == "0 open"


def test_a_fault_opens_at_once_and_closes_after_clear_frames() -> None:
    assert told("good fault fault good good good", clear_frames=3) == "1 fault.open, 5 fault.close"
    said = told("fault good good fault good good good", clear_frames=3)
    assert said == "0 fault.open, 6 fault.close"


def test_a_fault_counts_as_over_also_when_the_part_is_bad() -> None:
    said = told("fault bad bad bad", hold_frames=3, clear_frames=2)
    assert said == "0 fault.open, 2 fault.close, 3 open"


def test_a_fault_neither_closes_an_anomaly_nor_counts_towards_it() -> None:
    said = told("bad fault fault fault good good", clear_frames=2)
    assert said == "0 open, 1 fault.open, 5 fault.close, 5 close"
    interrupted = told("bad good fault good good", clear_frames=2)
    assert interrupted == "0 open, 2 fault.open, 4 fault.close, 4 close"


def test_a_fault_neither_opens_an_anomaly_nor_counts_towards_it() -> None:
    said = told("bad bad fault bad bad bad", hold_frames=3, clear_frames=2)
    assert said == "2 fault.open, 4 fault.close, 5 open"


def test_a_close_names_what_was_opened_and_the_next_has_a_new_name() -> None:
    tracker = IncidentTracker(settings(update_seconds=0.1))
    changes = changes_of("bad bad good bad good fault good fault good", tracker)
    anomalies = [
        change.incident_id for _, change in changes if str(change.kind).startswith("anomaly")
    ]
    faults = [change.incident_id for _, change in changes if str(change.kind).startswith("fault")]
    first, second = anomalies[0], anomalies[3]
    assert anomalies == [first] * 3 + [second] * 2
    assert faults == [faults[0]] * 2 + [faults[2]] * 2
    assert len({first, second, faults[0], faults[2]}) == 4


def test_a_change_carries_the_decision_that_made_it() -> None:
    tracker = IncidentTracker(settings(hold_frames=2))
    first, second = decision("bad"), decision("worse")
    assert tracker.observe(first, 0) == []
    (change,) = tracker.observe(second, FRAME_NS)
    assert change.decision is second
    assert change.decision.severity is Severity.CRITICAL


def test_what_is_open_is_known() -> None:
    tracker = IncidentTracker(settings())
    states = []
    for number, word in enumerate(("good", "bad", "fault", "good")):
        tracker.observe(decision(word), number * FRAME_NS)
        states.append((tracker.has_open_anomaly, tracker.has_open_fault))
    assert states == [(False, False), (True, False), (True, True), (False, False)]


WORDS = st.lists(st.sampled_from([*SCORES, "fault"]), max_size=60).map(" ".join)
SETTINGS = st.fixed_dictionaries(
    {
        "hold_frames": st.integers(1, 4),
        "hold_seconds": st.sampled_from([0.0, 0.25]),
        "clear_frames": st.integers(1, 4),
        "hysteresis": st.sampled_from([0.0, 0.1]),
        "cooldown_seconds": st.sampled_from([0.0, 0.3, 1.0]),
        "update_seconds": st.sampled_from([0.1, 0.5, 3600.0]),
    }
)


@given(WORDS, SETTINGS)
def test_messages_of_an_incident_always_come_as_open_updates_close(
    words: str, chosen: dict[str, Any]
) -> None:
    changes = changes_of(words, IncidentTracker(settings(**chosen)))
    for family in ("anomaly", "fault"):
        open_id = None
        for _, change in changes:
            kind, _, what = str(change.kind).partition(".")
            if kind != family:
                continue
            if what == "open":
                assert open_id is None
                open_id = change.incident_id
            else:
                assert change.incident_id == open_id
                open_id = None if what == "close" else open_id


@given(WORDS, SETTINGS)
def test_whatever_came_before_a_lasting_anomaly_is_open_in_the_end_and_gone_after_good_frames(
    words: str, chosen: dict[str, Any]
) -> None:
    tracker = IncidentTracker(settings(**chosen))
    changes_of(words, tracker)
    changes_of("bad " * 20, tracker, first_frame=100)
    assert tracker.has_open_anomaly
    assert not tracker.has_open_fault
    changes_of("good " * 4, tracker, first_frame=120)
    assert not tracker.has_open_anomaly


@given(WORDS, SETTINGS)
def test_no_anomaly_opens_or_closes_on_a_fault_and_none_closes_on_an_anomalous_frame(
    words: str, chosen: dict[str, Any]
) -> None:
    for _, change in changes_of(words, IncidentTracker(settings(**chosen))):
        verdict = change.decision.verdict
        if change.kind is MessageKind.ANOMALY_OPEN:
            assert verdict is Verdict.ANOMALOUS
        elif change.kind is MessageKind.ANOMALY_CLOSE:
            assert verdict is Verdict.NORMAL
        elif change.kind is MessageKind.FAULT_OPEN:
            assert verdict is Verdict.FAULT


def test_a_replay_says_the_same_whenever_it_is_played() -> None:
    words = "bad bad good good bad bad bad near good good good fault good good"
    said = []
    for first_ns in (0, 10**15):
        tracker = IncidentTracker(settings(hold_frames=2, cooldown_seconds=0.3, update_seconds=0.2))
        changes = changes_of(words, tracker, first_ns=first_ns)
        said.append([(number, change.kind) for number, change in changes])
    assert said[0] == said[1]
    assert said[0]
