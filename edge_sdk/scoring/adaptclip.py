"""AdaptCLIP's scorer (arXiv 2505.09926): two heads over what the encoder says of a picture.

Without a reference the zero-shot head reads the picture by texts that are constants in it. With
references the few-shot head also compares every patch with the most similar good one. A head says
the smoothed map and the mean of its branches' scores; here they are fused with the map's peak, over
what is inspected:

* zero-shot: mean of the branches' scores and the peak, each counting once;
* few-shot: harmonic mean of the mean score and the peak; the peak alone where the head gives no
  score, because no prompt-query adapter was trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import EngineError, InputError
from edge_sdk.protocols import InferenceEngine
from edge_sdk.records import AnomalyResult, FloatArray, Nearest, PatchFeatures, TokenGrid, TokenKey
from edge_sdk.scoring.adaptclip_fusion import fuse, peak_of
from edge_sdk.scoring.adaptclip_heads import (
    CLASS_TOKEN,
    DISTANCE,
    MAP,
    NAME,
    ROW,
    SCORE,
    AdaptClipSettings,
)
from edge_sdk.scoring.anomaly_map import build_result
from edge_sdk.scoring.coreset import Coreset, choose_coreset
from edge_sdk.scoring.memory_bank import MemoryBank, build_memory_bank, unit_rows

Memory: TypeAlias = MemoryBank | Coreset
"""What a layer of a picture is compared with."""

ROWS_IN_GRAPH = 16384
"""Most rows of a memory that go into the graph, which compares them all at once: 16384 x 1369
floats are 90 MB. Of a larger one each patch's nearest row is found here, in chunks, and only those
rows go in: the nearest among them is the nearest of all."""


class AdaptClipFactory:
    """Makes scorers of a bundle's heads.

    Args:
        zero_shot: the loaded head; None: references are needed.
        few_shot: the loaded head; None: references are refused.
        settings: what the bundle says.
        half: keep memories in float16, which halves them.
        max_bank_bytes: what the memories of one set may take.
        coreset: share of the references' patches that is kept; 1: all.
        rows_in_graph: most rows of a memory that the graph compares at once.
    """

    name = NAME

    def __init__(
        self,
        *,
        zero_shot: InferenceEngine | None,
        few_shot: InferenceEngine | None,
        settings: AdaptClipSettings,
        half: bool = False,
        max_bank_bytes: int,
        coreset: float = 1.0,
        rows_in_graph: int = ROWS_IN_GRAPH,
    ) -> None:
        self._zero_shot = zero_shot
        self._few_shot = few_shot
        self._settings = settings
        self._half = half
        self._coreset = coreset
        self._limit = max_bank_bytes
        self._rows_in_graph = rows_in_graph

    def fit(self, references: Sequence[PatchFeatures]) -> AdaptClipScorer:
        """A scorer; zero-shot where there is no reference.

        Raises:
            InputError: references of several extractors, more than the limit takes, or none
                where the bundle has no zero-shot head.
        """
        extractors = sorted({reference.extractor_id for reference in references})
        if len(extractors) > 1:
            raise InputError(
                f"references: expected pictures encoded by one extractor, got {extractors}"
            )
        if not references:
            if self._zero_shot is None:
                raise InputError(
                    "references: expected at least one picture of a good part: "
                    "this bundle has no zero-shot head"
                )
            return self._scorer(())
        if self._few_shot is None:
            raise InputError(
                f"references: expected none, got {len(references)}: this bundle has no "
                "few-shot head"
            )
        self._check_size(references)
        banks = tuple(self._bank(references, key) for key in self._settings.tokens)
        return self._scorer(banks)

    def _scorer(self, banks: tuple[Memory, ...]) -> AdaptClipScorer:
        return AdaptClipScorer(
            self._zero_shot,
            self._few_shot,
            self._settings,
            banks,
            rows_in_graph=self._rows_in_graph,
        )

    def bank_bytes(self, reference: PatchFeatures, count: int) -> int:
        """What the memories of so many references take."""
        numbers = sum(reference.tokens[key].rows.size for key in self._settings.tokens)
        return count * numbers * (2 if self._half else 4)

    def _check_size(self, references: Sequence[PatchFeatures]) -> None:
        needed = self.bank_bytes(references[0], len(references))
        if needed > self._limit:
            raise InputError(
                f"references: {len(references)} pictures take {needed / 2**20:.0f} MiB of memory, "
                f"expected at most {self._limit / 2**20:.0f} (engine.max_bank_mib); enrol fewer"
            )

    def _bank(self, references: Sequence[PatchFeatures], key: TokenKey) -> Memory:
        grids = []
        for reference in references:
            if key not in reference.tokens:
                raise InputError(f"scorer: expected tokens {key}, got {sorted(reference.tokens)}")
            layer = reference.tokens[key]
            grids.append(TokenGrid(rows=unit_rows(layer.rows), grid=layer.grid))
        whole = build_memory_bank(grids)
        bank: Memory = whole if self._coreset == 1 else choose_coreset(whole, self._coreset)
        kept = replace(bank, rows=bank.rows.astype(np.float16)) if self._half else bank
        kept.rows.flags.writeable = False  # so that an engine may keep a copy where it computes
        return kept


class AdaptClipScorer:
    """Scores pictures with or without references.

    Args:
        zero_shot: the loaded head, or None.
        few_shot: the loaded head, or None.
        settings: what the bundle says.
        banks: one a layer; none: zero-shot.
        rows_in_graph: most rows of a memory that the graph compares at once.
    """

    def __init__(
        self,
        zero_shot: InferenceEngine | None,
        few_shot: InferenceEngine | None,
        settings: AdaptClipSettings,
        banks: tuple[Memory, ...],
        *,
        rows_in_graph: int = ROWS_IN_GRAPH,
    ) -> None:
        self._rows_in_graph = rows_in_graph
        self._zero_shot = zero_shot
        self._few_shot = few_shot
        self._settings = settings
        self._banks = banks

    @property
    def shots(self) -> int:
        """References it compares with; 0: zero-shot."""
        return self._banks[0].reference_count if self._banks else 0

    def without(self, reference: int) -> AdaptClipScorer:
        """The same scorer, one reference less; of one reference zero-shot is left.

        Raises:
            InputError: it was the only reference, and there is no zero-shot head.
        """
        if self.shots <= 1:
            if self._zero_shot is None:
                raise InputError("references: expected two to leave one out, got one")
            return self._with(())
        kept = tuple(bank.without(reference) for bank in self._banks)
        return self._with(kept)

    def _with(self, banks: tuple[Memory, ...]) -> AdaptClipScorer:
        return AdaptClipScorer(
            self._zero_shot,
            self._few_shot,
            self._settings,
            banks,
            rows_in_graph=self._rows_in_graph,
        )

    def score(self, features: PatchFeatures) -> AnomalyResult:
        """Score one picture.

        Returns:
            ``anomaly_map`` is the head's, enlarged to the frame. ``image_score`` is fused here,
            NaN where anything in it is. ``nearest`` is of the last layer; None for zero-shot.

        Raises:
            EngineError: a head failed, or answered in another shape.
            InputError: the picture lacks tokens.
        """
        values = self._judge(features)
        small = values[MAP][0]
        branches = float(values[SCORE][0]) if SCORE in values else None
        result = build_result(
            small.ravel(),
            small.shape,
            features,
            nearest=self._nearest(values, features),
            blur_sigma=0.0,
        )
        texts = None if self._banks else self._settings.text_branches
        score = fuse(branches, peak_of(small, features), text_branches=texts)
        return replace(result, image_score=score)

    def _judge(self, features: PatchFeatures) -> Mapping[str, NDArray[Any]]:
        tokens = {}
        for key, name in zip(self._settings.tokens, self._settings.names(), strict=True):
            if key not in features.tokens:
                raise InputError(f"scorer: expected tokens {key}, got {sorted(features.tokens)}")
            tokens[name] = features.tokens[key].rows[None]
        inputs: dict[str, NDArray[Any]] = {}
        rows: NDArray[Any] | None = None
        head = self._few_shot if self._banks else self._zero_shot
        if not self._banks:
            last = self._settings.names()[-1]
            inputs[last] = tokens[last]
        else:
            inputs |= tokens
            for name, bank, query in zip(
                self._settings.memory_names(), self._banks, tokens.values(), strict=True
            ):
                inputs[name], rows = _few_rows(bank, query[0], self._rows_in_graph)
        if head is None:
            raise EngineError("scorer adaptclip: the bundle has no such head")
        if CLASS_TOKEN in head.inputs:
            if features.class_token is None:
                raise InputError("scorer adaptclip: expected a class token, got none")
            inputs[CLASS_TOKEN] = features.class_token[None]
        values = dict(head.infer(inputs))
        if rows is not None:
            values[ROW] = rows[values[ROW]]
        if self._banks and isinstance(self._banks[-1], Coreset):
            values[ROW] = self._banks[-1].origin[values[ROW]]
        _check(values)
        return values

    def _nearest(
        self, values: Mapping[str, NDArray[Any]], features: PatchFeatures
    ) -> Nearest | None:
        if not self._banks:
            return None
        grid = features.tokens[self._settings.tokens[-1]].grid
        row, patches = values[ROW][0].astype(np.int32), grid[0] * grid[1]
        return Nearest(
            reference=row // patches,
            patch=row % patches,
            distance=np.maximum(values[DISTANCE][0], 0),
            grid=grid,
        )


def _few_rows(bank: Memory, query: FloatArray, most: int) -> tuple[FloatArray, NDArray[Any] | None]:
    """The rows that go into the graph, and which of the bank they are where not all."""
    if len(bank.rows) <= most:
        return _single(bank.rows), None
    _, index = bank.search(unit_rows(query))
    return _single(bank.rows[index]), index


def _single(rows: NDArray[Any]) -> NDArray[Any]:
    """What a head takes: float32, save where the exporter works out golden answers in float64."""
    return rows.astype(np.float32) if rows.dtype == np.float16 else rows


def _check(values: Mapping[str, NDArray[Any]]) -> None:
    shapes = {name: value.shape for name, value in values.items()}
    if shapes.get(SCORE, (1,)) != (1,) or len(shapes.get(MAP, ())) != 3:
        raise EngineError(f"adaptclip head: expected a map and one score, got {shapes}")
