"""One line a problem: which file, line, column and key, and what is the matter."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from edge_sdk.config.base import KeyPath
from edge_sdk.errors import ConfigError

MAX_PROBLEMS_SHOWN = 20

Place: TypeAlias = tuple[int, int]
"""(line, column), both from 1."""
Problem: TypeAlias = tuple[Place | None, str]
"""Where, and the whole line about it."""


def nearest_key(key: str, known: Iterable[str], *, likeness: float) -> str | None:
    """The known key that a key resembles by at least ``likeness`` (0 to 1), or None."""
    plain = key.lower().replace("-", "_")
    return next(iter(difflib.get_close_matches(plain, known, n=1, cutoff=likeness)), None)


@dataclass(frozen=True, slots=True)
class Report:
    """Writes problems of one file.

    A key that is nothing like a known one is not repeated: of ``{password: a,b}``, to YAML, ``b``
    is a key, and so is all of ``{password:hunter2}``.
    """

    name: str
    """How messages call the file."""
    known_keys: frozenset[str]

    def problem(self, place: Place | None, path: KeyPath, message: str) -> Problem:
        """``press.yaml:14:22: cameras[0].source: message``."""
        where = self.name if place is None else f"{self.name}:{place[0]}:{place[1]}"
        line = ": ".join(part for part in (where, self._path_text(path), message) if part)
        return place, line

    def error(self, place: Place | None, path: KeyPath, message: str) -> ConfigError:
        """One problem as an error."""
        return problems_error([self.problem(place, path, message)])

    def _path_text(self, path: KeyPath) -> str:
        text = ""
        for key in path:
            if isinstance(key, int):
                text += f"[{key}]"
            else:
                text += ("." if text else "") + self._shown(key)
        return text

    def _shown(self, key: str) -> str:
        return key if nearest_key(key, self.known_keys, likeness=0.75) else "(a key)"


def problems_error(problems: list[Problem]) -> ConfigError:
    """One error for several problems, a line each, in the order of the file."""
    lines = [line for _, line in sorted(problems, key=lambda problem: problem[0] or (0, 0))]
    if len(lines) > MAX_PROBLEMS_SHOWN:
        lines[MAX_PROBLEMS_SHOWN:] = [f"... and {len(lines) - MAX_PROBLEMS_SHOWN} more"]
    return ConfigError("\n".join(lines))
