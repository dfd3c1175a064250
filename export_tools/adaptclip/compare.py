"""Are an AdaptCLIP bundle's graphs faithful to the towers and adapters in torch?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edge_sdk.bundle import open_bundle
from edge_sdk.config import EngineConfig
from edge_sdk.engines.selector import open_engine
from edge_sdk.model import load_model
from edge_sdk.pipeline import as_frame
from edge_sdk.preprocess import Preprocessor
from edge_sdk.protocols import Encoder, ScorerFactory
from edge_sdk.records import Preprocessed
from edge_sdk.scoring.adaptclip_heads import CLASS_TOKEN
from export_tools.adaptclip.bundle_parts import ENCODER_PATH, BundleParts
from export_tools.adaptclip.reference import torch_encoder, torch_factory
from export_tools.bundle_variants import TORCH_PATH
from export_tools.faithful import PRECISION, Findings, Listener, Row, open_engines
from export_tools.gates import widest_gap
from export_tools.parity import HEADER, ScoredMap, Tokens, compare_maps, compare_tokens
from export_tools.pictures import ParityPictures
from export_tools.variants import TORCH


def compare_adaptclip(
    parts: BundleParts,
    bundle: Path,
    graphs: Mapping[str, bytes],
    *,
    pictures: ParityPictures,
    listener: Listener,
) -> Findings:
    """Compare tokens, and maps and scores of both heads, in every engine that is installed.

    Args:
        parts: in torch.
        bundle: the folder, as a device opens it.
        graphs: its files; torch's own engine is compared where it has a part for it.
        pictures: taken through the runtime's own preprocessor.
        listener: gets each row of the table as it is known.
    """
    preprocess = Preprocessor(parts.input_spec())
    judged, references = (
        [preprocess(as_frame(preprocess(as_frame(one)).tensor[0])) for one in group]
        for group in (pictures.judged, pictures.references)
    )
    remembered, encoder = torch_encoder(parts)
    for item in listener.watch("pictures through torch", [*judged, *references]):
        remembered(item.tensor[0])
    listener.row(HEADER)
    engines = dict(open_engines(graphs[ENCODER_PATH]))
    if TORCH_PATH in graphs:
        engines[TORCH] = open_engine(
            TORCH,
            model=graphs[TORCH_PATH],
            weights=None,
            device="cpu",
            precision=PRECISION,
            threads=EngineConfig().threads,
        )
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
    models = {name: load_model(open_bundle(bundle), EngineConfig(name=name)) for name in engines}
    threshold = 0.0
    kinds = [("few-shot maps", references)]
    if parts.has_texts:
        kinds.insert(0, ("zero-shot maps", []))
    for kind, good in kinds:
        expected = _score(torch_factory(parts), encoder, good, judged)
        threshold = widest_gap([score for _, score in expected])
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
