"""One draw of references for one category: every test picture through the pipeline of the line."""

from __future__ import annotations

import hashlib
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.config import CameraConfig
from edge_sdk.errors import EngineError, InputError
from edge_sdk.evaluation.conditions import CONDITIONS
from edge_sdk.evaluation.layouts import Category, Picture
from edge_sdk.evaluation.sampling import Sampling, draw_references
from edge_sdk.evaluation.scores import AS_IT_IS, ScoreRow
from edge_sdk.evaluation.suitability import measure_variety
from edge_sdk.imaging import encode_png, read_image, resize_mask, upsample_map
from edge_sdk.metrics import Definition, PixelTally, pixel_figures
from edge_sdk.metrics.overlap import overlap_points
from edge_sdk.model import Model
from edge_sdk.pipeline import Pipeline, as_frame, build_pipeline, build_preprocessor
from edge_sdk.preprocess import mean_brightness
from edge_sdk.records import BoolArray, Decision, FloatArray, Reason, UInt8Array
from edge_sdk.references import ReferencePicture, ReferenceSet, TokenCache

MOST_FOR_THRESHOLD = 64
"""References that a camera takes; with more no threshold is fitted."""
RUN_IN_PARTS = 100
_CURVE_POINTS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawPlan:
    """Which draw, and what is measured of it."""

    category: Category
    shots: int | None
    """References; 0: none; None: all."""
    seed: int
    sampling: Sampling
    definition: Definition
    with_nuisance: bool
    native_size: bool
    """Pixel figures at each picture's own size instead of the model's input size."""

    @property
    def shots_word(self) -> str:
        """As it stands in tables."""
        return "full" if self.shots is None else str(self.shots)


def evaluate_draw(
    model: Model, camera: CameraConfig, plan: DrawPlan, advance: Callable[[int], None]
) -> dict[str, Any]:
    """Draw references, teach the pipeline, judge every picture.

    Args:
        model: the bundle, loaded.
        camera: its settings; the default ones.
        plan: what to do.
        advance: told how many pictures more were judged.

    Returns:
        JSON values: ``category shots seed references threshold variety pixel curve skipped_masks
        rows``; rows as ``ScoreRow`` has them.

    Raises:
        InputError: fewer pictures than shots, a picture or mask that cannot be used, a map or
            score that is not finite.
        EngineError: the graph failed.
    """
    pipeline, references, variety = teach(model, camera, plan)
    has_threshold = fits_threshold(model, plan, len(references))
    judge = _Judge(plan, pipeline, has_threshold=has_threshold, advance=advance)
    tally, skipped = PixelTally(), 0
    size = None if plan.native_size else model.bundle.manifest.input.size
    for number, picture in enumerate(plan.category.test):
        pixels = read_image(picture.path)
        mask = read_mask(picture, pixels)
        decision = judge.judge(picture, pixels)
        if picture.is_bad and mask is None:
            skipped += 1
        elif decision.result is not None:
            _count(tally, decision.result.anomaly_map, mask, size, picture.path)
        for condition, alter in CONDITIONS.items() if plan.with_nuisance else ():
            judge.judge(picture, alter(pixels, number), condition=condition)
    for path in _run_in_order(plan, references):
        judge.judge(Picture(path=path, kind="good"), read_image(path), part="run_in")
    figures, curve = _pixel_answer(tally, plan)
    threshold = pipeline.decider.threshold
    return {
        "category": plan.category.name,
        "shots": plan.shots_word,
        "seed": plan.seed,
        "references": [plan.category.file_name(plan.category.train[i]) for i in references],
        "threshold": {
            "value": threshold.value,
            "pictures": threshold.pictures,
            "provisional": threshold.provisional,
            "expected_false_alarm_rate": threshold.expected_false_alarm_rate,
        }
        if has_threshold
        else None,
        "variety": variety,
        "pixel": figures,
        "curve": curve,
        "skipped_masks": skipped,
        "rows": [asdict(row) for row in judge.rows],
    }


def fits_threshold(model: Model, plan: DrawPlan, references: int) -> bool:
    """Whether the line would have a threshold from these references."""
    if plan.shots == 0:
        return not model.needs_references  # the cut is the bundle's own
    return 2 <= references <= MOST_FOR_THRESHOLD


def teach(
    model: Model, camera: CameraConfig, plan: DrawPlan
) -> tuple[Pipeline, list[int], float | None]:
    """The pipeline taught with the drawn references, their numbers, and their variety.

    Raises:
        InputError: fewer pictures than shots, or references that cannot be used.
        EngineError: the graph failed.
    """
    if plan.shots == 0:
        with tempfile.TemporaryDirectory() as folder:
            return build_pipeline(model, camera, None, TokenCache(Path(folder))), [], None
    try:
        chosen = draw_references(len(plan.category.train), plan.shots, plan.seed, plan.sampling)
    except InputError as error:
        raise InputError(f"category {plan.category.name}: {error}") from error
    pictures = [read_image(plan.category.train[index]) for index in chosen]
    if not fits_threshold(model, plan, len(chosen)):
        # Never looked at: the rows of this draw have no threshold and no verdict.
        camera = camera.model_copy(update={"threshold_override": 1.0})
    with tempfile.TemporaryDirectory() as folder:
        kept = ReferenceSet(
            camera=camera.name,
            name="default",
            version=1,
            pictures=tuple(_reference(pixels) for pixels in pictures),
            folder=Path(folder),
            description={},
        )
        pipeline = build_pipeline(model, camera, kept, TokenCache(Path(folder)))
    preprocess = build_preprocessor(model, camera)
    if model.matches_brightness:
        brightness = mean_brightness([preprocess(as_frame(pixels)) for pixels in pictures])
        preprocess = preprocess.with_brightness(round(brightness, 2))
    variety = measure_variety(
        pictures,
        preprocess=preprocess,
        encoder=model.encoder,
        factory=model.factory,
    )
    return pipeline, chosen, variety


def _reference(pixels: UInt8Array) -> ReferencePicture:
    return ReferencePicture(sha256=hashlib.sha256(encode_png(pixels)).hexdigest(), pixels=pixels)


def read_mask(picture: Picture, pixels: UInt8Array) -> BoolArray | None:
    """(H, W) true where bad; all false for a good picture; None for a bad one without a mask.

    Raises:
        InputError: the mask has another size than its picture, or shows nothing.
    """
    if not picture.is_bad:
        return np.zeros(pixels.shape[:2], bool)
    if picture.mask is None:
        return None
    mask = np.asarray(read_image(picture.mask).max(axis=2) > 0)
    if mask.shape != pixels.shape[:2]:
        raise InputError(
            f"{picture.mask}: expected the size of its picture, {pixels.shape[1]}x"
            f"{pixels.shape[0]}, got {mask.shape[1]}x{mask.shape[0]}"
        )
    if not mask.any():
        raise InputError(f"{picture.mask}: the mask of a bad picture marks nothing")
    return mask


def _count(
    tally: PixelTally,
    anomaly_map: FloatArray,
    mask: BoolArray | None,
    size: tuple[int, int] | None,
    path: Path,
) -> None:
    if mask is not None and size is not None and mask.shape != size:
        anomaly_map, mask = upsample_map(anomaly_map, size), resize_mask(mask, size)
    tally.add(anomaly_map, mask, name=str(path))


def _pixel_answer(
    tally: PixelTally, plan: DrawPlan
) -> tuple[dict[str, float | None] | None, dict[str, list[float]] | None]:
    """Pixel figures and a thinned PRO curve; None where no bad picture has a mask."""
    if not any(picture.mask for picture in plan.category.test if picture.is_bad):
        return None, None
    counts = tally.counts()
    rate, overlap = overlap_points(counts)
    thin = np.unique(np.linspace(0, len(rate) - 1, _CURVE_POINTS).astype(int))
    return pixel_figures(counts, plan.definition), {
        "rate": [round(float(value), 6) for value in rate[thin]],
        "overlap": [round(float(value), 6) for value in overlap[thin]],
    }


def _run_in_order(plan: DrawPlan, references: Sequence[int]) -> Iterator[Path]:
    """Good pictures that are no references, shuffled, as many as a run-in takes."""
    rest = [i for i in range(len(plan.category.train)) if i not in set(references)]
    order = np.random.default_rng(plan.seed).permutation(len(rest))
    return (plan.category.train[rest[i]] for i in order[:RUN_IN_PARTS])


class _Judge:
    """Judges pictures and keeps a row of each."""

    def __init__(
        self,
        plan: DrawPlan,
        pipeline: Pipeline,
        *,
        has_threshold: bool,
        advance: Callable[[int], None],
    ) -> None:
        self._plan = plan
        self._pipeline = pipeline
        self._threshold = pipeline.decider.threshold.value if has_threshold else None
        self._advance = advance
        self.rows: list[ScoreRow] = []

    def judge(
        self,
        picture: Picture,
        pixels: UInt8Array,
        *,
        part: str = "test",
        condition: str = AS_IT_IS,
    ) -> Decision:
        frame = replace(as_frame(pixels), monotonic_ns=time.monotonic_ns())
        decision = self._pipeline.inspect(frame)
        if decision.reason is Reason.ENGINE_ERROR:
            raise EngineError(f"{picture.path}: {decision.detail}")
        score = decision.result.image_score if decision.result else None
        if score is not None and not math.isfinite(score):
            raise InputError(f"{picture.path}: its score is not finite")
        took = decision.latency_ms
        stages = {name: took.get(name) for name in ("preprocess", "encode", "score", "decide")}
        self.rows.append(
            ScoreRow(
                category=self._plan.category.name,
                shots=self._plan.shots_word,
                seed=self._plan.seed,
                part=part,
                condition=condition,
                file=self._plan.category.file_name(picture.path),
                label="bad" if picture.is_bad else "good",
                kind=picture.kind,
                score=score,
                threshold=self._threshold,
                verdict=str(decision.verdict) if self._threshold is not None else "",
                latency_ms=round(sum(value for value in stages.values() if value), 3),
                preprocess_ms=stages["preprocess"],
                encode_ms=stages["encode"],
                score_ms=stages["score"],
                decide_ms=stages["decide"],
            )
        )
        self._advance(1)
        return decision
