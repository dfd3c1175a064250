"""From a device file, or from nothing, to settings."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edge_sdk.config.base import FOLDER, KeyPath
from edge_sdk.config.explain import known_keys, settings_error
from edge_sdk.config.model import DeviceConfig
from edge_sdk.config.report import Report
from edge_sdk.config.yaml_reader import Document, read_document


def load_config(path: Path) -> DeviceConfig:
    """Read a device file.

    Args:
        path: YAML file; relative paths in it start at its folder.

    Raises:
        ConfigError: the file cannot be read, is not the plain kind of YAML that is expected, or
            a setting is wrong. The message has one line a problem:
            ``press.yaml:14:20: cameras[0].incident.hold_frames: expected ..., got ...``.
    """
    return _checked(read_document(path, known_keys(_schema())), path.absolute().parent)


def default_config() -> DeviceConfig:
    """Settings where there is no device file: first camera, built-in bundle, local broker."""
    return DeviceConfig()


def override_config(config: DeviceConfig, changes: Mapping[KeyPath, object]) -> DeviceConfig:
    """Change settings, as options of a command do, under the same rules as in a file.

    Args:
        config: settings to start from; left as they are.
        changes: key path -> value, for example ``{("cameras", 0, "source"): "dir:pictures"}``;
            values as YAML would give them, or a ``Path``; relative paths start at the working
            folder.

    Raises:
        ConfigError: a value is wrong; the message starts with ``command line:``.
    """
    values: dict[str, Any] = json.loads(config.model_dump_json())
    for path, value in changes.items():
        group: Any = values
        for key in path[:-1]:
            group = group[key]
        group[path[-1]] = value
    report = Report("command line", known_keys(_schema()))
    document = Document(report=report, values=values, places={}, key_places={})
    return _checked(document, Path.cwd())


@functools.cache
def _schema() -> dict[str, Any]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **DeviceConfig.model_json_schema(),
        "title": "Device file of the edge inspection SDK",
    }


def config_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the device file, for editors: ranges, choices and descriptions."""
    return json.loads(json.dumps(_schema()))  # type: ignore[no-any-return]


def _checked(document: Document, folder: Path) -> DeviceConfig:
    try:
        return DeviceConfig.model_validate_json(
            json.dumps(dict(document.values), default=os.fspath), context={FOLDER: folder}
        )
    except ValidationError as error:
        problem = settings_error(error, document, _schema())
    raise problem
