"""A bundle at work: its graph in an engine, and the scorer that it was made for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TypeAlias

from edge_sdk.bundle.fields import GraphRole, Precision
from edge_sdk.bundle.manifest import GraphSpec
from edge_sdk.bundle.reader import Bundle
from edge_sdk.config import EngineConfig
from edge_sdk.encoder import GraphEncoder
from edge_sdk.engines.compiled import CompiledCache
from edge_sdk.engines.selector import open_engine
from edge_sdk.engines.shared import SharedEngine
from edge_sdk.errors import BundleError
from edge_sdk.protocols import Encoder, InferenceEngine, ScorerFactory
from edge_sdk.scoring.adaptclip import AdaptClipFactory
from edge_sdk.scoring.adaptclip_heads import AdaptClipSettings, check_heads
from edge_sdk.scoring.end_to_end import EndToEndFactory, EndToEndSettings, PictureEncoder
from edge_sdk.scoring.selector import build_scorer_factory

_EXACT_FIRST = ("fp32", "fp16", "bf16", "int8")
_TORCH = "torch"
"""Name of the engine and of the format that it alone runs; the host half adds it."""
_OUR_ENGINES = {"onnxruntime": ("cpu", "cuda", "tensorrt"), "openvino": ("cpu", "gpu", "npu")}
"""Engine -> where it can run; those that ``auto`` means, the first one preferred."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model:
    """A bundle, loaded into an engine; shared by all cameras."""

    bundle: Bundle
    encoder: Encoder
    factory: ScorerFactory
    precision: Precision
    needs_references: bool = True
    """False where a picture can be judged with none enrolled."""
    takes_references: bool = True
    """False where the graph goes from picture to map by itself."""
    matches_brightness: bool = True
    """Whether the lamp is divided out: only where nothing but pictures is compared."""
    takes_regions: bool = True
    """False where the score is of the whole picture, whatever is looked at."""
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


Watch: TypeAlias = Callable[[str], AbstractContextManager[object]]
"""Is entered with a graph's name while an engine loads it, which may build for minutes."""


def load_model(
    bundle: Bundle,
    engine: EngineConfig,
    *,
    cache: CompiledCache | None = None,
    watch: Watch = nullcontext,
) -> Model:
    """Load the bundle's encoder, or its one graph from picture to map, into an engine.

    Args:
        bundle: opened, so its digests are right.
        engine: of what it leaves open, the most exact is taken, and onnxruntime before OpenVINO.
        cache: where compiled graphs are kept; None: nowhere.
        watch: is told which graph is loaded.

    Raises:
        BundleError: the bundle has no such graph in that precision, or an unknown scorer.
        EngineError: the engine or the device is not to be had.
    """
    spec = bundle.manifest.scorers[0]
    choice = graph_choices(bundle, engine)[0]
    graph = choice.graph
    loader = _Loader(bundle=bundle, engine=engine, cache=cache, watch=watch)
    loaded = loader.open(graph, choice.engine)
    extractor_id = bundle.manifest.extractor_id
    if graph.role == "end_to_end":
        settings = EndToEndSettings.from_spec(spec, graph)
        return Model(
            bundle=bundle,
            encoder=PictureEncoder(extractor_id),
            factory=EndToEndFactory(loaded, settings),
            precision=graph.precision,
            needs_references=False,
            takes_references=False,
            matches_brightness=False,
            takes_regions=False,
            highest_score=settings.highest_score,
        )
    if spec.name == AdaptClipFactory.name:
        heads = {
            role: _head(bundle, role, choice.engine) for role in ("head_zero_shot", "head_few_shot")
        }
        check_heads(graph, [head for head in heads.values() if head is not None])
        opened = {
            role: None if head is None else loader.open(head, choice.engine)
            for role, head in heads.items()
        }
        return Model(
            bundle=bundle,
            encoder=GraphEncoder(loaded, graph, extractor_id),
            factory=AdaptClipFactory(
                zero_shot=opened["head_zero_shot"],
                few_shot=opened["head_few_shot"],
                settings=AdaptClipSettings.from_spec(spec),
                half=engine.bank == "fp16",
                max_bank_bytes=engine.max_bank_mib * 2**20,
                coreset=engine.coreset,
            ),
            precision=graph.precision,
            needs_references=heads["head_zero_shot"] is None,
            takes_references=heads["head_few_shot"] is not None,
            matches_brightness=heads["head_zero_shot"] is None,
        )
    return Model(
        bundle=bundle,
        encoder=GraphEncoder(loaded, graph, extractor_id),
        factory=build_scorer_factory(spec, threads=engine.threads),
        precision=graph.precision,
    )


def open_role(bundle: Bundle, role: GraphRole, engine: EngineConfig) -> InferenceEngine | None:
    """Load one graph by its role, in fp32; None where the bundle has none.

    Raises:
        BundleError: the bundle has it in formats of other engines only.
        EngineError: the engine or the device is not to be had.
    """
    name = _engines_meant(engine)[0]
    graph = _head(bundle, role, name)
    if graph is None:
        return None
    return _Loader(bundle=bundle, engine=engine).open(graph, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loader:
    """Loads the graphs of one bundle."""

    bundle: Bundle
    engine: EngineConfig
    cache: CompiledCache | None = None
    watch: Watch = nullcontext

    def open(self, graph: GraphSpec, name: str) -> InferenceEngine:
        """One graph in the engine of that name."""
        model, *weights = self.bundle.read_graph(graph)
        device = _device_for(graph, self.engine.device)
        with self.watch(f"{graph.role} {graph.precision} in {name} on {device}"):
            return SharedEngine(
                open_engine(
                    name,
                    model=model,
                    weights=weights[0] if weights else None,
                    device=device,
                    precision=graph.precision,
                    threads=self.engine.threads,
                    cache=self.cache,
                )
            )


def _device_for(graph: GraphSpec, device: str) -> str:
    """TensorRT would build a head anew for every number of references; CUDA takes any."""
    return "cuda" if device == "tensorrt" and graph.role.startswith("head") else device


def _head(bundle: Bundle, role: GraphRole, engine: str) -> GraphSpec | None:
    """The head that this engine can run; heads are fp32 whatever the encoder is.

    Raises:
        BundleError: the bundle has the head in formats of other engines only.
    """
    found = [graph for graph in bundle.manifest.graphs if graph.role == role]
    for graph in sorted(found, key=lambda one: one.format):
        if _fits(graph, engine):
            return graph
    if found:
        raise BundleError(
            f"{bundle.location}: {role}: expected a graph for engine {engine}, "
            f"got {sorted(graph.format for graph in found)}"
        )
    return None


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
    if _TORCH in (graph.format, engine):
        return graph.format == engine
    if engine == "openvino":
        return graph.format == "openvino" or (graph.format, graph.precision) == ("onnx", "fp32")
    return graph.format == "onnx"
