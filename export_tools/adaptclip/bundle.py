"""From towers and adapters to a bundle on the disk: export, compare, refuse or write, and prove."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from edge_sdk.bundle import ManifestDraft, ThresholdSpec, open_bundle, write_bundle
from edge_sdk.bundle.manifest import GoldenSpec, GraphSpec, Tolerance
from edge_sdk.bundle.paths import REPORT_NAME
from edge_sdk.config import EngineConfig
from edge_sdk.model import load_model
from edge_sdk.pipeline import as_frame
from edge_sdk.preprocess import Preprocessor
from edge_sdk.protocols import Encoder, ScorerFactory
from edge_sdk.records import Preprocessed
from edge_sdk.scoring.adaptclip_heads import CLASS_TOKEN
from edge_sdk.selftest import ZERO_SHOT_MAP, ZERO_SHOT_SCORE, SelfTestReport, run_self_test
from export_tools.adaptclip.graphs import export_few_shot, export_tower, export_zero_shot
from export_tools.adaptclip.parts import (
    ENCODER_PATH,
    FEW_SHOT_PATH,
    NORMALISED_PATH,
    ZERO_SHOT_PATH,
    AdaptClipParts,
)
from export_tools.adaptclip.reference import torch_encoder, torch_factory
from export_tools.faithful import (
    PRECISION,
    Findings,
    Listener,
    Row,
    installed_engines,
    manifest_rows,
    open_engines,
)
from export_tools.golden import as_npy, png_files
from export_tools.package import NOTICE_PATH, Exported, StepClock, check_destination
from export_tools.parity import (
    HEADER,
    ScoredMap,
    Tokens,
    check_gate,
    compare_maps,
    compare_tokens,
)
from export_tools.pictures import GoldenPictures, ParityPictures, golden_pictures
from export_tools.report import write_report

REQUIRES_RUNTIME = "0.1.0"
EVEN_ODDS = 0.5
"""Where the texts of good and of bad objects fit alike; the cut until good parts were enrolled."""
TOLERANCE = Tolerance(tokens=0.02, map=5e-4, score=5e-4)
"""How far a device may be from the golden arrays. Probabilities; what the order in which a CPU
adds makes of them is about 1e-6, what another resize makes about 1e-2."""
_GOLDEN = "golden"


def export_adaptclip(
    parts: AdaptClipParts,
    destination: Path,
    *,
    pictures: ParityPictures,
    listener: Listener,
    with_normalised: bool = False,
) -> Exported:
    """Make a bundle. Nothing is written unless its graphs are faithful and pass the self-test.

    Args:
        parts: what to make it of.
        destination: the folder; an older bundle there is replaced.
        pictures: to compare on; the references are good.
        listener: is told how far it is.
        with_normalised: add the encoder without its normalisation, for a conformance check.

    Raises:
        ConfigError: nothing can be written at the destination, or it holds something else.
        InputError: the parts cannot be exported.
        GateError: a graph is not faithful to the torch model.
        SelfTestError: the bundle does not give its own golden answers.
        EdgeError: the disk is full.
    """
    check_destination(destination)
    created = datetime.now(timezone.utc)
    clock = StepClock(listener)
    with clock.step("graph", "exporting the encoder and the heads"):
        graphs = _graphs(parts, with_normalised=with_normalised)
        specs = graph_specs(parts, with_normalised=with_normalised)
    with clock.step("golden", "working out golden answers"):
        golden = golden_pictures(parts.size)
        spec, answers = _golden(parts, golden)
    files = {**graphs, **answers, NOTICE_PATH: _notice(parts, golden.source).encode()}
    with tempfile.TemporaryDirectory() as folder:
        # Compared and tested through the very bundle that is written, as a device opens it.
        aside = Path(folder) / "bundle"
        write_bundle(aside, _draft(parts, specs, spec, None), files, created)
        with clock.step("parity", f"comparing with torch on {pictures.source}"):
            findings = _compare(
                parts, aside, graphs[ENCODER_PATH], pictures=pictures, listener=listener
            )
            check_gate(findings.rows)
        draft = _draft(parts, specs, spec, findings)
        with clock.step("proof", "testing the bundle as a device does"):
            self_tests = _prove(aside)
    report = write_report(
        created=created,
        pictures=pictures.source,
        findings=findings,
        self_tests=self_tests,
        seconds=clock.seconds,
    )
    manifest = write_bundle(destination, draft, {**files, REPORT_NAME: report}, created)
    return Exported(
        manifest=manifest, findings=findings, self_tests=self_tests, seconds=clock.seconds
    )


def graph_specs(parts: AdaptClipParts, *, with_normalised: bool) -> tuple[GraphSpec, ...]:
    """The graphs in the words of the manifest."""
    specs = (parts.encoder_spec(), *parts.head_specs())
    return (*specs, parts.normalised_spec()) if with_normalised else specs


def _graphs(parts: AdaptClipParts, *, with_normalised: bool) -> dict[str, bytes]:
    dim, mean, std = parts.config.embed_dim, parts.config.mean, parts.config.std
    normalised = (
        {NORMALISED_PATH: export_tower(parts.vision, mean=mean, std=std, float_input=True)}
        if with_normalised
        else {}
    )
    return normalised | {
        ENCODER_PATH: export_tower(parts.vision, mean=mean, std=std),
        ZERO_SHOT_PATH: export_zero_shot(parts.model, layer=parts.layers[-1], dim=dim),
        FEW_SHOT_PATH: export_few_shot(parts.model, layers=parts.layers, dim=dim),
    }


def _golden(parts: AdaptClipParts, pictures: GoldenPictures) -> tuple[GoldenSpec, dict[str, bytes]]:
    """Maps and scores of the torch model, few-shot and zero-shot."""
    frames, references = (
        png_files(kind, items)
        for kind, items in (("frames", pictures.frames), ("references", pictures.references))
    )
    spec = GoldenSpec(
        frames=tuple(frames),
        references=tuple(references),
        expected=f"{_GOLDEN}/expected",
        has_tokens=False,
        has_zero_shot=True,
        tolerance={PRECISION: TOLERANCE},
    )
    preprocess = Preprocessor(parts.input_spec())
    _, encoder = torch_encoder(parts)
    factory = torch_factory(parts)
    good = [encoder.encode(preprocess(as_frame(one))) for one in pictures.references]
    few_shot, zero_shot = factory.fit(good), factory.fit([])
    files = frames | references
    for index, picture in enumerate(pictures.frames):
        features = encoder.encode(preprocess(as_frame(picture)))
        few, zero = few_shot.score(features), zero_shot.score(features)
        for name, value in (
            ("map", few.anomaly_map),
            ("score", np.asarray(few.image_score, np.float32)),
            (ZERO_SHOT_MAP, zero.anomaly_map),
            (ZERO_SHOT_SCORE, np.asarray(zero.image_score, np.float32)),
        ):
            files[spec.array_path(index, name)] = as_npy(value)
    return spec, files


def _compare(
    parts: AdaptClipParts,
    bundle: Path,
    encoder_graph: bytes,
    *,
    pictures: ParityPictures,
    listener: Listener,
) -> Findings:
    """Tokens, and maps and scores of both heads, in every engine that is installed."""
    preprocess = Preprocessor(parts.input_spec())
    judged, references = (
        [preprocess(as_frame(preprocess(as_frame(one)).tensor[0])) for one in group]
        for group in (pictures.judged, pictures.references)
    )
    remembered, encoder = torch_encoder(parts)
    for item in listener.watch("pictures through torch", [*judged, *references]):
        remembered(item.tensor[0])
    listener.row(HEADER)
    engines = open_engines(encoder_graph)
    rows: list[Row] = list(
        compare_tokens(
            lambda picture: _patches(remembered(picture)),
            engines,
            [item.tensor[0] for item in judged],
            precision=PRECISION,
            show=listener.row,
        )
    )
    for engine in engines.values():
        engine.close()
    models = {
        name: load_model(open_bundle(bundle), EngineConfig(name=name))
        for name in installed_engines()
    }
    threshold = EVEN_ODDS
    for kind, good in (("zero-shot maps", []), ("few-shot maps", references)):
        expected = _score(torch_factory(parts), encoder, good, judged)
        threshold = _widest_gap([score for _, score in expected])
        rows += compare_maps(
            expected,
            {
                name: _score(model.factory, model.encoder, good, judged)
                for name, model in models.items()
            },
            threshold=threshold,
            precision=PRECISION,
            show=listener.row,
            compared=kind,
        )
    return Findings(rows=tuple(rows), threshold=threshold)


def _patches(tokens: Tokens) -> Tokens:
    """Without the class feature, which is no row of patches; it shows in every score."""
    return {name: rows for name, rows in tokens.items() if name != CLASS_TOKEN}


def _score(
    factory: ScorerFactory,
    encoder: Encoder,
    good: Sequence[Preprocessed],
    judged: Sequence[Preprocessed],
) -> list[ScoredMap]:
    scorer = factory.fit([encoder.encode(item) for item in good])
    results = [scorer.score(encoder.encode(item)) for item in judged]
    return [(result.anomaly_map, result.image_score) for result in results]


def _widest_gap(scores: Sequence[float]) -> float:
    """A cut among the middle third of the scores, where they lie farthest apart.

    Both heads are compared with no threshold of a site; a cut between the scores of real pictures
    asks more than one beyond them.
    """
    ordered = np.sort(np.asarray(scores, np.float64))
    first, last = len(ordered) // 3, max(len(ordered) // 3 + 1, 2 * len(ordered) // 3)
    middle = ordered[first : last + 1]
    if len(middle) < 2:
        return EVEN_ODDS
    widest = int(np.argmax(np.diff(middle)))
    return float(middle[widest] + middle[widest + 1]) / 2


def _draft(
    parts: AdaptClipParts,
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
        threshold=ThresholdSpec(value=EVEN_ODDS, method="even_odds", n=0),
        parity=() if findings is None else manifest_rows(findings, random=parts.random_weights),
        golden=golden,
    )


def _prove(bundle: Path) -> dict[str, SelfTestReport]:
    return {
        name: run_self_test(load_model(open_bundle(bundle), EngineConfig(name=name)))
        for name in installed_engines()
    }


def _notice(parts: AdaptClipParts, golden_source: str) -> str:
    return (
        f"graphs/: made from {parts.weights_source}, sha256 {parts.weights_sha256},\n"
        f"licence: {parts.licence}; trained on: {parts.training_data}.\n"
        "\n"
        f"golden/: {golden_source}\n"
        "(https://creativecommons.org/licenses/by/4.0/). Changed: frames cut out, kept as PNG.\n"
    )
