"""The command that asks a camera to show that it still tells good from bad."""

from __future__ import annotations

from dataclasses import dataclass

from edge_sdk.alerting.command_json import read_camera, read_command, read_identifier
from edge_sdk.errors import InputError

CHALLENGE_COMMAND = "challenge"

_KEYS = frozenset({"command_id", "camera"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengeRequest:
    """Judge all masters again, from now on."""

    command_id: str
    """The plant's; the answers carry it, and a repeated delivery is known by it."""
    camera: str | None = None
    """None: the device's only camera."""


def parse_challenge(payload: bytes) -> ChallengeRequest:
    """Read the payload of ``cmd/challenge``.

    Raises:
        InputError: it is no JSON object, a key is missing, unknown or twice, or a value is wrong.
    """
    values = read_command("challenge", payload, _KEYS)
    if "command_id" not in values:
        raise InputError("challenge.command_id: expected a name, got nothing")
    return ChallengeRequest(
        command_id=read_identifier("challenge.command_id", values["command_id"]),
        camera=read_camera("challenge", values),
    )
