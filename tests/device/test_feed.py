"""A feed: the newest frame or each one, cameras that come back, files that do not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime_fakes import QUICK, News, PlayedSource

from edge_sdk.errors import CaptureError, EdgeError, InputError
from edge_sdk.protocols import FrameSource
from edge_sdk.records import Frame
from edge_sdk.runtime.feed import FrameFeed, jittered_pause


@contextmanager
def feeding(
    open_source: Callable[[], FrameSource],
    *,
    keeps: Literal["newest", "every"] = "newest",
    reopens: bool = True,
    pause_seconds: tuple[float, float] = QUICK,
) -> Iterator[tuple[FrameFeed, News]]:
    news = News()
    feed = FrameFeed(
        "cam1",
        open_source,
        keeps=keeps,
        reopens=reopens,
        on_news=news,
        pause_seconds=pause_seconds,
    )
    feed.start()
    try:
        yield feed, news
    finally:
        feed.close()


def take_next(feed: FrameFeed, news: News) -> Frame:
    news.wait_for(lambda: feed.has_frame)
    frame = feed.take()
    assert frame is not None
    return frame


def test_the_newest_frame_wins_and_the_replaced_ones_are_counted() -> None:
    source = PlayedSource()
    source.dropped = 7
    with feeding(lambda: source) as (feed, news):
        frames = [source.give() for _ in range(4)]
        news.wait_for(lambda: feed.dropped == 3 + 7)

        assert feed.take() is frames[3]
        assert feed.take() is None, "each frame is given once"
        assert feed.dropped == 3 + 7


def test_a_reader_however_slow_finds_the_newest_frame_and_no_older_one() -> None:
    source = PlayedSource()
    given = 0
    with feeding(lambda: source) as (feed, news):
        for taken, burst in enumerate((1, 30, 2, 7, 90, 1, 1, 15)):
            newest = [source.give() for _ in range(burst)][-1]
            given += burst
            missed = given - taken - 1  # all have come in, and one lies in the slot
            news.wait_for(lambda missed=missed: feed.dropped == missed)  # type: ignore[misc]
            assert take_next(feed, news) is newest


def test_where_each_frame_is_kept_none_is_lost_and_reading_waits() -> None:
    source = PlayedSource()
    with feeding(lambda: source, keeps="every", reopens=False) as (feed, news):
        for _ in range(20):
            source.give()
        source.end()

        assert [take_next(feed, news).frame_id for _ in range(20)] == list(range(20))
        assert feed.dropped == 0
        news.wait_for(lambda: feed.is_drained)


def test_a_kept_frame_is_as_old_as_its_taking() -> None:
    source = PlayedSource()
    with feeding(lambda: source, keeps="every", reopens=False) as (feed, news):
        given = source.give(age_seconds=3600)
        news.wait_for(lambda: feed.has_frame)
        before_ns = time.monotonic_ns()

        taken = take_next(feed, news)

        assert taken.monotonic_ns >= before_ns
        assert taken.pixels is given.pixels


def test_a_camera_frame_keeps_the_time_it_was_taken() -> None:
    source = PlayedSource()
    with feeding(lambda: source) as (feed, news):
        given = source.give(age_seconds=3600)

        assert take_next(feed, news).monotonic_ns == given.monotonic_ns


def test_a_file_has_ended_only_when_its_last_frame_was_taken() -> None:
    source = PlayedSource()
    with feeding(lambda: source, keeps="every", reopens=False) as (feed, news):
        source.give()
        source.end()
        news.wait_for(lambda: feed.has_ended)
        assert not feed.is_drained

        assert feed.take() is not None
        assert feed.is_drained
        assert feed.error is None


def test_a_file_that_fails_is_not_read_again() -> None:
    source = PlayedSource()
    with feeding(lambda: source, keeps="every", reopens=False) as (feed, news):
        source.fail(InputError("b.png: does not decode"))
        news.wait_for(lambda: feed.has_ended)

        assert str(feed.error) == "b.png: does not decode"
        assert not feed.is_seeing
        assert len(source.readings) == 1


def test_a_camera_is_tried_for_ever_until_its_frames_return() -> None:
    source = PlayedSource()
    for _ in range(12):
        source.fail()
    with feeding(lambda: source) as (feed, news):
        news.wait_for(lambda: feed.error is not None)
        source.give()

        assert take_next(feed, news).frame_id == 0
        assert feed.error is None
        assert feed.is_seeing
        assert len(source.readings) == 13
        assert not feed.has_ended


def test_a_camera_that_is_absent_is_looked_for_until_it_is_there() -> None:
    source = PlayedSource()
    source.give()
    absences = [CaptureError("/dev/video0 does not exist")] * 5

    def open_source() -> FrameSource:
        if absences:
            raise absences.pop()
        return source

    with feeding(open_source) as (feed, news):
        assert take_next(feed, news).frame_id == 0
        assert absences == []


def test_a_camera_whose_stream_just_ends_has_failed() -> None:
    source = PlayedSource()
    with feeding(lambda: source) as (feed, news):
        source.end()
        news.wait_for(lambda: feed.error is not None)

        assert str(feed.error) == "cam1: the stream ended"
        source.give()
        assert take_next(feed, news).frame_id == 0


def test_a_camera_that_fails_after_each_frame_is_given_longer_and_longer_pauses() -> None:
    source = PlayedSource()
    for _ in range(5):
        source.give()
        source.fail()
    last = source.give()
    with feeding(lambda: source, pause_seconds=(0.02, 10.0)) as (feed, news):
        while take_next(feed, news) is not last:
            pass

    pauses = [(b - a) / 1e9 for a, b in zip(source.readings, source.readings[1:], strict=False)]
    assert len(pauses) == 5
    assert all(pause >= 0.01 * 2**number for number, pause in enumerate(pauses))


def test_after_a_long_good_time_the_pauses_start_over() -> None:
    source = PlayedSource()
    for _ in range(9):
        source.fail()
    source.give()
    with feeding(lambda: source, pause_seconds=(0.001, 0.6)) as (feed, news):
        take_next(feed, news)
        time.sleep(0.65)  # longer than the longest pause: a good time
        started = time.monotonic()
        source.fail()
        source.give()
        take_next(feed, news)

    assert time.monotonic() - started < 0.25, "half of the tenth pause"


@given(failures=st.integers(0, 10**6))
def test_a_pause_doubles_up_to_its_limit_and_jitter_takes_at_most_half(failures: int) -> None:
    full = min(30.0, 2.0 ** min(failures, 10))

    assert full / 2 <= jittered_pause(failures, 1.0, 30.0) <= full


def test_cameras_that_failed_together_do_not_come_back_together() -> None:
    assert len({jittered_pause(3, 1.0, 30.0) for _ in range(20)}) > 10


def test_closing_ends_the_pause_between_two_attempts() -> None:
    source = PlayedSource()
    source.fail()
    with feeding(lambda: source, pause_seconds=(60.0, 60.0)) as (feed, news):
        news.wait_for(lambda: feed.error is not None)
        started = time.monotonic()

    assert time.monotonic() - started < 1
    assert source.closed.is_set()
    assert feed.has_ended


def test_closing_ends_the_wait_for_a_frame_to_be_taken() -> None:
    source = PlayedSource()
    with feeding(lambda: source, keeps="every", reopens=False) as (feed, news):
        source.give()
        source.give()
        news.wait_for(lambda: feed.has_frame)
        started = time.monotonic()

    assert time.monotonic() - started < 1
    assert feed.has_ended
    assert feed.error is None, "to be closed is no failure"


def test_a_camera_that_opens_while_the_feed_is_closed_is_closed_too() -> None:
    source = PlayedSource()
    is_opening, may_open = threading.Event(), threading.Event()

    def open_source() -> FrameSource:
        is_opening.set()
        may_open.wait(10)
        return source

    with feeding(open_source) as (feed, _):
        assert is_opening.wait(10)
        threading.Timer(0.1, may_open.set).start()

    assert source.closed.is_set()
    assert feed.has_ended


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_defect_in_a_source_is_not_taken_for_its_end() -> None:
    source = PlayedSource()
    with feeding(lambda: source, keeps="every", reopens=False) as (feed, _):
        feed.check()
        source.fail(ZeroDivisionError())
        feed._thread.join(10)

        assert not feed.is_drained
        with pytest.raises(EdgeError, match="cam1: a defect has ended the thread"):
            feed.check()
