"""One HTML page without scripts or outside files: what was measured, and where it goes wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from edge_sdk.evaluation.charts import bars, curves, histogram
from edge_sdk.evaluation.exhibits import Exhibit, show, worst_rows
from edge_sdk.evaluation.plant import split
from edge_sdk.evaluation.run import Plan, load
from edge_sdk.evaluation.scores import ScoreRow
from edge_sdk.evaluation.summary import rows_of
from edge_sdk.metrics.curves import score_curve
from edge_sdk.model import Model

_EXHIBITS = 3
_NONE = "&ndash;"
_FIGURES = (
    ("image AUROC", "image_auroc"),
    ("image AP", "image_ap"),
    ("pixel AUROC", "pixel_auroc"),
    ("pixel AP", "pixel_ap"),
    ("AUPRO", "aupro"),
    ("escapes at 1 false alarm per 100", "escapes_at_1_percent"),
    ("at 5 per 100", "escapes_at_5_percent"),
)
_STYLE = """
:root { color-scheme: light }
body { font: 15px/1.45 system-ui, sans-serif; color: #222; margin: 0 auto; max-width: 1160px;
  padding: 1.2em }
h1 { font-size: 1.6em; margin: .2em 0 }
h2 { font-size: 1.25em; margin: 2em 0 .6em; border-bottom: 2px solid #ddd; padding-bottom: .2em }
h2 small { font-weight: normal; margin-left: .6em }
h3 { font-size: 1em; margin: 1.2em 0 .4em }
table { border-collapse: collapse; margin: .5em 0; font-variant-numeric: tabular-nums }
th, td { padding: .25em .6em; text-align: right; border-bottom: 1px solid #e5e5e5;
  vertical-align: middle }
th { vertical-align: bottom }
td { white-space: nowrap }
td small { display: block; line-height: 1.1 }
th { font-weight: 600; color: #555; font-size: .85em }
th:first-child, td:first-child { text-align: left }
tr.sum td { font-weight: 600; background: #f6f6f6 }
.wide { overflow-x: auto }
.row { display: flex; flex-wrap: wrap; gap: 14px 40px }
svg text { font: 11px system-ui, sans-serif; fill: #444 }
svg .t { font-weight: 600; font-size: 12px; fill: #222 }
figure { margin: 0; width: 344px; border: 1px solid #ddd; border-radius: 6px; padding: 8px;
  background: #fafafa }
figcaption { font-size: .85em; color: #444; margin-top: 6px; overflow-wrap: anywhere }
.gallery { display: flex; flex-wrap: wrap; gap: 14px }
.pics { display: flex; gap: 6px; flex-wrap: wrap; align-items: flex-start }
.pics + .pics { margin-top: 6px }
.pics span { width: 168px }
img { vertical-align: top; border-radius: 3px; display: block }
.bad { color: #b3321b }
.ok { color: #24713a }
small, .note { color: #666; font-size: .85em }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15em 1em; margin: .5em 0 }
dt { color: #666 }
dd { margin: 0; overflow-wrap: anywhere }
"""


def write_report(
    folder: Path, plan: Plan, results: Sequence[dict[str, Any]], summary: Mapping[str, Any]
) -> Path:
    """Write ``report.html``.

    The worst pictures shown are those of the first seed, with the largest number of shots that
    has a threshold.

    Args:
        folder: made where it is not there.
        plan: what was evaluated.
        results: of all draws.
        summary: worked out of them.

    Returns:
        The page.
    """
    model = load(plan)
    body = [_head(summary), *(_overall(summary, overall) for overall in summary["overall"])]
    for entry in summary["categories"]:
        mine = [result for result in results if result["category"] == entry["category"]]
        body.append(_category(model, plan, entry, mine))
    body.append(_words(summary))
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "report.html"
    page.write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>edge-eval</title><style>{_STYLE}</style><body>{''.join(body)}</body></html>\n",
        encoding="utf-8",
    )
    return page


def _head(summary: Mapping[str, Any]) -> str:
    facts = {
        "bundle": summary["bundle_id"],
        "scorer": summary["scorer"],
        "engine, precision": f"{summary['engine']}, {summary['precision']}",
        "sampling": summary["sampling"].replace("_", " "),
        "definitions": summary["definition"],
    }
    items = "".join(f"<dt>{name}</dt><dd>{escape(str(v))}</dd>" for name, v in facts.items())
    return f"<h1>Evaluation</h1><dl>{items}</dl>"


def _overall(summary: Mapping[str, Any], overall: Mapping[str, Any]) -> str:
    word = overall["shots"]
    heads = [name for name, _ in _FIGURES]
    heads += ["false alarms at the fitted threshold", "promised", "escapes there", "suitable"]
    rows = [
        _row([escape(entry["category"]), *_cells(shots)])
        for entry in summary["categories"]
        for shots in entry["shots"]
        if shots["shots"] == word
    ]
    for name in ("mean", "worst"):
        figures = overall["figures"]
        cells = [_cell(figures.get(key, {}).get(name)) for _, key in _FIGURES]
        alarms, escapes = (
            _cell(figures[f"fitted_{what}"][name]) for what in ("false_alarms", "escapes")
        )
        title = "mean over categories" if name == "mean" else "worst category"
        rows.append(_row([title, *cells, alarms, "", escapes, ""], "sum"))
    return (
        f"<h2>{_references(word)}</h2><div class=wide><table><tr>"
        f"{''.join(f'<th>{head}</th>' for head in ['', *heads])}</tr>{''.join(rows)}</table></div>"
        "<p class=note>Mean ± spread over seeds. Suitable: told from good pictures alone.</p>"
    )


def _references(word: str) -> str:
    if word == "full":
        return "All good pictures as references"
    return f"{word} reference{'' if word == '1' else 's'}"


def _cells(shots: Mapping[str, Any]) -> list[str]:
    cells = []
    for _, name in _FIGURES:
        figure = shots["figures"].get(name)
        text = _cell(figure["mean"] if figure else None)
        if figure and figure["std"] is not None:
            text += f" <small>±{figure['std']:.3f}</small>"
        cells.append(text)
    fitted = shots["fitted"]
    cells += [
        _rate(fitted["false_alarms"]) if fitted else _NONE,
        _cell(fitted["promised_false_alarms"] if fitted else None, 2),
        _rate(fitted["escapes"]) if fitted else _NONE,
    ]
    verdict = shots["suitability"]
    text = {True: "yes", False: "<b class=bad>no</b>", None: _NONE}[verdict["is_suitable"]]
    right = {True: " <span class=ok>✓</span>", False: " <span class=bad>wrong</span>", None: ""}
    return [*cells, text + right[verdict["was_right"]]]


def _rate(rate: Mapping[str, Any]) -> str:
    low, high = rate["interval"]
    return f"{rate['mean']:.2f} <small>{low:.2f} to {high:.2f}</small>"


def _category(
    model: Model, plan: Plan, entry: Mapping[str, Any], results: Sequence[dict[str, Any]]
) -> str:
    with_threshold = [result for result in results if result["threshold"]]
    word = (with_threshold or list(results))[-1]["shots"]
    chosen = [result for result in results if result["shots"] == word]
    (shots,) = [one for one in entry["shots"] if one["shots"] == word]
    tables = [rows_of(result) for result in chosen]
    threshold = chosen[0]["threshold"]["value"] if chosen[0]["threshold"] else None
    good, bad = split(tables[0])
    charts = [
        histogram("scores of the first seed", good, bad, threshold),
        curves("ROC", ("false alarms", "found"), [_roc(rows) for rows in tables]),
    ]
    lines = [(one["curve"]["rate"], one["curve"]["overlap"]) for one in chosen if one["curve"]]
    if lines:
        axes = ("false positive pixels", "mean overlap (PRO)")
        charts.append(curves("PRO", axes, lines, right=0.3))
    latency = [
        (name.removesuffix("_ms").replace("latency", "all"), value["p50"], value["p95"])
        for name, value in shots["latency_ms"].items()
        if value
    ]
    charts.append(bars("milliseconds per picture: median (95 %)", latency))
    draws = {(draw.category.name, draw.shots_word, draw.seed): draw for draw in plan.draws()}
    draw = draws[entry["category"], word, chosen[0]["seed"]]
    escapes, alarms = worst_rows(tables[0], _EXHIBITS)
    shown = show(model, plan.camera, draw, [*escapes, *alarms], threshold)
    pictures = entry["pictures"]
    return (
        f"<h2>{escape(entry['category'])} <small>{_references(word).lower()}; "
        f"{pictures['test_good']} good and {pictures['test_bad']} bad test pictures, "
        f"{pictures['masks']} masks</small></h2><div class=row>{''.join(charts)}</div>"
        f"{_questions(shots)}"
        f"<h3>Worst escapes: bad pictures with the lowest scores</h3>"
        f"{_gallery(shown[: len(escapes)], threshold)}"
        f"<h3>Worst false alarms: good pictures with the highest scores</h3>"
        f"{_gallery(shown[len(escapes) :], threshold)}"
    )


def _roc(rows: Sequence[ScoreRow]) -> tuple[list[float], list[float]]:
    good, bad = split(rows)
    curve = score_curve([*good, *bad], [False] * len(good) + [True] * len(bad))
    return [0.0, *curve.false_positive_rate.tolist()], [0.0, *curve.recall.tolist()]


def _questions(shots: Mapping[str, Any]) -> str:
    """After a run-in, and under nuisance."""
    tables = []
    fitted = shots["fitted"]
    lines = []
    if fitted:
        lines.append(["as fitted", fitted])
    lines += [[f"after {entry['parts']} good parts", entry] for entry in shots["run_in"]]
    if lines:
        rows = "".join(
            _row(
                [
                    name,
                    _cell(one["promised_false_alarms"], 2),
                    _rate(one["false_alarms"]),
                    _rate(one["escapes"]),
                ]
            )
            for name, one in lines
        )
        tables.append(
            "<div><h3>Threshold</h3><table><tr><th></th><th>promised</th><th>false alarms</th>"
            f"<th>escapes</th></tr>{rows}</table></div>"
        )
    if shots["nuisance"]:
        rows = "".join(
            _row(
                [
                    escape(one["condition"]),
                    _cell(one["image_auroc"]),
                    _cell(one.get("false_alarms", {}).get("share"), 2),
                    _cell(one.get("escapes", {}).get("share"), 2),
                ]
            )
            for one in shots["nuisance"]
        )
        tables.append(
            "<div><h3>Nuisance, first seed</h3><table><tr><th></th><th>AUROC</th>"
            f"<th>false alarms</th><th>escapes</th></tr>{rows}</table></div>"
        )
    return f"<div class=row>{''.join(tables)}</div>"


def _gallery(exhibits: Sequence[Exhibit], threshold: float | None) -> str:
    return f"<div class=gallery>{''.join(_figure(one, threshold) for one in exhibits)}</div>"


def _figure(exhibit: Exhibit, threshold: float | None) -> str:
    pictures = [
        f'<img src="{exhibit.plain}" alt="picture">',
        f'<img src="{exhibit.heatmap}" alt="heatmap">',
    ]
    note = ""
    if exhibit.patch and exhibit.matched:
        pictures.append(
            "</div><div class=pics>"
            f'<span><img src="{exhibit.patch}" alt=""><small>hottest place</small></span>'
            f'<span><img src="{exhibit.matched}" alt=""><small>good patch matched</small></span>'
        )
        note = f"<br>matched with {escape(exhibit.matched_file or '')}"
    verdict = ""
    if threshold is not None:
        alarmed = exhibit.score > threshold
        word = "alarm" if alarmed else "no alarm"
        wrong = alarmed == (exhibit.kind == "good")
        verdict = f", <b class={'bad' if wrong else 'ok'}>{word}</b>"
    return (
        f"<figure><div class=pics>{''.join(pictures)}</div><figcaption>{escape(exhibit.file)}<br>"
        f"score {exhibit.score:.3f}{verdict}{note}</figcaption></figure>"
    )


def _words(summary: Mapping[str, Any]) -> str:
    items = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(words)}</dd>"
        for name, words in summary["definitions"].items()
    )
    return f"<h2>Definitions</h2><dl>{items}</dl>"


def _row(cells: Sequence[str], kind: str = "") -> str:
    return f"<tr class='{kind}'>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _cell(value: float | None, digits: int = 3) -> str:
    return _NONE if value is None else f"{value:.{digits}f}"
