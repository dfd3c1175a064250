"""Errors of the settings' check, in words for the person who wrote the file.

What was expected is read off the JSON Schema, so that ranges are written down once: in the model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from edge_sdk.config.base import KeyPath
from edge_sdk.config.redaction import is_secret_key, show_value
from edge_sdk.config.report import nearest_key, problems_error
from edge_sdk.config.yaml_reader import Document
from edge_sdk.errors import ConfigError

Schema: TypeAlias = Mapping[str, Any]

_NUMBER_TEXT = re.compile(r"[-+]?[0-9]+([.,][0-9]+)?")


def settings_error(error: ValidationError, document: Document, schema: Schema) -> ConfigError:
    """Turn what the check found into one error, a line for each problem.

    Args:
        error: what the check raised; not chained to the result, since it holds the values.
        document: the file, for lines and columns.
        schema: JSON Schema of all settings.
    """
    problems = []
    found = error.errors(include_url=False)
    for details in found:
        if _follows_from_others(details, found):
            continue
        path: KeyPath = details["loc"]
        if details["type"] == "refused":
            path = (*path, *details["ctx"]["where"])
        is_about_key = details["type"] == "extra_forbidden"
        places = document.key_places if is_about_key else document.places
        ends = range(len(path), -1, -1)
        place = next((places[path[:end]] for end in ends if path[:end] in places), None)
        problems.append(document.report.problem(place, path, _message(details, path, schema)))
    return problems_error(problems)


def _follows_from_others(details: ErrorDetails, found: Sequence[ErrorDetails]) -> bool:
    """True for a list called too short only because items of it were refused."""
    path = details["loc"]
    return details["type"] == "too_short" and any(
        len(other["loc"]) > len(path) and other["loc"][: len(path)] == path for other in found
    )


def _message(details: ErrorDetails, path: KeyPath, schema: Schema) -> str:
    if details["type"] == "refused":
        return str(details["ctx"]["message"])
    if details["type"] == "extra_forbidden":
        return _unknown_key(str(path[-1]), _node_at(schema, path[:-1]))
    node = _node_at(schema, path)
    if details["type"] == "missing":
        return f"missing; expected {describe(node, schema)}"
    value = details["input"]
    is_secret = any(is_secret_key(key) for key in path if isinstance(key, str))
    got = show_value(value, is_secret=is_secret)
    hint = "" if is_secret else _hint(value, node)
    return f"expected {describe(node, schema)}, got {got}{hint}"


def _unknown_key(key: str, node: Schema) -> str:
    known = sorted(node.get("properties", {}))
    if is_secret_key(key) and "password_file" in known:
        return "unknown key; secrets do not belong in this file: set password_file or password_env"
    if ":" in key:
        return "unknown key; a space is missing after its colon"
    nearest = nearest_key(key, known, likeness=0.6)
    if nearest is not None:
        return f"unknown key; did you mean '{nearest}'?"
    return f"unknown key; known are {', '.join(known)}"


def _hint(value: object, node: Schema) -> str:
    kind = node.get("type")
    if kind == "string" and isinstance(value, bool | int | float):
        return f'; write it in quotes: "{show_value(value)}"'
    if kind in {"integer", "number", "boolean"} and isinstance(value, str):
        if kind == "boolean" and value in {"true", "false"}:
            return f"; write {value} without quotes"
        if kind != "boolean" and _NUMBER_TEXT.fullmatch(value):
            return f"; write {value.replace(',', '.')} without quotes"
    return ""


def describe(node: Schema, schema: Schema) -> str:
    """Say in plain words what a schema allows: ``a whole number from 1 to 1000``."""
    node = _resolved(node, schema)
    if "x-expected" in node:
        return str(node["x-expected"])
    if "enum" in node:
        return "one of " + ", ".join(str(value) for value in node["enum"])
    kind = node["type"]
    if kind in {"integer", "number"}:
        return ("a whole number" if kind == "integer" else "a number") + _range_text(node)
    if kind == "string":
        longest = f" of at most {node['maxLength']} characters" if "maxLength" in node else ""
        return ("a path" if node.get("format") == "path" else "a text") + longest
    if kind == "array":
        fewest, most = node.get("minItems", 0), node.get("maxItems")
        return f"a list of {fewest} to {most}"
    return "true or false" if kind == "boolean" else "a group of keys"


def _range_text(node: Schema) -> str:
    low, high = node.get("minimum"), node.get("maximum")
    if "exclusiveMinimum" in node:
        return f" above {node['exclusiveMinimum']:g} and at most {high:.15g}"
    return f" from {low:.15g} to {high:.15g}"


def _resolved(node: Schema, schema: Schema) -> Schema:
    """Follow references, and take the part of an optional setting that is not null."""
    while True:
        if "$ref" in node:
            target = schema["$defs"][str(node["$ref"]).rpartition("/")[2]]
            node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
        elif "anyOf" in node:
            node = next(option for option in node["anyOf"] if option.get("type") != "null")
        else:
            return node


def known_keys(schema: Schema) -> frozenset[str]:
    """All keys of all groups."""
    groups = (schema, *schema["$defs"].values())
    return frozenset(key for group in groups for key in group["properties"])


def _node_at(schema: Schema, path: KeyPath) -> Schema:
    node = _resolved(schema, schema)
    for key in path:
        if isinstance(key, str):
            node = node["properties"][key]
        else:
            node = node["items"] if "items" in node else node["prefixItems"][key]
        node = _resolved(node, schema)
    return node
