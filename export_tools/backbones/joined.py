"""Tokens of a CNN's stages, side by side on the finest grid: what its nearest neighbours compare.

The same numbers as ``edge_sdk.scoring.nearest_neighbour.embed``, in torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from export_tools.backbones.spec import BackboneSpec


class JoinedTokens(nn.Module):
    """Normalised picture (B, 3, H, W) -> [(B, P, sum of D) unit rows].

    Args:
        model: gives one (B, P, D) a layer.
        spec: of what it gives.
        neighbourhood: side of the square of tokens averaged, odd.
    """

    def __init__(self, model: nn.Module, spec: BackboneSpec, neighbourhood: int) -> None:
        super().__init__()
        self.model = model
        self.grids = tuple(token.grid for token in spec.tokens)
        self.grid = spec.joined().common().grid
        self.neighbourhood = neighbourhood

    def forward(self, x: Tensor) -> list[Tensor]:
        """Encode pictures."""
        return [self.join(self.model(x))]

    def join(self, tokens: Sequence[Tensor]) -> Tensor:
        """One (B, P, D) a layer -> (B, P, sum of D)."""
        side = self.neighbourhood
        layers = []
        for rows, grid in zip(tokens, self.grids, strict=True):
            planes = rows.transpose(1, 2).reshape(rows.shape[0], -1, *grid)
            pooled = functional.avg_pool2d(
                planes, side, stride=1, padding=side // 2, count_include_pad=False
            )
            planes = functional.normalize(pooled, dim=1)
            if grid != self.grid:
                planes = functional.interpolate(
                    planes, size=self.grid, mode="bilinear", align_corners=False
                )
            layers.append(planes)
        return functional.normalize(torch.cat(layers, dim=1).flatten(2).transpose(1, 2), dim=-1)
