"""Outlier channels in a tower of random weights, so that fewer bits meet what real weights have.

Trained transformers have a few channels after their norms that are tens of times as large as the
others ("LLM.int8()", arXiv 2208.07339; "SmoothQuant", arXiv 2211.10438), and these are what int8
loses. Random weights have none and flatter it. Here a norm's gain is raised and the product that
reads it is lowered by the same factor: the tower computes what it did, through outliers.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from edge_sdk.errors import InputError
from export_tools.clip.vision import VisionTower

CHANNELS = 6
"""As many as were seen to dominate in trained models of this size."""
FACTOR = 40.0
"""How much larger than its neighbours such a channel is."""


def inject_outliers(
    tower: VisionTower, *, channels: int = CHANNELS, factor: float = FACTOR, seed: int = 0
) -> VisionTower:
    """A copy that computes the same, with outliers in what every block's products read.

    Args:
        tower: left as it is.
        channels: of each norm's output.
        factor: above 0; 1 changes nothing.
        seed: of which channels.

    Raises:
        InputError: more channels than the tower has, or a factor that is no positive number.
    """
    changed = copy.deepcopy(tower)
    width = changed.ln_pre.weight.shape[0]
    if not 0 <= channels <= width or not 0 < factor < float("inf"):
        raise InputError(
            f"outliers: expected 0 to {width} channels and a factor above 0, "
            f"got {channels} and {factor}"
        )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for block in changed.transformer.blocks:
            _move(block.ln_1, block.attn.in_proj_weight, channels, factor, generator)
            fully_connected = block.mlp.get_submodule("c_fc")
            if isinstance(fully_connected, nn.Linear):
                _move(block.ln_2, fully_connected.weight, channels, factor, generator)
    return changed


def _move(
    norm: nn.LayerNorm, weight: Tensor, channels: int, factor: float, generator: torch.Generator
) -> None:
    chosen = torch.randperm(norm.weight.shape[0], generator=generator)[:channels]
    norm.weight[chosen] *= factor
    norm.bias[chosen] *= factor
    weight[:, chosen] /= factor
