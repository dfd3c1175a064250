"""The command that asks for the inspection of one part."""

from __future__ import annotations

from dataclasses import dataclass

from edge_sdk.alerting.command_json import read_camera, read_command, read_identifier
from edge_sdk.errors import InputError

TRIGGER_COMMAND = "trigger"

_KEYS = frozenset({"part_id", "trigger_id", "camera"})


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
    values = read_command("trigger", payload, _KEYS)
    if "part_id" not in values:
        raise InputError("trigger.part_id: expected the part's identifier, got nothing")
    trigger_id = values.get("trigger_id")
    camera = read_camera("trigger", values)
    return TriggerRequest(
        part_id=read_identifier("trigger.part_id", values["part_id"]),
        trigger_id=(
            None if trigger_id is None else read_identifier("trigger.trigger_id", trigger_id)
        ),
        camera=camera,
    )
