"""YAML in, plain values and their places out; what YAML 1.1 would guess at is refused.

Only PyYAML's event stream is used, so nothing is ever constructed, expanded or guessed: plain
scalars are read by the rules below, which have one spelling for each kind of value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from edge_sdk.config.base import KeyPath
from edge_sdk.config.report import Place, Problem, Report, problems_error
from edge_sdk.config.yaml_scalar import Unclear, read_plain_scalar
from edge_sdk.errors import ConfigError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20
MAX_TEXT = 4096
"""Characters of one value."""

_FORBIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]|\r(?!\n)"
)
_SYNTAX = (
    ("could not find expected ':'", "a key without a colon; expected 'key: value'"),
    (
        "mapping values are not allowed",
        "a ': ' too much; expected quotes round a text with ': ' in it, or one in the line above",
    ),
    ("expected <block end>", "indented unlike the lines above it"),
    ("found unexpected end of stream", "a quote is opened and never closed"),
    ("expected ',' or ", "a comma or a closing bracket is missing"),
    ("found character", "no value starts with this character; expected quotes round the text"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A device file as read, before its meaning is checked."""

    report: Report
    values: Mapping[str, Any]
    """None, bool, int, float, str, list and dict; as deep as 20."""
    places: Mapping[KeyPath, Place]
    """Where each value starts."""
    key_places: Mapping[KeyPath, Place]
    """Where the key of each value starts."""


def read_document(path: Path, known_keys: frozenset[str]) -> Document:
    """Read a device file.

    Args:
        path: file of at most 256 kB, UTF-8.
        known_keys: keys that messages may repeat.

    Raises:
        ConfigError: it cannot be read, or is not the plain kind of YAML that is expected; the
            message names file, line, column and key.
    """
    report = Report(str(path), known_keys)
    text = _decode(_read_bytes(path), report)
    _refuse_characters(text, report)
    reader = _Reader(report, yaml.parse(text, Loader=yaml.SafeLoader))
    try:
        values = reader.read()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = None if mark is None else (mark.line + 1, mark.column + 1)
        # The library's own words may repeat a part of the file, and so a secret.
        problem = error.problem or ""
        message = next((ours for theirs, ours in _SYNTAX if problem.startswith(theirs)), "")
        refusal = report.error(place, (), message or "not valid YAML")
    else:
        return Document(
            report=report,
            values=MappingProxyType(values),
            places=MappingProxyType(reader.places),
            key_places=MappingProxyType(reader.key_places),
        )
    raise refusal


def _read_bytes(path: Path) -> bytes:
    try:
        if not path.exists():
            raise ConfigError(f"{path}: expected a device file, got no such file")
        # A pipe would be waited for, a folder cannot be read.
        if not path.is_file():
            raise ConfigError(f"{path}: expected a device file, got something else than a file")
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path}: expected at most {MAX_BYTES} bytes, got more")
    return data


def _decode(data: bytes, report: Report) -> str:
    if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise report.error((1, 1), (), "expected UTF-8 without a byte order mark, got one")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        start = error.start
    # Outside, so that the error, which holds the whole file, is not chained.
    place = (data.count(b"\n", 0, start) + 1, start - data.rfind(b"\n", 0, start))
    raise report.error(place, (), f"expected UTF-8, got byte 0x{data[start]:02x}")


def _refuse_characters(text: str, report: Report) -> None:
    match = _FORBIDDEN.search(text)
    tab = text.find("\t")
    if match is None and tab < 0:
        return
    start = tab if match is None else match.start()
    place = (text.count("\n", 0, start) + 1, start - text.rfind("\n", 0, start))
    message = (
        "expected spaces, got a tab"
        if match is None
        else f"expected text, got the control character U+{ord(match[0]):04X}"
    )
    raise report.error(place, (), message)


@dataclass(slots=True)
class _Reader:
    """Builds values out of events; remembers where each stood."""

    report: Report
    events: Iterator[Any]
    places: dict[KeyPath, Place] = field(default_factory=dict)
    key_places: dict[KeyPath, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def read(self) -> dict[str, Any]:
        event = self._next(yaml.DocumentStartEvent, yaml.StreamEndEvent)
        if isinstance(event, yaml.StreamEndEvent):
            raise self.report.error(None, (), "expected settings, got an empty file")
        if event.version or event.tags:
            raise self._error(event, (), "expected no line that starts with '%'")
        values = self._value(next(self.events), (), 1)
        self._next(yaml.DocumentEndEvent)
        extra = self._next(yaml.DocumentStartEvent, yaml.StreamEndEvent)
        if isinstance(extra, yaml.DocumentStartEvent):
            raise self._error(extra, (), "expected one document, got a second '---'")
        if not isinstance(values, dict):
            kind = {list: "a list", type(None): "an empty file"}.get(type(values), "a single value")
            self._note(self.places[()], (), f"expected keys such as 'cameras:', got {kind}")
        if self.problems:
            raise problems_error(self.problems)
        return dict(values)

    def _next(self, *kinds: type[yaml.Event]) -> Any:  # noqa: ANN401 - PyYAML's events are untyped
        return next(event for event in self.events if isinstance(event, kinds))

    def _value(self, event: Any, path: KeyPath, depth: int) -> Any:  # noqa: ANN401 - YAML values
        self._refuse_references(event, path)
        self.places[path] = _place(event)
        if depth > MAX_DEPTH:
            raise self._error(event, path[:3], f"expected at most {MAX_DEPTH} levels, got more")
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Any] = []
            while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
                items.append(self._value(event, (*path, len(items)), depth + 1))
            return items
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path, depth)
        return self._scalar(event, path)

    def _mapping(self, path: KeyPath, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            self._refuse_references(event, path)
            if not isinstance(event, yaml.ScalarEvent):
                raise self._error(event, path, "expected a plain word as key, got a list or group")
            key_path = (*path, event.value)
            if event.value in values:
                first = self.key_places[key_path][0]
                self._note(_place(event), key_path, f"given twice, first in line {first}")
            else:
                self.key_places[key_path] = _place(event)
            values[event.value] = self._value(next(self.events), key_path, depth + 1)
        return values

    def _scalar(self, event: Any, path: KeyPath) -> Any:  # noqa: ANN401 - YAML values
        text: str = event.value
        if len(text) > MAX_TEXT:
            self._note(_place(event), path, f"expected at most {MAX_TEXT} characters, got more")
        elif "\n" in text or _FORBIDDEN.search(text) or "\t" in text:
            self._note(_place(event), path, "expected one line of text without control characters")
        elif event.style is None:
            try:
                return read_plain_scalar(text)
            except Unclear as unclear:
                self._note(_place(event), path, str(unclear))
        return text

    def _refuse_references(self, event: Any, path: KeyPath) -> None:  # noqa: ANN401 - as above
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise self._error(
                event, path, "expected no '&' or '*' before a text without quotes (YAML's anchors "
                "and aliases are not read)"
            )  # fmt: skip
        if event.tag is not None:
            raise self._error(
                event, path, "expected no '!' before a text without quotes (YAML's tags are not "
                "read)"
            )  # fmt: skip

    def _note(self, place: Place, path: KeyPath, message: str) -> None:
        self.problems.append(self.report.problem(place, path, message))

    def _error(self, event: Any, path: KeyPath, message: str) -> ConfigError:  # noqa: ANN401
        return self.report.error(_place(event), path, message)


def _place(event: Any) -> Place:  # noqa: ANN401 - PyYAML's events are untyped
    return event.start_mark.line + 1, event.start_mark.column + 1
