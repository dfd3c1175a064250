"""A bundle at work: its graph in an engine, and the scorer that it was made for."""

from __future__ import annotations

from dataclasses import dataclass

from edge_sdk.bundle.fields import GraphRole, Precision
from edge_sdk.bundle.manifest import GraphSpec
from edge_sdk.bundle.reader import Bundle
from edge_sdk.config import EngineConfig
from edge_sdk.encoder import GraphEncoder
from edge_sdk.engines.selector import open_engine
from edge_sdk.errors import BundleError
from edge_sdk.protocols import Encoder, ScorerFactory
from edge_sdk.scoring.end_to_end import EndToEndFactory, EndToEndSettings, PictureEncoder
from edge_sdk.scoring.selector import build_scorer_factory

_EXACT_FIRST = ("fp32", "fp16", "int8")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model:
    """A bundle, loaded into an engine; shared by all cameras."""

    bundle: Bundle
    encoder: Encoder
    factory: ScorerFactory
    precision: Precision
    needs_references: bool = True
    """False where the graph goes from picture to map by itself."""
    highest_score: float | None = None
    """What scores are cut off at: a threshold there would never be exceeded. None: nothing."""


def load_model(bundle: Bundle, engine: EngineConfig) -> Model:
    """Load the bundle's encoder, or its one graph from picture to map, into an engine.

    Raises:
        BundleError: the bundle has no such graph in that precision, or an unknown scorer.
        EngineError: the engine or the device is not to be had.
    """
    spec = bundle.manifest.scorers[0]
    role: GraphRole = "end_to_end" if spec.name == EndToEndFactory.name else "encoder"
    graph = _choose_graph(bundle, engine, role)
    model, *weights = bundle.read_graph(graph)
    loaded = open_engine(
        engine.name,
        model=model,
        weights=weights[0] if weights else None,
        device=engine.device,
        precision=graph.precision,
        threads=engine.threads,
    )
    extractor_id = bundle.manifest.extractor_id
    if role == "end_to_end":
        settings = EndToEndSettings.from_spec(spec, graph)
        return Model(
            bundle=bundle,
            encoder=PictureEncoder(extractor_id),
            factory=EndToEndFactory(loaded, settings),
            precision=graph.precision,
            needs_references=False,
            highest_score=settings.highest_score,
        )
    return Model(
        bundle=bundle,
        encoder=GraphEncoder(loaded, graph, extractor_id),
        factory=build_scorer_factory(spec),
        precision=graph.precision,
    )


def _choose_graph(bundle: Bundle, engine: EngineConfig, role: GraphRole) -> GraphSpec:
    """The graph asked for; of several, the most exact, and ONNX before OpenVINO's own format."""
    graphs = [
        graph
        for graph in bundle.manifest.graphs
        if graph.role == role
        and engine.precision in ("auto", graph.precision)
        and (graph.format == "onnx" or (graph.format, engine.name) == ("openvino", "openvino"))
    ]
    if not graphs:
        have = sorted({(g.precision, g.format) for g in bundle.manifest.graphs})
        raise BundleError(
            f"{bundle.location}: no {role} graph for engine {engine.name} in precision "
            f"{engine.precision}; it has {have}"
        )
    return min(graphs, key=lambda graph: (_EXACT_FIRST.index(graph.precision), graph.format))
