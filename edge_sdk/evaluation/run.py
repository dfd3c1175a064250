"""All draws of an evaluation: in this process or several, going on where it was stopped."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_sdk.bundle.reader import open_bundle
from edge_sdk.config import CameraConfig, DeviceConfig
from edge_sdk.errors import BundleError, InputError
from edge_sdk.evaluation.baselines import with_scorer
from edge_sdk.evaluation.conditions import CONDITIONS
from edge_sdk.evaluation.draw import RUN_IN_PARTS, DrawPlan, evaluate_draw
from edge_sdk.evaluation.layouts import Category
from edge_sdk.evaluation.sampling import Sampling
from edge_sdk.metrics import Definition
from edge_sdk.model import Model, load_model

_FORMAT = 1
"""Of kept draws: another one is worked out again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be evaluated."""

    config: DeviceConfig
    bundle: Path | None
    scorer: str
    categories: tuple[Category, ...]
    shots: tuple[int | None, ...]
    """0: none; None: all good pictures."""
    seeds: tuple[int, ...]
    sampling: Sampling
    definition: Definition
    with_nuisance: bool
    native_size: bool

    @property
    def camera(self) -> CameraConfig:
        """A camera with the settings that all have; pictures of a folder may differ in size."""
        return self.config.cameras[0].model_copy(update={"source": "dir:."})

    def draws(self) -> list[DrawPlan]:
        """Every draw, in order. All pictures, or none, are drawn once: seeds change nothing."""
        return [
            DrawPlan(
                category=category,
                shots=shots,
                seed=seed,
                sampling=self.sampling,
                definition=self.definition,
                with_nuisance=self.with_nuisance and shots is not None and seed == self.seeds[0],
                native_size=self.native_size,
            )
            for category in self.categories
            for shots in self.shots
            for seed in (self.seeds if shots else self.seeds[:1])
        ]


def pictures_of(draw: DrawPlan) -> int:
    """How many pictures a draw judges."""
    test = len(draw.category.test) * (1 + (len(CONDITIONS) if draw.with_nuisance else 0))
    left = len(draw.category.train) - (draw.shots or 0) if draw.shots is not None else 0
    return test + max(0, min(left, RUN_IN_PARTS))


def load(plan: Plan) -> Model:
    """The bundle in its engine, with the scorer that is evaluated.

    Raises:
        BundleError: the bundle is invalid, or cannot do with so many references.
        EngineError: the engine is not to be had.
        InputError: there is no such scorer.
    """
    model = load_model(open_bundle(plan.bundle), plan.config.engine)
    if model.needs_references and 0 in plan.shots:
        raise BundleError(
            f"--shots 0: {model.bundle.location} compares with pictures of good parts and has "
            "nothing to say without any; give --shots 1 or more"
        )
    if not model.takes_references and plan.shots != (0,):
        raise BundleError(
            f"--shots: {model.bundle.location} goes from picture to map by itself and takes no "
            "references; give --shots 0"
        )
    return with_scorer(model, plan.scorer)


def evaluate(
    plan: Plan, *, workers: int, kept: Path | None, advance: Callable[[int], None]
) -> list[dict[str, Any]]:
    """Evaluate every draw.

    Args:
        plan: what.
        workers: processes; the results do not depend on it, latencies do.
        kept: folder that finished draws are kept in, and taken from; None: nowhere.
        advance: told how many pictures more were judged.

    Returns:
        What ``evaluate_draw`` returns, in the order of ``plan.draws()``.

    Raises:
        EdgeError: as ``load`` and ``evaluate_draw``.
    """
    draws = plan.draws()
    _check_pictures_suffice(draws)
    model = load(plan)
    found: dict[int, dict[str, Any]] = {}
    places = [_place(kept, plan, model, draw) for draw in draws]
    for index, place in enumerate(places):
        stored = _read(place)
        if stored is not None:
            found[index] = stored
            advance(pictures_of(draws[index]))
    todo = {index: draw for index, draw in enumerate(draws) if index not in found}

    def finish(index: int, result: dict[str, Any]) -> None:
        found[index] = result
        _write(places[index], result)

    if workers == 1 or len(todo) <= 1:
        for index, draw in todo.items():
            finish(index, evaluate_draw(model, plan.camera, draw, advance))
    else:

        def finish_whole(index: int, result: dict[str, Any]) -> None:
            finish(index, result)
            advance(pictures_of(draws[index]))

        _evaluate_in_processes(plan, todo, workers, finish_whole)
    return [found[index] for index in range(len(draws))]


def _check_pictures_suffice(draws: Sequence[DrawPlan]) -> None:
    """Said before the first picture is judged, not after an hour."""
    for draw in draws:
        have = len(draw.category.train)
        if draw.shots and draw.shots > have and draw.sampling == "without_replacement":
            raise InputError(
                f"category {draw.category.name}: expected at least {draw.shots} good pictures to "
                f"draw references from, got {have}"
            )


_worker: dict[str, Any] = {}


def _start_worker(plan: Plan) -> None:
    _worker["model"] = load(plan)
    _worker["camera"] = plan.camera


def _evaluate_one(draw: DrawPlan) -> dict[str, Any]:
    return evaluate_draw(_worker["model"], _worker["camera"], draw, lambda _: None)


def _evaluate_in_processes(
    plan: Plan,
    todo: Mapping[int, DrawPlan],
    workers: int,
    finish: Callable[[int, dict[str, Any]], None],
) -> None:
    context = multiprocessing.get_context("spawn")  # a fork would copy the engine's threads
    with ProcessPoolExecutor(
        min(workers, len(todo)), mp_context=context, initializer=_start_worker, initargs=(plan,)
    ) as pool:
        running = {pool.submit(_evaluate_one, draw): index for index, draw in todo.items()}
        try:
            while running:
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    finish(running.pop(future), future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _place(kept: Path | None, plan: Plan, model: Model, draw: DrawPlan) -> Path | None:
    """The file of a finished draw, named by everything that its numbers depend on."""
    if kept is None:
        return None
    pictures = [
        *draw.category.train,
        *(path for p in draw.category.test for path in (p.path, p.mask) if path is not None),
    ]
    stats = [(path.as_posix(), path.stat().st_size, path.stat().st_mtime_ns) for path in pictures]
    key = [
        _FORMAT,
        model.bundle.manifest.bundle_id,
        plan.scorer,
        plan.config.engine.model_dump(mode="json"),
        model.precision,
        [draw.category.name, draw.shots, draw.seed, draw.sampling, draw.definition],
        [draw.with_nuisance, draw.native_size],
        stats,
    ]
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
    return kept / f"{digest}.json"


def _read(place: Path | None) -> dict[str, Any] | None:
    if place is None or not place.is_file():
        return None
    try:
        stored = json.loads(place.read_bytes())
    except ValueError:  # cut off while it was written: worked out again
        return None
    return stored if isinstance(stored, dict) else None


def _write(place: Path | None, value: dict[str, Any]) -> None:
    if place is None:
        return
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_suffix(".partial")
        partial.write_text(json.dumps(value, allow_nan=False), encoding="utf-8")
        partial.rename(place)
    except OSError as error:
        raise InputError(f"--keep {place.parent}: cannot be written: {error.strerror}") from error
