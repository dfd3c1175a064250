"""Reading messages out of the spool's tables. All of it inside the caller's transaction."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable

from edge_sdk.alerting import retention
from edge_sdk.alerting.payload import decode_message
from edge_sdk.errors import InputError
from edge_sdk.records import Message

_LOGGER = logging.getLogger(__name__)
# Four walks along the index, merged: sorting all that waits would take seconds after an outage.
# The tales of losses (is_gap) are warnings.
_WALK = """
SELECT * FROM (SELECT seq, stored_at, payload FROM messages
WHERE acked_at IS NULL AND is_gap = {} AND severity = {} AND seq > :after AND seq <= :up_to
ORDER BY seq LIMIT :limit)
"""
_PEEK = (
    "UNION ALL".join(_WALK.format(*rank) for rank in [(0, 0), (0, 1), (0, 2), (1, 1)])
    + "ORDER BY seq LIMIT :limit"
)


def waiting(
    connection: sqlite3.Connection, *, limit: int, after: int, up_to: int
) -> list[tuple[int, float, bytes]]:
    """The oldest rows that are not acknowledged: ``seq``, seconds since 1970, payload."""
    return connection.execute(_PEEK, {"after": after, "up_to": up_to, "limit": limit}).fetchall()


def decode(connection: sqlite3.Connection, rows: Iterable[tuple[int, bytes]]) -> list[Message]:
    """Messages of rows of ``seq`` and payload; garbled ones become gaps."""
    messages = (_decode_or_drop(connection, seq, payload) for seq, payload in rows)
    return [message for message in messages if message is not None]


def _decode_or_drop(connection: sqlite3.Connection, seq: int, payload: bytes) -> Message | None:
    """Read a payload; one that the disk has garbled becomes a gap, so that it stops no others."""
    try:
        return decode_message(payload)
    except InputError as error:
        _LOGGER.warning("message %d is lost: %s", seq, error)
        retention.drop_message(connection, seq, "corrupt")
        return None
