"""Variants of the built-in kind of bundle: judged through the device's own scorer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_sdk.bundle.fields import Precision
from edge_sdk.bundle.manifest import GraphSpec, QuantizationSpec, Tolerance
from edge_sdk.config import EngineConfig
from edge_sdk.encoder import GraphEncoder
from edge_sdk.engines.selector import open_engine
from edge_sdk.imaging import decode_image
from edge_sdk.pipeline import as_frame
from edge_sdk.preprocess import Preprocessor
from edge_sdk.records import PatchFeatures
from edge_sdk.scoring.selector import build_scorer_factory
from export_tools.backbones.efficientnet_lite import EfficientNetLite
from export_tools.bundle_words import extractor_id, graph_spec, input_spec, scorer_spec
from export_tools.faithful import Listener, fit_on, prepare, score_all
from export_tools.gates import GraphFile, Judged
from export_tools.golden import Golden
from export_tools.graph import PICTURE_INPUT
from export_tools.parity_rows import as_bound
from export_tools.quantize import Feed
from export_tools.recipe import Recipe
from export_tools.trial_pictures import (
    Calibration,
    clip_calibration,
    clip_trial,
    folder_calibration,
    folder_trial,
)
from export_tools.variants import DYNAMIC, Variants, Wanted, make_variants

_FOLDER = "graphs"
_ROOM = 3.0
"""A box may be this many times as far from the golden answers as the exporting machine."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BundleVariants:
    """Variants in the words of a bundle."""

    found: Variants
    graphs: tuple[GraphSpec, ...]
    files: dict[str, bytes]
    tolerance: dict[Precision, Tolerance]
    quantization: QuantizationSpec | None


def build_variants(
    recipe: Recipe,
    model: EfficientNetLite,
    graph: bytes,
    wanted: Wanted,
    *,
    golden: Golden,
    pictures: Path | None,
    calibration: Path | None,
    listener: Listener,
) -> BundleVariants:
    """Make, judge and describe what is wanted beside the fp32 ONNX graph.

    Args:
        recipe: of the bundle.
        model: made by it.
        graph: the fp32 ONNX file.
        wanted: what to make.
        golden: answers that each variant has to come near, too.
        pictures: folder to judge on, its first four by name known-good; None: the clip.
        calibration: folder for int8; None: other frames of the clip.
        listener: is told how far it is.

    Raises:
        GateError: see ``make_variants``.
        InputError: pictures cannot be used.
    """
    trial = clip_trial() if pictures is None else folder_trial(pictures)
    listener.stage(f"judging other precisions on {trial.pictures.source}")
    samples = prepare(recipe, trial.pictures)
    factory = build_scorer_factory(scorer_spec(recipe))
    spec = graph_spec(recipe, model)
    used: list[Calibration] = []

    def encoder_of(one: GraphFile) -> GraphEncoder:
        engine = open_engine(
            one.engine,
            model=one.files[0],
            weights=one.files[1] if len(one.files) > 1 else None,
            device="cpu",
            precision=one.precision,
            threads=EngineConfig().threads,
        )
        return GraphEncoder(engine, spec, extractor_id(recipe))

    def judge(one: GraphFile) -> Judged:
        encoder = encoder_of(one)
        scored = score_all(factory, encoder, samples)
        return Judged(
            maps=[anomaly_map for anomaly_map, _ in scored],
            scores=[score for _, score in scored],
            threshold=fit_on(factory, encoder, samples),
        )

    def feed() -> Feed:
        shown = clip_calibration() if calibration is None else folder_calibration(calibration)
        used.append(shown)
        preprocess = Preprocessor(input_spec(recipe))
        return [{PICTURE_INPUT: preprocess(as_frame(one)).tensor} for one in shown.pictures]

    found = make_variants(
        graph, wanted, judge=judge, feed=feed, is_bad=trial.is_bad, show=listener.row
    )
    specs: list[GraphSpec] = []
    files: dict[str, bytes] = {}
    for one in found.graphs:
        paths = _paths(one)
        files.update(zip(paths, one.files, strict=True))
        specs.append(_spec(spec, one, paths))
    return BundleVariants(
        found=found,
        graphs=tuple(specs),
        files=files,
        tolerance=_tolerances(recipe, found.graphs, golden, encoder_of),
        quantization=_quantization(found.graphs, used),
    )


def _paths(graph: GraphFile) -> tuple[str, ...]:
    stem = f"{_FOLDER}/encoder_{graph.precision}"
    return (f"{stem}.onnx",) if graph.format == "onnx" else (f"{stem}.xml", f"{stem}.bin")


def _spec(exact: GraphSpec, graph: GraphFile, paths: tuple[str, ...]) -> GraphSpec:
    changes = {"format": graph.format, "precision": graph.precision, "paths": paths}
    kept = {name: getattr(exact, name) for name in exact.model_fields_set - {"tolerance"}}
    if graph.format == "openvino":
        kept.pop("opset", None)
    return GraphSpec(**(kept | changes))


def _tolerances(
    recipe: Recipe,
    graphs: Sequence[GraphFile],
    golden: Golden,
    encoder_of: Callable[[GraphFile], GraphEncoder],
) -> dict[Precision, Tolerance]:
    """How far from the golden answers each precision is here, with room for other processors."""
    worst: dict[Precision, dict[str, float]] = {}
    preprocess = Preprocessor(input_spec(recipe))
    for graph in graphs:
        if graph.precision == "fp32":
            continue
        encoder = encoder_of(graph)

        def encoded(path: str, encoder: GraphEncoder = encoder) -> PatchFeatures:
            pixels = decode_image(golden.files[path], name=path)
            return encoder.encode(preprocess(as_frame(pixels)))

        found = golden.differences(encoded, build_scorer_factory(scorer_spec(recipe)))
        known = worst.setdefault(graph.precision, dict.fromkeys(found, 0.0))
        for kind, value in found.items():
            known[kind] = max(known[kind], value)
    return {
        precision: Tolerance(**{kind: as_bound(_ROOM * value) for kind, value in found.items()})
        for precision, found in worst.items()
    }


def _quantization(
    graphs: Sequence[GraphFile], used: Sequence[Calibration]
) -> QuantizationSpec | None:
    int8 = [graph for graph in graphs if graph.precision == "int8"]
    if not int8:
        return None
    is_dynamic = {graph.recipe == DYNAMIC for graph in int8} == {True}
    return QuantizationSpec(
        method="onnxruntime_dynamic" if is_dynamic else "nncf_post_training",
        calibration_source=used[0].source if used else "none",
        calibration_pictures=len(used[0].pictures) if used else 0,
        parameters={graph.format: graph.recipe for graph in int8},
    )
