"""A bundle at work: its graph in an engine, and the scorer that it was made for."""

from __future__ import annotations

from dataclasses import dataclass

from edge_sdk.bundle.fields import Precision
from edge_sdk.bundle.manifest import GraphSpec
from edge_sdk.bundle.reader import Bundle
from edge_sdk.config import EngineConfig
from edge_sdk.encoder import GraphEncoder
from edge_sdk.engines.selector import open_engine
from edge_sdk.errors import BundleError
from edge_sdk.protocols import Encoder, ScorerFactory
from edge_sdk.scoring.selector import build_scorer_factory

_EXACT_FIRST = ("fp32", "fp16", "int8")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model:
    """A bundle, loaded into an engine; shared by all cameras."""

    bundle: Bundle
    encoder: Encoder
    factory: ScorerFactory
    precision: Precision


def load_model(bundle: Bundle, engine: EngineConfig) -> Model:
    """Load the bundle's encoder into the engine that was asked for.

    Raises:
        BundleError: the bundle has no encoder in that precision, or an unknown scorer.
        EngineError: the engine or the device is not to be had.
    """
    graph = _choose_encoder(bundle, engine)
    model, *weights = bundle.read_graph(graph)
    loaded = open_engine(
        engine.name,
        model=model,
        weights=weights[0] if weights else None,
        device=engine.device,
        precision=graph.precision,
        threads=engine.threads,
    )
    manifest = bundle.manifest
    return Model(
        bundle=bundle,
        encoder=GraphEncoder(loaded, graph, manifest.extractor_id),
        factory=build_scorer_factory(manifest.scorers[0]),
        precision=graph.precision,
    )


def _choose_encoder(bundle: Bundle, engine: EngineConfig) -> GraphSpec:
    """The encoder asked for; of several, the most exact, and ONNX before OpenVINO's own format."""
    encoders = [
        graph
        for graph in bundle.manifest.graphs
        if graph.role == "encoder"
        and engine.precision in ("auto", graph.precision)
        and (graph.format == "onnx" or (graph.format, engine.name) == ("openvino", "openvino"))
    ]
    if not encoders:
        have = sorted({(g.precision, g.format) for g in bundle.manifest.graphs})
        raise BundleError(
            f"{bundle.location}: no encoder for engine {engine.name} in precision "
            f"{engine.precision}; it has {have}"
        )
    return min(encoders, key=lambda graph: (_EXACT_FIRST.index(graph.precision), graph.format))
