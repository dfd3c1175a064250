"""Which graph and engine this box judges with: measured here once, kept with the reason.

A bundle may hold its encoder in several precisions, each proven by the exporter to give the same
verdicts. Which one is quickest only the box can say: int8 is twice as fast on one processor and
slower on the next. So each is timed on the golden frames, where it also has to pass the self-test.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.bundle.reader import Bundle, open_bundle
from edge_sdk.config import DeviceConfig, EngineConfig
from edge_sdk.engines.compiled import CompiledCache
from edge_sdk.errors import BundleError, EdgeError, EngineError, SelfTestError
from edge_sdk.imaging import decode_image
from edge_sdk.machine import box_digest, describe_processor
from edge_sdk.model import GraphChoice, Model, Watch, graph_choices, load_model
from edge_sdk.pipeline import as_frame
from edge_sdk.preprocess import Preprocessor
from edge_sdk.selftest import run_self_test

WORTHWHILE = 1.1
"""How many times as fast a less exact graph must be to be preferred."""
_ROUNDS = 24
_FORMAT = 1
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One way to run the encoder, as it was found on this box."""

    engine: str
    precision: str
    format: str
    p50_ms: float | None
    """From the model's picture to the score; None: it was not timed."""
    p95_ms: float | None
    problem: str | None
    """Why it cannot be used here; None: it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What was chosen, and why."""

    engine: str
    precision: str
    reason: str
    measured: tuple[Measured, ...]
    measured_at: str
    processor: str


def open_model(
    config: DeviceConfig, *, allow_untrained: bool = False, watch: Watch = nullcontext
) -> Model:
    """Open the bundle and load the graph that this box judges with.

    Where the device file leaves the precision to the box and the bundle has several, they are
    measured at the first start, which takes some seconds; later starts find the answer.

    Args:
        config: of the device.
        allow_untrained: take a bundle of random numbers, too.
        watch: is told which graph is loaded.

    Raises:
        BundleError: no valid bundle, nothing in it for this engine and precision, or random
            numbers that are not allowed.
        EngineError: the engine or the device is not to be had.
    """
    bundle = open_bundle(config.bundle_path)
    if bundle.manifest.model.random_weights and not allow_untrained:
        raise BundleError(
            f"{bundle.location}: expected trained weights, got random numbers "
            f"({bundle.manifest.model.weights_source}): it judges nothing and is made for tests "
            "and timing; --allow-untrained runs it all the same"
        )
    engine = resolve_engine(bundle, config.engine, config.state_dir)
    return load_model(bundle, engine, cache=CompiledCache(config.state_dir), watch=watch)


def resolve_engine(bundle: Bundle, engine: EngineConfig, state_dir: Path) -> EngineConfig:
    """Replace what ``engine`` leaves open by what was, or now is, measured as best here.

    Where none of several precisions gives the golden answers, the most exact is named and nothing
    is kept: whoever loads it finds the same in its self-test, and decides what that means.

    Raises:
        BundleError: nothing fits.
        EngineError: nothing that fits can be loaded here.
    """
    if engine.precision != "auto":
        return engine
    choice = stored_choice(bundle, engine, state_dir)
    if choice is None:
        fitting = graph_choices(bundle, engine)
        if len({one.precision for one in fitting}) == 1:
            return engine
        _LOG.info("measuring which precision is the quickest on this box")
        try:
            choice = choose_encoder(bundle, engine, state_dir)
        except SelfTestError:
            first = fitting[0]
            return engine.model_copy(update={"name": first.engine, "precision": first.precision})
    _LOG.info("%s in %s: %s", choice.engine, choice.precision, choice.reason)
    return engine.model_copy(update={"name": choice.engine, "precision": choice.precision})


def choose_encoder(bundle: Bundle, engine: EngineConfig, state_dir: Path) -> Choice:
    """Measure every way that fits, choose, and keep the answer in the state folder.

    Raises:
        BundleError: nothing fits.
        EngineError: nothing that fits can be loaded here.
        SelfTestError: nothing that can be loaded gives the golden answers.
    """
    measured = _measure(bundle, engine, graph_choices(bundle, engine), state_dir)
    best, reason = _best(measured)
    choice = Choice(
        engine=best.engine,
        precision=best.precision,
        reason=reason,
        measured=tuple(measured),
        measured_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        processor=str(describe_processor()["processor"]),
    )
    _store(choice_path(bundle, engine, state_dir), choice)
    return choice


def choice_path(bundle: Bundle, engine: EngineConfig, state_dir: Path) -> Path:
    """Where the answer for this bundle, box and question is kept."""
    question = [
        bundle.manifest.bundle_id, box_digest(),
        engine.name, engine.precision, engine.device, engine.threads,
    ]  # fmt: skip
    name = hashlib.sha256(json.dumps(question).encode()).hexdigest()[:32]
    return state_dir / "choices" / f"{name}.json"


def stored_choice(bundle: Bundle, engine: EngineConfig, state_dir: Path) -> Choice | None:
    """The answer kept from before; None: none, or one that this bundle cannot give."""
    path = choice_path(bundle, engine, state_dir)
    try:
        stored = json.loads(path.read_bytes())
        if stored.pop("format") != _FORMAT:
            return None
        measured = tuple(Measured(**one) for one in stored.pop("measured"))
        choice = Choice(**stored, measured=measured)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        _LOG.warning("%s: not readable, measuring again: %s", path, error)
        return None
    usable = {(one.engine, one.precision) for one in graph_choices(bundle, engine)}
    return choice if (choice.engine, choice.precision) in usable else None


def _measure(
    bundle: Bundle, engine: EngineConfig, choices: Sequence[GraphChoice], state_dir: Path
) -> list[Measured]:
    """Load, self-test and time; those that work take turns, so that a noisy box hits all alike."""
    models: dict[int, Model] = {}
    problems: dict[int, EdgeError] = {}
    for index, choice in enumerate(choices):
        exact = engine.model_copy(update={"name": choice.engine, "precision": choice.precision})
        try:
            model = load_model(bundle, exact, cache=CompiledCache(state_dir))
            run_self_test(model)
            models[index] = model
        except (EngineError, SelfTestError) as error:
            problems[index] = error
    if not models:
        raise next(iter(problems.values()))
    taken = _time(bundle, models)
    return [
        Measured(
            engine=choice.engine,
            precision=choice.precision,
            format=choice.graph.format,
            p50_ms=round(float(np.percentile(taken[index], 50)), 3) if index in taken else None,
            p95_ms=round(float(np.percentile(taken[index], 95)), 3) if index in taken else None,
            problem=str(problems[index]) if index in problems else None,
        )
        for index, choice in enumerate(choices)
    ]


def _time(bundle: Bundle, models: Mapping[int, Model]) -> dict[int, list[float]]:
    """Milliseconds from the model's picture to the score, by model.

    With the scorer, for in a graph from picture to map that is where the work is. The first two
    rounds go uncounted.
    """
    preprocess = Preprocessor(bundle.manifest.input)
    golden = bundle.manifest.golden
    pictures, references = (
        [preprocess(as_frame(decode_image(bundle.read(path), name=path))) for path in paths]
        for paths in (golden.frames, golden.references)
    )
    scorers = {
        index: model.factory.fit([model.encoder.encode(one) for one in references])
        for index, model in models.items()
    }
    taken: dict[int, list[float]] = {index: [] for index in models}
    for number in range(_ROUNDS + 2):
        picture = pictures[number % len(pictures)]
        for index, model in models.items():
            start = time.perf_counter_ns()
            scorers[index].score(model.encoder.encode(picture))
            if number >= 2:
                taken[index].append((time.perf_counter_ns() - start) / 1e6)
    return taken


def _best(measured: Sequence[Measured]) -> tuple[Measured, str]:
    """The quickest; a less exact one only where it is worthwhile. ``measured``: exact first."""
    usable = [one for one in measured if one.p50_ms is not None]
    exact = usable[0].precision
    candidates: dict[str, Measured] = {}
    for one in usable:
        known = candidates.get(one.precision)
        if known is None or _milliseconds(one) < _milliseconds(known):
            candidates[one.precision] = one
    base = candidates.pop(exact)
    best = min(candidates.values(), key=_milliseconds, default=base)
    gain = _milliseconds(base) / max(_milliseconds(best), 1e-6)
    if best is base:
        failed = [one for one in measured if one.problem is not None]
        others = f"; {len(failed)} others cannot be used here" if failed else ""
        return base, f"the quickest of precision {exact}, {base.p50_ms} ms a picture{others}"
    figures = f"{best.p50_ms} ms a picture beside {base.p50_ms} ms of {base.engine} {exact}"
    if gain >= WORTHWHILE:
        return best, f"{gain:.2f} times as fast as the most exact: {figures}"
    return base, (
        f"the most exact; {best.engine} {best.precision} is {gain:.2f} times as fast, "
        f"worthwhile from {WORTHWHILE}: {figures}"
    )


def _milliseconds(one: Measured) -> float:
    return float("inf") if one.p50_ms is None else one.p50_ms


def _store(path: Path, choice: Choice) -> None:
    """Keep the answer; a box that cannot write measures again at its next start."""
    document: dict[str, Any] = {"format": _FORMAT, **asdict(choice)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
        with partial.open("wb") as stream:
            stream.write(json.dumps(document, indent=1).encode())
            stream.flush()
            os.fsync(stream.fileno())
        partial.rename(path)
    except OSError as error:
        _LOG.warning("%s: cannot be kept, the next start measures again: %s", path, error)
