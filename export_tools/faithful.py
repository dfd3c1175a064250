"""Is the exported graph faithful to the torch model, in every engine that is installed?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final, Protocol, TypeAlias, TypeVar

from edge_sdk.bundle.manifest import InputSpec, ParityRow
from edge_sdk.config import EngineConfig
from edge_sdk.encoder import GraphEncoder
from edge_sdk.engines.selector import open_engine
from edge_sdk.pipeline import as_frame
from edge_sdk.preprocess import Preprocessor
from edge_sdk.protocols import Encoder, InferenceEngine, ScorerFactory
from edge_sdk.records import Preprocessed, UInt8Array
from edge_sdk.scoring.selector import build_scorer_factory
from edge_sdk.scoring.threshold import fit_threshold, nuisance_views
from export_tools.backbones.efficientnet_lite import EfficientNetLite
from export_tools.bundle_words import (
    extractor_id,
    graph_spec,
    input_spec,
    output_names,
    scorer_spec,
)
from export_tools.parity import (
    HEADER,
    MapParity,
    ScoredMap,
    TokenParity,
    TorchReference,
    as_bound,
    compare_maps,
    compare_tokens,
)
from export_tools.pictures import ParityPictures
from export_tools.recipe import Recipe
from export_tools.torch_engine import Remembered, TorchEngine

Row: TypeAlias = TokenParity | MapParity
_Item = TypeVar("_Item")

PRECISION: Final = "fp32"
_ADDING_ORDER = 1e-5
"""Largest differences of maps below this are told as this. About 1e-6 is what the order in which a
CPU adds makes of distances from 0 to 2, just where a bound would be another on the next CPU."""
_ENGINES = ("onnxruntime", "openvino")


class Listener(Protocol):
    """Is told how far an export is."""

    def stage(self, text: str) -> None:
        """Something begins or is known."""
        ...

    def row(self, line: str) -> None:
        """A line of the parity table."""
        ...

    def watch(self, label: str, items: Sequence[_Item]) -> Iterator[_Item]:
        """The items, one by one, while progress is shown."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What was measured."""

    rows: tuple[Row, ...]
    threshold: float
    """The cut on the score at which verdicts were compared."""


def installed_engines() -> tuple[str, ...]:
    """Engines that this machine has; onnxruntime is always there."""
    return tuple(name for name in _ENGINES if find_spec(name) is not None)


def compare_with_torch(
    graph: bytes,
    *,
    recipe: Recipe,
    model: EfficientNetLite,
    pictures: ParityPictures,
    listener: Listener,
) -> Findings:
    """Compare tokens, maps, scores and verdicts; the gate is not applied.

    Args:
        graph: the ONNX file.
        recipe: it was made by.
        model: the torch model; left as it is.
        pictures: taken through the runtime's own preprocessor.
        listener: gets each row of the table as it is known.

    Raises:
        EngineError: an engine cannot run the graph.
        GateError: the graph has other outputs or shapes than the model.
        InputError: no threshold can be fitted on the references.
    """
    names = output_names(recipe)
    samples = prepare(input_spec(recipe), pictures)
    torch_tokens = Remembered(
        TorchReference(model, mean=recipe.mean, std=recipe.std, output_names=names)
    )
    for item in listener.watch("pictures through torch", samples.all):
        torch_tokens(item.tensor[0])
    engines = open_engines(graph)
    listener.row(HEADER)
    token_rows = compare_tokens(
        torch_tokens,
        engines,
        [item.tensor[0] for item in samples.judged],
        precision=PRECISION,
        show=listener.row,
    )
    factory = build_scorer_factory(scorer_spec(recipe))
    spec = graph_spec(recipe, model)
    torch_engine = TorchEngine(torch_tokens, input_size=recipe.size, output_names=names)
    torch_encoder = GraphEncoder(torch_engine, spec, extractor_id(recipe))
    encoders = {
        name: GraphEncoder(engine, spec, extractor_id(recipe)) for name, engine in engines.items()
    }
    threshold = fit_on(factory, torch_encoder, samples)
    map_rows = compare_maps(
        score_all(factory, torch_encoder, samples),
        {name: score_all(factory, encoder, samples) for name, encoder in encoders.items()},
        threshold=threshold,
        precision=PRECISION,
        show=listener.row,
    )
    for engine in engines.values():
        engine.close()
    return Findings(rows=(*token_rows, *map_rows), threshold=threshold)


def largest_differences(recipe: Recipe, findings: Findings) -> dict[str, float]:
    """Output -> bound on its largest difference from torch in any engine."""
    return {
        name: max(
            as_bound(row.max_abs)
            for row in findings.rows
            if isinstance(row, TokenParity) and row.output == name
        )
        for name in output_names(recipe)
    }


def manifest_rows(findings: Findings, *, random: bool = False) -> tuple[ParityRow, ...]:
    """The rows as a manifest has them: bounds, which do not depend on the CPU that measured."""
    return tuple(_manifest_row(row, random=random) for row in findings.rows)


def _manifest_row(row: Row, *, random: bool) -> ParityRow:
    maps = row if isinstance(row, MapParity) else None
    return ParityRow(
        graph="encoder",
        precision=PRECISION,
        engine=row.engine,
        compared=row.compared,
        pictures=row.pictures,
        weights="random" if random else "real",
        # Bounds of tokens are with the graph, one an output.
        max_abs_map=as_bound(max(maps.max_abs, _ADDING_ORDER)) if maps else None,
        mean_abs_map=as_bound(maps.mean_abs) if maps else None,
        rank_correlation=1 - as_bound(1 - maps.rank_correlation) if maps else None,
        verdict_flips=maps.verdict_flips if maps else None,
        verdict="failed" if row.failures else "ok",
    )


def open_engines(graph: bytes) -> Mapping[str, InferenceEngine]:
    """An fp32 ONNX graph in each engine that is installed.

    Raises:
        EngineError: an engine cannot run it.
    """
    threads = EngineConfig().threads
    return {
        name: open_engine(
            name, model=graph, weights=None, device="cpu", precision=PRECISION, threads=threads
        )
        for name in installed_engines()
    }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """Pictures as the encoder takes them."""

    judged: Sequence[Preprocessed]
    references: Sequence[Preprocessed]
    views: Sequence[Sequence[Preprocessed]]
    """Per reference, varied copies."""

    @property
    def all(self) -> Sequence[Preprocessed]:
        """Every one, once."""
        return [*self.judged, *self.references, *(view for one in self.views for view in one)]


def prepare(taken: InputSpec, pictures: ParityPictures) -> Samples:
    """Resize everything once.

    Each result is then taken as if the camera had given it at that size: maps are compared in the
    model's pixels, as those of a large camera would fill the memory.
    """
    preprocess = Preprocessor(taken)

    def prepared(pixels: UInt8Array) -> Preprocessed:
        return preprocess(as_frame(preprocess(as_frame(pixels)).tensor[0]))

    return Samples(
        judged=[prepared(pixels) for pixels in pictures.judged],
        references=[prepared(pixels) for pixels in pictures.references],
        # Made of the camera's pixels, as the device does it.
        views=[
            [prepared(view) for view in nuisance_views(pixels)] for pixels in pictures.references
        ],
    )


def fit_on(factory: ScorerFactory, encoder: Encoder, samples: Samples) -> float:
    """The threshold that a device would fit on the references through this encoder."""
    references = [encoder.encode(item) for item in samples.references]
    views = [[encoder.encode(view) for view in one] for one in samples.views]
    return fit_threshold(factory.fit(references), references, views).value


def score_all(factory: ScorerFactory, encoder: Encoder, samples: Samples) -> list[ScoredMap]:
    """Map and score of each judged picture, against all references."""
    scorer = factory.fit([encoder.encode(item) for item in samples.references])
    results = [scorer.score(encoder.encode(item)) for item in samples.judged]
    return [(result.anomaly_map, result.image_score) for result in results]
