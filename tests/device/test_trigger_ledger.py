"""Which triggers were taken and which have their result: known after any end of the process."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from alerts import CAMERA, make_draft, open_spool
from runtime_fakes import PlayedSource, make_camera, make_rig

from edge_sdk.alerting import ledger
from edge_sdk.alerting.entries import Entry
from edge_sdk.alerting.ledger import TriggerNote
from edge_sdk.alerting.spool import Spool
from edge_sdk.errors import EdgeError, SpoolError
from edge_sdk.records import Message, MessageDraft, MessageKind, Severity
from edge_sdk.runtime.writer import MAX_PICTURE_BYTES, MAX_WAITING, SpoolWriter


def note(number: int, camera: str = CAMERA) -> TriggerNote:
    return TriggerNote(camera=camera, trigger_id=f"t-{number}", part_id=f"A-{number}")


def result(number: int) -> MessageDraft:
    return make_draft(
        Severity.INFO, kind=MessageKind.RESULT, part_id=f"A-{number}", trigger_id=f"t-{number}"
    )


def numbers(notes: Sequence[TriggerNote]) -> list[int]:
    return [int(note.trigger_id.removeprefix("t-")) for note in notes]


def test_a_trigger_is_unanswered_until_its_result_is_stored(tmp_path: Path) -> None:
    with closing(open_spool(tmp_path)) as spool:
        spool.store([Entry(trigger=note(number)) for number in range(3)])
        spool.store([Entry(draft=result(1))])
    with closing(open_spool(tmp_path)) as spool:
        every, unanswered = spool.triggers()
        assert numbers(every) == [0, 1, 2]
        assert numbers(unanswered) == [0, 2]
        spool.store([Entry(draft=result(0)), Entry(draft=result(2))])
        assert spool.triggers()[1] == []


def test_the_same_id_for_another_camera_is_another_trigger(tmp_path: Path) -> None:
    with closing(open_spool(tmp_path)) as spool:
        spool.store([Entry(trigger=note(1)), Entry(trigger=note(1, "cam2"))])
        spool.store([Entry(draft=result(1))])
        assert spool.triggers()[1] == [note(1, "cam2")]


def test_answered_triggers_are_forgotten_at_last_and_unanswered_ones_never(tmp_path: Path) -> None:
    count = ledger.REMEMBERED + 50
    with closing(open_spool(tmp_path, max_rows=100_000)) as spool:
        spool.store([Entry(trigger=note(number)) for number in range(count)])
        spool.store([Entry(draft=result(number)) for number in range(10, count)])
        every, unanswered = spool.triggers()
    assert numbers(unanswered) == list(range(10))
    assert numbers(every) == [*range(10), *range(50, count)]


def test_a_spool_from_before_there_were_ledgers_is_taken_over(tmp_path: Path) -> None:
    with closing(open_spool(tmp_path)) as spool:
        spool.append(make_draft())
    with closing(sqlite3.connect(tmp_path / "spool" / "spool.db")) as connection:
        connection.executescript(
            "DROP TABLE triggers; ALTER TABLE totals DROP COLUMN gap_pictures; "
            "PRAGMA user_version = 1;"
        )
    with closing(open_spool(tmp_path)) as spool:
        spool.store([Entry(trigger=note(1))])
        assert [message.seq for message in spool.peek(10)] == [1]
        assert numbers(spool.triggers()[1]) == [1]


def test_triggers_are_known_by_their_results_where_the_ledger_was_lost(tmp_path: Path) -> None:
    with closing(open_spool(tmp_path)) as spool:
        spool.store([Entry(trigger=note(1)), Entry(draft=result(1))])
    with closing(sqlite3.connect(tmp_path / "spool" / "spool.db")) as connection:
        connection.execute("DROP TABLE triggers")
        connection.commit()
    with closing(open_spool(tmp_path)) as spool:  # it finds itself damaged
        every, unanswered = spool.triggers()
    assert (numbers(every), unanswered) == ([1], [])


def test_nothing_of_a_batch_is_stored_where_one_cannot_be(tmp_path: Path) -> None:
    with closing(open_spool(tmp_path)) as spool:
        unnamed = make_draft(camera=None)
        with pytest.raises(EdgeError, match="expected a camera"):
            spool.store([Entry(trigger=note(1)), Entry(draft=unnamed, picture=b"jpeg")])
        assert spool.triggers() == ([], [])
        assert spool.append(make_draft()).seq == 1


def test_a_restart_answers_parts_that_have_no_result_and_knows_the_ids_of_the_others(
    tmp_path: Path,
) -> None:
    with make_rig(tmp_path, [(make_camera("cam1", mode="mqtt"), PlayedSource())]) as rig:
        rig.outbox.known = [note(1, "cam1"), note(2, "cam1"), note(3, "removed")]
        rig.outbox.unanswered = [note(2, "cam1"), note(3, "removed")]
        with rig.running():
            rig.outbox.wait_for_results(2)
            rig.outbox.trigger(part_id="A-1", trigger_id="t-1")
            rig.outbox.wait_for(lambda: bool(rig.outbox.of_kind("event")))

    answers = rig.outbox.of_kind("result")
    assert [(a["camera"], a["part_id"], a["trigger_id"]) for a in answers] == [
        ("cam1", "A-2", "t-2"),
        ("removed", "A-3", "t-3"),
    ]
    assert {(a["verdict"], a["reason"]) for a in answers} == {("fault", "interrupted")}
    (refusal,) = rig.outbox.of_kind("event")
    assert refusal["data"]["reason"] == "trigger_id was used before"


# --- the thread that waits for the disk ---


class Disk:
    """A spool on a disk that can stall and fail."""

    def __init__(self, spool: Spool) -> None:
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.error: EdgeError | None = None
        self.batches: list[int] = []
        self._spool = spool

    def store(self, entries: Sequence[Entry]) -> list[Message | None]:
        assert self.goes_on.wait(30)
        if self.error is not None:
            raise self.error
        self.batches.append(len(entries))
        return self._spool.store(entries)


def test_nobody_waits_for_a_disk_that_stalls_and_all_is_stored_in_order(tmp_path: Path) -> None:
    told: list[int] = []
    with closing(open_spool(tmp_path)) as spool:
        disk = Disk(spool)
        writer = SpoolWriter(disk.store)
        disk.goes_on.clear()
        started = time.monotonic()
        for number in range(250):
            writer.put(Entry(trigger=note(number)), lambda _: None)
            writer.put(
                Entry(draft=result(number)),
                lambda message: told.append(message.seq if message else 0),
            )
        assert time.monotonic() - started < 5, "the disk never answered so far"
        assert told == []
        assert spool.peek(10) == [], "nothing to publish that is not stored"
        disk.goes_on.set()
        writer.flush(30)
        assert told == list(range(1, 251))
        assert spool.triggers()[1] == []
        assert len(disk.batches) < 20, "what waited is stored with few waits for the disk"
        assert writer.close(10)


def test_a_disk_that_refuses_ends_the_run(tmp_path: Path) -> None:
    with closing(open_spool(tmp_path)) as spool:
        disk = Disk(spool)
        writer = SpoolWriter(disk.store)
        disk.error = SpoolError("no space left")
        writer.put(Entry(draft=make_draft()), lambda _: None)
        with pytest.raises(SpoolError, match="no space"):
            writer.flush(10)
        with pytest.raises(SpoolError, match="no space"):
            writer.put(Entry(draft=make_draft()), lambda _: None)
        assert writer.close(10)


def test_more_than_may_wait_ends_the_run_and_pictures_are_left_out_before(tmp_path: Path) -> None:
    with closing(open_spool(tmp_path)) as spool:
        disk = Disk(spool)
        writer = SpoolWriter(disk.store)
        disk.goes_on.clear()
        picture = bytes(MAX_PICTURE_BYTES // 4)
        for _ in range(MAX_WAITING):
            writer.put(Entry(draft=make_draft(), picture=picture), lambda _: None)
        with pytest.raises(SpoolError, match="wait for the disk"):
            fill_up(writer)
        disk.goes_on.set()
        writer.flush(60)
        assert writer.close(10)
        counts = spool.statistics()
    assert counts.appended >= MAX_WAITING
    assert 4 <= counts.pictures <= 8, "the thread may have taken a first batch"


def fill_up(writer: SpoolWriter) -> None:
    while True:
        writer.put(Entry(draft=make_draft()), lambda _: None)


def test_a_message_that_cannot_be_encoded_takes_no_other_along(tmp_path: Path) -> None:
    told: list[Message | None] = []
    with closing(open_spool(tmp_path)) as spool:
        disk = Disk(spool)
        writer = SpoolWriter(disk.store)
        disk.goes_on.clear()
        for draft in (make_draft(), make_draft(camera=None), make_draft()):
            writer.put(Entry(draft=draft, picture=b"jpeg"), told.append)
        disk.goes_on.set()
        with pytest.raises(EdgeError, match="expected a camera"):
            writer.flush(10)
        assert len(spool.peek(10)) == len(told) >= 1
        assert writer.close(10)
