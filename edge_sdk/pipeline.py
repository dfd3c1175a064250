"""The stages in a row: ``inspect`` takes a frame and gives a decision, whatever happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import TypeVar

from edge_sdk.change_gate import ChangeGate
from edge_sdk.config import CameraConfig
from edge_sdk.config.source import is_camera_source
from edge_sdk.decision import Decider, FaultLimits, fit_fault_limits
from edge_sdk.errors import ConfigError, EngineError, InputError
from edge_sdk.imaging import decode_image
from edge_sdk.model import Model
from edge_sdk.picture_watch import PictureWatch, stored_watch
from edge_sdk.preprocess import Preprocessor, mean_brightness
from edge_sdk.protocols import Encoder, ReferenceScorer
from edge_sdk.records import (
    AnomalyResult,
    Decision,
    Frame,
    PatchFeatures,
    Preprocessed,
    Reason,
    Threshold,
    UInt8Array,
)
from edge_sdk.references import ReferenceSet, TokenCache
from edge_sdk.run_in.folder import RunIn
from edge_sdk.scoring.threshold import nuisance_views
from edge_sdk.thresholds import (
    bundle_threshold,
    check_threshold,
    digest,
    find_run_in,
    fitted_threshold,
    given_threshold,
)

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Pipeline:
    """One camera's way from frame to decision."""

    def __init__(
        self,
        *,
        preprocess: Preprocessor,
        encoder: Encoder,
        scorer: ReferenceScorer,
        decider: Decider,
        bundle_id: str,
        references: ReferenceSet | None,
        run_in: RunIn | None = None,
        watch: PictureWatch | None = None,
        gate: ChangeGate | None = None,
    ) -> None:
        self._preprocess = preprocess
        self._encoder = encoder
        self._scorer = scorer
        self.decider = decider
        self.bundle_id = bundle_id
        self.references = references
        self.run_in = run_in
        """What is learned from the parts that are judged; None: nothing."""
        self.watch = watch
        """Measures lamp, lens and camera against the references; None: they cannot be."""
        self._gate = gate

    @property
    def reference_label(self) -> str | None:
        """What messages call the reference set; None: nothing was enrolled, nor need it be."""
        return self.references.label if self.references else None

    def inspect(self, frame: Frame) -> Decision:
        """Judge one frame. What cannot be judged is a ``fault``; nothing is raised for it."""
        clock = _StageClock(frame)
        try:
            preprocessed = clock.timed("preprocess", self._preprocess, frame)
            known = clock.timed("gate", self._gate.known, preprocessed) if self._gate else None
            result = known or self._score(preprocessed, clock)
            decision = clock.timed("decide", self.decider.decide, result)
        except EngineError as error:
            decision = self.decider.fault(Reason.ENGINE_ERROR, str(error), frame=frame)
        except InputError as error:
            decision = self.decider.fault(Reason.WRONG_SIZE, str(error), frame=frame)
        return replace(decision, latency_ms=clock.milliseconds)

    def _score(self, preprocessed: Preprocessed, clock: _StageClock) -> AnomalyResult:
        features = clock.timed("encode", self._encoder.encode, preprocessed)
        result = clock.timed("score", self._scorer.score, features)
        if self._gate is not None:
            self._gate.keep(result)
        return result

    def arm(self, threshold: Threshold) -> None:
        """Judge with another threshold from now on: the one that was learned."""
        self.decider = self.decider.with_threshold(threshold)

    def leave_out(self, reference: int) -> Callable[[Frame], AnomalyResult]:
        """Scores a frame against all references but one; for honest scores of that one.

        What it returns raises ``EngineError`` where the graph fails, and ``InputError`` for a
        frame that is not as the references are.
        """
        scorer = self._scorer.without(reference)
        return lambda frame: scorer.score(self._encoder.encode(self._preprocess(frame)))


class _StageClock:
    """Milliseconds per stage; ``capture`` is the age of the frame when it came here."""

    def __init__(self, frame: Frame) -> None:
        age = (time.monotonic_ns() - frame.monotonic_ns) / 1e6
        self.milliseconds = {"capture": round(age, 3)}

    def timed(self, stage: str, function: Callable[[_In], _Out], argument: _In) -> _Out:
        start = time.perf_counter_ns()
        value = function(argument)
        self.milliseconds[stage] = round((time.perf_counter_ns() - start) / 1e6, 3)
        return value


def build_preprocessor(
    model: Model, camera: CameraConfig, *, frame_size: tuple[int, int] | None = None
) -> Preprocessor:
    """The camera's crop and regions, at the bundle's input size."""
    return Preprocessor(
        model.bundle.manifest.input,
        crop=camera.crop.box if camera.crop else None,
        include=camera.polygons("include"),
        exclude=camera.polygons("exclude"),
        frame_size=frame_size,
    )


def build_pipeline(
    model: Model,
    camera: CameraConfig,
    references: ReferenceSet | None,
    cache: TokenCache,
    *,
    watches_pictures: bool = False,
) -> Pipeline:
    """Encode the references, fit the scorer and the threshold, and join the stages.

    Tokens and thresholds that were computed before for the same extractor, precision, scorer,
    crop and regions are taken from the state directory.

    Args:
        model: the bundle, loaded.
        camera: its settings.
        references: known-good pictures. None only where the model needs none; the bundle's own
            threshold is then the cut, unless the device file gives one.
        cache: of tokens.
        watches_pictures: also learn how to tell faults of lamp, lens and camera.

    Raises:
        ConfigError: the device file asks for what this model cannot do.
        InputError: the references cannot be used, or do not fit the crop or the regions, or no
            threshold is to be had.
        EngineError: the graph failed.
    """
    if not model.takes_regions:
        _check_regions(camera)
    pictures = references.pictures if references else ()
    frames = [as_frame(picture.pixels) for picture in pictures]
    if not pictures and (references or model.needs_references):
        label = references.label if references else camera.reference_set
        raise InputError(f"reference set {label}: has no pictures")
    for size in sorted({frame.size for frame in frames}):
        check_places(camera, size)
    preprocess = build_preprocessor(model, camera, frame_size=_fixed_size(camera, frames))
    originals = prepared = [preprocess(frame) for frame in frames]
    # Whole models were trained on pictures as they are; only a comparison divides the lamp out.
    brightness = round(mean_brightness(originals), 2) if model.matches_brightness else None
    if brightness is not None:
        preprocess = preprocess.with_brightness(brightness)
        prepared = [preprocess(frame) for frame in frames]
    features = [
        _encode_cached(model, item, f"{picture.sha256}:{brightness}", cache)
        for item, picture in zip(prepared, pictures, strict=True)
    ]
    scorer = model.factory.fit(features)
    limits = FaultLimits(
        max_frame_age_seconds=camera.faults.max_frame_age_seconds,
        black_below=camera.faults.black_below,
        saturated_above=camera.faults.saturated_above,
        saturated_share=camera.faults.saturated_share,
    )
    run_in = None
    if camera.threshold_override is not None:
        threshold = given_threshold(camera.threshold_override)
    elif references is None:
        if camera.run_in is not None:
            raise ConfigError(
                f"camera {camera.name}: run_in: expected an enrolled set to learn for, got none; "
                "show it good parts with edge-enroll, same --camera and --state"
            )
        threshold = bundle_threshold(model, camera)
    else:
        run_in = find_run_in(model, camera, references)
        learned = run_in.standing.threshold if run_in is not None else None
        threshold = learned or fitted_threshold(
            model,
            camera,
            references,
            scorer=scorer,
            features=features,
            encode=lambda pixels: [
                model.encoder.encode(preprocess(as_frame(view))) for view in nuisance_views(pixels)
            ],
        )
        if run_in is not None and learned is None:
            threshold = replace(threshold, provisional=True)
    check_threshold(model, camera, threshold)
    return Pipeline(
        preprocess=preprocess,
        encoder=model.encoder,
        scorer=scorer,
        decider=Decider(
            threshold,
            limits=fit_fault_limits(limits, originals or _golden_pictures(model)),
            critical_margin=camera.severity.critical_margin,
        ),
        bundle_id=model.bundle.manifest.bundle_id,
        references=references,
        run_in=run_in,
        watch=_find_watch(camera, references, originals) if watches_pictures else None,
        gate=ChangeGate(camera.change_gate) if camera.change_gate else None,
    )


def _find_watch(
    camera: CameraConfig, references: ReferenceSet | None, pictures: Sequence[Preprocessed]
) -> PictureWatch | None:
    if references is None:
        return None
    regions = [region.model_dump(mode="json") for region in camera.regions]
    key = digest(camera.crop.model_dump() if camera.crop else None, *regions)
    return stored_watch(references.folder / "statistics" / f"{key}.npz", pictures)


def check_places(camera: CameraConfig, frame_size: tuple[int, int]) -> None:
    """Check that the crop and every polygon lie in the frame.

    Args:
        camera: its settings.
        frame_size: (height, width) in pixels of the camera's pictures.

    Raises:
        ConfigError: one does not; names the camera, the key and the corner.
    """
    height, width = frame_size
    where = f"inside the {width}x{height} picture (x 0 to {width}, y 0 to {height})"
    crop = camera.crop
    if crop and (crop.x + crop.width > width or crop.y + crop.height > height):
        raise ConfigError(
            f"camera {camera.name}: crop: expected {where}, got x {crop.x} to "
            f"{crop.x + crop.width}, y {crop.y} to {crop.y + crop.height}"
        )
    for index, region in enumerate(camera.regions):
        for corner, (x, y) in enumerate(region.polygon):
            if x > width or y > height:
                raise ConfigError(
                    f"camera {camera.name}: regions[{index}].polygon[{corner}]: region "
                    f"{region.name!r}: expected a corner {where}, got [{x}, {y}]"
                )


def _golden_pictures(model: Model) -> list[Preprocessed]:
    """The bundle's own pictures: where nothing is enrolled, they show how bright the parts are."""
    preprocess = Preprocessor(model.bundle.manifest.input)
    return [
        preprocess(as_frame(decode_image(model.bundle.read(path), name=path)))
        for path in model.bundle.manifest.golden.frames
    ]


def _fixed_size(camera: CameraConfig, references: Sequence[Frame]) -> tuple[int, int] | None:
    """The only (height, width) that frames may have; None: any, as in a folder of pictures.

    A camera has one, and a crop or region is meant in its pixels: of another size it would show
    another part, and be judged all the same. Where nothing is enrolled none is known.
    """
    is_fixed = camera.crop or camera.regions or is_camera_source(camera.source)
    if not references or not is_fixed:
        return None
    sizes = sorted({frame.size for frame in references})
    if len(sizes) != 1:
        raise InputError(
            f"camera {camera.name}: expected references of one size (height, width), got {sizes}"
        )
    return sizes[0]


def _check_regions(camera: CameraConfig) -> None:
    if camera.regions:
        raise ConfigError(
            f"camera {camera.name}: regions: this bundle's model scores whole pictures and cannot "
            "leave a part of them out; expected a crop, or none"
        )


def _encode_cached(
    model: Model, preprocessed: Preprocessed, picture: str, cache: TokenCache
) -> PatchFeatures:
    window = preprocessed.geometry.window
    key = digest(
        model.bundle.manifest.extractor_id,
        model.precision,
        picture,
        [window.x, window.y, window.width, window.height],
    )
    cached = cache.read(key, preprocessed, model.encoder.extractor_id)
    if cached is not None:
        return cached
    features = model.encoder.encode(preprocessed)
    cache.write(key, features)
    return features


def as_frame(pixels: UInt8Array) -> Frame:
    """A stored picture as a frame, so that it takes the way of every other one."""
    return Frame(
        pixels=pixels,
        frame_id=0,
        source_id="reference",
        captured_at=datetime.now(timezone.utc),
        monotonic_ns=time.monotonic_ns(),
    )
