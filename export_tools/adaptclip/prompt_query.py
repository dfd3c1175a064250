"""The prompt-query adapter: a query, its nearest good patches, and what differs.

Section 3.3 of the paper. It needs no text, and so fits any backbone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from edge_sdk.errors import InputError
from export_tools.adaptclip.prompts import unit
from export_tools.backbones.spec import BackboneSpec

MID_DIM = 128
TOP_PATCHES = 10
"""Patches whose mean stands beside the mean of all in the global head."""
_MEMORY_ROWS_AT_ONCE = 16384


class Match(NamedTuple):
    """The nearest row of a memory, for every patch."""

    distance: Tensor
    """(B, L) cosine distance, 0..2."""
    row: Tensor
    """(B, L) int64 row of the memory: shot-major, then row-major over the grid."""
    nearest: Tensor
    """(B, L, E) the row itself."""


class PromptQueryOutput(NamedTuple):
    """Everything the adapter finds; one entry a layer."""

    matches: tuple[Match, ...]
    fused: tuple[Tensor, ...]
    """(B, E, rows, cols) before the layer's batch norm."""
    normed: tuple[Tensor, ...]
    """(B, E, rows, cols) after it."""
    local_logits: tuple[Tensor, ...]
    """(B, 2, 4 rows, 4 cols)."""
    global_logits: tuple[Tensor, ...]
    """(B, 2)."""


def match(query: Tensor, memory: Tensor) -> Match:
    """Nearest neighbours by cosine distance ``1 - q . p``, not halved.

    Args:
        query: (B, L, E) unit rows.
        memory: (M, E) unit rows for all pictures, or (B, M, E) for each its own.

    Raises:
        InputError: the memory is empty, or of another width.
    """
    if memory.shape[-2] == 0 or memory.shape[-1] != query.shape[-1]:
        raise InputError(
            f"reference memory: expected at least one row of {query.shape[-1]} numbers, "
            f"got {tuple(memory.shape)}"
        )
    if torch.compiler.is_exporting():
        # In a graph the rows are not known yet; who feeds it keeps them few.
        similarity, row = (query @ memory.transpose(-1, -2)).max(dim=-1)
        return Match(distance=1 - similarity, row=row, nearest=memory[row])
    best = index = None
    for start in range(0, memory.shape[-2], _MEMORY_ROWS_AT_ONCE):
        part = memory[..., start : start + _MEMORY_ROWS_AT_ONCE, :]
        value, at = (query @ part.transpose(-1, -2)).max(dim=-1)
        if best is None or index is None:
            best, index = value, at
        else:
            index = torch.where(value > best, at + start, index)
            best = torch.maximum(best, value)
    if best is None or index is None:
        raise InputError("reference memory: expected rows, got none")
    if memory.ndim == 2:
        nearest = memory[index]
    else:
        nearest = memory.gather(1, index.unsqueeze(-1).expand(-1, -1, memory.shape[-1]))
    return Match(distance=1 - best, row=index, nearest=nearest)


class PromptQueryAdapter(nn.Module):
    """Compares a picture with good ones, layer by layer; the heads are shared by all layers.

    Args:
        spec: of the backbone; all layers of one width and grid.
        mid: width of the heads.
        context: add the residual to the query's own features, as published; False gives the
            residual alone.

    Raises:
        InputError: the layers differ, or the grid has fewer patches than the global head reads.
    """

    def __init__(self, spec: BackboneSpec, mid: int = MID_DIM, *, context: bool = True) -> None:
        super().__init__()
        token = spec.common()
        self.grid = token.grid
        self.context = context
        if token.grid[0] * token.grid[1] < TOP_PATCHES:
            raise InputError(
                f"prompt-query adapter: expected a grid of at least {TOP_PATCHES} patches, "
                f"got {token.grid[0]} x {token.grid[1]}"
            )
        self.norms = nn.ModuleList(nn.BatchNorm2d(token.dim) for _ in spec.tokens)
        self.local_head = nn.Sequential(
            nn.Conv2d(token.dim, mid, 3, padding=1, bias=False),
            nn.BatchNorm2d(mid),
            nn.ReLU(),
            nn.ConvTranspose2d(mid, mid, 2, stride=2),
            nn.Conv2d(mid, mid // 2, 3, padding=1, bias=False),
            nn.BatchNorm2d(mid // 2),
            nn.ReLU(),
            nn.ConvTranspose2d(mid // 2, mid // 2, 2, stride=2),
            nn.Conv2d(mid // 2, 2, 1),
        )
        self.global_head = nn.Sequential(
            nn.Linear(token.dim, mid, bias=False),
            nn.BatchNorm1d(mid),
            nn.ReLU(),
            nn.Linear(mid, mid // 2, bias=False),
            nn.BatchNorm1d(mid // 2),
            nn.ReLU(),
            nn.Linear(mid // 2, 2, bias=False),
        )

    def forward(self, queries: Sequence[Tensor], memories: Sequence[Tensor]) -> PromptQueryOutput:
        """Compare pictures with their memories.

        Args:
            queries: one (B, L, E) a layer, without the class token; need not be unit rows.
            memories: one (M, E) or (B, M, E) a layer, unit rows: ``build_memory``.

        Raises:
            InputError: another number of layers, an empty memory or one of another width.
        """
        if not len(queries) == len(memories) == len(self.norms):
            raise InputError(
                f"prompt-query adapter: expected {len(self.norms)} layers, "
                f"got {len(queries)} of the picture and {len(memories)} of the memory"
            )
        units = [unit(query) for query in queries]
        matches = tuple(match(*pair) for pair in zip(units, memories, strict=True))
        fused = tuple(self._fuse(*pair) for pair in zip(units, matches, strict=True))
        normed = tuple(norm(layer) for norm, layer in zip(self.norms, fused, strict=True))
        if self.training:
            # Batch norms of the shared heads see one layer after the other, as published.
            local_logits = tuple(self.local_head(layer) for layer in normed)
            global_logits = tuple(self.global_head(pool(layer)) for layer in normed)
        else:
            stacked = torch.cat(normed)
            local_logits = _unstack(self.local_head(stacked), len(normed))
            global_logits = _unstack(self.global_head(pool(stacked)), len(normed))
        return PromptQueryOutput(
            matches=matches,
            fused=fused,
            normed=normed,
            local_logits=local_logits,
            global_logits=global_logits,
        )

    def _fuse(self, query: Tensor, matched: Match) -> Tensor:
        residual = (query - matched.nearest).abs()
        fused = query + residual if self.context else residual
        return fused.transpose(1, 2).reshape(fused.shape[0], -1, *self.grid)


def _unstack(stacked: Tensor, count: int) -> tuple[Tensor, ...]:
    # Not chunk(): its sizes would fix the batch in a graph.
    return tuple(stacked.reshape(count, -1, *stacked.shape[1:]).unbind())


def pool(features: Tensor) -> Tensor:
    """Half the mean of all patches and half that of each channel's ten largest values.

    Args:
        features: (B, E, rows, cols).

    Returns:
        (B, E).
    """
    patches = features.flatten(2)
    largest = patches.topk(TOP_PATCHES, dim=-1, sorted=False).values
    return 0.5 * (patches.mean(dim=-1) + largest.mean(dim=-1))


def build_memory(pictures: Iterable[Sequence[Tensor]]) -> tuple[Tensor, ...]:
    """Join the tokens of good pictures.

    Args:
        pictures: for each, one (L, E) a layer, without the class token.

    Returns:
        One (k L, E) of unit rows a layer.
    """
    return tuple(unit(torch.cat(layer)) for layer in zip(*pictures, strict=True))
