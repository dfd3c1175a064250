from __future__ import annotations

import itertools
import time

import pytest
from fakes import ScriptedSource, Stall
from hypothesis import given
from hypothesis import strategies as st
from scenes import fixture_part, flat, frame_of, numbered_frames

from edge_sdk.enrollment import (
    MAX_REFERENCES,
    check_pictures,
    choose_frames,
    pick_frames,
    watch_frames,
)
from edge_sdk.errors import CaptureError, InputError
from edge_sdk.records import Frame

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


def test_a_live_camera_is_watched_and_every_picture_announced() -> None:
    told: list[tuple[int, int]] = []
    opened = source(100)
    taken = watch_frames(
        opened,
        count=3,
        interval_seconds=0.0,
        on_taken=lambda number, frame: told.append((number, frame.frame_id)),
    )
    assert ids(taken) == [0, 1, 2]
    assert told == [(1, 0), (2, 1), (3, 2)]
    assert opened.is_closed


class EndlessSource(ScriptedSource):
    """Yields frames for as long as it is asked."""

    def __init__(self) -> None:
        super().__init__(frame_of(flat(7, (2, 2)), frame_id=number) for number in range(10**9))


def test_there_is_time_between_two_pictures_to_change_the_part() -> None:
    moments = [time.monotonic()]
    opened = EndlessSource()
    watch_frames(
        opened,
        count=3,
        interval_seconds=0.05,
        on_taken=lambda *_: moments.append(time.monotonic()),
    )
    assert min(later - sooner for sooner, later in itertools.pairwise(moments)) >= 0.05
    assert opened.is_closed


def test_a_camera_that_ends_before_all_pictures_are_taken_is_a_failed_camera() -> None:
    opened = source(2)
    with pytest.raises(CaptureError, match="ended after 2 of 3 pictures"):
        watch_frames(opened, count=3, interval_seconds=0.0, on_taken=lambda *_: None)
    assert opened.is_closed


def test_a_camera_that_fails_while_it_is_watched_is_said() -> None:
    opened = ScriptedSource([FRAMES[0], CaptureError("unplugged")])
    with pytest.raises(CaptureError, match="unplugged"):
        watch_frames(opened, count=3, interval_seconds=0.0, on_taken=lambda *_: None)
    assert opened.is_closed


@pytest.mark.parametrize(("level", "word"), [(0, "black"), (9, "black"), (255, "over-exposed")])
def test_a_picture_that_shows_nothing_is_not_enrolled(level: int, word: str) -> None:
    good, blind = frame_of(fixture_part(0)), frame_of(flat(level), frame_id=7)
    check_pictures([good])
    with pytest.raises(InputError, match=rf"picture 2 \(frame 7\) is {word}"):
        check_pictures([good, blind])


def test_more_pictures_than_a_search_can_bear_are_refused() -> None:
    check_pictures([frame_of(fixture_part(0))] * MAX_REFERENCES)
    with pytest.raises(InputError, match="at most 64, got 65"):
        check_pictures([frame_of(fixture_part(0))] * (MAX_REFERENCES + 1))
