"""State dicts in OpenAI's names, which open_clip's are too, into the towers."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from export_tools.clip.text import TextTower
from export_tools.clip.vision import VisionTower, resize_positions
from export_tools.tensors import load_strictly

_VISION = "visual."
_UNUSED = ("logit_scale", "logit_bias", "input_resolution", "context_length", "vocab_size")
"""What a state dict says beside the towers; AdaptCLIP has a temperature of its own."""


def load_vision(tower: VisionTower, state: Mapping[str, Tensor], source: str) -> None:
    """Give a vision tower its weights, the position table resized once, from the original.

    Args:
        tower: changed in place.
        state: of the whole model, in float32.
        source: its name, for messages.

    Raises:
        InputError: a tensor is missing, left over, of another shape, or not finite.
    """
    weights = {
        name.removeprefix(_VISION): value
        for name, value in state.items()
        if name.startswith(_VISION)
    }
    if "positional_embedding" in weights:
        weights["positional_embedding"] = resize_positions(
            weights["positional_embedding"], tower.grid
        )
    load_strictly(tower, weights, f"{source}: {_VISION}*")


def load_text(tower: TextTower, state: Mapping[str, Tensor], source: str) -> None:
    """Give a text tower its weights.

    Args:
        tower: changed in place.
        state: of the whole model, in float32.
        source: its name, for messages.

    Raises:
        InputError: a tensor is missing, left over, of another shape, or not finite.
    """
    weights = {
        name: value
        for name, value in state.items()
        if not name.startswith(_VISION) and name not in _UNUSED
    }
    load_strictly(tower, weights, f"{source}: text tower")
