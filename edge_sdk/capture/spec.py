"""What to read, in words that JSON has: the same for this process and for a child."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edge_sdk.capture.pacing import Pace


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """One source; all values are JSON's own, so that a child process can be told them."""

    kind: str
    """``camera``, ``rtsp``, ``http``, ``gst``, ``genicam``, ``file``, ``dir``, or the name of an
    entry point in ``edge_sdk.sources``."""
    place: str
    """A camera's node, address (without credentials), pipeline or name, the path of a video or
    folder, or what the entry point understands."""
    source_id: str
    """What the frames are said to come from."""
    pace: Pace = "every"
    """For files: ``every`` frame, or ``realtime``: the newest due."""
    frames_per_second: float | None = None
    """Rate of files under ``realtime``; None: the video's own, or 10."""
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    """Of a network camera. A child is told them through a file without a name: they are in no
    process's arguments."""
    transport: Literal["tcp", "udp"] = "tcp"
    """How an rtsp camera sends its pictures."""
    settings: Mapping[str, float | int | str] | None = None
    """How the camera is to be set, as it was at enrolment; None: as it is."""
