"""Run-in: what a threshold promises, who waits for a person, and what survives on the disk."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import InputError
from edge_sdk.metrics.false_alarms import limiting_rank, promise_at
from edge_sdk.run_in.folder import RunIn, find_run_ins, open_run_in
from edge_sdk.run_in.rules import KEPT_PICTURES, LearnedPart, RunInPlan, settle

PLAN = RunInPlan(parts=100, false_alarms_per_100=1.0)
NOW = datetime(2026, 11, 26, 3, 0, tzinfo=timezone.utc)


def parts_scoring(*scores: float) -> list[LearnedPart]:
    return [
        LearnedPart(number=number, score=score, captured_at="", frame_id=None, part_id=None)
        for number, score in enumerate(scores, start=1)
    ]


def good_scores(count: int, seed: int = 0) -> list[float]:
    return list(np.random.default_rng(seed).normal(1.0, 0.1, count))


def learn(run_in: RunIn, score: float) -> None:
    run_in.record(
        score,
        captured_at=NOW,
        frame_id=None,
        part_id=None,
        pictures=lambda: {".jpg": b"picture"},
    )


# --- what a threshold promises ---


@pytest.mark.parametrize("parts", [20, 99, 150, 368])
def test_the_interval_at_the_highest_score_is_the_one_in_closed_form(parts: int) -> None:
    promise = promise_at(parts, 1)
    assert promise.expected == 1 / (parts + 1)
    assert promise.lowest == pytest.approx(1 - 0.975 ** (1 / parts), abs=1e-9)
    assert promise.highest == pytest.approx(1 - 0.025 ** (1 / parts), abs=1e-9)


@pytest.mark.parametrize(("parts", "rate"), [(100, 0.01), (150, 0.05), (200, 0.01)])
def test_the_true_rate_lies_within_the_interval_in_95_of_100_run_ins(
    parts: int, rate: float
) -> None:
    rank = limiting_rank(parts, rate)
    promise = promise_at(parts, rank)
    draws = np.sort(np.random.default_rng(7).exponential(size=(20_000, parts)), axis=1)
    true_rates = np.exp(-draws[:, -rank])  # how many of an exponential law lie above
    inside = np.mean((true_rates >= promise.lowest) & (true_rates <= promise.highest))
    assert inside == pytest.approx(0.95, abs=0.006)
    assert true_rates.mean() == pytest.approx(promise.expected, rel=0.05)


@given(parts=st.integers(20, 2000), per_100=st.floats(0.1, 50))
def test_no_lower_score_would_keep_the_rate(parts: int, per_100: float) -> None:
    rank = limiting_rank(parts, per_100 / 100)
    assert rank == 1 or rank / (parts + 1) <= per_100 / 100 + 1e-9
    assert (rank + 1) / (parts + 1) > per_100 / 100


# --- who counts, and who waits ---


def test_the_highest_score_waits_for_a_person_and_only_then_is_the_threshold() -> None:
    scores = good_scores(100)
    parts = parts_scoring(*scores)
    highest = 1 + int(np.argmax(scores))
    before = settle(parts, {}, PLAN)
    assert [part.number for part in before.waiting] == [highest]
    assert before.threshold is None

    after = settle(parts, {highest: True}, PLAN)
    assert after.threshold is not None
    assert after.threshold.value == max(scores)
    assert not after.threshold.provisional
    assert after.threshold.expected_false_alarm_rate == 1 / 101


def test_a_bad_part_never_sets_the_threshold_unless_a_person_calls_it_good() -> None:
    scores = [*good_scores(50, 1), 4.0, *good_scores(49, 2)]
    standing = settle(parts_scoring(*scores), {}, PLAN)
    assert 51 in [part.number for part in standing.waiting]
    assert standing.threshold is None

    further = parts_scoring(*scores, 1.0)
    answers = {51: False}
    while waiting := settle(further, answers, PLAN).waiting:
        answers[waiting[0].number] = True
    threshold = settle(further, answers, PLAN).threshold
    assert threshold is not None
    assert threshold.value < 2
    assert threshold.pictures == 100, "another part has taken the place of the rejected one"


def test_one_bad_part_in_ten_is_held_out_with_all_the_others() -> None:
    scores = np.array(good_scores(100))
    bad = np.arange(5, 100, 10)
    scores[bad] += 1.0
    waiting = {part.number - 1 for part in settle(parts_scoring(*scores), {}, PLAN).waiting}
    assert waiting >= set(bad.tolist())
    assert len(waiting - set(bad.tolist())) <= 2, "hardly a good part is asked about"


def test_an_odd_part_is_shown_before_all_is_learned() -> None:
    standing = settle(parts_scoring(*good_scores(30), 4.0), {}, PLAN)
    assert [part.number for part in standing.waiting] == [31]
    assert not standing.is_learned


def test_a_rejected_part_must_be_replaced_before_there_is_a_threshold() -> None:
    scores = good_scores(100)
    highest = 1 + int(np.argmax(scores))
    standing = settle(parts_scoring(*scores), {highest: False}, PLAN)
    assert (len(standing.kept), standing.is_learned, standing.threshold) == (99, False, None)


def test_where_good_parts_score_as_high_as_can_be_there_is_no_threshold() -> None:
    plan = RunInPlan(parts=20, false_alarms_per_100=5.0, highest_score=1.0)
    parts = parts_scoring(*[0.2] * 19, 1.0)
    standing = settle(parts, {20: True}, plan)
    assert standing.threshold is None
    assert standing.refusal is not None


# --- on the disk ---


def test_what_was_learned_and_answered_is_there_after_a_restart(tmp_path: Path) -> None:
    run_in = RunIn(tmp_path / "way", PLAN)
    run_in.begin()
    for score in [*good_scores(40), 9.0]:
        learn(run_in, score)
    RunIn(tmp_path / "way").answer(41, is_good=False)

    again = open_run_in(tmp_path / "way", None)
    assert again is not None
    assert again.standing == run_in.refresh()
    assert (len(again.standing.kept), again.standing.rejected) == (40, 1)
    learn(again, 1.0)
    assert len(again.standing.kept) == 41


def test_a_line_that_a_power_cut_tore_is_a_part_that_was_not_learned(tmp_path: Path) -> None:
    run_in = RunIn(tmp_path, PLAN)
    run_in.begin()
    for score in (1.0, 2.0):
        learn(run_in, score)
    path = tmp_path / "parts.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    again = RunIn(tmp_path)
    assert [part.score for part in again.standing.kept] == [1.0]
    learn(again, 3.0)
    assert [part.score for part in RunIn(tmp_path).standing.kept] == [1.0, 3.0]


def test_two_processes_learn_without_giving_a_number_twice(tmp_path: Path) -> None:
    first, second = RunIn(tmp_path, PLAN), RunIn(tmp_path, PLAN)
    for score in (1.0, 2.0):
        learn(first, score)
        learn(second, score)
    assert [part.number for part in first.refresh().kept] == [1, 2, 3, 4]


def test_each_part_that_waits_has_its_picture_and_few_others_have(tmp_path: Path) -> None:
    run_in = RunIn(tmp_path, PLAN)
    run_in.begin()
    for score in good_scores(100):
        learn(run_in, score)
    assert run_in.standing.waiting
    for part in run_in.standing.waiting:
        assert [path.read_bytes() for path in run_in.pictures(part.number)] == [b"picture"]
    assert len(list((tmp_path / "pictures").iterdir())) == KEPT_PICTURES


def test_an_answer_about_no_part_or_after_the_end_is_refused(tmp_path: Path) -> None:
    run_in = RunIn(tmp_path, RunInPlan(parts=20, false_alarms_per_100=5.0))
    for score in good_scores(20):
        learn(run_in, score)
    with pytest.raises(InputError, match="part 21: expected one of 1 to 20"):
        run_in.answer(21, is_good=True)
    for part in run_in.standing.waiting:
        run_in.answer(part.number, is_good=True)
    with pytest.raises(InputError, match="over"):
        run_in.answer(1, is_good=False)


def test_a_damaged_run_in_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "run_in" / "way"
    RunIn(folder, PLAN).begin()
    assert len(find_run_ins(tmp_path)) == 1
    (folder / "plan.json").write_text('{"parts": 100}')
    with pytest.raises(InputError, match=r"plan\.json: not a run-in"):
        find_run_ins(tmp_path)
