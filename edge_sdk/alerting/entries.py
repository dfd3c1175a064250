"""What goes into the spool and what comes out of it, beside messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edge_sdk.alerting.ledger import TriggerNote
from edge_sdk.records import MessageDraft


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolStatistics:
    """Counters since the database was made: appended = acknowledged + rows + dropped messages."""

    rows: int
    """Messages that wait for the broker."""
    bytes: int
    """Payloads and pictures on the disk, acknowledged rows included."""
    pictures: int
    """Pictures that wait for the broker."""
    oldest_age_seconds: float
    """Of the oldest waiting message by the wall clock, 0 where none waits."""
    appended: int
    acknowledged: int
    dropped: Mapping[str, int]
    """``info``, ``warn``, ``critical`` and ``pictures`` to how many were dropped unsent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Something to be stored: a message, or a trigger that was taken and has no result yet."""

    draft: MessageDraft | None = None
    picture: bytes | None = None
    """JPEG, to be sent after all messages."""
    is_picture_left_out: bool = False
    """Whether there was one that could not be kept until now; to be counted."""
    trigger: TriggerNote | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPicture:
    """A picture that waits for the broker."""

    seq: int
    """Of the message it belongs to."""
    camera: str
    message_id: str
    jpeg: bytes
