"""The mailbox between two processes: newest wins, nothing torn, nobody blocks the other."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from capture_media import frame_now, number_of, numbered_picture

from edge_sdk import errors
from edge_sdk.capture.error_text import decode_error, encode_error
from edge_sdk.capture.mailbox import Ending, MailboxReader, MailboxWriter, open_mailbox
from edge_sdk.errors import BusyError, CaptureError, EdgeError
from edge_sdk.records import Frame, UInt8Array

# Writes frames of two sizes as fast as it can; the first four bytes are the checksum of the rest.
STRESS_WRITER = """
import socket, sys, zlib
import numpy as np
from capture_media import frame_now
from edge_sdk.capture.mailbox import MailboxWriter
sender, receiver, count = map(int, sys.argv[1:])
writer = MailboxWriter(socket.socket(fileno=sender), socket.socket(fileno=receiver))
noise = np.random.default_rng(7).integers(0, 256, (480, 640, 3), np.uint8)
for frame_id in range(count):
    pixels = np.roll(noise if frame_id % 3 else noise[:240, :320], frame_id, axis=0)
    flat = pixels.reshape(-1)
    flat[:4] = np.frombuffer(zlib.crc32(flat[4:]).to_bytes(4, "little"), np.uint8)
    writer.write(frame_now(pixels, frame_id))
writer.finish(None)
writer.close()
"""


@contextmanager
def stress_writer(writer: MailboxWriter, frames: int) -> Iterator[subprocess.Popen[bytes]]:
    """A writer in another process; this one's own end is closed, so that its death shows."""
    with subprocess.Popen(
        [sys.executable, "-c", STRESS_WRITER, *map(str, writer.filenos()), str(frames)],
        pass_fds=writer.filenos(),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        writer.close()
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def mailbox() -> Iterator[tuple[MailboxReader, MailboxWriter]]:
    reader, writer = open_mailbox(source_id="test")
    try:
        yield reader, writer
    finally:
        writer.close()
        reader.close()


def is_whole(pixels: UInt8Array) -> bool:
    flat = pixels.reshape(-1)
    return zlib.crc32(flat[4:].data) == int.from_bytes(flat[:4].tobytes(), "little")


def take_frame(reader: MailboxReader, timeout_seconds: float = 10.0) -> Frame:
    found = reader.take(timeout_seconds)
    assert isinstance(found, Frame)
    return found


def test_a_frame_arrives_as_it_was_written() -> None:
    with mailbox() as (reader, writer):
        sent = frame_now(numbered_picture(9), 4)
        writer.write(sent, source_dropped=2)

        got = take_frame(reader)

        assert np.array_equal(got.pixels, sent.pixels)
        assert not got.pixels.flags.writeable
        assert (got.frame_id, got.monotonic_ns) == (4, sent.monotonic_ns)
        assert got.captured_at == sent.captured_at
        assert reader.dropped == 2
        assert reader.take(0) is None, "each frame is given once"


def test_mono_and_sliced_frames_of_changing_size_arrive_whole() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (90, 120, 3), np.uint8)
    with mailbox() as (reader, writer):
        for sent in (noise[:, :, :1], noise[::2, ::-3], noise, noise[5:6, 7:8]):
            writer.write(frame_now(numbered_picture(0), 0))  # to be taken back
            writer.write(frame_now(sent.copy(order="F"), 1))

            assert np.array_equal(take_frame(reader).pixels, sent)


def test_the_newest_frame_wins_and_the_writer_never_waits() -> None:
    with mailbox() as (reader, writer):
        files_before = len(list(Path("/proc/self/fd").iterdir()))
        started = time.monotonic()
        for number in range(500):
            writer.write(frame_now(numbered_picture(number), number))

        assert time.monotonic() - started < 5
        assert len(list(Path("/proc/self/fd").iterdir())) <= files_before + 3
        assert number_of(take_frame(reader).pixels) == 499
        assert reader.dropped == 499
        assert writer.dropped == 499


def test_a_waiting_reader_is_woken_by_a_frame() -> None:
    with mailbox() as (reader, writer):
        frame = frame_now(numbered_picture(1), 1)
        timer = threading.Timer(0.2, writer.write, [frame])
        timer.start()
        started = time.monotonic()

        assert take_frame(reader, 10).frame_id == 1
        assert time.monotonic() - started < 2
        timer.join()


def test_an_empty_mailbox_returns_nothing_when_the_time_is_over() -> None:
    with mailbox() as (reader, _):
        started = time.monotonic()

        assert reader.take(0.2) is None
        assert 0.19 < time.monotonic() - started < 2


@pytest.mark.parametrize("error", [None, CaptureError("unplugged: 日本"), BusyError("in use")])
def test_the_last_frame_comes_before_the_ending_and_its_reason(error: EdgeError | None) -> None:
    with mailbox() as (reader, writer):
        writer.write(frame_now(numbered_picture(3), 3))
        writer.finish(error)
        writer.close()

        assert take_frame(reader).frame_id == 3
        ending = reader.take(1)
        assert isinstance(ending, Ending)
        assert ending.is_announced
        assert type(ending.error) is type(error)
        assert str(ending.error) == str(error)
        assert reader.take(1) == Ending(is_announced=False)


def test_an_error_of_a_third_party_arrives_as_the_nearest_of_ours() -> None:
    class LensCapError(CaptureError):
        """Not known to the reader."""

    with mailbox() as (reader, writer):
        writer.finish(LensCapError("the lens cap is on"))

        ending = reader.take(1)

        assert isinstance(ending, Ending)
        assert type(ending.error) is CaptureError
        assert str(ending.error) == "the lens cap is on"


def test_every_error_of_ours_keeps_its_class_on_the_way() -> None:
    ours = [kind for kind in vars(errors).values() if isinstance(kind, type)]

    assert all(issubclass(kind, EdgeError) for kind in ours)
    assert [type(decode_error(encode_error(kind("x")))) for kind in ours] == ours


def test_an_error_with_a_long_message_arrives_cut() -> None:
    with mailbox() as (reader, writer):
        writer.finish(CaptureError("\N{CAMERA}" * 20_000))

        ending = reader.take(1)

        assert isinstance(ending, Ending)
        assert set(str(ending.error)) == {"\N{CAMERA}"}


@pytest.mark.parametrize("text", [b"", b"\xff", b"[]", b'{"error": "OSError", "message": "x"}'])
def test_what_is_no_error_of_ours_is_refused(text: bytes) -> None:
    with pytest.raises(CaptureError, match="expected an error as JSON"):
        decode_error(text)


def test_a_writer_learns_that_the_reader_is_closed() -> None:
    with mailbox() as (reader, writer):
        writer.write(frame_now(numbered_picture(0), 0))
        reader.shut()

        with pytest.raises(BrokenPipeError):
            writer.write(frame_now(numbered_picture(1), 1))


def test_frames_outlive_the_mailbox_they_came_through() -> None:
    with mailbox() as (reader, writer):
        writer.write(frame_now(numbered_picture(77), 0))
        frame = take_frame(reader)

    assert number_of(frame.pixels) == 77


def test_no_frame_is_ever_torn_while_two_processes_race() -> None:
    reader, writer = open_mailbox(source_id="test")
    pause = random.Random(3)
    kept: deque[Frame] = deque(maxlen=5)
    frame_ids: list[int] = []
    with stress_writer(writer, 3000):
        while isinstance(found := reader.take(20), Frame):
            assert is_whole(found.pixels)
            frame_ids.append(found.frame_id)
            kept.append(found)
            assert is_whole(kept[0].pixels), "memory was written to after it was handed over"
            if pause.random() < 0.3:
                time.sleep(pause.random() * 0.003)  # readers are not in step with cameras

    assert found == Ending(is_announced=True)
    assert frame_ids == sorted(set(frame_ids))
    assert frame_ids[-1] == 2999
    assert len(frame_ids) + reader.dropped == 3000
    assert len(frame_ids) > 100
    assert reader.dropped > 100
    reader.close()


def test_a_writer_killed_at_any_moment_leaves_whole_frames_and_an_ending() -> None:
    pause = random.Random(5)
    for _ in range(4):
        reader, writer = open_mailbox(source_id="test")
        with stress_writer(writer, 10**9) as process:
            assert is_whole(take_frame(reader).pixels)
            time.sleep(pause.random() * 0.02)
            process.send_signal(signal.SIGKILL)
            while isinstance(found := reader.take(5), Frame):
                assert is_whole(found.pixels)

        assert found == Ending(is_announced=False)
        reader.close()


def test_a_stopped_writer_blocks_nobody_and_goes_on_later() -> None:
    reader, writer = open_mailbox(source_id="test")
    with stress_writer(writer, 10**9) as process:
        take_frame(reader)
        process.send_signal(signal.SIGSTOP)
        while reader.take(0.3) is not None:
            pass
        process.send_signal(signal.SIGCONT)

        assert is_whole(take_frame(reader).pixels)
    reader.close()
