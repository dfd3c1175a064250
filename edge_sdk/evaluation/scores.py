"""The table of scores: one row a judged picture, so that others recompute every figure."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from edge_sdk.errors import InputError

AS_IT_IS = "as it is"
"""The condition of a picture that was not altered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow:
    """One picture, judged once. Columns of the csv file, in this order."""

    category: str
    shots: str
    """References: a number, or ``full``."""
    seed: int
    """Of the draw of references."""
    part: str
    """``test``; or ``run_in``: a good picture of ``train`` that is no reference, in the order of
    a simulated run-in."""
    condition: str
    """``as it is``, or how the picture was altered before it was judged."""
    file: str
    """Below the category's folder."""
    label: str
    """``good`` or ``bad``."""
    kind: str
    """``good``, or what is wrong."""
    score: float | None
    """Higher is worse; None: not judged, the verdict is ``fault``."""
    threshold: float | None
    """The fitted one; None where this draw can have none (1 reference, or more than 64)."""
    verdict: str
    """``normal``, ``anomalous``, ``fault``; empty where there is no threshold."""
    latency_ms: float
    """Of all stages together."""
    preprocess_ms: float | None
    encode_ms: float | None
    score_ms: float | None
    decide_ms: float | None

    @property
    def is_bad(self) -> bool:
        """Whether the part on the picture is bad."""
        return self.label == "bad"


COLUMNS = tuple(field.name for field in fields(ScoreRow))
_NUMBERS = ("score", "threshold", "preprocess_ms", "encode_ms", "score_ms", "decide_ms")


def write_scores(path: Path, rows: Iterable[ScoreRow]) -> None:
    """Write the table as UTF-8 csv with a heading; numbers as Python prints them, None as empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: "" if v is None else v for k, v in asdict(row).items()})


def read_scores(path: Path) -> list[ScoreRow]:
    """Read a table back.

    Raises:
        InputError: it lacks a column, or a value is not what the column holds.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise InputError(f"{path}: expected the columns {COLUMNS}, got {reader.fieldnames}")
        return [row_of(dict(row), f"{path}:{number}") for number, row in enumerate(reader, 2)]


def row_of(values: dict[str, Any], where: str) -> ScoreRow:
    """A row out of text or JSON values.

    Raises:
        InputError: a value is not what its column holds.
    """
    try:
        for name in _NUMBERS:
            values[name] = None if values[name] in ("", None) else float(values[name])
        row = ScoreRow(
            **{**values, "seed": int(values["seed"]), "latency_ms": float(values["latency_ms"])}
        )
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"{where}: not a row of scores ({error})") from error
    if row.score is not None and not math.isfinite(row.score):
        raise InputError(f"{where}: the score of {row.file} is not finite")
    return row
