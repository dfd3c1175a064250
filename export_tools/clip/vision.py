"""The vision tower, with the value-value stream that AdaptCLIP reads its patch tokens from.

Sections 2 to 5 of "AdaptCLIP" (arXiv 2505.09926); the value-value path is that of "CLIP Surgery"
(arXiv 2304.05653) as AnomalyCLIP uses it. A tower is made for one picture size: its position table
is resized once, when the weights are loaded.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_sdk.errors import InputError
from export_tools.clip.config import ClipConfig, PictureTowerSettings, grid_side
from export_tools.clip.layers import LAYER_NORM_EPSILON, Transformer, attend


class EncodedPicture(NamedTuple):
    """What the tower says of pictures; nothing of it is normalised."""

    class_feature: Tensor
    """(B, E), of the original stream, projected without ``ln_post`` as published."""
    tokens: tuple[Tensor, ...]
    """One (B, 1 + L, E) a layer: the class token, then the patches row by row."""

    @property
    def patches(self) -> tuple[Tensor, ...]:
        """One (B, L, E) a layer, row by row."""
        return tuple(layer[:, 1:] for layer in self.tokens)


class VisionTower(nn.Module):
    """(B, 3, S, S) float32, normalised RGB -> ``EncodedPicture``.

    Parameter names are OpenAI's without ``visual.``; ``positional_embedding`` is already resized.

    Args:
        config: of the model.
        settings: size and blocks.

    Raises:
        InputError: the settings do not fit the tower.
    """

    def __init__(self, config: ClipConfig, settings: PictureTowerSettings) -> None:
        super().__init__()
        vision = config.vision
        settings.check(vision)
        self.settings = settings
        self.grid = (grid_side(vision, settings.image_size_px),) * 2
        self.embed_dim = config.embed_dim
        self.conv1 = nn.Conv2d(
            3, vision.width, vision.patch_size_px, stride=vision.patch_size_px, bias=False
        )
        self.class_embedding = nn.Parameter(torch.empty(vision.width))
        self.positional_embedding = nn.Parameter(
            torch.empty(1 + self.grid[0] * self.grid[1], vision.width)
        )
        self.ln_pre = nn.LayerNorm(vision.width, eps=LAYER_NORM_EPSILON)
        self.transformer = Transformer(
            vision.width, vision.layers, vision.heads, vision.mlp_ratio, config.activation
        )
        self.ln_post = nn.LayerNorm(vision.width, eps=LAYER_NORM_EPSILON)
        self.proj = nn.Parameter(torch.empty(vision.width, config.embed_dim))

    def forward(self, pictures: Tensor) -> EncodedPicture:
        """Encode a batch."""
        original = self._embed(pictures)
        blocks = self.transformer.blocks
        first_dual = len(blocks) - self.settings.dual_path_layers  # 0-based
        kept: dict[int, Tensor] = {}
        for layer, block in enumerate(blocks[:first_dual], start=1):
            is_wanted = layer in self.settings.layers
            if layer == len(blocks) and not is_wanted:
                original = block.forward_first(original)  # only the class token is still read
                continue
            original = block(original)
            if is_wanted:
                kept[layer] = original
        original = self._dual_path(first_dual, original, kept)
        return EncodedPicture(
            class_feature=original[:, 0] @ self.proj,
            tokens=tuple(self.ln_post(kept[layer]) @ self.proj for layer in self.settings.layers),
        )

    def _embed(self, pictures: Tensor) -> Tensor:
        patches = self.conv1(pictures).flatten(2).transpose(1, 2)
        class_token = self.class_embedding.expand(patches.shape[0], 1, -1)
        x: Tensor = self.ln_pre(
            torch.cat([class_token, patches], dim=1) + self.positional_embedding
        )
        return x

    def _dual_path(self, first: int, original: Tensor, kept: dict[int, Tensor]) -> Tensor:
        """Run the blocks that keep two streams; returns the original one.

        The value-value stream is the entry plus each block's projected ``A_v``; it takes no MLP
        and no norm, and ``A_v`` is computed from the original stream. Query, key and value are
        computed once for both.
        """
        row = self.transformer.blocks
        last_read = max(self.settings.layers)
        if self.settings.alias_quirk and first in self.settings.layers:
            last_read = len(row)
        values = original
        for layer, block in enumerate(row[first:], start=first + 1):
            normed = block.ln_1(original)
            is_last = layer == len(row)
            if is_last:
                # The class token needs every key and value, but of queries only its own.
                key, value = block.attn.key_value(normed)
                query, residual = block.attn.query_of(normed[:, :1]), original[:, :1]
            else:
                query, key, value = block.attn.query_key_value(normed)
                residual = original
            if layer <= last_read:
                values = values + block.attn.out_proj(attend(value, value, value))
                if layer in self.settings.layers:
                    kept[layer] = values
            original = block.finish(residual, attend(query, key, value))
        if self.settings.alias_quirk and first in kept:
            kept[first] = values
        return original


class PatchEncoder(nn.Module):
    """The tower as a device runs it: patch tokens without the class token, and the class feature.

    Args:
        tower: stays as it is.
    """

    def __init__(self, tower: VisionTower) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, S, S) -> one (B, L, E) a layer, then (B, E) the class feature."""
        encoded = self.tower(pictures)
        return (*encoded.patches, encoded.class_feature)


def resize_positions(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """Fit a position table to another grid: bilinear, corners not aligned, not antialiased.

    Args:
        table: (1 + side * side, width), row 0 the class token's.
        grid: (rows, cols) wanted.

    Raises:
        InputError: the table's patches make no square.
    """
    side = math.isqrt(table.shape[0] - 1)
    if side * side != table.shape[0] - 1 or side == 0:
        raise InputError(
            f"positional_embedding: expected one row and a square of rows, got {table.shape[0]}"
        )
    if grid == (side, side):
        return table
    picture = table[1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    resized = functional.interpolate(picture, size=grid, mode="bilinear", align_corners=False)
    return torch.cat([table[:1], resized.permute(0, 2, 3, 1).reshape(grid[0] * grid[1], -1)])
