"""An error as a line of JSON, for the way from a child process to its parent."""

from __future__ import annotations

import json

from edge_sdk.errors import (
    BundleError,
    BundleIntegrityError,
    BusyError,
    CaptureError,
    ConfigError,
    EdgeError,
    EngineError,
    GateError,
    InputError,
    LineError,
    PublishError,
    SelfTestError,
    SpoolError,
)

MAX_BYTES = 16 * 1024
_MAX_MESSAGE_CHARACTERS = 1000
"""JSON may write one as twelve bytes."""
_KINDS = {
    kind.__name__: kind
    for kind in (
        EdgeError,
        ConfigError,
        BundleError,
        BundleIntegrityError,
        CaptureError,
        LineError,
        EngineError,
        GateError,
        SelfTestError,
        InputError,
        SpoolError,
        PublishError,
        BusyError,
    )
}


def encode_error(error: EdgeError) -> bytes:
    """Write an error as the nearest of our own classes: nobody need know a third party's.

    Returns:
        At most ``MAX_BYTES``; a longer message is cut.
    """
    name = next(kind.__name__ for kind in type(error).__mro__ if kind in _KINDS.values())
    message = str(error)[:_MAX_MESSAGE_CHARACTERS]
    return json.dumps({"error": name, "message": message}).encode("ascii")


def decode_error(text: bytes) -> EdgeError:
    """Read what ``encode_error`` wrote.

    Raises:
        CaptureError: it was written by something else.
    """
    try:
        said = json.loads(text)
        return _KINDS[said["error"]](said["message"])
    except (ValueError, KeyError, TypeError) as defect:
        raise CaptureError(f"expected an error as JSON, got {text[:80]!r}") from defect
