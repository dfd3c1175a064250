"""The queue on the disk between inspection and broker: what ``append`` returned is not lost."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from edge_sdk.alerting import ledger, retention, rows
from edge_sdk.alerting.entries import Entry, SpoolStatistics, StoredPicture
from edge_sdk.alerting.ledger import TriggerNote
from edge_sdk.alerting.payload import MAX_BYTES, decode_message
from edge_sdk.alerting.retention import SEVERITIES
from edge_sdk.alerting.room import Room
from edge_sdk.alerting.storage import Storage
from edge_sdk.errors import ConfigError, InputError
from edge_sdk.records import Message, MessageDraft

_NO_LIMIT = 2**63 - 1


class Spool:
    """Messages in the order of their ``seq``, each until the broker has acknowledged it."""

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        device: str,
        max_rows: int,
        max_bytes: int,
        keep_acknowledged_seconds: float = 86_400,
        keep_acknowledged_bytes: int = 20_000_000,
        room: Room | None = None,
    ) -> Spool:
        """Open the spool in a directory, which is made where there is none.

        Args:
            directory: of this spool alone.
            device: whose messages these are, for events of the spool itself.
            max_rows: messages on the disk, acknowledged ones included; at least 2.
            max_bytes: payloads and pictures on the disk; SQLite adds about a quarter.
            keep_acknowledged_seconds: how long acknowledged messages stay.
            keep_acknowledged_bytes: how much of them stays.
            room: on the disk; None: as it is. While that is low, the spool does not grow beyond
                8 MB, or what it held before: the same is dropped as at ``max_bytes``.

        Raises:
            BusyError: another process has it open.
            ConfigError: a limit is too small to hold a message.
            SpoolError: the disk refuses.
        """
        if max_rows < 2 or max_bytes < 2 * MAX_BYTES:
            raise ConfigError(
                f"spool: expected max_rows of 2 and max_bytes of {2 * MAX_BYTES} or more, "
                f"got {max_rows} and {max_bytes}"
            )
        storage = Storage(directory, device)
        return cls(
            storage,
            (max_rows, max_bytes),
            keep_acknowledged_seconds,
            keep_acknowledged_bytes,
            room or Room(directory),
        )

    def __init__(
        self,
        storage: Storage,
        limits: tuple[int, int],
        keep_seconds: float,
        keep_bytes: int,
        room: Room,
    ) -> None:
        """Use ``open``."""
        self._storage = storage
        self._room = room
        self._max_rows, self._max_bytes = limits
        self._keep_seconds, self._keep_bytes = keep_seconds, keep_bytes

    @property
    def last_seq(self) -> int:
        """Number of the newest message; without waiting, to see whether there is a new one."""
        return self._storage.last_seq

    @property
    def has_little_room(self) -> bool:
        """Whether the disk is nearly full, by whatever."""
        return self._room.is_low

    def append(self, draft: MessageDraft, picture: bytes | None = None) -> Message:
        """Number a message and store it; it is on the disk when this returns.

        When the spool is full something is dropped for it, by the order of ``retention``; where
        all that waits outranks it, that is the new message itself.

        Args:
            draft: what to store; its payload is made now and never changes again.
            picture: JPEG to be sent after all messages; its digest becomes ``picture_sha256``.

        Returns:
            The message as it will be published.

        Raises:
            InputError: the draft cannot be encoded, or a picture comes without a camera.
            SpoolError: it could not be stored; whether a part of it was is unknown, so that the
                same draft may come twice if it is appended again.
        """
        with self._storage.transaction() as connection:
            limit = self._bytes_allowed(connection)
            message = self._insert(connection, draft, picture)
            retention.trim(connection, max_rows=self._max_rows, max_bytes=limit)
        return message

    def store(self, entries: Sequence[Entry]) -> list[Message | None]:
        """Store several things with one wait for the disk: all of them, or none.

        Args:
            entries: messages and triggers, in their order.

        Returns:
            For each its message as it will be published, or None for a trigger.

        Raises:
            InputError: one cannot be encoded, or a picture comes without a camera.
            SpoolError: see ``append``.
        """
        messages: list[Message | None] = []
        with self._storage.transaction() as connection:
            limit = self._bytes_allowed(connection)
            for entry in entries:
                if entry.trigger is not None:
                    ledger.take(connection, entry.trigger)
                if entry.draft is None:
                    messages.append(None)
                    continue
                message = self._insert(connection, entry.draft, entry.picture)
                if entry.is_picture_left_out:
                    retention.count_picture(connection, message.seq, "disk_slow")
                messages.append(message)
            retention.trim(connection, max_rows=self._max_rows, max_bytes=limit)
        return messages

    def _bytes_allowed(self, connection: sqlite3.Connection) -> int:
        (held,) = connection.execute("SELECT all_bytes FROM totals").fetchone()
        return self._room.limit(self._max_bytes, held)

    def _insert(
        self, connection: sqlite3.Connection, draft: MessageDraft, picture: bytes | None
    ) -> Message:
        if picture is None:
            return self._storage.insert(connection, draft)
        if draft.camera is None:
            raise InputError("message with a picture: expected a camera, got none")
        draft = replace(draft, picture_sha256=hashlib.sha256(picture).hexdigest())
        message = self._storage.insert(connection, draft)
        connection.execute(
            "INSERT INTO pictures VALUES (?, ?, ?, ?, ?)",
            [message.seq, message.camera, message.message_id, len(picture), picture],
        )
        return message

    def triggers(self) -> tuple[list[TriggerNote], list[TriggerNote]]:
        """Triggers that were taken, the last 10 000 at least, and those without a result.

        Raises:
            SpoolError: the disk refuses.
        """
        with self._storage.transaction() as connection:
            return ledger.read(connection)

    def peek(self, limit: int, *, after: int = 0, up_to: int = _NO_LIMIT) -> list[Message]:
        """The oldest messages that are not acknowledged, at most ``limit``.

        Args:
            limit: how many.
            after: only those with a greater ``seq``, to pass by what a broker refuses.
            up_to: only those with no greater ``seq``.

        Raises:
            SpoolError: the disk refuses.
        """
        with self._storage.transaction() as connection:
            self._storage.tell_gap(connection)
            found = rows.waiting(connection, limit=limit, after=after, up_to=up_to)
            return rows.decode(connection, [(seq, payload) for seq, _, payload in found])

    def peek_gaps(self) -> list[Message]:
        """The messages that tell of losses and are not acknowledged: receivers want them first.

        Raises:
            SpoolError: the disk refuses.
        """
        with self._storage.transaction() as connection:
            self._storage.tell_gap(connection)
            found = connection.execute(
                "SELECT seq, payload FROM messages WHERE acked_at IS NULL AND is_gap = 1"
            ).fetchall()
            return rows.decode(connection, found)

    def peek_acknowledged(self, limit: int, *, after: int, up_to: int) -> list[Message]:
        """The oldest messages that are acknowledged and still kept, at most ``limit``.

        Args:
            limit: how many.
            after: only those with a greater ``seq``.
            up_to: only those with no greater ``seq``.

        Raises:
            SpoolError: the disk refuses.
        """
        with self._storage.transaction() as connection:
            found = connection.execute(
                "SELECT payload FROM messages WHERE acked_at IS NOT NULL "
                "AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
                [after, up_to, limit],
            ).fetchall()
        return [decode_message(payload) for (payload,) in found]

    def acknowledge(self, seqs: Iterable[int]) -> None:
        """Note that the broker has these; they are not peeked again.

        Raises:
            SpoolError: the disk refuses; they will be sent again.
        """
        now = time.time()
        with self._storage.transaction() as connection:
            connection.executemany(
                "UPDATE messages SET acked_at = ? WHERE seq = ? AND acked_at IS NULL",
                [(now, seq) for seq in seqs],
            )
            retention.purge_acknowledged(
                connection, acked_before=now - self._keep_seconds, max_bytes=self._keep_bytes
            )

    def peek_pictures(self, limit: int) -> list[StoredPicture]:
        """The oldest pictures that wait, at most ``limit``.

        Raises:
            SpoolError: the disk refuses.
        """
        with self._storage.transaction() as connection:
            found = connection.execute(
                "SELECT seq, camera, message_id, jpeg FROM pictures ORDER BY seq LIMIT ?", [limit]
            ).fetchall()
        return [
            StoredPicture(seq=seq, camera=camera, message_id=message_id, jpeg=jpeg)
            for seq, camera, message_id, jpeg in found
        ]

    def acknowledge_picture(self, seq: int) -> None:
        """Note that the broker has a picture; it is deleted.

        Raises:
            SpoolError: the disk refuses; it will be sent again.
        """
        with self._storage.transaction() as connection:
            connection.execute("DELETE FROM pictures WHERE seq = ?", [seq])

    def drop_picture(self, seq: int) -> None:
        """Give up on a picture that no broker takes; it is counted.

        Raises:
            SpoolError: the disk refuses.
        """
        with self._storage.transaction() as connection:
            retention.drop_picture(connection, seq, "refused")

    def statistics(self) -> SpoolStatistics:
        """How full it is, and what has passed through.

        Raises:
            SpoolError: the disk refuses.
        """
        with self._storage.transaction() as connection:
            cursor = connection.execute("SELECT * FROM totals")
            names = [column[0] for column in cursor.description]
            totals = dict(zip(names, cursor.fetchone(), strict=True))
            oldest = rows.waiting(connection, limit=1, after=0, up_to=_NO_LIMIT)
        return SpoolStatistics(
            rows=totals["waiting_rows"],
            bytes=totals["all_bytes"],
            pictures=totals["pictures"],
            oldest_age_seconds=max(0.0, time.time() - oldest[0][1]) if oldest else 0.0,
            appended=totals["appended"],
            acknowledged=totals["acknowledged"],
            dropped={
                name: totals[f"dropped_{name}"]
                for name in (*(severity.value for severity in SEVERITIES), "pictures")
            },
        )

    def close(self) -> None:
        """Release the spool; may be called twice.

        Raises:
            SpoolError: the disk refuses; what was appended is stored nevertheless.
        """
        self._storage.close()
