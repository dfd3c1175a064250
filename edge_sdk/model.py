"""A bundle at work: its graph in an engine, and the scorer that it was made for."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from edge_sdk.bundle.fields import GraphRole, Precision
from edge_sdk.bundle.manifest import GraphSpec
from edge_sdk.bundle.reader import Bundle
from edge_sdk.config import EngineConfig
from edge_sdk.encoder import GraphEncoder
from edge_sdk.engines.compiled import CompiledCache
from edge_sdk.engines.selector import open_engine
from edge_sdk.errors import BundleError
from edge_sdk.protocols import Encoder, ScorerFactory
from edge_sdk.scoring.end_to_end import EndToEndFactory, EndToEndSettings, PictureEncoder
from edge_sdk.scoring.selector import build_scorer_factory

_EXACT_FIRST = ("fp32", "fp16", "int8")
_OUR_ENGINES = {"onnxruntime": ("cpu", "cuda"), "openvino": ("cpu", "gpu", "npu")}
"""Engine -> where it can run; those that ``auto`` means, the first one preferred."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphChoice:
    """One way to run a bundle's encoder, or its one graph from picture to map."""

    engine: str
    graph: GraphSpec

    @property
    def precision(self) -> Precision:
        """Of the graph."""
        return self.graph.precision


def load_model(
    bundle: Bundle, engine: EngineConfig, *, cache: CompiledCache | None = None
) -> Model:
    """Load the bundle's encoder, or its one graph from picture to map, into an engine.

    Args:
        bundle: opened, so its digests are right.
        engine: of what it leaves open, the most exact is taken, and onnxruntime before OpenVINO.
        cache: where compiled graphs are kept; None: nowhere.

    Raises:
        BundleError: the bundle has no such graph in that precision, or an unknown scorer.
        EngineError: the engine or the device is not to be had.
    """
    spec = bundle.manifest.scorers[0]
    choice = graph_choices(bundle, engine)[0]
    graph = choice.graph
    model, *weights = bundle.read_graph(graph)
    loaded = open_engine(
        choice.engine,
        model=model,
        weights=weights[0] if weights else None,
        device=engine.device,
        precision=graph.precision,
        threads=engine.threads,
        cache=cache,
    )
    extractor_id = bundle.manifest.extractor_id
    if graph.role == "end_to_end":
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


def graph_choices(bundle: Bundle, engine: EngineConfig) -> list[GraphChoice]:
    """Ways to run the bundle that fit what was asked for, one an engine and precision.

    The most exact come first, of equally exact ones onnxruntime's, and ONNX before OpenVINO's own
    format. OpenVINO is given ONNX in fp32 only: the exporter proves ONNX of fewer bits in
    onnxruntime, and OpenVINO's own format in OpenVINO.

    Raises:
        BundleError: there is none.
    """
    is_whole = bundle.manifest.scorers[0].name == EndToEndFactory.name
    role: GraphRole = "end_to_end" if is_whole else "encoder"
    order = _engines_meant(engine)
    choices: dict[tuple[str, str], GraphChoice] = {}
    for graph in sorted(bundle.manifest.graphs, key=lambda one: one.format):  # onnx, openvino
        if graph.role != role or engine.precision not in ("auto", graph.precision):
            continue
        for name in order:
            if _fits(graph, name):
                choices.setdefault((name, graph.precision), GraphChoice(engine=name, graph=graph))
    if not choices:
        have = sorted({(g.precision, g.format) for g in bundle.manifest.graphs})
        raise BundleError(
            f"{bundle.location}: no {role} graph for engine {engine.name} in precision "
            f"{engine.precision}; it has {have}"
        )
    return sorted(
        choices.values(),
        key=lambda one: (_EXACT_FIRST.index(one.precision), order.index(one.engine)),
    )


def _engines_meant(engine: EngineConfig) -> list[str]:
    if engine.name != "auto":
        return [engine.name]
    able = [name for name, devices in _OUR_ENGINES.items() if engine.device in devices]
    # One that is not installed cannot be meant; of none, onnxruntime says what is missing.
    return [name for name in able if find_spec(name) is not None] or ["onnxruntime"]


def _fits(graph: GraphSpec, engine: str) -> bool:
    if engine == "openvino":
        return graph.format == "openvino" or (graph.format, graph.precision) == ("onnx", "fp32")
    return graph.format == "onnx"
