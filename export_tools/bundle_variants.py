"""Variants in the words of a bundle: judged through the device's own scorer, with tolerances."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_sdk.bundle.fields import Precision
from edge_sdk.bundle.manifest import (
    GraphSpec,
    InputSpec,
    ManifestDraft,
    ParityRow,
    QuantizationSpec,
    Tolerance,
)
from edge_sdk.config import EngineConfig
from edge_sdk.encoder import GraphEncoder
from edge_sdk.engines.selector import open_engine
from edge_sdk.imaging import decode_image
from edge_sdk.pipeline import as_frame
from edge_sdk.preprocess import Preprocessor
from edge_sdk.protocols import ScorerFactory
from edge_sdk.records import PatchFeatures
from export_tools.candidates import DYNAMIC, Workshop
from export_tools.faithful import Listener, Samples, fit_on, prepare, score_all
from export_tools.gates import GraphFile, Judged, VariantRow, variant_parity
from export_tools.golden import Golden
from export_tools.graph import PICTURE_INPUT
from export_tools.parity_rows import as_bound
from export_tools.quantize import Feed
from export_tools.trial_pictures import (
    Calibration,
    clip_calibration,
    clip_trial,
    folder_calibration,
    folder_trial,
)
from export_tools.variants import Variants, Wanted, make_variants

_FOLDER = "graphs"
TORCH_PATH = f"{_FOLDER}/encoder_torch.safetensors"
"""One file for all precisions: torch computes in fewer bits, it does not store them."""
_ROOM = 3.0
"""A box may be this many times as far from the golden answers as the exporting machine."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """A bundle's encoder, and all that it takes to judge pictures with it."""

    graph: bytes
    """The fp32 ONNX file."""
    spec: GraphSpec
    """Of that file."""
    input_spec: InputSpec
    extractor_id: str
    factory: Callable[[str], ScorerFactory]
    """Engine -> the device's scorer; what it loads is fp32 whatever the encoder is."""
    golden: Golden
    """Answers that each variant has to come near, too."""
    torch_part: bytes | None = None
    """The encoder in format ``torch``."""
    has_zero_shot: bool = False
    """Whether it judges without references, too."""
    has_random_weights: bool = False

    def encoder(self, graph: GraphFile) -> GraphEncoder:
        """A variant of the encoder, loaded on the CPU.

        Raises:
            EngineError: its engine cannot run it.
        """
        engine = open_engine(
            graph.engine,
            model=graph.files[0],
            weights=graph.files[1] if len(graph.files) > 1 else None,
            device="cpu",
            precision=graph.precision,
            threads=EngineConfig().threads,
        )
        return GraphEncoder(engine, self.spec, self.extractor_id)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BundleVariants:
    """Variants in the words of a bundle."""

    rows: tuple[VariantRow, ...]
    """All that were tried."""
    graphs: tuple[GraphSpec, ...]
    files: dict[str, bytes]
    tolerance: dict[Precision, Tolerance]
    quantization: QuantizationSpec | None

    @property
    def parity(self) -> tuple[ParityRow, ...]:
        """Rows of the graphs that are in the bundle."""
        return tuple(variant_parity(row) for row in self.rows if not row.failures)


def build_variants(
    subject: Subject,
    wanted: Wanted,
    *,
    pictures: Path | None,
    calibration: Path | None,
    listener: Listener,
) -> BundleVariants:
    """Make, judge and describe what is wanted beside the fp32 ONNX graph.

    Args:
        subject: of the bundle.
        wanted: what to make.
        pictures: folder to judge on, its first four by name known-good; None: the clip.
        calibration: folder for int8; None: other frames of the clip.
        listener: is told how far it is.

    Raises:
        GateError: see ``make_variants``.
        InputError: pictures cannot be used.
    """
    trial = clip_trial() if pictures is None else folder_trial(pictures)
    listener.stage(f"judging other precisions on {trial.pictures.source}")
    samples = prepare(subject.input_spec, trial.pictures)
    used: list[Calibration] = []

    def feed() -> Feed:
        shown = clip_calibration() if calibration is None else folder_calibration(calibration)
        used.append(shown)
        preprocess = Preprocessor(subject.input_spec)
        return [{PICTURE_INPUT: preprocess(as_frame(one)).tensor} for one in shown.pictures]

    found = make_variants(
        Workshop(graph=subject.graph, feed=feed, torch_part=subject.torch_part),
        wanted,
        judge=lambda graph: judge_graph(subject, graph, samples),
        is_bad=trial.is_bad,
        show=listener.row,
        has_random_weights=subject.has_random_weights,
    )
    return describe(subject, found, used)


def judge_graph(subject: Subject, graph: GraphFile, samples: Samples) -> list[Judged]:
    """Run all pictures through a variant, against references and, where it can, without.

    Raises:
        EngineError: its engine cannot run it.
        InputError: no threshold can be fitted on the references.
    """
    encoder, factory = subject.encoder(graph), subject.factory(graph.engine)
    few_shot = score_all(factory, encoder, samples)
    judged = [
        Judged(
            maps=[anomaly_map for anomaly_map, _ in few_shot],
            scores=[score for _, score in few_shot],
            threshold=fit_on(factory, encoder, samples),
        )
    ]
    if subject.has_zero_shot:
        scorer = factory.fit([])
        zero_shot = [scorer.score(encoder.encode(item)) for item in samples.judged]
        judged.append(
            Judged(
                maps=[one.anomaly_map for one in zero_shot],
                scores=[one.image_score for one in zero_shot],
                threshold=None,
                way="zero-shot",
            )
        )
    return judged


def describe(subject: Subject, found: Variants, used: Sequence[Calibration]) -> BundleVariants:
    """Files, entries and tolerances of the variants that passed."""
    files: dict[str, bytes] = {}
    specs: list[GraphSpec] = []
    for one in found.graphs:
        paths = _paths(one)
        files.update(zip(paths, one.files, strict=True))
        specs.append(variant_spec(subject.spec, one, paths))
    return BundleVariants(
        rows=found.rows,
        graphs=tuple(specs),
        files=files,
        tolerance=_tolerances(subject, found.graphs),
        quantization=_quantization(found.graphs, used),
    )


def add_variants(draft: ManifestDraft, variants: BundleVariants | None) -> ManifestDraft:
    """A manifest with its variants in it."""
    if variants is None:
        return draft
    golden = draft.golden
    changes: dict[str, object] = {
        "graphs": (*draft.graphs, *variants.graphs),
        "parity": (*draft.parity, *variants.parity),
        "golden": golden.model_copy(
            update={"tolerance": {**golden.tolerance, **variants.tolerance}}
        ),
    }
    if variants.quantization is not None:
        changes["quantization"] = variants.quantization
    return draft.model_copy(update=changes)


def variant_spec(exact: GraphSpec, graph: GraphFile, paths: tuple[str, ...]) -> GraphSpec:
    """The entry of a graph that takes and gives the same as another in other bits."""
    changes = {"format": graph.format, "precision": graph.precision, "paths": paths}
    kept = {name: getattr(exact, name) for name in exact.model_fields_set - {"tolerance"}}
    if graph.format != "onnx":
        kept.pop("opset", None)
    return GraphSpec(**(kept | changes))


def _paths(graph: GraphFile) -> tuple[str, ...]:
    stem = f"{_FOLDER}/encoder_{graph.precision}"
    match graph.format:
        case "onnx":
            return (f"{stem}.onnx",)
        case "openvino":
            return f"{stem}.xml", f"{stem}.bin"
        case "torch":
            return (TORCH_PATH,)


def _tolerances(subject: Subject, graphs: Iterable[GraphFile]) -> dict[Precision, Tolerance]:
    """How far from the golden answers each precision is here, with room for other processors."""
    worst: dict[Precision, dict[str, float]] = {}
    preprocess = Preprocessor(subject.input_spec)
    for graph in graphs:
        if graph.precision == "fp32":
            continue
        encoder = subject.encoder(graph)

        def encoded(path: str, encoder: GraphEncoder = encoder) -> PatchFeatures:
            pixels = decode_image(subject.golden.files[path], name=path)
            return encoder.encode(preprocess(as_frame(pixels)))

        found = subject.golden.differences(encoded, subject.factory(graph.engine))
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
