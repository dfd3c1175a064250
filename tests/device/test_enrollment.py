from __future__ import annotations

import io
import itertools
import os
import pty
import time
from collections.abc import Sequence

import numpy as np
import pytest
from fakes import ScriptedSource, Stall
from hypothesis import given
from hypothesis import strategies as st
from scenes import fixture_part, flat, frame_of, numbered_frames

from edge_sdk.cli.operator import TerminalOperator, TimedOperator
from edge_sdk.enrollment import (
    MAX_REFERENCES,
    check_pictures,
    choose_frames,
    guide_frames,
    pick_frames,
)
from edge_sdk.errors import CaptureError, InputError
from edge_sdk.picture_checks import Finding
from edge_sdk.records import Frame, UInt8Array

FRAMES = numbered_frames(2000)


def source(count: int) -> ScriptedSource:
    return ScriptedSource(FRAMES[:count])


def ids(frames: list[Frame]) -> list[int]:
    return [frame.frame_id for frame in frames]


@given(count=st.integers(1, MAX_REFERENCES), extra=st.integers(0, 1200), first=st.integers(0, 300))
def test_chosen_frames_lie_one_in_each_of_equal_stretches(
    count: int, extra: int, first: int
) -> None:
    length = count + extra
    chosen = ids(choose_frames(source(first + length), count=count, first_frame=first))
    assert len(chosen) == count
    for index, number in enumerate(chosen):
        # In whole numbers: index * length / count <= number - first < (index + 1) * length / count.
        assert index * length <= (number - first + 1) * count
        assert (number - first) * count < (index + 1) * length


def test_frames_are_taken_from_the_middles_of_the_stretches() -> None:
    assert ids(choose_frames(source(4), count=4)) == [0, 1, 2, 3]
    assert ids(choose_frames(source(8), count=4)) == [1, 3, 5, 7]
    assert ids(choose_frames(source(21), count=3)) == [3, 10, 17]
    # Of 64 frames every fourth is kept in the end: 0, 4, ..., 60.
    assert ids(choose_frames(source(64), count=4)) == [8, 24, 40, 56]


def test_only_the_stretch_that_was_named_is_looked_at_and_the_rest_is_not_read() -> None:
    stall = Stall()
    opened = ScriptedSource([*FRAMES[:100], stall])
    chosen = ids(choose_frames(opened, count=5, first_frame=40, last_frame=59))
    assert chosen == [42, 46, 50, 54, 58]
    assert opened.is_closed
    assert not stall.reached.is_set()


@pytest.mark.parametrize(("length", "count"), [(0, 1), (3, 4), (63, 64)])
def test_too_few_frames_are_refused_with_both_numbers(length: int, count: int) -> None:
    opened = source(length)
    with pytest.raises(InputError, match=f"scripted: expected at least {count} .* got {length}"):
        choose_frames(opened, count=count)
    assert opened.is_closed


def test_a_stretch_beyond_the_end_is_refused() -> None:
    with pytest.raises(InputError, match="got 0"):
        choose_frames(source(10), count=2, first_frame=10)


def test_a_source_that_fails_is_said_and_closed() -> None:
    opened = ScriptedSource([*FRAMES[:10], CaptureError("the file is broken")])
    with pytest.raises(CaptureError, match="the file is broken"):
        choose_frames(opened, count=2)
    assert opened.is_closed


@given(st.lists(st.integers(0, 199), unique=True, min_size=1, max_size=20))
def test_picked_frames_are_those_that_were_named(named: list[int]) -> None:
    opened = source(200)
    assert sorted(ids(pick_frames(opened, named))) == sorted(named)
    assert opened.is_closed


def test_reading_stops_behind_the_last_frame_that_was_named() -> None:
    stall = Stall()
    opened = ScriptedSource([*FRAMES[:50], stall])
    assert ids(pick_frames(opened, [30, 3])) == [3, 30]
    assert not stall.reached.is_set()


def test_a_frame_named_twice_is_refused() -> None:
    with pytest.raises(InputError, match=r"expected different numbers, got \[1, 2, 1\]"):
        pick_frames(source(10), [1, 2, 1])


def test_frames_beyond_the_end_are_named() -> None:
    opened = source(10)
    with pytest.raises(InputError, match=r"scripted: has no frames \[10, 25\]"):
        pick_frames(opened, [3, 25, 10])
    assert opened.is_closed


class Quick:
    """An operator whose parts are always in place, and who keeps what a script says."""

    def __init__(self, *answers: bool, ready: bool = True) -> None:
        self.answers = list(answers)
        self.ready = ready
        self.told: list[tuple[int, list[str]]] = []
        self.heard: list[tuple[int, int]] = []

    def is_ready(self, number: int) -> bool:
        assert number == len(self.heard) + 1
        return self.ready

    def keeps(self, number: int, findings: Sequence[Finding]) -> bool:
        self.told.append((number, [finding.fault for finding in findings]))
        return self.answers.pop(0)

    def hears(self, number: int, frame: Frame) -> None:
        self.heard.append((number, frame.frame_id))


def parts(*seeds: int) -> list[Frame]:
    """Frames of unlike parts."""
    return [frame_of(textured(seed), frame_id=index) for index, seed in enumerate(seeds)]


def textured(seed: int) -> UInt8Array:
    """(64, 64, 3) something sharp that no other seed resembles."""
    coarse = np.random.default_rng(seed).integers(40, 200, (16, 16, 3)).astype(np.uint8)
    return coarse.repeat(4, axis=0).repeat(4, axis=1)


def test_a_live_camera_is_watched_and_every_picture_announced() -> None:
    operator, opened = Quick(), ScriptedSource(parts(1, 2, 3, 4))
    taken = guide_frames(opened, count=3, operator=operator)
    assert ids(taken) == [0, 1, 2]
    assert operator.heard == [(1, 0), (2, 1), (3, 2)]
    assert opened.is_closed


def test_a_picture_with_something_wrong_is_taken_again_until_the_operator_keeps_it() -> None:
    black = frame_of(flat(0, (64, 64)), frame_id=1)
    first, second = parts(1, 2)
    again = frame_of(first.pixels, frame_id=2)
    operator = Quick(False, False, True)
    opened = ScriptedSource([first, black, again, again, second])
    taken = guide_frames(opened, count=3, operator=operator)
    assert operator.told == [(2, ["black"]), (2, ["duplicate"]), (2, ["duplicate"])]
    assert [frame.frame_id for frame in taken] == [0, 2, 1]


def test_there_is_time_between_two_pictures_to_change_the_part() -> None:
    said = io.StringIO()
    operator = TimedOperator(3, 0.05, screen=said)
    moments = [time.monotonic()]
    for number in (1, 2, 3):
        while not operator.is_ready(number):
            time.sleep(0.001)
        moments.append(time.monotonic())
        operator.hears(number, FRAMES[0])
    assert min(later - sooner for sooner, later in itertools.pairwise(moments)) >= 0.05
    assert said.getvalue().splitlines()[-1] == "picture 3 of 3 taken"


def test_without_a_terminal_a_lens_cap_is_not_waited_for_for_ever() -> None:
    said = io.StringIO()
    black = [frame_of(flat(0), frame_id=number) for number in range(30)]
    opened = ScriptedSource(black)
    with pytest.raises(InputError, match="picture 1: refused 10 times: black"):
        guide_frames(opened, count=2, operator=TimedOperator(2, 0.0, screen=said))
    assert said.getvalue().count("uncover the lens") == 10
    assert opened.is_closed


def test_at_a_terminal_enter_takes_r_takes_again_and_k_keeps() -> None:
    """A real terminal, whose keys are pressed when the question is there."""
    keys, line = pty.openpty()
    (first,) = parts(1)
    copies = (frame_of(first.pixels, frame_id=number) for number in itertools.count(10))
    with os.fdopen(line, "r+b", buffering=0) as raw, io.TextIOWrapper(raw) as terminal:
        screen = Screen(keys, {"press Enter": b"\n", "[r] take it again": b"r\n"})
        operator = TerminalOperator(2, terminal, screen)
        source = ScriptedSource(itertools.chain([first] * 3, itertools.islice(copies, 400)))
        screen.answers_later = {"[r] take it again": b"k\n"}
        taken = guide_frames(source, count=2, operator=operator)
    os.close(keys)
    assert len(taken) == 2
    assert "picture 2: is picture 1 again" in screen.text
    assert "picture 2 of 2 taken (64x64)" in screen.text
    assert screen.text.count("part 2 of 2: put it in place") == 2, "asked again after r"


class Screen(io.StringIO):
    """What an operator is shown; presses keys when asked, other ones from the second time on."""

    def __init__(self, keys: int, answers: dict[str, bytes]) -> None:
        super().__init__()
        self.text = ""
        self.answers = answers
        self.answers_later: dict[str, bytes] = {}
        self._keys = keys

    def write(self, text: str) -> int:
        self.text += text
        for question, answer in list(self.answers.items()):
            if question in text:
                os.write(self._keys, answer)
                self.answers[question] = self.answers_later.get(question, answer)
        return len(text)


def test_a_camera_that_ends_before_all_pictures_are_taken_is_a_failed_camera() -> None:
    opened = ScriptedSource(parts(1, 2))
    with pytest.raises(CaptureError, match="ended after 2 of 3 pictures"):
        guide_frames(opened, count=3, operator=Quick())
    assert opened.is_closed


def test_a_camera_that_fails_while_a_part_is_awaited_is_said() -> None:
    opened = ScriptedSource([FRAMES[0], CaptureError("unplugged")])
    with pytest.raises(CaptureError, match="unplugged"):
        guide_frames(opened, count=3, operator=Quick(ready=False))
    assert opened.is_closed


@pytest.mark.parametrize(("level", "word"), [(0, "black"), (9, "black"), (255, "over-exposed")])
def test_a_picture_that_shows_nothing_is_not_enrolled(level: int, word: str) -> None:
    good, blind = frame_of(fixture_part(0)), frame_of(flat(level), frame_id=7)
    assert check_pictures([good]) == []
    for keeps_refused in (False, True):
        with pytest.raises(InputError, match=rf"picture 2 \(frame 7\): {word}"):
            check_pictures([good, blind], keeps_refused=keeps_refused)


def test_a_picture_given_twice_is_enrolled_only_where_a_person_wants_it() -> None:
    good, again = frame_of(textured(1)), frame_of(textured(1), frame_id=4)
    with pytest.raises(InputError, match=r"picture 2 \(frame 4\): is picture 1 again"):
        check_pictures([good, again])
    (finding,) = check_pictures([good, again], keeps_refused=True)
    assert (finding.picture, finding.fault) == (2, "duplicate")


def test_more_pictures_than_a_search_can_bear_are_refused() -> None:
    many = parts(*range(MAX_REFERENCES + 1))
    assert check_pictures(many[:-1]) == []
    with pytest.raises(InputError, match="at most 64, got 65"):
        check_pictures(many)
