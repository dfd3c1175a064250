"""Does a run-in keep its promise on real parts, and how much does it ask of a person?

    python benchmarks/run_in_promise.py FOLDER... [--bundle B] [--draws 3] [--splits 20]

Each FOLDER is a category in MVTec's layout. Its good pictures are drawn into four references, a
run-in of half of the rest, and a test of the other half, the latter two ``--splits`` times. The
threshold is fitted for 5 false alarms per 100, once on good parts alone, and once with three real
bad parts among them. The person is played by the label: good parts are accepted, bad ones rejected.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_sdk.bundle.reader import open_bundle
from edge_sdk.config import default_config
from edge_sdk.errors import InputError
from edge_sdk.imaging import read_image
from edge_sdk.metrics.false_alarms import limiting_rank
from edge_sdk.model import Model, load_model
from edge_sdk.pipeline import as_frame, build_pipeline
from edge_sdk.records import UInt8Array
from edge_sdk.references import ReferenceStore, TokenCache
from edge_sdk.run_in.rules import LearnedPart, RunInPlan, Standing, settle

PER_100 = 5.0
SPOILERS = 3
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One run-in and its test."""

    expected: float
    measured: float
    is_inside: bool
    """Whether the measured rate lies where 95 % of the measurements on so few parts lie, if the
    true rate follows the stated law."""
    escapes: float
    asked_good: int
    """Good parts that a person had to look at."""
    unseen_bad: int
    """Bad parts that were learned without having been looked at."""


def pictures_of(folder: Path) -> tuple[list[UInt8Array], list[UInt8Array]]:
    """Good and bad pictures of a category."""
    good: list[UInt8Array] = []
    bad: list[UInt8Array] = []
    for part in ("train", "test"):
        for path in sorted((folder / part).rglob("*")):
            if path.suffix.lower() in SUFFIXES:
                (good if path.parent.name == "good" else bad).append(read_image(path))
    return good, bad


def scores_against(
    model: Model, references: Sequence[UInt8Array], pictures: Sequence[UInt8Array]
) -> list[float]:
    """Image scores of pictures through the pipeline of the line."""
    camera = default_config().cameras[0].model_copy(update={"source": "dir:."})
    with tempfile.TemporaryDirectory() as folder:
        frames = [as_frame(pixels) for pixels in references]
        kept = ReferenceStore(Path(folder), camera.name).save("default", frames, source="drawn")
        pipeline = build_pipeline(model, camera, kept, TokenCache(Path(folder)))
        results = [pipeline.inspect(as_frame(pixels)).result for pixels in pictures]
    return [result.image_score for result in results if result is not None]


def review(scores: Sequence[float], bad: set[int], parts: int) -> tuple[Standing, dict[int, bool]]:
    """Let a person who is always right answer until nothing waits."""
    learned = [
        LearnedPart(number=number, score=score, captured_at="", frame_id=None, part_id=None)
        for number, score in enumerate(scores)
    ]
    plan = RunInPlan(parts=parts, false_alarms_per_100=PER_100)
    answers: dict[int, bool] = {}
    while True:
        standing = settle(learned, answers, plan)
        if not standing.waiting:
            return standing, answers
        answers |= {part.number: part.number not in bad for part in standing.waiting}


def try_once(
    good: Sequence[float], bad: Sequence[float], spoilers: int, rng: np.random.Generator
) -> Outcome:
    """Learn from half of the good scores and some bad ones, test on the others."""
    order = rng.permutation(len(good))
    half = len(good) // 2
    spoiled = [float(score) for score in rng.choice(bad, spoilers, replace=False)]
    mixed = [good[index] for index in order[:half]] + spoiled
    places = rng.permutation(len(mixed))
    scores = [mixed[place] for place in places]
    is_bad = {number for number, place in enumerate(places) if place >= half}
    parts = half - spoilers  # rejected ones are replaced from the rest
    standing, answers = review(scores, is_bad, parts)
    threshold = standing.threshold
    if threshold is None:
        raise InputError(f"expected at least 23 good pictures, got {len(good)}")
    test = [good[index] for index in order[half:]]
    measured = float(np.mean([score > threshold.value for score in test]))
    rank = limiting_rank(parts, PER_100 / 100)
    true_rates = rng.beta(rank, parts - rank + 1, 20_000)
    low, high = np.quantile(rng.binomial(len(test), true_rates) / len(test), (0.025, 0.975))
    unseen = is_bad & {part.number for part in standing.kept} - answers.keys()
    return Outcome(
        expected=threshold.expected_false_alarm_rate or 0.0,
        measured=measured,
        is_inside=bool(low <= measured <= high),
        escapes=float(np.mean([score <= threshold.value for score in bad])),
        asked_good=sum(answers.values()),
        unseen_bad=len(unseen),
    )


def main() -> None:
    """Print one row a category and number of spoilers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--bundle", type=Path, help="default: the built-in one")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--splits", type=int, default=20)
    options = parser.parse_args()
    model = load_model(open_bundle(options.bundle), default_config().engine)
    print("category         bad  learned expected measured  inside escapes  asked  bad unseen")
    for folder in options.folders:
        good, bad = pictures_of(folder)
        outcomes: dict[int, list[Outcome]] = {0: [], SPOILERS: []}
        for draw in range(options.draws):
            rng = np.random.default_rng(draw)
            order = rng.permutation(len(good))
            references = [good[index] for index in order[:4]]
            others = [good[index] for index in order[4:]]
            scores = scores_against(model, references, [*others, *bad])
            known, spoiling = scores[: len(others)], scores[len(others) :]
            for _ in range(options.splits):
                for spoilers, rows in outcomes.items():
                    rows.append(try_once(known, spoiling, spoilers, rng))
        for spoilers, rows in outcomes.items():
            print(
                f"{folder.name:16}{spoilers:>4}{(len(good) - 4) // 2 - spoilers:>9}"
                f"{100 * np.mean([row.expected for row in rows]):>9.2f}"
                f"{100 * np.mean([row.measured for row in rows]):>9.2f}"
                f"{np.mean([row.is_inside for row in rows]):>8.0%}"
                f"{np.mean([row.escapes for row in rows]):>8.0%}"
                f"{np.mean([row.asked_good for row in rows]):>7.1f}"
                f"{np.mean([row.unseen_bad for row in rows]):>12.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
