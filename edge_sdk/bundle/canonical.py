"""JSON with one spelling: how a manifest is written, and how strictly it is read."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any

from edge_sdk.errors import BundleError

MAX_DEPTH = 16
"""Objects and arrays inside one another."""
MAX_INTEGER = 2**53 - 1
"""Beyond it other JSON readers lose digits."""

# One that is never closed runs to the end: else each quote in it would be tried as a start.
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")


def canonical_json(value: object) -> bytes:
    """Write a JSON value in its only spelling: sorted keys, no spaces, UTF-8, floats by ``repr``.

    Raises:
        ValueError: a NaN, an infinity or a lone surrogate is in it.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode("utf-8")


def parse_json(raw: bytes, *, name: str) -> Any:  # noqa: ANN401 - any JSON value
    """Read JSON that comes from outside.

    Args:
        raw: the whole text.
        name: what to call it in messages.

    Raises:
        BundleError: not UTF-8, a byte order mark, a duplicate key, NaN, an infinity (also as
            ``1e999``), an integer beyond 2**53 - 1, nesting deeper than ``MAX_DEPTH``, or no JSON.
    """
    if raw.startswith(b"\xef\xbb\xbf"):
        raise BundleError(f"{name}: starts with a byte order mark, expected plain UTF-8")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BundleError(f"{name}: not UTF-8 at byte {error.start}") from error
    _refuse_deep_nesting(raw, name)
    rules = _Rules(name)
    try:
        return json.loads(
            text,
            parse_int=rules.integer,
            parse_float=rules.number,
            parse_constant=rules.constant,
            object_pairs_hook=rules.members,
        )
    except json.JSONDecodeError as error:
        raise BundleError(
            f"{name}: not JSON at line {error.lineno}, column {error.colno}: {error.msg}"
        ) from error


class _Rules:
    """What ``json`` asks for each part of a text; it alone would take them all."""

    def __init__(self, name: str) -> None:
        self._name = name

    def integer(self, digits: str) -> int:
        # Counted before int() reads them: that is quadratic, and refuses 5000 digits its own way.
        if len(digits) > 17 or abs(int(digits)) > MAX_INTEGER:
            raise BundleError(f"{self._name}: integer {digits[:20]} is beyond {MAX_INTEGER}")
        return int(digits)

    def number(self, digits: str) -> float:
        value = float(digits)
        if not math.isfinite(value):
            raise BundleError(f"{self._name}: number {digits[:20]} is too large")
        return value

    def constant(self, word: str) -> float:
        raise BundleError(f"{self._name}: {word} is not a JSON number")

    def members(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
            raise BundleError(f"{self._name}: duplicate key {twice!r}")
        return value


def _refuse_deep_nesting(raw: bytes, name: str) -> None:
    # Before json.loads, which would answer with a RecursionError at a depth nobody promises.
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub(b"", raw)):
        depth += 1 if bracket.group() in b"[{" else -1
        if depth > MAX_DEPTH:
            raise BundleError(f"{name}: nested deeper than {MAX_DEPTH} levels")
