"""Which triggers were taken and which have their result; all inside the caller's transaction.

A trigger is noted when it is taken and marked in the transaction that stores its result. So an id
that was used before is known after any restart, and a part whose device died is known to have no
result yet.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from edge_sdk.records import Message, MessageKind

REMEMBERED = 10_000
"""Answered triggers that are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerNote:
    """A trigger that a camera has taken."""

    camera: str
    trigger_id: str
    part_id: str


def take(connection: sqlite3.Connection, note: TriggerNote) -> None:
    """Note a trigger; one that is noted already stays as it is."""
    connection.execute(
        "INSERT OR IGNORE INTO triggers (camera, trigger_id, part_id) VALUES (?, ?, ?)",
        [note.camera, note.trigger_id, note.part_id],
    )


def answer(connection: sqlite3.Connection, message: Message) -> None:
    """Mark the trigger that a message is the result of, if it is one, and forget old ones."""
    if message.kind is not MessageKind.RESULT or message.trigger_id is None:
        return
    connection.execute(
        "UPDATE triggers SET is_answered = 1 WHERE camera = ? AND trigger_id = ?",
        [message.camera, message.trigger_id],
    )
    connection.execute(
        "DELETE FROM triggers WHERE is_answered = 1 AND number <= "
        "(SELECT ifnull(max(number), 0) FROM triggers) - ?",
        [REMEMBERED],
    )


def recall(connection: sqlite3.Connection, message: Message) -> None:
    """Note an answered trigger by its result alone, where the ledger itself was lost."""
    if message.kind is MessageKind.RESULT and message.trigger_id and message.part_id:
        note = TriggerNote(
            camera=str(message.camera), trigger_id=message.trigger_id, part_id=message.part_id
        )
        take(connection, note)
        answer(connection, message)


def read(connection: sqlite3.Connection) -> tuple[list[TriggerNote], list[TriggerNote]]:
    """All noted triggers, and those of them without a result; each in the order they came."""
    every, unanswered = [], []
    rows = connection.execute(
        "SELECT camera, trigger_id, part_id, is_answered FROM triggers ORDER BY number"
    )
    for camera, trigger_id, part_id, is_answered in rows:
        note = TriggerNote(camera=camera, trigger_id=trigger_id, part_id=part_id)
        every.append(note)
        if not is_answered:
            unanswered.append(note)
    return every, unanswered
