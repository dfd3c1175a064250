"""Whether a graph of fewer bits still judges like the exact one, on at least a hundred pictures.

What is compared is what the product promises: the order of the scores, the maps, the verdicts, and
how well known defects are told from good parts. Each graph is judged with a threshold of its own,
fitted on the references through that graph, as a device does it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from edge_sdk.bundle.fields import GraphFormat, Precision
from edge_sdk.bundle.manifest import ParityRow
from edge_sdk.errors import GateError
from edge_sdk.metrics.ranking import auroc
from edge_sdk.records import FloatArray
from export_tools.parity import rank_correlation
from export_tools.parity_rows import as_bound

FEWEST_JUDGED = 100
RANK_CORRELATION = 0.99
"""Lowest Spearman correlation of the image scores."""
MAP_CORRELATION = 0.98
"""Lowest Pearson correlation of a picture's map with the exact one, over all pictures."""
AUROC_DROP = 0.005
"""Largest drop of the area under the ROC curve, where it is known which pictures are bad."""
FP32_DIFFERENCE = 1e-4
"""Largest difference of a map over the range of all maps, for a graph that loses no bits."""
FP16_DIFFERENCE, FP16_RANK_CORRELATION = 2e-2, 0.999
"""The same for fp16, and the rank correlation that it has to exceed: 11 bits lose little."""

VARIANT_HEADER = (
    f"{'engine':<12} {'precision':<9} {'recipe':<16} {'judged':<9} {'pictures':>8} {'rank':>7} "
    f"{'map min':>7} "
    f"{'mean':>7} {'flips':>5} {'AUROC':>7} {'MB':>6}  verdict"
)
"""First line of the table; ``AUROC``: how much is lost."""
_ADDING_ORDER = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphFile:
    """A graph as a bundle holds it."""

    format: GraphFormat
    precision: Precision
    files: tuple[bytes, ...]
    """ONNX: one. OpenVINO: the ``.xml``, then its ``.bin``."""
    recipe: str
    """How it was made, in a few words."""

    @property
    def engine(self) -> str:
        """The engine that runs it, and so the one that it is proven in."""
        return "onnxruntime" if self.format == "onnx" else self.format


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judged:
    """What one graph says of all pictures."""

    maps: Sequence[FloatArray]
    scores: Sequence[float]
    threshold: float | None
    """Fitted through this graph; scores above it are anomalous. None: nothing was fitted, and both
    graphs are cut where the exact one's scores lie farthest apart."""
    way: str = "few-shot"
    """``few-shot`` or ``zero-shot``."""


Judge: TypeAlias = Callable[[GraphFile], Sequence[Judged]]
"""Runs all pictures through a graph, in each way that the bundle judges; raises an EngineError
where its engine cannot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantRow:
    """One graph beside the exact one. Figures are None where it could not be made or run."""

    engine: str
    format: GraphFormat
    precision: Precision
    recipe: str
    judged: str = "-"
    """In which way."""
    has_random_weights: bool = False
    size_bytes: int = 0
    pictures: int = 0
    rank_correlation: float | None = None
    map_correlation: float | None = None
    """Of the picture where it is lowest."""
    mean_map_correlation: float | None = None
    verdict_flips: int | None = None
    auroc_drop: float | None = None
    """None as well where it is not known which pictures are bad."""
    max_abs_map: float | None = None
    mean_abs_map: float | None = None
    map_range: float | None = None
    """Of all maps of the exact graph."""
    problem: str | None = None
    """Why there are no figures."""

    @property
    def failures(self) -> tuple[str, ...]:
        """What breaks the limits; empty: nothing."""
        if self.problem is not None:
            return (self.problem,)
        rank, lowest, largest = self.rank_correlation, self.map_correlation, self.max_abs_map
        if rank is None or lowest is None or largest is None or self.map_range is None:
            return ("values that are not finite",)
        found = []
        if self.pictures < FEWEST_JUDGED:
            found.append(f"{self.pictures} pictures, at least {FEWEST_JUDGED} are needed")
        if self.precision == "fp16" and not rank > FP16_RANK_CORRELATION:
            found.append(f"rank correlation {rank:.5f} not above {FP16_RANK_CORRELATION}")
        elif rank < RANK_CORRELATION:
            found.append(f"rank correlation {rank:.4f} below {RANK_CORRELATION}")
        if lowest < MAP_CORRELATION:
            found.append(f"map correlation {lowest:.4f} below {MAP_CORRELATION}")
        if self.verdict_flips:
            found.append(f"{self.verdict_flips} verdicts flipped")
        if self.auroc_drop is not None and self.auroc_drop > AUROC_DROP:
            found.append(f"AUROC drops by {self.auroc_drop:.4f}, limit {AUROC_DROP}")
        allowed = {"fp32": FP32_DIFFERENCE, "fp16": FP16_DIFFERENCE}.get(self.precision)
        if allowed is not None and largest > allowed * self.map_range:
            found.append(
                f"maps differ by {largest:.1e}, of a range of {self.map_range:.1e} "
                f"{allowed:g} allowed"
            )
        return tuple(found)

    @property
    def verdict(self) -> Literal["ok", "failed", "unproven"]:
        """Fewer bits of random weights prove nothing: trained ones have channels that stick out."""
        if self.failures:
            return "failed"
        return "unproven" if self.has_random_weights and self.precision != "fp32" else "ok"

    def __str__(self) -> str:
        return (
            f"{self.engine:<12} {self.precision:<9} {self.recipe:<16} {self.judged:<9} "
            f"{self.pictures or '-':>8} "
            f"{_cell(self.rank_correlation)} {_cell(self.map_correlation)} "
            f"{_cell(self.mean_map_correlation)} {_count(self.verdict_flips):>5} "
            f"{_cell(self.auroc_drop)} {self.size_bytes / 1e6:>6.2f}  "
            f"{'; '.join(self.failures) or self.verdict}"
        )


def compare(
    exact: Judged,
    candidate: Judged,
    graph: GraphFile,
    *,
    is_bad: Sequence[bool | None],
    has_random_weights: bool = False,
) -> VariantRow:
    """Compare what two graphs say of the same pictures.

    Args:
        exact: what the fp32 graph says, which was compared with torch.
        candidate: what this one says.
        graph: this one.
        is_bad: of each picture; None: not known, or between the two.
        has_random_weights: nothing was trained.

    Raises:
        GateError: they are not of the same pictures.
    """
    shapes = [[one.shape for one in side.maps] for side in (exact, candidate)]
    counts = {len(is_bad), len(exact.scores), len(candidate.scores), *map(len, shapes)}
    if shapes[0] != shapes[1] or len(counts) != 1:
        raise GateError(f"{graph.precision} {graph.format}: expected the maps of the same pictures")
    row = _row_of(
        graph,
        pictures=len(is_bad),
        judged=candidate.way,
        has_random_weights=has_random_weights,
    )
    finite = all(np.isfinite(one).all() for one in (*candidate.maps, np.asarray(candidate.scores)))
    if not finite or not math.isfinite(candidate.threshold or 0.0):
        return row(problem="values that are not finite")
    cut = widest_gap(exact.scores)
    correlations = [_pearson(*pair) for pair in zip(exact.maps, candidate.maps, strict=True)]
    differences = [
        np.abs(theirs.astype(np.float64) - ours)
        for theirs, ours in zip(exact.maps, candidate.maps, strict=True)
    ]
    flips = sum(
        (before > _or(exact.threshold, cut)) != (after > _or(candidate.threshold, cut))
        for before, after in zip(exact.scores, candidate.scores, strict=True)
    )
    return row(
        rank_correlation=rank_correlation(exact.scores, candidate.scores),
        map_correlation=min(correlations),
        mean_map_correlation=float(np.mean(correlations)),
        verdict_flips=flips,
        auroc_drop=_auroc_drop(exact.scores, candidate.scores, is_bad),
        max_abs_map=max(float(one.max()) for one in differences),
        mean_abs_map=float(np.mean([one.mean() for one in differences])),
        map_range=float(max(one.max() for one in exact.maps) - min(m.min() for m in exact.maps)),
    )


def refused(graph: GraphFile, problem: str) -> VariantRow:
    """The row of a graph that could not be made or run."""
    return _row_of(graph, pictures=0)(problem=problem)


def variant_parity(row: VariantRow) -> ParityRow:
    """The row as a manifest has it: bounds, which do not depend on the last bits of a CPU."""
    rank, largest, mean = row.rank_correlation, row.max_abs_map, row.mean_abs_map
    return ParityRow(
        graph="encoder",
        precision=row.precision,
        engine=row.engine,
        compared=f"{row.judged} maps and scores of {row.format} ({row.recipe})",
        pictures=row.pictures,
        weights="random" if row.has_random_weights else "real",
        max_abs_map=None if largest is None else as_bound(max(largest, _ADDING_ORDER)),
        mean_abs_map=None if mean is None else as_bound(mean),
        rank_correlation=None if rank is None else 1 - as_bound(max(0.0, 1 - rank)),
        verdict_flips=row.verdict_flips,
        verdict=row.verdict,
    )


def widest_gap(scores: Sequence[float]) -> float:
    """A cut among the middle third of the scores, where they lie farthest apart.

    For graphs that are compared with no threshold of a site; a cut between the scores of real
    pictures asks more than one beyond them.
    """
    ordered = np.sort(np.asarray(scores, np.float64))
    first, last = len(ordered) // 3, max(len(ordered) // 3 + 1, 2 * len(ordered) // 3)
    middle = ordered[first : last + 1]
    if len(middle) < 2:
        return float(middle[0])
    widest = int(np.argmax(np.diff(middle)))
    return float(middle[widest] + middle[widest + 1]) / 2


def _or(threshold: float | None, cut: float) -> float:
    return cut if threshold is None else threshold


def _row_of(
    graph: GraphFile, *, pictures: int, judged: str = "-", has_random_weights: bool = False
) -> Callable[..., VariantRow]:
    def row(**figures: float | str | None) -> VariantRow:
        return VariantRow(
            engine=graph.engine,
            format=graph.format,
            precision=graph.precision,
            recipe=graph.recipe,
            judged=judged,
            has_random_weights=has_random_weights,
            size_bytes=sum(map(len, graph.files)),
            pictures=pictures,
            **figures,  # type: ignore[arg-type]  # by name, above
        )

    return row


def _pearson(expected: FloatArray, got: FloatArray) -> float:
    """From -1 to 1. With a flat map nothing is correlated: 1 if both are flat, otherwise 0."""
    first, second = (one.astype(np.float64).ravel() - one.mean() for one in (expected, got))
    lengths = math.sqrt(float(first @ first) * float(second @ second))
    if lengths == 0:
        return float(not first.any() and not second.any())
    return float(first @ second) / lengths


def _auroc_drop(
    exact: Sequence[float], candidate: Sequence[float], is_bad: Sequence[bool | None]
) -> float | None:
    if True not in is_bad or False not in is_bad:
        return None
    values = []
    for scores in (exact, candidate):
        split: dict[bool | None, list[float]] = {True: [], False: [], None: []}
        for score, bad in zip(scores, is_bad, strict=True):
            split[bad].append(score)
        values.append(auroc(split[False], split[True]))
    return values[0] - values[1]


def _cell(value: float | None) -> str:
    return f"{'-':>7}" if value is None else f"{value:>7.4f}"


def _count(value: int | None) -> str:
    return "-" if value is None else str(value)
