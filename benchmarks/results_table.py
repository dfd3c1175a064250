"""The tables of docs/results.md out of what ``edge-eval --json`` wrote.

    python benchmarks/results_table.py ours.json plain.json difference.json

Several files may hold the same scorer with other numbers of shots.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = {
    "bundle": "built in",
    "nearest_neighbour_plain": "plain nearest neighbour",
    "frame_difference": "frame difference",
}
FIGURES = ("image_auroc", "aupro", "escapes_at_1_percent", "escapes_at_5_percent")


def entries(answers: list[dict[str, Any]]) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """(category, scorer, shots, figures) of everything, in reading order."""
    for category in sorted({c["category"] for answer in answers for c in answer["categories"]}):
        for word in dict.fromkeys(o["shots"] for a in answers for o in a["overall"]):
            for answer in answers:
                for entry in answer["categories"]:
                    for shots in entry["shots"]:
                        if (entry["category"], shots["shots"]) == (category, word):
                            yield category, NAMES[answer["scorer"]], word, shots


def spread(figure: dict[str, Any] | None) -> str:
    """``mean±std``."""
    if figure is None or figure["mean"] is None:
        return "-"
    std = "" if figure["std"] is None else f"±{figure['std']:.3f}"
    return f"{figure['mean']:.3f}{std}"


def print_ranking(answers: list[dict[str, Any]]) -> None:
    print("| category | shots | method | image AUROC | AUPRO | escapes at 1 % | at 5 % |")
    print("|---|---|---|---|---|---|---|")
    for category, scorer, word, shots in entries(answers):
        cells = [spread(shots["figures"].get(name)) for name in FIGURES]
        print("|", " | ".join([category, word, scorer, *cells]), "|")
    for word in dict.fromkeys(o["shots"] for a in answers for o in a["overall"]):
        for answer in answers:
            for overall in answer["overall"]:
                if overall["shots"] != word:
                    continue
                for what in ("mean", "worst"):
                    cells = [f"{overall['figures'][name][what]:.3f}" for name in FIGURES]
                    row = [f"**{what}**", word, NAMES[answer["scorer"]], *cells]
                    print("|", " | ".join(row), "|")


def print_plant(answer: dict[str, Any]) -> None:
    """False alarms / escapes of one scorer: at the fitted threshold, and after a run-in."""
    print(
        "| category | shots | promised | as fitted | after 20 | after 50 | after 100 | suitable |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for category, _, word, shots in entries([answer]):
        fitted = shots["fitted"]
        run_in = {entry["parts"]: entry for entry in shots["run_in"]}
        cells = [f"{fitted['promised_false_alarms']:.2f}" if fitted else "-", pair(fitted)]
        cells += [pair(run_in.get(parts)) for parts in (20, 50, 100)]
        verdict = {True: "yes", False: "no", None: "-"}[shots["suitability"]["is_suitable"]]
        right = {True: "right", False: "wrong", None: ""}[shots["suitability"]["was_right"]]
        print("|", " | ".join([category, word, *cells, f"{verdict} {right}".strip()]), "|")


def print_nuisance(answer: dict[str, Any]) -> None:
    """False alarms / escapes of one scorer under each condition, first seed."""
    heads = ["as it is", "lamp -15 %", "lamp +15 %", "shift 4 px", "defocus"]
    print("| category | shots |", " | ".join(heads), "|")
    print("|---|---|---|---|---|---|---|")
    for category, _, word, shots in entries([answer]):
        found = {entry["condition"]: entry for entry in shots["nuisance"]}
        if found and "escapes" in found["as it is"]:
            measured = [found[head] for head in heads]
            cells = [
                f"{one['false_alarms']['share']:.2f} / {one['escapes']['share']:.2f}"
                for one in measured
            ]
            print("|", " | ".join([category, word, *cells]), "|")


def pair(rates: dict[str, Any] | None) -> str:
    """``false alarms / escapes``."""
    if rates is None:
        return "-"
    return f"{rates['false_alarms']['mean']:.2f} / {rates['escapes']['mean']:.2f}"


def main() -> None:
    answers = [json.loads(Path(name).read_text(encoding="utf-8")) for name in sys.argv[1:]]
    print_ranking(answers)
    for answer in answers:
        if answer["scorer"] == "bundle":
            print()
            print_plant(answer)
            print()
            print_nuisance(answer)


if __name__ == "__main__":
    main()
