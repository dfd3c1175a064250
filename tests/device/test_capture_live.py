"""A source in a child process: fresh frames or an error in time, and nothing left behind."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from capture_media import (
    install_sources,
    number_of,
    numbered_picture,
    start_python,
    write_picture,
    write_video,
)

from edge_sdk.capture import open_source
from edge_sdk.capture.live import ChildProcessSource
from edge_sdk.capture.readers import build_reader
from edge_sdk.capture.spec import SourceSpec
from edge_sdk.config import load_config
from edge_sdk.config.source import is_camera_source, shown_source
from edge_sdk.errors import CaptureError, ConfigError, InputError
from edge_sdk.runtime.compose import open_camera


@pytest.fixture(scope="module", autouse=True)
def installed_sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Sources that misbehave, offered by another distribution."""
    folder = tmp_path_factory.mktemp("site-packages")
    install_sources(folder)
    sys.path.append(str(folder))
    yield
    sys.path.remove(str(folder))


@contextmanager
def child(
    kind: str, place: object = "", *, stale_seconds: float = 3.0, open_seconds: float = 10.0
) -> Iterator[ChildProcessSource]:
    source = ChildProcessSource(
        SourceSpec(kind=kind, place=str(place), source_id="station-1"),
        stale_seconds=stale_seconds,
        open_seconds=open_seconds,
    )
    try:
        yield source
    finally:
        source.close()


def test_a_device_file_may_name_a_source_of_another_package(tmp_path: Path) -> None:
    file = tmp_path / "box.yaml"
    file.write_text("cameras: [{name: cam1, source: 'steady:belt 7'}]\n")
    (camera,) = load_config(file).cameras
    assert camera.source == "steady:belt 7"
    assert is_camera_source(camera.source)
    assert shown_source(camera.source) == "steady", "what it is told may hold a password"
    with closing(open_camera(camera)) as source:
        assert next(iter(source.frames())).pixels.ndim == 3
    file.write_text("cameras: [{name: cam1, source: 'unsteady:7'}]\n")
    with pytest.raises(ConfigError, match="source: expected a camera"):
        load_config(file)


def pid_of(source: ChildProcessSource) -> int:
    assert source.child_pid is not None
    return source.child_pid


def is_running(pid: int) -> bool:
    """Whether a process exists and is more than a zombie that its adoptive parent forgot."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except FileNotFoundError:
        return False


def has_ended_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not is_running(pid)


def test_a_realtime_video_comes_through_the_child_in_order_and_to_its_end(tmp_path: Path) -> None:
    path = write_video(tmp_path / "line.mp4", frames=60, frames_per_second=50, codec="mp4v")
    source = open_source(f"file:{path}", pace="realtime", isolate=True)

    ids, ages = [], []
    for frame in source.frames():
        assert number_of(frame.pixels) == frame.frame_id
        assert frame.source_id == "line"
        ids.append(frame.frame_id)
        ages.append((time.monotonic_ns() - frame.monotonic_ns) / 1e9)

    assert ids == sorted(set(ids))
    assert ids[-1] == 59
    assert len(ids) + source.dropped == 60
    assert sorted(ages)[len(ages) // 2] < 0.1
    source.close()


def test_a_slow_reader_gets_the_newest_frame_and_a_count_of_the_rest(tmp_path: Path) -> None:
    path = write_video(tmp_path / "line.avi", frames=80, frames_per_second=50)
    source = open_source(str(path), pace="realtime", isolate=True)

    ids = []
    for frame in source.frames():
        assert number_of(frame.pixels) == frame.frame_id
        assert time.monotonic_ns() - frame.monotonic_ns < 500_000_000
        ids.append(frame.frame_id)
        time.sleep(0.25)  # the slow reader is the subject here

    assert ids[-1] == 79
    assert len(ids) < 12
    assert len(ids) + source.dropped == 80


def test_pictures_of_changing_size_come_through_whole(tmp_path: Path) -> None:
    for number in range(6):
        picture = numbered_picture(number)
        write_picture(tmp_path / f"{number}.png", picture if number % 2 else picture[:40])
    source = open_source(str(tmp_path), pace="realtime", frames_per_second=10, isolate=True)

    sizes = {frame.size for frame in source.frames() if number_of(frame.pixels) == frame.frame_id}

    assert sizes == {(40, 192), (64, 192)}


def test_an_error_in_the_child_arrives_at_once_with_its_message(tmp_path: Path) -> None:
    with child("file", tmp_path / "gone.mp4") as source:
        started = time.monotonic()
        with pytest.raises(CaptureError, match=r"gone\.mp4: expected a video file"):
            next(source.frames())

        assert time.monotonic() - started < 5, "an interpreter's start, not a time limit"


def test_a_broken_picture_keeps_its_kind_of_error_through_the_child(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"not a picture")
    source = open_source(str(tmp_path), pace="realtime", isolate=True)

    with pytest.raises(InputError, match=r"a\.png"):
        next(source.frames())


def test_an_unplugged_camera_is_reported_after_its_last_frame() -> None:
    with child("unplugged") as source:
        frame_ids: list[int] = []
        with pytest.raises(CaptureError, match="unplugged"):
            frame_ids.extend(frame.frame_id for frame in source.frames())

        assert frame_ids[-1] == 2
        assert source.child_pid is None


def test_a_defect_in_a_source_is_an_error_and_its_traceback_is_shown(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with child("defective") as source, pytest.raises(CaptureError, match="exit code 1"):
        list(source.frames())

    out, err = capfd.readouterr()
    assert "ZeroDivisionError" in err
    assert out == ""


def test_a_stopped_child_is_given_up_when_its_last_frame_is_stale() -> None:
    with child("steady", stale_seconds=1.0) as source:
        frames = source.frames()
        next(frames)
        pid = pid_of(source)
        started = time.monotonic()
        os.kill(pid, signal.SIGSTOP)

        with pytest.raises(
            CaptureError, match=r"station-1: no new frame for 1\.\d s \(limit 1 s\)"
        ):
            list(frames)

        assert time.monotonic() - started < 2.0
        assert not is_running(pid)


def test_a_wall_clock_that_is_set_neither_blinds_a_camera_nor_hides_that_it_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wall_clock, ahead = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: wall_clock() + ahead[0])
    with child("steady", stale_seconds=1.0) as source:
        frames = source.frames()
        for hours in (0, 1, 24, 0, -24):
            ahead[0] = 3600.0 * hours
            for _ in range(3):
                next(frames)
        started = time.monotonic()
        os.kill(pid_of(source), signal.SIGSTOP)
        ahead[0] -= 3600.0

        with pytest.raises(CaptureError, match=r"no new frame for 1\.\d s"):
            list(frames)

        assert time.monotonic() - started < 2.0


def test_pictures_from_long_ago_are_not_taken_for_fresh_ones() -> None:
    with child("old-pictures") as source, pytest.raises(CaptureError, match="no new frame"):
        next(source.frames())


def test_a_camera_that_never_gives_a_first_frame_is_given_up() -> None:
    with child("hanging", 0, open_seconds=1.5) as source:
        started = time.monotonic()
        with pytest.raises(CaptureError, match=r"limit 1\.5 s"):
            next(source.frames())

        assert time.monotonic() - started < 2.5


@pytest.mark.slow
def test_a_camera_that_hangs_while_it_opens_is_killed_after_eight_seconds() -> None:
    with closing(
        ChildProcessSource(SourceSpec(kind="hanging", place="0", source_id="station-1"))
    ) as source:
        pids: list[int] = []
        watcher = threading.Timer(4.0, lambda: pids.append(pid_of(source)))
        watcher.start()
        with pytest.raises(CaptureError, match=r"no new frame for 8\.\d s \(limit 8 s\)"):
            next(source.frames())
        assert not is_running(pids[0])


def test_a_killed_child_is_an_error_within_a_second_and_can_be_replaced() -> None:
    with child("steady") as source:
        frames = source.frames()
        first = next(frames)
        first_pid = pid_of(source)
        started = time.monotonic()
        os.kill(first_pid, signal.SIGKILL)

        with pytest.raises(CaptureError, match=r"station-1: .*SIGKILL"):
            list(frames)

        assert time.monotonic() - started < 1.0
        again = next(source.frames())
        assert again.frame_id > first.frame_id, "numbers go on after a restart"
        assert number_of(again.pixels) == 0


def test_closing_a_camera_that_hangs_takes_less_than_two_seconds_and_leaves_nothing() -> None:
    files_before = set(Path("/proc/self/fd").iterdir())
    with child("hanging", 1) as source:
        frames = source.frames()
        frame = next(frames)
        pid = pid_of(source)
        reader = threading.Thread(target=list, args=(frames,))
        reader.start()

        started = time.monotonic()
        source.close()

        assert time.monotonic() - started < 2.0
        with pytest.raises(ProcessLookupError):  # neither running nor a zombie
            os.kill(pid, 0)
        reader.join(2)
        assert not reader.is_alive(), "the iteration ends with the source"
        source.close()
        with pytest.raises(CaptureError, match="closed"):
            next(source.frames())
    assert number_of(frame.pixels) == 0
    del frame
    assert set(Path("/proc/self/fd").iterdir()) == files_before


def test_a_healthy_camera_is_released_before_its_child_ends(tmp_path: Path) -> None:
    with child("steady", tmp_path / "released") as source:
        frames = source.frames()
        next(frames)
        pid = pid_of(source)

    assert (tmp_path / "released").exists()
    assert not is_running(pid)
    assert list(frames) == []


def test_an_iteration_that_is_given_up_ends_its_child() -> None:
    with child("steady") as source:
        for _ in source.frames():
            pid = pid_of(source)
            break

        assert has_ended_within(pid, 2)


def test_signals_for_the_whole_service_leave_the_child_to_its_parent() -> None:
    with child("steady") as source:
        frames = source.frames()
        next(frames)
        pid = pid_of(source)

        assert os.getpgid(pid) != os.getpgid(0), "Ctrl-C at the terminal does not reach it"
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)

        after_ns = time.monotonic_ns() + 200_000_000
        while next(frames).monotonic_ns < after_ns:
            pass
        assert pid_of(source) == pid


def test_the_child_does_not_end_with_the_thread_that_started_it() -> None:
    with child("steady") as source:
        frames = source.frames()
        opener = threading.Thread(target=next, args=(frames,))
        opener.start()
        opener.join()
        after_ns = time.monotonic_ns() + 300_000_000

        while next(frames).monotonic_ns < after_ns:
            pass


# Without a main guard, as people write scripts.
PARENT = """
import sys
from edge_sdk.capture import open_source
source = open_source("steady:", source_id="station-1")
frames = source.frames()
next(frames)
print(source.child_pid, flush=True)
if sys.argv[1] == "return":
    sys.exit()
for frame in frames:
    pass
"""


@pytest.mark.parametrize("is_stopped", [False, True])
def test_a_killed_parent_takes_its_child_with_it(is_stopped: bool) -> None:
    with start_python(PARENT, "run") as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        if is_stopped:
            os.kill(pid, signal.SIGSTOP)
        parent.kill()
        parent.communicate(timeout=10)  # the child holds the pipes, too

    assert has_ended_within(pid, 3)


def test_a_parent_that_forgets_to_close_takes_its_child_with_it() -> None:
    with start_python(PARENT, "return") as parent:
        said, complained = parent.communicate(timeout=30)

    assert parent.returncode == 0
    assert complained == ""
    assert has_ended_within(int(said), 3)


def test_a_source_of_another_package_is_read_in_a_child_and_named_after_its_kind(
    tmp_path: Path,
) -> None:
    source = open_source(f"unplugged:{tmp_path}/admin:secret@10.0.0.9")

    frame = next(source.frames())

    assert isinstance(source, ChildProcessSource)
    assert frame.source_id == "unplugged", "what it is told may hold a password"
    source.close()


def test_a_source_of_another_package_that_cannot_load_is_an_error_with_its_name() -> None:
    with child("not-there") as source, pytest.raises(ConfigError, match="capture_media:NotThere"):
        next(source.frames())


def test_a_source_that_two_packages_offer_is_refused(tmp_path: Path) -> None:
    install_sources(tmp_path)
    second = (tmp_path / "edge_test_sources-1.0.dist-info").rename(tmp_path / "other-1.0.dist-info")
    (second / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    sys.path.append(str(tmp_path))
    try:
        with pytest.raises(ConfigError, match="steady: is offered by several packages"):
            build_reader(SourceSpec(kind="steady", place="", source_id="station-1"))
    finally:
        sys.path.remove(str(tmp_path))


def test_a_source_that_no_package_offers_is_refused() -> None:
    with child("nobody") as source, pytest.raises(ConfigError, match="nobody: is not offered"):
        next(source.frames())


def test_a_child_finds_modules_in_folders_of_any_name(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9 \xf0\x9f\x93\xb7")
    folder.mkdir()
    write_picture(tmp_path / "0.png", numbered_picture(5)).rename(folder / "0.png")
    sys.path.append(folder)  # type: ignore[arg-type]  # a Path, as some scripts append
    try:
        source = open_source(f"dir:{folder}", pace="realtime", isolate=True)
        assert number_of(next(source.frames()).pixels) == 5
        source.close()
    finally:
        sys.path.remove(folder)  # type: ignore[arg-type]  # the same
