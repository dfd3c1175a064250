"""What may be shown of a value in a message: never a secret, never a line break."""

from __future__ import annotations

import re

HIDDEN = "(hidden)"
MAX_SHOWN = 60
"""Characters of a value that a message repeats."""

_WORD = r"(?:pass(?:word|wd|wort|phrase|code)?|kennwort|pwd|pw|secret|token|key|credentials?|auth)"
_SECRET_KEY = re.compile(rf"(?:^|[^a-z]){_WORD}(?:$|[^a-z])|password|secret", re.IGNORECASE)
_SECRET_SETTING = re.compile(rf"{_WORD}\s*[=:]\s*\S", re.IGNORECASE)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,20})://")


def is_secret_key(key: str) -> bool:
    """True where a key's value may be a secret, or was meant to be one: ``password``, ``token``."""
    return _SECRET_KEY.search(key) is not None


def may_hold_secret(text: str) -> bool:
    """True for an address with a user in it, or a text like ``password=...``."""
    return "@" in text or _SECRET_SETTING.search(text) is not None


def show_value(value: object, *, is_secret: bool = False) -> str:
    """A value as a message may repeat it, at most about 60 characters, on one line.

    Args:
        value: what was read: None, bool, number, text, list or dictionary.
        is_secret: True where the key says that the value is nobody's business.

    Returns:
        ``nothing``, ``true``, ``3``, ``'three'``, ``a list of 2``, ``a group of keys``;
        of an address with a scheme the scheme alone; of a secret ``(hidden)``.
    """
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a group of keys"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if is_secret:
        return HIDDEN
    if isinstance(value, str):
        return _show_text(value)
    return str(value).lower()


def _show_text(text: str) -> str:
    scheme = _SCHEME.match(text)
    if scheme is not None:
        return f"'{scheme[1]}://...'"
    if "://" in text or may_hold_secret(text):
        return HIDDEN
    return repr(text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "...")
