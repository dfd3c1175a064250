"""What all groups of settings share: how strict they are, names, paths, and how one refuses."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from edge_sdk.errors import ConfigError

Key: TypeAlias = str | int
"""A key of a group, or the number of an item of a list, from 0."""
KeyPath: TypeAlias = tuple[Key, ...]
"""``("cameras", 0, "source")``."""

FOLDER = "folder"
"""Key of the validation context: the folder to which relative paths belong."""


_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


class Group(BaseModel):
    """A group of settings: frozen, no unknown key, no text for a number, no bool for an int."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )


def refusal(message: str, *where: Key) -> PydanticCustomError:
    """Make the error by which a validator refuses.

    Args:
        message: what was expected and what came; shown as it is, so free of secrets.
        where: keys below the validated value that the message is about.
    """
    return PydanticCustomError("refused", "{message}", {"message": message, "where": list(where)})


def absolute_path(text: str | Path, info: ValidationInfo) -> Path:
    """Make a path absolute: ``~/`` is the home folder, other relative ones start at the file's.

    Raises:
        PydanticCustomError: it is an address or nothing, or there is no home folder.
    """
    path = Path(text)
    if _ADDRESS.match(str(path)):
        raise refusal("expected a path on this computer, got an address")
    if path == Path():
        raise refusal("expected the path of a file or a folder, got none")
    if path.parts[0] == "~":
        try:
            path = path.expanduser()
        except RuntimeError:
            raise refusal("'~' stands for a home folder, but this user has none") from None
    folder: Path = (info.context or {}).get(FOLDER) or Path.cwd()
    return folder / path


SettingPath: TypeAlias = Annotated[Path, AfterValidator(absolute_path)]
"""An absolute path; in the file it may be relative to the file."""

Name: TypeAlias = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$",
        json_schema_extra={
            "x-expected": "a name of 1 to 63 characters from a-z, 0-9, '-' and '_', "
            "starting with a letter or digit"
        },
    ),
]
"""A name that may stand in an MQTT topic and in a folder's name."""


EnvironmentName: TypeAlias = Annotated[
    str,
    Field(
        pattern=r"^[A-Z_][A-Z0-9_]{0,127}$",
        json_schema_extra={
            "x-expected": "the name of an environment variable in capitals, such as EDGE_PASSWORD"
        },
    ),
]
"""The name of an environment variable, in capitals, so that a password rarely passes for one."""


def repeated(names: Sequence[str]) -> int | None:
    """Index of the first name that stood before, or None."""
    return next((index for index, name in enumerate(names) if name in names[:index]), None)


def host_device_name() -> str:
    """This computer's name made into a valid device name."""
    return device_name_from(socket.gethostname())


def device_name_from(host: str) -> str:
    """A host name, without its domain, made into a valid device name.

    Returns:
        ``edge-device`` where nothing of the name is left.
    """
    short = host.partition(".")[0].lower()
    return re.sub(r"[^a-z0-9_-]+", "-", short).strip("-_")[:63] or "edge-device"


def user_state_dir() -> Path:
    """``$XDG_STATE_HOME/edge-inspect``, else ``~/.local/state/edge-inspect``.

    Raises:
        ConfigError: neither exists for this user.
    """
    base = os.environ.get("XDG_STATE_HOME", "")
    if Path(base).is_absolute():
        return Path(base) / "edge-inspect"
    try:
        return Path.home() / ".local/state/edge-inspect"
    except RuntimeError:
        raise ConfigError(
            "state_dir: expected a folder, as this user has no home folder to put one into, "
            "got nothing"
        ) from None


def usable_cores() -> int:
    """Processor cores that this process may run on, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
