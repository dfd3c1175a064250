"""Videos and folders of pictures: order, skips, colours, and what is said of broken ones."""

from __future__ import annotations

import os
import threading
import time
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from capture_media import (
    number_of,
    numbered_picture,
    start_python,
    write_picture,
    write_video,
)

from edge_sdk.capture import open_source
from edge_sdk.errors import CaptureError, ConfigError, EdgeError, InputError
from edge_sdk.records import Frame

BROKEN_VIDEO = b"\0\0\0\x18ftypisom" + b"garbage" * 100


def read_all(spec: str, **options: object) -> list[Frame]:
    return list(open_source(spec, **options).frames())  # type: ignore[arg-type]  # passed through


@pytest.mark.parametrize(("name", "codec"), [("line.mp4", "mp4v"), ("line.avi", "MJPG")])
def test_every_frame_of_a_video_is_read_once_and_in_order(
    tmp_path: Path, name: str, codec: str
) -> None:
    path = write_video(tmp_path / name, frames=40, codec=codec)

    frames = read_all(f"file:{path}")

    assert [number_of(frame.pixels) for frame in frames] == list(range(40))
    assert [frame.frame_id for frame in frames] == list(range(40))


def test_a_frame_is_contiguous_rgb_with_its_source_and_times(tmp_path: Path) -> None:
    path = write_video(tmp_path / "line.avi", frames=2)
    before_ns = time.monotonic_ns()

    frame = read_all(str(path))[1]

    red, green, blue = frame.pixels[56].mean(axis=0)
    assert red > 220
    assert max(green, blue) < 40
    assert frame.pixels.flags.c_contiguous
    assert frame.source_id == "line"
    assert frame.captured_at.tzinfo is timezone.utc
    assert abs((datetime.now(timezone.utc) - frame.captured_at).total_seconds()) < 5
    assert before_ns <= frame.monotonic_ns <= time.monotonic_ns()


def test_a_video_read_frame_by_frame_keeps_the_times_of_its_recording(tmp_path: Path) -> None:
    path = write_video(tmp_path / "line.avi", frames=9, frames_per_second=20)

    every = read_all(str(path), pace="every")

    assert [frame.scene_ns for frame in every] == [index * 50_000_000 for index in range(9)]
    for frame in open_source(str(path), pace="realtime").frames():
        assert frame.scene_ns == frame.monotonic_ns


def test_a_video_in_real_time_takes_as_long_as_it_was_filmed(tmp_path: Path) -> None:
    path = write_video(tmp_path / "line.avi", frames=20, frames_per_second=20)
    source = open_source(str(path), pace="realtime")

    frames = list(source.frames())
    took_seconds = time.monotonic() - frames[0].monotonic_ns / 1e9

    assert 0.94 < took_seconds < 3
    assert len(frames) + source.dropped == 20
    periods = np.diff([frame.monotonic_ns for frame in frames]) / 1e9
    steps = np.diff([frame.frame_id for frame in frames])
    assert np.allclose(periods, 0.05 * steps, atol=1e-6)


def test_a_slow_reader_of_a_video_in_real_time_gets_the_newest_and_a_count_of_the_rest(
    tmp_path: Path,
) -> None:
    path = write_video(tmp_path / "line.avi", frames=60, frames_per_second=50)
    source = open_source(str(path), pace="realtime")

    seen = []
    for frame in source.frames():
        assert number_of(frame.pixels) == frame.frame_id
        seen.append((frame.frame_id, (time.monotonic_ns() - frame.monotonic_ns) / 1e9))
        time.sleep(0.2)  # the slow reader is the subject here

    ids = [frame_id for frame_id, _ in seen]
    assert ids == sorted(set(ids))
    assert ids[-1] == 59, "the last frame is the newest for ever"
    assert 5 <= len(ids) <= 9
    assert source.dropped == 60 - len(ids)
    assert np.median([age for _, age in seen[:-1]]) < 0.1


def test_pictures_of_a_folder_lie_as_far_apart_as_their_rate_says(tmp_path: Path) -> None:
    for number in range(3):
        write_picture(tmp_path / f"{number}.png", numbered_picture(number))

    frames = read_all(str(tmp_path), frames_per_second=4)

    assert [frame.scene_ns for frame in frames] == [0, 250_000_000, 500_000_000]


def test_closing_from_another_thread_ends_the_wait_for_the_next_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "line.avi", frames=2, frames_per_second=0.1)
    source = open_source(str(path), pace="realtime")
    frames = source.frames()
    next(frames)

    threading.Timer(0.2, source.close).start()
    started = time.monotonic()

    assert next(frames, None) is None
    assert time.monotonic() - started < 2
    source.close()
    with pytest.raises(CaptureError, match="closed"):
        next(source.frames())


def test_a_video_with_a_broken_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.mp4"
    path.write_bytes(BROKEN_VIDEO)

    with pytest.raises(CaptureError, match=r"broken\.mp4.*header"):
        read_all(str(path))


def test_a_video_without_a_frame_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "empty.avi", frames=0)

    with pytest.raises(CaptureError, match=r"empty\.avi"):
        read_all(str(path))


@pytest.mark.parametrize("pace", ["every", "realtime"])
def test_a_video_cut_short_is_an_error_after_its_good_frames(tmp_path: Path, pace: str) -> None:
    path = write_video(tmp_path / "cut.avi", frames=60, frames_per_second=100)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    frames = open_source(str(path), pace=pace).frames()  # type: ignore[arg-type]  # parametrized

    seen: list[int] = []
    with pytest.raises(CaptureError, match=r"cut\.avi: expected 60 frames, \d+ could be decoded"):
        seen.extend(frame.frame_id for frame in frames)

    assert len(seen) > 10


def test_a_video_whose_name_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.avi")
    write_video(tmp_path / "line.avi", frames=2).rename(path)

    with pytest.raises(CaptureError, match=r"caf\\udce9\.avi': expected a name in UTF-8"):
        read_all(f"file:{path}")


def test_of_broken_videos_nothing_but_our_error_is_said(tmp_path: Path) -> None:
    damaged = write_video(tmp_path / "damaged.avi", frames=60)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 3 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 3)
    damaged.write_bytes(content)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(BROKEN_VIDEO)
    script = """
import sys
from edge_sdk.capture import open_source
from edge_sdk.errors import CaptureError
for spec in sys.argv[1:]:
    try:
        print(len(list(open_source(spec).frames())))
    except CaptureError as error:
        print(error)
"""

    with start_python(script, damaged, broken) as process:
        said, complained = process.communicate(timeout=30)

    assert complained == ""
    assert "damaged.avi: expected 60 frames" in said.splitlines()[0]
    assert "header cannot be read" in said.splitlines()[1]


def test_the_pictures_of_a_folder_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    for number, name in [(2, "c.PNG"), (0, "a.png"), (3, "d.bmp"), (1, "b.jpg")]:
        write_picture(tmp_path / name, numbered_picture(number))
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "._a.png").write_bytes(b"what another system leaves behind")

    frames = read_all(f"dir:{tmp_path}", source_id="station-1")

    assert [number_of(frame.pixels) for frame in frames] == [0, 1, 2, 3]
    assert [frame.frame_id for frame in frames] == [0, 1, 2, 3]
    assert {frame.source_id for frame in frames} == {"station-1"}
    assert np.array_equal(frames[0].pixels, numbered_picture(0))


def test_a_picture_that_does_not_decode_stops_the_folder_and_is_named(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", numbered_picture(0))
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:100])
    write_picture(tmp_path / "c.png", numbered_picture(2))
    frames = open_source(str(tmp_path)).frames()

    assert number_of(next(frames).pixels) == 0
    with pytest.raises(InputError, match=r"b\.png"):
        next(frames)


def test_a_folder_in_real_time_skips_and_counts_what_is_overtaken(tmp_path: Path) -> None:
    for number in range(30):
        write_picture(tmp_path / f"{number:03}.png", numbered_picture(number))
    source = open_source(str(tmp_path), pace="realtime", frames_per_second=40)

    ids = []
    for frame in source.frames():
        assert number_of(frame.pixels) == frame.frame_id
        ids.append(frame.frame_id)
        time.sleep(0.15)  # the slow reader is the subject here

    assert ids[-1] == 29
    assert 3 <= len(ids) <= 8
    assert source.dropped == 30 - len(ids)


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("rtsp://admin:sec/ret@10.0.0.9/stream", ConfigError, "written %2F"),
        ("weird://admin:secret@10.0.0.9/", ConfigError, "weird: is not supported"),
        ("csi:0", ConfigError, "csi: is not supported"),
        ("picam:0", ConfigError, "picam: is not supported"),
        ("gst:", ConfigError, "gst: is not supported"),
        ("webcam", ConfigError, "/dev/v4l/by-id"),
        ("", ConfigError, "/dev/v4l/by-id"),
        ("dir:", ConfigError, "/dev/v4l/by-id"),
        ("no/such/line.mp4", CaptureError, r"no/such/line\.mp4"),
        ("file:no/such/line.mp4", CaptureError, r"no/such/line\.mp4"),
        ("dir:no/such", CaptureError, "no/such"),
    ],
)
def test_what_is_not_understood_is_refused_without_repeating_a_password(
    spec: str, error: type[EdgeError], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        open_source(spec)

    assert "secret" not in str(caught.value)


def test_an_empty_folder_a_fifo_and_a_single_picture_are_refused(tmp_path: Path) -> None:
    picture = write_picture(tmp_path / "part.png", numbered_picture(1))
    empty = tmp_path / "empty"
    empty.mkdir()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    with pytest.raises(CaptureError, match="empty: expected pictures"):
        open_source(str(empty))
    with pytest.raises(CaptureError, match="fifo: expected a video file"):
        open_source(str(fifo))
    with pytest.raises(CaptureError, match=r"part\.png: .*give its folder"):
        open_source(str(picture))


def test_a_source_id_with_credentials_is_refused(tmp_path: Path) -> None:
    write_picture(tmp_path / "part.png", numbered_picture(1))

    with pytest.raises(ConfigError, match="source_id") as caught:
        open_source(str(tmp_path), source_id="rtsp://admin:secret@10.0.0.9")

    assert "secret" not in str(caught.value)


def test_a_frame_rate_out_of_range_is_refused(tmp_path: Path) -> None:
    write_picture(tmp_path / "part.png", numbered_picture(1))

    with pytest.raises(ConfigError, match="frames_per_second"):
        read_all(str(tmp_path), pace="realtime", frames_per_second=0.0)


def test_a_file_that_must_be_read_completely_is_not_put_into_a_child(tmp_path: Path) -> None:
    write_picture(tmp_path / "part.png", numbered_picture(1))

    with pytest.raises(ConfigError, match="isolate"):
        open_source(str(tmp_path), isolate=True)
