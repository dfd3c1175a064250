"""The audit log: what changed how a box judges, entry by entry, whatever happens to the process."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from scenes import child_environment

from edge_sdk.audit import AuditLog


def test_an_entry_says_what_when_who_old_and_new(tmp_path: Path) -> None:
    AuditLog(tmp_path).append(
        "references.used", by="edge-enroll", camera="cam1", old={"reference_set": "day/1"},
        new={"reference_set": "night/2"}, command_id="c-1",
    )  # fmt: skip
    (entry,) = AuditLog(tmp_path).read(camera="cam1")
    assert entry["at"].endswith("+00:00")
    assert entry["user"]
    assert {key: entry[key] for key in ("what", "by", "old", "new", "command_id")} == {
        "what": "references.used",
        "by": "edge-enroll",
        "old": {"reference_set": "day/1"},
        "new": {"reference_set": "night/2"},
        "command_id": "c-1",
    }
    assert AuditLog(tmp_path).read(camera="cam2") == []


def test_the_log_keeps_the_newest_entries_within_two_files(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, max_bytes=2000)
    for number in range(100):
        log.append("threshold.learned", by="edge-run", camera="cam1", new=number)
    kept = [entry["new"] for entry in log.read()]
    assert kept == list(range(kept[0], 100)), "in order, and none but the oldest is gone"
    assert 8 <= len(kept) < 40
    files = sorted(path.name for path in tmp_path.glob("audit*.jsonl"))
    assert files == ["audit.1.jsonl", "audit.jsonl"]
    assert sum(path.stat().st_size for path in tmp_path.glob("audit*.jsonl")) < 5000


def test_several_writers_tear_no_line_and_lose_none(tmp_path: Path) -> None:
    def write(writer: int) -> None:
        for number in range(20):
            AuditLog(tmp_path).append("x", by=f"w{writer}", camera=None, new=number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    kept = [(entry["by"], entry["new"]) for entry in AuditLog(tmp_path).read()]
    assert sorted(kept) == [(f"w{writer}", number) for writer in range(4) for number in range(20)]


_WRITER = """
import sys
from pathlib import Path
from edge_sdk.audit import AuditLog
log = AuditLog(Path(sys.argv[1]))
number = 0
while True:
    log.append("x", by="test", camera=None, new=number)
    print(number, flush=True)
    number += 1
"""


def test_what_was_written_before_a_kill_is_read_after_it_and_more_can_be_added(
    tmp_path: Path,
) -> None:
    said = -1
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path)],
            env=child_environment(),
            stdout=subprocess.PIPE,
            text=True,
        ) as writer:
            assert writer.stdout is not None
            numbers = [int(writer.stdout.readline()) for _ in range(20)]
            writer.kill()
            numbers += [int(line) for line in writer.stdout.read().split()]
        kept = [entry["new"] for entry in AuditLog(tmp_path).read()]
        assert kept[said + 1 :][: len(numbers)] == numbers
        said = len(kept) - 1


def test_a_line_torn_by_a_power_cut_spoils_no_other(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    log.append("first", by="test", camera=None)
    with (tmp_path / "audit.jsonl").open("ab") as file:
        file.write(b'{"at": "2026-')
    log.append("third", by="test", camera=None)
    assert [entry["what"] for entry in log.read()] == ["first", "third"]
