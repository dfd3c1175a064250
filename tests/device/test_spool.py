"""The queue on the disk: durable, bounded, never the same number twice, and honest about loss."""

from __future__ import annotations

import hashlib
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from alerts import CAMERA, DEVICE, make_draft, open_spool

from edge_sdk import ConfigError, InputError, Message, Severity, SpoolError
from edge_sdk.alerting.room import Room
from edge_sdk.alerting.spool import Spool

ROOT = Path(__file__).resolve().parents[2]
INFO, WARN, CRITICAL = Severity.INFO, Severity.WARN, Severity.CRITICAL


@contextmanager
def spool_in(directory: Path, **limits: int) -> Iterator[Spool]:
    spool = open_spool(directory, **limits)
    try:
        yield spool
    finally:
        spool.close()


def seqs(messages: list[Message]) -> list[int]:
    return [message.seq for message in messages]


def severities(messages: list[Message]) -> list[Severity]:
    return [message.severity for message in messages if message.event is None]


def database(directory: Path) -> Path:
    return directory / "spool" / "spool.db"


def test_what_was_appended_is_peeked_in_order_until_it_is_acknowledged(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        appended = [spool.append(make_draft(severity)) for severity in (CRITICAL, INFO, WARN)]

        assert seqs(appended) == [1, 2, 3]
        assert spool.peek(10) == appended
        assert spool.peek(2) == appended[:2]
        assert spool.peek(10, after=1) == appended[1:]
        spool.acknowledge([2])
        spool.acknowledge([2, 99])
        assert seqs(spool.peek(10)) == [1, 3]
        counts = spool.statistics()
        assert (counts.rows, counts.appended, counts.acknowledged) == (2, 3, 1)


def test_an_unacknowledged_message_is_there_after_a_restart_exactly_as_it_was(
    tmp_path: Path,
) -> None:
    with spool_in(tmp_path) as spool:
        first = spool.append(make_draft(detail="a\nb ü", latency_ms={"score": 0.1 + 0.2}))
        second = spool.append(make_draft())
        spool.acknowledge([first.seq])

    with spool_in(tmp_path) as spool:
        assert spool.peek(10) == [second]
        assert spool.append(make_draft()).seq == 3
        assert spool.statistics().appended == 3


def test_a_killed_process_loses_nothing_that_append_had_returned(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib, alerts\n"
        "spool = alerts.open_spool(pathlib.Path(sys.argv[1]))\n"
        "while True: print(spool.append(alerts.make_draft()).message_id, flush=True)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    )
    with child:
        assert child.stdout is not None
        returned = [child.stdout.readline().strip() for _ in range(40)]
        child.kill()
        returned += child.stdout.read().split()

    with spool_in(tmp_path) as spool:
        stored = [message.message_id for message in spool.peek(100_000)]
        assert stored[: len(returned)] == returned
        assert len(stored) <= len(returned) + 1, "at most the one that was being stored"


def test_a_commit_waits_for_the_disk(tmp_path: Path) -> None:
    # Only a power cut could show the difference, so the setting itself is looked at.
    with spool_in(tmp_path) as spool, spool._storage.transaction() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_two_threads_append_and_acknowledge_without_losing_or_doubling(tmp_path: Path) -> None:
    forwarded: list[int] = []
    with spool_in(tmp_path) as spool:
        is_done = threading.Event()

        def forward() -> None:
            while messages := spool.peek(20) or not is_done.is_set():
                if isinstance(messages, list):
                    spool.acknowledge(seqs(messages))
                    forwarded.extend(seqs(messages))

        thread = threading.Thread(target=forward)
        thread.start()
        for _ in range(200):
            spool.append(make_draft())
        is_done.set()
        thread.join(30)

        assert forwarded == list(range(1, 201))
        assert spool.statistics().rows == 0


def test_a_second_process_is_turned_away_and_the_first_is_not_disturbed(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib, alerts\n"
        "from edge_sdk import BusyError\n"
        "try: alerts.open_spool(pathlib.Path(sys.argv[1]))\n"
        "except BusyError as error: print(error); sys.exit(error.exit_code)\n"
    )
    with spool_in(tmp_path) as spool:
        spool.append(make_draft())
        second = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
            env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        )

        assert second.returncode == 75, second.stderr
        assert str(tmp_path) in second.stdout
        assert spool.append(make_draft()).seq == 2
    with spool_in(tmp_path) as spool:
        assert seqs(spool.peek(9)) == [1, 2]


@pytest.mark.parametrize("is_clean", [True, False], ids=["stopped cleanly", "killed"])
def test_seq_does_not_repeat_after_the_database_was_deleted(tmp_path: Path, is_clean: bool) -> None:
    spool = open_spool(tmp_path)
    last = [spool.append(make_draft()) for _ in range(5)][-1].seq
    mark = (tmp_path / "spool" / "spool.seq").read_text()
    spool.close()
    if not is_clean:
        (tmp_path / "spool" / "spool.seq").write_text(mark)  # as it was when the power went
    database(tmp_path).unlink()

    with spool_in(tmp_path) as again:
        (reset,) = again.peek(10)
        assert reset.event == "spool_reset"
        assert reset.data is not None
        assert reset.data["reason"] == "missing"
        assert reset.data["from_seq"] == 1
        assert reset.data["to_seq"] >= last, "the numbers that are lost are covered"
        assert reset.seq == reset.data["to_seq"] + 1
        assert again.append(make_draft()).seq > reset.seq


def test_seq_does_not_repeat_when_an_older_copy_of_the_database_comes_back(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        spool.append(make_draft())
    older = database(tmp_path).read_bytes()
    with spool_in(tmp_path) as spool:
        last = [spool.append(make_draft()) for _ in range(5)][-1].seq
    database(tmp_path).write_bytes(older)

    with spool_in(tmp_path) as spool:
        first, gap = spool.peek(10)
        assert first.seq == 1
        assert gap.event == "gap"
        assert gap.data is not None
        assert (gap.data["from_seq"], gap.data["to_seq"]) == (2, last)
        assert gap.seq == last + 1


def test_the_mark_costs_one_write_in_a_thousand_messages(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        mark = tmp_path / "spool" / "spool.seq"
        spool.append(make_draft())
        before = mark.stat().st_ino
        for _ in range(50):
            spool.append(make_draft())
        assert mark.stat().st_ino == before, "a durable write replaces the file"
        assert int(mark.read_text().split()[1]) >= 51


def test_seq_does_not_repeat_when_the_mark_is_garbled(tmp_path: Path) -> None:
    mark = tmp_path / "spool" / "spool.seq"
    with spool_in(tmp_path) as spool:
        spool.append(make_draft())
    mark.write_text("many")
    with spool_in(tmp_path) as spool:
        assert spool.append(make_draft()).seq == 2, "the database is sound, and knows"
    assert mark.read_text() == "2 2\n"

    mark.write_text("many")
    database(tmp_path).unlink()
    with spool_in(tmp_path) as spool:
        assert spool.append(make_draft()).seq > 1_000_000_000


def test_when_full_the_oldest_of_the_lowest_severity_goes_and_one_event_tells(
    tmp_path: Path,
) -> None:
    drafts = [make_draft(severity) for severity in [WARN, INFO, CRITICAL, INFO, WARN, INFO] * 5]
    with spool_in(tmp_path, max_rows=12) as spool:
        for draft in drafts:
            spool.append(draft)

        counts = spool.statistics()
        assert counts.rows == 12
        assert counts.dropped == {"info": 15, "warn": 3, "critical": 0, "pictures": 0}
        waiting = spool.peek(100)
        assert sorted(severities(waiting)) == [CRITICAL] * 5 + [WARN] * 7
        (gap,) = [message for message in waiting if message.event is not None]
        assert gap == spool.peek_gaps()[0]
        assert gap.event == "gap"
        assert gap.device == DEVICE
        assert gap.data == {
            "from_seq": 1,
            "to_seq": 30,
            "reason": "spool_full",
            "by_severity": {"info": 15, "warn": 3, "critical": 0},
            "pictures": 0,
        }
        lost = set(range(1, 31)) - set(seqs(waiting))
        assert min(lost) == 1
        assert max(lost) == 30
        assert len(lost) == 18


def test_a_critical_message_is_dropped_only_where_nothing_less_is_left(tmp_path: Path) -> None:
    with spool_in(tmp_path, max_rows=4) as spool:
        for _ in range(4):
            spool.append(make_draft(CRITICAL))
        lesser = spool.append(make_draft(WARN))
        assert spool.statistics().dropped["warn"] == 1, "it was the least of all, though the newest"
        assert lesser.seq not in seqs(spool.peek(10))

        newest = spool.append(make_draft(CRITICAL))
        assert spool.statistics().dropped["critical"] == 1
        assert 1 not in seqs(spool.peek(10))
        assert newest.seq in seqs(spool.peek(10))


def test_a_gap_is_itself_spooled_and_the_next_is_told_after_it_was_acknowledged(
    tmp_path: Path,
) -> None:
    with spool_in(tmp_path, max_rows=3) as spool:
        for _ in range(5):
            spool.append(make_draft(INFO))
        (gap,) = spool.peek_gaps()
    with spool_in(tmp_path, max_rows=3) as spool:
        assert spool.peek_gaps() == [gap]
        for _ in range(5):
            spool.append(make_draft(INFO))
        assert spool.peek_gaps() == [gap], "one at a time, and never dropped"
        spool.acknowledge([gap.seq])
        (later,) = spool.peek_gaps()
        assert later.data is not None
        assert later.data["by_severity"]["info"] >= 5
        counts = spool.statistics()
        assert counts.appended == counts.acknowledged + counts.rows + sum(counts.dropped.values())


def test_acknowledged_messages_go_before_pictures_and_pictures_before_messages(
    tmp_path: Path,
) -> None:
    picture = b"j" * 30_000
    with spool_in(tmp_path, max_bytes=45_000) as spool:
        done = [spool.append(make_draft()) for _ in range(22)]
        spool.acknowledge(seqs(done))
        spool.append(make_draft(INFO), picture)
        kept = kept_rows(tmp_path)
        assert 0 < kept < 22, "some of the acknowledged ones had to go"
        assert spool.statistics().dropped["pictures"] == 0

        spool.append(make_draft(INFO), picture)
        assert kept_rows(tmp_path) == 0
        assert spool.statistics().dropped["pictures"] == 1
        assert [stored.seq for stored in spool.peek_pictures(9)] == [24], "the older one went"
        assert seqs(spool.peek(9)) == [23, 24, 25], "the third tells of the picture"

        for _ in range(80):
            spool.append(make_draft(INFO))
        counts = spool.statistics()
        assert counts.pictures == 0
        assert counts.dropped["pictures"] == 2
        assert 0 < counts.dropped["info"] < 40
        assert counts.bytes <= 45_000


def test_on_a_disk_with_little_room_it_grows_no_more_and_drops_as_if_it_were_full(
    tmp_path: Path,
) -> None:
    free = [100_000_000]
    room = Room(tmp_path, lambda _: (free[0], 1_000_000_000))
    spool = open_spool(tmp_path, room=room)
    for _ in range(10):
        spool.append(make_draft(), b"j" * 1_000_000)
    held = spool.statistics().bytes
    assert not spool.has_little_room

    free[0] = 40_000_000
    for _ in range(5):
        spool.append(make_draft(CRITICAL), b"j" * 1_000_000)
    counts = spool.statistics()
    assert spool.has_little_room
    assert counts.bytes <= held
    assert counts.dropped == {"info": 0, "warn": 0, "critical": 0, "pictures": 6}
    assert counts.rows == 15, "every message"
    assert [gap.data["pictures"] for gap in spool.peek_gaps() if gap.data is not None] == [6]

    free[0] = 55_000_000
    assert spool.has_little_room, "as soon as there is a byte more it would be over and over again"
    free[0] = 70_000_000
    assert not spool.has_little_room
    for _ in range(5):
        spool.append(make_draft(), b"j" * 1_000_000)
    assert spool.statistics().bytes > held
    spool.close()


def test_a_spool_that_is_nearly_empty_takes_messages_however_little_room_there_is(
    tmp_path: Path,
) -> None:
    spool = open_spool(tmp_path, room=Room(tmp_path, lambda _: (0, 1_000_000_000)))
    for _ in range(50):
        spool.append(make_draft(), b"j" * 10_000)
    assert spool.statistics().rows == 50
    assert spool.statistics().pictures == 50
    spool.close()


def test_a_picture_that_was_dropped_is_told_in_a_gap_though_its_message_was_not(
    tmp_path: Path,
) -> None:
    with spool_in(tmp_path, max_bytes=45_000) as spool:
        first = spool.append(make_draft(), b"j" * 30_000)
        second = spool.append(make_draft(), b"j" * 30_000)
        (gap,) = spool.peek_gaps()
        assert gap.data == {
            "from_seq": first.seq,
            "to_seq": first.seq,
            "reason": "spool_full",
            "by_severity": {"info": 0, "warn": 0, "critical": 0},
            "pictures": 1,
        }
        spool.acknowledge([gap.seq])
        spool.drop_picture(second.seq)  # the broker took none so large
        (later,) = spool.peek_gaps()
        assert later.data is not None
        assert (later.data["reason"], later.data["pictures"]) == ("refused", 1)
        assert seqs(spool.peek(9))[:2] == [first.seq, second.seq]


def test_a_spool_of_the_version_before_is_taken_over_with_what_waits_in_it(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        waiting = spool.append(make_draft())
    with closing(sqlite3.connect(database(tmp_path))) as connection:
        connection.executescript(
            "ALTER TABLE totals DROP COLUMN gap_pictures; PRAGMA user_version = 2;"
        )
    with spool_in(tmp_path, max_bytes=45_000) as spool:
        assert spool.peek(9) == [waiting]
        for _ in range(2):
            spool.append(make_draft(), b"j" * 30_000)
        (gap,) = spool.peek_gaps()
        assert gap.data is not None
        assert gap.data["pictures"] == 1


def kept_rows(directory: Path) -> int:
    with closing(sqlite3.connect(database(directory))) as connection:
        query = "SELECT count(*) FROM messages WHERE acked_at IS NOT NULL"
        return int(connection.execute(query).fetchone()[0])


def test_acknowledged_messages_are_kept_up_to_their_limits(tmp_path: Path) -> None:
    with spool_in(tmp_path, keep_acknowledged_bytes=5000) as spool:
        size = len(str(spool.append(make_draft())))
        for _ in range(30):
            spool.append(make_draft())
        spool.acknowledge(range(1, 32))
        assert 0 < kept_rows(tmp_path) <= 5000 / (size / 3)
    with spool_in(tmp_path, keep_acknowledged_seconds=-1) as spool:
        spool.append(make_draft())
        spool.acknowledge([32])
        assert kept_rows(tmp_path) == 0


def test_a_picture_waits_with_its_message_and_carries_its_digest(tmp_path: Path) -> None:
    jpeg = b"\xff\xd8 picture"
    with spool_in(tmp_path) as spool:
        message = spool.append(make_draft(), jpeg)
        plain = spool.append(make_draft())
        assert message.picture_sha256 == hashlib.sha256(jpeg).hexdigest()
        assert plain.picture_sha256 is None
    with spool_in(tmp_path) as spool:
        (stored,) = spool.peek_pictures(9)
        assert (stored.seq, stored.camera, stored.jpeg) == (1, CAMERA, jpeg)
        assert stored.message_id == message.message_id
        spool.acknowledge_picture(1)
        assert spool.peek_pictures(9) == []
        assert spool.statistics().dropped["pictures"] == 0


def test_a_draft_that_cannot_be_encoded_leaves_no_trace(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        with pytest.raises(InputError):
            spool.append(make_draft(score=float("nan")))
        with pytest.raises(InputError):
            spool.append(make_draft(camera=None), b"jpeg")

        assert spool.statistics().appended == 0
        assert spool.append(make_draft()).seq == 1


def damage_header(path: Path) -> None:
    path.write_bytes(b"not a database" + path.read_bytes()[14:])


def damage_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    page = 4096
    for start in range(8 * page, 12 * page, page):
        content[start : start + page] = random.Random(start).randbytes(page)
    path.write_bytes(content)


def damage_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("damage", "least_salvaged"),
    [(damage_header, 0), (damage_middle, 30), (damage_end, 0)],
)
def test_a_broken_database_is_set_aside_and_what_is_readable_is_kept(
    tmp_path: Path, damage: Callable[[Path], None], least_salvaged: int
) -> None:
    with spool_in(tmp_path) as spool:
        messages = [spool.append(make_draft()) for _ in range(100)]
    damage(database(tmp_path))

    with spool_in(tmp_path) as spool:
        waiting = spool.peek(1000)
        reset = waiting[-1]
        assert reset.event == "spool_reset"
        assert reset.data is not None
        assert reset.data["reason"] == "corrupt"
        assert reset.data["quarantined"] == "spool.db.corrupt-1"
        assert reset.data["salvaged"] == len(waiting) - 1 >= least_salvaged
        assert all(messages[message.seq - 1] == message for message in waiting[:-1])
        assert reset.seq > 100, "no number is used again"
        assert spool.append(make_draft()).seq == reset.seq + 1
        assert (tmp_path / "spool" / "spool.db.corrupt-1").exists()
    with spool_in(tmp_path) as spool:
        assert len(spool.peek(1000)) == len(waiting) + 1, "the new database is sound"


def test_only_the_last_broken_databases_are_kept(tmp_path: Path) -> None:
    for _ in range(4):
        with spool_in(tmp_path) as spool:
            spool.append(make_draft())
        damage_header(database(tmp_path))
    open_spool(tmp_path).close()

    names = {path.name for path in database(tmp_path).parent.glob("*.corrupt-*")}
    assert names == {"spool.db.corrupt-3", "spool.db.corrupt-4"}


def test_a_row_that_was_garbled_becomes_a_gap_and_stops_no_others(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        for _ in range(3):
            spool.append(make_draft())
    with closing(sqlite3.connect(database(tmp_path))) as connection, connection:
        connection.execute("UPDATE messages SET payload = x'7b00' WHERE seq = 2")

    with spool_in(tmp_path) as spool:
        assert seqs(spool.peek(10)) == [1, 3]
        (gap,) = spool.peek_gaps()
        assert gap.data is not None
        assert (gap.data["from_seq"], gap.data["reason"]) == (2, "corrupt")


def test_a_full_disk_raises_and_what_was_stored_is_there_when_there_is_room_again(
    tmp_path: Path,
) -> None:
    program = """
import pathlib, resource, signal, sys, alerts
from edge_sdk import SpoolError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
spool = alerts.open_spool(pathlib.Path(sys.argv[1]))
stored = [spool.append(alerts.make_draft()).seq]
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, unlimited[1]))
failures = 0
while failures < 3:
    try:
        stored.append(spool.append(alerts.make_draft()).seq)
    except SpoolError:
        failures += 1
resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
stored.append(spool.append(alerts.make_draft()).seq)
assert [message.seq for message in spool.peek(10_000)] == stored, "returned is stored"
assert len(stored) > 10
"""
    child = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    )
    assert child.returncode == 0, child.stderr


def test_limits_that_hold_no_message_are_refused(tmp_path: Path) -> None:
    for limits in ({"max_rows": 1}, {"max_bytes": 8192}):
        with pytest.raises(ConfigError, match=next(iter(limits))):
            open_spool(tmp_path, **limits)


def test_a_closed_spool_says_so(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.close()
    spool.close()

    with pytest.raises(SpoolError, match="closed"):
        spool.append(make_draft())


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file in the way")

    with pytest.raises(SpoolError, match="spool"):
        open_spool(tmp_path)
