"""What leaves the spool, and in which order. All of it inside the caller's transaction.

Acknowledged rows first, then pictures, then messages: of the lowest severity the oldest, so that
no critical message goes while a lesser one is there. A message that was never acknowledged leaves
a trace in the totals, which becomes an event (see ``Spool``).
"""

from __future__ import annotations

import sqlite3
from typing import Literal

from edge_sdk.records import Severity

SEVERITIES = (Severity.INFO, Severity.WARN, Severity.CRITICAL)
"""By rank: the place is the number in the database."""

GapReason = Literal["spool_full", "corrupt", "refused", "disk_slow"]
"""``refused``: a picture that no broker took. ``disk_slow``: pictures had to wait too long for the
disk to be kept in memory. Of a gap with several reasons the last one is told."""


def trim(connection: sqlite3.Connection, *, max_rows: int, max_bytes: int) -> None:
    """Drop until the limits hold. Tales of losses (``is_gap``) count for nothing and stay."""
    while True:
        rows, kept, size, pictures = connection.execute(
            "SELECT waiting_rows + kept_rows - (SELECT count(*) FROM messages "
            "WHERE acked_at IS NULL AND is_gap = 1), kept_rows, all_bytes, pictures FROM totals"
        ).fetchone()
        if rows <= max_rows and size <= max_bytes:
            return
        if kept:
            connection.execute(
                "DELETE FROM messages WHERE seq = (SELECT seq FROM messages "
                "WHERE acked_at IS NOT NULL ORDER BY acked_at LIMIT 1)"
            )
        elif pictures and size > max_bytes:
            (seq,) = connection.execute("SELECT min(seq) FROM pictures").fetchone()
            drop_picture(connection, seq, "spool_full")
        else:
            lowest = connection.execute(
                "SELECT seq FROM messages WHERE acked_at IS NULL AND is_gap = 0 "
                "ORDER BY severity, seq LIMIT 1"
            ).fetchone()
            if lowest is None:
                return
            drop_message(connection, lowest[0], "spool_full")


def drop_message(connection: sqlite3.Connection, seq: int, reason: GapReason) -> None:
    """Delete a message that was not acknowledged, with its picture; the next gap event tells it."""
    (rank,) = connection.execute("SELECT severity FROM messages WHERE seq = ?", [seq]).fetchone()
    connection.execute("DELETE FROM messages WHERE seq = ?", [seq])
    name = SEVERITIES[rank].value
    connection.execute(
        f"UPDATE totals SET dropped_{name} = dropped_{name} + 1, "  # noqa: S608 - an enum's value
        f"gap_{name} = gap_{name} + 1"
    )
    note_gap(connection, seq, seq, reason)
    drop_picture(connection, seq, reason)


def note_gap(connection: sqlite3.Connection, first: int, last: int, reason: GapReason) -> None:
    """Widen the gap that is to be told."""
    connection.execute(
        "UPDATE totals SET gap_from = min(ifnull(gap_from, :first), :first), "
        "gap_to = max(ifnull(gap_to, :last), :last), gap_reason = :reason",
        {"first": first, "last": last, "reason": reason},
    )


def drop_picture(connection: sqlite3.Connection, seq: int, reason: GapReason) -> None:
    """Delete the picture of a message, if one waits; it is counted, and told as a message is."""
    if connection.execute("DELETE FROM pictures WHERE seq = ?", [seq]).rowcount:
        count_picture(connection, seq, reason)


def count_picture(connection: sqlite3.Connection, seq: int, reason: GapReason) -> None:
    """Count a picture that nobody will get, and note it for the next gap event."""
    connection.execute(
        "UPDATE totals SET dropped_pictures = dropped_pictures + 1, gap_pictures = gap_pictures + 1"
    )
    note_gap(connection, seq, seq, reason)


def purge_acknowledged(
    connection: sqlite3.Connection, *, acked_before: float, max_bytes: int
) -> None:
    """Delete acknowledged rows that are too old, and the oldest of those that are too many.

    Args:
        connection: in a transaction.
        acked_before: seconds since 1970.
        max_bytes: how much may stay.
    """
    connection.execute("DELETE FROM messages WHERE acked_at < ?", [acked_before])
    (surplus,) = connection.execute("SELECT kept_bytes - ? FROM totals", [max_bytes]).fetchone()
    if surplus <= 0:
        return
    oldest = connection.execute(
        "SELECT seq, size FROM messages WHERE acked_at IS NOT NULL ORDER BY acked_at, seq"
    )
    doomed = []
    for seq, size in oldest:
        if surplus <= 0:
            break
        doomed.append([seq])
        surplus -= size
    connection.executemany("DELETE FROM messages WHERE seq = ?", doomed)
