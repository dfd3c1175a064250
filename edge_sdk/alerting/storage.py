"""The spool's directory: its lock, its database, and what happens when the database is broken."""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edge_sdk.alerting import database, ledger, retention
from edge_sdk.alerting.identity import boot_id, new_ulid, time_quality
from edge_sdk.alerting.payload import decode_message, encode_message
from edge_sdk.alerting.retention import SEVERITIES
from edge_sdk.alerting.sequence import SequenceMark
from edge_sdk.errors import BusyError, InputError, SpoolError
from edge_sdk.records import Message, MessageDraft, MessageKind, Severity

_GAP = "gap"
_RESET = "spool_reset"
_LOGGER = logging.getLogger(__name__)


class Storage:
    """One process's hold on the directory, and one database connection under one lock.

    Two threads use it, the one that appends and the one that forwards. SQLite lets one writer in
    at a time anyway; with a connection each, the second would find that out by polling, and could
    be turned away, where a lock simply lets it wait.

    Raises:
        BusyError: another process holds the directory.
        SpoolError: the disk refuses.
    """

    def __init__(self, directory: Path, device: str) -> None:
        self.last_seq = 0
        """Number of the newest committed message."""
        self._path = directory / "spool.db"
        self._device = device
        self._inserted = 0
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._held: int | None = _hold(directory / "spool.lock")
        except OSError as error:
            raise SpoolError(f"{directory}: cannot be used: {error}") from error
        try:
            self._mark = SequenceMark(directory / "spool.seq")
            with self.transaction():
                pass  # a broken database is found and replaced now, not at the first alert
        except BaseException:
            self._release()
            raise

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Everything inside is committed durably when the block ends, or nothing is.

        Raises:
            SpoolError: the disk refuses; whether the last commit reached it is unknown.
        """
        with self._lock:
            try:
                connection = self._connected()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                except BaseException:
                    self._inserted = self.last_seq
                    connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
            except (sqlite3.Error, OSError) as error:
                # After a failed sync the kernel forgets what it could not write, so that another
                # attempt on the same descriptor would seem to succeed: open the file again.
                self._disconnect()
                raise SpoolError(f"{self._path}: {error}") from error
            self.last_seq = self._inserted

    def insert(self, connection: sqlite3.Connection, draft: MessageDraft) -> Message:
        """Number a message and write its payload.

        Raises:
            InputError: the draft cannot be encoded.
        """
        seq = _last_number(connection) + 1
        self._mark.reserve(seq)
        values = {field.name: getattr(draft, field.name) for field in fields(MessageDraft)}
        payload = encode_message(Message(**values, seq=seq))
        message = decode_message(payload)
        _write(connection, message, payload)
        ledger.answer(connection, message)
        self._inserted = seq
        return message

    def tell_gap(self, connection: sqlite3.Connection) -> None:
        """Make a message of what was dropped, unless an earlier such message still waits.

        While one waits the next gap grows, so that a long outage leaves one and not thousands.
        """
        gap = connection.execute(
            "SELECT gap_from, gap_to, gap_reason, gap_info, gap_warn, gap_critical, "
            "gap_pictures FROM totals "
            "WHERE gap_from IS NOT NULL AND NOT EXISTS "
            "(SELECT 1 FROM messages WHERE acked_at IS NULL AND is_gap = 1)"
        ).fetchone()
        if gap is None:
            return
        names = [severity.value for severity in SEVERITIES]
        data = {
            "from_seq": gap[0],
            "to_seq": gap[1],
            "reason": gap[2],
            "by_severity": dict(zip(names, gap[3:6], strict=True)),
            "pictures": gap[6],
        }
        self.insert(connection, self._event(_GAP, data))
        connection.execute(
            "UPDATE totals SET gap_from = NULL, gap_to = NULL, gap_reason = NULL, "
            "gap_info = 0, gap_warn = 0, gap_critical = 0, gap_pictures = 0"
        )

    def close(self) -> None:
        """Release the directory; may be called twice.

        Raises:
            SpoolError: the disk refuses; what was committed is there nevertheless.
        """
        with self._lock:
            try:
                if self._connection is not None:
                    self._mark.settle(self.last_seq)
            except OSError as error:
                raise SpoolError(f"{self._path}: {error}") from error
            finally:
                self._disconnect()
                self._release()

    def _connected(self) -> sqlite3.Connection:
        if self._held is None:
            raise SpoolError(f"{self._path}: it is closed")
        if self._connection is None:
            connection, damage = self._open_sound()
            try:
                self._prepare(connection, damage)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
            self._inserted = self.last_seq = _last_number(connection)
        return self._connection

    def _open_sound(self) -> tuple[sqlite3.Connection, Path | None]:
        """Open the database, or a fresh one in place of a broken one, which is set aside."""
        connection: sqlite3.Connection | None = None
        try:
            connection = database.connect(self._path)
            if not database.is_new(connection):
                database.check(connection, self._path)
        except BaseException as error:
            if connection is not None:
                connection.close()
            if not (isinstance(error, sqlite3.Error) and database.is_damage(error)):
                raise
            _LOGGER.error("%s: damaged: %s", self._path, error)  # noqa: TRY400 - no trace needed
            aside = database.quarantine(self._path)
            return database.connect(self._path), aside
        return connection, None

    def _prepare(self, connection: sqlite3.Connection, damaged: Path | None) -> None:
        """Make the tables of a new database; see that an old one has not forgotten numbers."""
        mark = self._mark
        if database.is_new(connection):
            database.begin_tables(connection, last_seq=mark.reserved)
            if damaged is not None or mark.reserved:
                self._tell_reset(connection, damaged)
            database.commit_tables(connection, self._path)
            return
        last = _last_number(connection)
        if last < mark.used:  # an old copy: its next numbers have been used already
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(
                "UPDATE sqlite_sequence SET seq = ? WHERE name = 'messages'", [mark.reserved]
            )
            retention.note_gap(connection, last + 1, mark.reserved, "corrupt")
            connection.execute("COMMIT")

    def _tell_reset(self, connection: sqlite3.Connection, damaged: Path | None) -> None:
        salvaged = 0 if damaged is None else _salvage_into(connection, damaged)
        data = {
            "from_seq": 1,
            "to_seq": _last_number(connection),
            "reason": "missing" if damaged is None else "corrupt",
            "salvaged": salvaged,
            "quarantined": None if damaged is None else damaged.name,
        }
        self.insert(connection, self._event(_RESET, data))

    def _event(self, name: str, data: Mapping[str, Any]) -> MessageDraft:
        return MessageDraft(
            message_id=new_ulid(),
            kind=MessageKind.EVENT,
            severity=Severity.WARN,
            device=self._device,
            camera=None,
            boot_id=boot_id(),
            captured_at=datetime.now(timezone.utc),
            mono_ns=time.monotonic_ns(),
            time_quality=time_quality(),
            event=name,
            data=data,
        )

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _release(self) -> None:
        self._disconnect()
        if self._held is not None:
            os.close(self._held)
            self._held = None


def _hold(path: Path) -> int:
    """Lock a file for this process; the kernel lets go of it however the process ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 20).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise BusyError(
            f"{path.parent}: expected to be its only user, process {holder} has it"
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
    return descriptor


def _last_number(connection: sqlite3.Connection) -> int:
    (last,) = connection.execute(
        "SELECT seq FROM sqlite_sequence WHERE name = 'messages'"
    ).fetchone()
    return int(last)


def _write(connection: sqlite3.Connection, message: Message, payload: bytes) -> None:
    connection.execute(
        "INSERT INTO messages (seq, severity, is_gap, stored_at, size, payload) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        [
            message.seq,
            SEVERITIES.index(message.severity),
            message.event in {_GAP, _RESET},
            time.time(),
            len(payload),
            payload,
        ],
    )


def _salvage_into(connection: sqlite3.Connection, damaged: Path) -> int:
    """Copy the messages, not the pictures, that a broken database still gives; their number."""
    seqs: set[int] = set()
    for payload in database.salvage(damaged):
        try:
            message = decode_message(payload)
        except InputError as error:
            _LOGGER.warning("%s: %s", damaged, error)
            continue
        if message.seq not in seqs:
            _write(connection, message, payload)
            ledger.recall(connection, message)
            seqs.add(message.seq)
    return len(seqs)
