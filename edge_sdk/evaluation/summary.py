"""The answer of ``edge-eval``: per category and number of shots, with mean, spread and worst."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edge_sdk.errors import InputError
from edge_sdk.evaluation.layouts import Category
from edge_sdk.evaluation.plant import (
    after_run_in,
    ranking_figures,
    rates,
    suitability,
    under_nuisance,
)
from edge_sdk.evaluation.scores import AS_IT_IS, ScoreRow, row_of
from edge_sdk.evaluation.suitability import MOST_VARIETY
from edge_sdk.metrics import DEFINITIONS, Definition, severity_concordance, share_interval

FORMAT = 1
STAGES = ("preprocess_ms", "encode_ms", "score_ms", "decide_ms", "latency_ms")
_LOWER_IS_BETTER = ("escapes_", "overkill_")


def rows_of(result: dict[str, Any]) -> list[ScoreRow]:
    """The rows of one draw."""
    return [row_of(dict(row), result["category"]) for row in result["rows"]]


def summarize(
    categories: Sequence[Category],
    results: Sequence[dict[str, Any]],
    *,
    definition: Definition,
    severity: Sequence[str],
    setting: dict[str, Any],
) -> dict[str, Any]:
    """Everything but the rows, as JSON values; ``schemas/evaluation.json`` describes it.

    Args:
        categories: those evaluated.
        results: of all draws.
        definition: of the metrics.
        severity: kinds of defect from least to most severe; empty: not known.
        setting: what was evaluated: bundle, engine, sampling and the like.

    Raises:
        InputError: a category has no judged good or bad picture.
    """
    entries = [_category(category, results, definition, severity) for category in categories]
    return {
        "format": FORMAT,
        **setting,
        "definition": definition,
        "definitions": {
            **DEFINITIONS[definition],
            "escapes_at_N_percent": "share of bad parts at or below the lowest threshold with at "
            "most N false alarms per 100 good test parts",
            "overkill_at_5_percent_escapes": "share of good parts alarmed at the highest "
            "threshold that lets at most 5 % of the bad ones escape",
            "std": "over seeds, n - 1; null with one seed",
            "interval": "Wilson's, 95 %, on the pictures of one draw",
        },
        "categories": entries,
        "overall": _overall(entries),
    }


def _category(
    category: Category,
    results: Sequence[dict[str, Any]],
    definition: Definition,
    severity: Sequence[str],
) -> dict[str, Any]:
    mine = [result for result in results if result["category"] == category.name]
    shots = list(dict.fromkeys(result["shots"] for result in mine))
    bad = sum(picture.is_bad for picture in category.test)
    return {
        "category": category.name,
        "layout": category.layout,
        "pictures": {
            "train_good": len(category.train),
            "test_good": len(category.test) - bad,
            "test_bad": bad,
            "masks": sum(picture.mask is not None for picture in category.test if picture.is_bad),
        },
        "shots": [
            _shots([r for r in mine if r["shots"] == word], definition, severity) for word in shots
        ],
    }


def _shots(
    draws: Sequence[dict[str, Any]], definition: Definition, severity: Sequence[str]
) -> dict[str, Any]:
    tables = [rows_of(draw) for draw in draws]
    try:
        ranked = [ranking_figures(rows, definition) for rows in tables]
    except InputError as error:
        raise InputError(f"category {draws[0]['category']}: {error}") from error
    figures = {name: _spread([one[name] for one in ranked]) for name in ranked[0]}
    for name in draws[0]["pixel"] or ():
        figures[name] = _spread([draw["pixel"][name] for draw in draws])
    if severity:
        figures["severity_concordance"] = _spread([_concordance(rows, severity) for rows in tables])
    varieties = [draw["variety"] for draw in draws if draw["variety"] is not None]
    first = draws[0]["threshold"]
    return {
        "shots": draws[0]["shots"],
        "seeds": [draw["seed"] for draw in draws],
        "references": [draw["references"] for draw in draws],
        "figures": figures,
        "bad_without_mask": draws[0]["skipped_masks"],
        "faults": sum(row.verdict == "fault" or row.score is None for r in tables for row in r),
        "fitted": _fitted(draws, tables),
        "run_in": _run_in(tables),
        "nuisance": under_nuisance(tables[0], first["value"] if first else None),
        "suitability": suitability(varieties, MOST_VARIETY, figures["image_auroc"]["mean"]),
        "latency_ms": {stage: _latency(tables, stage) for stage in STAGES},
    }


def _concordance(rows: Sequence[ScoreRow], severity: Sequence[str]) -> float | None:
    levels = {"good": 0, **{kind: level for level, kind in enumerate(severity, start=1)}}
    chosen = [
        row
        for row in rows
        if row.part == "test" and row.condition == AS_IT_IS and row.score is not None
        and row.kind in levels
    ]  # fmt: skip
    if len({row.kind for row in chosen}) < 2:
        return None
    scores = [float(row.score or 0.0) for row in chosen]
    return severity_concordance(scores, [levels[row.kind] for row in chosen]).index


def _spread(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean and spread over seeds; null where one of them is not defined."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return {"mean": None, "std": None, "values": list(values)}
    std = float(np.std(known, ddof=1)) if len(known) > 1 else None
    return {"mean": float(np.mean(known)), "std": std, "values": known}


def _fitted(
    draws: Sequence[dict[str, Any]], tables: Sequence[Sequence[ScoreRow]]
) -> dict[str, Any] | None:
    """At the threshold fitted on the references: promise and truth on pictures it never saw."""
    if any(draw["threshold"] is None for draw in draws):
        return None
    seen = [
        rates(rows, draw["threshold"]["value"]) for draw, rows in zip(draws, tables, strict=True)
    ]
    promise = draws[0]["threshold"]["expected_false_alarm_rate"]
    answer = {
        "thresholds": [draw["threshold"]["value"] for draw in draws],
        "provisional": draws[0]["threshold"]["provisional"],
        "promised_false_alarms": promise,
        **_pooled(seen),
    }
    truth = answer["false_alarms"]["mean"]
    answer["truth_minus_promise"] = None if promise is None else truth - promise
    return answer


def _run_in(tables: Sequence[Sequence[ScoreRow]]) -> list[dict[str, Any]]:
    per_draw = [{entry["parts"]: entry for entry in after_run_in(rows)} for rows in tables]
    common = [parts for parts in per_draw[0] if all(parts in one for one in per_draw)]
    return [
        {
            "parts": parts,
            "thresholds": [one[parts]["threshold"] for one in per_draw],
            "promised_false_alarms": 0.05,
            **_pooled([one[parts] for one in per_draw]),
        }
        for parts in common
    ]


def _pooled(seen: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and spread of shares over draws; the interval is that of one draw's pictures."""
    answer = {}
    for what in ("false_alarms", "escapes"):
        spread = _spread([one[what]["share"] for one in seen])
        total = seen[0][what]["total"]
        low, high = share_interval(round(spread["mean"] * total), total)
        answer[what] = {**spread, "of": total, "interval": [low, high]}
    return answer


def _latency(tables: Sequence[Sequence[ScoreRow]], stage: str) -> dict[str, float] | None:
    values = [getattr(row, stage) for rows in tables for row in rows]
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {
        "p50": round(float(np.percentile(known, 50)), 3),
        "p95": round(float(np.percentile(known, 95)), 3),
    }


def _overall(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per number of shots, mean over categories beside the worst category, for every figure."""
    answer = []
    words = list(dict.fromkeys(shots["shots"] for entry in entries for shots in entry["shots"]))
    for word in words:
        here = [
            (entry["category"], shots)
            for entry in entries
            for shots in entry["shots"]
            if shots["shots"] == word
        ]
        names = list(dict.fromkeys(name for _, shots in here for name in shots["figures"]))
        figures = {
            name: _over_categories(here, lambda shots, name=name: _mean_of(shots, name), name)  # type: ignore[misc]
            for name in names
        }
        for what in ("false_alarms", "escapes"):
            figures[f"fitted_{what}"] = _over_categories(
                here,
                lambda shots, what=what: shots["fitted"] and shots["fitted"][what]["mean"],  # type: ignore[misc]
                "escapes_",
            )
        answer.append({"shots": word, "figures": figures})
    return answer


def _mean_of(shots: dict[str, Any], name: str) -> float | None:
    figure = shots["figures"].get(name)
    return None if figure is None else figure["mean"]


def _over_categories(
    here: Sequence[tuple[str, dict[str, Any]]],
    read: Callable[[dict[str, Any]], float | None],
    name: str,
) -> dict[str, Any]:
    """Mean and worst over the categories that have the figure."""
    values = {category: read(shots) for category, shots in here}
    known = {category: value for category, value in values.items() if value is not None}
    if not known:
        return {"mean": None, "worst": None, "worst_category": None, "categories": 0}
    pick = max if name.startswith(_LOWER_IS_BETTER) else min
    worst = pick(known, key=lambda category: known[category])
    return {
        "mean": float(np.mean(list(known.values()))),
        "worst": known[worst],
        "worst_category": worst,
        "categories": len(known),
    }
