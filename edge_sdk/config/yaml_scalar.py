"""Plain words of a YAML file: one spelling for each value, and no guessing."""

from __future__ import annotations

import re
from typing import TypeAlias

Plain: TypeAlias = bool | int | float | str | None

_WORDS: dict[str, bool | None] = {"": None, "null": None, "~": None, "true": True, "false": False}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,40}")
_QUOTES = "or put quotes round it if it is a text"

_UNCLEAR = tuple(
    (re.compile(pattern, re.IGNORECASE), message)
    for pattern, message in (
        (
            r"true|false|yes|no|on|off|y|n",
            f"expected true or false in small letters, got {{text!r}}; write those, {_QUOTES}",
        ),
        (
            r"null|=|<<",
            f"expected a value, got {{text!r}}; leave the key out, {_QUOTES}",
        ),
        (
            r"[-+]?0[0-9_]+(?:\.[0-9_]*)?",
            f"got a leading zero; write the number without it, {_QUOTES}",
        ),
        (
            r"[-+]?0[xob][0-9a-f_]+",
            f"got a number that is not decimal; write it so, {_QUOTES}",
        ),
        (
            r"[-+]?[0-9][0-9_]*(?::[0-9_]+)+(?:\.[0-9_]*)?",
            f"got a colon between digits; write seconds as one number, {_QUOTES}",
        ),
        (
            r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}.*",
            "got a date; put quotes round it",
        ),
        (
            r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9_]+)e[-+]?[0-9]+",
            f"got a number with an exponent; write it out, as 1000 or 0.001, {_QUOTES}",
        ),
        (
            r"[-+]?\.(?:inf|nan)|[-+]?(?:inf|nan|infinity)",
            f"expected a number, got {{text!r}}; leave the key out, {_QUOTES}",
        ),
        (
            r"[-+]?[0-9]+(?:_+[0-9]*)+(?:\.[0-9_]*)?",
            f"got an underscore between digits; write the number without it, {_QUOTES}",
        ),
        (
            r"[-+]?(?:\.[0-9]+|[0-9]+\.)",
            f"got a point without a digit on both sides; write 0.5 or 5.0, {_QUOTES}",
        ),
        (
            r"[-+]?[0-9]+(?:\.[0-9]*)?",
            f"got too many digits; write at most 18, {_QUOTES}",
        ),
    )
)


class Unclear(Exception):  # noqa: N818 - not an error of the SDK: the reader adds the place to it
    """A plain word that readers of YAML take for different things; says how to write it."""


def read_plain_scalar(text: str) -> Plain:
    """Read a word that stands without quotes.

    Args:
        text: the word, without line breaks.

    Returns:
        None for nothing, ``null`` and ``~``; a bool for ``true`` and ``false``; an int or a
        finite float for decimal digits; the text itself for anything else.

    Raises:
        Unclear: YAML 1.1 and 1.2 or a person may disagree on it: ``no``, ``012``, ``12:30``,
            ``1e3``, ``2024-01-01``, ``.nan``. Digits are not repeated in its message: they might
            be a secret.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text):
        return float(text)
    for pattern, message in _UNCLEAR:
        if pattern.fullmatch(text):
            raise Unclear(message.format(text=text))
    return text
