"""How the payload of every command is read: strictly, for anybody may have sent it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from edge_sdk.alerting.topics import is_token
from edge_sdk.errors import InputError

_IDENTIFIER = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,128}\Z")
_QUOTED_CHARACTERS = 80
_MAX_SEQ = 2**53
"""The largest whole number that every reader of JSON knows exactly."""


def read_command(command: str, payload: bytes, keys: frozenset[str]) -> Mapping[str, Any]:
    """Read a command's JSON object.

    Args:
        command: its name, for messages.
        payload: as it came.
        keys: the keys it may have, ``v`` (1) besides.

    Raises:
        InputError: it is no JSON object, or a key is unknown or twice.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) != len(pairs):
            raise InputError(f"{command}: expected each key once, got a key twice")
        return values

    def no_constant(name: str) -> NoReturn:
        raise InputError(f"{command}: expected JSON, got {name}")

    try:
        values = json.loads(
            payload.decode("utf-8"), object_pairs_hook=unique, parse_constant=no_constant
        )
    except (ValueError, RecursionError) as error:  # ValueError: not UTF-8, not JSON
        raise InputError(f"{command}: expected a JSON object, got {quote(payload)}") from error
    if not isinstance(values, dict):
        raise InputError(f"{command}: expected a JSON object, got {quote(payload)}")
    known = {*keys, "v"}
    unknown = values.keys() - known
    if unknown:
        raise InputError(f"{command}: expected keys {sorted(known)}, got {quote(sorted(unknown))}")
    version = values.get("v", 1)
    if type(version) is not int or version != 1:
        raise InputError(f"{command}.v: expected 1, got {quote(version)}")
    return values


def read_identifier(what: str, value: object) -> str:
    """An identifier of the plant's choosing: 1 to 128 characters, no control characters."""
    if isinstance(value, str) and _IDENTIFIER.match(value):
        return value
    raise InputError(
        f"{what}: expected 1 to 128 characters without control characters, got {quote(value)}"
    )


def read_seq(what: str, value: object) -> int:
    """A message's number.

    Raises:
        InputError: it is none.
    """
    if type(value) is int and 1 <= value <= _MAX_SEQ:
        return value
    raise InputError(f"{what}: expected a whole number from 1 to 2^53, got {quote(value)}")


def read_camera(command: str, values: Mapping[str, Any]) -> str | None:
    """The camera that a command names; None: the only one."""
    camera = values.get("camera")
    if camera is None or (isinstance(camera, str) and is_token(camera)):
        return camera
    raise InputError(f"{command}.camera: expected a camera's name, got {quote(camera)}")


def quote(value: object) -> str:
    """A wrong value for a message, short and without characters that could forge a log line."""
    text = ascii(value)
    return text if len(text) <= _QUOTED_CHARACTERS else text[:_QUOTED_CHARACTERS] + "..."
