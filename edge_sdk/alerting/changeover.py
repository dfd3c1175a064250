"""The command that changes a camera to another reference set."""

from __future__ import annotations

from dataclasses import dataclass

from edge_sdk.alerting.command_json import quote, read_camera, read_command, read_identifier
from edge_sdk.alerting.topics import is_token
from edge_sdk.errors import InputError

REFERENCES_COMMAND = "references"

_KEYS = frozenset({"command_id", "reference_set", "camera"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferencesRequest:
    """Judge with the newest version of this set from now on."""

    command_id: str
    """The plant's; the answers carry it, and a repeated delivery is known by it."""
    reference_set: str
    camera: str | None = None
    """None: the device's only camera."""


def parse_references(payload: bytes) -> ReferencesRequest:
    """Read the payload of ``cmd/references``.

    Raises:
        InputError: it is no JSON object, a key is missing, unknown or twice, or a value is wrong.
    """
    values = read_command("references", payload, _KEYS)
    for key in ("command_id", "reference_set"):
        if key not in values:
            raise InputError(f"references.{key}: expected a name, got nothing")
    name = values["reference_set"]
    if not (isinstance(name, str) and is_token(name)):
        raise InputError(f"references.reference_set: expected a set's name, got {quote(name)}")
    return ReferencesRequest(
        command_id=read_identifier("references.command_id", values["command_id"]),
        reference_set=name,
        camera=read_camera("references", values),
    )
