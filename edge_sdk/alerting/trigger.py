"""The command that asks for the inspection of one part."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from edge_sdk.alerting.topics import is_token
from edge_sdk.errors import InputError

TRIGGER_COMMAND = "trigger"

_KEYS = frozenset({"v", "part_id", "trigger_id", "camera"})
_IDENTIFIER = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,128}\Z")
_QUOTED_CHARACTERS = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerRequest:
    """Inspect one part, and answer with exactly one result."""

    part_id: str
    """1 to 128 characters of the plant's choosing, no control characters."""
    trigger_id: str | None = None
    """Tells a repeated delivery from a second inspection of the same part."""
    camera: str | None = None
    """None: the device's only camera."""


def parse_trigger(payload: bytes) -> TriggerRequest:
    """Read the payload of ``cmd/trigger``.

    Raises:
        InputError: it is no JSON object, a key is missing, unknown or twice, or a value is wrong.
    """
    try:
        command = json.loads(
            payload.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:  # ValueError: not UTF-8, not JSON
        raise InputError(f"trigger: expected a JSON object, got {_quote(payload)}") from error
    if not isinstance(command, dict):
        raise InputError(f"trigger: expected a JSON object, got {_quote(payload)}")
    unknown = command.keys() - _KEYS
    if unknown:
        raise InputError(f"trigger: expected keys {sorted(_KEYS)}, got {_quote(sorted(unknown))}")
    version = command.get("v", 1)
    if type(version) is not int or version != 1:
        raise InputError(f"trigger.v: expected 1, got {_quote(version)}")
    if "part_id" not in command:
        raise InputError("trigger.part_id: expected the part's identifier, got nothing")
    camera = command.get("camera")
    if camera is not None and not (isinstance(camera, str) and is_token(camera)):
        raise InputError(f"trigger.camera: expected a camera's name, got {_quote(camera)}")
    trigger_id = command.get("trigger_id")
    return TriggerRequest(
        part_id=_identifier("part_id", command["part_id"]),
        trigger_id=None if trigger_id is None else _identifier("trigger_id", trigger_id),
        camera=camera,
    )


def _identifier(key: str, value: object) -> str:
    if isinstance(value, str) and _IDENTIFIER.match(value):
        return value
    raise InputError(
        f"trigger.{key}: expected 1 to 128 characters without control characters, "
        f"got {_quote(value)}"
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise InputError("trigger: expected each key once, got a key twice")
    return values


def _no_constant(name: str) -> NoReturn:
    raise InputError(f"trigger: expected JSON, got {name}")


def _quote(value: object) -> str:
    """A wrong value for a message, short and without characters that could forge a log line."""
    text = ascii(value)
    return text if len(text) <= _QUOTED_CHARACTERS else text[:_QUOTED_CHARACTERS] + "..."
