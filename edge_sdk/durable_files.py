"""Small files that are there whole after a power cut, or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_sdk.errors import InputError


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        InputError: the file does not read as one.
    """
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: does not read as JSON ({error})") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def write_durably(path: Path, data: bytes) -> None:
    """Write a file and wait until its content is on the disk; its name may not be yet."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_json(path: Path, value: Mapping[str, Any]) -> None:
    """Put a JSON object in the place of a file: a reader finds the old one or the new one.

    Raises:
        OSError: the disk refuses; the old one is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    write_durably(partial, json.dumps(value, indent=1, allow_nan=False).encode())
    partial.rename(path)
    sync_folder(path.parent)


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """Add a JSON object as a line, and wait until it is on the disk.

    A line that a power cut left without its end is closed first, so that it spoils no other.

    Raises:
        OSError: the disk refuses.
    """
    is_new = not path.exists()
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(json.dumps(value, allow_nan=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        sync_folder(path.parent)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """JSON objects of a file, a line each; lines that a power cut tore are left out."""
    if not path.is_file():
        return []
    values = []
    for line in path.read_bytes().split(b"\n"):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            values.append(value)
    return values
