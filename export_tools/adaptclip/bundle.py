"""From towers and adapters to a bundle on the disk: export, compare, refuse or write, and prove."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from edge_sdk.bundle import ManifestDraft, ThresholdSpec, write_bundle
from edge_sdk.bundle.manifest import GoldenSpec, GraphSpec, Tolerance
from edge_sdk.bundle.paths import REPORT_NAME
from edge_sdk.config import EngineConfig
from edge_sdk.engines.selector import open_engine
from edge_sdk.errors import InputError
from edge_sdk.pipeline import as_frame
from edge_sdk.preprocess import Preprocessor
from edge_sdk.scoring.adaptclip import AdaptClipFactory
from edge_sdk.scoring.adaptclip_heads import AdaptClipSettings
from edge_sdk.selftest import ZERO_SHOT_MAP, ZERO_SHOT_SCORE
from export_tools.adaptclip.bundle_parts import (
    ENCODER_PATH,
    FEW_SHOT_PATH,
    ZERO_SHOT_PATH,
    BundleParts,
)
from export_tools.adaptclip.compare import compare_adaptclip
from export_tools.adaptclip.graphs import export_few_shot, export_zero_shot
from export_tools.adaptclip.parts import NORMALISED_PATH, AdaptClipParts
from export_tools.adaptclip.reference import MAX_BANK_BYTES, exact_encoder, torch_factory
from export_tools.adaptclip.torch_files import torch_parts, torch_path
from export_tools.bundle_variants import TORCH_PATH, Subject, add_variants, build_variants
from export_tools.faithful import (
    PRECISION,
    Findings,
    Listener,
    installed_engines,
    manifest_rows,
)
from export_tools.golden import MAP_STEP, Golden, as_npy, in_steps, png_files
from export_tools.graph import export_encoder
from export_tools.package import NOTICE_PATH, Exported, StepClock, check_destination, prove
from export_tools.parity import (
    check_gate,
)
from export_tools.pictures import GoldenPictures, ParityPictures, golden_pictures
from export_tools.report import write_report
from export_tools.trial_pictures import check_folders
from export_tools.variants import TORCH, Wanted

REQUIRES_RUNTIME = "0.1.0"
EVEN_ODDS = 0.5
"""Where the texts of good and of bad objects fit alike; the cut until good parts were enrolled."""
TOLERANCE = Tolerance(tokens=0.02, map=5e-4, score=5e-4)
"""How far a device may be from the golden arrays. Probabilities; what the order in which a CPU
adds makes of them is about 1e-6, what another resize makes about 1e-2."""
_GOLDEN = "golden"


def export_adaptclip(
    parts: BundleParts,
    destination: Path,
    *,
    pictures: ParityPictures,
    listener: Listener,
    with_normalised: bool = False,
    wanted: Wanted | None = None,
    judged_on: Path | None = None,
    calibration: Path | None = None,
) -> Exported:
    """Make a bundle. Nothing is written unless its graphs are faithful and pass the self-test.

    Args:
        parts: what to make it of.
        destination: the folder; an older bundle there is replaced.
        pictures: to compare fp32 with torch on; the references are good.
        listener: is told how far it is.
        with_normalised: add the encoder without its normalisation, for a conformance check.
        wanted: precisions and formats; None: the fp32 ONNX graphs alone.
        judged_on: folder that other precisions are judged on; None: the clip.
        calibration: folder of pictures for int8; None: the clip.

    Raises:
        ConfigError: nothing can be written at the destination, or it holds something else.
        InputError: the parts cannot be exported.
        GateError: a graph is not faithful to the torch model.
        SelfTestError: the bundle does not give its own golden answers.
        EdgeError: the disk is full.
    """
    check_destination(destination)
    asked = wanted or Wanted()
    if not asked.is_plain:
        check_folders(judged_on, calibration)
    created = datetime.now(timezone.utc)
    clock = StepClock(listener)
    with clock.step("graph", "exporting the encoder and the heads"):
        graphs = _graphs(parts, with_normalised=with_normalised)
        specs = graph_specs(parts, with_normalised=with_normalised)
        if TORCH in asked.formats:
            if not isinstance(parts, AdaptClipParts):
                raise InputError(f"format torch: expected a CLIP tower, got {parts.name}")
            torch_specs, torch_files = torch_parts(parts, with_normalised=with_normalised)
            specs, graphs = (*specs, *torch_specs), graphs | torch_files
    with clock.step("golden", "working out golden answers"):
        shown = golden_pictures(parts.size)
        golden = _golden(parts, shown)
    files = {**graphs, **golden.files, NOTICE_PATH: _notice(parts, shown.source).encode()}
    with tempfile.TemporaryDirectory() as folder:
        # Compared and tested through the very bundle that is written, as a device opens it.
        aside = Path(folder) / "bundle"
        write_bundle(aside, _draft(parts, specs, golden.spec, None), files, created)
        with clock.step("parity", f"comparing with torch on {pictures.source}"):
            findings = compare_adaptclip(parts, aside, graphs, pictures=pictures, listener=listener)
            check_gate(findings.rows)
    draft = _draft(parts, specs, golden.spec, findings)
    variants = None
    if not asked.is_plain:
        with clock.step("variants", "making other precisions and formats"):
            variants = build_variants(
                subject_of(parts, graphs, golden),
                asked,
                pictures=judged_on,
                calibration=calibration,
                listener=listener,
            )
        draft, files = add_variants(draft, variants), files | variants.files
    engines = installed_engines()
    with clock.step("proof", "testing the bundle as a device does"):
        self_tests = prove(
            draft, files, created, engines=(*engines, TORCH) if TORCH in asked.formats else engines
        )
    rows = variants.rows if variants else ()
    report = write_report(
        created=created,
        pictures=pictures.source,
        findings=findings,
        self_tests=self_tests,
        seconds=clock.seconds,
        variants=rows,
    )
    manifest = write_bundle(destination, draft, {**files, REPORT_NAME: report}, created)
    return Exported(
        manifest=manifest,
        findings=findings,
        self_tests=self_tests,
        seconds=clock.seconds,
        variants=rows,
    )


def graph_specs(parts: BundleParts, *, with_normalised: bool) -> tuple[GraphSpec, ...]:
    """The graphs in the words of the manifest."""
    specs = (parts.encoder_spec(), *parts.head_specs())
    if with_normalised and isinstance(parts, AdaptClipParts):
        return (*specs, parts.normalised_spec())
    return specs


def _graphs(parts: BundleParts, *, with_normalised: bool) -> dict[str, bytes]:
    graphs = {
        ENCODER_PATH: _encoder(parts, float_input=False),
        FEW_SHOT_PATH: export_few_shot(
            parts.model, layers=parts.layers, dim=parts.dim, stream=parts.stream
        ),
    }
    if parts.has_texts:
        graphs[ZERO_SHOT_PATH] = export_zero_shot(
            parts.model, layer=parts.layers[-1], dim=parts.dim
        )
    if with_normalised:
        graphs[NORMALISED_PATH] = _encoder(parts, float_input=True)
    return graphs


def _encoder(parts: BundleParts, *, float_input: bool) -> bytes:
    spec = parts.input_spec()
    return export_encoder(
        parts.encoder(),
        input_size=parts.size,
        mean=spec.mean,
        std=spec.std,
        output_names=parts.output_names,
        float_input=float_input,
    )


def subject_of(
    parts: BundleParts, graphs: Mapping[str, bytes] | None = None, golden: Golden | None = None
) -> Subject:
    """The encoder, judged through the heads that a device has in that engine.

    Args:
        parts: of the bundle.
        graphs: files of the bundle by path; None: they are exported now.
        golden: its golden answers; None: they are worked out now.
    """
    graphs = graphs or _graphs(parts, with_normalised=False)

    def factory(engine: str) -> AdaptClipFactory:
        heads = {
            role: open_engine(
                engine,
                model=graphs[torch_path(role) if engine == TORCH else path],
                weights=None,
                device="cpu",
                precision=PRECISION,
                threads=EngineConfig().threads,
            )
            for role, path in (("head_zero_shot", ZERO_SHOT_PATH), ("head_few_shot", FEW_SHOT_PATH))
            if path in graphs
        }
        return AdaptClipFactory(
            zero_shot=heads.get("head_zero_shot"),
            few_shot=heads["head_few_shot"],
            settings=AdaptClipSettings.from_spec(parts.scorer_spec()),
            max_bank_bytes=MAX_BANK_BYTES,
        )

    return Subject(
        graph=graphs[ENCODER_PATH],
        spec=parts.encoder_spec(),
        input_spec=parts.input_spec(),
        extractor_id=parts.extractor_id(),
        factory=factory,
        golden=golden or _golden(parts, golden_pictures(parts.size)),
        torch_part=graphs.get(TORCH_PATH),
        has_zero_shot=parts.has_texts,
        has_random_weights=parts.random_weights,
    )


def _golden(parts: BundleParts, pictures: GoldenPictures) -> Golden:
    """Maps and scores of the torch model in float64, few-shot and zero-shot, in whole steps."""
    frames, references = (
        png_files(kind, items)
        for kind, items in (("frames", pictures.frames), ("references", pictures.references))
    )
    spec = GoldenSpec(
        frames=tuple(frames),
        references=tuple(references),
        expected=f"{_GOLDEN}/expected",
        has_tokens=False,
        has_zero_shot=parts.has_texts,
        tolerance={PRECISION: TOLERANCE},
    )
    preprocess = Preprocessor(parts.input_spec())
    encoder, factory = exact_encoder(parts), torch_factory(parts, exact=True)
    good = [encoder.encode(preprocess(as_frame(one))) for one in pictures.references]
    judges = [(factory.fit(good), "map", "score")]
    if parts.has_texts:
        judges.append((factory.fit([]), ZERO_SHOT_MAP, ZERO_SHOT_SCORE))
    files = frames | references
    for index, picture in enumerate(pictures.frames):
        features = encoder.encode(preprocess(as_frame(picture)))
        for judge, map_name, score_name in judges:
            result = judge.score(features)
            for name, value in (
                (map_name, result.anomaly_map),
                (score_name, np.asarray(result.image_score)),
            ):
                files[spec.array_path(index, name)] = as_npy(in_steps(value, MAP_STEP))
    return Golden(spec=spec, files=files)


def _draft(
    parts: BundleParts,
    graphs: tuple[GraphSpec, ...],
    golden: GoldenSpec,
    findings: Findings | None,
) -> ManifestDraft:
    return ManifestDraft(
        requires_runtime=REQUIRES_RUNTIME,
        licence=parts.licence,
        commercial_use=parts.commercial_use,
        training_data=parts.training_data,
        model=parts.model_spec(),
        extractor_id=parts.extractor_id(),
        input=parts.input_spec(),
        graphs=graphs,
        scorers=(parts.scorer_spec(),),
        threshold=ThresholdSpec(value=EVEN_ODDS, method="even_odds", n=0)
        if parts.has_texts
        else ThresholdSpec(value=None, method="site", n=0),
        parity=() if findings is None else manifest_rows(findings, random=parts.random_weights),
        golden=golden,
    )


def _notice(parts: BundleParts, golden_source: str) -> str:
    return (
        f"graphs/: made from {parts.weights_source}, sha256 {parts.weights_sha256},\n"
        f"licence: {parts.licence}; trained on: {parts.training_data}.\n"
        "\n"
        f"golden/: {golden_source}\n"
        "(https://creativecommons.org/licenses/by/4.0/). Changed: frames cut out, kept as PNG.\n"
    )
