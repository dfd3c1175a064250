"""The spool's SQLite file: its schema, how it is opened, and what is done with a broken one."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from edge_sdk.alerting.durable import sync_directory
from edge_sdk.errors import SpoolError

_SCHEMA_VERSION = 3
_KEPT_QUARANTINED = 2
_LOGGER = logging.getLogger(__name__)

_TRIGGERS = """
CREATE TABLE triggers (         -- of parts, not of SQLite: see ``ledger``
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    camera TEXT NOT NULL,
    trigger_id TEXT NOT NULL,
    part_id TEXT NOT NULL,
    is_answered INTEGER NOT NULL DEFAULT 0,
    UNIQUE (camera, trigger_id)
);
CREATE INDEX unanswered ON triggers (number) WHERE is_answered = 0;
"""
_GAP_PICTURES = "ALTER TABLE totals ADD COLUMN gap_pictures INTEGER NOT NULL DEFAULT 0;"
_DATE = f"PRAGMA user_version = {_SCHEMA_VERSION};"
# The totals are kept by triggers, so that no statement can change rows and forget them.
_SCHEMA = """
BEGIN;
CREATE TABLE messages (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    severity INTEGER NOT NULL,  -- 0 info, 1 warn, 2 critical
    is_gap INTEGER NOT NULL,    -- 1: tells of a loss itself, is never dropped
    stored_at REAL NOT NULL,    -- seconds since 1970
    acked_at REAL,
    size INTEGER NOT NULL,
    payload BLOB NOT NULL
);
CREATE INDEX waiting ON messages (is_gap, severity, seq) WHERE acked_at IS NULL;
CREATE INDEX kept ON messages (acked_at) WHERE acked_at IS NOT NULL;
CREATE TABLE pictures (
    seq INTEGER PRIMARY KEY,
    camera TEXT NOT NULL,
    message_id TEXT NOT NULL,
    size INTEGER NOT NULL,
    jpeg BLOB NOT NULL
);
CREATE TABLE totals (
    appended INTEGER NOT NULL DEFAULT 0,
    acknowledged INTEGER NOT NULL DEFAULT 0,
    waiting_rows INTEGER NOT NULL DEFAULT 0,
    kept_rows INTEGER NOT NULL DEFAULT 0,
    kept_bytes INTEGER NOT NULL DEFAULT 0,
    all_bytes INTEGER NOT NULL DEFAULT 0,
    pictures INTEGER NOT NULL DEFAULT 0,
    dropped_info INTEGER NOT NULL DEFAULT 0,
    dropped_warn INTEGER NOT NULL DEFAULT 0,
    dropped_critical INTEGER NOT NULL DEFAULT 0,
    dropped_pictures INTEGER NOT NULL DEFAULT 0,
    gap_from INTEGER,  -- what was dropped and is not told in a message yet
    gap_to INTEGER,
    gap_reason TEXT,
    gap_info INTEGER NOT NULL DEFAULT 0,
    gap_warn INTEGER NOT NULL DEFAULT 0,
    gap_critical INTEGER NOT NULL DEFAULT 0
);
INSERT INTO totals DEFAULT VALUES;
CREATE TRIGGER message_added AFTER INSERT ON messages BEGIN
    UPDATE totals SET appended = appended + 1, waiting_rows = waiting_rows + 1,
        all_bytes = all_bytes + NEW.size;
END;
CREATE TRIGGER message_acknowledged AFTER UPDATE OF acked_at ON messages BEGIN
    UPDATE totals SET acknowledged = acknowledged + 1, waiting_rows = waiting_rows - 1,
        kept_rows = kept_rows + 1, kept_bytes = kept_bytes + NEW.size;
END;
CREATE TRIGGER waiting_deleted AFTER DELETE ON messages WHEN OLD.acked_at IS NULL BEGIN
    UPDATE totals SET waiting_rows = waiting_rows - 1, all_bytes = all_bytes - OLD.size;
END;
CREATE TRIGGER kept_deleted AFTER DELETE ON messages WHEN OLD.acked_at IS NOT NULL BEGIN
    UPDATE totals SET kept_rows = kept_rows - 1, kept_bytes = kept_bytes - OLD.size,
        all_bytes = all_bytes - OLD.size;
END;
CREATE TRIGGER picture_added AFTER INSERT ON pictures BEGIN
    UPDATE totals SET pictures = pictures + 1, all_bytes = all_bytes + NEW.size;
END;
CREATE TRIGGER picture_deleted AFTER DELETE ON pictures BEGIN
    UPDATE totals SET pictures = pictures - 1, all_bytes = all_bytes - OLD.size;
END;
"""
_OBJECTS = (_SCHEMA + _TRIGGERS).count("CREATE ")


def connect(path: Path) -> sqlite3.Connection:
    """Open a database, new or old, with the settings that make a commit durable.

    Raises:
        sqlite3.Error: the disk refused, or the file is no database.
        SpoolError: the file system has no write-ahead log.
    """
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    try:
        # A message changes a row here and there: small pages write half as much to a flash card.
        connection.execute("PRAGMA page_size = 1024")
        # All that follow belong to the connection, not to the file.
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        connection.execute("PRAGMA synchronous = FULL")  # NORMAL loses commits at a power cut
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA journal_size_limit = 8000000")
    except BaseException:
        connection.close()
        raise
    if mode != "wal":
        connection.close()
        raise SpoolError(f"{path}: expected a file system with shared memory, got mode {mode}")
    return connection


def begin_tables(connection: sqlite3.Connection, *, last_seq: int) -> None:
    """Make the tables in a transaction that is left open, for what must come with them.

    Args:
        connection: an open, empty database.
        last_seq: the next message is number ``last_seq + 1``.

    Raises:
        sqlite3.Error: the disk refused.
    """
    connection.executescript(_SCHEMA + _TRIGGERS + _GAP_PICTURES + _DATE)
    connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('messages', ?)", [last_seq])


def commit_tables(connection: sqlite3.Connection, path: Path) -> None:
    """Commit what ``begin_tables`` began.

    Raises:
        sqlite3.Error: the disk refused.
        OSError: the disk refused.
    """
    connection.execute("COMMIT")
    # A power cut that leaves an empty database beside a whole log would lose the log, so the
    # tables go into the database itself before anything depends on them.
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_directory(path.parent)


def is_new(connection: sqlite3.Connection) -> bool:
    """Whether there are no tables yet.

    Raises:
        sqlite3.Error: the file is no database.
    """
    (objects,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return bool(objects == 0)


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Read the whole file.

    Raises:
        sqlite3.DatabaseError: it is damaged.
        SpoolError: it was written by a newer version of this SDK.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > _SCHEMA_VERSION:
        raise SpoolError(f"{path}: expected version {_SCHEMA_VERSION}, got the newer {version}")
    if 1 <= version < _SCHEMA_VERSION:  # 1 knew no ledger of triggers, 2 no pictures in gaps
        tables = _TRIGGERS if version == 1 else ""
        connection.executescript(f"BEGIN; {tables} {_GAP_PICTURES} {_DATE} COMMIT;")
        version = _SCHEMA_VERSION
    (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    (objects,) = connection.execute(
        "SELECT count(*) FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"
    ).fetchone()
    if finding != "ok" or version != _SCHEMA_VERSION or objects != _OBJECTS:
        raise sqlite3.DatabaseError(f"{finding}, version {version}, {objects} of {_OBJECTS} parts")
    # Written anew, what an earlier failed sync may have left in memory only reaches the disk.
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def is_damage(error: sqlite3.Error) -> bool:
    """Whether an error is of the file's content, not of disk, lock or space."""
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(
        error, sqlite3.OperationalError | sqlite3.ProgrammingError | sqlite3.IntegrityError
    )


def quarantine(path: Path) -> Path:
    """Set a broken database and its log aside as ``<name>.corrupt-<n>``; old ones are deleted.

    Raises:
        OSError: the disk refused.
    """
    earlier = sorted(_quarantined(path))
    number = earlier[-1] + 1 if earlier else 1
    aside = path.with_name(f"{path.name}.corrupt-{number}")
    for suffix in ("-wal", "-shm", ""):  # the database last: without it the others mean nothing
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    for old in earlier[: -(_KEPT_QUARANTINED - 1)]:
        for suffix in ("-wal", "-shm", ""):
            path.with_name(f"{path.name}.corrupt-{old}{suffix}").unlink(missing_ok=True)
    sync_directory(path.parent)
    return aside


def salvage(aside: Path) -> Iterator[bytes]:
    """Yield the payloads, not acknowledged, that a broken database still gives, some twice."""
    # A broken page ends a scan; what lies behind it is reached from the other end.
    yield from _scan(aside, "SELECT payload FROM messages NOT INDEXED WHERE acked_at IS NULL")
    yield from _scan(
        aside,
        "SELECT payload FROM messages NOT INDEXED WHERE acked_at IS NULL ORDER BY seq DESC",
    )


def _scan(aside: Path, query: str) -> Iterator[bytes]:
    try:
        with closing(sqlite3.connect(aside)) as connection:
            for (payload,) in connection.execute(query):
                if isinstance(payload, bytes):
                    yield payload
    except sqlite3.Error as error:
        _LOGGER.warning("%s: cannot be read any further: %s", aside, error)


def _quarantined(path: Path) -> Iterator[int]:
    for part in path.parent.glob(f"{path.name}.corrupt-*"):
        number = part.name.removeprefix(f"{path.name}.corrupt-")
        if number.isdecimal():
            yield int(number)
