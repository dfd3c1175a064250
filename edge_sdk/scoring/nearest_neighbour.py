"""Few-shot scorer: distance of each patch to the most similar patch of the references.

The idea of PatchCore (Roth et al., arXiv 2106.08265) without its coreset: tokens of several
stages, averaged over neighbours, joined on the finest grid, compared by cosine.

Where the references themselves show that nothing moves (a fixed camera, parts in a fixture), a
patch is compared with the patches around its own place only. A missing part is then missed:
elsewhere in the picture there is always some background that looks like the gap it leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_sdk.bundle.manifest import ScorerSpec
from edge_sdk.errors import BundleError, InputError
from edge_sdk.imaging import box_average, upsample_map
from edge_sdk.records import (
    AnomalyResult,
    FloatArray,
    Nearest,
    PatchFeatures,
    TokenGrid,
    TokenKey,
)
from edge_sdk.scoring.anomaly_map import build_result
from edge_sdk.scoring.anywhere import AnywhereSearch, Workers
from edge_sdk.scoring.memory_bank import MemoryBank, build_memory_bank, unit_rows
from edge_sdk.scoring.nearby import NearbySearch


@dataclass(frozen=True, slots=True, kw_only=True)
class NearestNeighbourSettings:
    """What the bundle says of this scorer."""

    tokens: tuple[TokenKey, ...]
    """Streams and layers joined, the finest grid first."""
    neighbourhood: int
    """Side of the square of tokens averaged, odd; 1: none."""
    blur_sigma: float
    """Gaussian over the map, in cells of the finest grid."""
    reach: float
    """How far aside a match may lie where nothing moves, as a share of the picture's sides."""
    stillness: float
    """Nothing moves where looking nearby only raises the mean distance between the references
    by less than this, in cosine distance; 0: never assumed. Not a factor: references of
    one minute differ by hardly anything, and a factor of that is noise."""

    def __post_init__(self) -> None:
        if not self.tokens or self.neighbourhood < 1 or self.neighbourhood % 2 == 0:
            raise BundleError(
                "scorer nearest_neighbour: expected at least one token layer and an odd "
                f"neighbourhood, got {self.tokens} and {self.neighbourhood}"
            )

    @classmethod
    def from_spec(cls, spec: ScorerSpec) -> NearestNeighbourSettings:
        """Read the manifest's parameters: ``tokens`` as ``stream:layer``, the others as they are.

        Raises:
            BundleError: a parameter is missing, unknown or malformed.
        """
        parameters = dict(spec.parameters)
        try:
            names = parameters.pop("tokens")
            tokens = [str(name).partition(":") for name in names]  # type: ignore[union-attr]  # below
            settings = cls(
                tokens=tuple((stream, int(layer)) for stream, _, layer in tokens),
                neighbourhood=int(parameters.pop("neighbourhood")),  # type: ignore[arg-type]  # below
                blur_sigma=float(parameters.pop("blur_sigma")),  # type: ignore[arg-type]  # below
                reach=float(parameters.pop("reach")),  # type: ignore[arg-type]  # below
                stillness=float(parameters.pop("stillness")),  # type: ignore[arg-type]  # below
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(
                f"scorer {spec.name}: parameters {spec.parameters}: {error}"
            ) from error
        if parameters:
            raise BundleError(f"scorer {spec.name}: unknown parameters {sorted(parameters)}")
        return settings


class NearestNeighbourFactory:
    """Fits nearest-neighbour scorers.

    Args:
        settings: what the bundle says.
        threads: compute threads of a search through a whole bank.
    """

    name = "nearest_neighbour"

    def __init__(self, settings: NearestNeighbourSettings, *, threads: int = 1) -> None:
        self._settings = settings
        self._workers = Workers(threads)

    def fit(self, references: Sequence[PatchFeatures]) -> NearestNeighbourScorer:
        """Build the memory bank of some known-good pictures.

        Raises:
            InputError: no references, or references of several extractors.
        """
        extractors = sorted({reference.extractor_id for reference in references})
        if len(extractors) != 1:
            raise InputError(
                "references: expected pictures encoded by one extractor, "
                f"got {extractors or 'none'}"
            )
        bank = build_memory_bank([embed(reference, self._settings) for reference in references])
        reach = _measure_stillness(bank, self._settings, self._workers)
        return NearestNeighbourScorer(
            bank, extractors[0], self._settings, reach=reach, workers=self._workers
        )


class NearestNeighbourScorer:
    """Scores pictures against one memory bank.

    Args:
        bank: of the references.
        extractor_id: what encoded them.
        settings: how tokens are joined.
        reach: (rows, cols) a match may lie aside; None: anywhere.
        workers: who searches a whole bank.
    """

    def __init__(
        self,
        bank: MemoryBank,
        extractor_id: str,
        settings: NearestNeighbourSettings,
        *,
        reach: tuple[int, int] | None,
        workers: Workers,
    ) -> None:
        self._bank = bank
        self._workers = workers
        self._extractor_id = extractor_id
        self._settings = settings
        self._reach = reach
        self._searched = (
            AnywhereSearch(bank, workers) if reach is None else NearbySearch(bank, reach)
        )

    @property
    def is_still(self) -> bool:
        """True where patches are compared with those around their own place only."""
        return self._reach is not None

    def without(self, reference: int) -> NearestNeighbourScorer:
        """The same scorer, one reference less."""
        return NearestNeighbourScorer(
            self._bank.without(reference),
            self._extractor_id,
            self._settings,
            reach=self._reach,
            workers=self._workers,
        )

    def score(self, features: PatchFeatures) -> AnomalyResult:
        """Score one picture; distances are 1 - cosine, 0 to 2.

        Raises:
            InputError: the features come from another extractor than the references.
        """
        if features.extractor_id != self._extractor_id:
            raise InputError(
                f"scorer: references were encoded by {self._extractor_id}, "
                f"this picture by {features.extractor_id}"
            )
        query = embed(features, self._settings)
        distance, index = self._searched.search(query.rows)
        patches = len(query.rows)
        nearest = Nearest(
            reference=index // patches, patch=index % patches, distance=distance, grid=query.grid
        )
        return build_result(
            distance, query.grid, features, nearest=nearest, blur_sigma=self._settings.blur_sigma
        )


def _measure_stillness(
    bank: MemoryBank, settings: NearestNeighbourSettings, workers: Workers
) -> tuple[int, int] | None:
    """How far to look, measured on the references alone: each against the others, both ways.

    A single reference shows nothing about movement, so matches may then lie anywhere.
    """
    rows, cols = bank.grid
    reach = (max(1, round(settings.reach * rows)), max(1, round(settings.reach * cols)))
    if bank.reference_count < 2:
        return None
    increases = []
    for reference in range(bank.reference_count):
        queries = bank.rows[reference * rows * cols : (reference + 1) * rows * cols]
        others = bank.without(reference)
        nearby, _ = NearbySearch(others, reach).search(queries)
        anywhere, _ = AnywhereSearch(others, workers).search(queries)
        increases.append(float(nearby.mean() - anywhere.mean()))
    return reach if np.mean(increases) < settings.stillness else None


def embed(features: PatchFeatures, settings: NearestNeighbourSettings) -> TokenGrid:
    """Join the layers of one picture on the finest grid.

    Each layer is averaged over its neighbourhood and brought to unit rows, so that no layer
    outweighs another by its scale, then enlarged bilinearly.

    Returns:
        (P, sum of D) unit rows on the grid of the first layer.

    Raises:
        InputError: a layer is not among the features.
    """
    joined: list[FloatArray] = []
    for key in settings.tokens:
        if key not in features.tokens:
            raise InputError(f"scorer: expected tokens {key}, got {sorted(features.tokens)}")
    grid = features.tokens[settings.tokens[0]].grid
    for key in settings.tokens:
        layer = features.tokens[key]
        pooled = box_average(layer.rows.reshape(*layer.grid, -1), settings.neighbourhood)
        rows = unit_rows(pooled.reshape(layer.rows.shape))
        if layer.grid != grid:
            rows = upsample_map(rows.reshape(*layer.grid, -1), grid).reshape(grid[0] * grid[1], -1)
        joined.append(rows)
    return TokenGrid(rows=unit_rows(np.concatenate(joined, axis=1)), grid=grid)
